//! The YAML of a policy.

use hoop_schema::kinds::request::{Effect, User};
use serde::Deserialize;

use crate::request_info::RequestInfo;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) profiles: Vec<Profile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) subjects: Subjects,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct Subjects {
    pub(super) users: Vec<String>,
    pub(super) groups: Vec<String>,
}

#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum RuleEffect {
    Allow,
    Deny,
    Approve,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) resources: Vec<String>,
    pub(super) verbs: Vec<String>,
    pub(super) effect: RuleEffect,
}

impl From<RuleEffect> for Effect {
    fn from(effect: RuleEffect) -> Self {
        match effect {
            RuleEffect::Allow => Self::Allow,
            RuleEffect::Deny => Self::Deny,
            RuleEffect::Approve => Self::Hold,
        }
    }
}

impl Profile {
    pub(super) fn has(&self, user: &User) -> bool {
        self.subjects.users.contains(&user.username)
            || self
                .subjects
                .groups
                .iter()
                .any(|group| user.groups.contains(group))
    }
}

impl Rule {
    pub(super) fn matches(&self, info: &RequestInfo) -> bool {
        let has =
            |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
        info.is_resource && has(&self.verbs, &info.verb) && has(&self.resources, info.resource())
    }
}
