//! Answers of the gateway itself: Kubernetes `Status` objects, in the words and with the headers of the API server, so
//! that `kubectl` prints the message and nothing else.
//!
//! Only discovery is different: for `/api` and `/apis` kubectl does not decode a Status but shows plain text.
//!
//! No answer but one carries `Retry-After`: with it, kubectl and client-go would repeat the request silently ten times, writes
//! included, and the person would learn the reason only at the end. Without it they see it at once; controllers back
//! off on their own. The one is 429 for an address that fails too often to say who it is, and that is to be slow.

use bytes::Bytes;
use hoop_schema::kinds::request::{Cause, Decision, ObjectRef};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::request_info::Malformed;

/// Why a request is answered by the gateway with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) code: StatusCode,
    /// `reason` of the Status; clients branch on it.
    pub(crate) reason: &'static str,
    /// For the person. Names no internals and no secrets.
    pub(crate) message: String,
    /// As recorded.
    pub(crate) cause: Cause,
    /// What an approval is asked for by; `details.uid` of the Status.
    pub(crate) id: Option<String>,
}

#[derive(Serialize)]
struct Status<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causes: Option<[StatusCause<'a>; 1]>,
}

#[derive(Serialize)]
struct StatusCause<'a> {
    message: &'a str,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, cause: Cause, message: String) -> Self {
        Self {
            code,
            reason,
            message,
            cause,
            id: None,
        }
    }

    /// 401: nobody, as `why` says.
    pub(crate) fn unauthenticated(why: &str) -> Self {
        let message = format!("the gateway does not know who you are: {why}");
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            Cause::Unauthenticated,
            message,
        )
    }

    /// 401: somebody whose access was ended, as `message` says.
    pub(crate) fn ended(message: String) -> Self {
        let code = StatusCode::UNAUTHORIZED;
        Self::new(code, "Unauthorized", Cause::AccessEnded, message)
    }

    /// 429: nobody, once too often.
    pub(crate) fn too_many_failures() -> Self {
        let message = "too many requests of your address came without a valid credential; wait, and look at your credential"
            .into();
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            Cause::Unauthenticated,
            message,
        )
    }

    /// 403 by policy, whose message is in the API server's words.
    pub(crate) fn denied(decision: &Decision) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            decision.cause,
            decision.message.clone(),
        )
    }

    /// 403 that a rule wants an approval for.
    /// `id` names the request, here and in the record.
    pub(crate) fn approval_required(decision: &Decision, id: &str) -> Self {
        let message = format!(
            "{}. This gateway does not take approvals yet: tell whoever keeps its policy the id {id}",
            decision.message
        );
        let mut refusal = Self::new(
            StatusCode::FORBIDDEN,
            "ApprovalRequired",
            decision.cause,
            message,
        );
        refusal.id = Some(id.to_owned());
        refusal
    }

    /// 400, or 405 for the method: not a request that can be understood without doubt.
    pub(crate) fn malformed(malformed: Malformed) -> Self {
        let code = StatusCode::from_u16(malformed.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let message = format!("the gateway refuses this request: {malformed}");
        Self::new(code, malformed.reason(), Cause::Malformed, message)
    }

    /// 400: not HTTP, or not all of it.
    pub(crate) fn broken(what: &str) -> Self {
        let message = format!("the gateway refuses this request: {what}");
        Self::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            Cause::Malformed,
            message,
        )
    }

    /// 431: it does not fit into the record.
    pub(crate) fn attributes_too_long() -> Self {
        let message =
            "the request's target and headers together are too long to be recorded".into();
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "RequestHeaderFieldsTooLarge",
            Cause::TooLarge,
            message,
        )
    }

    /// 414: more than HTTP reads.
    pub(crate) fn target_too_long() -> Self {
        let message = "the gateway refuses this request: its target is too long".into();
        Self::new(
            StatusCode::URI_TOO_LONG,
            "RequestURITooLong",
            Cause::TooLarge,
            message,
        )
    }

    /// 408: the body did not come.
    pub(crate) fn body_timeout() -> Self {
        let message = "the gateway refuses this request: its body did not arrive in time".into();
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "Timeout",
            Cause::Malformed,
            message,
        )
    }

    /// 413: too much body.
    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        let message = format!("the request's body is larger than the {bytes_max} bytes allowed");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            Cause::TooLarge,
            message,
        )
    }

    /// 415: a body that nothing here can look into.
    pub(crate) fn unsupported_body(why: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            Cause::Uninspectable,
            why.to_owned(),
        )
    }

    /// 431: too much head.
    pub(crate) fn headers_too_large(bytes_max: usize, headers_max: usize) -> Self {
        let message = format!(
            "the request's headers are more than the {bytes_max} bytes or {headers_max} lines allowed"
        );
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "RequestHeaderFieldsTooLarge",
            Cause::TooLarge,
            message,
        )
    }

    /// 403: an upgrade that could not be recorded.
    pub(crate) fn upgrade(message: String) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            Cause::UpgradeRefused,
            message,
        )
    }

    /// 403: `--as` in a form that could be read as something else.
    pub(crate) fn impersonation(why: &str) -> Self {
        let message = format!(
            "acting as somebody else (--as, Impersonate-User and its like) is not possible so: {why}"
        );
        Self::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            Cause::ImpersonationRefused,
            message,
        )
    }

    /// 422: a masked value came back.
    pub(crate) fn masked_write(field: &str) -> Self {
        let message = format!(
            "{field} holds a value that was masked when you read it; writing it would destroy the real one. \
             Leave the field out, or give its new value"
        );
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            Cause::MaskedWrite,
            message,
        )
    }

    /// 503: what cannot be recorded is not done.
    pub(crate) fn log_unavailable() -> Self {
        let message = "nothing was done: the audit log does not take records at the moment, and this gateway does nothing \
                       that it cannot record. Try again shortly"
            .into();
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            Cause::LogUnavailable,
            message,
        )
    }

    /// 502: an answer that was to be masked and cannot be read.
    pub(crate) fn uninspectable() -> Self {
        let message =
            "the API server's answer could not be inspected for secrets, so it was not passed on"
                .into();
        Self::new(
            StatusCode::BAD_GATEWAY,
            "BadGateway",
            Cause::Uninspectable,
            message,
        )
    }

    /// The Status object.
    pub(crate) fn body(&self, object_ref: Option<&ObjectRef>) -> Bytes {
        let id = self.id.as_deref();
        status_object(self.code, self.reason, &self.message, object_ref, id)
    }
}

