//! What all shards of one recorder share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hoop_sinks::store::EvidenceStore;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::tails::Tails;
use crate::time::Clock;
use crate::transparency::Proofs;

/// What all shards of one recorder share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn EvidenceStore>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// When the recorder started, in microseconds: the epoch of the strands in its files.
    pub(crate) epoch: u64,
    /// The epoch of the latest strand outside of files; see [`Shared::next_epoch`].
    pub(crate) last_epoch: AtomicU64,
    pub(crate) shards: usize,
    /// Bytes of events buffered by all shards.
    pub(crate) buffered: AtomicUsize,
    /// One session file is encoded at a time, so that memory stays bounded however many shards there are.
    pub(crate) encoding: Semaphore,
    pub(crate) tails: Tails,
    pub(crate) proofs: Proofs,
    /// Whether the store locks, once it has said so.
    pub(crate) locks: OnceLock<bool>,
}

impl Shared {
    /// An epoch for a strand outside of files: now, but later than the start and than every epoch handed out before,
    /// so that no event of it has the identity of another one of this recorder.
    pub(crate) fn next_epoch(&self) -> u64 {
        let now = u64::try_from(self.clock.now().as_micros()).unwrap_or_default();
        let later = |last: u64| last.max(self.epoch).saturating_add(1).max(now);
        let last = self
            .last_epoch
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(later(last))
            });
        last.map_or(now, later)
    }
}
