//! The body of a request: read whole within limits, searched for masked values, masked for the record.
//!
//! It is read before it is forwarded, because a masked value that comes back must be found before it does harm. What
//! goes upstream are the bytes that came.

use std::sync::Arc;

use bytes::Bytes;
use hoop_schema::kinds::request::{Level, Masked};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::config::Limits;
use crate::mask::{MaskHint, MaskKey, Masker, contains_masked_value};
use crate::policy::Verdict;
use crate::record::MaskedBody;
use crate::request_info::RequestInfo;
use crate::status::Refusal;

/// The deepest path that is named to the person.
const FIELD_DEPTH_MAX: usize = 32;

/// A request's body.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    /// As it came.
    pub(crate) bytes: Bytes,
    /// As it is recorded; `None` when there is none, or the level leaves it out.
    pub(crate) recorded: Option<MaskedBody>,
    /// What was masked in the recorded form.
    pub(crate) masked: Masked,
}

/// Reads a body.
pub(crate) async fn read(body: Incoming, limits: &Limits) -> Result<Bytes, Refusal> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let bytes_max = limits.body_bytes_max;
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::body_too_large(bytes_max));
    }
    let reading = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Err(_) => Err(Refusal::body_timeout()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::body_too_large(bytes_max)),
        Ok(Err(_)) => Err(Refusal::broken("its body ended early")),
    }
}

/// Where a masked value comes back, if one does.
pub(crate) fn masked_field(body: &[u8]) -> Option<String> {
    contains_masked_value(body)?;
    let field = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| {
            let mut path = Vec::new();
            find(&value, &mut path).then(|| path.join("."))
        });
    Some(field.unwrap_or_else(|| "the body".to_owned()))
}

/// Finds the first string with a masked value and leaves the way to it in `path`.
fn find(value: &serde_json::Value, path: &mut Vec<String>) -> bool {
    if path.len() > FIELD_DEPTH_MAX {
        return false;
    }
    match value {
        serde_json::Value::String(text) => contains_masked_value(text.as_bytes()).is_some(),
        serde_json::Value::Array(items) => items.iter().enumerate().any(|(i, item)| {
            path.push(i.to_string());
            find(item, path) || path.pop().is_none()
        }),
        serde_json::Value::Object(fields) => fields.iter().any(|(name, field)| {
            path.push(name.clone());
            find(field, path) || path.pop().is_none()
        }),
        _ => false,
    }
}

/// Prepares the recorded form: JSON masked, anything else left out, since it cannot be inspected.
pub(crate) fn for_record(
    bytes: Bytes,
    headers: &HeaderMap,
    info: &RequestInfo,
    verdict: &Verdict,
    key: &Arc<MaskKey>,
) -> RequestBody {
    if bytes.is_empty() || verdict.level == Level::Metadata {
        return RequestBody {
            bytes,
            ..RequestBody::default()
        };
    }
    let media_type = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    // What passes on to a pod has no kind to be masked by.
    let masked = if info.is_resource && !info.is_proxy_subresource() {
        masked_json(&bytes, info, verdict, key)
    } else {
        None
    };
    let (recorded, masked) = match masked {
        Some((recorded, masked)) => (Some(Bytes::from(recorded)), masked),
        None => (None, Masked::default()),
    };
    let length = recorded.as_ref().map_or(bytes.len(), Bytes::len) as u64;
    RequestBody {
        bytes,
        recorded: Some(MaskedBody {
            recorded,
            bytes: length,
            media_type,
        }),
        masked,
    }
}

/// The masked form of a body that is JSON. An apply patch is called YAML and is JSON all the same, so the bytes count.
fn masked_json(
    bytes: &[u8],
    info: &RequestInfo,
    verdict: &Verdict,
    key: &Arc<MaskKey>,
) -> Option<(Vec<u8>, Masked)> {
    if !matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return None;
    }
    let mut masker = Masker::new(
        MaskHint::of(info),
        verdict.mask.for_record(),
        Arc::clone(key),
    );
    let mut out = Vec::with_capacity(bytes.len() + 64);
    masker.push(bytes, &mut out).ok()?;
    masker.finish(&mut out).ok()?;
    Some((out, masker.masked().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::SENTINEL;

    #[test]
    fn the_field_that_brings_a_masked_value_back_is_named() {
        let body = format!(
            r#"{{"kind":"Secret","a":[1],"stringData":{{"u":"x","password":"{SENTINEL}"}}}}"#
        );
        assert_eq!(
            masked_field(body.as_bytes()).as_deref(),
            Some("stringData.password")
        );
        let body = format!(r#"[{{"op":"add","path":"/data/x","value":"{SENTINEL}"}}]"#);
        assert_eq!(masked_field(body.as_bytes()).as_deref(), Some("0.value"));
        let body = format!("k8s\0 {SENTINEL}");
        assert_eq!(masked_field(body.as_bytes()).as_deref(), Some("the body"));
        assert_eq!(masked_field(b"{\"data\":{}}"), None);
    }
}
