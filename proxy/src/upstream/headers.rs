//! Which headers go on to the API server and back.
//!
//! Order matters: what the client's `Connection` header names is dropped first, the gateway's own headers come after,
//! so a client cannot make one of those disappear.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hoop_schema::kinds::request::User;
use http::header::{self, ACCEPT, CONNECTION, CONTENT_LENGTH, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue};

use crate::authenticate::Identity;
use crate::impersonation;
use crate::mask::accept_for_inspection;

/// Hop-by-hop headers (RFC 9110 §7.6.1, and what older software sends): of this connection, not of the request.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Credentials of the client, and what the gateway says itself. `Accept-Encoding` goes so that answers can be
/// inspected; the body was read whole, so `Expect` is answered and `Content-Length` is known. What some servers take for
/// another method or another target goes as well: those were decided about.
const REPLACED: [&str; 16] = [
    "accept-encoding",
    "audit-id",
    "authorization",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "proxy-authorization",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Whole families of the same. API servers may be configured with further front-proxy names; all known ones begin so.
const REPLACED_PREFIXES: [&str; 4] = [
    "impersonate-",
    "x-remote-",
    "x-forwarded-",
    "sec-websocket-",
];

/// Families whose values are recorded as claims.
const CLAIM_PREFIXES: [&str; 3] = ["impersonate-", "x-remote-", "x-forwarded-"];
const CLAIMS: [&str; 2] = ["forwarded", "x-real-ip"];

/// The most that is recorded of claims: number of names, and bytes of each name's values.
const CLAIMS_MAX: usize = 32;
const CLAIM_BYTES_MAX: usize = 1024;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");

/// What the gateway says of a request to the API server.
#[derive(Debug)]
pub(crate) struct Forwarded<'a> {
    /// For whom it acts.
    pub(crate) identity: &'a Identity,
    /// Whom it acts as instead, where that is allowed or the profile says so.
    pub(crate) acting_as: Option<&'a User>,
    /// The true peer.
    pub(crate) source_ip: IpAddr,
    /// The request's name.
    pub(crate) audit_id: &'a HeaderValue,
    /// Whether the answer has to be JSON.
    pub(crate) inspected: bool,
}

/// The client's headers as the API server gets them.
pub(crate) fn for_upstream(client: &HeaderMap, forwarded: &Forwarded<'_>) -> HeaderMap {
    let named = named_by_connection(client);
    let mut headers = HeaderMap::with_capacity(client.len() + 8);
    for (name, value) in client {
        let text = name.as_str();
        if !is_hop_by_hop(text, &named) && !is_replaced(text) {
            headers.append(name, value.clone());
        }
    }
    if forwarded.inspected {
        let accept = client
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .unwrap_or_default();
        let accept = accept_for_inspection(accept);
        let accept = HeaderValue::try_from(accept)
            .unwrap_or_else(|_| HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, accept);
    }
    if let Some(user) = forwarded.acting_as {
        // Its names were checked when they were read.
        let written = impersonation::write(&mut headers, &forwarded.identity.user_header, user);
        debug_assert!(written.is_some(), "the names fit into headers");
    } else {
        add_person(&mut headers, forwarded.identity);
    }
    let source = HeaderValue::try_from(forwarded.source_ip.to_string())
        .expect("an address is visible ASCII");
    headers.insert(X_FORWARDED_FOR, source);
    headers.insert(AUDIT_ID, forwarded.audit_id.clone());
    headers
}

/// The person as authenticated.
fn add_person(headers: &mut HeaderMap, identity: &Identity) {
    headers.insert(IMPERSONATE_USER, identity.user_header.clone());
    for group in identity.group_headers.iter() {
        headers.append(IMPERSONATE_GROUP, group.clone());
    }
    if let Some(uid) = &identity.uid_header {
        headers.insert(IMPERSONATE_UID, uid.clone());
    }
    for (name, value) in identity.extra_headers.iter() {
        headers.append(name.clone(), value.clone());
    }
}

