//! The whole pipeline in one process: gateway, one embedded log per class, recorder.
//!
//! It may be killed at any moment and started again over the same data directory: what was acknowledged is in the
//! log, what the recorder had not committed is read from there again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoop_proxy::{
    Admin, AuthenticationConfiguration, PolicyReloader, PolicySource, ServerIdentity, StaticTokens,
    UpstreamSource,
};
use hoop_recorder::{FlushLimits, Recorder};
use hoop_schema::{Class, ProducerId};
use hoop_sinks::log::embedded::{EmbeddedLog, Metrics as LogMetrics, OpenError, Options};
use hoop_sinks::log::{EventReader, EventWriter};
use hoop_sinks::store::dir::Dir;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::authority::{Authority, AuthorityError};
use crate::config::{Config, Environment, UpstreamConfig};
use crate::data_dir::{DataDir, DataError, write_private};
use crate::kubeconfig;

/// How long a stopping pipeline waits until the recorder has read and committed all that the log holds. What it does
/// not get to stays in the log for the next start.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

/// The policy of a gateway that was given none.
pub const DEFAULT_POLICY: &str = include_str!("pipeline/default-policy.yaml");

/// A pipeline that serves.
#[derive(Debug)]
pub struct Pipeline {
    data: DataDir,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    kubeconfigs: Vec<(String, PathBuf)>,
    policy: PathBuf,
    reloader: PolicyReloader,
    recorder: hoop_recorder::Handle,
    logs: Vec<Arc<EmbeddedLog>>,
    stop_gateway: watch::Sender<bool>,
    stop_recorder: watch::Sender<bool>,
    gateway_task: JoinHandle<bool>,
    recorder_task: JoinHandle<Result<(), hoop_recorder::RecorderError>>,
    admin_task: Option<JoinHandle<std::io::Result<()>>>,
}

/// Why a pipeline does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The gateway's own certificate, or that of the authority.
    #[error("the gateway's certificate cannot be used")]
    Certificate(#[from] hoop_proxy::PemError),
    /// The policy, one mistake a line.
    #[error("{0}")]
    Policy(String),
    /// The token file cannot be read.
    #[error("cannot read the token file {}", file.display())]
    Tokens {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token file is wrong.
    #[error("the token file {} cannot be used", file.display())]
    TokenFile {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: hoop_proxy::TokenFileError,
    },
    /// The further authorities of client certificates cannot be used.
    #[error("{0}")]
    ClientAuthorities(String),
    /// The authentication configuration cannot be read, or is wrong: one mistake a line.
    #[error("{0}")]
    Authentication(String),
    /// A log.
    #[error("the log of class {class} cannot be opened")]
    Log {
        /// Which.
        class: Class,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The evidence directory.
    #[error(transparent)]
    Store(#[from] hoop_sinks::store::StoreError),
    /// The gateway.
    #[error("the gateway cannot start")]
    Gateway(#[from] hoop_proxy::BuildError),
    /// The recorder.
    #[error("the recorder cannot start")]
    Recorder(#[from] hoop_recorder::RecorderError),
    /// The side door.
    #[error(
        "cannot listen at {address} for metrics and health; choose another admin.listen, or off"
    )]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether a file that somebody wrote is at fault, rather than the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Policy(_)
                | Self::Tokens { .. }
                | Self::TokenFile { .. }
                | Self::Authentication(_)
                | Self::ClientAuthorities(_)
                | Self::Gateway(
                    hoop_proxy::BuildError::Revocations(_) | hoop_proxy::BuildError::Endings(_)
                )
        )
    }
}

/// How a pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// The log has acknowledged every event.
    pub all_logged: bool,
    /// Everything in the log is committed as evidence.
    pub all_committed: bool,
}

