//! One issuer at work: its keys, when they are fetched, and what its tokens say.
//!
//! One task per issuer fetches, so there is never more than one fetch at a time, and never two within
//! [`FETCH_PAUSE`](super::Pacing). It does so at the start, at an interval, sooner after a failure, and when a token
//! names a key that is not known, as after a rotation: such a request waits for it. Keys are kept while the issuer is
//! down.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hoop_schema::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::document::IssuerConfig;
use super::fetch::{self, FetchError};
use super::keys::{KeySet, Rejected};
use super::token::Jwt;
use super::{OpenError, Pacing, delegation};
use crate::authenticate::metrics::Metrics;
use crate::authenticate::{Identity, Unauthenticated};
use crate::https_client::{ANSWER_TIMEOUT, HttpsClient, HttpsError};
use hoop_schema::kinds::request::AuthMethod;

/// How long a request waits for keys: for one fetch, and a little.
const WAIT_MAX: Duration = FETCH_TIMEOUT.saturating_add(Duration::from_secs(1));

/// For discovery document and keys together.
const FETCH_TIMEOUT: Duration = ANSWER_TIMEOUT;

/// The longest `sid` or `jti` that is taken for the name of a login. Keycloak's have 36 characters.
const LOGIN_BYTES_MAX: usize = 256;

/// An issuer.
pub(crate) struct Issuer {
    config: IssuerConfig,
    https: HttpsClient,
    keys: ArcSwap<Keys>,
    pacing: Pacing,
    /// Somebody waits for keys.
    wanted: Notify,
    /// Counts fetches that have ended.
    fetches: watch::Sender<u64>,
    last: Mutex<Option<Instant>>,
}

/// The keys that are known.
#[derive(Debug, Default)]
struct Keys {
    /// Counts changes: what was verified with other keys has to be verified again.
    generation: u64,
    set: KeySet,
    /// Why the last fetch failed.
    failure: Option<String>,
}

impl Issuer {
    pub(super) fn new(config: IssuerConfig, pacing: Pacing) -> Result<Self, OpenError> {
        let https = HttpsClient::new(&config.authorities)
            .map_err(|error| OpenError(config.url.clone(), error))?;
        Ok(Self {
            config,
            https,
            keys: ArcSwap::default(),
            pacing,
            wanted: Notify::new(),
            fetches: watch::Sender::new(0),
            last: Mutex::new(None),
        })
    }

