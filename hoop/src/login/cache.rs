//! Logins that last: one file for each issuer and client in the user's cache folder.
//!
//! ```text
//! $XDG_CACHE_HOME/hoop/login/       else ~/.cache/hoop/login, on macOS ~/Library/Caches/hoop/login; mode 0700
//!   <32 hexadecimal digits>.json    mode 0600; SHA-256 of issuer, client and scopes, cut
//!   <the same>.lock                 held by the process that logs in; says why the last login failed
//! ```
//! A file is one JSON object: `version` (1), `issuer`, `client_id`, `issuer_ca` (PEM, or null), `id_token`,
//! `refresh_token` (or null). It is written whole or not at all. One that cannot be read, is of another version, or can be
//! read by others, is as none: the person logs in again. All of it may be deleted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::id_token::IdToken;
use super::settings::Settings;
use super::{Tokens, shown};
use crate::config::{Environment, Secret};
use crate::data_dir::{DataError, create_private_dir, failed, hex, write_private};
use crate::output;

/// The version of the files.
const VERSION: u32 = 1;

/// The longest file. Tokens have at most 16 KiB each, an authority's certificates a few.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// How often it is looked whether another process has logged in.
const LOCK_TRIED_EVERY: Duration = Duration::from_millis(100);

/// How long another process may take: as long as the longest login, the one on another device.
const LOCK_WAIT_MAX: Duration = super::device::WAIT_MAX.saturating_add(Duration::from_secs(30));

/// The cached login of one issuer and client.
#[derive(Debug)]
pub(super) struct Cache {
    settings: Settings,
    file: PathBuf,
    lock: PathBuf,
}

/// The right to log in.
#[derive(Debug)]
pub(super) struct LoginLock(File);

/// A login that was found in the cache.
#[derive(Debug)]
pub(super) struct Found {
    file: PathBuf,
    pub(super) issuer: String,
    pub(super) client_id: String,
    issuer_ca: Option<String>,
    pub(super) refresh: Option<Secret<String>>,
}

/// Why the cache is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("there is no folder for the login; set HOME or XDG_CACHE_HOME")]
    NoFolder,
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("another hoop login has been waiting for a person for long; end it, and try again")]
    Locked,
    #[error("the login that this one waited for failed: {0}")]
    OtherFailed(String),
    #[error("the cached login is of no use: {0}")]
    Settings(String),
}

#[derive(Deserialize)]
struct Document {
    version: u32,
    issuer: String,
    client_id: String,
    issuer_ca: Option<String>,
    id_token: Secret<String>,
    refresh_token: Option<Secret<String>>,
}

/// Everything that is cached.
pub(super) fn all(environment: &Environment) -> Result<Vec<Found>, CacheError> {
    let folder = folder(environment)?;
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", &folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed("list", &folder))?.path();
        if file.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        match read(&file) {
            Ok(Some(document)) => found.push(Found {
                issuer: document.issuer,
                client_id: document.client_id,
                issuer_ca: document.issuer_ca,
                refresh: document.refresh_token,
                file,
            }),
            Ok(None) => {}
            Err(why) => {
                output::notice(&format!("{}: {why}; it is removed", file.display()));
                fs::remove_file(&file).map_err(failed("remove", &file))?;
            }
        }
    }
    Ok(found)
}

impl Found {
    /// Forgets it.
    pub(super) fn remove(&self) -> Result<(), CacheError> {
        fs::remove_file(&self.file).map_err(failed("remove", &self.file))?;
        Ok(())
    }

    /// What is needed to speak to its issuer.
    pub(super) fn settings(&self) -> Result<Settings, CacheError> {
        Settings::of(&self.issuer, &self.client_id, self.issuer_ca.clone())
            .map_err(CacheError::Settings)
    }
}

impl Cache {
    /// The cache of this login; its folder is made if need be.
    pub(super) fn open(settings: &Settings, environment: &Environment) -> Result<Self, CacheError> {
        let folder = folder(environment)?;
        create_private_dir(&folder)?;
        let mut hash = Sha256::new();
        for part in [&settings.issuer, &settings.client_id]
            .into_iter()
            .chain(&settings.scopes)
        {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let name = hex(&hash.finalize()[..16]);
        Ok(Self {
            settings: settings.clone(),
            file: folder.join(format!("{name}.json")),
            lock: folder.join(format!("{name}.lock")),
        })
    }

    /// What is cached, if it is of any use.
    pub(super) fn read(&self) -> Option<Tokens> {
        let document = match read(&self.file) {
            Ok(document) => document?,
            Err(why) => {
                output::notice(&format!("{}: {why}; it is not used", self.file.display()));
                return None;
            }
        };
        let asked = &self.settings;
        if (&document.issuer, &document.client_id) != (&asked.issuer, &asked.client_id) {
            return None;
        }
        Some(Tokens {
            id_token: IdToken::take(document.id_token, asked).ok()?,
            refresh: document.refresh_token,
        })
    }

    /// Keeps a login.
    pub(super) fn write(&self, tokens: &Tokens) -> Result<(), CacheError> {
        let document = json!({
            "version": VERSION,
            "issuer": self.settings.issuer,
            "client_id": self.settings.client_id,
            "issuer_ca": self.settings.issuer_ca,
            "id_token": tokens.id_token.token().reveal(),
            "refresh_token": tokens.refresh.as_ref().map(Secret::reveal),
        });
        Ok(write_private(&self.file, &document.to_string())?)
    }

    /// Waits until no other process logs in here. When one did meanwhile and failed, so does this: one refusal, not ten.
    pub(super) async fn lock(&self) -> Result<LoginLock, CacheError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&self.lock)
            .map_err(failed("open", &self.lock))?;
        let begun = Instant::now();
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => {
                    return Err(failed("lock", &self.lock)(error).into());
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if begun.elapsed() > LOCK_WAIT_MAX {
                return Err(CacheError::Locked);
            }
            if !waited {
                output::notice("another hoop login is under way; waiting for it");
            }
            waited = true;
            tokio::time::sleep(LOCK_TRIED_EVERY).await;
        }
        if waited {
            let mut why = String::new();
            let mut start = (&file).take(FILE_BYTES_MAX);
            // What cannot be read is no reason not to try.
            if start.read_to_string(&mut why).is_ok() && !why.is_empty() {
                return Err(CacheError::OtherFailed(shown(&why)));
            }
        }
        file.set_len(0).map_err(failed("empty", &self.lock))?;
        file.seek(SeekFrom::Start(0))
            .map_err(failed("empty", &self.lock))?;
        Ok(LoginLock(file))
    }
}

