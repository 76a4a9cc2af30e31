//! The reading end.
//!
//! Each shard that is read has a consumer of its own, at the place where the last read ended; reading on from there
//! finds records that were fetched meanwhile. A read that finds none asks the brokers how far the shard goes, so that
//! "none" always means that there is none, and never that the brokers are gone.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hoop_schema::{Class, Shard, SourceId, Timestamp};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::client::{self, Context};
use super::cursor::{Cursor, Stop};
use super::error::OpenError;
use super::options::Options;
use super::topic::Topic;
use crate::log::{Bounds, EventReader, LogRecord, Position, ReadError};

/// Consumers kept per shard: that of a recorder, and of somebody who looks.
const CURSORS_MAX: usize = 2;

/// How long records that are there may take to arrive. Longer than it takes to connect and to find the leader.
const ARRIVE_WITHIN: Duration = Duration::from_secs(15);

/// A consumer that waits is looked at this often, should it have said nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// For how long a shard may seem to end before a position that was handed out. A new leader learns a moment late how
/// far the log is safe; after this time, the records are gone.
const SHORT_FOR: Duration = Duration::from_secs(5);

/// Reads the log of one class from its topic.
pub struct KafkaReader {
    class: Class,
    topic: Topic,
    options: Arc<Options>,
    shards: Vec<Mutex<Kept>>,
    /// Made when something is committed first.
    lag: Mutex<Option<BaseConsumer<Context>>>,
}

/// What is kept of a shard between reads.
#[derive(Debug, Default)]
struct Kept {
    cursors: Vec<Cursor>,
    /// The newest time of the log that was handed out, and the position after it.
    latest: (u64, Timestamp),
    /// Since when it has seemed to end too early.
    short_since: Option<Instant>,
}

/// A cursor on loan, which goes back when the read ends or is given up.
struct Loan<'a> {
    kept: &'a Mutex<Kept>,
    cursor: Option<Cursor>,
}

/// Why a read failed that says nothing about the log's bytes.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("shard {0} does not exist")]
    NoSuchShard(Shard),
    #[error("the brokers do not say what shard {shard} of {topic} holds")]
    Bounds {
        shard: Shard,
        topic: Arc<str>,
        #[source]
        source: KafkaError,
    },
    #[error("records up to position {next} of shard {shard} are there, but do not arrive")]
    Slow { shard: Shard, next: Position },
    #[error("no consumer for shard {shard}")]
    Consumer {
        shard: Shard,
        #[source]
        source: Box<OpenError>,
    },
    #[error("the brokers answer {0}")]
    Refused(RDKafkaErrorCode),
    #[error("topic {0} does not exist any more")]
    NoTopic(Arc<str>),
    #[error("shard {shard} seems to end at position {next}, before {wanted}; it is asked again")]
    Short {
        shard: Shard,
        next: Position,
        wanted: Position,
    },
    #[error("the position has moved while it was read")]
    Moved,
}

impl fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReader")
            .field("topic", &self.topic.name)
            .finish_non_exhaustive()
    }
}

impl KafkaReader {
    /// Finds or creates the topic of `class`, checks it, and opens it for reading.
    ///
    /// # Errors
    /// When an option cannot work, the brokers cannot be reached, or the topic is not as it must be.
    pub async fn open(class: Class, options: Options) -> Result<Self, OpenError> {
        let topic = Topic::open(&options, &class).await?;
        Ok(Self::over(class, options, topic))
    }

    /// Opens the topic of `class` as it is, for somebody who only looks: nothing is created or changed, and whether its
    /// settings could lose events is not looked at, for which not everybody has the right. The number of shards is that of
    /// its partitions, whatever the options say.
    ///
    /// # Errors
    /// When an option cannot work, the brokers cannot be reached, or there is no such topic.
    pub async fn open_to_look(class: Class, options: Options) -> Result<Self, OpenError> {
        let (topic, shards) = Topic::find(&options, &class).await?;
        Ok(Self::over(class, Options { shards, ..options }, topic))
    }

    fn over(class: Class, options: Options, topic: Topic) -> Self {
        let shards = (0..options.shards.get())
            .map(|_| Mutex::default())
            .collect();
        Self {
            class,
            topic,
            options: Arc::new(options),
            shards,
            lag: Mutex::new(None),
        }
    }

