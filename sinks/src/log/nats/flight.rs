//! Publishes under way, and the order of each shard: no I/O, no clock.
//!
//! A **lane** is what one writer has under way in one shard, in the order of the calls. While all goes well it
//! *flows*: publishes follow each other without waiting, since one connection and one leader keep their order.
//! When the fate of one is not known, or the broker cannot take it at the moment, the lane *settles*: nothing is sent
//! until every publish of the lane that is in the air is answered or given up. Then it is known after which event
//! the lane has to go on:
//! - a failed event **before** one that was acknowledged cannot take its place any more; its caller is told (not
//!   written, or maybe written), and whether and when it is sent again is theirs to say;
//! - the failed events **after** the last acknowledged one are sent again under the same ids, the first of them alone
//!   until it is acknowledged (*careful*), so that they cannot overtake each other either.
//!
//! An answer stays away when the lane has heard nothing for the time that an acknowledgement may take, or has heard of
//! a later event: a broker that is slow, and answers one after the other, is not taken for one that lost something.
//!
//! An event that was not sent before its time is up was not written; one that was sent and never answered may have
//! been.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What bounds the publishes under way, and how long they may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes in the air at once; a single event may pass it when it is alone.
    pub(crate) bytes_max: usize,
    /// Publishes in the air at once.
    pub(crate) publishes_max: usize,
    /// How long an acknowledgement may take.
    pub(crate) ack_timeout: Duration,
    /// How long an event is kept and sent again before its caller is told.
    pub(crate) append_timeout: Duration,
    /// The first pause of a lane that failed; doubles up to `BACKOFF_MAX`.
    pub(crate) backoff: Duration,
}

/// The longest pause between attempts: an election takes one to five seconds, and should not cost one more.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Names one attempt at one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) shard: u32,
    /// Number of the event in its lane.
    pub(crate) number: u64,
    pub(crate) attempt: u32,
}

/// What the broker said of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer<R> {
    /// It is there, from this attempt or an earlier one.
    Written(u64),
    /// Not written, and sending it again at once is of no use.
    Refused(R),
    /// Not written: the broker cannot take anything at the moment.
    Busy,
    /// It may have been written.
    Unclear,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate<R> {
    /// Durable, at this sequence.
    Written(u64),
    /// Not written, for this reason.
    Refused(R),
    /// Not written: the broker did not take it in time.
    Late,
    /// It may have been written.
    Unknown,
}

/// All lanes. `E` is an event, `R` a reason for refusing one.
#[derive(Debug)]
pub(crate) struct Flight<E, R> {
    limits: Limits,
    lanes: Vec<Lane<E>>,
    /// The lane that is sent from, until it has nothing more.
    cursor: usize,
    bytes: usize,
    publishes: usize,
    resolved: VecDeque<(E, Fate<R>)>,
}

#[derive(Debug)]
struct Lane<E> {
    /// Number of the first of `entries`, which has no fate yet.
    first: u64,
    entries: VecDeque<Entry<E>>,
    /// Index of the first entry that was not sent since the lane last went on.
    next: usize,
    in_the_air: usize,
    /// When an answer last came.
    heard: Option<Instant>,
    /// Behind the last number that was answered since the lane last settled.
    answered_to: u64,
    mode: Mode,
}

#[derive(Debug)]
struct Entry<E> {
    /// Taken when it has its fate.
    event: Option<E>,
    cost: usize,
    taken: Instant,
    attempt: u32,
    /// Whether an attempt may have been written.
    unclear: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, for the first time or again.
    Waits,
    InTheAir {
        since: Instant,
    },
    /// The last attempt failed.
    Failed,
    /// It is in the log.
    Written,
    /// It has another fate.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Flowing,
    Settling {
        backoff: Duration,
    },
    Careful {
        not_before: Instant,
        backoff: Duration,
    },
}

impl<E, R> Flight<E, R> {
    pub(crate) fn new(shards: u32, limits: Limits) -> Self {
        let lane = |_| Lane {
            first: 0,
            entries: VecDeque::new(),
            next: 0,
            in_the_air: 0,
            heard: None,
            answered_to: 0,
            mode: Mode::Flowing,
        };
        Self {
            limits,
            lanes: (0..shards).map(lane).collect(),
            cursor: 0,
            bytes: 0,
            publishes: 0,
            resolved: VecDeque::new(),
        }
    }

    /// Takes an event that is to be the next of its shard, which must exist.
    pub(crate) fn push(&mut self, shard: u32, event: E, cost: usize, now: Instant) {
        self.lanes[shard as usize].entries.push_back(Entry {
            event: Some(event),
            cost,
            taken: now,
            attempt: 0,
            unclear: false,
            state: State::Waits,
        });
    }

