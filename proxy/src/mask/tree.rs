//! Masking on a tree: the plain way, kept as the model that the streaming way is tested against.

use hoop_schema::kinds::request::Masked;
use serde_json::Value;

use super::{MaskError, MaskHint, MaskKey, MaskMode, SENTINEL};

pub(super) fn mask_values(
    bytes: &[u8],
    hint: MaskHint,
    mode: MaskMode,
    _key: &MaskKey,
    masked: &mut Masked,
    out: &mut Vec<u8>,
    at_end: bool,
) -> Result<usize, MaskError> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut done = 0;
    loop {
        match values.next() {
            Some(Ok(mut value)) => {
                done = values.byte_offset();
                if mode != MaskMode::None {
                    object(&mut value, hint, masked);
                }
                out.extend_from_slice(value.to_string().as_bytes());
                out.push(b'\n');
            }
            Some(Err(error)) if error.is_eof() && !at_end => return Ok(done),
            Some(Err(_)) => {
                return Err(MaskError {
                    offset: done as u64,
                    what: "no JSON value",
                });
            }
            None => return Ok(bytes.len()),
        }
    }
}

fn object(value: &mut Value, hint: MaskHint, masked: &mut Masked) {
    let is_secret = hint == MaskHint::Secrets
        || value["kind"]
            .as_str()
            .is_some_and(|k| k.starts_with("Secret"));
    let hint = if is_secret { MaskHint::Secrets } else { hint };
    let Some(map) = value.as_object_mut() else {
        return;
    };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("data", Value::Object(data)) if is_secret => {
                for value in data.values_mut() {
                    *value = Value::from(base64::Engine::encode(
                        &base64::prelude::BASE64_STANDARD,
                        SENTINEL,
                    ));
                    masked.count += 1;
                }
            }
            ("stringData", Value::Object(data)) if is_secret => {
                for value in data.values_mut() {
                    *value = Value::from(SENTINEL);
                    masked.count += 1;
                }
            }
            ("metadata", metadata) if is_secret => {
                if let Some(annotations) = metadata
                    .get_mut("annotations")
                    .and_then(Value::as_object_mut)
                {
                    for (key, value) in annotations.iter_mut() {
                        if key == "kubectl.kubernetes.io/last-applied-configuration" {
                            *value = Value::from(SENTINEL);
                            masked.count += 1;
                        }
                    }
                }
            }
            ("status", status) if hint == MaskHint::TokenRequest => {
                if let Some(token) = status.get_mut("token") {
                    *token = Value::from(SENTINEL);
                    masked.count += 1;
                }
            }
            ("items" | "rows", Value::Array(items)) => {
                items.iter_mut().for_each(|item| object(item, hint, masked))
            }
            ("object", value) => object(value, hint, masked),
            _ => {}
        }
    }
}
