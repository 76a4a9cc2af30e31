//! What a request means: method and target, read exactly as the Kubernetes API server reads them.
//!
//! [`parse`] mirrors `k8s.io/apiserver/pkg/endpoints/request.RequestInfoFactory` (1.37), then refuses what two
//! parsers might read in two ways: what the gateway decides about must be what the API server does. Forward the very
//! target that was parsed, byte for byte.
//!
//! Pure: no I/O, no clock. Not here: what is allowed (see [`crate::policy`]).

mod query;
mod refuse;
mod selector;
mod upstream;

use hoop_schema::kinds::request::ObjectRef;

pub use query::Query;
pub(crate) use query::escapes_are_whole;

/// A request that the API server and the gateway understand alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Kubernetes verb, such as `list`; the lower-case HTTP method for a non-resource request. Never empty.
    pub verb: String,
    /// Whether this is about a resource rather than a bare path.
    pub is_resource: bool,
    /// Path, percent-decoded once. Bytes that are not UTF-8 (possible only after `/proxy/`) are replaced.
    pub path: String,
    /// What it is about; present exactly when `is_resource`.
    pub object: Option<ObjectRef>,
    /// `labelSelector` of a list, watch or deletecollection, as sent.
    pub label_selector: String,
    /// `fieldSelector` of a list, watch or deletecollection, as sent.
    pub field_selector: String,
    /// The query, decoded.
    pub query: Query,
}

/// A request that is answered with an error, because it could be read in more than one way, or in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Absolute form, authority form, or not a path at all.
    #[error("the request target must be a path that begins with one slash")]
    NotAPath,
    /// `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("the path is not percent-encoded UTF-8")]
    BadEncoding,
    /// `//` inside the path.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("the path has a segment `.` or `..`")]
    DotSegment,
    /// A slash, backslash, control character or delimiter that only an encoding can bring into a segment.
    #[error(
        "the path has a character that is not allowed in a segment (one of / \\ % ? # ; or a control character)"
    )]
    BadCharacter,
    /// A method that has no Kubernetes verb.
    #[error("the method is not one that the Kubernetes API knows")]
    UnknownMethod,
    /// A `/watch/` or `/proxy/` prefix that is not followed by a resource, or is used with another method than GET.
    #[error("the path has a `watch` or `proxy` prefix that the Kubernetes API does not serve")]
    BadPrefix,
    /// A `;` or a bad percent-encoding in the query: parsers disagree about what it says.
    #[error("the query has a pair that cannot be decoded without doubt")]
    BadQuery,
}

impl Malformed {
    /// HTTP status of the answer: 405 for a method without a verb, else 400.
    pub fn status(self) -> u16 {
        match self {
            Self::UnknownMethod => 405,
            _ => 400,
        }
    }

    /// `reason` of the Kubernetes Status that goes with [`Malformed::status`].
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownMethod => "MethodNotAllowed",
            _ => "BadRequest",
        }
    }
}

/// Reads a method and a request target in origin form (path and query; for HTTP/2, `:path`).
///
/// # Errors
/// When the request could be read in more than one way, or has no Kubernetes verb. Display is for the client.
pub fn parse(method: &str, target: &str) -> Result<RequestInfo, Malformed> {
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    refuse::target(raw_path)?;
    let decoded = upstream::decode_path(raw_path).ok_or(Malformed::BadEncoding)?;
    let (query, query_is_clear) = Query::parse(raw_query);
    let attributes = upstream::attributes(method, &decoded, &query).ok_or(Malformed::BadPrefix)?;
    refuse::request(method, raw_path, &attributes, query_is_clear)?;
    let upstream::Attributes {
        is_resource,
        verb,
        object,
        label_selector,
        field_selector,
        ..
    } = attributes;
    Ok(RequestInfo {
        verb,
        is_resource,
        path: String::from_utf8_lossy(&decoded).into_owned(),
        object: is_resource.then_some(object),
        label_selector,
        field_selector,
        query,
    })
}

impl RequestInfo {
    /// Whether the answer is a stream of watch events.
    pub fn is_watch(&self) -> bool {
        self.is_resource && self.verb == "watch"
    }