    fn kept(&self, shard: Shard) -> Result<&Mutex<Kept>, ReadError> {
        let kept = self.shards.get(shard.0 as usize);
        kept.ok_or_else(|| unavailable(Unreadable::NoSuchShard(shard)))
    }

    /// An error if the topic is another one than when the reader was opened.
    fn same_source(&self, wanted: Position) -> Result<(), ReadError> {
        self.topic
            .shared
            .ids
            .check()
            .map_err(|error| ReadError::Damaged {
                place: format!("topic {}", self.topic.name),
                position: wanted,
                what: error.to_string(),
            })
    }

    async fn loan<'a>(
        &'a self,
        kept: &'a Mutex<Kept>,
        shard: Shard,
        from: u64,
    ) -> Result<Loan<'a>, ReadError> {
        let floor = {
            let mut kept = kept.lock();
            if let Some(index) = kept.cursors.iter().position(|cursor| cursor.next() == from) {
                let cursor = Some(kept.cursors.remove(index));
                return Ok(Loan::new(self.kept(shard)?, cursor));
            }
            let (position, latest) = kept.latest;
            if position <= from {
                latest
            } else {
                Timestamp::default()
            }
        };
        let (options, topic) = (Arc::clone(&self.options), self.topic.clone());
        let opened =
            spawn_blocking(move || Cursor::open(&options, &topic, shard, from, floor)).await;
        let opened = opened.map_err(unavailable)?;
        let cursor = opened.map_err(|source| {
            let source = Box::new(source);
            unavailable(Unreadable::Consumer { shard, source })
        })?;
        Ok(Loan::new(kept, Some(cursor)))
    }

    async fn ask_bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
        let asker = Arc::clone(&self.topic.asker);
        let asked = spawn_blocking(move || asker.bounds(shard)).await;
        let bounds = asked.map_err(unavailable)?.map_err(|source| {
            let topic = Arc::clone(&self.topic.name);
            unavailable(Unreadable::Bounds {
                shard,
                topic,
                source,
            })
        })?;
        self.same_source(bounds.first)?;
        Ok(bounds)
    }

    /// What it means that nothing can be read at `wanted`; nothing when that is the end of the shard.
    fn judge(&self, shard: Shard, wanted: Position, bounds: Bounds) -> Result<(), ReadError> {
        let kept = self.kept(shard)?;
        let Bounds { first, next } = bounds;
        if wanted <= next {
            kept.lock().short_since = None;
            return if wanted < first {
                Err(ReadError::Expired { wanted, first })
            } else {
                Ok(())
            };
        }
        let now = Instant::now();
        let since = *kept.lock().short_since.get_or_insert(now);
        if now.saturating_duration_since(since) < SHORT_FOR {
            return Err(unavailable(Unreadable::Short {
                shard,
                next,
                wanted,
            }));
        }
        Err(self.damaged(
            shard,
            wanted,
            format!(
                "the shard ends at position {next}: the brokers have lost records that they had acknowledged (an \
                 unclean election of a leader, or a disk that was restored)"
            ),
        ))
    }

    fn damaged(&self, shard: Shard, position: Position, what: String) -> ReadError {
        ReadError::Damaged {
            place: format!("topic {}, partition {}", self.topic.name, shard.0),
            position,
            what,
        }
    }

    /// What it means that a cursor cannot go on.
    async fn stopped(&self, shard: Shard, wanted: Position, stop: Stop) -> ReadError {
        match stop {
            Stop::OutOfRange => match self.ask_bounds(shard).await {
                Ok(bounds) => match self.judge(shard, wanted, bounds) {
                    // It was out of range a moment ago.
                    Ok(()) => unavailable(Unreadable::Moved),
                    Err(error) => error,
                },
                Err(error) => error,
            },
            Stop::Truncated => {
                let what = "the brokers have lost records that they had acknowledged, and others are in their place \
                            (an unclean election of a leader)";
                self.damaged(shard, wanted, what.to_owned())
            }
            Stop::Corrupt => self.damaged(
                shard,
                wanted,
                "a batch does not have its checksum".to_owned(),
            ),
            Stop::NoTopic => {
                let asker = Arc::clone(&self.topic.asker);
                // It may have been created again, which the answer tells.
                drop(spawn_blocking(move || asker.describe()).await);
                match self.same_source(wanted) {
                    Err(error) => error,
                    Ok(()) => unavailable(Unreadable::NoTopic(Arc::clone(&self.topic.name))),
                }
            }
            Stop::Refused(code) => unavailable(Unreadable::Refused(code)),
        }
    }
}

