//! The pipeline in one process: gateway, one log per class, recorder; or the gateway or the recorder alone, with a log on
//! brokers between them.
//!
//! It may be killed at any moment and started again over the same data directory: what was acknowledged is in the
//! log, what the recorder had not committed is read from there again.

mod encryption;
mod recorder;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoop_proxy::{
    Admin, AuthenticationConfiguration, PolicyReloader, PolicySource, Readiness, ServerIdentity,
    StaticTokens, UpstreamSource,
};
use hoop_recorder::Recorder;
use hoop_schema::ProducerId;
use hoop_sinks::log::EventWriter;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::authority::{Authority, AuthorityError};
use crate::background::Background;
use crate::config::{Config, Environment, LogBackend, UpstreamConfig};
use crate::data_dir::{DataDir, DataError, write_private};
use crate::kubeconfig;
use crate::logs::{Ends, LogError, Logs};
pub(crate) use encryption::build_encryption;
use recorder::build_recorder;

/// How long a stopping pipeline waits until the recorder has read and committed all that the log holds. What it does
/// not get to stays in the log for the next start.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

/// The policy of a gateway that was given none.
pub const DEFAULT_POLICY: &str = include_str!("pipeline/default-policy.yaml");

/// What of a pipeline runs in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Gateway and recorder.
    All,
    /// The gateway alone.
    Gateway,
    /// The recorder alone.
    Recorder,
}

/// A pipeline that serves.
#[derive(Debug)]
pub struct Pipeline {
    data: DataDir,
    gateway: Option<ServingGateway>,
    recorder: Option<RunningRecorder>,
    writers: Vec<Arc<dyn EventWriter>>,
    /// Whether the log is in this process, so that it has to stay open until all of it is recorded.
    is_embedded: bool,
    admin_address: Option<SocketAddr>,
    stop_admin: watch::Sender<bool>,
    admin_task: Option<JoinHandle<std::io::Result<()>>>,
}

/// The gateway of a pipeline.
#[derive(Debug)]
pub struct ServingGateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// The people, each with their kubeconfig.
    pub kubeconfigs: Vec<(String, PathBuf)>,
    /// The policy file.
    pub policy: PathBuf,
    /// Reloads the policy.
    pub reloader: PolicyReloader,
    readiness: Readiness,
    stop: watch::Sender<bool>,
    task: JoinHandle<bool>,
}