impl Pipeline {
    /// Starts everything, and writes what is missing in the data directory.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub async fn start(config: &Config, environment: &Environment) -> Result<Self, StartError> {
        let data = DataDir::open(&config.data)?;
        let now = Timestamp::now();
        let authority = Authority::open(&data.ca(), now)?;
        let names = config.certificate_names(environment);
        let server = authority.server(&names, now)?;
        let policy = policy_file(config, &data)?;
        crate::policy::load(&policy).map_err(StartError::Policy)?;
        let producer_id = match &config.producer_id {
            Some(id) => id.clone(),
            None => data.producer_id()?,
        };
        let mut registry = Registry::default();
        let logs = open_logs(config, &data, &mut registry).await?;
        let recorder = build_recorder(config, &data, &producer_id, &logs, &mut registry)?;
        let gateway = hoop_proxy::build(
            hoop_proxy::Config {
                listen: config.gateway.listen,
                server_identity: ServerIdentity::from_pem(
                    server.certificate_pem.as_bytes(),
                    server.key_pem.as_bytes(),
                )?,
                client_cas: client_authorities(config, &authority)?,
                client_revocations: config.authentication.client_revocations.clone(),
                endings: Some(data.endings()),
                tokens: tokens(config)?,
                authentication: authentication(config).map_err(StartError::Authentication)?,
                review_service_accounts: config.authentication.review_service_accounts,
                upstream: upstream(&config.upstream),
                policy: PolicySource::File(policy.clone()),
                mask_key: mask_key(config, &data)?,
                cluster: config.cluster.clone(),
                producer_id,
                limits: hoop_proxy::Limits {
                    drain_timeout: config.gateway.drain_timeout,
                    ..hoop_proxy::Limits::default()
                },
            },
            writers(&logs),
            &mut registry,
        )
        .await?;
        let address = gateway.local_addr();
        let admin = bind_admin(config.admin_listen).await?;
        let kubeconfigs = write_kubeconfigs(config, &data, &authority, address, now)?;
        let (stop_gateway, gateway_stops) = watch::channel(false);
        let (stop_recorder, recorder_stops) = watch::channel(false);
        let (reloader, readiness) = (gateway.policy_reloader(), gateway.readiness());
        let handle = recorder.handle();
        let admin_address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
        let registry = Arc::new(registry);
        Ok(Self {
            data,
            address,
            admin_address,
            kubeconfigs,
            policy,
            reloader,
            recorder: handle,
            logs,
            admin_task: admin.map(|admin| {
                tokio::spawn(admin.run(registry, readiness, told(gateway_stops.clone())))
            }),
            gateway_task: tokio::spawn(gateway.run(told(gateway_stops))),
            recorder_task: tokio::spawn(recorder.run(told(recorder_stops))),
            stop_gateway,
            stop_recorder,
        })
    }

    /// The address of the gateway.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of metrics and health.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The people, each with their kubeconfig.
    pub fn kubeconfigs(&self) -> &[(String, PathBuf)] {
        &self.kubeconfigs
    }

    /// The data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// The policy file.
    pub fn policy(&self) -> &std::path::Path {
        &self.policy
    }

    /// A handle that reloads the policy.
    pub fn reloader(&self) -> PolicyReloader {
        self.reloader.clone()
    }

    /// Resolves when the gateway or the recorder ends without having been told to.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = &mut self.gateway_task => tracing::error!("the gateway has ended by itself"),
            ended = &mut self.recorder_task => match ended {
                Ok(Err(error)) => tracing::error!(error = %chain(&error), "the recorder has failed"),
                _ => tracing::error!("the recorder has ended by itself"),
            },
        }
    }

    /// Stops: lets requests end, writes the last events, commits them as evidence, and closes the log.
    pub async fn stop(self) -> Stopped {
        self.stop_gateway.send_replace(true);
        let all_logged = self.gateway_task.await.unwrap_or(false);
        if let Some(admin) = self.admin_task
            && let Ok(Err(error)) = admin.await
        {
            tracing::warn!(%error, "metrics and health ended early");
        }
        let flushed = tokio::time::timeout(FLUSH_TIMEOUT, self.recorder.flush()).await;
        self.stop_recorder.send_replace(true);
        let recorded = matches!(self.recorder_task.await, Ok(Ok(())));
        for log in &self.logs {
            log.close().await;
        }
        let stopped = Stopped {
            all_logged,
            all_committed: recorded && matches!(flushed, Ok(Ok(()))),
        };
        tracing::info!(
            all_logged = stopped.all_logged,
            all_committed = stopped.all_committed,
            "stopped"
        );
        stopped
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// The retention classes, each a log of its own.
pub(crate) fn classes() -> impl Iterator<Item = Class> {
    crate::config::CLASSES
        .iter()
        .map(|name| Class::new(name).expect("a class of ours"))
}

fn writers(logs: &[Arc<EmbeddedLog>]) -> Vec<Arc<dyn EventWriter>> {
    let writers = logs.iter().map(|log| Arc::clone(log) as _);
    writers.collect()
}

/// The gateway's words for where the API server is.
fn upstream(config: &UpstreamConfig) -> UpstreamSource {
    match config {
        UpstreamConfig::InCluster => UpstreamSource::InCluster,
        UpstreamConfig::Kubeconfig { path, context } => UpstreamSource::Kubeconfig {
            path: path.clone(),
            context: context.clone(),
        },
    }
}

/// The policy file; the default one is written where none was named and none is there.
fn policy_file(config: &Config, data: &DataDir) -> Result<PathBuf, DataError> {
    if let Some(path) = &config.policy {
        return Ok(path.clone());
    }
    let path = data.policy();
    if !path.exists() {
        write_private(&path, DEFAULT_POLICY)?;
    }
    Ok(path)
}

fn mask_key(config: &Config, data: &DataDir) -> Result<Arc<hoop_proxy::mask::MaskKey>, DataError> {
    let bytes = match &config.mask_key {
        Some(key) => *key.reveal(),
        None => data.mask_key()?,
    };
    Ok(Arc::new(hoop_proxy::mask::MaskKey::from_bytes(bytes)))
}

fn tokens(config: &Config) -> Result<StaticTokens, StartError> {
    let Some(file) = config.tokens.clone() else {
        return Ok(StaticTokens::default());
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            StaticTokens::parse(&text).map_err(|source| StartError::TokenFile { file, source })
        }
        Err(source) => Err(StartError::Tokens { file, source }),
    }
}