impl<'a> Loan<'a> {
    fn new(kept: &'a Mutex<Kept>, cursor: Option<Cursor>) -> Self {
        Self { kept, cursor }
    }

    /// Waits until `until` for something to hand out.
    async fn wait(&mut self, bytes_max: usize, until: Instant) -> Result<bool, Stop> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        loop {
            if let Err(stop) = cursor.fetch(bytes_max) {
                // A cursor that cannot go on is of no use to the next read.
                self.cursor = None;
                return Err(stop);
            }
            if cursor.has_some() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let arrived = Arc::clone(&cursor.arrived);
            // Whether it was woken or not, it looks.
            drop(timeout(left.min(LOOK_EVERY), arrived.notified()).await);
        }
    }

    fn hand_out(&mut self, bytes_max: usize) -> Vec<LogRecord> {
        let records = self
            .cursor
            .as_mut()
            .map(|cursor| cursor.hand_out(bytes_max));
        records.unwrap_or_default()
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let Some(cursor) = self.cursor.take() else {
            return;
        };
        let mut kept = self.kept.lock();
        let latest = (cursor.next(), cursor.floor());
        kept.latest = kept.latest.max(latest);
        if kept.cursors.len() >= CURSORS_MAX {
            kept.cursors.remove(0);
        }
        kept.cursors.push(cursor);
    }
}

#[async_trait]
impl EventReader for KafkaReader {
    fn class(&self) -> &Class {
        &self.class
    }

    fn shards(&self) -> u32 {
        self.options.shards.get()
    }

    fn source(&self) -> SourceId {
        self.topic.source
    }

    async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
        self.kept(shard)?;
        self.ask_bounds(shard).await
    }

    async fn read(
        &self,
        shard: Shard,
        from: Position,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let kept = self.kept(shard)?;
        self.same_source(from)?;
        let mut loan = self.loan(kept, shard, from.0).await?;
        let begun = Instant::now();
        let mut waited = loan.wait(bytes_max, begun + wait).await;
        if let Ok(false) = waited {
            let bounds = self.ask_bounds(shard).await?;
            self.judge(shard, from, bounds)?;
            if from >= bounds.next {
                return Ok(Vec::new());
            }
            waited = loan.wait(bytes_max, Instant::now() + ARRIVE_WITHIN).await;
            if let Ok(false) = waited {
                // Whatever holds it up, the next read begins anew.
                loan.cursor = None;
                let next = bounds.next;
                return Err(unavailable(Unreadable::Slow { shard, next }));
            }
        }
        match waited {
            Ok(_) => {
                self.same_source(from)?;
                kept.lock().short_since = None;
                Ok(loan.hand_out(bytes_max))
            }
            Err(stop) => Err(self.stopped(shard, from, stop).await),
        }
    }

    async fn committed(&self, shard: Shard, position: Position) {
        let mut offsets = TopicPartitionList::new();
        let partition = i32::try_from(shard.0).unwrap_or(i32::MAX);
        let offset = Offset::Offset(i64::try_from(position.0).unwrap_or(i64::MAX));
        let mut lag = self.lag.lock();
        let noted = offsets
            .add_partition_offset(&self.topic.name, partition, offset)
            .and_then(|()| match &mut *lag {
                Some(consumer) => Ok(consumer),
                none => {
                    let context = Context::new(&self.topic.shared);
                    let consumer = client::consuming(&self.options).create_with_context(context)?;
                    Ok(none.insert(consumer))
                }
            })
            .and_then(|consumer| {
                // What became of the last one, which nobody waits for.
                drop(consumer.poll(Duration::ZERO));
                consumer.commit(&offsets, CommitMode::Async)
            });
        if let Err(error) = noted {
            tracing::debug!(%error, %shard, "the lag of a shard cannot be shown");
        }
    }
}

impl Drop for KafkaReader {
    /// Ending a consumer takes some round trips, which nobody has to wait for.
    fn drop(&mut self) {
        let Some(consumer) = self.lag.get_mut().take() else {
            return;
        };
        let ending = std::thread::Builder::new().name("kafka-consumer-end".to_owned());
        if let Err(error) = ending.spawn(move || drop(consumer)) {
            tracing::warn!(%error, "no thread to end a consumer with");
        }
    }
}

fn unavailable(error: impl Error + Send + Sync + 'static) -> ReadError {
    ReadError::Unavailable(Box::new(error))
}