/// A Status object as one line of JSON.
pub(crate) fn status_body(
    code: StatusCode,
    reason: &str,
    message: &str,
    object_ref: Option<&ObjectRef>,
) -> Bytes {
    status_object(code, reason, message, object_ref, None)
}

/// A watch event that ends a watch: client-go hands its Status to the caller, and kubectl prints the message.
pub(crate) fn watch_error(message: &str) -> Bytes {
    let status = status_body(StatusCode::UNAUTHORIZED, "Unauthorized", message, None);
    let mut event = b"{\"type\":\"ERROR\",\"object\":".to_vec();
    event.extend_from_slice(status.trim_ascii_end());
    event.extend_from_slice(b"}\n");
    event.into()
}

fn status_object(
    code: StatusCode,
    reason: &str,
    message: &str,
    object_ref: Option<&ObjectRef>,
    id: Option<&str>,
) -> Bytes {
    let nothing = ObjectRef::default();
    let object_ref = object_ref.or(id.is_some().then_some(&nothing));
    let status = Status {
        kind: "Status",
        api_version: "v1",
        metadata: Empty {},
        status: "Failure",
        message,
        reason,
        details: object_ref.map(|object| Details {
            name: &object.name,
            group: &object.api_group,
            kind: &object.resource,
            uid: id,
            // Of a Status with the reason Invalid, kubectl prints the causes and not the message.
            causes: (reason == "Invalid").then_some([StatusCause { message }]),
        }),
        code: code.as_u16(),
    };
    let mut body = serde_json::to_vec(&status).expect("strings and numbers have a JSON form");
    body.push(b'\n');
    body.into()
}

/// The headers that go with a Status.
pub(crate) fn headers(media_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoop_schema::kinds::request::Effect;

    #[test]
    fn a_refusal_is_the_status_that_the_api_server_would_send() {
        let object = ObjectRef {
            resource: "secrets".into(),
            namespace: "ns1".into(),
            name: "s1".into(),
            ..ObjectRef::default()
        };
        let decision = Decision {
            effect: Effect::Deny,
            cause: Cause::NoMatch,
            profile: None,
            rule: None,
            message: "secrets \"s1\" is forbidden: no rule allows it".into(),
            policy_revision: String::new(),
        };
        let body = Refusal::denied(&decision).body(Some(&object));
        let expected = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"secrets \"s1\" is forbidden: "#,
            r#"no rule allows it","reason":"Forbidden","details":{"name":"s1","kind":"secrets"},"code":403}"#,
            "\n"
        );
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    }
}
