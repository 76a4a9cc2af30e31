//! The reading end: nothing but positions, no consumer that a server could lose, skip or stall.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, RawMessageErrorKind, Stream};
use async_trait::async_trait;
use hoop_schema::{Class, Shard, SourceId, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connect;
use super::error::{OpenError, ReadFailure};
use super::fetch::Fetcher;
use super::options::Options;
use super::stream::{self, Names};
use crate::log::{Bounds, EventReader, LogRecord, Position, ReadError};

/// How often a reader at the end looks for more: soon at first, since records come in bursts, then at ease.
const POLL_MIN: Duration = Duration::from_millis(10);
const POLL_MAX: Duration = Duration::from_millis(250);

/// The most bytes of one read, whatever is asked for.
const READ_BYTES_MAX: usize = 16 << 20;

/// How often the hint of a shard is moved: it costs two requests.
const HINT_INTERVAL: Duration = Duration::from_secs(1);

/// The reader of one class's log.
#[derive(Debug)]
pub struct Reader {
    class: Class,
    shards: Vec<ShardState>,
    source: SourceId,
    names: Names,
    context: Context,
    stream: Stream<()>,
    fetcher: Fetcher,
}

/// What a reader remembers of a shard. Nothing that it needs: a new reader does without.
#[derive(Debug)]
struct ShardState {
    subjects: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last record that was read, and its time: a later one has no earlier time, whoever was the leader.
    last: Option<(Position, Timestamp)>,
    /// No record of this shard is in here: from the first, up to and without the second.
    empty: (u64, u64),
    hinted: Option<Instant>,
}

impl Reader {
    /// Connects, finds or creates the stream of `class`, and checks it.
    ///
    /// # Errors
    /// When no server lets us in, an option cannot work, or the server or the stream is not fit for an event log; the
    /// error says what to do.
    pub async fn open(class: Class, options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let names = Names::new(&options.cluster, &class);
        let client = connect::lasting(&options).await?;
        let source = stream::open(&client, &names, &options).await?;
        Self::over(class, &options, names, client, source).await
    }

    /// Connects to the stream of `class` as it is, for somebody who only looks: nothing is created or changed, and whether
    /// its settings could lose events is not looked at. The number of shards is what the stream says, whatever the
    /// options say.
    ///
    /// # Errors
    /// When no server lets us in, an option cannot work, or there is no such stream or none of ours.
    pub async fn open_to_look(class: Class, options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let names = Names::new(&options.cluster, &class);
        let client = connect::lasting(&options).await?;
        let (source, shards) = stream::find(&client, &names, &options).await?;
        let options = Options { shards, ..options };
        Self::over(class, &options, names, client, source).await
    }

    async fn over(
        class: Class,
        options: &Options,
        names: Names,
        client: Client,
        source: SourceId,
    ) -> Result<Self, OpenError> {
        let context = stream::context(client.clone(), options);
        let stream = context.get_stream_no_info(&*names.stream).await;
        let stream = stream.map_err(|error| OpenError::Request {
            what: "name",
            stream: names.stream.to_string(),
            source: error.into(),
        })?;
        let shard = |shard| ShardState {
            subjects: names.of_shard(Shard(shard)),
            known: Mutex::default(),
        };
        Ok(Self {
            shards: (0..options.shards.get()).map(shard).collect(),
            class,
            source,
            context,
            stream,
            fetcher: Fetcher {
                client,
                stream: Arc::clone(&names.stream),
                timeout: options.request_timeout,
            },
            names,
        })
    }

    fn shard(&self, shard: Shard) -> Result<&ShardState, ReadError> {
        self.shards
            .get(shard.0 as usize)
            .ok_or_else(|| unavailable(ReadFailure::NoSuchShard(shard)))
    }

    fn failed(&self, source: impl Into<crate::log::Source>) -> ReadError {
        unavailable(ReadFailure::Request {
            stream: Arc::clone(&self.names.stream),
            source: source.into(),
        })
    }

    /// The state of the stream by its leader, if it is still the same stream.
    async fn info(&self) -> Result<Info, ReadError> {
        let info = self.stream.get_info().await.map_err(|e| self.failed(e))?;
        let found = stream::source_of(&info.config);
        if found == Some(self.source) {
            return Ok(info);
        }
        let found = found.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        Err(unavailable(ReadFailure::Replaced {
            stream: Arc::clone(&self.names.stream),
            found,
            wanted: self.source,
        }))
    }

    /// The first record of some subjects from a position on, by the stream's leader.
    async fn next(&self, subjects: &str, from: u64) -> Result<Option<StreamMessage>, ReadError> {
        let found = self
            .stream
            .get_first_raw_message_by_subject(subjects, from)
            .await;
        match found {
            Ok(message) => Ok(Some(message)),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// All records from `from` on until their bytes pass `bytes_max`, as far as one replica knows them.
    async fn fetch(
        &self,
        subjects: &str,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let (mut records, mut bytes, mut from) = (Vec::new(), 0, from);
        loop {
            let batch = self.fetcher.batch(subjects, from, bytes_max - bytes).await;
            let batch = batch.map_err(unavailable)?;
            let Some(last) = batch.records.last() else {
                return Ok(records);
            };
            from = last.position.0 + 1;
            for record in batch.records {
                bytes += record.bytes.len();
                records.push(record);
                if bytes > bytes_max {
                    return Ok(records);
                }
            }
            if !batch.has_more {
                return Ok(records);
            }
        }
    }
}

impl ShardState {
    /// Fails if the stream has dropped records at or after `from`, or may have.
    fn check_held(&self, from: u64, first: u64) -> Result<(), ReadError> {
        let (empty_from, empty_to) = self.known.lock().empty;
        let nothing_was_there = empty_from <= from && first <= empty_to;
        if first <= from || nothing_was_there {
            return Ok(());
        }
        Err(ReadError::Expired {
            wanted: Position(from),
            first: Position(first),
        })
    }

    /// Remembers that the shard has no record from `from` up to the stream's `last`.
    fn is_empty(&self, from: u64, last: u64) {
        let empty = &mut self.known.lock().empty;
        if empty.0 > from || empty.1 < from {
            empty.0 = from;
        }
        empty.1 = last + 1;
    }

    /// Leaders' clocks differ, and time must not go back.
    fn settle_times(&self, records: &mut [LogRecord]) {
        let known = &mut self.known.lock().last;
        for record in records {
            if let Some((position, ts)) = *known
                && position < record.position
            {
                record.log_ts = record.log_ts.max(ts);
            }
            *known = Some((record.position, record.log_ts));
        }
    }
}

#[async_trait]
impl EventReader for Reader {
    fn class(&self) -> &Class {
        &self.class
    }

    fn shards(&self) -> u32 {
        u32::try_from(self.shards.len()).expect("made from a u32")
    }

    fn source(&self) -> SourceId {
        self.source
    }

    async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
        let subjects = &self.shard(shard)?.subjects;
        let end = Position(self.info().await?.state.last_sequence + 1);
        let Some(first) = self.next(subjects, 1).await? else {
            return Ok(Bounds {
                first: end,
                next: end,
            });
        };
        let first = Position(first.sequence);
        match self.stream.get_last_raw_message_by_subject(subjects).await {
            Ok(last) => Ok(Bounds {
                first,
                next: Position(last.sequence + 1),
            }),
            // They have all expired in between.
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                let next = Position(end.0.max(first.0 + 1));
                Ok(Bounds { first: next, next })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn read(
        &self,
        shard: Shard,
        from: Position,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let shard = self.shard(shard)?;
        // Position 0 is where a reader starts that has read nothing: the first sequence is 1.
        let from = from.0.max(1);
        let deadline = Instant::now() + wait;
        let mut poll = POLL_MIN;
        loop {
            let mut records = self.fetch(&shard.subjects, from, bytes_max).await?;
            // Asked after the records: what the stream holds now, it held then.
            let mut state = self.info().await?.state;
            shard.check_held(from, state.first_sequence)?;
            if records.is_empty() && state.last_sequence >= from {
                // The replica that was asked may lag behind; the leader's word counts.
                match self.next(&shard.subjects, from).await? {
                    Some(message) => {
                        records.push(record(message));
                        state = self.info().await?.state;
                        shard.check_held(from, state.first_sequence)?;
                    }
                    None => shard.is_empty(from, state.last_sequence),
                }
            }
            if !records.is_empty() {
                shard.settle_times(&mut records);
                return Ok(records);
            }
            let end = state.last_sequence;
            while state.last_sequence == end {
                let now = Instant::now();
                if now >= deadline {
                    return Ok(Vec::new());
                }
                tokio::time::sleep_until((now + poll).min(deadline)).await;
                poll = (poll * 2).min(POLL_MAX);
                state = self.info().await?.state;
            }
        }
    }

    async fn committed(&self, shard: Shard, position: Position) {
        let Ok(state) = self.shard(shard) else { return };
        {
            let hinted = &mut state.known.lock().hinted;
            if hinted.is_some_and(|at| at.elapsed() < HINT_INTERVAL) {
                return;
            }
            *hinted = Some(Instant::now());
        }
        if let Err(error) = self.hint(shard, &state.subjects, position).await {
            tracing::debug!(class = %self.class, %shard, error, "cannot show how far the recorder is");
        }
    }
}

impl Reader {
    /// Shows in the usual tools how far a shard is recorded: a durable consumer that nobody reads from and that begins
    /// there, so that its unprocessed messages are those that are not recorded yet.
    async fn hint(&self, shard: Shard, subjects: &str, position: Position) -> Result<(), String> {
        let name = format!("hoop-recorder-{shard}");
        // A consumer cannot be moved. It may not be there yet.
        self.stream.delete_consumer(&name).await.ok();
        let consumer = pull::Config {
            durable_name: Some(name),
            description: Some("how far this shard is recorded; nothing depends on it".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: position.0.max(1),
            },
            ack_policy: AckPolicy::None,
            filter_subject: subjects.to_owned(),
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let stream = &*self.names.stream;
        let created = self
            .context
            .create_consumer_on_stream(consumer, stream)
            .await;
        created.map(drop).map_err(|error| error.to_string())
    }
}

fn record(message: StreamMessage) -> LogRecord {
    let nanos = message.time.unix_timestamp_nanos();
    LogRecord {
        position: Position(message.sequence),
        log_ts: Timestamp::from_micros(i64::try_from(nanos.div_euclid(1000)).unwrap_or(i64::MAX)),
        bytes: message.payload,
    }
}

fn unavailable(failure: ReadFailure) -> ReadError {
    ReadError::Unavailable(failure.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> ShardState {
        ShardState {
            subjects: String::new(),
            known: Mutex::default(),
        }
    }

    #[test]
    fn a_position_is_expired_unless_nothing_was_there() {
        let shard = shard();
        shard.check_held(5, 5).unwrap();
        assert!(shard.check_held(5, 6).is_err());
        shard.is_empty(5, 9);
        shard.check_held(5, 10).unwrap();
        assert!(shard.check_held(5, 11).is_err(), "10 was not seen");
        assert!(shard.check_held(4, 10).is_err(), "4 was not seen");
        shard.is_empty(7, 20);
        shard.check_held(5, 21).unwrap();
        shard.is_empty(30, 40);
        assert!(
            shard.check_held(5, 21).is_err(),
            "what was in between is not known"
        );
        shard.check_held(30, 41).unwrap();
    }

    #[test]
    fn time_does_not_go_back_for_a_reader() {
        let record = |position, micros| LogRecord {
            position: Position(position),
            log_ts: Timestamp::from_micros(micros),
            bytes: bytes::Bytes::new(),
        };
        let shard = shard();
        let mut records = [record(1, 10), record(2, 8), record(5, 12)];
        shard.settle_times(&mut records);
        let times = |records: &[LogRecord]| -> Vec<_> {
            records.iter().map(|r| r.log_ts.as_micros()).collect()
        };
        assert_eq!(times(&records), [10, 10, 12]);
        let mut again = [record(2, 8), record(5, 7), record(6, 13)];
        shard.settle_times(&mut again);
        assert_eq!(
            times(&again),
            [8, 8, 13],
            "a reader that goes back begins anew"
        );
    }
}
