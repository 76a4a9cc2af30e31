//! Discovery: what kubectl asks before it asks anything else.

use serde_json::{Value, json};

use super::negotiate::Wanted;
use super::resource_types::{ResourceType, TYPES, group_versions};

/// The document at a discovery path, or `None` when the path is none.
pub(super) fn document(path: &str, wanted: Wanted) -> Option<Value> {
    let path = path.trim_matches('/');
    let aggregated = wanted == Wanted::AggregatedDiscovery;
    match path {
        "" => Some(json!({"paths": ["/api", "/apis", "/openapi/v3", "/version"]})),
        "version" => Some(version()),
        "api" if aggregated => Some(aggregated_list(|group| group.is_empty())),
        "apis" if aggregated => Some(aggregated_list(|group| !group.is_empty())),
        "api" => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        "apis" => Some(json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": groups().map(group_document).collect::<Vec<_>>(),
        })),
        "openapi/v3" => Some(openapi_index()),
        _ => {
            if let Some(rest) = path.strip_prefix("openapi/v3/") {
                let (group, version) = group_version(rest)?;
                return Some(openapi_document(group, version));
            }
            let segments: Vec<_> = path.split('/').collect();
            if let ["apis", name] = segments[..] {
                let found = groups().find(|group| *group == name)?;
                let mut document = group_document(found);
                document["kind"] = json!("APIGroup");
                document["apiVersion"] = json!("v1");
                return Some(document);
            }
            group_version(path).map(|(group, version)| resource_list(group, version))
        }
    }
}

/// Whether this is a path of discovery, which faults for tests leave alone.
pub(super) fn is_discovery(path: &str) -> bool {
    document(path, Wanted::Json).is_some() || path.starts_with("/openapi/")
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": "v1.33.0-sample",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// Names of the groups other than core.
fn groups() -> impl Iterator<Item = &'static str> {
    group_versions()
        .into_iter()
        .map(|(group, _)| group)
        .filter(|group| !group.is_empty())
}

fn group_document(group: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `api/v1` or `apis/GROUP/VERSION` of a served version.
fn group_version(path: &str) -> Option<(&'static str, &'static str)> {
    group_versions().into_iter().find(|(group, version)| {
        if group.is_empty() {
            path == format!("api/{version}")
        } else {
            path == format!("apis/{group}/{version}")
        }
    })
}

fn types_of(group: &str, version: &str) -> impl Iterator<Item = &'static ResourceType> {
    TYPES
        .iter()
        .filter(move |t| t.group == group && t.version == version)
}

fn resource_list(group: &'static str, version: &'static str) -> Value {
    let mut resources = Vec::new();
    for kind in types_of(group, version) {
        resources.push(json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": kind.verbs(),
            "shortNames": kind.short,
            "categories": categories(kind),
        }));
        for (name, sub_kind) in kind.subresources {
            resources.push(json!({
                "name": format!("{}/{name}", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": sub_kind,
                "verbs": sub_verbs(name),
            }));
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    })
}

fn aggregated_list(include: impl Fn(&str) -> bool) -> Value {
    let items: Vec<_> = group_versions()
        .into_iter()
        .filter(|(group, _)| include(group))
        .map(|(group, version)| {
            let resources: Vec<_> = types_of(group, version).map(aggregated_resource).collect();
            json!({
                "metadata": {"name": group, "creationTimestamp": null},
                "versions": [{"version": version, "freshness": "Current", "resources": resources}],
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(kind: &'static ResourceType) -> Value {
    let response = |name: &str| json!({"group": kind.group, "version": kind.version, "kind": name});
    let subresources: Vec<_> = kind
        .subresources
        .iter()
        .map(|(name, sub_kind)| {
            json!({"subresource": name, "responseKind": response(sub_kind), "verbs": sub_verbs(name)})
        })
        .collect();
    json!({
        "resource": kind.plural,
        "responseKind": response(kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs(),
        "shortNames": kind.short,
        "categories": categories(kind),
        "subresources": subresources,
    })
}

fn categories(kind: &ResourceType) -> &'static [&'static str] {
    if kind.in_all { &["all"] } else { &[] }
}

fn sub_verbs(name: &str) -> &'static [&'static str] {
    match name {
        "log" => &["get"],
        "token" => &["create"],
        _ => &["get", "patch", "update"],
    }
}

fn openapi_index() -> Value {
    let paths: serde_json::Map<_, _> = group_versions()
        .into_iter()
        .map(|(group, version)| {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=1")});
            (path, url)
        })
        .collect();
    json!({"paths": paths})
}

/// As much of OpenAPI as makes kubectl leave the checking of fields to the server: every type has a PATCH that takes
/// `fieldValidation`. There are no schemas, so `kubectl explain` finds nothing.
fn openapi_document(group: &'static str, version: &'static str) -> Value {
    let prefix = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let paths: serde_json::Map<_, _> = types_of(group, version)
        .map(|kind| {
            let scope = if kind.namespaced {
                "/namespaces/{namespace}"
            } else {
                ""
            };
            let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
            let patch = json!({
                "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.kind},
                "responses": {},
            });
            (format!("{prefix}{scope}/{}/{{name}}", kind.plural), json!({"patch": patch}))
        })
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "sample cluster", "version": "1"},
        "paths": paths,
        "components": {"schemas": {}},
    })
}
