//! The data directory: everything that one machine keeps.
//!
//! ```text
//! <data>/log/<class>/…                  the embedded log, one per retention class
//! <data>/evidence/events/v1/…           session files; `hoop-replay --data <data>` reads both
//! <data>/ca/ca.crt, ca.key              the certificate authority, made on the first start
//! <data>/ca/server.crt, server.key      the gateway's certificate, renewed when it must be
//! <data>/kubeconfigs/<name>.kubeconfig  one per configured person, with their certificate
//! <data>/policy.yaml                    the default policy, when no other was named
//! <data>/producer-id                    name of this gateway in every event
//! <data>/ended.jsonl                    what `hoop sessions end` has ended; `ended.taken` when the gateway has taken it
//! <data>/installation.json              which configuration this belongs to, while the log is on brokers
//! <data>/mask.key                       key of the masking mode `hmac`, 64 hexadecimal digits
//! <data>/evidence.key, evidence.vkey    the key that signs the transparency log, and its public half for `verify --key`;
//!                                       `evidence.key.previous` after `hoop key rotate`
//! <data>/master.key                     what wraps the keys of encrypted content, made by `hoop key master`
//! <data>/keys/keys/v1/…                 these keys, where `encryption.keys` says so; `hoop-replay --data <data>` finds them
//! ```
//! Keys and kubeconfigs are readable by their owner alone (0600). All of it may be deleted but for log, evidence,
//! `master.key` and `keys`: the rest is made again, under new names and keys; what was ended is pardoned then at the next start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hoop_replayer::installation::{NOTE, Note};
use hoop_schema::ProducerId;
use rustls::crypto::aws_lc_rs;

use crate::config::{Config, LogBackend};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// Something in the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct DataError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DataDir {
    /// Takes the directory, and creates it where it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        create_private_dir(root)?;
        let root = root
            .canonicalize()
            .map_err(failed("find the directory", root))?;
        Ok(Self { root })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the logs are.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Where the spools before logs on brokers are.
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Where the evidence is.
    pub fn evidence(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// Where the certificate authority is.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// Where the kubeconfigs are.
    pub fn kubeconfigs(&self) -> PathBuf {
        self.root.join("kubeconfigs")
    }

    /// Where endings of sessions and logins are.
    pub fn endings(&self) -> PathBuf {
        self.root.join("ended.jsonl")
    }

    /// Whether a gateway ever ran on it: it has logs, or spools before logs on brokers.
    pub fn is_of_a_gateway(&self) -> bool {
        [self.log(), self.spool()]
            .iter()
            .any(|folder| folder.is_dir())
    }

    /// Whether its log is on brokers, where other gateways may write to it too.
    pub fn is_on_brokers(&self) -> bool {
        self.root.join(NOTE).is_file()
    }

    /// Whether a gateway runs on this directory: somebody writes to one of its logs or spools.
    pub fn is_served(&self) -> bool {
        let folders = [self.log(), self.spool()];
        let locks = folders.iter().flat_map(|folder| {
            crate::logs::classes().map(|class| folder.join(class.as_str()).join("lock"))
        });
        locks.into_iter().any(|lock| {
            let locked = fs::File::open(lock).map(|file| file.try_lock_shared());
            matches!(locked, Ok(Err(fs::TryLockError::WouldBlock)))
        })
    }

    /// The file of the key that signs the transparency log.
    pub fn signing_key(&self) -> PathBuf {
        self.root.join("evidence.key")
    }

    /// The file of the key before it.
    pub fn previous_signing_key(&self) -> PathBuf {
        self.root.join("evidence.key.previous")
    }

    /// The file of the public keys of both.
    pub fn verifier_keys(&self) -> PathBuf {
        self.root.join("evidence.vkey")
    }

    /// Where the default policy is.
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy.yaml")
    }

    /// Says which configuration this directory belongs to, for whoever looks at it: with a log on brokers, what lies here
    /// is not all there is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_installation(&self, config: &Config) -> Result<(), DataError> {
        let path = self.root.join(NOTE);
        let log = match &config.log.backend {
            LogBackend::Nats(_) => "nats",
            LogBackend::Kafka(_) => "kafka",
            LogBackend::Embedded => {
                return match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(failed("remove", &path)(error))
                    }
                    _ => Ok(()),
                };
            }
        };
        let file = config.file.clone().unwrap_or_default();
        let note = Note {
            v: 1,
            // As it is found from anywhere.
            configuration: std::path::absolute(&file).unwrap_or(file),
            log: log.to_owned(),
        };
        let text = serde_json::to_string(&note).map_err(|e| failed("write", &path)(e.into()))?;
        write_private(&path, &text)
    }

    /// The name of this gateway in every event, made on the first start.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn producer_id(&self) -> Result<ProducerId, DataError> {
        let path = self.root.join("producer-id");
        let text = read_or_create(&path, || Ok(format!("hoop-{}\n", hex(&random::<4>()?))))?;
        ProducerId::new(text.trim())
            .map_err(|error| failed("take a producer id from", &path)(io::Error::other(error)))
    }

    /// The key of the masking mode that keeps equal secrets comparable, made on the first start.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn mask_key(&self) -> Result<[u8; 32], DataError> {
        let path = self.root.join("mask.key");
        let text = read_or_create(&path, || Ok(format!("{}\n", hex(&random::<32>()?))))?;
        let digits = text.trim().parse::<hoop_schema::EventHash>();
        digits.map(|key| *key.as_bytes()).map_err(|_| {
            failed("take a mask key from", &path)(io::Error::other(
                "it must hold 64 hexadecimal digits; delete it to have another one made",
            ))
        })
    }
}

