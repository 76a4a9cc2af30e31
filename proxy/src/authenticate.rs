//! Who asks: from a connection's client certificate or a request's bearer token to an [`Identity`].
//!
//! As in the API server, a valid client certificate decides, else the bearer token does. A certificate is judged once
//! per connection. A token is looked up in what is known already, then among the static tokens, then verified as an ID
//! token of a configured issuer; what is none of these is reviewed by the API server, where that is configured.
//!
//! # Promises
//! - An identity never carries a `system:` name or group: those belong to the cluster's own components, and the
//!   gateway's credential could assert them. The one exception are service accounts that the API server has reviewed.
//! - Names and groups reach the API server as they are: what would not survive the way through an HTTP header is refused.
//! - A refused credential is not passed over: the request is unauthenticated, and the record says why.
//! - Whoever was known a moment ago is known at once: no waiting and no allocation.

use std::sync::Arc;

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{AuthMethod, User};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::policy::Through;

mod bearer;
mod certificate;
mod failures;
mod metrics;
mod oidc;
mod service_accounts;
mod token_cache;
mod tokens;

pub use certificate::RevocationError;
pub(crate) use certificate::{CertificateAuthenticator, Certified};
pub(crate) use failures::{Admission, FailureLimiter};
pub(crate) use metrics::Metrics;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use oidc::check_token;
pub use oidc::{
    AuthenticationConfiguration, AuthenticationError, AuthenticationErrors, IssuerProbe,
    OpenError as IssuerOpenError, unverified_claims,
};
pub(crate) use oidc::{Issuers, Pacing};
use service_accounts::ServiceAccounts;
pub(crate) use service_accounts::TokenReviewer;
pub use tokens::{StaticTokens, TokenFileError};

/// The longest bearer token. An ID token with two hundred groups has 12 KB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Who asks, proven.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Name and groups.
    pub(crate) user: Arc<User>,
    /// How it was proved.
    pub(crate) method: AuthMethod,
    /// What ties the sessions of one login together.
    pub(crate) login: Option<Arc<str>>,
    /// When the credential ends, and with it what it began.
    pub(crate) expires: Option<Timestamp>,
    /// Through whom the user acts, where the credential says so.
    pub(crate) delegation: Option<Arc<Delegation>>,
    /// Whether this credential is for emergencies only.
    pub(crate) break_glass: bool,
    /// The client certificate that proved it, which may be revoked.
    pub(crate) certificate: Option<Arc<Certified>>,
    /// `Impersonate-User`.
    pub(crate) user_header: HeaderValue,
    /// `Impersonate-Group`, one line each.
    pub(crate) group_headers: Arc<[HeaderValue]>,
    /// `Impersonate-Uid`, where the authenticator knows one.
    pub(crate) uid_header: Option<HeaderValue>,
    /// `Impersonate-Extra-…`, one line each.
    pub(crate) extra_headers: Arc<[(HeaderName, HeaderValue)]>,
}

/// Through whom a user acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delegation {
    /// The client that the token was issued to (`azp`, `client_id`).
    pub(crate) client_id: Option<String>,
    /// Who acts for the user (`act`, RFC 8693): the one that sends the request first.
    pub(crate) actors: Vec<String>,
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

