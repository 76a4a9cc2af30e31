//! The section `log`: which event log, and how it is reached.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoop_sinks::log::{kafka, nats};

use super::sections::path;
use super::tree::Reader;
use super::values::{count, duration, size, truth};

/// The least size of a class's log: room for two segments, and a recorder that stood still for a while.
const LOG_SIZE_MIN: u64 = 256 << 20;

/// The event log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The most bytes of one class on disk, in the embedded log or in the spool.
    pub size_max: u64,
    /// How long committed events stay in the embedded log for those who read it.
    pub age_max: Duration,
    /// Where it is.
    pub backend: LogBackend,
    /// Whether a log on brokers has a spool before it.
    pub spool: bool,
}

/// Where the event log is.
#[derive(Debug, Clone)]
pub enum LogBackend {
    /// In the data directory.
    Embedded,
    /// On NATS JetStream.
    Nats(Box<nats::Options>),
    /// On Kafka.
    Kafka(Box<kafka::Options>),
}

impl LogBackend {
    /// What it is, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Embedded => "embedded".into(),
            Self::Nats(options) => options.urls.join(", "),
            Self::Kafka(options) => format!("kafka: {}", options.brokers.join(", ")),
        }
    }
}

pub(super) fn read(reader: &mut Reader, base: &Path, cluster: &str) -> LogConfig {
    let defaults = hoop_sinks::log::embedded::Options::default();
    let large_enough = |text: &str| match size(text)? {
        bytes if bytes < LOG_SIZE_MIN => Err("too little: at least 256MiB".into()),
        bytes => Ok(bytes),
    };
    LogConfig {
        size_max: reader
            .value("log.size_max", large_enough)
            .unwrap_or(defaults.size_max),
        age_max: reader
            .value("log.age_max", duration)
            .unwrap_or(defaults.age_max),
        backend: backend(reader, base, cluster),
        spool: reader.value("log.spool", truth).unwrap_or(true),
    }
}

fn backend(reader: &mut Reader, base: &Path, cluster: &str) -> LogBackend {
    let servers = texts(reader, "log.nats.servers");
    let brokers = texts(reader, "log.kafka.brokers");
    for (section, named, list) in [
        ("log.nats", !servers.is_empty(), "servers"),
        ("log.kafka", !brokers.is_empty(), "brokers"),
    ] {
        // Otherwise the log would be kept in the data directory, and nobody would know.
        if let Some(line) = reader.line(section).filter(|_| !named) {
            reader.note(
                line,
                format!("{section}: has no {list}; name them, or remove it"),
            );
        }
    }
    match (servers.is_empty(), brokers.is_empty()) {
        (true, true) => LogBackend::Embedded,
        (false, true) => LogBackend::Nats(Box::new(nats_log(reader, base, servers, cluster))),
        (true, false) => LogBackend::Kafka(Box::new(kafka_log(reader, base, brokers, cluster))),
        (false, false) => {
            let message = "log: has servers of NATS and brokers of Kafka; remove one of them";
            reader.note(0, message.into());
            LogBackend::Embedded
        }
    }
}

fn nats_log(
    reader: &mut Reader,
    base: &Path,
    servers: Vec<String>,
    cluster: &str,
) -> nats::Options {
    let mut options = nats::Options::new(servers, cluster.to_owned());
    let token = path(reader, "log.nats.token_file", base);
    let user = reader.value("log.nats.user", |text| Ok(text.to_owned()));
    let password = path(reader, "log.nats.password_file", base);
    let nkey = path(reader, "log.nats.nkey_file", base);
    let credentials = path(reader, "log.nats.credentials_file", base);
    options.auth = match (token, user, password, nkey, credentials) {
        (None, None, None, None, None) => nats::Auth::None,
        (Some(file), None, None, None, None) => nats::Auth::Token { file },
        (None, Some(user), Some(file), None, None) => nats::Auth::Password { user, file },
        (None, None, None, Some(file), None) => nats::Auth::Nkey { file },
        (None, None, None, None, Some(file)) => nats::Auth::Credentials { file },
        _ => {
            let message = "log.nats: name one way to log in: token_file, user with password_file, nkey_file or credentials_file";
            reader.note(0, message.into());
            nats::Auth::None
        }
    };
    options.tls = nats::Tls {
        ca: path(reader, "log.nats.ca", base),
        identity: identity(reader, base, "log.nats"),
        handshake_first: false,
    };
    options.shards = reader
        .value("log.nats.shards", count)
        .unwrap_or(options.shards);
    options.replicas = reader
        .value("log.nats.replicas", count)
        .unwrap_or(options.replicas);
    options.age_max = reader
        .value("log.nats.age_max", duration)
        .unwrap_or(options.age_max);
    options.bytes_max = reader
        .value("log.nats.bytes_max", size)
        .unwrap_or(options.bytes_max);
    if let Err(error) = options.check() {
        reader.note(0, format!("log.nats: {error}"));
    }
    options
}

