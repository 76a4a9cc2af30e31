//! The configuration of `hoop up`: one YAML file, read and checked once.
//!
//! Everything that is wrong is reported at once, each with its line, what was found and what was meant. What comes
//! out is typed and valid; nothing behind this module sees a text where a number is meant. Command-line options win
//! over the file, the file wins over the defaults. All keys are in [`keys`], from which the reference is written too.

mod encryption;
pub mod keys;
mod log;
mod people;
mod secret;
mod sections;
mod tree;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoop_recorder::{SealConfig, Share};
use hoop_schema::{Class, ProducerId};
use hoop_sinks::store::{BucketOptions, LockMode, Place};

pub use hoop_proxy::yaml::Mistake;
pub use log::{LogBackend, LogConfig};
pub use people::Person;
pub use secret::Secret;
pub(crate) use sections::CLASSES;
use tree::Reader;

/// A configuration that is valid in itself. Whether files and servers that it names are there is for `hoop check`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// The data directory.
    pub data: PathBuf,
    /// Name of the cluster in every event.
    pub cluster: String,
    /// Name of this gateway, when it is not to be made up.
    pub producer_id: Option<ProducerId>,
    /// The gateway's door.
    pub gateway: GatewayConfig,
    /// Where metrics and health are served; `None` for nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// The API server.
    pub upstream: UpstreamConfig,
    /// Who gets a kubeconfig. Empty: the person who starts it.
    pub people: Vec<Person>,
    /// The policy; `None` for the default one in the data directory.
    pub policy: Option<PathBuf>,
    /// The token file.
    pub tokens: Option<PathBuf>,
    /// Who else may come in.
    pub authentication: AuthenticationConfig,
    /// Key of the masking mode `hmac`, when it is not to be made up.
    pub mask_key: Option<Secret<[u8; 32]>>,
    /// The event log.
    pub log: LogConfig,
    /// The recorder.
    pub recorder: RecorderConfig,
    /// Where evidence is kept.
    pub evidence: EvidenceConfig,
    /// How long each class is kept; a class that is not here is kept for ever.
    pub retention: BTreeMap<Class, ClassRetention>,
    /// Which content is encrypted; `None` for none.
    pub encryption: Option<EncryptionConfig>,
}

/// The gateway's door.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` that kubeconfigs name, when it is another than `listen`.
    pub address: Option<String>,
    /// Names and addresses in its certificate, beside the ones of this machine.
    pub names: Vec<String>,
    /// For streams to end when it is stopped.
    pub drain_timeout: Duration,
}

/// The API server and the gateway's credential for it.
#[derive(Debug, Clone)]
pub enum UpstreamConfig {
    /// A kubeconfig: the default one and its current context where nothing is named.
    Kubeconfig {
        /// The file.
        path: Option<PathBuf>,
        /// The context.
        context: Option<String>,
    },
    /// The service account of the pod that this runs in.
    InCluster,
}

/// Who may come in, beside the people and the static tokens.
#[derive(Debug, Clone)]
pub struct AuthenticationConfig {
    /// The file that names the issuers of ID tokens.
    pub file: Option<PathBuf>,
    /// Further authorities of client certificates.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of client certificates.
    pub client_revocations: Option<PathBuf>,
    /// Whether the API server is asked about bearer tokens that nobody else knows.
    pub review_service_accounts: bool,
}

/// The recorder.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Which shards are its own.
    pub share: Share,
    /// How long another recorder's shard may wait to be recorded before it is taken over.
    pub takeover_after: Duration,
    /// Bytes of events after which a session file is written.
    pub flush_bytes: usize,
    /// Age of the first event after which a session file is written.
    pub flush_age: Duration,
    /// How long a hole in a producer's sequence is held open for a late arrival.
    pub hole_open_time: Duration,
    /// File of the key that signs the transparency log; `None` for the one in the data directory.
    pub signing_key: Option<PathBuf>,
    /// File of the key before it; `None` for the one in the data directory, if it is there.
    pub previous_signing_key: Option<PathBuf>,
    /// How finished days are sealed.
    pub seal: SealConfig,
}

/// How long a class is kept, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassRetention {
    /// From the end of the day on which the log took the events.
    pub term: Duration,
    /// How its objects are locked until then; `None` for not at all.
    pub mode: Option<LockMode>,
}

