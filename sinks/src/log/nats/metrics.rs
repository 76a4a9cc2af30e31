//! What the logs on NATS count, by class.

use std::time::Duration;

use hoop_schema::Class;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From 0.2 ms (one server, no sync) in steps of 2 to 13 s (elections, until an append is given up).
const APPEND_BUCKETS: [f64; 17] = [
    0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6, 0.051_2, 0.102_4,
    0.204_8, 0.409_6, 0.819_2, 1.638_4, 3.276_8, 6.553_6, 13.107_2,
];

/// The metrics of all logs on NATS of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<ClassLabel, Counter>,
    bytes: Family<ClassLabel, Counter>,
    refused: Family<ClassLabel, Counter>,
    unknown: Family<ClassLabel, Counter>,
    sent: Family<ClassLabel, Counter>,
    connections: Family<ClassLabel, Counter>,
    inflight: Family<ClassLabel, Gauge>,
    append_seconds: Family<ClassLabel, Histogram>,
}

/// Those of one writer.
#[derive(Debug, Clone)]
pub(crate) struct WriterMetrics {
    records: Counter,
    bytes: Counter,
    pub(crate) refused: Counter,
    pub(crate) unknown: Counter,
    pub(crate) sent: Counter,
    pub(crate) connections: Counter,
    pub(crate) inflight: Gauge,
    append_seconds: Histogram,
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
            unknown: Family::default(),
            sent: Family::default(),
            connections: Family::default(),
            inflight: Family::default(),
            append_seconds: Family::new_with_constructor(|| Histogram::new(APPEND_BUCKETS)),
        }
    }
}

impl Metrics {
    /// Registers them under `hoop_log_nats`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        let registry = registry.sub_registry_with_prefix("hoop_log_nats");
        registry.register("records", "Records acknowledged", m.records.clone());
        registry.register_with_unit(
            "written",
            "Bytes of the records acknowledged",
            Unit::Bytes,
            m.bytes.clone(),
        );
        registry.register(
            "records_refused",
            "Records that were not written: no room, no leader in time, too large",
            m.refused.clone(),
        );
        registry.register(
            "records_unknown",
            "Records that may or may not have been written",
            m.unknown.clone(),
        );
        registry.register(
            "publishes",
            "Messages sent; more than the records when some were sent again",
            m.sent.clone(),
        );
        registry.register("connections", "Connections made", m.connections.clone());
        registry.register(
            "publishes_inflight",
            "Messages sent that have no answer yet",
            m.inflight.clone(),
        );
        registry.register_with_unit(
            "append",
            "From taking a record to its acknowledgement",
            Unit::Seconds,
            m.append_seconds.clone(),
        );
        metrics
    }

    pub(crate) fn of(&self, class: &Class) -> WriterMetrics {
        let label = ClassLabel {
            class: class.as_str().to_owned(),
        };
        WriterMetrics {
            records: self.records.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
            refused: self.refused.get_or_create_owned(&label),
            unknown: self.unknown.get_or_create_owned(&label),
            sent: self.sent.get_or_create_owned(&label),
            connections: self.connections.get_or_create_owned(&label),
            inflight: self.inflight.get_or_create_owned(&label),
            append_seconds: self.append_seconds.get_or_create_owned(&label),
        }
    }
}

impl WriterMetrics {
    /// A record was acknowledged.
    pub(crate) fn written(&self, bytes: usize, took: Duration) {
        self.records.inc();
        self.bytes.inc_by(bytes as u64);
        self.append_seconds.observe(took.as_secs_f64());
    }
}