/// The recorder of a pipeline.
#[derive(Debug)]
struct RunningRecorder {
    handle: hoop_recorder::Handle,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), hoop_recorder::RecorderError>>,
    /// What it runs on.
    _background: Background,
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
    #[error(transparent)]
    Log(#[from] LogError),
    /// One part alone, over a log that nobody else can reach.
    #[error(
        "the embedded log has gateway and recorder in one process: run hoop up, or name log.kafka.brokers or log.nats.servers"
    )]
    NeedsBrokers,
    /// The evidence store.
    #[error(transparent)]
    Store(#[from] hoop_sinks::store::StoreError),
    /// The master key of encrypted content.
    #[error(transparent)]
    MasterKey(#[from] hoop_sinks::keys::KeyFileError),
    /// The keys of encrypted content.
    #[error("keys for the content cannot be made and kept")]
    ContentKeys(#[from] hoop_sinks::keys::KeyError),
    /// The gateway.
    #[error("the gateway cannot start")]
    Gateway(#[from] hoop_proxy::BuildError),
    /// The keys that sign the transparency log.
    #[error("the key that signs the evidence cannot be used")]
    Key(#[from] crate::key::KeyError),
    /// The recorder's threads.
    #[error("no threads can be had for the recorder")]
    Threads(#[source] std::io::Error),
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
                | Self::NeedsBrokers
                | Self::Tokens { .. }
                | Self::TokenFile { .. }
                | Self::Authentication(_)
                | Self::ClientAuthorities(_)
                | Self::Key(_)
                | Self::MasterKey(_)
                | Self::ContentKeys(hoop_sinks::keys::KeyError::Unfit { .. })
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
    /// Starts these parts, and writes what is missing in the data directory.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub async fn start(
        config: &Config,
        parts: Parts,
        environment: &Environment,
    ) -> Result<Self, StartError> {
        let is_embedded = matches!(config.log.backend, LogBackend::Embedded);
        if is_embedded && parts != Parts::All {
            return Err(StartError::NeedsBrokers);
        }
        let data = DataDir::open(&config.data)?;
        data.note_installation(config)?;
        let producer_id = match &config.producer_id {
            Some(id) => id.clone(),
            None => data.producer_id()?,
        };
        let prepared = match parts {
            Parts::All | Parts::Gateway => Some(Prepared::new(config, &data, environment)?),
            Parts::Recorder => None,
        };
        let mut registry = Registry::default();
        let ends = Ends {
            write: parts != Parts::Recorder,
            read: parts != Parts::Gateway,
        };
        let Logs { writers, readers } = Logs::open(config, &data, ends, &mut registry).await?;
        let recorder = if ends.read {
            Some(build_recorder(config, &data, &producer_id, readers, &mut registry).await?)
        } else {
            None
        };
        let gateway = match prepared {
            Some(prepared) => Some(
                prepared
                    .serve(config, &data, producer_id, writers.clone(), &mut registry)
                    .await?,
            ),
            None => None,
        };
        let readiness = gateway.as_ref().map(|gateway| gateway.readiness.clone());
        let admin = bind_admin(config.admin_listen).await?;
        let admin_address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
        let registry = Arc::new(registry);
        let (stop_admin, admin_stops) = watch::channel(false);
        Ok(Self {
            data,
            gateway,
            recorder: recorder.map(RunningRecorder::start).transpose()?,
            writers,
            is_embedded,
            admin_address,
            admin_task: admin.map(|admin| {
                let readiness = readiness.unwrap_or_default();
                tokio::spawn(admin.run(registry, readiness, told(admin_stops)))
            }),
            stop_admin,
        })
    }

    /// The gateway, if it is one of the parts.
    pub fn gateway(&self) -> Option<&ServingGateway> {
        self.gateway.as_ref()
    }

    /// The address of metrics and health.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Resolves when the gateway or the recorder ends without having been told to.
    pub async fn failed(&mut self) {
        let gateway = async {
            match &mut self.gateway {
                Some(gateway) => (&mut gateway.task).await,
                None => std::future::pending().await,
            }
        };
        let recorder = async {
            match &mut self.recorder {
                Some(recorder) => (&mut recorder.task).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = gateway => tracing::error!("the gateway has ended by itself"),
            ended = recorder => match ended {
                Ok(Err(error)) => tracing::error!(error = %chain(&error), "the recorder has failed"),
                _ => tracing::error!("the recorder has ended by itself"),
            },
        }
    }

    /// Stops: lets requests end, writes the last events, commits them as evidence, and closes the log.
    pub async fn stop(self) -> Stopped {
        // What this gateway wrote, this recorder commits; a recorder alone leaves what it has not read to others.
        let all = self.is_embedded || self.gateway.is_some();
        let all_logged = match self.gateway {
            Some(gateway) => {
                gateway.stop.send_replace(true);
                gateway.task.await.unwrap_or(false)
            }
            None => true,
        };
        self.stop_admin.send_replace(true);
        if let Some(admin) = self.admin_task
            && let Ok(Err(error)) = admin.await
        {
            tracing::warn!(%error, "metrics and health ended early");
        }
        // What waits in a spool has to be on the brokers before the recorder can read it there.
        if !self.is_embedded {
            close(&self.writers).await;
        }
        let all_committed = match self.recorder {
            Some(recorder) => recorder.stop(all).await,
            None => true,
        };
        if self.is_embedded {
            close(&self.writers).await;
        }
        let stopped = Stopped {
            all_logged,
            all_committed,
        };
        tracing::info!(
            all_logged = stopped.all_logged,
            all_committed = stopped.all_committed,
            "stopped"
        );
        stopped
    }
}

async fn close(writers: &[Arc<dyn EventWriter>]) {
    for writer in writers {
        writer.close().await;
    }
}

impl RunningRecorder {
    fn start(recorder: Recorder) -> Result<Self, StartError> {
        let background = Background::start().map_err(StartError::Threads)?;
        let (stop, stops) = watch::channel(false);
        Ok(Self {
            handle: recorder.handle(),
            stop,
            task: background.spawn(recorder.run(told(stops))),
            _background: background,
        })
    }

    /// Commits what it has and, with `all`, what the log holds; says whether that is done. What is on brokers is there
    /// for other recorders too.
    async fn stop(self, all: bool) -> bool {
        let flushed = if all {
            let flushed = tokio::time::timeout(FLUSH_TIMEOUT, self.handle.flush()).await;
            matches!(flushed, Ok(Ok(())))
        } else {
            true
        };
        self.stop.send_replace(true);
        let recorded = matches!(self.task.await, Ok(Ok(())));
        recorded && flushed
    }
}

/// What a gateway needs, read and found valid before anything is opened.
struct Prepared {
    authority: Authority,
    identity: ServerIdentity,
    policy: PathBuf,
    now: Timestamp,
}

impl Prepared {
    fn new(config: &Config, data: &DataDir, environment: &Environment) -> Result<Self, StartError> {
        let now = Timestamp::now();
        let authority = Authority::open(&data.ca(), now)?;
        let names = config.certificate_names(environment);
        let server = authority.server(&names, now)?;
        let policy = policy_file(config, data)?;
        crate::policy::load(&policy).map_err(StartError::Policy)?;
        let identity =
            ServerIdentity::from_pem(server.certificate_pem.as_bytes(), server.key_pem.as_bytes())?;
        Ok(Self {
            authority,
            identity,
            policy,
            now,
        })
    }

    async fn serve(
        self,
        config: &Config,
        data: &DataDir,
        producer_id: ProducerId,
        writers: Vec<Arc<dyn EventWriter>>,
        registry: &mut Registry,
    ) -> Result<ServingGateway, StartError> {
        let gateway = hoop_proxy::build(
            hoop_proxy::Config {
                listen: config.gateway.listen,
                server_identity: self.identity,
                client_cas: client_authorities(config, &self.authority)?,
                client_revocations: config.authentication.client_revocations.clone(),
                endings: Some(data.endings()),
                tokens: tokens(config)?,
                authentication: authentication(config).map_err(StartError::Authentication)?,
                review_service_accounts: config.authentication.review_service_accounts,
                upstream: upstream(&config.upstream),
                policy: PolicySource::File(self.policy.clone()),
                mask_key: mask_key(config, data)?,
                encryption: build_encryption(config).await?,
                cluster: config.cluster.clone(),
                producer_id,
                limits: hoop_proxy::Limits {
                    drain_timeout: config.gateway.drain_timeout,
                    ..hoop_proxy::Limits::default()
                },
            },
            writers,
            registry,
        )
        .await?;
        let address = gateway.local_addr();
        let (stop, stops) = watch::channel(false);
        Ok(ServingGateway {
            address,
            kubeconfigs: write_kubeconfigs(config, data, &self.authority, address, self.now)?,
            policy: self.policy,
            reloader: gateway.policy_reloader(),
            readiness: gateway.readiness(),
            task: tokio::spawn(gateway.run(told(stops))),
            stop,
        })
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
