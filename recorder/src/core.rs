//! The recorder of one shard of one class, as a pure state machine: records and the time go in, actions come out.
//!
//! The same records in the same order always give the same rows. Only the shell reads, puts and sleeps.

use bytes::Bytes;
use hoop_schema::bytes::decode;
use hoop_schema::evidence::{Footer, PreviousFile, SessionFileName};
use hoop_schema::kinds::integrity::{Gap, GapCause, GapState};
use hoop_schema::kinds::recorder::RecorderStarted;
use hoop_schema::own::OwnEvents;
use hoop_schema::row::Row;
use hoop_schema::{Class, DAY_MICROS, Kind, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};

use crate::batch::{Batch, ROWS_MAX, Rows};
use crate::config::{Config, FlushLimits};
use crate::holes::{Seen, Sequences};

mod accept;
mod clocks;

pub(crate) use accept::read_row;
pub use clocks::ClockDifference;
use clocks::Clocks;

/// What the shell has to do.
#[derive(Debug)]
pub enum Action {
    /// Commit this as a session file, then say [`Core::committed`] or [`Core::lost`] before anything else.
    Commit(Box<Batch>),
    /// Tell the core of another shard how far a producer got there.
    Tail(Tail),
}

/// A heartbeat's word on another shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Class of that shard.
    pub class: Class,
    /// That shard.
    pub shard: Shard,
    /// Whose sequence.
    pub producer_id: ProducerId,
    /// In which epoch.
    pub epoch: u64,
    /// How far it goes.
    pub seq: u64,
    /// When the log took the heartbeat.
    pub at: Timestamp,
}

/// Counts since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records taken, of every sort.
    pub records: u64,
    /// Records left out as copies.
    pub copies: u64,
    /// Gaps declared.
    pub gaps: u64,
    /// Records that are no events.
    pub unparsed: u64,
}

/// The recorder of one shard.
#[derive(Debug)]
pub struct Core {
    source: SourceId,
    class: Class,
    shard: Shard,
    flush: FlushLimits,
    sequences: Sequences,
    own: OwnEvents,
    /// As `own` was at the last commit: a batch that lost takes its numbers back.
    own_committed: OwnEvents,
    previous: Option<PreviousFile>,
    /// UTC day of the file before, counted from the Unix epoch.
    day_min: i64,
    /// First position that is not in a file that was handed out.
    covered: u64,
    /// Next position to read.
    next: u64,
    buffer: Buffer,
    /// Own events that wait for a record, since a file begins with one.
    waiting: Vec<(Timestamp, Kind)>,
    /// The log's clock: time of the last record, or now when everything is read.
    log_now: Timestamp,
    counts: Counts,
    clocks: Clocks,
}

#[derive(Debug, Default)]
struct Buffer {
    rows: Rows,
    recorder_rows: u64,
    copies: u64,
    /// UTC day of the first record's log time, counted from the Unix epoch.
    day: Option<i64>,
    /// When the first record came, by the recorder's clock.
    since: Timestamp,
    /// Whether there is anything but heartbeats.
    busy: bool,
}

impl Core {
    /// A core that goes on after `newest`, the newest committed file of the shard, or at the beginning.
    pub fn new(
        config: &Config,
        epoch: u64,
        source: SourceId,
        class: &Class,
        shard: Shard,
        newest: Option<(Footer, PreviousFile)>,
    ) -> Self {
        let (footer, previous) = newest.unzip();
        let position = footer.as_ref().map_or(0, |f| f.pos_to);
        let own = OwnEvents::new(&config.cluster, &config.recorder_id, epoch, class, shard);
        let started = started(source, class, shard, position);
        Self {
            source,
            class: class.clone(),
            shard,
            flush: config.flush,
            sequences: Sequences::new(
                footer.map(|f| f.producers).unwrap_or_default(),
                config.holes,
            ),
            own_committed: own.clone(),
            own,
            day_min: previous.as_ref().map_or(i64::MIN, day_of),
            previous,
            covered: position,
            next: position,
            buffer: Buffer::default(),
            waiting: vec![(
                Timestamp::from_micros(i64::try_from(epoch).unwrap_or_default()),
                started,
            )],
            log_now: Timestamp::default(),
            counts: Counts::default(),
            clocks: Clocks::default(),
        }
    }

