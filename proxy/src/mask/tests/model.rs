//! The plain way to mask, over a tree, and random documents on which the streaming way must give the same.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::*;
use super::{key, mask_in};
use crate::mask::sentinel::SENTINEL_BASE64;

const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[derive(Clone, Copy, PartialEq)]
enum Is {
    Secret,
    Other,
    Doubt,
}

/// The model: what a body becomes.
fn mask_tree(value: &Value, hint: MaskHint, is_nested: bool) -> Value {
    let by_hint = if hint == MaskHint::Secrets {
        Is::Secret
    } else {
        Is::Doubt
    };
    match value {
        Value::Array(operations) if hint == MaskHint::Secrets => operations
            .iter()
            .map(|operation| match operation {
                Value::Object(map) => Value::Object(
                    map.iter()
                        .map(|(k, v)| {
                            (
                                k.clone(),
                                if k == "value" {
                                    all(v, SENTINEL)
                                } else {
                                    v.clone()
                                },
                            )
                        })
                        .collect(),
                ),
                other => other.clone(),
            })
            .collect(),
        _ => object(value, by_hint, hint, is_nested),
    }
}

fn object(value: &Value, mut by_parent: Is, hint: MaskHint, is_nested: bool) -> Value {
    let Value::Object(map) = value else {
        return value.clone();
    };
    let (mut kind, mut foreign) = (None::<String>, false);
    let mut masked = Map::new();
    for (key, value) in map {
        let wraps = matches!(
            kind.as_deref(),
            Some("List" | "Table" | "PartialObjectMetadata" | "PartialObjectMetadataList")
        );
        let is = match kind.as_deref() {
            _ if by_parent == Is::Secret => Is::Secret,
            Some("Secret" | "SecretList") => Is::Secret,
            Some(_) if !wraps => Is::Other,
            None if foreign && by_parent == Is::Doubt => Is::Other,
            _ => by_parent,
        };
        let untyped = kind.is_none() && by_parent != Is::Other;
        let new = match (key.as_str(), value) {
            ("kind", Value::String(text)) => {
                if kind.as_deref().is_none_or(|k| !k.starts_with("Secret")) {
                    kind = Some(text.clone()).filter(|text| !text.is_empty());
                }
                let wraps = [
                    "List",
                    "Table",
                    "PartialObjectMetadata",
                    "PartialObjectMetadataList",
                ];
                if wraps.contains(&text.as_str())
                    && hint == MaskHint::Other
                    && by_parent == Is::Doubt
                {
                    by_parent = Is::Other;
                }
                value.clone()
            }
            ("apiVersion", Value::String(text)) => {
                foreign = !["", "v1"].contains(&text.as_str()) && !text.starts_with("meta.k8s.io/");
                value.clone()
            }
            ("data", _) if is != Is::Other => all(value, SENTINEL_BASE64),
            ("stringData", _) if is != Is::Other => all(value, SENTINEL),
            ("items" | "rows", Value::Array(items)) => items
                .iter()
                .map(|item| object(item, is, hint, is_nested))
                .collect(),
            ("object", _) => object(value, is, hint, is_nested),
            ("metadata", Value::Object(metadata)) if is != Is::Other => {
                metadata_of(metadata, is, is_nested)
            }
            ("status", Value::Object(status))
                if kind.as_deref() == Some("TokenRequest") || untyped =>
            {
                token(status)
            }
            ("spec", Value::Object(spec)) if kind.as_deref() == Some("TokenReview") || untyped => {
                token(spec)
            }
            _ => value.clone(),
        };
        masked.insert(key.clone(), new);
    }
    Value::Object(masked)
}

fn metadata_of(metadata: &Map<String, Value>, is: Is, is_nested: bool) -> Value {
    let annotation = |key: &String, value: &Value| match value {
        Value::String(_) if key == APPLIED && is_nested => all(value, SENTINEL),
        Value::String(text) if key == APPLIED => {
            let hint = if is == Is::Secret {
                MaskHint::Secrets
            } else {
                MaskHint::Unknown
            };
            match serde_json::from_str::<Value>(text) {
                Ok(inner) if inner.is_object() => {
                    Value::from(mask_tree(&inner, hint, true).to_string())
                }
                _ if text.is_empty() => value.clone(),
                _ => Value::from(SENTINEL),
            }
        }
        _ if key == APPLIED => all(value, SENTINEL),
        _ => value.clone(),
    };
    Value::Object(
        metadata
            .iter()
            .map(|(key, value)| {
                let new = match value {
                    Value::Object(annotations) if key == "annotations" => Value::Object(
                        annotations
                            .iter()
                            .map(|(k, v)| (k.clone(), annotation(k, v)))
                            .collect(),
                    ),
                    _ => value.clone(),
                };
                (key.clone(), new)
            })
            .collect(),
    )
}

fn token(holder: &Map<String, Value>) -> Value {
    let value = |key: &String, value: &Value| {
        if key == "token" {
            all(value, SENTINEL)
        } else {
            value.clone()
        }
    };
    Value::Object(
        holder
            .iter()
            .map(|(k, v)| (k.clone(), value(k, v)))
            .collect(),
    )
}

