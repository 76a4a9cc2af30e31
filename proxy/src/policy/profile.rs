//! A profile with an index of its rules, so that a decision looks at those that can match and not at all of them.

use std::collections::HashMap;
use std::sync::Arc;

use hoop_schema::kinds::request::Effect;

use super::facts::Facts;
use super::rule::{Holds, ResourcePattern, Rule, Scope, TextPattern};
use crate::request_info::RequestInfo;

/// In the index: namespaces that are matched by a pattern.
const PATTERNS: &str = "*";

/// What a group of people may do.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) subjects: Subjects,
    /// The service account, by its user name, that its people act as towards the cluster.
    pub(super) act_as: Option<Arc<str>>,
    pub(super) rules: Vec<Rule>,
    /// Numbers of rules, ascending, by resource as written and by namespace, or [`PATTERNS`].
    by_resource: HashMap<String, HashMap<String, Vec<u32>>>,
    /// Numbers of the rules over bare paths, ascending.
    by_path: Vec<u32>,
}

/// Who has a profile.
#[derive(Debug, Clone, Default)]
pub(super) struct Subjects {
    /// User names; service accounts by theirs.
    pub(super) users: Vec<TextPattern>,
    pub(super) groups: Vec<TextPattern>,
}

/// What the rules of a profile say of a request.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// This rule decides; with why, when it does so because its conditions are in doubt.
    Rule(&'a Rule, Option<String>),
    /// A rule that could decide asks for the body.
    NeedsBody,
    /// None of them.
    Nothing,
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
        let mut by_path = Vec::new();
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
                            let key = match namespace {
                                TextPattern::Exact(exact) => exact,
                                TextPattern::Any | TextPattern::Prefix(_) => PATTERNS,
                            };
                            let numbers = by_namespace.entry(key.to_owned()).or_default();
                            if numbers.last() != Some(&number) {
                                numbers.push(number);
                            }
                        }
                    }
                }
            }
        }
        Self {
            name,
            subjects,
            act_as,
            rules,
            by_resource,
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
                match judge(rule, rule.holds(facts)) {
                    Judged::Decides(why) => return Found::Rule(rule, why),
                    Judged::NeedsBody => return Found::NeedsBody,
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
        patterns
            .iter()
            .filter_map(|pattern| self.by_resource.get(&pattern.text()))
            .flat_map(|by_namespace| {
                // A namespace called "*" is none, so the two never meet.
                [info.namespace(), PATTERNS].map(|key| by_namespace.get(key))
            })
            .flatten()
            .map(Vec::as_slice)
            .collect()
    }
}

/// What a rule whose words match does, given its conditions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It decides; with why, when that is for doubt.
    Decides(Option<String>),
    /// The next rule is tried; with why, when that is for doubt.
    Passes(Option<String>),
    NeedsBody,
}

/// In doubt the answer is no: a rule that denies or holds matches, one that allows does not. About a question without
/// a body, what it would say is left open: the rest of the rule counts if it allows.
pub(super) fn judge(rule: &Rule, holds: Holds) -> Judged {
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