fn kafka_log(
    reader: &mut Reader,
    base: &Path,
    brokers: Vec<String>,
    cluster: &str,
) -> kafka::Options {
    let mut options = kafka::Options::new(brokers, cluster);
    options.security = kafka::Security {
        tls: kafka_tls(reader, base),
        sasl: kafka_sasl(reader, base),
    };
    if let Some(prefix) = reader.value("log.kafka.topic_prefix", |text| Ok(text.to_owned())) {
        options.topic_prefix = prefix;
    }
    let number = |reader: &mut Reader, key: &str, default: NonZeroU32| {
        reader.value(key, count).unwrap_or(default)
    };
    options.shards = number(reader, "log.kafka.shards", options.shards);
    options.replicas = number(reader, "log.kafka.replicas", options.replicas);
    options.in_sync_replicas_min = number(
        reader,
        "log.kafka.min_in_sync_replicas",
        options.in_sync_replicas_min,
    );
    options.retention = reader
        .value("log.kafka.retention", duration)
        .unwrap_or(options.retention);
    options.create_topic = reader
        .value("log.kafka.create_topics", truth)
        .unwrap_or(options.create_topic);
    options
}

fn kafka_tls(reader: &mut Reader, base: &Path) -> Option<kafka::Tls> {
    let asked = reader.value("log.kafka.tls", truth);
    let ca = path(reader, "log.kafka.ca", base);
    let identity = identity(reader, base, "log.kafka");
    if ca.is_none() && identity.is_none() && asked != Some(true) {
        return None;
    }
    if asked == Some(false) {
        let message = "log.kafka: tls is off and certificates are named; remove one of them";
        reader.note(0, message.into());
    }
    let (certificate, key) = identity.unzip();
    Some(kafka::Tls {
        ca_pem: contents(reader, ca),
        certificate_pem: contents(reader, certificate),
        key_pem: contents(reader, key).map(kafka::Secret::new),
        key_password: None,
    })
}

fn kafka_sasl(reader: &mut Reader, base: &Path) -> Option<kafka::Sasl> {
    let user = reader.value("log.kafka.user", |text| Ok(text.to_owned()));
    let password = path(reader, "log.kafka.password_file", base);
    let password = contents(reader, password).map(|text| kafka::Secret::new(text.trim_end()));
    let token = path(reader, "log.kafka.token_file", base);
    let mechanism = reader.value("log.kafka.sasl", |text| match text {
        "plain" | "scram-sha-256" | "scram-sha-512" | "oauthbearer" => Ok(text.to_owned()),
        _ => Err("none of plain, scram-sha-256, scram-sha-512 and oauthbearer".into()),
    });
    let found = match (mechanism.as_deref(), user, password, token) {
        (None, None, None, None) => return None,
        (Some("plain"), Some(user), Some(password), None) => {
            Some(kafka::Sasl::Plain { user, password })
        }
        (Some("scram-sha-256"), Some(user), Some(password), None) => {
            Some(kafka::Sasl::ScramSha256 { user, password })
        }
        (Some("scram-sha-512"), Some(user), Some(password), None) => {
            Some(kafka::Sasl::ScramSha512 { user, password })
        }
        (Some("oauthbearer"), None, None, Some(file)) => Some(kafka::Sasl::OAuthBearer(
            std::sync::Arc::new(kafka::TokenFile(file)),
        )),
        _ => None,
    };
    if found.is_none() {
        let message = "log.kafka: sasl is plain, scram-sha-256 or scram-sha-512 with user and password_file, or oauthbearer with token_file";
        reader.note(0, message.into());
    }
    found
}

/// Client certificate and key: both or none.
fn identity(reader: &mut Reader, base: &Path, section: &str) -> Option<(PathBuf, PathBuf)> {
    let certificate = path(reader, &format!("{section}.certificate"), base);
    let key = path(reader, &format!("{section}.key"), base);
    if certificate.is_some() != key.is_some() {
        let message = format!("{section}: certificate and key go together; name both");
        reader.note(0, message);
    }
    certificate.zip(key)
}

/// What a file holds.
fn contents(reader: &mut Reader, file: Option<PathBuf>) -> Option<String> {
    let file = file?;
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) => {
            reader.note(0, format!("log: cannot read {}: {error}", file.display()));
            None
        }
    }
}

fn texts(reader: &mut Reader, key: &str) -> Vec<String> {
    let texts = reader.list(key).into_iter();
    texts.map(|(_, text)| text).collect()
}
