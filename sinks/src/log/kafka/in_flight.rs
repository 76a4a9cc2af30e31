//! The account of events on their way: how many bytes, and whether a shard has gone silent. Pure.

use std::time::Duration;

use hoop_schema::Shard;
use tokio::time::Instant;

use super::error::Refusal;

/// What an event costs beside its bytes: key, headers, and what librdkafka and this log keep for it.
pub(crate) const EVENT_OVERHEAD: usize = 1024;

/// Events on their way, of all shards.
#[derive(Debug)]
pub(crate) struct InFlight {
    bytes: usize,
    bytes_max: usize,
    stalled_after: Duration,
    shards: Vec<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    events: usize,
    /// When the first of them was taken, or an answer came last.
    progress: Instant,
}

impl InFlight {
    pub(crate) fn new(
        shards: u32,
        bytes_max: usize,
        stalled_after: Duration,
        now: Instant,
    ) -> Self {
        let pending = Pending {
            events: 0,
            progress: now,
        };
        Self {
            bytes: 0,
            bytes_max,
            stalled_after,
            shards: vec![pending; shards as usize],
        }
    }

    /// Lets an event of `bytes` in, or says why not.
    pub(crate) fn admit(
        &mut self,
        shard: Shard,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.check(shard, now)?;
        let cost = bytes + EVENT_OVERHEAD;
        if self.bytes + cost > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(Refusal::InFlightFull { bytes_max });
        }
        let pending = self.pending(shard)?;
        if pending.events == 0 {
            pending.progress = now;
        }
        pending.events += 1;
        self.bytes += cost;
        Ok(())
    }

    /// An event that was let in has its answer.
    pub(crate) fn answered(&mut self, shard: Shard, bytes: usize, now: Instant) {
        self.bytes = self.bytes.saturating_sub(bytes + EVENT_OVERHEAD);
        if let Ok(pending) = self.pending(shard) {
            pending.events = pending.events.saturating_sub(1);
            pending.progress = now;
        }
    }

    /// Whether an event of this shard would be taken now, if it is small.
    pub(crate) fn check(&self, shard: Shard, now: Instant) -> Result<(), Refusal> {
        let pending = self.shards.get(shard.0 as usize);
        let pending = pending.ok_or(Refusal::NoSuchShard(shard))?;
        let silent = now.saturating_duration_since(pending.progress);
        if pending.events > 0 && silent > self.stalled_after {
            return Err(Refusal::Stalled { shard, silent });
        }
        Ok(())
    }

    /// Whether events of every shard would be taken now, if they are small.
    pub(crate) fn check_all(&self, now: Instant) -> Result<(), Refusal> {
        if self.bytes + EVENT_OVERHEAD > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(Refusal::InFlightFull { bytes_max });
        }
        let shards = 0..u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        shards
            .into_iter()
            .try_for_each(|shard| self.check(Shard(shard), now))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|pending| pending.events == 0)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn pending(&mut self, shard: Shard) -> Result<&mut Pending, Refusal> {
        let pending = self.shards.get_mut(shard.0 as usize);
        pending.ok_or(Refusal::NoSuchShard(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALLED_AFTER: Duration = Duration::from_secs(10);

    fn in_flight(now: Instant) -> InFlight {
        InFlight::new(2, 10 * (1000 + EVENT_OVERHEAD), STALLED_AFTER, now)
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let now = Instant::now();
        let mut in_flight = in_flight(now);
        for n in 0..10 {
            in_flight.admit(Shard(n % 2), 1000, now).unwrap();
        }
        assert!(matches!(
            in_flight.admit(Shard(0), 0, now),
            Err(Refusal::InFlightFull { .. })
        ));
        assert!(in_flight.check_all(now).is_err());
        in_flight.answered(Shard(1), 1000, now);
        in_flight.admit(Shard(0), 1000, now).unwrap();
        assert!(!in_flight.is_empty());
    }

    #[test]
    fn a_shard_without_answers_takes_no_more_until_one_comes() {
        let begun = Instant::now();
        let mut in_flight = in_flight(begun);
        in_flight.admit(Shard(0), 1, begun).unwrap();
        in_flight.admit(Shard(0), 1, begun).unwrap();
        let late = begun + STALLED_AFTER + Duration::from_secs(1);
        let refused = in_flight.admit(Shard(0), 1, late);
        assert!(
            matches!(refused, Err(Refusal::Stalled { .. })),
            "{refused:?}"
        );
        assert!(in_flight.check_all(late).is_err());
        in_flight
            .admit(Shard(1), 1, late)
            .expect("another shard is not concerned");
        in_flight.answered(Shard(0), 1, late);
        in_flight.admit(Shard(0), 1, late).unwrap();
    }

    #[test]
    fn a_shard_that_was_idle_for_long_is_not_stalled() {
        let begun = Instant::now();
        let mut in_flight = in_flight(begun);
        let later = begun + 100 * STALLED_AFTER;
        in_flight.admit(Shard(0), 1, later).unwrap();
        in_flight.admit(Shard(0), 1, later).unwrap();
        in_flight.check_all(later).unwrap();
    }

    #[test]
    fn a_shard_that_does_not_exist_is_refused() {
        let now = Instant::now();
        let refused = in_flight(now).admit(Shard(2), 1, now);
        assert_eq!(refused, Err(Refusal::NoSuchShard(Shard(2))));
    }
}
