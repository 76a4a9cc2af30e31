//! How often an address may fail to say who it is.
//!
//! Up to the limit every failure is answered with 401 and recorded. Beyond it the answer is 429, and what is recorded is
//! only how many there were, with the next failure that is within the limit: else whoever likes could fill the log.
//! Nobody who is identified is ever limited, from whatever address they come.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hoop_schema::Timestamp;
use parking_lot::Mutex;

/// Sets of addresses, and addresses in each: 16,384 addresses take about half a megabyte. Where a set is full, the
/// address that has failed least of late is forgotten.
const SETS: usize = 2048;
const WAYS: usize = 8;

/// Counts failures by address.
pub(crate) struct FailureLimiter {
    /// How far ahead of the clock an address may be: the failures that are let through at once.
    slack_micros: i64,
    /// What one failure costs.
    interval_micros: i64,
    hasher: RandomState,
    sets: Mutex<Box<[Vec<Source>]>>,
}

struct Source {
    address: u128,
    /// When all its failures will be forgiven.
    forgiven: i64,
    unrecorded: u32,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is answered and recorded; before it came so many that were not.
    Recorded {
        /// How many.
        unrecorded: u32,
    },
    /// It is one too many.
    Limited {
        /// When the next one will be within the limit.
        retry_after: Duration,
    },
}

impl FailureLimiter {
    /// Lets `at_once` failures of an address through, and one more each `interval`.
    pub(crate) fn new(at_once: u32, interval: Duration) -> Self {
        let interval_micros = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX / 2);
        Self {
            slack_micros: interval_micros.saturating_mul(i64::from(at_once.max(1)) - 1),
            interval_micros,
            hasher: RandomState::new(),
            sets: Mutex::new((0..SETS).map(|_| Vec::new()).collect()),
        }
    }

    /// Counts one more failure.
    pub(crate) fn admit(&self, address: IpAddr, now: Timestamp) -> Admission {
        let (address, now) = (network(address), now.as_micros());
        let hash = self.hasher.hash_one(address);
        let mut sets = self.sets.lock();
        let set = usize::try_from(hash % SETS as u64).expect("it is less than a usize");
        let source = source(&mut sets[set], address);
        let latest = now.saturating_add(self.slack_micros);
        if source.forgiven > latest.saturating_add(self.interval_micros) {
            // No failure leaves it that far ahead: the clock was set back.
            source.forgiven = now;
        }
        let from = source.forgiven.max(now);
        if from > latest {
            source.unrecorded = source.unrecorded.saturating_add(1);
            let wait = u64::try_from(from - latest).unwrap_or(0);
            return Admission::Limited {
                retry_after: Duration::from_micros(wait),
            };
        }
        source.forgiven = from.saturating_add(self.interval_micros);
        Admission::Recorded {
            unrecorded: std::mem::take(&mut source.unrecorded),
        }
    }
}

impl std::fmt::Debug for FailureLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailureLimiter")
    }
}

/// The entry of an address, made if it is new.
fn source(set: &mut Vec<Source>, address: u128) -> &mut Source {
    let known = set.iter().position(|source| source.address == address);
    let at = known.unwrap_or_else(|| {
        let fresh = Source {
            address,
            forgiven: 0,
            unrecorded: 0,
        };
        if set.len() < WAYS {
            set.push(fresh);
            return set.len() - 1;
        }
        let at = (0..WAYS).min_by_key(|i| set[*i].forgiven).unwrap_or(0);
        set[at] = fresh;
        at
    });
    &mut set[at]
}

/// What counts as one address: of IPv6 the network, since a client has 2^64 addresses in it.
fn network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => u128::from(v6),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Admission = Admission::Recorded { unrecorded: 0 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000_000 + seconds * 1_000_000)
    }

    fn limiter() -> FailureLimiter {
        FailureLimiter::new(3, Duration::from_secs(2))
    }

    #[test]
    fn an_address_that_fails_too_often_waits_and_the_rest_are_counted() {
        let (limiter, address) = (limiter(), "192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(limiter.admit(address, at(0)), FREE);
        }
        for _ in 0..5 {
            let retry_after = Duration::from_secs(2);
            assert_eq!(
                limiter.admit(address, at(0)),
                Admission::Limited { retry_after }
            );
        }
        assert_eq!(limiter.admit("192.0.2.2".parse().unwrap(), at(0)), FREE);
        assert_eq!(
            limiter.admit(address, at(2)),
            Admission::Recorded { unrecorded: 5 }
        );
        assert!(matches!(
            limiter.admit(address, at(2)),
            Admission::Limited { .. }
        ));
        // Left alone, it has the whole of its limit again.
        assert_eq!(
            limiter.admit(address, at(60)),
            Admission::Recorded { unrecorded: 1 }
        );
        assert_eq!(limiter.admit(address, at(60)), FREE);
        assert_eq!(limiter.admit(address, at(60)), FREE);
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let limiter = limiter();
        for n in 1..=3 {
            let address = format!("2001:db8::{n}").parse().unwrap();
            assert_eq!(limiter.admit(address, at(0)), FREE);
        }
        let same: IpAddr = "2001:db8::4:4:4:4".parse().unwrap();
        assert!(matches!(
            limiter.admit(same, at(0)),
            Admission::Limited { .. }
        ));
        assert_eq!(
            limiter.admit("2001:db8:0:1::1".parse().unwrap(), at(0)),
            FREE
        );
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let (limiter, address) = (limiter(), "192.0.2.1".parse().unwrap());
        for _ in 0..4 {
            limiter.admit(address, at(10_000));
        }
        assert!(matches!(
            limiter.admit(address, at(0)),
            Admission::Recorded { .. }
        ));
    }

    #[test]
    fn many_addresses_take_no_more_memory() {
        let limiter = limiter();
        for n in 0..100_000_u32 {
            limiter.admit(IpAddr::from(n.to_be_bytes()), at(0));
        }
        let sets = limiter.sets.lock();
        assert!(sets.iter().all(|set| set.len() <= WAYS));
    }
}