/// Knows bearer tokens.
#[derive(Debug)]
pub(crate) struct Authenticator {
    tokens: StaticTokens,
    issuers: Issuers,
    service_accounts: Option<ServiceAccounts>,
}

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
        let group_headers = user
            .groups
            .iter()
            .map(|group| header_value(group))
            .collect::<Result<_, _>>()?;
        let extra = user
            .extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        let extra_headers = extra
            .map(|(key, value)| Ok((extra_header(key)?, header_value(value)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            user_header: header_value(&user.username)?,
            uid_header: user.uid.as_deref().map(header_value).transpose()?,
            group_headers,
            extra_headers,
            user: Arc::new(user),
            method,
            login,
            expires: None,
            delegation: None,
            break_glass: false,
            certificate: None,
        })
    }

    /// A service account that the API server has reviewed. Its groups and its uid are known there, and are not sent.
    fn service_account(user: User) -> Result<Self, Unauthenticated> {
        Ok(Self {
            user_header: header_value(&user.username)?,
            uid_header: None,
            group_headers: Arc::default(),
            extra_headers: Arc::default(),
            user: Arc::new(user),
            method: AuthMethod::TokenReview,
            login: None,
            expires: None,
            delegation: None,
            break_glass: false,
            certificate: None,
        })
    }

    /// Through whom the user asks, for the policy.
    pub(crate) fn through(&self) -> Through<'_> {
        let delegation = self.delegation.as_deref();
        Through {
            actor: delegation.and_then(|d| d.actors.first().map(String::as_str)),
            client: delegation.and_then(|d| d.client_id.as_deref()),
        }
    }

    /// The same until then.
    fn until(mut self, expires: Timestamp) -> Self {
        self.expires = Some(expires);
        self
    }

    /// The same, for emergencies only.
    fn for_emergencies(mut self, break_glass: bool) -> Self {
        self.break_glass = break_glass;
        self
    }

    /// The same, proved by this certificate.
    fn certified(mut self, certificate: Certified) -> Self {
        self.certificate = Some(Arc::new(certificate));
        self
    }

    /// The same, acting through somebody.
    fn delegated(mut self, delegation: Option<Arc<Delegation>>) -> Self {
        self.delegation = delegation;
        self
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

/// The name of the header for a key of `extra`: what is no letter of a header name is percent-encoded.
fn extra_header(key: &str) -> Result<HeaderName, Unauthenticated> {
    const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let name = format!(
        "impersonate-extra-{}",
        percent_encoding::utf8_percent_encode(key, ENCODED)
    );
    HeaderName::try_from(name)
        .map_err(|_| Unauthenticated("a key of the user's extra is too long".into()))
}

impl Authenticator {
    /// Puts the ways to be known together. `review` turns on the review of service accounts.
    pub(crate) fn new(
        tokens: StaticTokens,
        issuers: Issuers,
        review: bool,
        metrics: Metrics,
    ) -> Self {
        Self {
            tokens,
            issuers,
            service_accounts: review.then(|| ServiceAccounts::new(metrics)),
        }
    }

    /// Who sends a request over a connection that showed `presented`. Waits only for a token that is new: for keys of
    /// its issuer, or for the API server's review.
    pub(crate) async fn authenticate(
        &self,
        presented: &Presented,
        headers: &HeaderMap,
        reviewer: &dyn TokenReviewer,
        now: Timestamp,
    ) -> Result<Identity, Unauthenticated> {
        if let Presented::Certificate(identity) = presented {
            // The handshake may have been long ago.
            if identity.expires.is_some_and(|expires| expires <= now) {
                let why = "the client certificate has expired since the connection was made";
                return Err(Unauthenticated(why.into()));
            }
            if let Some(certificate) = &identity.certificate {
                let valid = certificate.still_valid();
                valid.map_err(|why| Unauthenticated(why.into()))?;
            }
            return Ok(identity.clone());
        }
        let token = bearer::token(headers).map_err(Unauthenticated)?;
        let Some(token) = token else {
            return Err(match presented {
                Presented::Refused(why) => Unauthenticated(why.to_string()),
                _ => Unauthenticated("no client certificate and no bearer token was sent".into()),
            });
        };
        if token.len() > TOKEN_BYTES_MAX {
            let why = format!("the bearer token is longer than {TOKEN_BYTES_MAX} bytes");
            return Err(Unauthenticated(why));
        }
        let hash = Sha256::digest(token.as_bytes()).into();
        if let Some(identity) = self.issuers.known(&hash, now) {
            return Ok(identity);
        }
        if let Some(found) = self.tokens.find(&hash, now) {
            return found;
        }
        let known = self.service_accounts.as_ref();
        if let Some(known) = known.and_then(|accounts| accounts.known(&hash, now)) {
            return known;
        }
        // Boxed: rare, and its state would make that of every request larger.
        Box::pin(async move {
            if let Some(verified) = self.issuers.verify(&token, &hash, now).await {
                return verified;
            }
            match &self.service_accounts {
                Some(accounts) => accounts.review(&token, &hash, reviewer, now).await,
                None => Err(Unauthenticated("the bearer token is not known here".into())),
            }
        })
        .await
    }

    /// Keeps what it knows of the issuers fresh. Never returns.
    pub(crate) async fn upkeep(&self) {
        self.issuers.keep_keys().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn extra_goes_on_under_percent_encoded_keys() {
        let mut user = User {
            username: "alice".into(),
            ..User::default()
        };
        let values = vec!["a".to_owned(), "b".to_owned()];
        user.extra.insert("example.com/team".into(), values);
        let identity = Identity::new(user, AuthMethod::Oidc, None).unwrap();
        let lines: Vec<_> = identity
            .extra_headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let name = "impersonate-extra-example.com%2fteam";
        assert_eq!(lines, [(name, "a"), (name, "b")]);
    }
}
