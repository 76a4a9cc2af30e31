//! How long a stream may go on: until the credential that opened it expires, or somebody ends it.
//!
//! Requests are authenticated one by one, a stream only when it begins. One that outlives its credential, its login or
//! its session is told so in its own words (an `ERROR` event in a watch, a line in a log, the status of a command) and
//! closed, and its outcome says why.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Cause, Decision, Effect};

use crate::authenticate::Identity;
use crate::endings::{Ending, Endings, SessionNames};
use crate::record::Clock;

/// Whose stream it is.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) identity: Identity,
    pub(crate) session: SessionNames,
}

/// Why a stream is over.
#[derive(Debug, Clone)]
pub(crate) enum Over {
    /// The credential has expired.
    Expired,
    /// Somebody ended the session, the login, or the person's access.
    Ended(Arc<Ending>),
    /// The client certificate is not valid any longer, and why.
    Revoked(&'static str),
}

/// Resolves when the stream is over.
pub(crate) struct Lifetime(Pin<Box<dyn Future<Output = Over> + Send>>);

impl Lifetime {
    /// Of a stream that begins now; of nobody, it goes on for ever.
    pub(crate) fn new(holder: Option<Holder>, endings: &Arc<Endings>, clock: &Clock) -> Self {
        let (endings, clock) = (Arc::clone(endings), Arc::clone(clock));
        Self(Box::pin(async move {
            let Some(holder) = holder else {
                return std::future::pending().await;
            };
            let expires = holder.identity.expires;
            tokio::select! {
                over = ended(&holder, &endings, &clock) => over,
                over = expired(expires, clock()) => over,
            }
        }))
    }
}

impl Future for Lifetime {
    type Output = Over;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Over> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lifetime")
    }
}

async fn expired(expires: Option<Timestamp>, now: Timestamp) -> Over {
    let Some(expires) = expires else {
        return std::future::pending().await;
    };
    let micros = expires.as_micros().saturating_sub(now.as_micros());
    tokio::time::sleep(Duration::from_micros(u64::try_from(micros).unwrap_or(0))).await;
    Over::Expired
}

async fn ended(holder: &Holder, endings: &Endings, clock: &Clock) -> Over {
    let mut changes = endings.changes();
    loop {
        if let Some(over) = look(holder, endings, clock()) {
            return over;
        }
        if changes.changed().await.is_err() {
            // The gateway itself is gone.
            return std::future::pending().await;
        }
    }
}

fn look(holder: &Holder, endings: &Endings, now: Timestamp) -> Option<Over> {
    let Holder { identity, session } = holder;
    if let Some(ending) = endings.find(identity, session, now) {
        return Some(Over::Ended(ending));
    }
    let certificate = identity.certificate.as_ref()?;
    certificate.still_valid().err().map(Over::Revoked)
}

impl Over {
    /// What the person is told.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Expired => {
                "the credential that opened this stream has expired; log in again and repeat the command".into()
            }
            Self::Ended(ending) => ending.message(),
            Self::Revoked(why) => format!("the credential that opened this stream does not hold any longer: {why}"),
        }
    }

    /// What is decided about the stream now.
    pub(crate) fn decision(&self, decision: &Decision) -> Decision {
        Decision {
            effect: Effect::Deny,
            cause: match self {
                Self::Expired => Cause::CredentialExpired,
                Self::Ended(_) | Self::Revoked(_) => Cause::AccessEnded,
            },
            message: self.message(),
            ..decision.clone()
        }
    }
}
