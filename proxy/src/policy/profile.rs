//! A profile with an index of its rules, so that a decision looks at those that can match and not at all of them.

use std::collections::HashMap;
use std::sync::Arc;

use hoop_schema::kinds::request::{Cause, Effect};

use super::facts::{Facts, Through};
use super::rule::{Holds, ResourcePattern, Rule, Scope, TextPattern};
use super::webhook::{Ruled, Webhook};
use crate::request_info::RequestInfo;

/// What a group of people may do.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) subjects: Subjects,
    /// The service account, by its user name, that its people act as towards the cluster.
    pub(super) act_as: Option<Arc<str>>,
    pub(super) rules: Vec<Rule>,
    /// Numbers of rules, ascending, by resource and by namespace, both as written: a prefix ends in its star.
    by_resource: HashMap<String, HashMap<String, Vec<u32>>>,
    /// Lengths that prefixes of namespaces have, ascending, each once; 0 for `*`.
    prefix_lengths: Vec<usize>,
    /// Numbers of the rules over bare paths, ascending.
    by_path: Vec<u32>,
}

/// Who has a profile.
#[derive(Debug, Clone, Default)]
pub(super) struct Subjects {
    /// User names; service accounts by theirs.
    pub(super) users: Vec<TextPattern>,
    pub(super) groups: Vec<TextPattern>,
    /// Who has to act for them. Nobody may when there is none.
    pub(super) actors: Vec<TextPattern>,
    /// What has to be the client that they come by. Any may when there is none.
    pub(super) clients: Vec<TextPattern>,
}

