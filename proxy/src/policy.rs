//! Policy: who may do what, in RBAC's words.
//!
//! A policy is a YAML file of profiles. A profile has subjects and rules; rules are tried in file order, over all
//! profiles that the caller belongs to. The first that matches decides, and where none matches the answer is no.
//! A rule may have conditions in CEL; those about the body are evaluated when the body has come.
//! Before all of them stands one built-in rule: discovery, health, version and questions about oneself are answered
//! for every authenticated user, since no client works without.
//! A rule may ask a webhook once its conditions hold. Then [`Policy::decide`] says which, and is asked again with the
//! answer.
//!
//! Pure: no I/O, no clock. Not here: reading and reloading the file, and the headers by which people ask to act as
//! somebody else.

pub mod cases;
mod condition;
mod decide;
mod document;
mod explain;
mod facts;
mod impersonation;
mod lint;
mod profile;
mod rbac;
mod review;
mod rights;
mod rule;
mod webhook;

use std::collections::HashMap;
use std::sync::Arc;

use hoop_schema::Class;
use hoop_schema::kinds::request::{Decision, Durability, Level, User};
use sha2::{Digest, Sha256};

pub use self::decide::Step;
pub use self::explain::{Explanation, Tried};
pub use self::facts::{BodyFact, Facts, Through};
pub use self::lint::{Lint, LintCode};
use self::profile::Profile;
pub use self::rbac::GatewayRights;
pub(crate) use self::review::{ReviewedRules, hypothetical};
pub use self::rights::{NeededRights, Right};
use self::rule::TextPattern;
pub use self::webhook::{Answer, FailurePolicy, Webhook};
use crate::mask::{MaskMode, Masking, MaskingRule};
use crate::yaml::{Mistake, Mistakes};

/// The group that every authenticated user is in, as in the API server, whether the authenticator says so or not.
const AUTHENTICATED: &str = "system:authenticated";

/// Name that decisions give for the profile and the rule that every policy begins with.
pub const BUILT_IN: &str = "built-in";

/// A policy that was read and checked.
#[derive(Debug)]
pub struct Policy {
    revision: String,
    profiles: Vec<Profile>,
    /// The masking rules, each with its line.
    masking: Vec<(Arc<MaskingRule>, u64)>,
    webhooks: Vec<Arc<Webhook>>,
    /// Numbers of profiles by user name.
    by_user: HashMap<String, Vec<usize>>,
    /// Numbers of profiles by group.
    by_group: HashMap<String, Vec<usize>>,
    /// Profiles whose subjects are patterns: of users, of groups.
    by_pattern: Vec<(usize, SubjectPattern)>,
}

/// A subject that stands for several names.
#[derive(Debug)]
enum SubjectPattern {
    User(TextPattern),
    Group(TextPattern),
}

/// What happens to a request, and how it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Allow, deny or hold, and why; goes into the event as it is.
    pub decision: Decision,
    /// How secret values in the response are shown to the client.
    pub mask: MaskMode,
    /// How the record shows them: never weaker, and never [`MaskMode::None`].
    pub record_mask: MaskMode,
    /// What is masked besides.
    pub masking: Option<Arc<Masking>>,
    /// How much is recorded.
    pub level: Level,
    /// How durable the intent must be before the request leaves.
    pub durability: Durability,
    /// Retention class of the events.
    pub class: Class,
    /// Retention class of the bodies, when it is another.
    pub body_class: Option<Class>,
    /// The service account, by its user name, that the request goes upstream as, where the profile pins its people to
    /// one.
    pub act_as: Option<Arc<str>>,
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

impl From<Mistakes> for PolicyErrors {
    fn from(mistakes: Mistakes) -> Self {
        let error = |Mistake { line, message }| PolicyError { line, message };
        Self(mistakes.into_sorted().into_iter().map(error).collect())
    }
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let document::Document {
            profiles,
            masking,
            webhooks,
        } = document::read(text)?;
        let (mut by_user, mut by_group) = (HashMap::new(), HashMap::new());
        let mut by_pattern = Vec::new();
        for (number, profile) in profiles.iter().enumerate() {
            let mut note =
                |map: &mut HashMap<String, Vec<usize>>,
                 patterns: &[TextPattern],
                 as_subject: fn(TextPattern) -> SubjectPattern| {
                    for pattern in patterns {
                        match pattern {
                            TextPattern::Exact(name) => {
                                map.entry(name.clone()).or_default().push(number);
                            }
                            pattern => by_pattern.push((number, as_subject(pattern.clone()))),
                        }
                    }
                };
            note(&mut by_user, &profile.subjects.users, SubjectPattern::User);
            note(
                &mut by_group,
                &profile.subjects.groups,
                SubjectPattern::Group,
            );
            if profile.subjects.is_for_everybody() {
                let everybody = by_group.entry(AUTHENTICATED.to_owned());
                everybody.or_default().push(number);
            }
        }
        let digest = Sha256::digest(text.as_bytes());
        Ok(Self {
            revision: digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            profiles,
            masking,
            webhooks,
            by_user,
            by_group,
            by_pattern,
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

    /// The profiles of a user who comes this way, in file order.
    fn profiles_of(&self, user: &User, through: Through<'_>) -> Vec<&Profile> {
        let groups = || {
            let own = user.groups.iter().map(String::as_str);
            own.chain([AUTHENTICATED])
        };
        let by_pattern = self.by_pattern.iter().filter(|(_, pattern)| match pattern {
            SubjectPattern::User(pattern) => pattern.matches(&user.username),
            SubjectPattern::Group(pattern) => groups().any(|group| pattern.matches(group)),
        });
        let mut numbers: Vec<usize> = groups()
            .filter_map(|group| self.by_group.get(group))
            .chain(self.by_user.get(&user.username))
            .flatten()
            .copied()
            .chain(by_pattern.map(|(number, _)| *number))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .into_iter()
            .map(|number| &self.profiles[number])
            .filter(|profile| profile.subjects.admit(through))
            .collect()
    }
}

impl Verdict {
    /// A decision with the defaults of everything else.
    fn plain(decision: Decision) -> Self {
        Self {
            decision,
            mask: MaskMode::default(),
            record_mask: MaskMode::default(),
            masking: None,
            level: Level::default(),
            durability: Durability::default(),
            class: Class::standard(),
            body_class: None,
            act_as: None,
        }
    }
}

#[cfg(test)]
mod tests;
