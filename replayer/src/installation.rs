//! What the configuration of an installation says about where its events are: the evidence, and the log behind it.
//!
//! `hoop` reads the whole file and refuses what is wrong with it; here, everything but the sections `cluster`, `data`,
//! `encryption`, `evidence` and `log` is passed over, so that an investigator's file may have these alone.
//!
//! Which configuration a data directory belongs to, it says itself, in [`NOTE`]:
//! ```text
//! <data>/installation.json     {"v": 1, "configuration": "/etc/hoop/hoop.yaml", "log": "kafka"}
//! ```
//! `log` is `nats` or `kafka`; the file is there only while the log is on brokers. Whoever cannot read the configuration
//! then knows at least that files are not all there is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use hoop_schema::Class;
use hoop_sinks::log::{EventReader, kafka, nats};
use hoop_sinks::store::{BucketOptions, Place};
use serde::{Deserialize, Serialize};

use crate::sessions::with_causes;
use crate::sql::CLASSES_DEFAULT;

/// Name of the file in a data directory that says which configuration it belongs to.
pub const NOTE: &str = "installation.json";

/// What a data directory says of the configuration it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Format version: 1.
    pub v: u32,
    /// The file, by its whole path.
    pub configuration: PathBuf,
    /// Where the log is: `nats` or `kafka`.
    pub log: String,
}

impl Note {
    /// Reads the note of a data directory; `None` where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read: why, in a sentence.
    pub fn read(data: &Path) -> Result<Option<Self>, String> {
        let file = data.join(NOTE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("cannot read {}: {e}", file.display())),
        };
        let note = serde_json::from_str(&text);
        note.map(Some)
            .map_err(|e| format!("{} is no note of an installation: {e}", file.display()))
    }
}

/// Where the events of an installation are.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Name of the cluster.
    pub cluster: String,
    /// The data directory, where the file names one.
    pub data: Option<PathBuf>,
    /// The evidence, where the file names a place.
    pub evidence: Option<Place>,
    /// How a bucket is reached.
    pub bucket: BucketOptions,
    /// The keys of encrypted content, where the file names a place.
    pub keys: Option<Place>,
    /// How their bucket is reached.
    pub keys_bucket: BucketOptions,
    /// The master key that wraps them, where the file names one.
    pub master_key: Option<PathBuf>,
    log: LogSection,
    /// What relative paths are relative to.
    base: PathBuf,
}

/// A log on brokers.
#[derive(Debug, Clone)]
pub enum Brokers {
    /// NATS JetStream.
    Nats(Box<nats::Options>),
    /// Kafka.
    Kafka(Box<kafka::Options>),
}

