//! The head of a request on its way to the API server, and the head of an answer on its way back.
//!
//! The input is a choice (one byte: `1` inspects the answer, `2` acts as the profile's service account), then lines:
//! method and target, then headers. Credentials get a mark, so that they are known wherever they come out.

use hoop_schema::kinds::request::{AuthMethod, User};
use http::header::{
    ALT_SVC, CONNECTION, LOCATION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, request};

use crate::authenticate::Identity;
use crate::request_info;
use crate::upstream::{Forwarded, claims, for_client, for_upstream};
use crate::{impersonation, request_body, tunnel};

/// The most headers that are taken from an input; the gateway has a smaller limit.
const HEADERS_MAX: usize = 256;

/// What the values of a client's credentials end with.
const MARK: &str = "7c1f-credential";

/// Whoever sends these means a credential, also with `_` for `-`.
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// What belongs to a connection, or would be another's word about the request.
const NEVER: [&str; 19] = [
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "cookie",
    "host",
    "content-length",
    "expect",
    "forwarded",
    "via",
    "x-real-ip",
    "x-http-method-override",
    "x-original-url",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "http2-settings",
    "accept-encoding",
];

/// Families of the same.
const NEVER_PREFIXES: [&str; 4] = [
    "impersonate-",
    "x-remote-",
    "x-forwarded-",
    "sec-websocket-",
];

/// What only a handshake has.
const HANDSHAKE: [HeaderName; 5] = [
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
];

/// See the module. Returns whether the request would be forwarded.
pub(super) fn check(input: &[u8]) -> bool {
    let [choice, rest @ ..] = input else {
        return false;
    };
    let Some(head) = head(rest) else {
        return false;
    };
    let client = &head.headers;
    check_claims(client);
    check_answer(client);
    let asked = impersonation::asked(client);
    let target = head
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let info = request_info::parse(head.method.as_str(), target);
    let (Ok(info), Ok(asked), Ok(())) = (info, asked, request_body::framing(client)) else {
        return false;
    };
    let Ok(upgrade) = tunnel::asked(&head, &info) else {
        return false;
    };
    let pinned = User {
        username: "system:serviceaccount:shop:web".into(),
        ..User::default()
    };
    let pinned = (choice & 2 != 0).then_some(pinned);
    let acting_as = asked.or(pinned);
    let identity = person();
    let audit_id = HeaderValue::from_static("a-1");
    let forwarded = Forwarded {
        identity: &identity,
        acting_as: acting_as.as_ref(),
        source_ip: [192, 0, 2, 7].into(),
        audit_id: &audit_id,
        inspected: choice & 1 != 0,
    };
    let mut headers = for_upstream(client, &forwarded);
    if upgrade.is_some() {
        tunnel::add_handshake(client, &mut headers);
    }
    check_identity(&mut headers, acting_as.as_ref(), &identity);
    for (name, own) in [("audit-id", "a-1"), ("x-forwarded-for", "192.0.2.7")] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [own], "{name}");
        headers.remove(name);
    }
    check_rest(client, &headers, upgrade.is_some());
    true
}

/// Reads lines as the head of a request; nothing when they are none.
fn head(text: &[u8]) -> Option<request::Parts> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let request = Request::builder()
        .method(method)
        .uri(target)
        .body(())
        .ok()?;
    let (mut head, ()) = request.into_parts();
    for line in lines.take(HEADERS_MAX) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name = HeaderName::from_bytes(name).ok()?;
        let mut value = value.to_vec();
        if CREDENTIALS.contains(&&*plain(&name)) {
            value.extend_from_slice(MARK.as_bytes());
        }
        head.headers
            .append(name, HeaderValue::from_bytes(&value).ok()?);
    }
    Some(head)
}

fn person() -> Identity {
    let mut user = User {
        username: "alice".into(),
        uid: Some("7".into()),
        groups: vec!["dev".into(), "ops".into()],
        ..User::default()
    };
    let tenant = vec!["acme".to_owned()];
    user.extra.insert("example.com/tenant".into(), tenant);
    Identity::new(user, AuthMethod::Oidc, None).expect("the names are plain")
}

