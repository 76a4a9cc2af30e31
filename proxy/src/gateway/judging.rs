//! Step 4 in detail: whom somebody asks to act as, and decisions that wait for the body or for webhooks.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::kinds::request::{Cause, Decision, Effect, User};
use http::HeaderMap;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::config::Limits;
use crate::impersonation;
use crate::policy::{BodyFact, Facts, Policy, Step, Verdict};
use crate::policy_in_force::InForce;
use crate::request_body;
use crate::status::Refusal;

/// How long one request waits for webhooks in all; the API server's bound for one of its own.
const WEBHOOKS_TIMEOUT: Duration = Duration::from_secs(30);

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

/// The policy's verdict; the body is read and webhooks are asked as far as rules want to know.
pub(super) async fn verdict(
    in_force: &InForce,
    facts: Facts<'_>,
    sent: &mut Sent,
    limits: &Limits,
) -> Result<Verdict, Refusal> {
    let body = OnceLock::new();
    let mut asking = Asking::new(in_force, facts);
    loop {
        match asking.step().await {
            Step::Decided(verdict) => return Ok(*verdict),
            Step::NeedsWebhook(_) => {}
            Step::NeedsBody => {
                let waiting = std::mem::replace(sent, Sent::Arrived(Bytes::new()));
                let bytes = waiting.bytes(limits).await?;
                *sent = Sent::Arrived(bytes.clone());
                let bytes: &Bytes = body.get_or_init(|| bytes);
                asking.facts = asking.facts.with_body(BodyFact::Read(bytes));
            }
        }
    }
}

/// What the policy would say of a request that nobody sent; nothing when only its body could tell.
pub(super) async fn would_be(in_force: &InForce, facts: Facts<'_>) -> Option<Decision> {
    let mut asking = Asking::new(in_force, facts.with_body(BodyFact::Unknown));
    loop {
        match asking.step().await {
            Step::Decided(verdict) => return Some(verdict.decision),
            Step::NeedsWebhook(_) => {}
            Step::NeedsBody => return None,
        }
    }
}

/// A decision that goes on from answer to answer. Ends: every webhook is asked once.
struct Asking<'a> {
    in_force: &'a InForce,
    facts: Facts<'a>,
    deadline: Instant,
}

impl<'a> Asking<'a> {
    fn new(in_force: &'a InForce, facts: Facts<'a>) -> Self {
        Self {
            in_force,
            facts,
            deadline: Instant::now() + WEBHOOKS_TIMEOUT,
        }
    }

    /// Decides as far as that goes, and asks the webhook if it takes one.
    async fn step(&mut self) -> Step {
        let step = self.in_force.policy.decide(&self.facts);
        if let Step::NeedsWebhook(webhook) = &step {
            let webhooks = &self.in_force.webhooks;
            let answer = webhooks.ask(webhook, &self.facts, self.deadline).await;
            self.facts.answer(webhook.clone(), answer);
        }
        step
    }
}

/// A service account as the cluster knows it; the API server adds its groups.
pub(super) fn service_account(name: &str) -> User {
    User {
        username: name.to_owned(),
        ..User::default()
    }
}
