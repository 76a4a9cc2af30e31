//! The body of a request: read whole within limits, unpacked, searched for masked values, masked for the record.
//!
//! It is read before it is forwarded, because a masked value that comes back must be found before it does harm. What
//! goes upstream are the bytes that came.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use hoop_schema::kinds::request::{Level, Masked};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::config::Limits;
use crate::mask::{MaskHint, MaskKey, Masker, contains_masked_value};
use crate::policy::Verdict;
use crate::protobuf::{self, Unread};
use crate::record::MaskedBody;
use crate::request_info::RequestInfo;
use crate::status::Refusal;

/// The deepest path that is named to the person.
const FIELD_DEPTH_MAX: usize = 32;

/// What CBOR of Kubernetes begins with: the tag that says that it is CBOR.
const CBOR_TAG: &[u8] = b"\xd9\xd9\xf7";

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

/// Whether it is said in one way how the body is framed: by chunks, or by a length. HTTP takes other codings off its
/// hands only where `chunked` is the last of them, and leaves the rest in the bytes.
pub(crate) fn framing(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err("it has a transfer coding other than chunked"),
    }
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

/// The body as it is to be read: unpacked where it is compressed. `limits` hold for that too.
///
/// # Errors
/// When it is packed or written in a way that could not be searched for masked values.
pub(crate) fn unpacked(
    bytes: &Bytes,
    headers: &HeaderMap,
    info: &RequestInfo,
    limits: &Limits,
) -> Result<Bytes, Refusal> {
    // What passes on to a pod is not read at all.
    if bytes.is_empty() || !info.is_resource || info.is_proxy_subresource() {
        return Ok(bytes.clone());
    }
    if bytes.starts_with(CBOR_TAG) || media_type(headers).starts_with("application/cbor") {
        return Err(Refusal::unsupported_body(
            "CBOR bodies are not read here; send JSON, as clients do when they get this answer",
        ));
    }
    let encodings = headers.get_all(CONTENT_ENCODING);
    let mut names = encodings.iter().map(http::HeaderValue::as_bytes);
    let Some(name) = names.find(|name| !name.eq_ignore_ascii_case(b"identity")) else {
        return Ok(bytes.clone());
    };
    if !name.eq_ignore_ascii_case(b"gzip") || names.next().is_some() {
        return Err(Refusal::unsupported_body(
            "the body is compressed in a way that is not read here; send it as it is, or with gzip",
        ));
    }
    let mut plain = Vec::new();
    // One more than allowed says that there is more.
    let bytes_max = limits.body_bytes_max;
    let reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
    match reader.take(bytes_max as u64 + 1).read_to_end(&mut plain) {
        Ok(_) if plain.len() > bytes_max => Err(Refusal::body_too_large(bytes_max)),
        Ok(_) => Ok(plain.into()),
        Err(_) => Err(Refusal::broken("its body says that it is gzip and is not")),
    }
}

/// Where a masked value comes back, if one does, in a body that was unpacked.
pub(crate) fn masked_field(body: &[u8]) -> Option<String> {
    contains_masked_value(body)?;
    let field = tree(body).and_then(|value| {
        let mut path = Vec::new();
        find(&value, &mut path).then(|| path.join("."))
    });
    Some(field.unwrap_or_else(|| "the body".to_owned()))
}

/// A body as a tree: JSON, protobuf of a known kind, or YAML.
fn tree(body: &[u8]) -> Option<serde_json::Value> {
    if protobuf::is_enveloped(body) {
        return protobuf::decode(body, Unread::Sized).ok();
    }
    let json = serde_json::from_slice(body).ok();
    json.or_else(|| serde_saphyr::from_str(std::str::from_utf8(body).ok()?).ok())
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

/// Prepares the recorded form: masked where it can be read, left out where it cannot. `plain` is the body unpacked.
pub(crate) fn for_record(
    bytes: Bytes,
    plain: &Bytes,
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
    // What passes on to a pod has no kind to be masked by.
    let masked = if info.is_resource && !info.is_proxy_subresource() {
        readable(plain, headers, verdict).and_then(|json| masked_json(&json, info, verdict, key))
    } else {
        None
    };
    let (recorded, masked) = match masked {
        Some((recorded, masked)) => (Some(Bytes::from(recorded)), masked),
        None => (None, Masked::default()),
    };
    let length = recorded.as_ref().map_or(bytes.len(), Bytes::len) as u64;
    let media_type = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
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

/// A body as JSON. An apply patch is called YAML and is JSON all the same as a rule, so the bytes count. Of protobuf,
/// what is not read is named with its size; and with its hash where nothing in it would be masked, since a hash lets
/// who knows the rest guess.
fn readable<'a>(plain: &'a [u8], headers: &HeaderMap, verdict: &Verdict) -> Option<Cow<'a, [u8]>> {
    if matches!(plain.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Some(Cow::Borrowed(plain));
    }
    let value = if protobuf::is_enveloped(plain) {
        let unread = match verdict.masking {
            None => Unread::Hashed,
            Some(_) => Unread::Sized,
        };
        protobuf::decode(plain, unread).ok()?
    } else if media_type(headers).ends_with("yaml") {
        serde_saphyr::from_str(std::str::from_utf8(plain).ok()?).ok()?
    } else {
        return None;
    };
    serde_json::to_vec(&value).ok().map(Cow::Owned)
}

fn masked_json(
    bytes: &[u8],
    info: &RequestInfo,
    verdict: &Verdict,
    key: &Arc<MaskKey>,
) -> Option<(Vec<u8>, Masked)> {
    let rules = verdict.masking.as_ref().map(|masking| masking.record());
    let mut masker = Masker::new(MaskHint::of(info), verdict.record_mask, Arc::clone(key))
        .with_rules(rules, info.resource());
    let mut out = Vec::with_capacity(bytes.len() + 64);
    masker.push(bytes, &mut out).ok()?;
    masker.finish(&mut out).ok()?;
    Some((out, masker.masked().clone()))
}

/// `Content-Type` without parameters, in lower case; empty when there is none.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let whole = String::from_utf8_lossy(value.unwrap_or_default());
    let name = whole.split(';').next().unwrap_or_default();
    name.trim().to_ascii_lowercase()
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
        let body = format!("kind: Secret\nstringData:\n  a: x\n  password: '{SENTINEL}'\n");
        assert_eq!(
            masked_field(body.as_bytes()).as_deref(),
            Some("stringData.password")
        );
        let body = r#"{"stringData":{"a":"\u002a*hoop-masked**"}}"#;
        assert_eq!(
            masked_field(body.as_bytes()).as_deref(),
            Some("stringData.a")
        );
        let mut body =
            b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x1a\x22\x18\x0a\x05token\x12\x0f".to_vec();
        body.extend(SENTINEL.as_bytes());
        assert_eq!(masked_field(&body).as_deref(), Some("stringData.token"));
        assert_eq!(masked_field(b"{\"data\":{}}"), None);
    }
}
