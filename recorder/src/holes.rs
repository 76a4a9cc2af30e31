//! Producers' sequences in one shard: what is a copy, what is missing, and for how long that may last.
//!
//! A sequence is dense, so a number that is left out is a hole. A hole is held open for [`HoleLimits`], since a resend
//! may arrive late; then it is due, and a gap is declared. What arrives for a declared hole closes it.

use hoop_schema::evidence::{Hole, ProducerState};
use hoop_schema::kinds::integrity::GapCause;
use hoop_schema::{ProducerId, Timestamp};

use crate::config::HoleLimits;

/// Holes that are remembered per producer and epoch. When there are more, the two oldest become one, so that what
/// arrives late is at worst recorded twice, and never dropped.
const HOLES_MAX: usize = 1024;

/// Producers and epochs that are remembered per shard: a hundred gateways that restart every day for a month. The one
/// that was silent for longest is forgotten first.
const PRODUCERS_MAX: usize = 4096;

/// For how long a silent producer and epoch is remembered, in microseconds: 30 days. One that comes back after
/// that appears to have lost what came before; a heartbeat every minute keeps a living one from it.
const PRODUCER_MEMORY_MICROS: i64 = 30 * 24 * 3600 * 1_000_000;

/// What a sequence number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It continues its sequence, or fills a hole in time.
    New,
    /// It was here before.
    Copy,
    /// It fills a hole that was declared.
    Late,
}

/// A hole that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueHole {
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) cause: GapCause,
}

/// The sequences of one shard.
#[derive(Debug, Clone)]
pub(crate) struct Sequences {
    /// Sorted by producer and epoch.
    producers: Vec<Producer>,
    limits: HoleLimits,
    /// Place of the producer before: neighbours are of one producer more often than not.
    last: usize,
    /// Holes that are not declared.
    open: usize,
}

#[derive(Debug, Clone)]
struct Producer {
    state: ProducerState,
    /// Holes from here on were named by a heartbeat.
    tail_from: u64,
    /// The log lost records since this producer was last seen.
    after_loss: bool,
    /// Holes below this are owed to a loss of the log: nothing will fill them.
    expired_below: u64,
}

impl Sequences {
    /// The sequences as a footer left them.
    pub(crate) fn new(states: Vec<ProducerState>, limits: HoleLimits) -> Self {
        let producer = |state| Producer {
            state,
            tail_from: u64::MAX,
            after_loss: false,
            expired_below: 0,
        };
        let mut producers: Vec<Producer> = states.into_iter().map(producer).collect();
        producers.sort_by(|a, b| a.key().cmp(&b.key()));
        let open = producers
            .iter()
            .flat_map(|p| &p.state.holes)
            .filter(|h| !h.declared)
            .count();
        Self {
            producers,
            limits,
            last: 0,
            open,
        }
    }

    /// The producer's name if it is known, to share its memory.
    pub(crate) fn known(&self, id: &str, epoch: u64) -> Option<ProducerId> {
        let same = |p: &&Producer| p.key() == (id, epoch);
        let found = self.producers.get(self.last).filter(same).or_else(|| {
            let place = self
                .producers
                .binary_search_by(|p| p.key().cmp(&(id, epoch)))
                .ok()?;
            self.producers.get(place)
        });
        found.map(|p| p.state.producer_id.clone())
    }

    /// Takes a sequence number that was read at `position`. The producer is known to be a valid name.
    pub(crate) fn see(
        &mut self,
        id: &ProducerId,
        epoch: u64,
        seq: u64,
        position: u64,
        at: Timestamp,
    ) -> Seen {
        let place = self.place_of(id, epoch, at);
        let producer = &mut self.producers[place];
        producer.state.last_seen = producer.state.last_seen.max(at);
        let last = producer.state.last_seq;
        if seq <= last {
            return self.fill(place, seq);
        }
        if seq > last + 1 {
            self.open_hole(place, last + 1, seq - 1, position, at);
        }
        self.producers[place].reach(seq);
        Seen::New
    }

    /// Takes a heartbeat's word that the producer got as far as `seq`.
    pub(crate) fn tail(
        &mut self,
        id: &ProducerId,
        epoch: u64,
        seq: u64,
        position: u64,
        at: Timestamp,
    ) {
        let place = self.place_of(id, epoch, at);
        let last = self.producers[place].state.last_seq;
        if seq > last {
            self.open_hole(place, last + 1, seq, position, at);
            let producer = &mut self.producers[place];
            producer.tail_from = producer.tail_from.min(last + 1);
            producer.reach(seq);
        }
    }

    /// The log lost records before they were read: holes that show now are owed to that.
    pub(crate) fn log_lost_records(&mut self) {
        for producer in &mut self.producers {
            producer.after_loss = true;
        }
    }

