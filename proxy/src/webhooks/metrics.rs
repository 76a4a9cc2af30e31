//! Numbers about webhooks.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From a webhook on the same machine to the longest time that one may have.
const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The numbers. Webhooks are named by the policy, of which there are at most sixteen at once.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<ResultLabels, Counter>,
    seconds: Family<WebhookLabels, Histogram>,
    kept: Family<WebhookLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    webhook: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: String,
}

impl Metrics {
    /// Registers the numbers.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            kept: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("hoop_gateway");
        registry.register(
            "webhook_requests",
            "Questions that webhooks of the policy were asked, by what came of them",
            metrics.requests.clone(),
        );
        registry.register(
            "webhook_seconds",
            "Time until a webhook answered or failed",
            metrics.seconds.clone(),
        );
        registry.register(
            "webhook_answers_reused",
            "Answers of webhooks that were still good, so that nothing was asked",
            metrics.kept.clone(),
        );
        metrics
    }

    pub(super) fn asked(&self, webhook: &str, result: &'static str, took: Duration) {
        let webhook = webhook.to_owned();
        self.seconds
            .get_or_create(&WebhookLabels {
                webhook: webhook.clone(),
            })
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&ResultLabels { webhook, result })
            .inc();
    }

    pub(super) fn kept(&self, webhook: &str) {
        let webhook = webhook.to_owned();
        self.kept.get_or_create(&WebhookLabels { webhook }).inc();
    }
}