    /// Whether this reads a log (`pods/log`).
    pub fn is_log(&self) -> bool {
        self.resource_is("pods", &["log"])
    }

    /// Whether this follows a log (`pods/log` with `follow`).
    pub fn is_log_follow(&self) -> bool {
        self.is_log() && self.query.flag("follow")
    }

    /// Whether the API server sets no time limit on it: watch, the verb `proxy`, and the subresources `attach`,
    /// `exec`, `log`, `portforward` and `proxy`.
    pub fn is_long_running(&self) -> bool {
        const SUBRESOURCES: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];
        self.is_resource
            && (self.verb == "watch"
                || self.verb == "proxy"
                || SUBRESOURCES.contains(&self.subresource()))
    }

    /// Whether this runs something in a pod or opens a way into it: `pods/exec`, `pods/attach`, `pods/portforward`,
    /// whatever the HTTP method. To policy it is the one verb `exec`.
    pub fn is_exec_like(&self) -> bool {
        self.resource_is("pods", &["attach", "exec", "portforward"])
    }

    /// Whether the API server passes the request on to a pod, a service or a kubelet.
    pub fn is_proxy_subresource(&self) -> bool {
        ["nodes", "pods", "services"]
            .iter()
            .any(|resource| self.resource_is(resource, &["proxy"]))
    }

    /// Whether this asks what the API server offers: `/api`, `/apis`, `/api/V`, `/apis/G`, `/apis/G/V`, `/openapi/…`
    /// and `/version`, with GET or HEAD. Without it no client can work.
    pub fn is_discovery(&self) -> bool {
        if self.is_resource || !self.is_read() {
            return false;
        }
        let segments: Vec<&str> = self.path.split('/').filter(|s| !s.is_empty()).collect();
        match segments.first() {
            Some(&"api") => segments.len() <= 2,
            Some(&"apis") => segments.len() <= 3,
            Some(&"openapi") => true,
            Some(&"version") => segments.len() == 1,
            _ => false,
        }
    }

    /// Whether this asks for the health of the API server: `/healthz`, `/livez`, `/readyz` and what is below them,
    /// with GET or HEAD.
    pub fn is_health(&self) -> bool {
        let first = self.path.split('/').find(|s| !s.is_empty());
        !self.is_resource && self.is_read() && matches!(first, Some("healthz" | "livez" | "readyz"))
    }

    /// Whether this is a caller's question about itself: `create` of a self subject review.
    pub fn is_self_review(&self) -> bool {
        self.verb == "create"
            && self.object.as_ref().is_some_and(|object| {
                object.subresource.is_empty()
                    && matches!(
                        (object.api_group.as_str(), object.resource.as_str()),
                        ("authentication.k8s.io", "selfsubjectreviews")
                            | (
                                "authorization.k8s.io",
                                "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
                            )
                    )
            })
    }

    /// Whether the request asks not to be carried out (`dryRun` with any value). Its answer holds whole objects.
    pub fn is_dry_run(&self) -> bool {
        self.query.first("dryRun").is_some_and(|v| !v.is_empty())
    }

    /// API group of the resource; empty for the core group and for a non-resource request.
    pub fn api_group(&self) -> &str {
        self.object.as_ref().map_or("", |o| &o.api_group)
    }

    /// Plural resource; empty for a non-resource request.
    pub fn resource(&self) -> &str {
        self.object.as_ref().map_or("", |o| &o.resource)
    }

    /// Subresource, empty when there is none.
    pub fn subresource(&self) -> &str {
        self.object.as_ref().map_or("", |o| &o.subresource)
    }

    /// Namespace; empty for cluster scope or all namespaces.
    pub fn namespace(&self) -> &str {
        self.object.as_ref().map_or("", |o| &o.namespace)
    }

    /// Name of the object; empty for collections.
    pub fn name(&self) -> &str {
        self.object.as_ref().map_or("", |o| &o.name)
    }

    /// Whether a non-resource request only reads.
    fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "head")
    }

    fn resource_is(&self, resource: &str, subresources: &[&str]) -> bool {
        self.object.as_ref().is_some_and(|object| {
            object.api_group.is_empty()
                && object.resource == resource
                && subresources.contains(&object.subresource.as_str())
        })
    }
}

#[cfg(test)]
mod tests;