    /// The next event to send, which counts as sent from now on.
    pub(crate) fn next_send(&mut self, now: Instant) -> Option<Ticket> {
        if self.publishes >= self.limits.publishes_max {
            return None;
        }
        for _ in 0..self.lanes.len() {
            let lane = &mut self.lanes[self.cursor];
            if let Some(cost) = lane.sendable(now) {
                if self.publishes > 0 && self.bytes + cost > self.limits.bytes_max {
                    return None;
                }
                self.bytes += cost;
                self.publishes += 1;
                let (number, attempt) = lane.send(now);
                let shard = u32::try_from(self.cursor).expect("made from a u32");
                return Some(Ticket {
                    shard,
                    number,
                    attempt,
                });
            }
            self.cursor = (self.cursor + 1) % self.lanes.len();
        }
        None
    }

    /// The event of a ticket that was just given out.
    pub(crate) fn event(&self, ticket: Ticket) -> Option<&E> {
        let lane = self.lanes.get(ticket.shard as usize)?;
        lane.entry(ticket.number)?.event.as_ref()
    }

    /// The broker has answered an attempt, in time or not.
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: Answer<R>, now: Instant) {
        let Some(lane) = self.lanes.get_mut(ticket.shard as usize) else {
            return;
        };
        let Some(entry) = lane.entry_mut(ticket.number) else {
            return;
        };
        if matches!(entry.state, State::Written | State::Gone) {
            return;
        }
        let in_the_air = matches!(entry.state, State::InTheAir { .. });
        // A late acknowledgement of any attempt is the truth; a late refusal says nothing about the later attempt.
        let is_current = in_the_air && entry.attempt == ticket.attempt;
        if !is_current && !matches!(answer, Answer::Written(_)) {
            return;
        }
        if in_the_air {
            self.bytes -= entry.cost;
            self.publishes -= 1;
            lane.in_the_air -= 1;
        }
        lane.heard = Some(now);
        lane.answered_to = lane.answered_to.max(ticket.number + 1);
        let backoff = self.limits.backoff;
        match answer {
            Answer::Written(sequence) => {
                // Whatever comes before it in the lane has lost its place.
                if let Mode::Careful { backoff, .. } = lane.mode
                    && ticket.number > lane.first
                {
                    lane.mode = Mode::Settling { backoff };
                }
                self.resolved
                    .extend(lane.resolve(ticket.number, Fate::Written(sequence)));
                lane.is_well();
            }
            Answer::Refused(reason) => {
                // What an earlier attempt came to is not known by the refusal of this one.
                let unclear = lane.entry(ticket.number).is_some_and(|e| e.unclear);
                let fate = if unclear {
                    Fate::Unknown
                } else {
                    Fate::Refused(reason)
                };
                self.resolved.extend(lane.resolve(ticket.number, fate));
                lane.is_well();
            }
            Answer::Busy => lane.fail(ticket.number, false, backoff),
            Answer::Unclear => lane.fail(ticket.number, true, backoff),
        }
        self.settle(ticket.shard as usize, now);
    }

    /// The connection is gone, and with it every answer that was not here yet.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            self.give_up(index, None);
            self.settle(index, now);
        }
    }

    /// Time has passed. Says whether an acknowledgement is overdue.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let Limits {
            ack_timeout,
            append_timeout,
            ..
        } = self.limits;
        let mut overdue = false;
        for index in 0..self.lanes.len() {
            overdue |= self.give_up(index, Some((now, ack_timeout)));
            self.settle(index, now);
            let lane = &mut self.lanes[index];
            while let Some(entry) = lane.entries.front() {
                let is_late = now.duration_since(entry.taken) >= append_timeout;
                if !is_late || entry.state != State::Waits {
                    break;
                }
                let fate = if entry.unclear {
                    Fate::Unknown
                } else {
                    Fate::Late
                };
                self.resolved.extend(lane.resolve(lane.first, fate));
            }
        }
        overdue
    }

    /// An event that has its fate since the last call.
    pub(crate) fn next_resolved(&mut self) -> Option<(E, Fate<R>)> {
        self.resolved.pop_front()
    }

    /// Whether every event has its fate.
    pub(crate) fn is_empty(&self) -> bool {
        self.resolved.is_empty() && self.lanes.iter().all(|lane| lane.entries.is_empty())
    }

    /// Publishes in the air.
    pub(crate) fn publishes(&self) -> usize {
        self.publishes
    }

    /// Counts publishes in the air as failed: those that are overdue, or all. Says whether there was one.
    fn give_up(&mut self, index: usize, overdue: Option<(Instant, Duration)>) -> bool {
        let lane = &mut self.lanes[index];
        if lane.in_the_air == 0 {
            return false;
        }
        let mut any = false;
        for number in lane.first..lane.first + lane.entries.len() as u64 {
            let Some(entry) = lane.entry(number) else {
                continue;
            };
            let State::InTheAir { since } = entry.state else {
                continue;
            };
            if let Some((now, ack_timeout)) = overdue
                && !lane.is_overdue(number, since, now, ack_timeout)
            {
                // Those behind it were sent later.
                break;
            }
            any = true;
            self.bytes -= entry.cost;
            self.publishes -= 1;
            lane.in_the_air -= 1;
            lane.fail(number, true, self.limits.backoff);
        }
        any
    }

    /// Lets a lane go on whose publishes are all answered.
    fn settle(&mut self, index: usize, now: Instant) {
        let lane = &mut self.lanes[index];
        let Mode::Settling { backoff } = lane.mode else {
            return;
        };
        if lane.in_the_air > 0 {
            return;
        }
        let last_written = lane.entries.iter().rposition(|e| e.state == State::Written);
        for number in lane.first..lane.first + last_written.map_or(0, |last| last as u64) {
            let Some(entry) = lane.entry(number) else {
                continue;
            };
            if matches!(entry.state, State::Failed | State::Waits) {
                let fate = if entry.unclear {
                    Fate::Unknown
                } else {
                    Fate::Late
                };
                self.resolved.extend(lane.resolve(number, fate));
            }
        }
        lane.trim();
        for entry in &mut lane.entries {
            if entry.state == State::Failed {
                entry.state = State::Waits;
            }
        }
        lane.next = 0;
        lane.answered_to = lane.first;
        lane.mode = if lane.entries.is_empty() {
            Mode::Flowing
        } else {
            Mode::Careful {
                not_before: now + backoff,
                backoff,
            }
        };
    }
}

