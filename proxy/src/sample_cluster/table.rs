//! Tables and metadata views of objects, with the columns that kubectl shows.

use std::sync::Arc;

use serde_json::{Value, json};

use super::resource_types::ResourceType;

/// What goes beside each row's cells; `includeObject` of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "None" => Self::None,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// A `meta.k8s.io/v1` Table of these objects. `headed` is whether it says its columns: in a watch only the first does.
pub(super) fn table(
    kind: &ResourceType,
    objects: &[Arc<Value>],
    revision: &str,
    include: IncludeObject,
    headed: bool,
) -> Value {
    let rows: Vec<_> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": cells(kind, object)});
            match include {
                IncludeObject::None => {}
                IncludeObject::Metadata => row["object"] = metadata(object),
                IncludeObject::Object => row["object"] = object.as_ref().clone(),
            }
            row
        })
        .collect();
    let columns: Vec<_> = columns(kind)
        .iter()
        .map(|(name, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": priority})
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": if headed { json!(columns) } else { Value::Null },
        "rows": rows,
    })
}

/// Only the metadata of an object.
pub(super) fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// Names of the columns, and whether they are for `-o wide` only (priority 1).
fn columns(kind: &ResourceType) -> &'static [(&'static str, u8)] {
    match kind.kind {
        "Pod" => &[
            ("Name", 0),
            ("Ready", 0),
            ("Status", 0),
            ("Restarts", 0),
            ("Age", 0),
            ("IP", 1),
            ("Node", 1),
        ],
        "Deployment" => &[
            ("Name", 0),
            ("Ready", 0),
            ("Up-to-date", 0),
            ("Available", 0),
            ("Age", 0),
        ],
        "Secret" => &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
        "ConfigMap" => &[("Name", 0), ("Data", 0), ("Age", 0)],
        "Namespace" => &[("Name", 0), ("Status", 0), ("Age", 0)],
        "Node" => &[("Name", 0), ("Status", 0), ("Age", 0), ("Version", 0)],
        "Event" => &[
            ("Last Seen", 0),
            ("Type", 0),
            ("Reason", 0),
            ("Object", 0),
            ("Message", 0),
        ],
        _ => &[("Name", 0), ("Age", 0)],
    }
}

fn cells(kind: &ResourceType, object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let age = json!(age(&object["metadata"]["creationTimestamp"]));
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    match kind.kind {
        "Pod" => {
            let containers = object["spec"]["containers"].as_array().map_or(0, Vec::len);
            let statuses = object["status"]["containerStatuses"].as_array();
            let ready = statuses.map_or(0, |all| all.iter().filter(|s| s["ready"] == true).count());
            let restarts: u64 = statuses
                .into_iter()
                .flatten()
                .filter_map(|s| s["restartCount"].as_u64())
                .sum();
            vec![
                name,
                json!(format!("{ready}/{containers}")),
                object["status"]["phase"].clone(),
                json!(restarts.to_string()),
                age,
                object["status"]["podIP"].clone(),
                object["spec"]["nodeName"].clone(),
            ]
        }
        "Deployment" => vec![
            name,
            json!(format!(
                "{}/{}",
                number("/status/readyReplicas"),
                number("/spec/replicas")
            )),
            json!(number("/status/updatedReplicas")),
            json!(number("/status/availableReplicas")),
            age,
        ],
        "Secret" => vec![
            name,
            object["type"].clone(),
            json!(entries(&object["data"])),
            age,
        ],
        "ConfigMap" => vec![name, json!(entries(&object["data"])), age],
        "Namespace" => vec![name, object["status"]["phase"].clone(), age],
        "Node" => vec![
            name,
            json!("Ready"),
            age,
            object["status"]["nodeInfo"]["kubeletVersion"].clone(),
        ],
        "Event" => {
            let involved = &object["involvedObject"];
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            vec![
                age,
                object["type"].clone(),
                object["reason"].clone(),
                json!(format!(
                    "{}/{}",
                    text(&involved["kind"]).to_lowercase(),
                    text(&involved["name"])
                )),
                object["message"].clone(),
            ]
        }
        _ => vec![name, age],
    }
}

fn entries(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

/// How long ago, in the short form of kubectl's age column.
fn age(created: &Value) -> String {
    let created = created
        .as_str()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let Some(created) = created else {
        return "<unknown>".into();
    };
    let seconds = jiff::Timestamp::now().as_second() - created.as_second();
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}
