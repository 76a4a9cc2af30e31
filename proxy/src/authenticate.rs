//! Who asks: from a connection's client certificate or a request's bearer token to an [`Identity`].
//!
//! As in the API server, a valid client certificate decides, else the bearer token does. A certificate is judged once
//! per connection, a token at every request.
//!
//! # Promises
//! - An identity never carries a `system:` name or group: those belong to the cluster's own components, and the
//!   gateway's credential could assert them.
//! - Names and groups reach the API server as they are: what would not survive the way through an HTTP header is refused.
//! - A refused credential is not passed over: the request is unauthenticated, and the record says why.

use std::sync::Arc;

use hoop_schema::kinds::request::{AuthMethod, User};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

mod certificate;
mod tokens;

pub(crate) use certificate::CertificateAuthenticator;
pub use tokens::{StaticTokens, TokenFileError};

/// Who asks, proven.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Name and groups.
    pub(crate) user: Arc<User>,
    /// How it was proved.
    pub(crate) method: AuthMethod,
    /// What ties the sessions of one login together.
    pub(crate) login: Option<Arc<str>>,
    /// `Impersonate-User`.
    pub(crate) user_header: HeaderValue,
    /// `Impersonate-Group`, one line each.
    pub(crate) group_headers: Arc<[HeaderValue]>,
    /// `Impersonate-Uid`, where the authenticator knows one.
    pub(crate) uid_header: Option<HeaderValue>,
}

/// What a connection showed of itself in its handshake.
#[derive(Debug, Clone)]
pub(crate) enum Presented {
    /// No certificate.
    Nothing,
    /// A valid one.
    Certificate(Identity),
    /// One that is not accepted, and why.
    Refused(Arc<str>),
}

/// Why there is no identity, for the person who wonders; never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unauthenticated(pub(crate) String);

impl Identity {
    /// Checks that this is an identity of a person or a robot, and one that survives the way to the API server.
    pub(crate) fn new(
        user: User,
        method: AuthMethod,
        login: Option<Arc<str>>,
    ) -> Result<Self, Unauthenticated> {
        if user.username.is_empty() {
            return Err(Unauthenticated("the credential names no user".into()));
        }
        let reserved = |name: &str| name.starts_with("system:");
        if reserved(&user.username) {
            return Err(Unauthenticated(
                "user names that begin with \"system:\" are not accepted here".into(),
            ));
        }
        if user.groups.iter().any(|group| reserved(group)) {
            return Err(Unauthenticated(
                "groups that begin with \"system:\" are not accepted here".into(),
            ));
        }
        let user_header = header_value(&user.username)?;
        let group_headers = user
            .groups
            .iter()
            .map(|group| header_value(group))
            .collect::<Result<_, _>>()?;
        let uid_header = user.uid.as_deref().map(header_value).transpose()?;
        Ok(Self {
            user: Arc::new(user),
            method,
            login,
            user_header,
            group_headers,
            uid_header,
        })
    }
}

/// A name as the value of an impersonation header. The API server trims white space, so it would read another name.
fn header_value(name: &str) -> Result<HeaderValue, Unauthenticated> {
    let unfit = || {
        Unauthenticated(
            "the user's name or a group is empty, begins or ends with white space, or has a control character".into(),
        )
    };
    if name.is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return Err(unfit());
    }
    HeaderValue::from_bytes(name.as_bytes()).map_err(|_| unfit())
}

/// Who sends a request over a connection that showed `presented`.
pub(crate) fn authenticate(
    presented: &Presented,
    headers: &HeaderMap,
    tokens: &StaticTokens,
    now: hoop_schema::Timestamp,
) -> Result<Identity, Unauthenticated> {
    if let Presented::Certificate(identity) = presented {
        return Ok(identity.clone());
    }
    match bearer_token(headers) {
        Ok(Some(token)) => tokens.authenticate(token, now),
        Ok(None) => Err(match presented {
            Presented::Refused(why) => Unauthenticated(why.to_string()),
            _ => Unauthenticated("no client certificate and no bearer token was sent".into()),
        }),
        Err(why) => Err(Unauthenticated(why.into())),
    }
}

/// The token of `Authorization: Bearer TOKEN`, read as the API server does: trimmed, split at single spaces, scheme in
/// any case, the second field is the token.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("more than one Authorization header was sent");
    }
    let Ok(value) = value.to_str() else {
        return Err("the Authorization header has characters outside ASCII");
    };
    let mut fields = value.trim().split(' ');
    match (fields.next(), fields.next()) {
        (Some(scheme), Some(token))
            if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() =>
        {
            Ok(Some(token))
        }
        _ => Err("the Authorization header is not \"Bearer TOKEN\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn bearer_tokens_are_read_as_the_api_server_reads_them() {
        assert_eq!(bearer_token(&headers(&["Bearer t"])), Ok(Some("t")));
        assert_eq!(bearer_token(&headers(&["  bEARER t more"])), Ok(Some("t")));
        assert_eq!(bearer_token(&headers(&[])), Ok(None));
        for refused in ["Bearer  t", "Bearer", "", "Basic dTpw", "t"] {
            assert!(bearer_token(&headers(&[refused])).is_err(), "{refused:?}");
        }
        assert!(bearer_token(&headers(&["Bearer a", "Bearer b"])).is_err());
    }

    #[test]
    fn names_that_would_change_on_the_way_are_refused() {
        let identity = |username: &str, group: &str| {
            let user = User {
                username: username.into(),
                groups: vec![group.into()],
                ..User::default()
            };
            Identity::new(user, AuthMethod::StaticToken, None)
        };
        assert!(identity("alice", "dev").is_ok());
        assert!(identity("ålice@example.com", "dev team").is_ok());
        for name in [
            "",
            " alice",
            "alice\t",
            "a\r\nImpersonate-Group: system:masters",
            "a\u{7f}",
            "a\u{85}",
            "system:admin",
        ] {
            assert!(identity(name, "dev").is_err(), "{name:?}");
            assert!(identity("alice", name).is_err(), "{name:?}");
        }
    }
}
