//! What a shard says of itself in metrics and logs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hoop_schema::Timestamp;

use super::ShardTask;

/// A producer's clock that differs more from the log's is worth a line; less is lingering and batches.
const CLOCKS_APART: Duration = Duration::from_secs(60);

impl ShardTask {
    /// Brings metrics and the shared count of bytes up to date.
    pub(super) fn count(&mut self) {
        let held = self.core.buffered_bytes();
        self.shared.buffered.fetch_add(held, Ordering::Relaxed);
        self.shared
            .buffered
            .fetch_sub(self.buffered, Ordering::Relaxed);
        self.buffered = held;
        let (metrics, labels, counts) = (&self.shared.metrics, &self.labels, self.core.counts());
        let before = std::mem::replace(&mut self.counted, counts);
        metrics
            .records
            .get_or_create(labels)
            .inc_by(counts.records - before.records);
        metrics
            .copies
            .get_or_create(labels)
            .inc_by(counts.copies - before.copies);
        metrics
            .unparsed
            .get_or_create(labels)
            .inc_by(counts.unparsed - before.unparsed);
        metrics
            .gaps
            .get_or_create(labels)
            .inc_by(counts.gaps - before.gaps);
        if counts.gaps > before.gaps {
            tracing::error!(class = %self.class, shard = %self.shard, gaps = counts.gaps - before.gaps, "events are missing; recorded as gaps");
        }
        if counts.unparsed > before.unparsed {
            tracing::warn!(class = %self.class, shard = %self.shard, records = counts.unparsed - before.unparsed, "records are no events; kept as they are");
        }
        let now = self.shared.clock.now();
        let age = |ts: Option<Timestamp>| ts.map_or(0.0, |ts| seconds_between(ts, now));
        metrics
            .uncommitted_seconds
            .get_or_create(labels)
            .set(age(self.core.waiting_since()));
        let behind = if self.core.waiting_since().is_some() {
            age(self.newest_log_ts)
        } else {
            0.0
        };
        metrics.lag_seconds.get_or_create(labels).set(behind);
        let waiting = self.core.position().0.saturating_sub(self.core.covered());
        metrics
            .lag_positions
            .get_or_create(labels)
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Says whose clock is far from the log's, once for each session file.
    pub(super) fn compare_clocks(&mut self) {
        let mut largest = 0.0_f64;
        for difference in self.core.take_clock_differences() {
            let seconds = difference.ahead_micros as f64 / 1e6;
            if seconds.abs() > largest.abs() {
                largest = seconds;
            }
            if seconds.abs() > CLOCKS_APART.as_secs_f64() {
                let way = if seconds > 0.0 {
                    "its clock is ahead of the log's"
                } else {
                    "its clock is behind the log's, or its events waited in a spool"
                };
                tracing::warn!(class = %self.class, shard = %self.shard, producer = %difference.producer_id, seconds, "{way}");
            }
        }
        self.shared
            .metrics
            .clock_difference_seconds
            .get_or_create(&self.labels)
            .set(largest);
    }
}

impl Drop for ShardTask {
    fn drop(&mut self) {
        self.shared
            .buffered
            .fetch_sub(self.buffered, Ordering::Relaxed);
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    Duration::from_micros(u64::try_from(to.as_micros() - from.as_micros()).unwrap_or_default())
        .as_secs_f64()
}
