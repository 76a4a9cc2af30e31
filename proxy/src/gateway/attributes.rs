//! What the events of a request say about it.

use std::borrow::Cow;
use std::sync::Arc;

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{AuthMethod, RequestAttributes};
use http::header::USER_AGENT;
use http::request::Parts;

use super::{Call, Peer, target};
use crate::impersonation;
use crate::mask::{MaskKey, TextRules};
use crate::request_info::RequestInfo;

/// The most that is kept of a request target, in bytes.
const TARGET_BYTES_MAX: usize = 8192;

/// The most that is kept of a header, in bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// Of the command line of exec: as much as of the target that it came in.
const ARGV_BYTES_MAX: usize = TARGET_BYTES_MAX;

/// What is percent-encoded in a value of a query that was written anew: all but what RFC 3986 leaves alone there, and `*`,
/// with which masked values begin.
const QUERY_ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*');

/// Query parameters that older clients carry credentials in.
const CREDENTIAL_PARAMETERS: [&str; 3] = ["access_token", "token", "id_token"];

/// Of a request whose head was read.
pub(super) fn of(head: &Parts, peer: &Peer, call: &Call, received: Timestamp) -> RequestAttributes {
    let identity = call.identity.as_ref().ok();
    let delegation = identity.and_then(|identity| identity.delegation.as_deref());
    let info = call.info.as_ref().ok();
    let text = |name: http::HeaderName| {
        let value = head.headers.get(name)?;
        Some(shortened(
            &String::from_utf8_lossy(value.as_bytes()),
            HEADER_BYTES_MAX,
        ))
    };
    RequestAttributes {
        http_method: shortened(head.method.as_str(), HEADER_BYTES_MAX),
        request_uri: shortened(&without_credentials(target(head)), TARGET_BYTES_MAX),
        user: identity.map(|identity| (*identity.user).clone()),
        // What cannot be read as such is refused, and recorded as a claim.
        impersonated: impersonation::asked(&head.headers).ok().flatten(),
        auth_method: identity.map_or(AuthMethod::None, |identity| identity.method),
        login: identity.and_then(|identity| identity.login.as_deref().map(str::to_owned)),
        client_id: delegation.and_then(|delegation| delegation.client_id.clone()),
        actors: delegation.map_or_else(Vec::new, |delegation| delegation.actors.clone()),
        break_glass: identity.is_some_and(|identity| identity.break_glass),
        verb: info.map(|info| info.verb.clone()).unwrap_or_default(),
        object_ref: info.and_then(|info| info.object.clone()),
        user_agent: text(USER_AGENT),
        command: text(http::HeaderName::from_static("kubectl-command")),
        argv: info.map_or_else(Vec::new, |info| argv(info, Cow::Borrowed)),
        ..of_unreadable(peer, received)
    }
}

/// How a request's target and its command are shown where masking rules look into texts.
pub(super) fn masked(
    head: &Parts,
    info: &RequestInfo,
    rules: &Arc<TextRules>,
    key: &Arc<MaskKey>,
) -> (String, Vec<String>) {
    let target = without_credentials(target(head));
    let target = masked_values(&target, |word| masked_word(word, rules, key));
    // Masked first: of what is cut, the end would not be known.
    let words = argv(info, |word| masked_word(word, rules, key));
    (shortened(&target, TARGET_BYTES_MAX), words)
}

/// Of a request of which nothing is known.
pub(super) fn of_unreadable(peer: &Peer, received: Timestamp) -> RequestAttributes {
    RequestAttributes {
        audit_id: uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .to_string(),
        received,
        user: None,
        impersonated: None,
        auth_method: AuthMethod::None,
        login: None,
        client_id: None,
        actors: Vec::new(),
        break_glass: false,
        source_ip: peer.connection.source_ip().to_string(),
        http_method: String::new(),
        request_uri: String::new(),
        verb: String::new(),
        object_ref: None,
        user_agent: None,
        command: None,
        argv: Vec::new(),
    }
}

