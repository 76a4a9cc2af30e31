//! Reading protobuf request bodies.
//!
//! `kubectl create secret generic`, `create configmap`, `create namespace`, `create serviceaccount`, `create token`,
//! `auth can-i` and `auth whoami` POST `application/vnd.kubernetes.protobuf` and do **not** fall back to JSON when
//! they get a 415 (seen with 1.32); typed clients of client-go from 0.32 on, Helm's among them, send all built-in kinds
//! so. Those of kubectl are decoded by the field numbers of `generated.proto`; of any other kind, what all have in
//! common, which is their metadata.
//!
//! Envelope: `6b 38 73 00`, then `Unknown{1 typeMeta{1 apiVersion, 2 kind}, 2 raw}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Media type of such a body.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// What becomes of fields that are not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Left out. A kind that is not known is refused.
    Dropped,
    /// Named by number, with their size and their hash.
    Hashed,
    /// Named by number, with their size.
    Sized,
}

/// How a field is written, and what becomes of it in JSON.
enum Field {
    Text,
    Number,
    Truth,
    Texts,
    TextMap,
    BytesMap,
    Message(&'static Schema),
}

/// Field number, JSON name and form.
type Schema = [(u64, &'static str, Field)];

static METADATA: &Schema = &[
    (1, "name", Field::Text),
    (2, "generateName", Field::Text),
    (3, "namespace", Field::Text),
    (5, "uid", Field::Text),
    (6, "resourceVersion", Field::Text),
    (11, "labels", Field::TextMap),
    (12, "annotations", Field::TextMap),
    (14, "finalizers", Field::Texts),
];

static SECRET: &Schema = &[
    (1, "metadata", Field::Message(METADATA)),
    (2, "data", Field::BytesMap),
    (3, "type", Field::Text),
    (4, "stringData", Field::TextMap),
    (5, "immutable", Field::Truth),
];

static CONFIG_MAP: &Schema = &[
    (1, "metadata", Field::Message(METADATA)),
    (2, "data", Field::TextMap),
    (3, "binaryData", Field::BytesMap),
    (4, "immutable", Field::Truth),
];

/// Namespace, ServiceAccount, SelfSubjectReview: nothing but metadata matters.
static METADATA_ONLY: &Schema = &[(1, "metadata", Field::Message(METADATA))];

static RESOURCE_ATTRIBUTES: &Schema = &[
    (1, "namespace", Field::Text),
    (2, "verb", Field::Text),
    (3, "group", Field::Text),
    (4, "version", Field::Text),
    (5, "resource", Field::Text),
    (6, "subresource", Field::Text),
    (7, "name", Field::Text),
];

static ACCESS_REVIEW: &Schema = &[
    (1, "metadata", Field::Message(METADATA)),
    (
        2,
        "spec",
        Field::Message(&[
            (1, "resourceAttributes", Field::Message(RESOURCE_ATTRIBUTES)),
            (
                2,
                "nonResourceAttributes",
                Field::Message(&[(1, "path", Field::Text), (2, "verb", Field::Text)]),
            ),
        ]),
    ),
];

static TOKEN_REQUEST: &Schema = &[
    (1, "metadata", Field::Message(METADATA)),
    (
        2,
        "spec",
        Field::Message(&[
            (1, "audiences", Field::Texts),
            (4, "expirationSeconds", Field::Number),
        ]),
    ),
];

static TOKEN_REVIEW: &Schema = &[
    (1, "metadata", Field::Message(METADATA)),
    (
        2,
        "spec",
        Field::Message(&[(1, "token", Field::Text), (2, "audiences", Field::Texts)]),
    ),
];

/// Whether a body is protobuf in its envelope.
pub(crate) fn is_enveloped(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// The object in an enveloped protobuf body; the error is what could not be read.
pub(crate) fn decode(body: &[u8], unread: Unread) -> Result<Value, String> {
    let unknown = body
        .strip_prefix(MAGIC)
        .ok_or("protobuf without its magic")?;
    let damaged = || "damaged protobuf".to_owned();
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(unknown) {
        match field.ok_or_else(damaged)? {
            (1, Content::Bytes(type_meta)) => {
                for field in fields(type_meta) {
                    match field.ok_or_else(damaged)? {
                        (1, Content::Bytes(text)) => api_version = lossy(text),
                        (2, Content::Bytes(text)) => kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Content::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let schema = match kind.as_str() {
        "Secret" => SECRET,
        "ConfigMap" => CONFIG_MAP,
        "Namespace" | "ServiceAccount" | "SelfSubjectReview" => METADATA_ONLY,
        "SelfSubjectAccessReview" => ACCESS_REVIEW,
        "TokenRequest" => TOKEN_REQUEST,
        "TokenReview" => TOKEN_REVIEW,
        other if unread == Unread::Dropped => return Err(format!("protobuf of kind {other:?}")),
        _ => METADATA_ONLY,
    };
    // What the object is comes first, as readers of JSON like it.
    let mut object = Map::new();
    object.insert("kind".to_owned(), json!(kind));
    object.insert("apiVersion".to_owned(), json!(api_version));
    message(raw, schema, unread, &mut object).ok_or_else(damaged)?;
    Ok(Value::Object(object))
}

/// Adds the fields of one message; `None` when its bytes are damaged. The depth is that of the schema.
fn message(
    bytes: &[u8],
    schema: &Schema,
    unread: Unread,
    object: &mut Map<String, Value>,
) -> Option<()> {
    for field in fields(bytes) {
        let (number, content) = field?;
        let known = schema.iter().find(|(n, ..)| *n == number);
        let Some((_, name, form)) = known else {
            note_unread(number, &content, unread, object);
            continue;
        };
        match (form, content) {
            (Field::Text, Content::Bytes(text)) if !text.is_empty() => {
                object.insert((*name).to_owned(), json!(lossy(text)));
            }
            (Field::Number, Content::Number(n)) => {
                object.insert((*name).to_owned(), json!(n));
            }
            (Field::Truth, Content::Number(n)) => {
                object.insert((*name).to_owned(), json!(n != 0));
            }
            (Field::Texts, Content::Bytes(text)) => {
                let texts = object.entry(*name).or_insert_with(|| json!([]));
                texts.as_array_mut()?.push(json!(lossy(text)));
            }
            (Field::TextMap, Content::Bytes(entry)) => {
                let (key, value) = map_entry(entry)?;
                let map = object.entry(*name).or_insert_with(|| json!({}));
                map.as_object_mut()?.insert(key, json!(lossy(value)));
            }
            (Field::BytesMap, Content::Bytes(entry)) => {
                let (key, value) = map_entry(entry)?;
                let map = object.entry(*name).or_insert_with(|| json!({}));
                let value = json!(STANDARD.encode(value));
                map.as_object_mut()?.insert(key, value);
            }
            (Field::Message(schema), Content::Bytes(inner)) => {
                let mut value = Map::new();
                message(inner, schema, unread, &mut value)?;
                object.insert((*name).to_owned(), Value::Object(value));
            }
            (Field::Text, Content::Bytes(_)) => {}
            (_, content) => note_unread(number, &content, unread, object),
        }
    }
    Some(())
}

/// Says of a field that it is there.
fn note_unread(
    number: u64,
    content: &Content<'_>,
    unread: Unread,
    object: &mut Map<String, Value>,
) {
    let (bytes, length) = match content {
        Content::Bytes(bytes) => (*bytes, bytes.len()),
        // A number fits into what its size says.
        Content::Number(_) => (&[][..], 0),
    };
    let note = match unread {
        Unread::Dropped => return,
        Unread::Hashed if length > 0 => {
            let hash: String = Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            json!({"bytes": length, "sha256": hash})
        }
        Unread::Hashed | Unread::Sized => json!({"bytes": length}),
    };
    let name = format!("protobuf field {number}");
    match object.get_mut(&name) {
        Some(Value::Array(notes)) => notes.push(note),
        Some(first) => *first = json!([first.take(), note]),
        None => {
            object.insert(name, note);
        }
    }
}

fn map_entry(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value) = (String::new(), &[][..]);
    for field in fields(bytes) {
        match field? {
            (1, Content::Bytes(text)) => key = lossy(text),
            (2, Content::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key, value))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in order; one `None` at the end when it is damaged.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, Content<'_>)>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = one_field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn one_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Content<'a>)> {
    let tag = varint(rest)?;
    let content = match tag & 7 {
        0 => Content::Number(varint(rest)?),
        1 => Content::Bytes(rest.split_off(..8)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Content::Bytes(rest.split_off(..length)?)
        }
        5 => Content::Bytes(rest.split_off(..4)?),
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_as_kubectl_sends_it_is_read() {
        let mut body = MAGIC.to_vec();
        body.extend(b"\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x1d");
        body.extend(b"\x0a\x03\x0a\x01s\x12\x0e\x0a\x08password\x12\x02\xff\x00\x1a\x06Opaque");
        let secret = decode(&body, Unread::Dropped).unwrap();
        assert_eq!(secret["metadata"]["name"], "s");
        assert_eq!(secret["data"]["password"], "/wA=");
        assert_eq!(secret["type"], "Opaque");
    }

    #[test]
    fn damage_is_an_error_at_every_length() {
        let body = b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x05\x0a\x03\x0a\x01s";
        assert!(decode(body, Unread::Dropped).is_ok());
        for cut in 5..body.len() {
            let whole_field = cut == 18;
            assert_eq!(
                decode(&body[..cut], Unread::Dropped).is_ok(),
                whole_field,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn of_a_kind_that_is_not_known_the_metadata_is_read_and_the_rest_is_named() {
        let mut body = MAGIC.to_vec();
        body.extend(b"\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment\x12\x0d");
        body.extend(b"\x0a\x03\x0a\x01d\x12\x02\x08\x03\x12\x02\x08\x04");
        assert!(decode(&body, Unread::Dropped).is_err());
        let read = decode(&body, Unread::Sized).unwrap();
        assert_eq!(
            read.to_string(),
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"d"},"protobuf field 2":[{"bytes":2},{"bytes":2}]}"#
        );
        let hashed = decode(&body, Unread::Hashed).unwrap();
        let hash = hashed["protobuf field 2"][0]["sha256"].as_str();
        assert_eq!(hash.unwrap().len(), 64);
    }
}
