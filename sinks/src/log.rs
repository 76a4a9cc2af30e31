//! The event log: what the gateway appends to and the recorder reads from.
//!
//! One log holds one retention class. It has a fixed number of shards; order is kept within a shard. Two traits, by
//! who uses them: [`EventWriter`] (gateway) and [`EventReader`] (recorder, replayer). What every backend owes its
//! callers is written at the methods, and each sentence is a test in the conformance suite.

pub mod cloudevents;
#[cfg(feature = "test-util")]
pub mod conformance;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
pub mod spool;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{Class, EventId, SessionId, Shard, SourceId, Timestamp};

/// A place in one shard of a log. Grows with every record, not necessarily by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An event on its way to the log: its exact bytes, and the attributes that brokers carry as CloudEvents headers.
/// The embedded log keeps only the bytes, since they say all of it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Id of the event (`ce_id`, `Nats-Msg-Id`); the same whenever it is sent again.
    pub event_id: EventId,
    /// Session of the event: the key (`ce_partitionkey`).
    pub session_id: SessionId,
    /// Kind of the event (`ce_type`).
    pub kind: &'static str,
    /// Its exact bytes.
    pub bytes: Bytes,
    /// Whether it may wait some milliseconds for company (Kafka's `linger.ms`): nobody waits for its fate. It never
    /// changes the order, and an event that does not linger takes along all before it.
    pub linger: bool,
    /// Whether a local spool is durable enough: where a log has one ([`spool`]), the append has its answer when the
    /// event is there, and it is shipped after. Other logs take no notice.
    pub spool: bool,
}

/// A record as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it is.
    pub position: Position,
    /// When the log took it, by the log's clock. Does not go back within a shard.
    pub log_ts: Timestamp,
    /// The exact bytes that were appended.
    pub bytes: Bytes,
}

/// What a shard holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Position of the oldest record that can still be read, or `next` when there is none.
    pub first: Position,
    /// Position that the next record will have, or a lower bound of it.
    pub next: Position,
}

/// Why an append did not return a position.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written; trying again is safe and may work.
    #[error("append refused")]
    Retryable(#[source] Source),
    /// Nothing was written and nothing will be, until somebody mends it.
    #[error("append failed for good")]
    Terminal(#[source] Source),
    /// It may have been written: send it again under the same event id. The recorder drops copies.
    #[error("append may or may not have been written")]
    Unknown(#[source] Source),
}

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The position is older than what the log still holds.
    #[error("position {wanted} is gone; the oldest that can be read is {first}")]
    Expired {
        /// What was asked for.
        wanted: Position,
        /// The oldest position that can be read.
        first: Position,
    },
    /// The log's bytes are damaged. Everything before `position` can be read; nothing was thrown away.
    #[error("{place} is damaged at position {position}: {what}")]
    Damaged {
        /// Where: the file and offset, or the broker's name for it.
        place: String,
        /// The first position that cannot be read.
        position: Position,
        /// What is wrong.
        what: String,
    },
    /// The log does not answer at the moment; trying again may work.
    #[error("the log cannot be read at the moment")]
    Unavailable(#[source] Source),
}

/// What lies below an error of this module.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// The answer to one append.
pub type AppendResult = Result<Position, AppendError>;

/// Resolves when the fate of one append is known. Dropping it does not undo the append.
pub type Appending = Pin<Box<dyn Future<Output = AppendResult> + Send>>;

/// The appending end of one class's log.
#[async_trait]
pub trait EventWriter: Send + Sync + fmt::Debug {
    /// The class of this log.
    fn class(&self) -> &Class;

    /// Number of shards, fixed when the log was created.
    fn shards(&self) -> u32;

    /// Appends one event. Never blocks and never waits: it takes the event before it returns, so that the order of
    /// *calls* for one shard is the order in that shard, and the future tells its fate. When it resolves to a
    /// position, the event is durable and readable. When the log's own memory for events under way is full, the
    /// future resolves to [`AppendError::Retryable`]; a refused event does not hold up or re-order later ones.
    fn append(&self, shard: Shard, event: Outgoing) -> Appending;

    /// Whether an append made now is expected to work: the readiness of the gateway hangs on it.
    ///
    /// # Errors
    /// Why not.
    async fn ready(&self) -> Result<(), AppendError>;

    /// Waits until every append made before has its answer, and stops taking more. Idempotent.
    async fn close(&self);
}

/// The reading end of one class's log.
#[async_trait]
pub trait EventReader: Send + Sync + fmt::Debug {
    /// The class of this log.
    fn class(&self) -> &Class;

    /// Number of shards, fixed when the log was created.
    fn shards(&self) -> u32;

    /// Name of this log for ever.
    fn source(&self) -> SourceId;

    /// What the shard holds now.
    ///
    /// # Errors
    /// When the log cannot be asked.
    async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError>;

    /// Reads records from `from` on, in order, without leaving one out: at least one if there is one, and further
    /// ones until their bytes pass `bytes_max`. Only durable records are returned. When there is none yet, waits up
    /// to `wait` and then returns an empty batch. `from` may lie between records.
    ///
    /// # Errors
    /// When `from` is no longer held, the bytes are damaged, or the log does not answer. Records before the damage
    /// are returned first.
    async fn read(
        &self,
        shard: Shard,
        from: Position,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<LogRecord>, ReadError>;

    /// Says that everything before `position` is committed as evidence. A hint: an embedded log never drops records
    /// at or after the last such position; a broker shows it as lag.
    async fn committed(&self, shard: Shard, position: Position);
}