impl<E> Lane<E> {
    fn entry(&self, number: u64) -> Option<&Entry<E>> {
        let index = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry<E>> {
        let index = number.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }

    /// Whether the answer to a publish stays away, and does not only take its time.
    fn is_overdue(&self, number: u64, since: Instant, now: Instant, ack_timeout: Duration) -> bool {
        let is_over = |from: Instant| now.duration_since(from) >= ack_timeout;
        is_over(since) && (number < self.answered_to || self.heard.is_none_or(is_over))
    }

    /// What the entry costs that may be sent now, if one may.
    fn sendable(&mut self, now: Instant) -> Option<usize> {
        match self.mode {
            Mode::Flowing => {}
            Mode::Settling { .. } => return None,
            Mode::Careful { not_before, .. } => {
                if self.in_the_air > 0 || now < not_before {
                    return None;
                }
            }
        }
        while self.entries.get(self.next)?.state != State::Waits {
            self.next += 1;
        }
        Some(self.entries[self.next].cost)
    }

    /// Sends the entry that `sendable` has found.
    fn send(&mut self, now: Instant) -> (u64, u32) {
        let number = self.first + self.next as u64;
        let entry = &mut self.entries[self.next];
        entry.attempt += 1;
        entry.state = State::InTheAir { since: now };
        self.next += 1;
        self.in_the_air += 1;
        (number, entry.attempt)
    }

    /// The last attempt at an entry has failed: nothing may follow it until the lane is settled.
    fn fail(&mut self, number: u64, unclear: bool, first_backoff: Duration) {
        if let Some(entry) = self.entry_mut(number) {
            entry.unclear |= unclear;
            entry.state = State::Failed;
        }
        self.mode = match self.mode {
            Mode::Flowing => Mode::Settling {
                backoff: first_backoff,
            },
            settling @ Mode::Settling { .. } => settling,
            Mode::Careful { backoff, .. } => Mode::Settling {
                backoff: (backoff * 2).min(BACKOFF_MAX),
            },
        };
    }

    /// The broker has answered for good.
    fn is_well(&mut self) {
        if let Mode::Careful { .. } = self.mode {
            self.mode = Mode::Flowing;
        }
    }

    fn resolve<R>(&mut self, number: u64, fate: Fate<R>) -> Option<(E, Fate<R>)> {
        let entry = self.entry_mut(number)?;
        let event = entry.event.take()?;
        entry.state = match fate {
            Fate::Written(_) => State::Written,
            _ => State::Gone,
        };
        // While the lane settles, what was written says what may still be sent.
        if !matches!(self.mode, Mode::Settling { .. }) {
            self.trim();
        }
        Some((event, fate))
    }

    /// Forgets the entries at the front that have their fate.
    fn trim(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|e| matches!(e.state, State::Written | State::Gone))
        {
            self.entries.pop_front();
            self.first += 1;
            self.next = self.next.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
