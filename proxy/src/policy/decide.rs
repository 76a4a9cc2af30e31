//! From facts to a verdict.

use std::sync::Arc;

use hoop_schema::kinds::request::{Cause, Decision, Durability, Effect, Level, User};

use super::facts::Facts;
use super::impersonation::never_asserted;
use super::profile::{Found, Judged, Profile, judge};
use super::rule::{EXEC, Rule, Scope};
use super::webhook::Webhook;
use super::{BUILT_IN, BodyFact, Policy, Verdict};
use crate::request_info::RequestInfo;

/// The most rules whose doubts a refusal names: the first says enough, a few help to find the one that was meant.
const DOUBTS_MAX: usize = 3;

/// How far a decision came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To its end.
    Decided(Box<Verdict>),
    /// A rule that could decide asks for the body, which is not read yet.
    NeedsBody,
    /// A rule that could decide asks this webhook, whose answer is not known yet.
    NeedsWebhook(Arc<Webhook>),
}

impl Step {
    /// The verdict, if the decision came to its end.
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Decided(verdict) => Some(*verdict),
            Self::NeedsBody | Self::NeedsWebhook(_) => None,
        }
    }
}

impl Policy {
    /// Decides about a request of an authenticated user, as far as that goes with what is known.
    pub fn decide(&self, facts: &Facts<'_>) -> Step {
        let (user, info) = (facts.user, facts.info);
        let profiles = self.profiles_of(user, facts.through);
        if let Some(step) = self.built_in(facts, &profiles) {
            return step;
        }
        let verb = policy_verb(info);
        let mut doubts = Vec::new();
        for profile in profiles {
            match profile.first_match(facts, verb, &mut doubts) {
                Found::Rule(rule, why) => {
                    let effect = (rule.effect, Cause::Rule);
                    return self.by_rule(facts, profile, rule, effect, why);
                }
                Found::Refused(rule, cause, why) => {
                    return self.by_rule(facts, profile, rule, (Effect::Deny, cause), Some(why));
                }
                Found::NeedsBody => return Step::NeedsBody,
                Found::NeedsWebhook(webhook) => return Step::NeedsWebhook(Arc::clone(webhook)),
                Found::Nothing => {}
            }
        }
        let mut decision = self.decision(Effect::Deny, Cause::NoMatch, None);
        decision.message = format!(
            "{}: no rule of the gateway's policy allows it",
            forbidden(user, info)
        );
        if let Some(actor) = facts.through.actor {
            decision.message += &format!(
                " for {actor:?}, who acts for the user (only profiles whose subjects name such actors count)"
            );
        }
        for (rule, why) in doubts.into_iter().take(DOUBTS_MAX) {
            decision.message += &format!("; rule \"{}\" does not, since {why}", rule.name);
        }
        Step::Decided(Box::new(Verdict::plain(decision)))
    }

    /// Decides about somebody who asks to act as `asked`. What they then may do is for [`Policy::decide`], and for the
    /// cluster's own rules about `asked`.
    pub fn impersonate(&self, facts: &Facts<'_>, asked: &User) -> Decision {
        let user = facts.user;
        let deny = |why: String| {
            let mut decision = self.decision(Effect::Deny, Cause::ImpersonationRefused, None);
            decision.message = format!(
                "user {:?} may not act as user {:?}: {why}",
                user.username, asked.username
            );
            decision
        };
        if let Some(what) = never_asserted(asked) {
            return deny(format!("this gateway never asserts {what}"));
        }
        let mut nearest = None;
        for profile in self.profiles_of(user, facts.through) {
            for rule in &profile.rules {
                let Scope::Impersonation(targets) = &rule.scope else {
                    continue;
                };
                let missing = targets.missing(asked);
                let matches = match rule.effect {
                    Effect::Deny => targets.touch(asked),
                    Effect::Allow | Effect::Hold => missing.is_none(),
                };
                if !matches {
                    if rule.effect != Effect::Deny {
                        nearest = nearest.or(missing);
                    }
                    continue;
                }
                match judge(rule, rule.holds(facts), facts) {
                    Judged::Decides(why) => {
                        return self.impersonation_by_rule(user, asked, profile, rule, why);
                    }
                    Judged::Passes(Some(why)) => nearest = nearest.or(Some(why)),
                    // Such rules ask for neither.
                    Judged::Passes(None)
                    | Judged::Refuses(..)
                    | Judged::NeedsBody
                    | Judged::NeedsWebhook(_) => {}
                }
            }
        }
        deny(match nearest {
            None => "no rule of the gateway's policy allows it".to_owned(),
            Some(what) => format!("no rule of the gateway's policy allows it ({what})"),
        })
    }

