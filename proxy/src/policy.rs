//! Policy: who may do what, in RBAC's words.
//!
//! A policy is a YAML file of profiles. A profile has subjects and rules; rules are tried in file order, over all
//! profiles that the caller belongs to. The first that matches decides, and where none matches the answer is no.
//! Before all of them stands one built-in rule: discovery, health, version and questions about oneself are answered
//! for every authenticated user, since no client works without.
//!
//! Pure: no I/O, no clock. Not here: reading and reloading the file.

mod document;

use hoop_schema::Class;
use hoop_schema::kinds::request::{Cause, Decision, Durability, Effect, Level, User};
use sha2::{Digest, Sha256};

use crate::mask::MaskMode;
use crate::request_info::RequestInfo;

/// Name that decisions give for the profile and the rule that every policy begins with.
pub const BUILT_IN: &str = "built-in";

/// A policy that was read and checked.
#[derive(Debug)]
pub struct Policy {
    revision: String,
    profiles: Vec<document::Profile>,
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
        let document: document::Document = serde_saphyr::from_str(text).map_err(|error| {
            PolicyErrors(vec![PolicyError {
                line: error.location().map_or(0, |location| location.line()),
                message: error.to_string(),
            }])
        })?;
        let digest = Sha256::digest(text.as_bytes());
        Ok(Self {
            revision: digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            profiles: document.profiles,
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

    /// Decides about a request of an authenticated user.
    pub fn decide(&self, subject: &User, info: &RequestInfo) -> Verdict {
        if info.is_discovery() || info.is_health() || info.is_self_review() {
            let mut verdict = self.verdict(Effect::Allow, Cause::Rule);
            verdict.decision.profile = Some(BUILT_IN.to_owned());
            verdict.decision.rule = Some(BUILT_IN.to_owned());
            verdict.level = Level::Metadata;
            if !info.is_self_review() {
                verdict.durability = Durability::BestEffort;
            }
            return verdict;
        }
        for profile in self.profiles.iter().filter(|profile| profile.has(subject)) {
            if let Some(rule) = profile.rules.iter().find(|rule| rule.matches(info)) {
                let mut verdict = self.verdict(rule.effect.into(), Cause::Rule);
                verdict.decision.profile = Some(profile.name.clone());
                verdict.decision.rule = rule.name.clone();
                return verdict;
            }
        }
        self.verdict(Effect::Deny, Cause::NoMatch)
    }

    fn verdict(&self, effect: Effect, cause: Cause) -> Verdict {
        Verdict {
            decision: Decision {
                effect,
                cause,
                profile: None,
                rule: None,
                message: String::new(),
                policy_revision: self.revision.clone(),
            },
            mask: MaskMode::default(),
            level: Level::default(),
            durability: Durability::default(),
            class: Class::standard(),
            body_class: None,
        }
    }
}
