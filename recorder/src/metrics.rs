//! What a recorder counts, for Prometheus. Labels are the class and the shard; both are bounded by configuration.

use std::sync::atomic::AtomicU64;

use hoop_schema::{Class, Shard};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Buckets of the put's latency: a local disk answers within milliseconds, an object store within seconds.
const PUT_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// One shard of one class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ShardLabels {
    class: String,
    shard: u32,
}

impl ShardLabels {
    pub(crate) fn new(class: &Class, shard: Shard) -> Self {
        Self {
            class: class.to_string(),
            shard: shard.0,
        }
    }
}

/// Everything a recorder counts.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) records: Family<ShardLabels, Counter>,
    pub(crate) rows: Family<ShardLabels, Counter>,
    pub(crate) copies: Family<ShardLabels, Counter>,
    pub(crate) gaps: Family<ShardLabels, Counter>,
    pub(crate) unparsed: Family<ShardLabels, Counter>,
    pub(crate) files: Family<ShardLabels, Counter>,
    pub(crate) file_bytes: Family<ShardLabels, Counter>,
    pub(crate) lost_files: Family<ShardLabels, Counter>,
    pub(crate) unclear_puts: Family<ShardLabels, Counter>,
    pub(crate) lag_positions: Family<ShardLabels, Gauge>,
    pub(crate) lag_seconds: Family<ShardLabels, Gauge<f64, AtomicU64>>,
    pub(crate) clock_difference_seconds: Family<ShardLabels, Gauge<f64, AtomicU64>>,
    pub(crate) uncommitted_seconds: Family<ShardLabels, Gauge<f64, AtomicU64>>,
    pub(crate) stalled: Family<ShardLabels, Gauge>,
    pub(crate) taken_over: Family<ShardLabels, Gauge>,
    pub(crate) expired_files: Counter,
    pub(crate) held_files: Gauge,
    pub(crate) put_seconds: Histogram,
    pub(crate) unproven: Family<ShardLabels, Gauge>,
    pub(crate) oldest_unproven_seconds: Family<ShardLabels, Gauge<f64, AtomicU64>>,
    pub(crate) proven_leaves: Family<ShardLabels, Gauge>,
    pub(crate) proof_broken: Family<ShardLabels, Gauge>,
    pub(crate) sealed_days: Counter,
    pub(crate) sealed_bytes: Counter,
    pub(crate) replaced_files: Counter,
    pub(crate) unsealable_days: Gauge,
}

impl Metrics {
    /// Registers everything below `hoop_recorder_`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("hoop_recorder");
        let metrics = Self {
            records: Family::default(),
            rows: Family::default(),
            copies: Family::default(),
            gaps: Family::default(),
            unparsed: Family::default(),
            files: Family::default(),
            file_bytes: Family::default(),
            lost_files: Family::default(),
            unclear_puts: Family::default(),
            lag_positions: Family::default(),
            lag_seconds: Family::default(),
            uncommitted_seconds: Family::default(),
            clock_difference_seconds: Family::default(),
            stalled: Family::default(),
            taken_over: Family::default(),
            expired_files: Counter::default(),
            held_files: Gauge::default(),
            put_seconds: Histogram::new(PUT_SECONDS),
            unproven: Family::default(),
            oldest_unproven_seconds: Family::default(),
            proven_leaves: Family::default(),
            proof_broken: Family::default(),
            sealed_days: Counter::default(),
            sealed_bytes: Counter::default(),
            replaced_files: Counter::default(),
            unsealable_days: Gauge::default(),
        };
        metrics.register_counters(registry);
        metrics.register_gauges(registry);
        metrics.register_proofs(registry);
        metrics.register_seals(registry);
        metrics
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, family) in [
            ("records", "Records read from the log", &self.records),
            ("rows", "Rows committed in session files", &self.rows),
            (
                "copies",
                "Records left out as copies of earlier ones",
                &self.copies,
            ),
            (
                "gaps",
                "Holes in sequences that were declared as gaps; alert on any",
                &self.gaps,
            ),
            (
                "unparsed",
                "Records that are no events, kept as they are",
                &self.unparsed,
            ),
            ("files", "Session files committed", &self.files),
            (
                "file_bytes",
                "Bytes of session files committed",
                &self.file_bytes,
            ),
            (
                "lost_files",
                "Session files that a rival recorder committed first",
                &self.lost_files,
            ),
            (
                "unclear_puts",
                "Puts whose answer did not say what happened",
                &self.unclear_puts,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "expired_files",
            "Session files deleted because their term was over",
            self.expired_files.clone(),
        );
    }

    fn register_gauges(&self, registry: &mut Registry) {
        registry.register(
            "lag_positions",
            "Positions of the log that are not committed",
            self.lag_positions.clone(),
        );
        registry.register_with_unit(
            "lag",
            "Age of the newest record read, by the log's clock",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        registry.register_with_unit(
            "oldest_uncommitted",
            "How long the oldest record read has been waiting for its file",
            Unit::Seconds,
            self.uncommitted_seconds.clone(),
        );
        registry.register_with_unit(
            "clock_difference",
            "Largest difference of a producer's clock from the log's in the newest session file; below zero, it is behind",
            Unit::Seconds,
            self.clock_difference_seconds.clone(),
        );
        registry.register(
            "stalled",
            "Whether the shard cannot be read or committed at the moment",
            self.stalled.clone(),
        );
        registry.register(
            "taken_over",
            "Whether the shard is another recorder's, and recorded here since that one does not",
            self.taken_over.clone(),
        );
        registry.register(
            "held_files",
            "Session files kept past their term by a legal hold",
            self.held_files.clone(),
        );
        registry.register_with_unit(
            "put",
            "How long puts of session files took",
            Unit::Seconds,
            self.put_seconds.clone(),
        );
    }

    fn register_proofs(&self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "unproven",
                "Session files and acts that are not in the transparency log yet",
                &self.unproven,
            ),
            (
                "proven_leaves",
                "Leaves of the transparency log that its newest checkpoint covers",
                &self.proven_leaves,
            ),
            (
                "proof_broken",
                "Whether the transparency log or a session file was tampered with, so that it is not signed; alert on any",
                &self.proof_broken,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register_with_unit(
            "oldest_unproven",
            "Age of the oldest session file that is not in the transparency log yet",
            Unit::Seconds,
            self.oldest_unproven_seconds.clone(),
        );
    }

    fn register_seals(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "sealed_days",
                "Finished days that were sealed",
                &self.sealed_days,
            ),
            (
                "sealed_bytes",
                "Bytes of session files that were sealed",
                &self.sealed_bytes,
            ),
            (
                "replaced_files",
                "Session files of sealed days that were deleted",
                &self.replaced_files,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "unsealable_days",
            "Finished days that could not be sealed in the last round, such as for a damaged file; alert on any",
            self.unsealable_days.clone(),
        );
    }
}
