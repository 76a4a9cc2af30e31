//! Step 4 in detail: whom somebody asks to act as, and decisions that wait for the body.

use bytes::Bytes;
use hoop_schema::kinds::request::{Cause, Decision, Effect, User};
use http::HeaderMap;
use hyper::body::Incoming;

use crate::config::Limits;
use crate::impersonation;
use crate::policy::{BodyFact, Facts, Policy, Verdict};
use crate::request_body;
use crate::status::Refusal;

/// What the client sends along.
pub(super) enum Sent {
    /// Not read yet.
    Waiting(Incoming),
    /// Read whole, because a rule asked for it.
    Arrived(Bytes),
}

impl Sent {
    /// All of it, within limits.
    pub(super) async fn bytes(self, limits: &Limits) -> Result<Bytes, Refusal> {
        match self {
            Self::Waiting(body) => request_body::read(body, limits).await,
            Self::Arrived(bytes) => Ok(bytes),
        }
    }
}

/// Whom the request asks to act as, if that is allowed; the decision that it is not otherwise.
pub(super) fn acting_as(
    policy: &Policy,
    facts: &Facts<'_>,
    headers: &HeaderMap,
) -> Result<Option<User>, Decision> {
    let asked = impersonation::asked(headers).map_err(|why| Decision {
        effect: Effect::Deny,
        cause: Cause::ImpersonationRefused,
        profile: None,
        rule: None,
        message: Refusal::impersonation(&why).message,
        policy_revision: policy.revision().to_owned(),
    })?;
    let Some(asked) = asked else {
        return Ok(None);
    };
    let decision = policy.impersonate(facts, &asked);
    match decision.effect {
        Effect::Allow => Ok(Some(asked)),
        Effect::Deny | Effect::Hold => Err(decision),
    }
}

/// The policy's verdict; the body is read if a rule asks for it.
pub(super) async fn verdict(
    policy: &Policy,
    facts: Facts<'_>,
    sent: &mut Sent,
    limits: &Limits,
) -> Result<Verdict, Refusal> {
    if let Some(verdict) = policy.decide(&facts) {
        return Ok(verdict);
    }
    let waiting = std::mem::replace(sent, Sent::Arrived(Bytes::new()));
    let bytes = waiting.bytes(limits).await?;
    *sent = Sent::Arrived(bytes.clone());
    let verdict = policy.decide(&facts.with_body(BodyFact::Read(&bytes)));
    Ok(verdict.expect("nothing is left to wait for once the body is read"))
}

/// A service account as the cluster knows it; the API server adds its groups.
pub(super) fn service_account(name: &str) -> User {
    User {
        username: name.to_owned(),
        ..User::default()
    }
}