/// What the rules of a profile say of a request.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// This rule decides; with why, when that is not in its words.
    Rule(&'a Rule, Option<String>),
    /// The webhook of this rule refuses, or fails.
    Refused(&'a Rule, Cause, String),
    /// A rule that could decide asks for the body.
    NeedsBody,
    /// Or for this webhook's answer.
    NeedsWebhook(&'a Arc<Webhook>),
    /// None of them.
    Nothing,
}

impl Subjects {
    /// Whether nobody is named, so that it is for everybody who comes in the right way.
    pub(super) fn is_for_everybody(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Whether people who come this way have the profile. What a person may do is not what somebody may do for them:
    /// that takes a profile that says so.
    pub(super) fn admit(&self, through: Through<'_>) -> bool {
        let named = |patterns: &[TextPattern], name: Option<&str>| {
            name.is_some_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
        };
        let by_actor = match through.actor {
            None => self.actors.is_empty(),
            actor => named(&self.actors, actor),
        };
        by_actor && (self.clients.is_empty() || named(&self.clients, through.client))
    }
}

impl Profile {
    /// Indexes the rules.
    pub(super) fn new(
        name: String,
        subjects: Subjects,
        act_as: Option<Arc<str>>,
        rules: Vec<Rule>,
    ) -> Self {
        let mut by_resource: HashMap<String, HashMap<String, Vec<u32>>> = HashMap::new();
        let (mut by_path, mut prefix_lengths) = (Vec::new(), Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            match &rule.scope {
                Scope::Paths(_) => by_path.push(number),
                Scope::Impersonation(_) => {}
                Scope::Resources {
                    resources,
                    namespaces,
                    ..
                } => {
                    for resource in resources {
                        let by_namespace = by_resource.entry(resource.text()).or_default();
                        for namespace in namespaces {
                            match namespace {
                                TextPattern::Exact(_) => {}
                                TextPattern::Any => prefix_lengths.push(0),
                                TextPattern::Prefix(prefix) => prefix_lengths.push(prefix.len()),
                            }
                            let numbers = by_namespace.entry(namespace.text()).or_default();
                            if numbers.last() != Some(&number) {
                                numbers.push(number);
                            }
                        }
                    }
                }
            }
        }
        prefix_lengths.sort_unstable();
        prefix_lengths.dedup();
        Self {
            name,
            subjects,
            act_as,
            rules,
            by_resource,
            prefix_lengths,
            by_path,
        }
    }

    /// The first rule that decides. `verb` is the request's, or the one of exec. Allowing rules that do not for doubt
    /// are noted in `doubts`.
    pub(super) fn first_match<'a>(
        &'a self,
        facts: &Facts<'_>,
        verb: &str,
        doubts: &mut Vec<(&'a Rule, String)>,
    ) -> Found<'a> {
        let mut lists = self.candidates(facts.info);
        loop {
            let next = lists.iter().filter_map(|list| list.first().copied()).min();
            let Some(next) = next else {
                return Found::Nothing;
            };
            let rule = &self.rules[next as usize];
            if rule.matches(facts.info, verb) {
                match judge(rule, rule.holds(facts), facts) {
                    Judged::Decides(why) => return Found::Rule(rule, why),
                    Judged::Refuses(cause, why) => return Found::Refused(rule, cause, why),
                    Judged::NeedsBody => return Found::NeedsBody,
                    Judged::NeedsWebhook(webhook) => return Found::NeedsWebhook(webhook),
                    Judged::Passes(Some(why)) => doubts.push((rule, why)),
                    Judged::Passes(None) => {}
                }
            }
            for list in &mut lists {
                if list.first() == Some(&next) {
                    *list = &list[1..];
                }
            }
        }
    }

    /// The rules that can match, as a few ascending lists.
    fn candidates(&self, info: &RequestInfo) -> Vec<&[u32]> {
        if !info.is_resource {
            return vec![&self.by_path];
        }
        let (resource, sub) = (info.resource(), info.subresource());
        let mut patterns = vec![ResourcePattern::Any];
        if sub.is_empty() {
            patterns.push(ResourcePattern::Exact(resource.to_owned()));
        } else {
            patterns.push(ResourcePattern::Exact(format!("{resource}/{sub}")));
            patterns.push(ResourcePattern::Subresources(resource.to_owned()));
            patterns.push(ResourcePattern::Everywhere(sub.to_owned()));
        }
        // A star is no part of a namespace, so a name and a prefix never meet.
        let namespace = info.namespace();
        let prefixes = self
            .prefix_lengths
            .iter()
            .filter_map(|length| Some(format!("{}*", namespace.get(..*length)?)));
        let keys: Vec<String> = prefixes.chain([namespace.to_owned()]).collect();
        patterns
            .iter()
            .filter_map(|pattern| self.by_resource.get(&pattern.text()))
            .flat_map(|by_namespace| keys.iter().filter_map(|key| by_namespace.get(key)))
            .map(Vec::as_slice)
            .collect()
    }
}

/// What a rule whose words match does, given its conditions and its webhook's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged<'a> {
    /// It decides; with why, when that is not in its words.
    Decides(Option<String>),
    /// The request is refused, whatever the rule's effect.
    Refuses(Cause, String),
    /// The next rule is tried; with why, when that is not for a condition that is plainly false.
    Passes(Option<String>),
    NeedsBody,
    NeedsWebhook(&'a Arc<Webhook>),
}

/// Conditions come first: the webhook is asked when they hold, and when the rule counts for doubt.
pub(super) fn judge<'a>(rule: &'a Rule, holds: Holds, facts: &Facts<'_>) -> Judged<'a> {
    let judged = by_conditions(rule, holds);
    let (Judged::Decides(doubt), Some(webhook)) = (&judged, &rule.webhook) else {
        return judged;
    };
    let with_doubt = |why: String| match doubt {
        Some(doubt) => format!("{doubt}, and {why}"),
        None => why,
    };
    match webhook.ruled(rule.effect, facts.known(webhook)) {
        Ruled::Decides(why) => Judged::Decides(Some(with_doubt(why))),
        Ruled::Refuses(cause, why) => Judged::Refuses(cause, with_doubt(why)),
        Ruled::Passes(why) => Judged::Passes(Some(why)),
        Ruled::Unasked => Judged::NeedsWebhook(webhook),
    }
}

/// In doubt the answer is no: a rule that denies or holds matches, one that allows does not. About a question without
/// a body, what it would say is left open: the rest of the rule counts if it allows.
fn by_conditions(rule: &Rule, holds: Holds) -> Judged<'_> {
    let allows = rule.effect == Effect::Allow;
    match holds {
        Holds::Yes => Judged::Decides(None),
        Holds::No(_) => Judged::Passes(None),
        Holds::NeedsBody => Judged::NeedsBody,
        Holds::Open if allows => {
            Judged::Decides(Some("it depends on the body of the request".to_owned()))
        }
        Holds::Open => Judged::Passes(None),
        Holds::Doubt(why) if allows => Judged::Passes(Some(why)),
        Holds::Doubt(why) => Judged::Decides(Some(why)),
    }
}
