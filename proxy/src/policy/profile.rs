//! A profile with an index of its rules, so that a decision looks at those that can match and not at all of them.

use std::collections::HashMap;

use super::rule::{ResourcePattern, Rule, Scope, TextPattern};
use crate::request_info::RequestInfo;

/// In the index: namespaces that are matched by a pattern.
const PATTERNS: &str = "*";

/// What a group of people may do.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) subjects: Subjects,
    pub(super) rules: Vec<Rule>,
    /// Numbers of rules, ascending, by resource as written and by namespace, or [`PATTERNS`].
    by_resource: HashMap<String, HashMap<String, Vec<u32>>>,
    /// Numbers of the rules over bare paths, ascending.
    by_path: Vec<u32>,
}

/// Who has a profile.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    /// User names; service accounts by theirs.
    pub(super) users: Vec<String>,
    pub(super) groups: Vec<String>,
}

impl Profile {
    /// Indexes the rules.
    pub(super) fn new(name: String, subjects: Subjects, rules: Vec<Rule>) -> Self {
        let mut by_resource: HashMap<String, HashMap<String, Vec<u32>>> = HashMap::new();
        let mut by_path = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let Scope::Resources {
                resources,
                namespaces,
                ..
            } = &rule.scope
            else {
                by_path.push(number);
                continue;
            };
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
        Self {
            name,
            subjects,
            rules,
            by_resource,
            by_path,
        }
    }

    /// The first rule that matches. `verb` is the request's, or the one of exec.
    pub(super) fn first_match(&self, info: &RequestInfo, verb: &str) -> Option<&Rule> {
        let mut lists = self.candidates(info);
        loop {
            let next = lists
                .iter()
                .filter_map(|list| list.first().copied())
                .min()?;
            let rule = &self.rules[usize::try_from(next).ok()?];
            if rule.matches(info, verb) {
                return Some(rule);
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
