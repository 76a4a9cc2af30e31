//! How long a stream may go on: until the credential that opened it expires.
//!
//! Requests are authenticated one by one, a stream only when it begins. One that outlives its credential is told so in
//! its own words (an `ERROR` event in a watch, a line in a log, the status of a command) and closed, and its outcome
//! says why.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Cause, Decision, Effect};
use tokio::time::Sleep;

/// What the person is told.
pub(crate) const MESSAGE: &str =
    "the credential that opened this stream has expired; log in again and repeat the command";

/// Resolves when the stream is over.
#[derive(Debug)]
pub(crate) struct Lifetime(Option<Pin<Box<Sleep>>>);

impl Lifetime {
    /// Of a stream that begins now with a credential that expires at `expires`, or never.
    pub(crate) fn new(expires: Option<Timestamp>, now: Timestamp) -> Self {
        Self(expires.map(|expires| {
            let micros = expires.as_micros().saturating_sub(now.as_micros());
            let left = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
            Box::pin(tokio::time::sleep(left))
        }))
    }
}

impl Future for Lifetime {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// What is decided about a stream that is over.
pub(crate) fn expired(decision: &Decision) -> Decision {
    Decision {
        effect: Effect::Deny,
        cause: Cause::CredentialExpired,
        message: MESSAGE.to_owned(),
        ..decision.clone()
    }
}
