//! Service accounts of the cluster itself: their tokens are reviewed by the API server (`TokenReview`), which knows
//! whether the pod that a token is bound to is still there.
//!
//! # Promises
//! - Only service accounts come in this way. Whoever else the API server knows, and above all `system:masters`, is not
//!   taken over: the gateway has its own ways for people, and robots outside of the cluster have static tokens.
//! - Both answers are remembered for a short time, and the API server is asked about few tokens at once.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::User;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::metrics::Metrics;
use super::token_cache::{TokenCache, TokenHash};
use super::{Identity, Unauthenticated, oidc};

/// How long a service account is taken for granted: so long its token works after its pod is gone. The API server
/// itself remembers for ten seconds, webhooks for it two minutes.
const ACCEPTED_MICROS: i64 = 30 * 1_000_000;

/// How long a token stays refused: long enough to take the force out of a client that tries in a loop.
const REFUSED_MICROS: i64 = 10 * 1_000_000;

/// Service accounts that are remembered. A large cluster has some thousands that talk to the API server.
const ACCEPTED_MAX: usize = 4096;

/// Refused tokens that are remembered.
const REFUSED_MAX: usize = 4096;

/// Reviews at a time, and how long one waits for its turn: a flood of made-up tokens is not passed on.
const REVIEWS_MAX: usize = 32;
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

const PREFIX: &str = "system:serviceaccount:";

/// Asks the API server.
#[async_trait]
pub(crate) trait TokenReviewer: Sync {
    /// Sends a `TokenReview`; the answer as JSON. `None` when there is none.
    async fn review(&self, review: Bytes) -> Option<Bytes>;
}

/// Reviews tokens.
#[derive(Debug)]
pub(super) struct ServiceAccounts {
    accepted: TokenCache<Identity>,
    refused: TokenCache<Unauthenticated>,
    turns: Semaphore,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: UserInfo,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
}

impl ServiceAccounts {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            accepted: TokenCache::new(ACCEPTED_MAX),
            refused: TokenCache::new(REFUSED_MAX),
            turns: Semaphore::new(REVIEWS_MAX),
            metrics,
        }
    }

    /// What the API server has said of a token not long ago.
    pub(super) fn known(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<Result<Identity, Unauthenticated>> {
        let accepted = self.accepted.get(hash, now, |_| true).map(Ok);
        accepted.or_else(|| self.refused.get(hash, now, |_| true).map(Err))
    }

    /// Asks the API server about a token.
    pub(super) async fn review(
        &self,
        token: &str,
        hash: &TokenHash,
        reviewer: &dyn TokenReviewer,
        now: Timestamp,
    ) -> Result<Identity, Unauthenticated> {
        let unanswered = || {
            Unauthenticated(
                "the API server could not be asked about the bearer token; try again".into(),
            )
        };
        let turn = tokio::time::timeout(TURN_WAIT_MAX, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(unanswered());
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        });
        let answer = reviewer.review(review.to_string().into()).await;
        let answer: Review = answer
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(unanswered)?;
        let result = identity(answer.status);
        self.metrics.token_reviewed(result.is_ok());
        match result {
            Ok(identity) => {
                let ends = oidc::claimed_expiry(token);
                let identity = match ends {
                    Some(ends) => identity.until(ends),
                    None => identity,
                };
                let soon = now.plus_micros(ACCEPTED_MICROS);
                let until = ends.map_or(soon, |ends| ends.min(soon));
                self.accepted.put(*hash, until, identity.clone());
                Ok(identity)
            }
            Err(why) => {
                let until = now.plus_micros(REFUSED_MICROS);
                self.refused.put(*hash, until, why.clone());
                Err(why)
            }
        }
    }
}