    fn impersonation_by_rule(
        &self,
        user: &User,
        asked: &User,
        profile: &Profile,
        rule: &Rule,
        why: Option<String>,
    ) -> Decision {
        let mut decision = self.decision(rule.effect, Cause::Rule, Some((profile, rule)));
        let what = match rule.effect {
            Effect::Allow => "acts as",
            Effect::Deny => "may not act as",
            Effect::Hold => "needs an approval to act as",
        };
        decision.message = format!(
            "user {:?} {what} user {:?} by rule \"{}\" of profile \"{}\"",
            user.username, asked.username, rule.name, profile.name
        );
        add_reasons(&mut decision.message, why.as_deref(), &rule.message);
        decision
    }

    /// Discovery, health and questions about oneself, which every policy answers.
    fn built_in(&self, facts: &Facts<'_>, profiles: &[&Profile]) -> Option<Step> {
        let info = facts.info;
        let is_cheap = info.is_discovery() || info.is_health();
        if !is_cheap && !info.is_self_review() {
            return None;
        }
        let mut decision = self.decision(Effect::Allow, Cause::Rule, None);
        decision.profile = Some(BUILT_IN.to_owned());
        decision.rule = Some(BUILT_IN.to_owned());
        let mut verdict = Verdict::plain(decision);
        verdict.level = Level::Metadata;
        if is_cheap {
            verdict.durability = Durability::BestEffort;
        }
        let mut pins = profiles.iter().filter_map(|p| p.act_as.as_ref());
        verdict.act_as = pins.next().map(Arc::clone);
        if verdict.act_as.is_some() && info.resource() == "selfsubjectaccessreviews" {
            // Whom the cluster sees depends on what the question is about.
            let BodyFact::Read(body) = facts.body else {
                return Some(Step::NeedsBody);
            };
            if let Some(asked) = super::hypothetical(body) {
                let facts = facts.about(&asked).with_body(BodyFact::Unknown);
                let verdict_asked = self.decide(&facts.without_webhooks()).verdict();
                verdict.act_as = verdict_asked.and_then(|verdict| verdict.act_as);
            }
        }
        Some(Step::Decided(Box::new(verdict)))
    }

    fn by_rule(
        &self,
        facts: &Facts<'_>,
        profile: &Profile,
        rule: &Rule,
        (effect, cause): (Effect, Cause),
        why: Option<String>,
    ) -> Step {
        let mut decision = self.decision(effect, cause, Some((profile, rule)));
        let by = match effect {
            Effect::Allow => None,
            Effect::Deny => Some("refused"),
            Effect::Hold => Some("held for an approval"),
        };
        match by {
            // An allowing rule says why only where it depends on more than its words.
            None => decision.message = why.unwrap_or_else(|| rule.message.clone()),
            Some(by) => {
                decision.message = format!(
                    "{}: {by} by rule \"{}\" of profile \"{}\"",
                    forbidden(facts.user, facts.info),
                    rule.name,
                    profile.name,
                );
                add_reasons(&mut decision.message, why.as_deref(), &rule.message);
            }
        }
        for failed in facts.failed_open() {
            if !decision.message.is_empty() {
                decision.message += "; ";
            }
            decision.message += &failed;
        }
        Step::Decided(Box::new(Verdict {
            decision,
            mask: rule.mask,
            record_mask: rule.record_mask,
            masking: rule.masking.clone(),
            level: rule.level,
            durability: rule.durability,
            class: rule.class.clone(),
            body_class: rule.body_class.clone(),
            act_as: profile.act_as.clone(),
        }))
    }

    fn decision(&self, effect: Effect, cause: Cause, by: Option<(&Profile, &Rule)>) -> Decision {
        Decision {
            effect,
            cause,
            profile: by.map(|(profile, _)| profile.name.clone()),
            rule: by.map(|(_, rule)| rule.name.clone()),
            message: String::new(),
            policy_revision: self.revision.clone(),
        }
    }
}

/// The verb that rules are written for: exec, attach and port-forward are one action, whatever the HTTP method.
pub(super) fn policy_verb(info: &RequestInfo) -> &str {
    if info.is_exec_like() {
        EXEC
    } else {
        &info.verb
    }
}

fn add_reasons(message: &mut String, why: Option<&str>, of_rule: &str) {
    if let Some(why) = why {
        *message += &format!(", since {why}");
    }
    if !of_rule.is_empty() {
        *message += ": ";
        *message += of_rule;
    }
}

/// The API server's own words for a refusal.
fn forbidden(user: &User, info: &RequestInfo) -> String {
    let (name, verb) = (&user.username, &info.verb);
    let Some(object) = &info.object else {
        return format!(
            "forbidden: User {name:?} cannot {verb} path {:?}",
            info.path
        );
    };
    let mut what = object.resource.clone();
    if !object.api_group.is_empty() {
        what = format!("{what}.{}", object.api_group);
    }
    if !object.name.is_empty() {
        what = format!("{what} {:?}", object.name);
    }
    let mut resource = object.resource.clone();
    if !object.subresource.is_empty() {
        resource = format!("{resource}/{}", object.subresource);
    }
    let place = if object.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", object.namespace)
    };
    format!(
        "{what} is forbidden: User {name:?} cannot {verb} resource {resource:?} in API group {:?} {place}",
        object.api_group
    )
}
