//! What can go wrong with an embedded log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoop_schema::{Class, Shard};

use crate::log::ReadError;

/// Why an embedded log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it.
    #[error("another process writes to the log in {dir}; stop it first, a log has one writer")]
    Locked {
        /// Folder of the class.
        dir: PathBuf,
    },
    /// It was created with another number of shards.
    #[error(
        "the log in {dir} has {found} shards, not {wanted}; the number is fixed when a log is created"
    )]
    Shards {
        /// Folder of the class.
        dir: PathBuf,
        /// What it has.
        found: u32,
        /// What was asked for.
        wanted: u32,
    },
    /// There is no log to read.
    #[error("there is no log of class {class} in {dir}")]
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
        /// Its class.
        class: String,
    },
    /// The description of the log does not say what it should.
    #[error("{file} does not describe this log: {what}")]
    Description {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Acknowledged records cannot be read. Nothing was changed.
    #[error(
        "the log is damaged; what lies before can still be read; move its folder aside to start a new one"
    )]
    Damaged(#[source] ReadError),
    /// An option has a value that cannot work.
    #[error("option {name} of the embedded log: {what}")]
    Option {
        /// Its name.
        name: &'static str,
        /// What it must be.
        what: &'static str,
    },
    /// The file system said no.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

/// Why an append was not taken, or not acknowledged. Shared by all appends of a batch.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the {bytes_max} bytes of memory for events under way are full")]
    QueueFull { bytes_max: usize },
    #[error("an event of {bytes} bytes passes the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("shard {0} does not exist")]
    NoSuchShard(Shard),
    #[error("the log is closed")]
    Closed,
    #[error(
        "the log of class {class} has reached its size of {size_max} bytes, and what it holds is not committed yet"
    )]
    Full { class: Class, size_max: u64 },
    #[error("cannot make room for the next segment in {dir}")]
    NoRoom {
        dir: Arc<Path>,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the writer thread of the log has panicked; open the log again")]
    Panicked,
    #[error("cannot write to {file}")]
    Write {
        file: Arc<Path>,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("a sync of {file} failed, so what is on the disk is not known; open the log again")]
    Sync {
        file: Arc<Path>,
        #[source]
        source: Arc<io::Error>,
    },
}

/// For `map_err`: an [`OpenError::Io`] that says what was tried on which path.
pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