    /// The position to read from.
    pub fn position(&self) -> Position {
        Position(self.next)
    }

    /// The first position that is in no file that was handed out.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// The newest committed file, for the next one to name.
    pub fn previous(&self) -> Option<&PreviousFile> {
        self.previous.as_ref()
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes of events that wait for a file.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.rows.bytes_total()
    }

    /// When the oldest record that waits for a file came, by the recorder's clock.
    pub fn waiting_since(&self) -> Option<Timestamp> {
        self.buffer.day.map(|_| self.buffer.since)
    }

    /// Holes that are not declared yet.
    pub fn open_holes(&self) -> usize {
        self.sequences.open()
    }

    /// The largest differences between a producer's clock and the log's since this was asked last: ahead, and behind.
    pub fn take_clock_differences(&mut self) -> Vec<ClockDifference> {
        self.clocks.take()
    }

    /// Takes the next record of the log.
    pub fn apply(&mut self, record: LogRecord, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        if record.position.0 < self.next {
            return actions;
        }
        // A record of an earlier day than the file before it comes from a log whose clock went back, or from one that was
        // recorded after its day was sealed: days never go back.
        let day_min = self.buffer.day.unwrap_or(self.day_min);
        let day = record.log_ts.day_number().max(day_min);
        if self.buffer.day.is_some_and(|of_buffer| of_buffer != day) {
            actions.extend(self.seal());
        }
        self.log_now = self.log_now.max(record.log_ts);
        self.next = record.position.0.saturating_add(1);
        self.counts.records += 1;
        if self.buffer.day.is_none() {
            self.buffer.day = Some(day);
            self.buffer.since = now;
            for (found, kind) in std::mem::take(&mut self.waiting) {
                self.push_own(found, &kind, None, record.log_ts);
            }
        }
        self.accept(record, now, &mut actions);
        self.declare_gaps(now);
        if self.is_full() {
            actions.extend(self.seal());
        }
        actions
    }

    /// Lets time pass. `caught_up` when the log holds nothing further at the moment.
    pub fn tick(&mut self, now: Timestamp, caught_up: bool) -> Vec<Action> {
        if caught_up {
            self.log_now = self.log_now.max(now);
        }
        self.declare_gaps(now);
        // A clock that went back must not make a file wait for it to come forward again.
        self.buffer.since = self.buffer.since.min(now);
        let age = if self.buffer.busy {
            self.flush.age
        } else {
            self.flush.idle_age
        };
        let waited = now
            .as_micros()
            .saturating_sub(self.buffer.since.as_micros());
        let old = waited >= i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let day_over = caught_up && self.buffer.day.is_some_and(|day| day < now.day_number());
        if old || day_over {
            self.seal().into_iter().collect()
        } else {
            Vec::new()
        }
    }

    /// Ends the file now, whatever it holds. `None` when there is no record to commit.
    pub fn flush(&mut self) -> Option<Action> {
        self.seal()
    }

    /// The batch handed out last is committed as this file.
    pub fn committed(&mut self, file: PreviousFile) {
        self.day_min = day_of(&file);
        self.previous = Some(file);
        self.own_committed = self.own.clone();
    }

    /// Another recorder committed a file in the place of the batch handed out last. Whatever was buffered is dropped,
    /// since that file or the log has it, and work goes on after the file.
    pub fn lost(&mut self, footer: Footer, file: PreviousFile, config: &Config) {
        self.sequences = Sequences::new(footer.producers, config.holes);
        self.own = self.own_committed.clone();
        self.day_min = day_of(&file);
        self.previous = Some(file);
        self.covered = footer.pos_to;
        self.next = footer.pos_to;
        self.buffer = Buffer::default();
        self.waiting.clear();
        if self.own.is_empty() {
            self.waiting.push((
                self.log_now,
                started(self.source, &self.class, self.shard, self.next),
            ));
        }
    }