/// Who may issue client certificates: the gateway's own authority, and those of a file.
fn client_authorities(
    config: &Config,
    own: &Authority,
) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let further = further_authorities(config.authentication.client_ca.as_deref());
    let mut authorities = further.map_err(StartError::ClientAuthorities)?;
    authorities.insert(0, own.certificate().clone());
    Ok(authorities)
}

/// The authorities in a file; the error is what to tell.
pub(crate) fn further_authorities(
    file: Option<&std::path::Path>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let pem = std::fs::read(file)
        .map_err(|error| format!("{}: cannot be read: {error}", file.display()))?;
    hoop_proxy::certificates_from_pem(&pem)
        .map_err(|error| format!("{}: {}", file.display(), chain(&error)))
}

/// The authentication configuration; the error is what to tell, one mistake a line.
pub(crate) fn authentication(config: &Config) -> Result<AuthenticationConfiguration, String> {
    let Some(file) = &config.authentication.file else {
        return Ok(AuthenticationConfiguration::default());
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{}: cannot be read: {error}", file.display()))?;
    AuthenticationConfiguration::parse(&text).map_err(|errors| {
        let lines = errors.0.iter().map(|error| match error.line {
            0 => format!("{}: {}", file.display(), error.message),
            line => format!("{}:{line}: {}", file.display(), error.message),
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

async fn open_logs(
    config: &Config,
    data: &DataDir,
    registry: &mut Registry,
) -> Result<Vec<Arc<EmbeddedLog>>, StartError> {
    let metrics = LogMetrics::register(registry);
    let mut logs = Vec::new();
    for class in classes() {
        let options = Options {
            size_max: config.log.size_max,
            age_max: config.log.age_max,
            ..Options::default()
        };
        let (folder, name, metrics) = (data.log(), class.clone(), metrics.clone());
        let opened = tokio::task::spawn_blocking(move || {
            EmbeddedLog::open_measured(&folder, name, options, &metrics)
        });
        let log = opened
            .await
            .expect("opening a log does not panic")
            .map_err(|source| StartError::Log { class, source })?;
        logs.push(Arc::new(log));
    }
    Ok(logs)
}

fn build_recorder(
    config: &Config,
    data: &DataDir,
    producer_id: &ProducerId,
    logs: &[Arc<EmbeddedLog>],
    registry: &mut Registry,
) -> Result<Recorder, StartError> {
    let store = Dir::open(&data.evidence())?;
    // A recorder and a gateway are two producers, so their names differ; 128 characters are the most.
    let mut name = producer_id.as_str().to_owned();
    name.truncate(119);
    let recorder_id = ProducerId::new(&format!("{name}.recorder")).expect("a name with a suffix");
    let defaults = hoop_recorder::Config::new(&config.cluster, recorder_id);
    let recorder = hoop_recorder::Config {
        flush: FlushLimits {
            bytes: config.recorder.flush_bytes,
            age: config.recorder.flush_age,
            ..defaults.flush
        },
        terms: config.recorder.keep.clone(),
        ..defaults
    };
    let readers = logs
        .iter()
        .map(|log| Arc::clone(log) as Arc<dyn EventReader>)
        .collect();
    Ok(Recorder::new(recorder, readers, Arc::new(store), registry)?)
}

async fn bind_admin(listen: Option<SocketAddr>) -> Result<Option<Admin>, StartError> {
    let Some(address) = listen else {
        return Ok(None);
    };
    let bound = Admin::bind(address).await;
    bound
        .map(Some)
        .map_err(|source| StartError::Admin { address, source })
}

fn write_kubeconfigs(
    config: &Config,
    data: &DataDir,
    authority: &Authority,
    address: SocketAddr,
    now: Timestamp,
) -> Result<Vec<(String, PathBuf)>, AuthorityError> {
    let server = format!("https://{}", config.public_address(address));
    config
        .people
        .iter()
        .map(|person| {
            let path = kubeconfig::write(&data.kubeconfigs(), authority, person, &server, now)?;
            Ok((person.name.clone(), path))
        })
        .collect()
}

async fn told(mut stops: watch::Receiver<bool>) {
    // An error means that the pipeline was dropped, which is a stop too.
    drop(stops.wait_for(|stop| *stop).await);
}
