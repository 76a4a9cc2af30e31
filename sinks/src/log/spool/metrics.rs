//! What spools count.

use hoop_schema::Class;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of the spools of all classes.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    waiting: Family<ClassLabel, Gauge>,
    shipped: Family<ClassLabel, Counter>,
    failures: Family<ClassLabel, Counter>,
}

/// Those of one spool.
#[derive(Debug)]
pub(super) struct LogMetrics {
    pub(super) waiting: Gauge,
    pub(super) shipped: Counter,
    pub(super) failures: Counter,
}

/// Its values are names from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: String,
}

impl Metrics {
    /// Registers them under `hoop_spool`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("hoop_spool");
        registry.register(
            "waiting_events",
            "Events in the spool that the broker has not acknowledged",
            metrics.waiting.clone(),
        );
        registry.register(
            "shipped",
            "Events that the broker acknowledged",
            metrics.shipped.clone(),
        );
        registry.register(
            "failures",
            "Attempts to ship that the broker did not acknowledge",
            metrics.failures.clone(),
        );
        metrics
    }

    pub(super) fn of(&self, class: &Class) -> LogMetrics {
        let label = ClassLabel {
            class: class.as_str().to_owned(),
        };
        LogMetrics {
            waiting: self.waiting.get_or_create_owned(&label),
            shipped: self.shipped.get_or_create_owned(&label),
            failures: self.failures.get_or_create_owned(&label),
        }
    }
}