fn identity(status: Status) -> Result<Identity, Unauthenticated> {
    if !status.authenticated {
        return Err(Unauthenticated("the bearer token is not known here".into()));
    }
    let UserInfo {
        username,
        uid,
        groups,
    } = status.user;
    let account = username
        .strip_prefix(PREFIX)
        .and_then(|account| account.split_once(':'));
    let Some((namespace, _)) =
        account.filter(|(namespace, name)| is_name(namespace) && is_name(name))
    else {
        return Err(Unauthenticated(
            "the bearer token is the API server's own, but not that of a service account; only those are accepted here"
                .into(),
        ));
    };
    let own = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    let user = User {
        groups: groups
            .into_iter()
            .filter(|group| own.contains(group))
            .collect(),
        uid,
        username,
        ..User::default()
    };
    Identity::service_account(user)
}

/// Whether a text can name a namespace or a service account.
fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoop_schema::kinds::request::AuthMethod;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Answers(AtomicUsize, serde_json::Value);

    #[async_trait]
    impl TokenReviewer for Answers {
        async fn review(&self, review: Bytes) -> Option<Bytes> {
            let review: serde_json::Value = serde_json::from_slice(&review).unwrap();
            assert_eq!(review["kind"], "TokenReview");
            self.0.fetch_add(1, Ordering::SeqCst);
            (!self.1.is_null()).then(|| json!({"status": self.1}).to_string().into())
        }
    }

    fn answers(status: serde_json::Value) -> Answers {
        Answers(AtomicUsize::new(0), status)
    }

    async fn review(
        accounts: &ServiceAccounts,
        answers: &Answers,
        seconds: i64,
    ) -> Result<Identity, Unauthenticated> {
        let now = Timestamp::from_micros(seconds * 1_000_000);
        match accounts.known(&[1; 32], now) {
            Some(known) => known,
            None => accounts.review("token", &[1; 32], answers, now).await,
        }
    }

    #[tokio::test]
    async fn a_service_account_is_remembered_for_a_while() {
        let accounts = ServiceAccounts::new(Metrics::default());
        let answers = answers(json!({"authenticated": true, "user": {
            "username": "system:serviceaccount:ci:deployer", "uid": "u1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated", "system:masters"],
        }}));
        for seconds in [0, 10, 29] {
            let identity = review(&accounts, &answers, seconds).await.unwrap();
            assert_eq!(identity.user.username, "system:serviceaccount:ci:deployer");
            assert_eq!(
                identity.user.groups,
                ["system:serviceaccounts", "system:serviceaccounts:ci"]
            );
            assert_eq!(identity.method, AuthMethod::TokenReview);
            // The API server adds the groups itself.
            assert!(identity.group_headers.is_empty() && identity.uid_header.is_none());
        }
        assert_eq!(answers.0.load(Ordering::SeqCst), 1);
        review(&accounts, &answers, 30).await.unwrap();
        assert_eq!(answers.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn nobody_else_comes_in_this_way() {
        for username in [
            "kubernetes-admin",
            "system:admin",
            "system:serviceaccount:ci",
            "system:serviceaccount:ci:",
            "system:serviceaccount::x",
            "system:serviceaccount:ci:a:b",
            "system:serviceaccount:CI:a",
            "system:serviceaccounts:ci:a",
            "system:node:n1",
            "",
        ] {
            let accounts = ServiceAccounts::new(Metrics::default());
            let answers = answers(json!({"authenticated": true, "user": {"username": username}}));
            assert!(review(&accounts, &answers, 0).await.is_err(), "{username}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_remembered_and_silence_is_not() {
        let accounts = ServiceAccounts::new(Metrics::default());
        let refusing = answers(json!({"authenticated": false}));
        for seconds in [0, 9] {
            review(&accounts, &refusing, seconds).await.unwrap_err();
        }
        assert_eq!(refusing.0.load(Ordering::SeqCst), 1);
        let silent = answers(serde_json::Value::Null);
        for _ in 0..2 {
            let Unauthenticated(why) = review(&accounts, &silent, 20).await.unwrap_err();
            assert!(why.contains("could not be asked"), "{why}");
        }
        assert_eq!(silent.0.load(Ordering::SeqCst), 2);
    }
}
