//! What can be chosen about an embedded log.

use std::num::NonZeroU32;
use std::time::Duration;

use super::error::OpenError;
use super::frame::{BLOCK, FRAME_BYTES_AIM, FRAME_HEAD, RECORD_BYTES_MAX, RECORD_HEAD};

/// Options of one class's embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Number of shards, fixed when the log is created. One by default: on one machine they share a disk, and every
    /// further shard is a further sync per batch.
    pub shards: NonZeroU32,
    /// Bytes of a segment file, a multiple of 4096, at least 12,288. 64 MiB by default: two seconds of a very busy
    /// gateway, and quick to allocate. Smaller ones limit the size of an event: 1 MiB needs 2 MiB.
    pub segment_bytes: u64,
    /// The most bytes of events that wait for their sync. 64 MiB by default: more than a disk writes while it
    /// stalls for a tenth of a second, little beside the memory of a gateway.
    pub queue_bytes_max: usize,
    /// The most bytes on disk, over all shards, in whole segments. Committed segments are dropped to stay below it;
    /// when nothing is committed, appends are refused. 16 GiB by default: ten million events that nobody fetched.
    pub size_max: u64,
    /// How long a committed segment is kept for readers. A day by default.
    pub age_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: NonZeroU32::MIN,
            segment_bytes: 64 << 20,
            queue_bytes_max: 64 << 20,
            size_max: 16 << 30,
            age_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Options {
    /// More shards than this are a mistake: each has its own files and syncs.
    const SHARDS_MAX: u32 = 256;

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let wrong = |name, what| Err(OpenError::Option { name, what });
        if self.shards.get() > Self::SHARDS_MAX {
            return wrong("shards", "must be at most 256");
        }
        if self.segment_bytes < 3 * BLOCK as u64 || !self.segment_bytes.is_multiple_of(BLOCK as u64)
        {
            return wrong(
                "segment_bytes",
                "must be a multiple of 4096, at least 12288",
            );
        }
        let active = self
            .segment_bytes
            .saturating_mul(u64::from(self.shards.get()));
        if self.size_max < active.saturating_mul(2) {
            return wrong("size_max", "must have room for two segments per shard");
        }
        Ok(())
    }

    /// The most bytes of records, with their lengths, that go into one batch.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let segment = usize::try_from(self.segment_bytes).unwrap_or(usize::MAX);
        FRAME_BYTES_AIM.min(segment - BLOCK - FRAME_HEAD)
    }

    /// The most bytes of one event.
    pub(crate) fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX.min(self.batch_bytes_max() - RECORD_HEAD)
    }
}
