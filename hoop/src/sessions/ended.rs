//! The file of endings, as whoever ends something writes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use hoop_proxy::endings::{self, Ending};
use hoop_schema::Timestamp;

use super::Stop;
use crate::data_dir::{DataDir, read_if_there, write_private};
use crate::pipeline::chain;

/// How long another writer is waited for. Writing takes milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long the gateway may take to say that it has taken the file: it looks every second, and twice where somebody is
/// pardoned. A machine may be busy.
const TAKEN_WAIT_MAX: Duration = Duration::from_secs(15);

/// How often something is looked at again.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The file of endings in a data directory.
pub(super) struct EndedFile {
    path: PathBuf,
}

impl EndedFile {
    pub(super) fn of(data: &DataDir) -> Self {
        Self {
            path: data.endings(),
        }
    }

    /// What is ended now.
    pub(super) fn read(&self) -> Result<Vec<Ending>, Stop> {
        let text = read_if_there(&self.path).map_err(|error| Stop::failure(chain(&error)))?;
        endings::parse(&text.unwrap_or_default())
            .map_err(|error| Stop::failure(format!("{}: {error}", self.path.display())))
    }

    /// Adds endings, and takes those out that are over. One writer at a time.
    pub(super) async fn add(&self, new: &[Ending], now: Timestamp) -> Result<(), Stop> {
        let _lock = self.lock().await?;
        let all = self.read()?;
        // The same again replaces what was, but never shortens it.
        let mut new = new.to_vec();
        for ending in &mut new {
            let before = all.iter().filter(|old| old.is_of_the_same(ending));
            let until = before.map(|old| old.until).max();
            ending.until = ending.until.max(until.unwrap_or(ending.until));
        }
        self.replace(all, new, now)
    }

    /// Puts pardons in the place of what they are about. One writer at a time.
    pub(super) async fn pardon(&self, pardons: &[Ending], now: Timestamp) -> Result<(), Stop> {
        let _lock = self.lock().await?;
        let all = self.read()?;
        self.replace(all, pardons.to_vec(), now)
    }

    fn replace(&self, mut all: Vec<Ending>, new: Vec<Ending>, now: Timestamp) -> Result<(), Stop> {
        all.retain(|old| old.until > now && !new.iter().any(|one| old.is_of_the_same(one)));
        all.extend(new);
        let text = endings::write(&all)
            .map_err(|error| Stop::failure(format!("{}: {error}", self.path.display())))?;
        write_private(&self.path, &text).map_err(|error| Stop::failure(chain(&error)))
    }

    /// Waits until a gateway has taken a file that holds these endings.
    pub(super) async fn is_taken(&self, new: &[Ending]) -> bool {
        let names = |ending: &Ending| (ending.session, ending.login.clone(), ending.user.clone());
        let deadline = tokio::time::Instant::now() + TAKEN_WAIT_MAX;
        loop {
            // Somebody else may have added to it since.
            if let Ok(text) = std::fs::read_to_string(&self.path)
                && let Ok(there) = endings::parse(&text)
                && endings::is_taken(&self.path, text.as_bytes())
            {
                let is_there = |ending: &Ending| there.iter().any(|t| names(t) == names(ending));
                return new.iter().all(is_there);
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn lock(&self) -> Result<File, Stop> {
        let path = self.path.with_extension("lock");
        let failed = |error: std::io::Error| {
            Stop::failure(format!("cannot lock {}: {error}", path.display()))
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let deadline = tokio::time::Instant::now() + LOCK_WAIT_MAX;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                    return Err(Stop::failure(format!(
                        "somebody else has been writing to {} for {LOCK_WAIT_MAX:?}; try again",
                        self.path.display()
                    )));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }
}