/// The API server's headers as the client gets them. `rewritten` says that the body may change on its way, so that
/// its length is not known.
pub(crate) fn for_client(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    audit_id: &HeaderValue,
    rewritten: bool,
) {
    for name in named_by_connection(headers) {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // It would lead the client around the gateway.
    headers.remove(ALT_SVC);
    if rewritten {
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(location) = headers.remove(LOCATION)
        && let Some(location) = same_origin(&location, host)
    {
        headers.insert(LOCATION, location);
    }
    headers.insert(AUDIT_ID, audit_id.clone());
}

/// What the client claims about identities, by lower-case name.
pub(crate) fn claims(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut claims = BTreeMap::new();
    for name in headers.keys() {
        let text = name.as_str();
        let is_claim =
            CLAIMS.contains(&text) || CLAIM_PREFIXES.iter().any(|prefix| has_prefix(text, prefix));
        if !is_claim || claims.len() == CLAIMS_MAX {
            continue;
        }
        let mut joined = String::new();
        for value in headers.get_all(name) {
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
            if joined.len() > CLAIM_BYTES_MAX {
                joined.truncate(joined.floor_char_boundary(CLAIM_BYTES_MAX));
                break;
            }
        }
        claims.insert(text.to_owned(), joined);
    }
    claims
}

fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let text = String::from_utf8_lossy(value.as_bytes());
        named.extend(
            text.split(',')
                .map(|name| name.trim().to_ascii_lowercase())
                .filter(|name| !name.is_empty()),
        );
    }
    named
}

fn is_hop_by_hop(name: &str, named: &[String]) -> bool {
    HOP_BY_HOP.iter().any(|known| is_spelling(name, known))
        || named.iter().any(|other| is_spelling(name, other))
}

fn is_replaced(name: &str) -> bool {
    REPLACED.iter().any(|known| is_spelling(name, known))
        || REPLACED_PREFIXES
            .iter()
            .any(|prefix| has_prefix(name, prefix))
}

/// Whether `name` is `known`, both in lower case. Servers behind CGI-like gateways read `_` as `-`.
fn is_spelling(name: &str, known: &str) -> bool {
    name.len() == known.len() && has_prefix(name, known)
}

/// Whether `name` begins with `prefix`, `_` standing for `-`.
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name
            .bytes()
            .zip(prefix.bytes())
            .all(|(n, p)| n == p || (n == b'_' && p == b'-'))
}

/// A `Location` that stays with the gateway: a path, or the API server's own address, which becomes a path.
fn same_origin(location: &HeaderValue, host: &HeaderValue) -> Option<HeaderValue> {
    let text = location.to_str().ok()?;
    if text.contains(['\\', '\t']) {
        // Browsers read the one as a slash, and pass over the other.
        return None;
    }
    if text.starts_with('/') {
        return (!text.starts_with("//")).then(|| location.clone());
    }
    if !text.contains(':') {
        return Some(location.clone());
    }
    let uri: http::Uri = text.parse().ok()?;
    let own = uri.authority()?.as_str() == host.to_str().ok()?;
    let path = uri.path_and_query()?.as_str();
    if !own || path.starts_with("//") {
        return None;
    }
    HeaderValue::from_str(path).ok()
}