/// What is read of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    cluster: Option<String>,
    data: Option<PathBuf>,
    // A key without a value is as if it were not there.
    encryption: Option<EncryptionSection>,
    evidence: Option<EvidenceSection>,
    log: Option<LogSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EncryptionSection {
    keys: Option<String>,
    master_key: Option<PathBuf>,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    credentials_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EvidenceSection {
    place: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    credentials_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LogSection {
    nats: Option<NatsSection>,
    kafka: Option<KafkaSection>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NatsSection {
    servers: Option<Vec<String>>,
    credentials_file: Option<PathBuf>,
    nkey_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct KafkaSection {
    brokers: Option<Vec<String>>,
    tls: Option<bool>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    sasl: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    topic_prefix: Option<String>,
}

impl Installation {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Why it cannot be read, in a sentence.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("cannot read the configuration {}: {e}", file.display()))?;
        let base = file.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// Reads the text of one. Relative paths in it are relative to `base`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let blank = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        let file: File = match blank {
            true => File::default(),
            false => serde_saphyr::from_str(text).map_err(|e| {
                let whole = e.to_string();
                whole.lines().next().unwrap_or_default().to_owned()
            })?,
        };
        let place = |named: Option<&str>, key: &str| {
            let place = named.map(|place| match place.parse() {
                Ok(Place::Dir(root)) => Ok(Place::Dir(base.join(root))),
                Ok(place) => Ok(place),
                Err(e) => Err(format!("{key}: {e}")),
            });
            place.transpose()
        };
        let section = file.evidence.unwrap_or_default();
        let evidence = place(section.place.as_deref(), "evidence.place")?;
        let bucket = BucketOptions {
            endpoint: section.endpoint,
            region: section.region,
            path_style: section.path_style,
            credentials_file: section.credentials_file.map(|f| base.join(f)),
            object_lock: false,
            terms: None,
        };
        let encryption = file.encryption.unwrap_or_default();
        let credentials_file = encryption.credentials_file.map(|f| base.join(f));
        Ok(Self {
            cluster: file.cluster.unwrap_or_else(|| "default".into()),
            data: file.data.map(|data| base.join(data)),
            evidence,
            keys: place(encryption.keys.as_deref(), "encryption.keys")?,
            keys_bucket: BucketOptions {
                endpoint: encryption.endpoint.or_else(|| bucket.endpoint.clone()),
                region: encryption.region.or_else(|| bucket.region.clone()),
                path_style: encryption.path_style.or(bucket.path_style),
                credentials_file: credentials_file.or_else(|| bucket.credentials_file.clone()),
                object_lock: false,
                terms: None,
            },
            master_key: encryption.master_key.map(|f| base.join(f)),
            bucket,
            log: file.log.unwrap_or_default(),
            base: base.to_owned(),
        })
    }

    /// The brokers that the log is on; `None` where it is in the data directory.
    ///
    /// # Errors
    /// What is wrong with what the configuration says about them, or which file of it cannot be read.
    pub fn brokers(&self) -> Result<Option<Brokers>, String> {
        let nats = self.log.nats.clone().unwrap_or_default();
        let kafka = self.log.kafka.clone().unwrap_or_default();
        let named = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
        match (named(&nats.servers), named(&kafka.brokers)) {
            (Some(_), Some(_)) => Err("log has servers of NATS and brokers of Kafka".into()),
            (Some(servers), None) => {
                let options = self.nats(servers, nats)?;
                Ok(Some(Brokers::Nats(Box::new(options))))
            }
            (None, Some(brokers)) => {
                let options = self.kafka(brokers, &kafka)?;
                Ok(Some(Brokers::Kafka(Box::new(options))))
            }
            (None, None) => Ok(None),
        }
    }

    fn nats(&self, servers: Vec<String>, section: NatsSection) -> Result<nats::Options, String> {
        let path = |file: Option<PathBuf>| file.map(|file| self.base.join(file));
        let mut options = nats::Options::new(servers, self.cluster.clone());
        options.create_stream = false;
        options.auth = match (
            path(section.token_file),
            section.user,
            path(section.password_file),
            path(section.nkey_file),
            path(section.credentials_file),
        ) {
            (None, None, None, None, None) => nats::Auth::None,
            (Some(file), None, None, None, None) => nats::Auth::Token { file },
            (None, Some(user), Some(file), None, None) => nats::Auth::Password { user, file },
            (None, None, None, Some(file), None) => nats::Auth::Nkey { file },
            (None, None, None, None, Some(file)) => nats::Auth::Credentials { file },
            _ => {
                return Err("log.nats names more or less than one way to log in".into());
            }
        };
        options.tls.ca = path(section.ca);
        options.tls.identity = match (path(section.certificate), path(section.key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("log.nats: certificate and key go together".into()),
        };
        Ok(options)
    }

    fn kafka(
        &self,
        brokers: Vec<String>,
        section: &KafkaSection,
    ) -> Result<kafka::Options, String> {
        let text = |file: &Option<PathBuf>| {
            let Some(file) = file else { return Ok(None) };
            let file = self.base.join(file);
            let text = std::fs::read_to_string(&file);
            text.map(Some)
                .map_err(|e| format!("log.kafka: cannot read {}: {e}", file.display()))
        };
        let mut options = kafka::Options::new(brokers, self.cluster.clone());
        options.create_topic = false;
        if let Some(prefix) = &section.topic_prefix {
            options.topic_prefix.clone_from(prefix);
        }
        let certified = section.ca.is_some() || section.certificate.is_some();
        if certified || section.tls == Some(true) {
            options.security.tls = Some(kafka::Tls {
                ca_pem: text(&section.ca)?,
                certificate_pem: text(&section.certificate)?,
                key_pem: text(&section.key)?.map(kafka::Secret::new),
                key_password: None,
            });
        }
        let user = section.user.clone();
        let password = text(&section.password_file)?;
        let password = password.map(|text| kafka::Secret::new(text.trim_end()));
        let token = section.token_file.as_ref();
        options.security.sasl = match (section.sasl.as_deref(), user, password, token) {
            (None, None, None, None) => None,
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
                Arc::new(kafka::TokenFile(self.base.join(file))),
            )),
            _ => return Err("log.kafka: sasl does not go with what it needs".into()),
        };
        Ok(options)
    }
}