/// What exec is asked to run, each word as it is to be shown.
fn argv<'a>(info: &'a RequestInfo, shown: impl Fn(&'a str) -> Cow<'a, str>) -> Vec<String> {
    if info.subresource() != "exec" {
        return Vec::new();
    }
    let mut left = ARGV_BYTES_MAX;
    let mut argv = Vec::new();
    for argument in info.query.all("command").map(shown) {
        if argument.len() > left {
            argv.push(format!("{}…", shortened(&argument, left)));
            break;
        }
        // Empty arguments take room as well.
        left = left.saturating_sub(argument.len().max(1));
        argv.push(argument.into_owned());
    }
    argv
}

/// A word with what the rules look for replaced.
fn masked_word<'a>(word: &'a str, rules: &Arc<TextRules>, key: &Arc<MaskKey>) -> Cow<'a, str> {
    match rules.mask(word.as_bytes(), key) {
        (_, 0) => Cow::Borrowed(word),
        (masked, _) => String::from_utf8_lossy(&masked).into_owned().into(),
    }
}

/// The target with each value of its query as it is to be shown. A value in which nothing changes stays as it was sent.
fn masked_values(target: &str, shown: impl for<'a> Fn(&'a str) -> Cow<'a, str>) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let pairs = query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let spaced = value.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
        match shown(&decoded) {
            Cow::Borrowed(_) => pair.to_owned(),
            Cow::Owned(masked) => {
                let encoded = percent_encoding::utf8_percent_encode(&masked, QUERY_ENCODED);
                format!("{name}={encoded}")
            }
        }
    });
    let pairs: Vec<_> = pairs.collect();
    format!("{path}?{}", pairs.join("&"))
}

fn shortened(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

/// The target with the values of credential parameters replaced.
fn without_credentials(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let mut clean = String::with_capacity(target.len());
    clean.push_str(path);
    for (i, pair) in query.split('&').enumerate() {
        clean.push(if i == 0 { '?' } else { '&' });
        let name = pair.split('=').next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        let is_credential = CREDENTIAL_PARAMETERS
            .iter()
            .any(|known| decoded.eq_ignore_ascii_case(known));
        if is_credential {
            clean.push_str(name);
            clean.push_str("=****");
        } else {
            clean.push_str(pair);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{MaskMode, Pattern, Sought};
    use crate::request_info;

    #[test]
    fn credentials_in_the_query_are_not_kept() {
        assert_eq!(
            without_credentials("/a?x=1&access_token=s3cret&%61ccess_token=s&b"),
            "/a?x=1&access_token=****&%61ccess_token=****&b"
        );
        assert_eq!(without_credentials("/a?limit=500"), "/a?limit=500");
        assert_eq!(without_credentials("/a"), "/a");
    }

    #[test]
    fn words_of_a_query_are_masked_one_by_one_and_the_rest_stays_as_it_was_sent() {
        let sought = ["^-p.+", "s3cret"].map(|text| {
            let pattern = Arc::new(Pattern::parse(text).unwrap());
            Sought::pattern(pattern, MaskMode::Redact)
        });
        let rules = Arc::new(TextRules::new(sought.into()).unwrap());
        let key = Arc::new(MaskKey::from_bytes([7; 32]));
        let exec = "/api/v1/namespaces/a/pods/p/exec";
        let target = format!(
            "{exec}?command=mysql&command=-psecret+one&command=%2Dp&command=a%20%733cret%26b&stdin=true&command"
        );
        let request = http::Request::post(&target).body(()).unwrap();
        let (head, ()) = request.into_parts();
        let info = request_info::parse("POST", &target).unwrap();
        let (uri, argv) = masked(&head, &info, &rules, &key);
        assert_eq!(
            uri,
            format!(
                "{exec}?command=mysql&command=**hoop-masked**&command=%2Dp&command=a%20**hoop-masked**%26b&stdin=true&command"
            )
        );
        assert_eq!(
            argv,
            ["mysql", "**hoop-masked**", "-p", "a **hoop-masked**&b", ""]
        );
        // A value that would be cut in its middle is known all the same.
        let long = format!("{exec}?command={}s3cret", "x".repeat(ARGV_BYTES_MAX - 3));
        let (head, ()) = http::Request::post(&long).body(()).unwrap().into_parts();
        let info = request_info::parse("POST", &long).unwrap();
        let (uri, argv) = masked(&head, &info, &rules, &key);
        assert!(!uri.contains("s3c") && !argv[0].contains("s3c"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
    }
}
