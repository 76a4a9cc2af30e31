//! The policy that decides now, and how another takes its place.
//!
//! A policy file is read every [`POLL_INTERVAL`] and compared by its bytes: that works on every file system, and with
//! the symbolic links by which Kubernetes swaps a ConfigMap. A new policy takes over at once and as a whole. One that
//! has errors leaves the old one in force; the log says so, the metrics count it and the record keeps it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use hoop_schema::kinds::integrity::PolicyChanged;
use hoop_schema::{Class, EventHash};
use parking_lot::Mutex;

use crate::config::PolicySource;
use crate::metrics::Metrics;
use crate::policy::{Policy, PolicyErrors};
use crate::record::Journal;
use crate::webhooks::{self, WebhookError, Webhooks};

/// How often a policy file is read: a change is in force within two seconds, at the price of one small read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The largest policy file that is read, in bytes; one of ten thousand rules has two million.
const POLICY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most of an error that is recorded, in bytes: a policy can have thousands of mistakes.
const ERROR_BYTES_MAX: usize = 4096;

/// Holds the policy in force.
#[derive(Debug)]
pub(crate) struct PolicyInForce {
    source: PolicySource,
    /// The retention classes that have a log.
    classes: Vec<Class>,
    current: ArcSwap<InForce>,
    webhook_metrics: webhooks::Metrics,
    /// What was last read, so that nothing is done twice; `None` when the file could not be read.
    seen: Mutex<Option<EventHash>>,
}

/// A policy, and the webhooks that its rules ask.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    pub(crate) webhooks: Webhooks,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("the policy file cannot be read")]
    Read(#[source] std::io::Error),
    /// It has mistakes.
    #[error("the policy has mistakes")]
    Invalid(#[source] PolicyErrors),
    /// It wants to keep events where there is no log.
    #[error(
        "the policy names the retention class {0}, which has no log; give it one or name another"
    )]
    NoLog(Class),
    /// A file that one of its webhooks needs cannot be used.
    #[error("the policy's webhook {name} cannot be used")]
    Webhook {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: WebhookError,
    },
}

impl PolicyInForce {
    /// Reads the first policy. Without one there is no gateway.
    pub(crate) async fn open(
        source: PolicySource,
        classes: Vec<Class>,
        webhook_metrics: webhooks::Metrics,
    ) -> Result<Self, PolicyError> {
        let text = read(&source).await.map_err(PolicyError::Read)?;
        let loaded = load(&text, &classes, &webhook_metrics).await?;
        Ok(Self {
            source,
            classes,
            current: ArcSwap::from_pointee(loaded),
            webhook_metrics,
            seen: Mutex::new(Some(EventHash::of(text.as_bytes()))),
        })
    }

    /// The policy in force.
    pub(crate) fn current(&self) -> Guard<Arc<InForce>> {
        self.current.load()
    }

    /// Records which policy the gateway begins with.
    pub(crate) fn announce(&self, journal: &Journal, metrics: &Metrics) {
        metrics.policy_loaded(true);
        journal.policy_changed(accepted(&self.current().policy, None));
    }

    /// Reads the source again, and takes what it finds if that is new and has no mistakes.
    pub(crate) async fn reload(&self, journal: &Journal, metrics: &Metrics) {
        let text = read(&self.source).await;
        let hash = text
            .as_ref()
            .ok()
            .map(|text| EventHash::of(text.as_bytes()));
        if std::mem::replace(&mut *self.seen.lock(), hash) == hash {
            return;
        }
        let previous = self.current().policy.revision().to_owned();
        let loaded = match text {
            Ok(text) => load(&text, &self.classes, &self.webhook_metrics).await,
            Err(error) => Err(PolicyError::Read(error)),
        };
        metrics.policy_loaded(loaded.is_ok());
        match loaded {
            Ok(loaded) => {
                let change = accepted(&loaded.policy, Some(previous));
                tracing::info!(revision = change.revision, "another policy is in force");
                self.current.store(Arc::new(loaded));
                journal.policy_changed(change);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    in_force = previous,
                    "the policy was refused; the old one stays in force"
                );
                journal.policy_changed(refused(&error, hash, previous));
            }
        }
    }

    /// Reloads for ever.
    pub(crate) async fn watch(&self, journal: &Journal, metrics: &Metrics) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            self.reload(journal, metrics).await;
        }
    }
}

async fn load(
    text: &str,
    classes: &[Class],
    metrics: &webhooks::Metrics,
) -> Result<InForce, PolicyError> {
    let policy = parse(text, classes)?;
    let webhooks = Webhooks::open(&policy, metrics.clone()).await;
    let webhooks = webhooks.map_err(|(name, source)| PolicyError::Webhook { name, source })?;
    Ok(InForce { policy, webhooks })
}

fn parse(text: &str, classes: &[Class]) -> Result<Policy, PolicyError> {
    let policy = Policy::parse(text).map_err(PolicyError::Invalid)?;
    for mistake in policy.lints() {
        tracing::warn!(
            line = mistake.line,
            message = mistake.message,
            "the policy has a questionable rule"
        );
    }
    let missing = policy
        .classes()
        .into_iter()
        .find(|class| !classes.contains(class));
    missing.map_or(Ok(policy), |class| Err(PolicyError::NoLog(class)))
}

async fn read(source: &PolicySource) -> std::io::Result<String> {
    let path = match source {
        PolicySource::Text(text) => return Ok(text.clone()),
        PolicySource::File(path) => path,
    };
    let bytes = tokio::fs::metadata(path).await?.len();
    if bytes > POLICY_BYTES_MAX {
        let message = format!("it has {bytes} bytes; at most {POLICY_BYTES_MAX} are read");
        return Err(std::io::Error::other(message));
    }
    tokio::fs::read_to_string(path).await
}

fn accepted(policy: &Policy, previous: Option<String>) -> PolicyChanged {
    PolicyChanged {
        revision: policy.revision().to_owned(),
        previous,
        accepted: true,
        error: None,
        profiles: policy.profiles() as u64,
        rules: policy.rules() as u64,
    }
}

fn refused(error: &PolicyError, hash: Option<EventHash>, previous: String) -> PolicyChanged {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    let revision = hash.map(|hash| hash.to_string()[..16].to_owned());
    PolicyChanged {
        revision: revision.unwrap_or_default(),
        previous: Some(previous),
        accepted: false,
        error: Some(text),
        profiles: 0,
        rules: 0,
    }
}