/// A name as those read it for whom `_` is `-`.
fn plain(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

fn is_marked(value: &[u8]) -> bool {
    memchr::memmem::find(value, MARK.as_bytes()).is_some()
}

/// Whom it acts as is what was decided, all of it and nothing else. Takes it out of the headers.
fn check_identity(headers: &mut HeaderMap, acting_as: Option<&User>, person: &Identity) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    let mut sent = HeaderMap::new();
    for name in names {
        for value in headers.get_all(&name) {
            sent.append(&name, value.clone());
        }
        headers.remove(name);
    }
    if acting_as.is_some() {
        let original = sent.remove("impersonate-extra-gateway.hoop%2foriginal-user");
        assert_eq!(original.expect("the person is named"), "alice");
    }
    let read = impersonation::asked(&sent).expect("it can be read");
    assert_eq!(read.as_ref(), Some(acting_as.unwrap_or(&person.user)));
}

/// What is left is the client's own: no credential, nothing of its connection.
fn check_rest(client: &HeaderMap, headers: &HeaderMap, is_upgrade: bool) {
    let mut named = Vec::new();
    for value in client.get_all(CONNECTION) {
        let options = value.as_bytes().split(|byte| *byte == b',');
        named.extend(options.map(|option| option.trim_ascii().to_ascii_lowercase()));
    }
    for (name, value) in headers {
        assert!(!is_marked(value.as_bytes()), "{name} holds a credential");
        if is_upgrade && HANDSHAKE.contains(name) {
            continue;
        }
        let (text, plain) = (name.as_str(), plain(name));
        assert!(!HANDSHAKE.contains(name), "{name}");
        assert!(!NEVER.contains(&&*plain), "{name}");
        assert!(
            !NEVER_PREFIXES
                .iter()
                .any(|prefix| plain.starts_with(prefix)),
            "{name}"
        );
        let is_accept = text == "accept";
        assert!(
            is_accept || !named.iter().any(|other| other == plain.as_bytes()),
            "{name}"
        );
        // `Accept` is written anew.
        assert!(
            is_accept || client.get_all(name).iter().any(|sent| sent == value),
            "{name}"
        );
    }
    if is_upgrade {
        assert_eq!(headers.get(CONNECTION).expect("it upgrades"), "Upgrade");
    }
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let mut protocols = value.as_bytes().split(|byte| *byte == b',');
        assert!(!protocols.any(|protocol| {
            let protocol = protocol.trim_ascii();
            protocol.starts_with(b"base64url.bearer.authorization.k8s.io.")
        }));
    }
}

/// What is recorded of a client's word about identities is bounded, and no credential.
fn check_claims(client: &HeaderMap) {
    let claims = claims(client);
    assert!(claims.len() <= 32);
    for (name, value) in claims {
        assert!(value.len() <= 1024, "{name}");
        assert!(!is_marked(value.as_bytes()), "{name}");
    }
}

/// The same headers as those of an answer: the client is led nowhere else.
fn check_answer(headers: &HeaderMap) {
    let mut answer = headers.clone();
    let host = HeaderValue::from_static("10.0.0.1:6443");
    for_client(&mut answer, &host, &HeaderValue::from_static("a-1"), true);
    assert_eq!(answer.get("audit-id").expect("it is named"), "a-1");
    for name in [CONNECTION, UPGRADE, ALT_SVC] {
        assert!(!answer.contains_key(&name), "{name}");
    }
    let Some(location) = answer.get(LOCATION) else {
        return;
    };
    let gateway = url::Url::parse("https://gateway.example.com/api/v1").expect("it is a literal");
    let location = location.to_str().expect("it was read");
    // What browsers cannot read leads nowhere.
    if let Ok(to) = gateway.join(location) {
        assert_eq!(to.origin(), gateway.origin(), "{location:?}");
    }
}
