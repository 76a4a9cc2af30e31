//! A gateway as a whole: put together from its configuration, run, and shut down.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoop_sinks::log::EventWriter;
use prometheus_client::registry::Registry;

use crate::admin::Readiness;
use crate::authenticate::{
    Authenticator, FailureLimiter, IssuerOpenError, Issuers, Metrics as AuthenticationMetrics,
    Pacing, RevocationError,
};
use crate::config::{Config, Limits};
use crate::endings::{Endings, EndingsError, EndingsFile};
use crate::gateway::Handler;
use crate::listener::{ListenError, Listener};
use crate::metrics::Metrics;
use crate::policy_in_force::{PolicyError, PolicyInForce};
use crate::record::{self, Journal};
use crate::revocations::Revocations;
use crate::upstream::{Upstream, UpstreamConfigError};
use crate::webhooks::Metrics as WebhookMetrics;

/// How often unused connections to the API server are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// How long the log has to acknowledge what is still under way when the gateway stops.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A gateway that is bound to its address and ready to run.
#[derive(Debug)]
pub struct Gateway {
    listener: Listener,
    handler: Arc<Handler>,
    address: SocketAddr,
    revocations: Option<Revocations>,
    endings: Option<EndingsFile>,
}

/// Reloads the policy of a running gateway, for a signal handler.
#[derive(Debug, Clone)]
pub struct PolicyReloader(Arc<Handler>);

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The door does not open.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The API server cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamConfigError),
    /// There is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An issuer of ID tokens cannot be used at all.
    #[error(transparent)]
    Issuer(#[from] IssuerOpenError),
    /// The file of revocation lists cannot be used.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// The file of ended logins cannot be used.
    #[error(transparent)]
    Endings(#[from] EndingsError),
    /// Events cannot be written.
    #[error(transparent)]
    Record(#[from] record::StartError),
}

/// Puts a gateway together: checks everything that can be checked without a request, and binds its address. Must be
/// called within a Tokio runtime. `logs` has one log per retention class; metrics are registered into `registry`.
///
/// # Errors
/// When a part of it cannot be used.
pub async fn build(
    config: Config,
    logs: Vec<Arc<dyn EventWriter>>,
    registry: &mut Registry,
) -> Result<Gateway, BuildError> {
    let metrics = Metrics::new(registry);
    let authentication_metrics = AuthenticationMetrics::new(registry);
    let issuers = Issuers::open(
        config.authentication,
        pacing(&config.limits),
        authentication_metrics.clone(),
    )?;
    let authenticator = Authenticator::new(
        config.tokens,
        issuers,
        config.review_service_accounts,
        authentication_metrics.clone(),
    );
    let classes = logs.iter().map(|log| log.class().clone()).collect();
    let policy = PolicyInForce::open(config.policy, classes, WebhookMetrics::new(registry)).await?;
    let upstream = Upstream::open(config.upstream, &config.limits).await?;
    let listener = Listener::bind(
        config.listen,
        config.server_identity,
        &config.client_cas,
        config.limits.clone(),
    )
    .await?;
    let clock = record::system_clock();
    let ended = match config.endings {
        Some(file) => Some(EndingsFile::open(file).await?),
        None => None,
    };
    let endings = ended.as_ref().map(EndingsFile::endings);
    let endings = endings.unwrap_or_else(|| Endings::new(&[]));
    let revocations = match config.client_revocations {
        Some(file) => Some(revocations(file, &listener, &config.limits, &endings).await?),
        None => None,
    };
    let address = listener
        .local_addr()
        .map_err(|e| ListenError::Bind(config.listen, e))?;
    let record = record::Config::new(config.cluster, config.producer_id, config.encryption);
    let journal = Journal::start(record, logs, Arc::clone(&clock), registry)?;
    policy.announce(&journal, &metrics);
    let handler = Arc::new(Handler {
        journal,
        policy,
        authenticator,
        endings,
        failures: FailureLimiter::new(
            config.limits.failures_at_once,
            config.limits.failure_interval,
        ),
        upstream,
        mask_key: config.mask_key,
        limits: config.limits,
        metrics,
        authentication_metrics,
        clock,
    });
    Ok(Gateway {
        listener,
        handler,
        address,
        revocations,
        endings: ended,
    })
}

impl Gateway {
    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether it can record, for health checks.
    pub fn readiness(&self) -> Readiness {
        Readiness::new(Arc::clone(&self.handler.journal))
    }

    /// A handle that reloads the policy.
    pub fn policy_reloader(&self) -> PolicyReloader {
        PolicyReloader(Arc::clone(&self.handler))
    }

    /// Serves until `shutdown` resolves; then lets requests in flight end, up to a deadline, and writes the last
    /// events. Returns whether the log has acknowledged all of them.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> bool {
        let handler = self.handler;
        let revocations = async {
            if let Some(revocations) = self.revocations {
                revocations.watch().await;
            }
        };
        let endings = async {
            if let Some(endings) = self.endings {
                endings.watch(&handler.journal, &handler.clock).await;
            }
        };
        let upkeep = async {
            tokio::join!(
                handler.policy.watch(&handler.journal, &handler.metrics),
                sweep(&handler.upstream),
                handler.authenticator.upkeep(),
                revocations,
                endings
            );
        };
        tokio::select! {
            () = self.listener.serve(Arc::clone(&handler), shutdown) => {}
            () = upkeep => {}
        }
        handler.journal.shutdown(SETTLE_TIMEOUT).await
    }
}

impl PolicyReloader {
    /// Reads the policy again now; what happened is in the log, the metrics and the record.
    pub async fn reload(&self) {
        let Self(handler) = self;
        handler
            .policy
            .reload(&handler.journal, &handler.metrics)
            .await;
    }
}

async fn revocations(
    file: PathBuf,
    listener: &Listener,
    limits: &Limits,
    endings: &Arc<Endings>,
) -> Result<Revocations, RevocationError> {
    let certificates = listener.certificates().clone();
    let interval = limits.revocations_interval;
    Revocations::open(file, interval, certificates, Arc::clone(endings)).await
}

fn pacing(limits: &Limits) -> Pacing {
    Pacing {
        refresh: limits.issuer_refresh_interval,
        retry: limits.issuer_retry_interval,
        pause: limits.issuer_fetch_pause,
    }
}

async fn sweep(upstream: &Upstream) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        upstream.sweep().await;
    }
}
