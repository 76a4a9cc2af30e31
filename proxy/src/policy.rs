//! Policy: who may do what, in RBAC's words.
//!
//! A policy is a YAML file of profiles. A profile has subjects and rules; rules are tried in file order, over all
//! profiles that the caller belongs to. The first that matches decides, and where none matches the answer is no.
//! Before all of them stands one built-in rule: discovery, health, version and questions about oneself are answered
//! for every authenticated user, since no client works without.
//!
//! Pure: no I/O, no clock. Not here: reading and reloading the file.

mod document;
mod profile;
mod rule;
mod yaml;

use std::collections::HashMap;

use hoop_schema::Class;
use hoop_schema::kinds::request::{Cause, Decision, Durability, Effect, Level, User};
use sha2::{Digest, Sha256};

use self::profile::Profile;
use self::rule::{EXEC, Rule};
use crate::mask::MaskMode;
use crate::request_info::RequestInfo;

/// The group that every authenticated user is in, as in the API server, whether the authenticator says so or not.
const AUTHENTICATED: &str = "system:authenticated";

/// Policies with more rules than this are not searched for unreachable ones, since the search is quadratic.
const LINTED_RULES_MAX: usize = 2_000;

/// Name that decisions give for the profile and the rule that every policy begins with.
pub const BUILT_IN: &str = "built-in";

/// A policy that was read and checked.
#[derive(Debug)]
pub struct Policy {
    revision: String,
    profiles: Vec<Profile>,
    /// Numbers of profiles by user name.
    by_user: HashMap<String, Vec<usize>>,
    /// Numbers of profiles by group.
    by_group: HashMap<String, Vec<usize>>,
}

/// What happens to a request, and how it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Allow, deny or hold, and why; goes into the event as it is.
    pub decision: Decision,
    /// How secret values in the response are shown to the client. The record uses [`MaskMode::for_record`].
    pub mask: MaskMode,
    /// How much is recorded.
    pub level: Level,
    /// How durable the intent must be before the request leaves.
    pub durability: Durability,
    /// Retention class of the events.
    pub class: Class,
    /// Retention class of the bodies, when it is another.
    pub body_class: Option<Class>,
}

