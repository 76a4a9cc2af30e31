//! Evidence as it lies there: session files in a store, and the live tail of a log behind them.
//!
//! Files are found by listing, never by guessing. An event is in a file, in the tail, or for a moment in both; it is
//! shown once, because the tail of a shard is read from where its newest file ends. So an event is visible as soon as
//! the log has it.

use std::sync::Arc;

use hoop_schema::evidence::SessionFileName;
use hoop_schema::{Class, EventHash, SessionId, Shard, Timestamp};
use hoop_sinks::log::{EventReader, ReadError};
use hoop_sinks::store::{EvidenceStore, StoreError};

use crate::exit::ExitCode;

pub mod catalog;
pub mod file;
pub mod index;
pub mod object;
pub mod rows;
pub mod summaries;
pub mod tail;

pub use catalog::{Catalog, Days, StoredFile};
pub use object::ReadStats;

/// Where evidence is read from.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The session files, if a store was found.
    pub store: Option<Arc<dyn EvidenceStore>>,
    /// The live logs, one per class.
    pub logs: Vec<Arc<dyn EventReader>>,
    /// What was read so far.
    pub stats: Arc<ReadStats>,
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
}

impl Entry {
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
    pub(crate) fn damaged(name: &SessionFileName, what: impl ToString) -> Self {
        Self::Damaged {
            key: name.to_string(),
            what: what.to_string(),
        }
    }
}