    /// The log dropped everything before `first` before it was read. That is a loss, and it is recorded: the next file
    /// covers those positions without rows, and producers' holes over them become gaps at once.
    pub fn expired(&mut self, first: Position) {
        if first.0 > self.next {
            self.next = first.0;
            self.sequences.log_lost_records();
        }
    }

    /// Takes a heartbeat's word from another shard.
    pub fn tail(&mut self, tail: &Tail) {
        self.sequences
            .tail(&tail.producer_id, tail.epoch, tail.seq, self.next, tail.at);
    }

    fn is_full(&self) -> bool {
        self.buffer.rows.bytes_total() >= self.flush.bytes || self.buffer.rows.len() >= ROWS_MAX
    }

    /// Hands the buffer out as a batch, if it holds a record.
    fn seal(&mut self) -> Option<Action> {
        let day = self.buffer.day?;
        self.sequences.forget(self.log_now);
        let buffer = std::mem::take(&mut self.buffer);
        let batch = Batch {
            name: SessionFileName {
                class: self.class.clone(),
                day: Timestamp::from_micros(day * DAY_MICROS).day(),
                shard: self.shard,
                source: self.source,
                pos_from: self.covered,
            },
            pos_to: self.next,
            recorder_rows: buffer.recorder_rows,
            copies: buffer.copies,
            producers: self.sequences.states(),
            rows: buffer.rows,
        };
        self.covered = self.next;
        Some(Action::Commit(Box::new(batch)))
    }

    fn declare_gaps(&mut self, now: Timestamp) {
        for hole in self.sequences.due(self.next, self.log_now) {
            self.add_gap(
                now,
                GapState::Open,
                &hole.producer_id,
                hole.epoch,
                (hole.first, hole.last),
                hole.cause,
            );
        }
    }

    fn add_gap(
        &mut self,
        now: Timestamp,
        state: GapState,
        id: &ProducerId,
        epoch: u64,
        range: (u64, u64),
        cause: GapCause,
    ) {
        self.counts.gaps += u64::from(state == GapState::Open);
        let gap = Gap {
            state,
            of_producer: id.clone(),
            of_epoch: epoch,
            of_class: self.class.clone(),
            of_shard: self.shard,
            first_seq: range.0,
            last_seq: range.1,
            cause,
            lost: Vec::new(),
        };
        if self.buffer.day.is_some() {
            let log_ts = self.log_ts_of_buffer();
            self.push_own(now, &gap.into(), None, log_ts);
            self.buffer.busy = true;
        } else {
            self.waiting.push((now, gap.into()));
        }
    }

    /// The log's clock, held within the day of the buffer, since a file holds one day.
    fn log_ts_of_buffer(&self) -> Timestamp {
        let last = self
            .buffer
            .day
            .map_or(i64::MAX, |day| (day + 1).saturating_mul(DAY_MICROS) - 1);
        Timestamp::from_micros(self.log_now.as_micros().min(last))
    }

    /// Adds an event of the recorder's own.
    fn push_own(&mut self, now: Timestamp, kind: &Kind, position: Option<u64>, log_ts: Timestamp) {
        let bytes = Bytes::from(self.own.make(now, kind));
        let row = Row::read(&bytes).expect("the recorder's own events are events");
        self.buffer.recorder_rows += u64::from(position.is_none());
        self.buffer.rows.push(&row, bytes.clone(), position, log_ts);
    }
}

/// The day that a file's name says, counted from the Unix epoch.
fn day_of(file: &PreviousFile) -> i64 {
    let name: Option<SessionFileName> = file.key.parse().ok();
    let day = name.and_then(|name| Timestamp::beginning_of(&name.day));
    day.map_or(i64::MIN, Timestamp::day_number)
}

fn started(source: SourceId, class: &Class, shard: Shard, position: u64) -> Kind {
    RecorderStarted {
        source,
        of_class: class.clone(),
        of_shard: shard,
        position,
    }
    .into()
}

#[cfg(test)]
mod tests;
