//! Why a log on NATS cannot be opened, and why an append or a read fails.

use std::sync::Arc;

use hoop_schema::{Shard, SourceId};

/// Why a log on NATS cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option has a value that cannot work.
    #[error("option {name} of the log on NATS: {what}")]
    Option {
        /// Its name.
        name: &'static str,
        /// What it must be.
        what: &'static str,
    },
    /// No server lets us in.
    #[error("cannot connect to NATS at {urls}")]
    Connect {
        /// The servers that were tried.
        urls: String,
        /// What the last one said.
        #[source]
        source: crate::log::Source,
    },
    /// The server cannot do what is needed.
    #[error("the NATS server {server} cannot hold an event log: {what}")]
    Server {
        /// Its name.
        server: String,
        /// What is missing, and what to do.
        what: String,
    },
    /// JetStream does not answer, or says no.
    #[error("cannot {what} the stream {stream}")]
    Request {
        /// What was tried.
        what: &'static str,
        /// On which stream.
        stream: String,
        /// The answer.
        #[source]
        source: crate::log::Source,
    },
    /// There is no such stream, and it was not to be created.
    #[error("the stream {stream} does not exist")]
    Missing {
        /// Name of the stream.
        stream: String,
    },
    /// It was created with another number of shards.
    #[error(
        "the stream {stream} has {found} shards, not {wanted}; the number is fixed when a log is created"
    )]
    Shards {
        /// Name of the stream.
        stream: String,
        /// What it has.
        found: u32,
        /// What was asked for.
        wanted: u32,
    },
    /// It is there with settings that would lose events.
    #[error("the stream {stream} is not fit for an event log: {}; {mend}", wrong.join("; "))]
    Settings {
        /// Name of the stream.
        stream: String,
        /// What is wrong, one by one.
        wrong: Vec<String>,
        /// What to do: the exact command.
        mend: String,
    },
}

/// Why an append was not taken, or not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the {bytes_max} bytes of memory for events under way are full")]
    QueueFull { bytes_max: usize },
    #[error("an event of {bytes} bytes passes the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("shard {0} does not exist")]
    NoSuchShard(Shard),
    #[error("the log is closed")]
    Closed,
    #[error("the stream {stream} is full: {said}")]
    Full { stream: Arc<str>, said: String },
    #[error("the stream {stream} does not take the event: {said}")]
    Broker { stream: Arc<str>, said: String },
    #[error("the stream {stream} did not take the event in time")]
    Late { stream: Arc<str> },
    #[error("the stream {stream} did not acknowledge the event in time")]
    Unacknowledged { stream: Arc<str> },
    #[error("the writer of the log has ended")]
    Ended,
    #[error("there is no connection to NATS")]
    Disconnected,
    #[error("the stream {stream} cannot be asked")]
    Unanswered {
        stream: Arc<str>,
        #[source]
        source: Shared,
    },
    #[error("the stream {stream} holds {bytes} of {bytes_max} bytes")]
    NoRoom {
        stream: Arc<str>,
        bytes: u64,
        bytes_max: u64,
    },
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailure {
    #[error("shard {0} does not exist")]
    NoSuchShard(Shard),
    #[error("the stream {stream} cannot be asked")]
    Request {
        stream: Arc<str>,
        #[source]
        source: crate::log::Source,
    },
    #[error("the stream {stream} did not answer in time")]
    TimedOut { stream: Arc<str> },
    #[error("the answer of the stream {stream} makes no sense: {what}")]
    Answer { stream: Arc<str>, what: String },
    #[error(
        "the stream {stream} was created anew: it is the source {found}, and was {wanted}; open the log again"
    )]
    Replaced {
        stream: Arc<str>,
        found: String,
        wanted: SourceId,
    },
}

/// An error that several appends share.
#[derive(Clone, Debug)]
pub(crate) struct Shared(pub(crate) Arc<dyn std::error::Error + Send + Sync>);

impl Shared {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
