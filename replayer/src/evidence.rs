//! Evidence as it lies there: session files in a store, and the live tail of a log behind them.
//!
//! Files are found by listing, never by guessing. A sealed day is read from its sealed objects alone, every other day
//! from its session files alone. An event is in a file, in the tail, or for a moment in both; it is
//! shown once, because the tail of a shard is read from where its newest file ends. So an event is visible as soon as
//! the log has it.

use std::sync::Arc;

use hoop_schema::evidence::FileName;
use hoop_schema::{Class, EventHash, SessionId, Shard, Timestamp};
use hoop_sinks::log::{EventReader, ReadError};
use hoop_sinks::store::{EvidenceStore, StoreError};
use parquet::errors::ParquetError;

use crate::exit::ExitCode;

pub mod cache;
pub mod catalog;
pub mod file;
pub mod index;
pub mod object;
pub mod reach;
pub mod rows;
pub mod summaries;
pub mod tail;

pub use catalog::{Catalog, Days, StoredFile};
pub use object::ReadStats;
pub use reach::Reach;

/// Where evidence is read from.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The session files, if a store was found.
    pub store: Option<Arc<dyn EvidenceStore>>,
    /// The live logs, one per class.
    pub logs: Vec<Arc<dyn EventReader>>,
    /// Logs that there are and that could not be opened: which and why, in a sentence for people.
    pub logs_away: Vec<String>,
    /// How far away the store is.
    pub reach: Reach,
    /// Where parts of its objects are kept on this machine, if they are.
    pub cache: Option<Arc<cache::Cache>>,
    /// What was read so far.
    pub stats: Arc<ReadStats>,
}

impl Evidence {
    /// Evidence in a store on this machine, and in these logs.
    pub fn new(store: Option<Arc<dyn EvidenceStore>>, logs: Vec<Arc<dyn EventReader>>) -> Self {
        Self {
            store,
            logs,
            logs_away: Vec::new(),
            reach: Reach::Near,
            cache: None,
            stats: Arc::default(),
        }
    }
}

/// One event as found: its exact bytes, and where they lie.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The exact bytes.
    pub bytes: bytes::Bytes,
    /// The class of the log it went through.
    pub class: Class,
    /// The shard of that log.
    pub shard: Shard,
    /// Its position in the log; absent for events that a recorder made.
    pub position: Option<u64>,
    /// When the log took it.
    pub log_ts: Timestamp,
    /// The event with its encrypted content made readable, or saying why it is not; absent where nothing is encrypted.
    pub readable: Option<bytes::Bytes>,
}

impl Entry {
    /// The event as it is shown.
    pub fn shown(&self) -> &bytes::Bytes {
        self.readable.as_ref().unwrap_or(&self.bytes)
    }

    /// SHA-256 of the exact bytes.
    pub fn hash(&self) -> EventHash {
        EventHash::of(&self.bytes)
    }
}

/// Rows of one session in one session file; they lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRows {
    /// The session.
    pub session_id: SessionId,
    /// Number of its first row in the file.
    pub first_row: u64,
    /// How many rows it has there.
    pub row_count: u64,
}

/// Why evidence could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing that looks like evidence.
    #[error("no evidence in {place}: {hint}")]
    NoEvidence {
        /// Where it was looked for.
        place: String,
        /// What would be there, and what to do.
        hint: String,
    },
    /// A session file is damaged. Other files are not concerned.
    #[error("{key} is damaged: {what}; run `hoop-replay verify` to see what is still readable")]
    Damaged {
        /// Name of the object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The store did not answer.
    #[error("cannot read the evidence")]
    Store(#[from] StoreError),
    /// The log did not answer, or is damaged.
    #[error("cannot read the tail of the log of class {class}, shard {shard}")]
    Log {
        /// Which class.
        class: Class,
        /// Which shard.
        shard: Shard,
        /// Why.
        #[source]
        source: ReadError,
    },
}

impl Error {
    /// What the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoEvidence { .. } | Self::Store(StoreError::NotFound { .. }) => {
                ExitCode::NotFound
            }
            Self::Damaged { .. }
            | Self::Log {
                source: ReadError::Damaged { .. },
                ..
            } => ExitCode::Damaged,
            Self::Store(_) | Self::Log { .. } => ExitCode::Io,
        }
    }

    /// A damaged file, with what the Parquet library says of it.
    pub(crate) fn damaged(name: &FileName, what: impl ToString) -> Self {
        Self::Damaged {
            key: name.to_string(),
            what: what.to_string(),
        }
    }

    /// A file that the Parquet library could not read: damaged, unless it is the store that did not answer.
    pub(crate) fn unreadable(name: &FileName, what: &str, error: ParquetError) -> Self {
        match object::store_failure(error) {
            Ok(failure) => Self::Store(failure),
            Err(error) if what.is_empty() => Self::damaged(name, error),
            Err(error) => Self::damaged(name, format!("{what} ({error})")),
        }
    }
}
