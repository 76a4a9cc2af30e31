//! Step 4's result.

use std::sync::Arc;

use hoop_schema::Class;
use hoop_schema::kinds::request::{Decision, Durability, Effect, Level, User};
use http::request::Parts;

use crate::mask::{MaskMode, TextRules};
use crate::policy::Verdict;
use crate::record::{NewIntent, Placement};
use crate::request_body::RequestBody;
use crate::status::Refusal;
use crate::tunnel::Asked;
use crate::upstream;

/// What was decided about a call: how it is recorded, and the error it is answered with unless it goes upstream.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    pub(super) refusal: Option<Refusal>,
    /// Whom it goes upstream as, if not as the person.
    pub(super) acting_as: Option<User>,
    /// What it wants to tunnel, if it asks for an upgrade.
    pub(super) asked: Option<Asked>,
}

impl Ruling {
    /// Of a call that never got as far as the policy.
    pub(super) fn refused(refusal: Refusal, policy_revision: &str) -> Self {
        let mut ruling = Self {
            verdict: Verdict {
                decision: Decision {
                    effect: Effect::Deny,
                    cause: refusal.cause,
                    profile: None,
                    rule: None,
                    message: String::new(),
                    policy_revision: policy_revision.to_owned(),
                },
                mask: MaskMode::default(),
                record_mask: MaskMode::default(),
                masking: None,
                level: Level::RequestResponse,
                durability: Durability::default(),
                class: Class::standard(),
                body_class: None,
                act_as: None,
            },
            refusal: None,
            acting_as: None,
            asked: None,
        };
        ruling.refuse(refusal);
        ruling
    }

    /// Of a call that a decision denies or holds before there is a verdict on the request itself. `id` names the call.
    pub(super) fn decided(decision: Decision, id: &str) -> Self {
        let refusal = match decision.effect {
            Effect::Hold => Refusal::approval_required(&decision, id),
            Effect::Allow | Effect::Deny => Refusal::denied(&decision),
        };
        let mut ruling = Self::refused(refusal, &decision.policy_revision);
        ruling.verdict.decision = decision;
        ruling
    }

    /// The call is answered with this error. A rule's own decision keeps its effect and cause.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let decision = &mut self.verdict.decision;
        if decision.effect == Effect::Allow {
            decision.effect = Effect::Deny;
            decision.cause = refusal.cause;
            decision.message.clone_from(&refusal.message);
        } else if decision.message.is_empty() {
            decision.message.clone_from(&refusal.message);
        }
        self.refusal = Some(refusal);
    }

    /// What the record must not show in any text, if the masking rules say something of that.
    pub(super) fn looks_into_texts(&self) -> Option<&Arc<TextRules>> {
        self.verdict.masking.as_deref()?.record().text()
    }

    pub(super) fn intent(&self, head: &Parts, body: &mut RequestBody) -> NewIntent {
        let verdict = &self.verdict;
        NewIntent {
            decision: verdict.decision.clone(),
            level: verdict.level,
            durability: verdict.durability,
            placement: Placement {
                class: verdict.class.clone(),
                body_class: verdict
                    .body_class
                    .clone()
                    .unwrap_or_else(|| verdict.class.clone()),
            },
            body: body.recorded.take(),
            masked: std::mem::take(&mut body.masked),
            claims: upstream::claims(&head.headers),
        }
    }
}
