//! The file of endings: read at the start, where it has to be right, and looked at every second.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hoop_schema::{EventHash, Timestamp};

use super::{Ending, Endings, EndingsParseError, parse};
use crate::record::{Clock, Journal};

/// How often the file is looked at: somebody waits for it, and it is hardly ever there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file that is read, in bytes: the most endings with long names and reasons.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Beside the file, what the gateway has taken of it: the SHA-256 of its bytes, in hexadecimal digits. Whoever has
/// written the file looks here for whether it counts.
const TAKEN_EXTENSION: &str = "taken";

/// Why endings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndingsError {
    /// The file cannot be read.
    #[error("the file of ended logins {} cannot be read", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It holds something else.
    #[error("the file of ended logins {} cannot be used; mend it, or remove it to pardon everybody in it", .0.display())]
    Parse(PathBuf, #[source] EndingsParseError),
}

/// Watches the file of endings.
#[derive(Debug)]
pub(crate) struct EndingsFile {
    path: PathBuf,
    endings: Arc<Endings>,
    in_force: Vec<Ending>,
    /// The bytes that were looked at last, whether they could be used or not.
    seen: Option<Vec<u8>>,
    /// Bytes that would pardon somebody, until they are seen twice.
    pardoning: Option<Vec<u8>>,
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing else than the last one.
    Same,
    /// What is in the file holds.
    Taken,
    /// What is new in the file holds, and what is not in it any more does as well, until the next look.
    Pending,
}

impl EndingsFile {
    /// Reads the file for the first time; a file that is not there holds nothing.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, EndingsError> {
        let bytes = match read(&path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| EndingsError::Read(path.clone(), error))?),
        };
        let in_force = read_text(bytes.as_deref().unwrap_or_default())
            .map_err(|error| EndingsError::Parse(path.clone(), error))?;
        Ok(Self {
            endings: Endings::new(&in_force),
            path,
            in_force,
            seen: bytes,
            pardoning: None,
        })
    }

    /// What holds.
    pub(crate) fn endings(&self) -> Arc<Endings> {
        Arc::clone(&self.endings)
    }

    /// Looks at the file for ever. What the gateway takes is in the record, beginning with what there was at the start.
    pub(crate) async fn watch(mut self, journal: &Journal, clock: &Clock) {
        let now = clock();
        for ending in self.in_force.iter().filter(|ending| ending.until > now) {
            journal.access_ended(ending.event());
        }
        if let Some(bytes) = &self.seen {
            self.acknowledge(bytes).await;
        }
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let bytes = match read(&self.path).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.gone();
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the ended logins could not be read; those from before stay ended");
                    continue;
                }
            };
            let before = self.in_force.clone();
            match self.look(&bytes, clock()) {
                Ok(Look::Same) => continue,
                Ok(Look::Taken) => self.acknowledge(&bytes).await,
                Ok(Look::Pending) => {}
                Err(error) => {
                    tracing::error!(%error, "the ended logins could not be used; those from before stay ended");
                    continue;
                }
            }
            for ending in self.in_force.iter().filter(|new| !before.contains(new)) {
                if ending.until > ending.at {
                    tracing::info!("somebody's access was ended; the record says whose");
                } else {
                    tracing::info!("somebody was pardoned; the record says who");
                }
                journal.access_ended(ending.event());
            }
        }
    }

    /// Takes what is new in the file; what is gone from it only when it is gone twice.
    pub(super) fn look(&mut self, bytes: &[u8], now: Timestamp) -> Result<Look, EndingsParseError> {
        let again = self.seen.as_deref() == Some(bytes);
        if again && self.pardoning.is_none() {
            return Ok(Look::Same);
        }
        self.seen = Some(bytes.to_vec());
        let pardoned_before = self.pardoning.take();
        let found = read_text(bytes)?;
        let missing = |ending: &&Ending| ending.until > now && !found.contains(ending);
        let missing: Vec<_> = self.in_force.iter().filter(missing).cloned().collect();
        if missing.is_empty() || pardoned_before.as_deref() == Some(bytes) {
            self.in_force = found;
            self.endings.set(&self.in_force);
            return Ok(Look::Taken);
        }
        self.pardoning = Some(bytes.to_vec());
        self.in_force = found;
        self.in_force.extend(missing);
        self.endings.set(&self.in_force);
        Ok(Look::Pending)
    }

    /// Says that these bytes count. Where the gateway may not write, nobody learns it from here.
    pub(super) async fn acknowledge(&self, bytes: &[u8]) {
        let taken = self.path.with_extension(TAKEN_EXTENSION);
        let temporary = self.path.with_extension("taken.new");
        let written = async {
            tokio::fs::write(&temporary, format!("{}\n", EventHash::of(bytes))).await?;
            tokio::fs::rename(&temporary, &taken).await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "it could not be written down that ended logins were taken");
        }
    }

    /// The file is not there.
    pub(super) fn gone(&mut self) {
        self.pardoning = None;
        if self.seen.take().is_some() {
            tracing::warn!(
                "the file of ended logins is gone; what was ended stays ended until the next start"
            );
        }
    }
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let length = tokio::fs::metadata(path).await?.len();
    if length > FILE_BYTES_MAX {
        let message = format!("it has {length} bytes; at most {FILE_BYTES_MAX} are read");
        return Err(std::io::Error::other(message));
    }
    tokio::fs::read(path).await
}

fn read_text(bytes: &[u8]) -> Result<Vec<Ending>, EndingsParseError> {
    let text = std::str::from_utf8(bytes).map_err(|error| EndingsParseError::Line {
        line: 1,
        message: error.to_string(),
    })?;
    parse(text)
}

/// Whether a gateway has taken these bytes of the file at `path`.
pub fn is_taken(path: &Path, bytes: &[u8]) -> bool {
    let taken = std::fs::read_to_string(path.with_extension(TAKEN_EXTENSION));
    taken.is_ok_and(|text| text.trim() == EventHash::of(bytes).to_string())
}