    /// Holes whose time is over at `position` of the log and `at` on its clock. They are declared from now on.
    pub(crate) fn due(&mut self, position: u64, at: Timestamp) -> Vec<DueHole> {
        if self.open == 0 {
            return Vec::new();
        }
        let limits = self.limits;
        let time = i64::try_from(limits.time.as_micros()).unwrap_or(i64::MAX);
        let mut due = Vec::new();
        for producer in &mut self.producers {
            let (id, epoch) = (
                producer.state.producer_id.clone(),
                producer.state.producer_epoch,
            );
            for hole in producer.state.holes.iter_mut().filter(|h| !h.declared) {
                let old = at.as_micros().saturating_sub(hole.since.as_micros()) >= time;
                let far = position.saturating_sub(hole.since_position) >= limits.positions;
                let expired = hole.last_seq < producer.expired_below;
                if !(old || far || expired) {
                    continue;
                }
                hole.declared = true;
                self.open -= 1;
                let cause = if expired {
                    GapCause::Expired
                } else if hole.first_seq >= producer.tail_from {
                    GapCause::Tail
                } else {
                    GapCause::Missing
                };
                due.push(DueHole {
                    producer_id: id.clone(),
                    epoch,
                    first: hole.first_seq,
                    last: hole.last_seq,
                    cause,
                });
            }
        }
        due
    }

    /// The states for a footer.
    pub(crate) fn states(&self) -> Vec<ProducerState> {
        self.producers.iter().map(|p| p.state.clone()).collect()
    }

    /// Forgets producers that were silent for too long, but none with an open hole.
    pub(crate) fn forget(&mut self, at: Timestamp) {
        let silent = |p: &Producer| at.as_micros().saturating_sub(p.state.last_seen.as_micros());
        let holds = |p: &Producer| p.state.holes.iter().any(|h| !h.declared);
        self.producers
            .retain(|p| silent(p) < PRODUCER_MEMORY_MICROS || holds(p));
        while self.producers.len() > PRODUCERS_MAX {
            let oldest = self
                .producers
                .iter()
                .enumerate()
                .filter(|(_, p)| !holds(p))
                .min_by_key(|(_, p)| p.state.last_seen);
            let Some((place, _)) = oldest else { break };
            self.producers.remove(place);
        }
        self.last = 0;
    }

    /// Holes that are not declared.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Place of a producer, new or known.
    fn place_of(&mut self, id: &ProducerId, epoch: u64, at: Timestamp) -> usize {
        let wanted = (id.as_str(), epoch);
        if self
            .producers
            .get(self.last)
            .is_some_and(|p| p.key() == wanted)
        {
            return self.last;
        }
        let place = match self.producers.binary_search_by(|p| p.key().cmp(&wanted)) {
            Ok(place) => place,
            Err(place) => {
                let state = ProducerState {
                    producer_id: id.clone(),
                    producer_epoch: epoch,
                    last_seq: 0,
                    holes: Vec::new(),
                    last_seen: at,
                };
                self.producers.insert(
                    place,
                    Producer {
                        state,
                        tail_from: u64::MAX,
                        after_loss: false,
                        expired_below: 0,
                    },
                );
                place
            }
        };
        self.last = place;
        place
    }

    fn open_hole(
        &mut self,
        place: usize,
        first_seq: u64,
        last_seq: u64,
        since_position: u64,
        since: Timestamp,
    ) {
        let holes = &mut self.producers[place].state.holes;
        holes.push(Hole {
            first_seq,
            last_seq,
            since_position,
            since,
            declared: false,
        });
        self.open += 1;
        if holes.len() > HOLES_MAX {
            let oldest = holes.remove(0);
            let next = &mut holes[0];
            next.first_seq = oldest.first_seq;
            if !oldest.declared || !next.declared {
                // One of them still has to be declared, so both are; the other's gap says so a second time.
                self.open -= usize::from(!oldest.declared && !next.declared);
                next.declared = false;
                next.since = oldest.since.min(next.since);
            }
        }
    }

    /// A number at or below the last one: fills a hole, or is a copy.
    fn fill(&mut self, place: usize, seq: u64) -> Seen {
        let holes = &mut self.producers[place].state.holes;
        let Some(at) = holes
            .iter()
            .position(|h| (h.first_seq..=h.last_seq).contains(&seq))
        else {
            return Seen::Copy;
        };
        let hole = holes[at].clone();
        let part = |first_seq, last_seq| {
            (first_seq <= last_seq).then(|| Hole {
                first_seq,
                last_seq,
                ..hole.clone()
            })
        };
        let rest: Vec<Hole> = [
            part(hole.first_seq, seq - 1),
            seq.checked_add(1)
                .and_then(|next| part(next, hole.last_seq)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !hole.declared {
            self.open = self.open + rest.len() - 1;
        }
        holes.splice(at..=at, rest);
        if hole.declared { Seen::Late } else { Seen::New }
    }
}

impl Producer {
    /// The sequence goes as far as `seq` now.
    fn reach(&mut self, seq: u64) {
        self.state.last_seq = seq;
        if std::mem::take(&mut self.after_loss) {
            self.expired_below = seq.saturating_add(1);
        }
    }

    fn key(&self) -> (&str, u64) {
        (self.state.producer_id.as_str(), self.state.producer_epoch)
    }
}

#[cfg(test)]
mod tests;
