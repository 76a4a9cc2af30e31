//! Numbers about who comes in.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The authenticator's numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    tokens_verified: Family<AcceptedLabels, Counter>,
    key_fetches: Family<AcceptedLabels, Counter>,
    token_reviews: Family<AcceptedLabels, Counter>,
    pub(crate) limited: Counter,
    pub(crate) break_glass: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AcceptedLabels {
    accepted: &'static str,
}

impl Metrics {
    /// Registers the numbers.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("hoop_gateway");
        registry.register(
            "tokens_verified",
            "ID tokens whose signature and claims were checked; each once, as long as it is remembered",
            metrics.tokens_verified.clone(),
        );
        registry.register(
            "issuer_key_fetches",
            "Times that the keys of an issuer were fetched",
            metrics.key_fetches.clone(),
        );
        registry.register(
            "token_reviews",
            "Tokens that the API server was asked about",
            metrics.token_reviews.clone(),
        );
        registry.register(
            "authentication_limited",
            "Requests without identity that were answered 429, and recorded only as a number",
            metrics.limited.clone(),
        );
        registry.register(
            "break_glass_requests",
            "Requests by a credential that is for emergencies only; alert on any",
            metrics.break_glass.clone(),
        );
        metrics
    }

    pub(super) fn token_verified(&self, accepted: bool) {
        self.tokens_verified.get_or_create(&labels(accepted)).inc();
    }

    pub(super) fn keys_fetched(&self, accepted: bool) {
        self.key_fetches.get_or_create(&labels(accepted)).inc();
    }

    pub(super) fn token_reviewed(&self, accepted: bool) {
        self.token_reviews.get_or_create(&labels(accepted)).inc();
    }
}

fn labels(accepted: bool) -> AcceptedLabels {
    AcceptedLabels {
        accepted: if accepted { "true" } else { "false" },
    }
}