impl Brokers {
    /// What they are, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Nats(options) => format!("NATS at {}", options.urls.join(", ")),
            Self::Kafka(options) => format!("Kafka at {}", options.brokers.join(", ")),
        }
    }

    /// Opens the log of every class for reading alone; nothing is created, and the brokers remember nothing of it. What
    /// cannot be opened is in the second part: which, and why.
    pub async fn open(&self) -> (Vec<Arc<dyn EventReader>>, Vec<String>) {
        let classes = CLASSES_DEFAULT
            .split(',')
            .filter_map(|name| Class::new(name).ok());
        let opened = join_all(classes.map(async |class| {
            let opened = self.open_class(class.clone()).await;
            (class, opened)
        }));
        let (mut logs, mut away): (_, Vec<(String, Vec<String>)>) = (Vec::new(), Vec::new());
        for (class, opened) in opened.await {
            match opened {
                Ok(log) => logs.push(log),
                // The classes of brokers that are away are away for one reason.
                Err(why) => match away.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, classes)) => classes.push(class.to_string()),
                    None => away.push((why, vec![class.to_string()])),
                },
            }
        }
        let away = away.into_iter().map(|(why, classes)| {
            let (classes, place) = (classes.join(", "), self.describe());
            format!("the log on {place} cannot be read (class {classes}): {why}")
        });
        (logs, away.collect())
    }

    async fn open_class(&self, class: Class) -> Result<Arc<dyn EventReader>, String> {
        match self {
            Self::Nats(options) => {
                let opened = nats::Reader::open_to_look(class, (**options).clone()).await;
                opened
                    .map(|log| Arc::new(log) as _)
                    .map_err(|error| match error {
                        nats::OpenError::Missing { .. } => missing(&options.cluster),
                        error => with_causes(&error),
                    })
            }
            Self::Kafka(options) => {
                let opened = kafka::KafkaReader::open_to_look(class, (**options).clone()).await;
                opened
                    .map(|log| Arc::new(log) as _)
                    .map_err(|error| match error {
                        kafka::OpenError::Missing { .. } => missing(&options.cluster),
                        error => with_causes(&error),
                    })
            }
        }
    }
}

fn missing(cluster: &str) -> String {
    format!(
        "it does not exist there, so nothing was ever written to it by cluster {cluster}, or the cluster has another name"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Installation {
        Installation::parse(text, Path::new("/etc/hoop")).unwrap()
    }

    #[test]
    fn a_whole_configuration_says_where_events_are() {
        let text = "cluster: production\ndata: data\ngateway: {listen: '0.0.0.0:8443', names: [hoop.example.com]}\n\
                    log: {nats: {servers: ['tls://nats-1:4222'], credentials_file: hoop.creds, ca: /ca.crt, shards: 4, bytes_max: 64MiB}}\n\
                    evidence: {place: 's3://audit/production', endpoint: 'http://minio:9000', credentials_file: creds, object_lock: true}\n\
                    retention: {standard: {term: 365d}}\n";
        let installation = parse(text);
        assert_eq!(installation.data, Some("/etc/hoop/data".into()));
        let evidence = installation.evidence.as_ref().map(ToString::to_string);
        assert_eq!(evidence.as_deref(), Some("s3://audit/production"));
        assert_eq!(
            installation.bucket.credentials_file,
            Some("/etc/hoop/creds".into())
        );
        let Ok(Some(Brokers::Nats(options))) = installation.brokers() else {
            panic!("{installation:?}");
        };
        assert_eq!(options.cluster, "production");
        assert_eq!(options.tls.ca, Some("/ca.crt".into()));
        let file = "/etc/hoop/hoop.creds".into();
        assert_eq!(options.auth, nats::Auth::Credentials { file });
        assert!(!options.create_stream);
    }

    #[test]
    fn the_keys_of_content_are_found_and_their_bucket_is_reached_like_that_of_the_evidence() {
        let installation = parse(
            "evidence: {place: 's3://audit', endpoint: 'http://minio:9000', credentials_file: creds}\n\
             encryption: {keys: 's3://keys', master_key: master.key, credentials_file: other}\n",
        );
        let keys = installation.keys.as_ref().map(ToString::to_string);
        assert_eq!(keys.as_deref(), Some("s3://keys"));
        let bucket = &installation.keys_bucket;
        assert_eq!(bucket.endpoint.as_deref(), Some("http://minio:9000"));
        assert_eq!(bucket.credentials_file, Some("/etc/hoop/other".into()));
        assert_eq!(installation.master_key, Some("/etc/hoop/master.key".into()));
        assert!(parse("cluster: a").keys.is_none());
        let wrong = Installation::parse("encryption: {keys: 'gs://x'}", Path::new(""));
        assert!(wrong.unwrap_err().contains("encryption.keys"));
    }

    #[test]
    fn without_brokers_the_log_is_in_the_data_directory() {
        for text in [
            "",
            "# nothing\n",
            "log: {size_max: 1GiB}",
            "cluster: a",
            "log:\nevidence:\ndata:\n",
            "log: {nats: , kafka: }",
            "log: {nats: {servers: }}",
        ] {
            assert!(parse(text).brokers().unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_or_read_is_said() {
        let error = Installation::parse("log: [", Path::new("")).unwrap_err();
        assert!(!error.is_empty());
        let missing = parse(
            "log: {kafka: {brokers: ['b:9092'], sasl: plain, user: u, password_file: nowhere}}",
        );
        let error = missing.brokers().unwrap_err();
        assert!(error.contains("/etc/hoop/nowhere"), "{error}");
        let both = parse("log: {kafka: {brokers: ['b:9092']}, nats: {servers: ['nats://n']}}");
        assert!(both.brokers().is_err());
        let half = parse("log: {nats: {servers: ['nats://n'], user: u}}");
        assert!(half.brokers().is_err());
    }
}
