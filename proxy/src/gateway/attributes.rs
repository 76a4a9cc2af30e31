//! What the events of a request say about it.

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{AuthMethod, RequestAttributes};
use http::header::USER_AGENT;
use http::request::Parts;

use super::{Call, Peer, target};
use crate::impersonation;
use crate::request_info::RequestInfo;

/// The most that is kept of a request target, in bytes.
const TARGET_BYTES_MAX: usize = 8192;

/// The most that is kept of a header, in bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// Of the command line of exec: as much as of the target that it came in.
const ARGV_BYTES_MAX: usize = TARGET_BYTES_MAX;

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
        argv: info.map(argv).unwrap_or_default(),
        ..of_unreadable(peer, received)
    }
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

/// What exec is asked to run.
fn argv(info: &RequestInfo) -> Vec<String> {
    if info.subresource() != "exec" {
        return Vec::new();
    }
    let mut left = ARGV_BYTES_MAX;
    let mut argv = Vec::new();
    for argument in info.query.all("command") {
        if argument.len() > left {
            argv.push(format!("{}…", shortened(argument, left)));
            break;
        }
        // Empty arguments take room as well.
        left = left.saturating_sub(argument.len().max(1));
        argv.push(argument.to_owned());
    }
    argv
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
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
    }
}
