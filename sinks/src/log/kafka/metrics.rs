//! What the log on Kafka counts, by class.

use hoop_schema::Class;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From 1 ms (brokers in the same rack) in steps of 2 to 16 s (the change of a leader).
const ACKNOWLEDGE_BUCKETS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// The metrics of all logs on Kafka of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<ClassLabel, Counter>,
    bytes: Family<ClassLabel, Counter>,
    refused: Family<ClassLabel, Counter>,
    unknown: Family<ClassLabel, Counter>,
    rebuilt: Family<ClassLabel, Counter>,
    acknowledge_seconds: Family<ClassLabel, Histogram>,
    in_flight_bytes: Family<ClassLabel, Gauge>,
}

/// Those of one log.
#[derive(Debug, Clone)]
pub(crate) struct LogMetrics {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) refused: Counter,
    pub(crate) unknown: Counter,
    pub(crate) rebuilt: Counter,
    pub(crate) acknowledge_seconds: Histogram,
    pub(crate) in_flight_bytes: Gauge,
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
            rebuilt: Family::default(),
            acknowledge_seconds: Family::new_with_constructor(|| {
                Histogram::new(ACKNOWLEDGE_BUCKETS)
            }),
            in_flight_bytes: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers them under `hoop_log_kafka`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        let registry = registry.sub_registry_with_prefix("hoop_log_kafka");
        registry.register(
            "records",
            "Records that the brokers acknowledged",
            m.records.clone(),
        );
        registry.register_with_unit(
            "written",
            "Bytes of the records that the brokers acknowledged",
            Unit::Bytes,
            m.bytes.clone(),
        );
        registry.register(
            "records_refused",
            "Records that were not taken, or that the brokers refused",
            m.refused.clone(),
        );
        registry.register(
            "records_unknown",
            "Records that may or may not have been written",
            m.unknown.clone(),
        );
        registry.register(
            "producers_rebuilt",
            "Producers made anew after a fatal error",
            m.rebuilt.clone(),
        );
        registry.register_with_unit(
            "acknowledge",
            "From an append to its acknowledgement",
            Unit::Seconds,
            m.acknowledge_seconds.clone(),
        );
        registry.register_with_unit(
            "in_flight",
            "Events on their way to the brokers, with what they cost beside their bytes",
            Unit::Bytes,
            m.in_flight_bytes.clone(),
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
            unknown: self.unknown.get_or_create_owned(&label),
            rebuilt: self.rebuilt.get_or_create_owned(&label),
            acknowledge_seconds: self.acknowledge_seconds.get_or_create_owned(&label),
            in_flight_bytes: self.in_flight_bytes.get_or_create_owned(&label),
        }
    }
}