/// Everything that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyErrors(pub Vec<PolicyError>);

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PolicyError {
    /// Line, counted from 1; 0 where it is not known.
    pub line: u64,
    /// What was found, and what was meant.
    pub message: String,
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let profiles = document::read(text)?;
        let (mut by_user, mut by_group) = (HashMap::new(), HashMap::new());
        for (number, profile) in profiles.iter().enumerate() {
            let note = |map: &mut HashMap<String, Vec<usize>>, names: &[String]| {
                for name in names {
                    map.entry(name.clone()).or_default().push(number);
                }
            };
            note(&mut by_user, &profile.subjects.users);
            note(&mut by_group, &profile.subjects.groups);
        }
        let digest = Sha256::digest(text.as_bytes());
        Ok(Self {
            revision: digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            profiles,
            by_user,
            by_group,
        })
    }

    /// Names this policy: the first 16 hexadecimal digits of the SHA-256 of the file's bytes.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Number of profiles.
    pub fn profiles(&self) -> usize {
        self.profiles.len()
    }

    /// Number of rules in all profiles, without the built-in one.
    pub fn rules(&self) -> usize {
        self.profiles
            .iter()
            .map(|profile| profile.rules.len())
            .sum()
    }

    /// Every retention class that a rule names, each once: they must exist before the policy is used.
    pub fn classes(&self) -> Vec<Class> {
        let rules = self
            .profiles
            .iter()
            .flat_map(|profile| profile.rules.iter());
        let mut classes: Vec<Class> = rules
            .flat_map(|rule| std::iter::once(&rule.class).chain(&rule.body_class))
            .chain(std::iter::once(&Class::standard()))
            .cloned()
            .collect();
        classes.sort();
        classes.dedup();
        classes
    }

    /// What is allowed but surely not meant: rules that an earlier rule of their profile keeps from ever matching.
    pub fn lints(&self) -> Vec<PolicyError> {
        if self.rules() > LINTED_RULES_MAX {
            return Vec::new();
        }
        let mut lints = Vec::new();
        for profile in &self.profiles {
            for (number, rule) in profile.rules.iter().enumerate() {
                let earlier = profile.rules[..number]
                    .iter()
                    .find(|other| other.covers(rule));
                if let Some(other) = earlier {
                    let message = format!(
                        "rule \"{}\" of profile \"{}\" never decides: \"{}\" in line {} matches all of it first",
                        rule.name, profile.name, other.name, other.line
                    );
                    lints.push(PolicyError {
                        line: rule.line,
                        message,
                    });
                }
            }
        }
        lints
    }

    /// Decides about a request of an authenticated user.
    pub fn decide(&self, user: &User, info: &RequestInfo) -> Verdict {
        let is_cheap = info.is_discovery() || info.is_health();
        if is_cheap || info.is_self_review() {
            let decision = self.decision(Effect::Allow, Cause::Rule, Some((BUILT_IN, BUILT_IN)));
            let durability = if is_cheap {
                Durability::BestEffort
            } else {
                Durability::Log
            };
            return Verdict {
                level: Level::Metadata,
                durability,
                ..Verdict::plain(decision)
            };
        }
        // To policy, exec, attach and port-forward are one action, whatever the HTTP method.
        let verb = if info.is_exec_like() {
            EXEC
        } else {
            &info.verb
        };
        let found = self.profiles_of(user).into_iter().find_map(|profile| {
            let rule = profile.first_match(info, verb)?;
            Some((profile, rule))
        });
        match found {
            Some((profile, rule)) => self.by_rule(user, info, profile, rule),
            None => {
                let mut decision = self.decision(Effect::Deny, Cause::NoMatch, None);
                decision.message = format!(
                    "{}: no rule of the gateway's policy allows it",
                    forbidden(user, info)
                );
                Verdict::plain(decision)
            }
        }
    }

    fn by_rule(&self, user: &User, info: &RequestInfo, profile: &Profile, rule: &Rule) -> Verdict {
        let cause = Some((profile.name.as_str(), rule.name.as_str()));
        let mut decision = self.decision(rule.effect, Cause::Rule, cause);
        let by = match rule.effect {
            Effect::Allow => None,
            Effect::Deny => Some("refused"),
            Effect::Hold => Some("held for an approval"),
        };
        decision.message = match by {
            None => rule.message.clone(),
            Some(by) => {
                let separator = if rule.message.is_empty() { "" } else { ": " };
                format!(
                    "{}: {by} by rule \"{}\" of profile \"{}\"{separator}{}",
                    forbidden(user, info),
                    rule.name,
                    profile.name,
                    rule.message
                )
            }
        };
        Verdict {
            decision,
            mask: rule.mask,
            level: rule.level,
            durability: rule.durability,
            class: rule.class.clone(),
            body_class: rule.body_class.clone(),
        }
    }

    /// The profiles of a user, in file order.
    fn profiles_of(&self, user: &User) -> Vec<&Profile> {
        let by_group = user
            .groups
            .iter()
            .map(String::as_str)
            .chain([AUTHENTICATED]);
        let mut numbers: Vec<usize> = by_group
            .filter_map(|group| self.by_group.get(group))
            .chain(self.by_user.get(&user.username))
            .flatten()
            .copied()
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .into_iter()
            .map(|number| &self.profiles[number])
            .collect()
    }

    fn decision(&self, effect: Effect, cause: Cause, by: Option<(&str, &str)>) -> Decision {
        Decision {
            effect,
            cause,
            profile: by.map(|(profile, _)| profile.to_owned()),
            rule: by.map(|(_, rule)| rule.to_owned()),
            message: String::new(),
            policy_revision: self.revision.clone(),
        }
    }
}

impl Verdict {
    /// A decision with the defaults of everything else.
    fn plain(decision: Decision) -> Self {
        Self {
            decision,
            mask: MaskMode::default(),
            level: Level::default(),
            durability: Durability::default(),
            class: Class::standard(),
            body_class: None,
        }
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

#[cfg(test)]
mod tests;
