//! The bytes that may be in memory before the log has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// A number of bytes that is shared out. Never waits: who gets nothing drops something, and says so.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    gauge: Gauge,
}

/// How much of the budget a taker may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Three quarters: intents, bodies and streams. The last quarter is kept for what cannot be refused.
    Bulk,
    /// All of it: outcomes and session events.
    Whole,
}

/// Bytes taken out of a budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(max: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: AtomicUsize::new(0),
            gauge,
        })
    }

    /// Takes `bytes`, unless that would exceed the share.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize, share: Share) -> Option<Held> {
        let max = match share {
            Share::Bulk => self.max / 4 * 3,
            Share::Whole => self.max,
        };
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= max)
            })
            .ok()?;
        Some(self.held(bytes))
    }

    /// Takes `bytes` in any case: for gaps, of which there is one at a time per shard.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.held(bytes)
    }

    /// Whether bulk data would be refused now.
    pub(super) fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max / 4 * 3
    }

    /// Whether who can wait should.
    pub(super) fn is_half_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max / 2
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn held(self: &Arc<Self>, bytes: usize) -> Held {
        self.gauge.inc_by(bytes.cast_signed() as i64);
        Held {
            budget: Arc::clone(self),
            bytes,
        }
    }
}

impl Held {
    /// Takes further bytes of the bulk share into the same holding; returns whether there was room.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let Some(mut more) = self.budget.try_take(bytes, Share::Bulk) else {
            return false;
        };
        self.bytes += std::mem::take(&mut more.bytes);
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.gauge.dec_by(self.bytes.cast_signed() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_for_what_cannot_be_refused() {
        let budget = Budget::new(100, Gauge::default());
        let bulk = budget.try_take(75, Share::Bulk).unwrap();
        assert!(budget.try_take(1, Share::Bulk).is_none());
        let rest = budget.try_take(25, Share::Whole).unwrap();
        assert!(budget.try_take(1, Share::Whole).is_none());
        drop((bulk, rest));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_holding_grows_within_the_share() {
        let budget = Budget::new(100, Gauge::default());
        let mut held = budget.try_take(0, Share::Bulk).unwrap();
        assert!(held.grow(70));
        assert!(!held.grow(6));
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