fn all(value: &Value, sentinel: &str) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Array(items) => items.iter().map(|item| all(item, sentinel)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.clone(), all(v, sentinel)))
            .collect(),
        _ => Value::from(sentinel),
    }
}

/// Documents made of the words that matter, in any order and at any place.
fn documents() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("Secret"),
        Just("SecretList"),
        Just("ConfigMap"),
        Just("List"),
        Just("Table"),
        Just("PartialObjectMetadata"),
        Just("TokenRequest"),
        Just("TokenReview"),
        Just("v1"),
        Just("apps/v1"),
        Just("meta.k8s.io/v1"),
        Just(""),
        Just("plain \"text\" \\ \u{1F600}\n"),
    ];
    let leaf = prop_oneof![
        4 => words.prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => "plain [a-z\\PC]{0,12}".prop_map(Value::from),
    ];
    let keys = prop_oneof![
        3 => Just("kind"), 1 => Just("apiVersion"), 3 => Just("data"), 2 => Just("stringData"), 2 => Just("metadata"),
        3 => Just("annotations"), 3 => Just(APPLIED), 2 => Just("items"), 1 => Just("rows"), 2 => Just("object"),
        1 => Just("status"), 1 => Just("spec"), 2 => Just("token"), 1 => Just("value"), 1 => Just("x\"y"),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let as_text = inner.clone().prop_map(|v| if v.is_object() { Value::from(v.to_string()) } else { v });
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            6 => prop::collection::vec((keys.clone(), prop_oneof![4 => inner, 1 => as_text]), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// The same document with other white space and some characters written as escapes.
fn rewrite(document: &Value, is_pretty: bool, escape_every: usize) -> String {
    let text = if is_pretty {
        serde_json::to_string_pretty(document).expect("a tree")
    } else {
        document.to_string()
    };
    let (mut out, mut is_inside, mut is_escaped) = (String::new(), false, false);
    for (i, c) in text.chars().enumerate() {
        if is_inside && !is_escaped && c != '"' && c != '\\' && i % escape_every == 0 {
            let mut units = [0; 2];
            c.encode_utf16(&mut units)
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
        } else {
            out.push(c);
        }
        is_inside ^= c == '"' && !is_escaped;
        is_escaped = is_inside && c == '\\' && !is_escaped;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn streaming_gives_what_the_tree_gives(
        document in documents(),
        hint in prop_oneof![Just(MaskHint::Unknown), Just(MaskHint::Secrets), Just(MaskHint::Other)],
        is_pretty: bool,
        escape_every in 1_usize..40,
        size in 1_usize..50,
    ) {
        let text = rewrite(&document, is_pretty, escape_every);
        let (masked, _) = mask_in(hint, MaskMode::Redact, text.as_bytes(), size).expect("JSON");
        let streamed: Value = serde_json::from_str(&masked).expect("still JSON");
        prop_assert_eq!(streamed, mask_tree(&document, hint, false), "{}", text);
    }

    #[test]
    fn canaries_never_show(
        values in prop::collection::vec("CANARY[a-zA-Z0-9\"\\\\\u{e9}]{6,60}", 1..8),
        size in 1_usize..80,
        in_hmac: bool,
    ) {
        use base64::Engine;
        let base64 = |value: &String| base64::prelude::BASE64_STANDARD.encode(value);
        let data: Map<String, Value> =
            values.iter().enumerate().map(|(i, v)| (format!("k{i}"), Value::from(base64(v)))).collect();
        let plain: Map<String, Value> =
            values.iter().enumerate().map(|(i, v)| (format!("k{i}"), Value::from(v.clone()))).collect();
        let applied = serde_json::json!({"apiVersion": "v1", "data": data, "kind": "Secret", "stringData": plain});
        let secret = serde_json::json!({
            "metadata": {"name": "x", "annotations": {APPLIED: applied.to_string()}},
            "data": data, "stringData": plain,
        });
        let list = serde_json::json!({"kind": "SecretList", "apiVersion": "v1", "items": [secret, secret]});
        let mode = if in_hmac { MaskMode::Hmac } else { MaskMode::Redact };
        let (masked, _) = mask_in(MaskHint::Unknown, mode, list.to_string().as_bytes(), size).expect("JSON");
        for value in &values {
            prop_assert!(!masked.contains("CANARY"));
            prop_assert!(!masked.contains(&base64(value)[..12]));
        }
        let _parsed: Value = serde_json::from_str(&masked).expect("still JSON");
    }

    #[test]
    fn nothing_panics_and_errors_agree_with_a_parser(bytes in "[\\[\\]{}\",:0-9a-u\\\\ .eE+-]{0,24}", size in 1_usize..9) {
        let mut parsed = serde_json::Deserializer::from_str(&bytes).into_iter::<Value>();
        let is_json = parsed.all(|value| value.is_ok());
        let mut masker = Masker::new(MaskHint::Unknown, MaskMode::Redact, key());
        let mut out = Vec::new();
        let mut result = Ok(());
        for chunk in bytes.as_bytes().chunks(size) {
            result = result.and_then(|()| masker.push(chunk, &mut out));
        }
        result = result.and_then(|()| masker.finish(&mut out));
        // A parser of several values wants white space between scalars; numbers may also be too large for it.
        if is_json {
            prop_assert!(result.is_ok(), "{}: {:?}", bytes, result);
        }
    }
}