/// Where evidence is kept.
#[derive(Debug, Clone)]
pub struct EvidenceConfig {
    /// The place; `None` for the data directory.
    pub place: Option<Place>,
    /// How it is reached, when it is a bucket.
    pub bucket: BucketOptions,
}

/// Which content is encrypted, so that it can be erased, and where its keys are.
#[derive(Debug, Clone)]
pub struct EncryptionConfig {
    /// The classes whose bodies and streams are encrypted; none where only the keys are named.
    pub classes: Vec<Class>,
    /// Where their keys are kept: never with the evidence.
    pub keys: Place,
    /// How that is reached, when it is a bucket.
    pub bucket: BucketOptions,
    /// File of the master key; `None` for the one in the data directory.
    pub master_key: Option<PathBuf>,
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `--policy`.
    pub policy: Option<PathBuf>,
}

/// What the configuration takes from the environment; passed in, so that tests can say it.
pub type Environment = BTreeMap<String, String>;

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The mistakes, by line.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Mistake { line, message }) in self.mistakes.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            match line {
                0 => write!(f, "{gap}{}: {message}", self.file.display())?,
                _ => write!(f, "{gap}{}:{line}: {message}", self.file.display())?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a file, or takes the defaults when there is none.
    ///
    /// # Errors
    /// Everything that is wrong at once; a missing file too.
    pub fn load(
        file: Option<&Path>,
        overrides: Overrides,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let Some(file) = file else {
            return Self::parse(Path::new("defaults"), "", overrides, environment);
        };
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            mistakes: vec![Mistake {
                line: 0,
                message: format!(
                    "cannot read the configuration: {error}; name an existing file with --config"
                ),
            }],
        })?;
        let config = Self::parse(file, &text, overrides, environment)?;
        Ok(Self {
            file: Some(file.to_owned()),
            ..config
        })
    }

    /// Reads the text of a file. Relative paths in it are relative to the file.
    ///
    /// # Errors
    /// Everything that is wrong at once.
    pub fn parse(
        file: &Path,
        text: &str,
        overrides: Overrides,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(text, keys::KEYS);
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        let config = sections::read(&mut reader, &base, overrides, environment);
        let mistakes = reader.into_mistakes();
        if mistakes.is_empty() {
            return Ok(config);
        }
        Err(ConfigError {
            file: file.to_owned(),
            mistakes,
        })
    }

    /// The term of each class that has one.
    pub fn terms(&self) -> BTreeMap<Class, Duration> {
        let terms = self.retention.iter();
        terms
            .map(|(class, kept)| (class.clone(), kept.term))
            .collect()
    }

    /// How the bucket with the evidence is reached, and what it has to keep.
    pub fn evidence_bucket(&self) -> BucketOptions {
        BucketOptions {
            terms: Some(self.terms()),
            ..self.evidence.bucket.clone()
        }
    }

    /// Where evidence is kept.
    pub fn evidence_place(&self) -> Place {
        let own = || Place::Dir(self.data.join("evidence"));
        self.evidence.place.clone().unwrap_or_else(own)
    }

    /// File of the master key that wraps the keys of encrypted content.
    pub fn master_key(&self) -> PathBuf {
        let named = self.encryption.as_ref().and_then(|e| e.master_key.clone());
        named.unwrap_or_else(|| self.data.join("master.key"))
    }

    /// `host:port` that kubeconfigs name, for a gateway that is bound to `bound`.
    pub fn public_address(&self, bound: SocketAddr) -> String {
        if let Some(address) = &self.gateway.address {
            return address.clone();
        }
        if bound.ip().is_unspecified() {
            return format!("localhost:{}", bound.port());
        }
        bound.to_string()
    }

    /// Names and addresses that the gateway's certificate must have: the configured ones, and those of this machine.
    pub fn certificate_names(&self, environment: &Environment) -> Vec<String> {
        let mut names = self.gateway.names.clone();
        let listen = self.gateway.listen.ip();
        if !listen.is_unspecified() {
            names.push(listen.to_string());
        }
        let host = self.gateway.address.as_deref();
        names.extend(host.map(|address| values::host(address).to_owned()));
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        let hostname = environment.get("HOSTNAME").cloned();
        names.extend(hostname.filter(|name| values::is_host_name(name)));
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests;
