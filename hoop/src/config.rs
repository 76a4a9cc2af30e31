//! The configuration of `hoop up`: one YAML file, read and checked once.
//!
//! Everything that is wrong is reported at once, each with its line, what was found and what was meant. What comes
//! out is typed and valid; nothing behind this module sees a text where a number is meant. Command-line options win
//! over the file, the file wins over the defaults. All keys are in [`keys`], from which the reference is written too.

pub mod keys;
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

use hoop_schema::{Class, ProducerId};

pub use hoop_proxy::yaml::Mistake;
pub use people::Person;
pub use secret::Secret;
pub(crate) use sections::CLASSES;
use tree::Reader;

/// A configuration that is valid in itself. Whether files and servers that it names are there is for `hoop check`.
#[derive(Debug, Clone)]
pub struct Config {
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
    /// The embedded log.
    pub log: LogConfig,
    /// The recorder.
    pub recorder: RecorderConfig,
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

/// The embedded log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The most bytes of one class on disk.
    pub size_max: u64,
    /// How long committed events stay for readers of the log.
    pub age_max: Duration,
}

/// The recorder.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Bytes of events after which a session file is written.
    pub flush_bytes: usize,
    /// Age of the first event after which a session file is written.
    pub flush_age: Duration,
    /// How long session files of a class are kept; a class that is not here is kept for ever.
    pub keep: BTreeMap<Class, Duration>,
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
        Self::parse(file, &text, overrides, environment)
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