/// Creates a directory that only its owner can enter, with those above it; one that is there is left as it is.
///
/// # Errors
/// When it cannot be created.
pub fn create_private_dir(path: &Path) -> Result<(), DataError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create the directory", path))
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), DataError> {
    let temporary = path.with_extension("new");
    let write = || {
        // Left by a crash in here; its content is nobody's.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(failed("write", path))
}

/// Reads a small file.
///
/// # Errors
/// When it cannot be read; a missing file is `None`.
pub fn read_if_there(path: &Path) -> Result<Option<String>, DataError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// For `map_err`: what was tried, and on which path.
pub(crate) fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DataError + 'a {
    move |source| DataError {
        what,
        path: path.to_owned(),
        source,
    }
}

pub(crate) fn read_or_create(
    path: &Path,
    make: impl FnOnce() -> io::Result<String>,
) -> Result<String, DataError> {
    if let Some(text) = read_if_there(path)? {
        return Ok(text);
    }
    let text = make().map_err(failed("make", path))?;
    write_private(path, &text)?;
    Ok(text)
}

/// Random bytes, from the provider that also makes our keys.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_and_keys_stay_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("a/b")).unwrap();
        let (producer, key) = (data.producer_id().unwrap(), data.mask_key().unwrap());
        let again = DataDir::open(data.root()).unwrap();
        assert_eq!(again.producer_id().unwrap(), producer);
        assert_eq!(again.mask_key().unwrap(), key);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.root().join("mask.key")), 0o600);
        assert_eq!(mode(data.root()), 0o700);
    }

    #[test]
    fn a_directory_says_which_configuration_it_belongs_to_while_its_log_is_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let file = folder.path().join("hoop.yaml");
        let load = |text: &str| {
            fs::write(&file, text).unwrap();
            Config::load(Some(&file), Default::default(), &Default::default()).unwrap()
        };
        let noted = || Note::read(data.root()).unwrap();
        data.note_installation(&load("")).unwrap();
        assert_eq!(noted(), None);
        let on_nats = load("log: {nats: {servers: ['nats://n:4222']}}");
        data.note_installation(&on_nats).unwrap();
        let note = noted().unwrap();
        assert_eq!(
            (note.configuration, note.log.as_str()),
            (file.clone(), "nats")
        );
        data.note_installation(&load("log: {size_max: 1GiB}"))
            .unwrap();
        assert_eq!(noted(), None);
    }

    #[test]
    fn a_damaged_key_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        fs::write(data.root().join("mask.key"), "short").unwrap();
        let error = data.mask_key().unwrap_err();
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .contains("delete it")
        );
    }
}
