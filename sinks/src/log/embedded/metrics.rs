//! What the log counts, by class.

use std::time::Duration;

use hoop_schema::Class;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From 50 µs (a fast device) in steps of 2 to 0.8 s (a disk in trouble).
const SYNC_BUCKETS: [f64; 15] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6,
    0.051_2, 0.102_4, 0.204_8, 0.409_6, 0.819_2,
];

/// The metrics of all embedded logs of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<ClassLabel, Counter>,
    bytes: Family<ClassLabel, Counter>,
    refused: Family<ClassLabel, Counter>,
    sync_seconds: Family<ClassLabel, Histogram>,
    disk_bytes: Family<ClassLabel, Gauge>,
}

/// Those of one log.
#[derive(Debug, Clone)]
pub(crate) struct LogMetrics {
    records: Counter,
    bytes: Counter,
    refused: Counter,
    sync_seconds: Histogram,
    pub(crate) disk_bytes: Gauge,
}

/// Its values are names from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            records: Family::default(),
            bytes: Family::default(),
            refused: Family::default(),
            sync_seconds: Family::new_with_constructor(|| Histogram::new(SYNC_BUCKETS)),
            disk_bytes: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers them under `hoop_log`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        let registry = registry.sub_registry_with_prefix("hoop_log");
        registry.register("records", "Records made durable", m.records.clone());
        registry.register_with_unit(
            "written",
            "Bytes of the records made durable",
            Unit::Bytes,
            m.bytes.clone(),
        );
        registry.register(
            "records_refused",
            "Records that were not taken: no room, a failed write or a failed sync",
            m.refused.clone(),
        );
        registry.register_with_unit(
            "sync",
            "Writing and syncing one batch",
            Unit::Seconds,
            m.sync_seconds.clone(),
        );
        registry.register_with_unit(
            "disk",
            "Segment files, the spare ones left out",
            Unit::Bytes,
            m.disk_bytes.clone(),
        );
        metrics
    }

    pub(crate) fn of(&self, class: &Class) -> LogMetrics {
        let label = ClassLabel {
            class: class.as_str().to_owned(),
        };
        LogMetrics {
            records: self.records.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
            refused: self.refused.get_or_create_owned(&label),
            sync_seconds: self.sync_seconds.get_or_create_owned(&label),
            disk_bytes: self.disk_bytes.get_or_create_owned(&label),
        }
    }
}

impl LogMetrics {
    /// A batch was written and synced, but for `refused` of its records.
    pub(crate) fn synced(&self, records: u64, refused: u64, bytes: u64, took: Duration) {
        self.refused.inc_by(refused);
        if records > 0 {
            self.records.inc_by(records);
            self.bytes.inc_by(bytes);
            self.sync_seconds.observe(took.as_secs_f64());
        }
    }
}
