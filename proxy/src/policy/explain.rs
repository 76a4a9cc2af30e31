//! Why a policy decides as it does: every rule that was tried, and what kept it from deciding.

use hoop_schema::kinds::request::Effect;

use super::decide::policy_verb;
use super::facts::Facts;
use super::profile::{Judged, judge};
use super::rule::Holds;
use super::webhook::Known;
use super::{Policy, Verdict};

/// The most rules that are named: more than anybody reads.
const TRIED_MAX: usize = 200;

/// A decision, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What is decided.
    pub verdict: Verdict,
    /// Line of the rule that decides; nothing for the built-in rule and where none does.
    pub line: Option<u64>,
    /// The rules before it, in order; at most 200.
    pub tried: Vec<Tried>,
    /// Number of further rules before it.
    pub tried_more: usize,
    /// The webhooks that would be asked, each once: the decision is as said if they allow.
    pub webhooks: Vec<String>,
}

/// A rule that did not decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its profile.
    pub profile: String,
    /// Its name.
    pub rule: String,
    /// Its line in the file.
    pub line: u64,
    /// Why not.
    pub reason: String,
}

impl Policy {
    /// Decides as [`Policy::decide`] does and says why; nothing when that takes a body or a webhook's answer that the
    /// facts do not have.
    pub fn explain(&self, facts: &Facts<'_>) -> Option<Explanation> {
        let mut explanation = Explanation {
            verdict: self.decide(facts).verdict()?,
            line: None,
            tried: Vec::new(),
            tried_more: 0,
            webhooks: Vec::new(),
        };
        if explanation.verdict.decision.profile.as_deref() == Some(super::BUILT_IN) {
            return Some(explanation);
        }
        let verb = policy_verb(facts.info);
        for profile in self.profiles_of(facts.user, facts.through) {
            for rule in &profile.rules {
                let reason = match rule.mismatch(facts.info, verb) {
                    Some(reason) => reason.to_owned(),
                    None => {
                        let holds = rule.holds(facts);
                        let fails = match holds {
                            Holds::No(number) => Some(format!(
                                "condition {number} does not hold: {}",
                                rule.when[number - 1].text().trim()
                            )),
                            _ => None,
                        };
                        let judged = judge(rule, holds, facts);
                        let asks = match &judged {
                            Judged::Decides(_) => true,
                            Judged::Passes(why) => rule.effect == Effect::Deny && why.is_some(),
                            _ => false,
                        };
                        if let (true, Some(webhook)) = (asks, &rule.webhook)
                            && matches!(facts.known(webhook), Known::Open)
                            && !explanation.webhooks.contains(&webhook.name)
                        {
                            explanation.webhooks.push(webhook.name.clone());
                        }
                        match judged {
                            Judged::Decides(_)
                            | Judged::Refuses(..)
                            | Judged::NeedsBody
                            | Judged::NeedsWebhook(_) => {
                                explanation.line = Some(rule.line);
                                return Some(explanation);
                            }
                            Judged::Passes(why) => fails.or(why).unwrap_or_default(),
                        }
                    }
                };
                if explanation.tried.len() == TRIED_MAX {
                    explanation.tried_more += 1;
                    continue;
                }
                explanation.tried.push(Tried {
                    profile: profile.name.clone(),
                    rule: rule.name.clone(),
                    line: rule.line,
                    reason,
                });
            }
        }
        Some(explanation)
    }
}
