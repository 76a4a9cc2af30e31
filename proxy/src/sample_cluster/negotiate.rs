//! In which form an answer is wanted.

use http::HeaderMap;
use http::header::ACCEPT;

/// A form in which the cluster can answer, always JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The object.
    Json,
    /// A `meta.k8s.io/v1` Table.
    Table,
    /// Only its metadata: `PartialObjectMetadata` or its list.
    Metadata,
    /// `apidiscovery.k8s.io/v2`.
    AggregatedDiscovery,
}

/// The first form of the `Accept` header that the cluster can answer in, or `None`.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let mut clauses = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .peekable();
    if clauses.peek().is_none() {
        return Some(Wanted::Json);
    }
    clauses.find_map(one_clause)
}

fn one_clause(clause: &str) -> Option<Wanted> {
    let mut parts = clause.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut form, mut group, mut version) = (None, "", "");
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => form = Some(value),
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            // `q`, `stream`, `pretty` and unknown parameters change nothing here.
            _ => {}
        }
    }
    match (form, group, version) {
        (None, ..) => Some(Wanted::Json),
        (Some("Table"), "meta.k8s.io", "v1") => Some(Wanted::Table),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), "meta.k8s.io", "v1") => {
            Some(Wanted::Metadata)
        }
        (Some("APIGroupDiscoveryList"), "apidiscovery.k8s.io", "v2") => {
            Some(Wanted::AggregatedDiscovery)
        }
        _ => None,
    }
}
