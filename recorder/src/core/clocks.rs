//! Whose clock is far from the log's. Nothing depends on it, since order is that of sequences and days are the log's; but
//! people read times, and rules may look at them.

use hoop_schema::{ProducerId, Timestamp};

/// The largest difference between a producer's clock and the log's over some records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockDifference {
    /// Whose clock.
    pub producer_id: ProducerId,
    /// Microseconds that it is ahead of the log's. Below zero it is behind, or its events waited in a spool.
    pub ahead_micros: i64,
}

/// Keeps the largest difference seen, in each direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Clocks {
    ahead: Option<ClockDifference>,
    behind: Option<ClockDifference>,
}

impl Clocks {
    /// Takes an event's own time and the time at which the log took it.
    pub(super) fn see(&mut self, producer_id: &ProducerId, ts: Timestamp, log_ts: Timestamp) {
        let ahead_micros = ts.as_micros().saturating_sub(log_ts.as_micros());
        let known = match ahead_micros {
            0 => return,
            1.. => &mut self.ahead,
            _ => &mut self.behind,
        };
        let most = known.as_ref().map_or(0, |known| known.ahead_micros);
        if ahead_micros.unsigned_abs() > most.unsigned_abs() {
            *known = Some(ClockDifference {
                producer_id: producer_id.clone(),
                ahead_micros,
            });
        }
    }

    /// The largest ahead and behind since this was asked last, those that there are.
    pub(super) fn take(&mut self) -> Vec<ClockDifference> {
        let both = [self.ahead.take(), self.behind.take()];
        both.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_counts_in_each_direction_and_once() {
        let [one, two] = ["gateway-1", "gateway-2"].map(|name| ProducerId::new(name).unwrap());
        let at = Timestamp::from_micros;
        let mut clocks = Clocks::default();
        assert_eq!(clocks.take(), []);
        clocks.see(&one, at(1_005), at(1_000));
        clocks.see(&two, at(400), at(1_000));
        clocks.see(&two, at(401), at(1_000));
        clocks.see(&one, at(1_599), at(1_000));
        let of = |producer_id, ahead_micros| ClockDifference {
            producer_id,
            ahead_micros,
        };
        assert_eq!(clocks.take(), [of(one, 599), of(two, -600)]);
        assert_eq!(clocks.take(), []);
    }
}
