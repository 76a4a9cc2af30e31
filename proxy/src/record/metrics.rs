//! What the journal counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From 50 µs (a fast device's sync) in steps of 2 to 1.6 s (a broker in trouble).
const LATENCY_BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6,
    0.051_2, 0.102_4, 0.204_8, 0.409_6, 0.819_2, 1.638_4,
];

/// The journal's metrics.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) accepted: Counter,
    pub(super) acknowledged: Counter,
    pub(super) unknown: Counter,
    pub(super) refused: Counter,
    pub(super) dropped: Family<DroppedLabels, Counter>,
    pub(super) append_seconds: Histogram,
    pub(super) bytes_in_flight: Gauge,
    pub(super) sessions_open: Gauge,
    pub(super) gaps: Counter,
    pub(super) keys_made: Counter,
    pub(super) keys_failed: Counter,
}

/// Labels of the dropped events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DroppedLabels {
    pub(super) reason: DropReason,
}

/// Why an event was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum DropReason {
    /// The memory for events under way is full; a gap tells of it.
    Overflow,
    /// The log refused it; a gap tells of it.
    Refused,
    /// The request was refused before its intent had a number.
    Unnumbered,
    /// Longer than an event may be.
    TooLong,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            accepted: Counter::default(),
            acknowledged: Counter::default(),
            unknown: Counter::default(),
            refused: Counter::default(),
            dropped: Family::default(),
            append_seconds: Histogram::new(LATENCY_BUCKETS),
            bytes_in_flight: Gauge::default(),
            sessions_open: Gauge::default(),
            gaps: Counter::default(),
            keys_made: Counter::default(),
            keys_failed: Counter::default(),
        };
        let m = &metrics;
        let registry = registry.sub_registry_with_prefix("hoop_journal");
        registry.register(
            "events_accepted",
            "Events numbered and handed to the log",
            m.accepted.clone(),
        );
        registry.register(
            "events_acknowledged",
            "Events that the log has made durable",
            m.acknowledged.clone(),
        );
        registry.register(
            "appends_unknown",
            "Appends that may or may not have been written, and were sent again",
            m.unknown.clone(),
        );
        registry.register(
            "appends_refused",
            "Appends that the log refused",
            m.refused.clone(),
        );
        registry.register(
            "events_dropped",
            "Events that were not written, by reason; alert on any",
            m.dropped.clone(),
        );
        registry.register(
            "append_seconds",
            "Time from the first append of an event to its acknowledgement",
            m.append_seconds.clone(),
        );
        registry.register(
            "bytes_in_flight",
            "Bytes of captured bodies and of events without an answer from the log",
            m.bytes_in_flight.clone(),
        );
        registry.register("sessions_open", "Open sessions", m.sessions_open.clone());
        registry.register(
            "gaps",
            "Gap events written: losses made visible; alert on any",
            m.gaps.clone(),
        );
        registry.register(
            "keys_made",
            "Keys made and kept for the content of sessions",
            m.keys_made.clone(),
        );
        registry.register(
            "keys_failed",
            "Keys for the content of sessions that could not be kept; alert on any",
            m.keys_failed.clone(),
        );
        metrics
    }

    pub(super) fn drop_event(&self, reason: DropReason) {
        self.dropped.get_or_create(&DroppedLabels { reason }).inc();
    }
}
