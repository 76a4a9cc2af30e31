//! OpenID Connect: people who show an ID token of one of the configured issuers.
//!
//! # Promises
//! - A token is believed only when its signature is by a key that its issuer publishes over TLS, with one of the
//!   algorithms of [`keys`], and when it is for this gateway and of this time.
//! - However many tokens of whatever kind come, an issuer is asked at most once per [`Pacing::pause`].
//! - What the issuer says goes through the configured rules, as in the API server. Distributed claims
//!   (`_claim_names`) are not resolved.

use std::sync::Arc;
use std::time::Duration;

use hoop_schema::Timestamp;

use super::metrics::Metrics;
use super::token_cache::{TokenCache, TokenHash};
use super::{Identity, Unauthenticated};
use crate::https_client::HttpsSetupError;

mod delegation;
mod document;
mod expression;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod issuer;
mod keys;
mod rules;
mod token;

pub use document::{AuthenticationConfiguration, AuthenticationError, AuthenticationErrors};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::check as check_token;
use issuer::Issuer;
use token::Jwt;
pub(super) use token::claimed_expiry;
pub use token::unverified_claims;

/// Tokens that are remembered: of everybody who works through one gateway in an hour. Some 300 bytes each, and what the
/// identity takes.
const TOKENS_MAX: usize = 16_384;

/// When keys are fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pacing {
    /// From one fetch to the next.
    pub(crate) refresh: Duration,
    /// After one that failed.
    pub(crate) retry: Duration,
    /// At least, whoever wants keys.
    pub(crate) pause: Duration,
}

/// The keys of an issuer cannot be fetched, ever.
#[derive(Debug, thiserror::Error)]
#[error("the issuer {0} cannot be asked for its keys; certificateAuthority names who certifies it")]
pub struct OpenError(String, #[source] HttpsSetupError);

/// What an issuer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerProbe {
    /// The issuer.
    pub url: String,
    /// How many keys it has, or why they could not be fetched.
    pub keys: Result<usize, String>,
}

/// All issuers.
#[derive(Debug)]
pub(crate) struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    verified: TokenCache<Verified>,
    metrics: Metrics,
}

/// What is remembered of a token.
#[derive(Clone)]
struct Verified {
    identity: Identity,
    issuer: Arc<Issuer>,
    generation: u64,
}

impl Issuers {
    pub(crate) fn open(
        configuration: AuthenticationConfiguration,
        pacing: Pacing,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let issuers = configuration.issuers.into_iter();
        Ok(Self {
            issuers: issuers
                .map(|issuer| Issuer::new(issuer, pacing).map(Arc::new))
                .collect::<Result<_, _>>()?,
            verified: TokenCache::new(TOKENS_MAX),
            metrics,
        })
    }

    /// Whose token this is, if it was verified before and still holds.
    pub(super) fn known(&self, hash: &TokenHash, now: Timestamp) -> Option<Identity> {
        let holds = |verified: &Verified| verified.issuer.generation() == verified.generation;
        self.verified
            .get(hash, now, holds)
            .map(|verified| verified.identity)
    }

    /// Verifies a token; `None` when no configured issuer is named in it. May wait for keys to be fetched.
    pub(super) async fn verify(
        &self,
        token: &str,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<Result<Identity, Unauthenticated>> {
        if self.issuers.is_empty() {
            return None;
        }
        let jwt = Jwt::parse(token)?;
        let named = jwt.issuer()?;
        let issuer = self.issuers.iter().find(|issuer| issuer.url() == named)?;
        let verified = issuer.verify(&jwt, now).await;
        self.metrics.token_verified(verified.is_ok());
        Some(verified.map(|(identity, generation)| {
            let ends = identity.expires.unwrap_or(now);
            let verified = Verified {
                identity: identity.clone(),
                issuer: Arc::clone(issuer),
                generation,
            };
            self.verified.put(*hash, ends, verified);
            identity
        }))
    }

    /// Keeps the keys of all issuers fresh. Never returns.
    pub(crate) async fn keep_keys(&self) {
        let mut all: Vec<_> = self
            .issuers
            .iter()
            .map(|issuer| Box::pin(issuer.keep_keys(&self.metrics)))
            .collect();
        futures_util::future::join_all(all.drain(..)).await;
        std::future::pending::<()>().await;
    }
}

impl AuthenticationConfiguration {
    /// Asks every issuer for its keys once.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub async fn probe(self) -> Result<Vec<IssuerProbe>, OpenError> {
        let pacing = Pacing {
            refresh: Duration::MAX,
            retry: Duration::MAX,
            pause: Duration::ZERO,
        };
        let mut probes = Vec::new();
        for issuer in self.issuers {
            let issuer = Issuer::new(issuer, pacing)?;
            let keys = issuer.fetch().await.map_err(|error| chain(&error));
            let url = issuer.url().to_owned();
            probes.push(IssuerProbe { url, keys });
        }
        Ok(probes)
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
