//! One consumer at one place of one shard.
//!
//! It is assigned its partition at an offset of ours and knows no other: not what a group committed, not where the
//! log begins or ends. What it cannot have, it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::{Shard, Timestamp};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Timestamp as BrokerTimestamp};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::client::{self, Context};
use super::error::OpenError;
use super::options::Options;
use super::topic::Topic;
use super::topic_id::TopicIds;
use crate::log::{LogRecord, Position};

/// librdkafka says that there is nothing also after something that it handled itself, a line of its log for example.
const EMPTY_ANSWERS: u32 = 4;

/// A consumer, where it stands, and what it has that nobody got yet.
pub(crate) struct Cursor {
    consumer: Option<BaseConsumer<Context>>,
    topic: Arc<str>,
    ids: Arc<TopicIds>,
    partition: i32,
    /// The position that the next record handed out is expected to have.
    next: u64,
    /// No record is older than this by the log's clock.
    floor: Timestamp,
    fetched: VecDeque<LogRecord>,
    /// The position after the last one fetched.
    fetched_to: u64,
    /// A position where records were missing when it was fetched first.
    hole: Option<u64>,
    /// Why nothing more comes.
    stopped: Option<Stop>,
    pub(crate) arrived: Arc<Notify>,
}

/// Why a cursor cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The brokers do not have its position.
    OutOfRange,
    /// The brokers have lost records, and others are in their place.
    Truncated,
    /// A batch does not have the checksum that it says.
    Corrupt,
    /// The brokers do not know the topic, or know another one by its name.
    NoTopic,
    /// The brokers refuse.
    Refused(RDKafkaErrorCode),
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor")
            .field("partition", &self.partition)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Cursor {
    /// A new consumer that begins at `from`.
    pub(crate) fn open(
        options: &Options,
        topic: &Topic,
        shard: Shard,
        from: u64,
        floor: Timestamp,
    ) -> Result<Self, OpenError> {
        let config = client::consuming(options);
        let context = Context::new(&topic.shared);
        let mut consumer: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(OpenError::Client)?;
        let arrived = Arc::new(Notify::new());
        let wake = Arc::clone(&arrived);
        consumer.set_nonempty_callback(move || wake.notify_one());
        let cursor = Self {
            consumer: Some(consumer),
            topic: Arc::clone(&topic.name),
            ids: Arc::clone(&topic.shared.ids),
            partition: i32::try_from(shard.0).unwrap_or(i32::MAX),
            next: from,
            floor,
            fetched: VecDeque::new(),
            fetched_to: from,
            hole: None,
            stopped: None,
            arrived,
        };
        cursor.assign(from).map_err(OpenError::Client)?;
        Ok(cursor)
    }

    /// The position that the next record is expected to have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The newest time of the log that was handed out.
    pub(crate) fn floor(&self) -> Timestamp {
        self.floor
    }

    /// Whether a record is there to be handed out.
    pub(crate) fn has_some(&self) -> bool {
        !self.fetched.is_empty()
    }

    /// Takes what has arrived, until its bytes pass `bytes_max`.
    pub(crate) fn fetch(&mut self, bytes_max: usize) -> Result<(), Stop> {
        let Some(consumer) = self.consumer.take() else {
            return Ok(());
        };
        if self.stopped.is_none() {
            self.stopped = self.fetch_from(&consumer, bytes_max).err();
        }
        self.consumer = Some(consumer);
        if self.ids.check().is_err() {
            return Err(Stop::NoTopic);
        }
        match self.stopped {
            // What came before is handed out first.
            Some(stop) if self.fetched.is_empty() => Err(stop),
            _ => Ok(()),
        }
    }

    fn fetch_from(
        &mut self,
        consumer: &BaseConsumer<Context>,
        bytes_max: usize,
    ) -> Result<(), Stop> {
        let mut bytes: usize = self.fetched.iter().map(|record| record.bytes.len()).sum();
        let mut empty = 0;
        while (self.fetched.is_empty() || bytes <= bytes_max) && empty < EMPTY_ANSWERS {
            match consumer.poll(Duration::ZERO) {
                None => empty += 1,
                Some(Ok(message)) => {
                    empty = 0;
                    match self.place(&message) {
                        Place::Expected => {}
                        Place::Before => continue,
                        Place::Beyond => {
                            self.assign_with(consumer, self.fetched_to)
                                .map_err(|_| Stop::OutOfRange)?;
                            continue;
                        }
                    }
                    let record = self.record(&message);
                    bytes += record.bytes.len();
                    self.fetched_to = record.position.0 + 1;
                    self.fetched.push_back(record);
                }
                Some(Err(error)) => {
                    empty = 0;
                    if let Some(stop) = stop(&error) {
                        return Err(stop);
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands out what was taken, until the bytes pass `bytes_max`.
    pub(crate) fn hand_out(&mut self, bytes_max: usize) -> Vec<LogRecord> {
        let mut bytes = 0;
        let mut records = Vec::with_capacity(self.fetched.len());
        while bytes <= bytes_max {
            let Some(record) = self.fetched.pop_front() else {
                break;
            };
            bytes += record.bytes.len();
            self.next = record.position.0 + 1;
            self.floor = record.log_ts;
            records.push(record);
        }
        records
    }

    /// Positions of a topic are dense unless somebody wrote transactions to it, or dropped records from its middle.
    /// What looks like a hole may as well be what remains of a fetch from another place; only a hole that is there a
    /// second time is one.
    fn place(&mut self, message: &BorrowedMessage<'_>) -> Place {
        let position = u64::try_from(message.offset()).unwrap_or(0);
        if position < self.fetched_to {
            Place::Before
        } else if position == self.fetched_to {
            Place::Expected
        } else if self.hole == Some(self.fetched_to) {
            tracing::warn!(
                topic = &*self.topic,
                partition = self.partition,
                first = self.fetched_to,
                next = position,
                "positions without records: somebody else writes to this topic, or has dropped records from it"
            );
            Place::Expected
        } else {
            self.hole = Some(self.fetched_to);
            Place::Beyond
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> LogRecord {
        let millis = match message.timestamp() {
            BrokerTimestamp::LogAppendTime(millis) | BrokerTimestamp::CreateTime(millis) => millis,
            BrokerTimestamp::NotAvailable => 0,
        };
        let ts = Timestamp::from_micros(millis.saturating_mul(1000));
        // A new leader's clock may be behind that of the old one.
        let floor = self.fetched.back().map_or(self.floor, |last| last.log_ts);
        LogRecord {
            position: Position(u64::try_from(message.offset()).unwrap_or(0)),
            log_ts: ts.max(floor),
            bytes: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }

    fn assign(&self, from: u64) -> Result<(), KafkaError> {
        match &self.consumer {
            Some(consumer) => self.assign_with(consumer, from),
            None => Ok(()),
        }
    }

    fn assign_with(&self, consumer: &BaseConsumer<Context>, from: u64) -> Result<(), KafkaError> {
        let mut assignment = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        assignment.add_partition_offset(&self.topic, self.partition, offset)?;
        consumer.assign(&assignment)
    }
}

enum Place {
    Expected,
    Before,
    Beyond,
}

/// What an error of a consumer means; nothing when librdkafka goes on by itself.
fn stop(error: &KafkaError) -> Option<Stop> {
    let code = error.rdkafka_error_code()?;
    match code {
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            Some(Stop::OutOfRange)
        }
        RDKafkaErrorCode::LogTruncation => Some(Stop::Truncated),
        RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage => Some(Stop::Corrupt),
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownPartition => Some(Stop::NoTopic),
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::Fatal => {
            Some(Stop::Refused(code))
        }
        _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Some(Stop::Refused(code)),
        _ => None,
    }
}

impl Drop for Cursor {
    /// Ending a consumer takes some round trips, which nobody has to wait for.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let ending = thread::Builder::new().name("kafka-consumer-end".to_owned());
        if let Err(error) = ending.spawn(move || drop(consumer)) {
            tracing::warn!(%error, "no thread to end a consumer with");
        }
    }
}
