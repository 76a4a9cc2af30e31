//! Numbers about the gateway, for Prometheus. Label values come from fixed sets, never from a client.

use hoop_schema::kinds::request::{Cause, Effect};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// The gateway's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) handshakes_failed: Counter,
    pub(crate) unread: Counter,
    requests_in_flight: Gauge,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<VerbClassLabels, Histogram>,
    upstream_errors: Family<UpstreamErrorLabels, Counter>,
    authentication_failures: Counter,
    policy_reloads: Family<ReloadLabels, Counter>,
}

/// What a verb does to the cluster, coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum VerbClass {
    /// get, list.
    Read,
    /// watch, logs: their duration says nothing about the gateway.
    Stream,
    /// create, update, patch, delete, deletecollection.
    Write,
    /// Not about a resource, or without a verb.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    effect: &'static str,
    cause: &'static str,
    verb_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbClassLabels {
    verb_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamErrorLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    accepted: &'static str,
}

/// One request that is being answered: counted as long as this lives.
#[derive(Debug)]
pub(crate) struct InFlight {
    gauge: Gauge,
    since: Instant,
}

/// From a small object out of a nearby API server (1 ms) to the API server's own limit of 60 s; finer at the low end,
/// where the gateway's own share shows.
const REQUEST_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0,
];

impl VerbClass {
    pub(crate) fn of(verb: &str, subresource: &str, is_resource: bool) -> Self {
        match verb {
            _ if !is_resource => Self::Other,
            "watch" => Self::Stream,
            "get" if subresource == "log" => Self::Stream,
            _ if matches!(subresource, "exec" | "attach" | "portforward") => Self::Stream,
            "get" | "list" => Self::Read,
            "create" | "update" | "patch" | "delete" | "deletecollection" => Self::Write,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Stream => "stream",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

impl InFlight {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let gauge = metrics.requests_in_flight.clone();
        gauge.inc();
        Self {
            gauge,
            since: Instant::now(),
        }
    }

    /// Since the request's head.
    pub(crate) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Metrics {
    /// Registers the gateway's numbers.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            handshakes_failed: Counter::default(),
            unread: Counter::default(),
            requests_in_flight: Gauge::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            upstream_errors: Family::default(),
            authentication_failures: Counter::default(),
            policy_reloads: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("hoop_gateway");
        registry.register(
            "connections",
            "Client connections that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed or took too long",
            metrics.handshakes_failed.clone(),
        );
        registry.register(
            "requests_unread",
            "Requests whose head could not be read",
            metrics.unread.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests that are being answered, streams included",
            metrics.requests_in_flight.clone(),
        );
        registry.register(
            "requests",
            "Requests, by what was decided",
            metrics.requests.clone(),
        );
        registry.register(
            "request_seconds",
            "Time from a request's head to the head of its answer",
            metrics.request_seconds.clone(),
        );
        registry.register(
            "upstream_errors",
            "Failures of the API server or the way to it",
            metrics.upstream_errors.clone(),
        );
        registry.register(
            "authentication_failures",
            "Requests whose caller could not be identified",
            metrics.authentication_failures.clone(),
        );
        registry.register(
            "policy_reloads",
            "Policies that were loaded, or refused because of errors",
            metrics.policy_reloads.clone(),
        );
        metrics
    }

    /// A request got the head of its answer.
    pub(crate) fn answered(&self, effect: Effect, cause: Cause, class: VerbClass, seconds: f64) {
        if cause == Cause::Unauthenticated {
            self.authentication_failures.inc();
        }
        let verb_class = class.as_str();
        self.requests
            .get_or_create(&RequestLabels {
                effect: effect.as_str(),
                cause: cause.as_str(),
                verb_class,
            })
            .inc();
        self.request_seconds
            .get_or_create(&VerbClassLabels { verb_class })
            .observe(seconds);
    }

    /// The API server, or the way to it, failed.
    pub(crate) fn upstream_failed(&self, operation: &'static str) {
        self.upstream_errors
            .get_or_create(&UpstreamErrorLabels { operation })
            .inc();
    }

    /// A policy was loaded or refused.
    pub(crate) fn policy_loaded(&self, accepted: bool) {
        let accepted = if accepted { "true" } else { "false" };
        self.policy_reloads
            .get_or_create(&ReloadLabels { accepted })
            .inc();
    }
}