    /// One whose keys are known, and never fetched.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn with_keys(config: IssuerConfig, set: KeySet) -> Result<Self, OpenError> {
        let pacing = Pacing {
            refresh: Duration::MAX,
            retry: Duration::MAX,
            pause: Duration::MAX,
        };
        let issuer = Self::new(config, pacing)?;
        issuer.keys.store(Arc::new(Keys {
            generation: 1,
            set,
            failure: None,
        }));
        *issuer.last.lock() = Some(Instant::now());
        Ok(issuer)
    }

    /// What its tokens have as `iss`.
    pub(super) fn url(&self) -> &str {
        &self.config.url
    }

    /// Counts changes of its keys.
    pub(crate) fn generation(&self) -> u64 {
        self.keys.load().generation
    }

    /// Fetches the keys whenever it is time to. Never returns.
    pub(super) async fn keep_keys(&self, metrics: &Metrics) {
        loop {
            let fetched = self.fetch().await;
            metrics.keys_fetched(fetched.is_ok());
            let next = match fetched {
                Ok(_) => self.pacing.refresh,
                Err(error) => {
                    tracing::warn!(
                        issuer = self.url(),
                        error = &error as &dyn std::error::Error,
                        "the keys of an issuer could not be fetched"
                    );
                    self.pacing.retry
                }
            };
            *self.last.lock() = Some(Instant::now());
            self.fetches.send_modify(|count| *count += 1);
            tokio::time::sleep(self.pacing.pause).await;
            let rest = next.saturating_sub(self.pacing.pause);
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Fetches the keys once. Returns how many there are.
    pub(super) async fn fetch(&self) -> Result<usize, FetchError> {
        let fetched =
            tokio::time::timeout(FETCH_TIMEOUT, fetch::keys(&self.config, &self.https)).await;
        let fetched = fetched
            .unwrap_or_else(|_| Err(HttpsError::Timeout(self.config.discovery.clone()).into()));
        let known = self.keys.load_full();
        match fetched {
            Ok(set) => {
                let count = set.len();
                if set != known.set || known.failure.is_some() {
                    let changed = u64::from(set != known.set);
                    self.keys.store(Arc::new(Keys {
                        generation: known.generation + changed,
                        set,
                        failure: None,
                    }));
                }
                Ok(count)
            }
            Err(error) => {
                // Without keys there is nothing to keep, but a reason to tell.
                if known.generation == 0 {
                    self.keys.store(Arc::new(Keys {
                        failure: Some(error.to_string()),
                        ..Keys::default()
                    }));
                }
                Err(error)
            }
        }
    }

    /// Who holds a token of this issuer, until when, and by which generation of keys.
    pub(super) async fn verify(
        &self,
        jwt: &Jwt<'_>,
        now: Timestamp,
    ) -> Result<(Identity, u64), Unauthenticated> {
        // Before the signature, so that a token that is no good anyhow costs nothing.
        let ends = jwt.check(&self.config.audiences, now)?;
        let generation = self.signed(jwt).await?;
        let user = self.config.rules.user(&jwt.claims)?;
        let login = ["sid", "jti"]
            .iter()
            .filter_map(|claim| jwt.claims.get(*claim)?.as_str())
            .find(|name| !name.is_empty() && name.len() <= LOGIN_BYTES_MAX);
        let delegation = delegation::read(&jwt.claims)?;
        let identity = Identity::new(user, AuthMethod::Oidc, login.map(Into::into))?
            .until(ends)
            .delegated(delegation);
        Ok((identity, generation))
    }

    /// Checks the signature, with keys that are fetched if need be. Returns the generation of the keys.
    async fn signed(&self, jwt: &Jwt<'_>) -> Result<u64, Unauthenticated> {
        let mut rejected = Rejected::UnknownKey;
        for wait in [false, true] {
            if wait && !self.renewed().await {
                break;
            }
            let keys = self.keys.load_full();
            match keys.set.verify(jwt) {
                Ok(()) => return Ok(keys.generation),
                Err(Rejected::UnknownKey) => {}
                Err(other) => {
                    rejected = other;
                    break;
                }
            }
        }
        Err(self.refusal(rejected))
    }

    /// Waits for a fetch; not if one has just been.
    async fn renewed(&self) -> bool {
        let mut fetches = self.fetches.subscribe();
        let recent = self
            .last
            .lock()
            .is_some_and(|at| at.elapsed() < self.pacing.pause);
        if recent {
            return false;
        }
        self.wanted.notify_one();
        let waited = tokio::time::timeout(WAIT_MAX, fetches.changed()).await;
        matches!(waited, Ok(Ok(())))
    }

    fn refusal(&self, rejected: Rejected) -> Unauthenticated {
        let keys = self.keys.load();
        let url = self.url();
        Unauthenticated(match (rejected, &keys.failure) {
            (Rejected::UnknownKey, Some(failure)) => {
                format!("the keys of the issuer {url} are not known yet: {failure}")
            }
            (Rejected::UnknownKey, None) if keys.generation == 0 => {
                format!("the keys of the issuer {url} are not known yet; try again shortly")
            }
            (Rejected::UnknownKey, None) => {
                format!("the token is signed with a key that the issuer {url} does not publish")
            }
            (Rejected::Algorithm, _) => {
                "the token's algorithm (alg) is none of RS, PS and ES with 256, 384 or 512 bits"
                    .into()
            }
            (Rejected::Unfit, _) => {
                "the token's algorithm (alg) does not fit the key that it names".into()
            }
            (Rejected::Ambiguous, _) => {
                "the token names no key (kid), and the issuer has several that might be meant"
                    .into()
            }
            (Rejected::Signature, _) => "the token's signature is wrong".into(),
        })
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("url", &self.config.url)
            .finish_non_exhaustive()
    }
}