impl LoginLock {
    /// Tells those who wait.
    pub(super) fn failed(mut self, why: &str) {
        // They try themselves if they do not hear it.
        drop(self.0.write_all(why.as_bytes()));
    }
}

fn folder(environment: &Environment) -> Result<PathBuf, CacheError> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let base = match (set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) if cfg!(target_os = "macos") => Path::new(home).join("Library/Caches"),
        (None, Some(home)) => Path::new(home).join(".cache"),
        (None, None) => return Err(CacheError::NoFolder),
    };
    Ok(base.join("hoop/login"))
}

/// A file of the cache; nothing when there is none. The error says why it is of no use.
fn read(file: &Path) -> Result<Option<Document>, String> {
    let open = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        open => open.map_err(|error| format!("it cannot be read: {error}"))?,
    };
    let about = open
        .metadata()
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if about.mode() & 0o077 != 0 || about.uid() != rustix::process::geteuid().as_raw() {
        return Err("others can read it".to_owned());
    }
    let mut text = String::new();
    open.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    // The parser's error is dropped: it may quote a token.
    let document: Document = serde_json::from_str(&text).map_err(|_| "it is damaged".to_owned())?;
    if document.version != VERSION {
        return Err("another version of hoop wrote it".to_owned());
    }
    Ok(Some(document))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::id_token::tests::with;
    use super::*;

    fn bed() -> (tempfile::TempDir, Cache, Tokens) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let environment = Environment::from([("XDG_CACHE_HOME".to_owned(), home)]);
        let settings = Settings::of("https://id", "hoop", None).unwrap();
        let claims = json!({"iss": "https://id", "aud": "hoop", "exp": 4_000_000_000_u64});
        let tokens = Tokens {
            id_token: IdToken::take(with(&claims), &settings).unwrap(),
            refresh: Some(Secret::new("r".into())),
        };
        let cache = Cache::open(&settings, &environment).unwrap();
        (folder, cache, tokens)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_login_is_kept_for_its_owner_alone() {
        let (folder, cache, tokens) = bed();
        assert!(cache.read().is_none());
        cache.write(&tokens).unwrap();
        assert_eq!(mode(&cache.file), 0o600);
        assert_eq!(mode(cache.file.parent().unwrap()), 0o700);
        let kept = cache.read().unwrap();
        assert_eq!(
            kept.id_token.token().reveal(),
            tokens.id_token.token().reveal()
        );
        assert_eq!(kept.refresh.unwrap().reveal(), "r");
        let home = folder.path().display().to_string();
        let all = all(&Environment::from([("XDG_CACHE_HOME".to_owned(), home)])).unwrap();
        assert_eq!(all.len(), 1);
        all[0].remove().unwrap();
        assert!(cache.read().is_none());
    }

    #[test]
    fn a_file_that_is_of_no_use_is_as_none() {
        let (_folder, cache, tokens) = bed();
        cache.write(&tokens).unwrap();
        fs::set_permissions(&cache.file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(cache.read().is_none(), "others can read it");
        cache.write(&tokens).unwrap();
        assert!(cache.read().is_some() && mode(&cache.file) == 0o600);
        let whole = fs::read_to_string(&cache.file).unwrap();
        let other_version = whole.replace("\"version\":1", "\"version\":2");
        for damaged in [&whole[..whole.len() / 2], "", "[]", other_version.as_str()] {
            fs::write(&cache.file, damaged).unwrap();
            assert!(cache.read().is_none(), "{damaged:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waited_for_a_login_that_failed_fails_too_and_whoever_comes_later_does_not() {
        let (_folder, cache, _) = bed();
        let first = cache.lock().await.unwrap();
        let second = async {
            let waited = cache.lock().await;
            assert!(matches!(waited, Err(CacheError::OtherFailed(why)) if why == "denied"));
        };
        let fails = async {
            tokio::time::sleep(LOCK_TRIED_EVERY * 3).await;
            first.failed("denied");
        };
        tokio::join!(second, fails);
        let _third = cache.lock().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_forever() {
        let (_folder, cache, _) = bed();
        let _first = cache.lock().await.unwrap();
        assert!(matches!(cache.lock().await, Err(CacheError::Locked)));
    }
}