/// `Content-Encoding` says that the body cannot be read as it is.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use hoop_schema::kinds::request::AuthMethod;

    fn identity() -> Identity {
        let user = User {
            username: "alice".into(),
            groups: vec!["dev".into(), "ops".into()],
            ..User::default()
        };
        Identity::new(user, AuthMethod::StaticToken, None).unwrap()
    }

    fn forward(lines: &[(&str, &str)], inspected: bool) -> Vec<(String, String)> {
        let mut client = HeaderMap::new();
        for (name, value) in lines {
            client.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let forwarded = Forwarded {
            identity: &identity(),
            acting_as: None,
            source_ip: "192.0.2.7".parse().unwrap(),
            audit_id: &HeaderValue::from_static("a-1"),
            inspected,
        };
        let mut lines: Vec<_> = for_upstream(&client, &forwarded)
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()))
            .collect();
        lines.sort();
        lines
    }

    const OWN: [(&str, &str); 5] = [
        ("audit-id", "a-1"),
        ("impersonate-group", "dev"),
        ("impersonate-group", "ops"),
        ("impersonate-user", "alice"),
        ("x-forwarded-for", "192.0.2.7"),
    ];

    fn own() -> Vec<(String, String)> {
        OWN.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()
    }

    #[test]
    fn no_identity_and_no_credential_of_the_client_passes_in_any_spelling() {
        let sent = [
            ("Authorization", "Bearer t"),
            ("PROXY-AUTHORIZATION", "Basic x"),
            ("Cookie", "session=1"),
            ("Impersonate-User", "root"),
            ("IMPERSONATE-GROUP", "system:masters"),
            ("Impersonate-Uid", "1"),
            ("impersonate-extra-acme.com%2fproject", "x"),
            ("Impersonate_User", "root"),
            ("impersonate-anything-new", "x"),
            ("X-Remote-User", "root"),
            ("X-Remote-Uid", "0"),
            ("x_remote_group", "system:masters"),
            ("X-Remote-Extra-Scopes", "all"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-Host", "evil"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
            ("Audit-ID", "mine"),
            ("Host", "evil"),
            (
                "Sec-WebSocket-Protocol",
                "base64url.bearer.authorization.k8s.io.dA",
            ),
            ("Sec-WebSocket-Key", "x"),
            ("Accept-Encoding", "gzip"),
            ("Expect", "100-continue"),
        ];
        assert_eq!(forward(&sent, false), own());
    }

    #[test]
    fn hop_by_hop_headers_go_and_cannot_take_the_gateways_own_along() {
        let sent = [
            ("Connection", "close, Impersonate-User, audit-id, X-Custom"),
            ("Connection", "x-forwarded-for"),
            ("X-Custom", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Upgrade", "SPDY/3.1"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy_Connection", "keep-alive"),
            ("transfer_encoding", "chunked"),
            ("X_Custom", "2"),
        ];
        assert_eq!(forward(&sent, false), own());
    }

    #[test]
    fn what_is_the_requests_own_passes_line_by_line() {
        let sent = [
            (
                "Accept",
                "application/vnd.kubernetes.protobuf,application/json",
            ),
            ("User-Agent", "kubectl/v1.36.0"),
            ("Kubectl-Session", "u"),
            ("X-Stream-Protocol-Version", "v5"),
            ("X-Stream-Protocol-Version", "v4"),
            ("Content-Type", "application/json"),
        ];
        let mut expected = own();
        expected.extend(sent.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())));
        expected.sort();
        assert_eq!(forward(&sent, false), expected);
        let inspected = forward(&sent, true);
        assert!(inspected.contains(&("accept".into(), "application/json".into())));
    }

    #[test]
    fn a_location_stays_with_the_gateway() {
        let host = HeaderValue::from_static("10.0.0.1:6443");
        let kept = |text: &str| {
            same_origin(&HeaderValue::from_str(text).unwrap(), &host)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(kept("/api/v1?x=1").as_deref(), Some("/api/v1?x=1"));
        assert_eq!(kept("pods/").as_deref(), Some("pods/"));
        assert_eq!(
            kept("https://10.0.0.1:6443/api?y").as_deref(),
            Some("/api?y")
        );
        for foreign in [
            "https://evil/api",
            "//evil/api",
            "/\\evil",
            "/\t/evil/",
            "\t//evil/",
            "https://10.0.0.1:6443//evil/",
            "javascript:alert(1)",
        ] {
            assert_eq!(kept(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn claims_name_what_was_not_believed_but_no_credential() {
        let mut client = HeaderMap::new();
        client.append("impersonate-group", HeaderValue::from_static("a"));
        client.append("impersonate-group", HeaderValue::from_static("b"));
        client.append("authorization", HeaderValue::from_static("Bearer t"));
        client.append("x_remote_user", HeaderValue::from_static("root"));
        let claims = claims(&client);
        assert_eq!(claims["impersonate-group"], "a, b");
        assert_eq!(claims["x_remote_user"], "root");
        assert_eq!(claims.len(), 2);
    }
}
