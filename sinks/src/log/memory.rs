//! An event log in memory: for tests, and for whoever can bear to lose it with the process.
//!
//! A real backend with the promises of the traits except durability. Bounded by the bytes of the events it holds:
//! when they pass the limit, the oldest committed records make room; when none is committed, appends are refused.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hoop_schema::{Class, Shard, SourceId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    AppendError, AppendResult, Appending, Bounds, EventReader, EventWriter, LogRecord, Outgoing,
    Position, ReadError,
};

/// A log of one class that lives as long as the last handle on it.
#[derive(Debug)]
pub struct MemoryLog {
    store: Arc<Store>,
    closed: Mutex<bool>,
}

#[derive(Debug)]
struct Store {
    class: Class,
    source: SourceId,
    bytes_max: usize,
    shards: Vec<MemoryShard>,
    /// Bytes of the events held in all shards. Taken before the lock of a shard, never after it.
    bytes_held: Mutex<usize>,
}

#[derive(Debug)]
struct MemoryShard {
    held: Mutex<Held>,
    /// The position that the next record will have; readers wait on it.
    next: watch::Sender<u64>,
}

#[derive(Debug)]
struct Held {
    records: VecDeque<LogRecord>,
    /// Position of the oldest record held, or of the next one.
    first: u64,
    committed: u64,
    last_ts: Timestamp,
}

/// Why the memory log refuses.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the {bytes_max} bytes of this log are full of records that nobody has committed")]
    Full { bytes_max: usize },
    #[error("an event of {bytes} bytes does not fit into a log of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("shard {0} does not exist")]
    NoSuchShard(Shard),
    #[error("the log is closed")]
    Closed,
}

impl MemoryLog {
    /// An empty log of `shards` shards (at least one) that holds up to `bytes_max` bytes of events.
    pub fn new(class: Class, source: SourceId, shards: u32, bytes_max: usize) -> Self {
        let shard = |_| MemoryShard {
            held: Mutex::new(Held {
                records: VecDeque::new(),
                first: 1,
                committed: 0,
                last_ts: Timestamp::default(),
            }),
            next: watch::Sender::new(1),
        };
        let store = Store {
            class,
            source,
            bytes_max,
            shards: (0..shards.max(1)).map(shard).collect(),
            bytes_held: Mutex::new(0),
        };
        Self {
            store: Arc::new(store),
            closed: Mutex::new(false),
        }
    }

    /// Another handle on the same records, open for appends whether or not this one is closed.
    pub fn reopen(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            closed: Mutex::new(false),
        }
    }

    fn take(&self, shard: Shard, event: Outgoing) -> AppendResult {
        // Held to the end, so that `close` returns after every append that was let in.
        let closed = self.closed.lock();
        if *closed {
            return Err(AppendError::Terminal(Refused::Closed.into()));
        }
        self.store.append(shard, event)
    }
}

impl Store {
    fn shard(&self, shard: Shard) -> Option<&MemoryShard> {
        self.shards.get(usize::try_from(shard.0).ok()?)
    }

    fn append(&self, shard: Shard, event: Outgoing) -> AppendResult {
        let terminal = |refused: Refused| AppendError::Terminal(refused.into());
        let target = self
            .shard(shard)
            .ok_or_else(|| terminal(Refused::NoSuchShard(shard)))?;
        let (bytes, bytes_max) = (event.bytes.len(), self.bytes_max);
        if bytes > bytes_max {
            return Err(terminal(Refused::TooLarge { bytes, bytes_max }));
        }
        let mut bytes_held = self.bytes_held.lock();
        if *bytes_held + bytes > bytes_max {
            self.drop_committed(&mut bytes_held, bytes_max - bytes);
        }
        if *bytes_held + bytes > bytes_max {
            return Err(AppendError::Retryable(Refused::Full { bytes_max }.into()));
        }
        *bytes_held += bytes;
        let mut held = target.held.lock();
        let position = held.first + held.records.len() as u64;
        held.last_ts = held.last_ts.max(now());
        let log_ts = held.last_ts;
        held.records.push_back(LogRecord {
            position: Position(position),
            log_ts,
            bytes: event.bytes,
        });
        target.next.send_replace(position + 1);
        Ok(Position(position))
    }

    /// Drops committed records, oldest first in each shard, until at most `goal` bytes are held.
    fn drop_committed(&self, bytes_held: &mut usize, goal: usize) {
        for shard in &self.shards {
            let mut held = shard.held.lock();
            while *bytes_held > goal && held.first < held.committed {
                let Some(record) = held.records.pop_front() else {
                    break;
                };
                *bytes_held -= record.bytes.len();
                held.first += 1;
            }
        }
    }
}

impl MemoryShard {
    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<LogRecord>, ReadError> {
        let held = self.held.lock();
        if from < held.first {
            return Err(ReadError::Expired {
                wanted: Position(from),
                first: Position(held.first),
            });
        }
        let skip = usize::try_from(from - held.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut batch = Vec::new();
        for record in held.records.iter().skip(skip) {
            batch.push(record.clone());
            bytes += record.bytes.len();
            if bytes > bytes_max {
                break;
            }
        }
        Ok(batch)
    }
}

#[async_trait]
impl EventWriter for MemoryLog {
    fn class(&self) -> &Class {
        &self.store.class
    }

    fn shards(&self) -> u32 {
        u32::try_from(self.store.shards.len()).expect("made from a u32")
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        Box::pin(ready(self.take(shard, event)))
    }

    async fn ready(&self) -> Result<(), AppendError> {
        if *self.closed.lock() {
            return Err(AppendError::Terminal(Refused::Closed.into()));
        }
        let bytes_max = self.store.bytes_max;
        let mut bytes_held = self.store.bytes_held.lock();
        if *bytes_held >= bytes_max {
            self.store
                .drop_committed(&mut bytes_held, bytes_max.saturating_sub(1));
        }
        if *bytes_held >= bytes_max {
            return Err(AppendError::Retryable(Refused::Full { bytes_max }.into()));
        }
        Ok(())
    }

    async fn close(&self) {
        *self.closed.lock() = true;
    }
}

#[async_trait]
impl EventReader for MemoryLog {
    fn class(&self) -> &Class {
        &self.store.class
    }

    fn shards(&self) -> u32 {
        EventWriter::shards(self)
    }

    fn source(&self) -> SourceId {
        self.store.source
    }

    async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
        let shard = self.store.shard(shard).ok_or_else(|| unknown(shard))?;
        let held = shard.held.lock();
        Ok(Bounds {
            first: Position(held.first),
            next: Position(held.first + held.records.len() as u64),
        })
    }

    async fn read(
        &self,
        shard: Shard,
        from: Position,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let shard = self.store.shard(shard).ok_or_else(|| unknown(shard))?;
        // Position 0 is where a reader starts that has read nothing: the first record ever is number 1.
        let from = from.0.max(1);
        let mut next = shard.next.subscribe();
        // Either answer of the wait is looked at by reading: a record, or none.
        if tokio::time::timeout(wait, next.wait_for(|next| *next > from))
            .await
            .is_err()
        {
            return shard.read(from, bytes_max);
        }
        shard.read(from, bytes_max)
    }

    async fn committed(&self, shard: Shard, position: Position) {
        if let Some(shard) = self.store.shard(shard) {
            let mut held = shard.held.lock();
            held.committed = held.committed.max(position.0);
        }
    }
}

fn unknown(shard: Shard) -> ReadError {
    ReadError::Unavailable(Refused::NoSuchShard(shard).into())
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
