//! One rule, and what it matches.

use std::sync::Arc;

use hoop_schema::Class;
use hoop_schema::kinds::request::{Durability, Effect, Level};

use super::condition::{Condition, Truth};
use super::facts::Facts;
use super::impersonation::Targets;
use super::lint::LintCode;
use super::webhook::Webhook;
use crate::mask::{MaskMode, Masking};
use crate::request_info::RequestInfo;

/// The verb that stands for exec, attach and port-forward, whatever the HTTP method.
pub(super) const EXEC: &str = "exec";

/// Subresources of pods that have the verb [`EXEC`].
pub(super) const EXEC_SUBRESOURCES: [&str; 3] = ["exec", "attach", "portforward"];

/// One rule of a profile.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) line: u64,
    pub(super) effect: Effect,
    pub(super) verbs: Vec<String>,
    pub(super) scope: Scope,
    /// All of them must hold.
    pub(super) when: Vec<Condition>,
    /// Asked when they do.
    pub(super) webhook: Option<Arc<Webhook>>,
    pub(super) mask: MaskMode,
    pub(super) record_mask: MaskMode,
    /// Masking rules that hold as well.
    pub(super) masking: Option<Arc<Masking>>,
    pub(super) level: Level,
    pub(super) durability: Durability,
    pub(super) class: Class,
    pub(super) body_class: Option<Class>,
    /// Lints that are meant.
    pub(super) accepts: Vec<LintCode>,
    pub(super) message: String,
}

/// What a rule is about.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    Resources {
        groups: Vec<String>,
        resources: Vec<ResourcePattern>,
        namespaces: Vec<TextPattern>,
        /// Empty for every name.
        names: Vec<TextPattern>,
    },
    Paths(Vec<TextPattern>),
    /// Acting as somebody else; matches no request by itself.
    Impersonation(Targets),
}

/// What the conditions of a rule say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    /// The number of the first that does not, from 1.
    No(usize),
    NeedsBody,
    /// As far as they can be told without a body.
    Open,
    /// In words: which, and why.
    Doubt(String),
}

/// A text, or the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextPattern {
    /// `*`: everything, the empty text included.
    Any,
    /// `team-*`.
    Prefix(String),
    /// As it stands.
    Exact(String),
}

/// Which resources and subresources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResourcePattern {
    /// `*`: every resource and subresource.
    Any,
    /// `pods`, without subresources, or `pods/log`.
    Exact(String),
    /// `pods/*`: every subresource, without the resource itself.
    Subresources(String),
    /// `*/scale`: this subresource of every resource.
    Everywhere(String),
}

impl Rule {
    /// Whether its words match a request. `verb` is the request's, or [`EXEC`].
    pub(super) fn matches(&self, info: &RequestInfo, verb: &str) -> bool {
        self.mismatch(info, verb).is_none()
    }

    /// What keeps its words from matching a request.
    pub(super) fn mismatch(&self, info: &RequestInfo, verb: &str) -> Option<&'static str> {
        let verb_matches = self.verbs.iter().any(|own| own == verb || own == "*");
        match &self.scope {
            Scope::Resources {
                groups,
                resources,
                namespaces,
                names,
            } => {
                let matches_any =
                    |patterns: &[TextPattern], text| patterns.iter().any(|p| p.matches(text));
                if !info.is_resource {
                    Some("it is about resources, the request is not")
                } else if !verb_matches {
                    Some("another verb")
                } else if !groups.iter().any(|g| g == "*" || g == info.api_group()) {
                    Some("another API group")
                } else if !resources.iter().any(|pattern| pattern.matches(info)) {
                    Some("another resource")
                } else if !matches_any(namespaces, info.namespace()) {
                    Some("another namespace")
                } else if !names.is_empty() && !matches_any(names, info.name()) {
                    Some("another name")
                } else {
                    None
                }
            }
            Scope::Paths(paths) => {
                if info.is_resource {
                    Some("it is about paths, the request is about a resource")
                } else if !verb_matches {
                    Some("another verb")
                } else if !paths.iter().any(|pattern| pattern.matches(&info.path)) {
                    Some("another path")
                } else {
                    None
                }
            }
            Scope::Impersonation(_) => Some("it is about acting as somebody else"),
        }
    }

    /// What its conditions say; those that are plainly false count before those in doubt.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> Holds {
        let mut all = Holds::Yes;
        for (i, condition) in self.when.iter().enumerate() {
            match condition.truth(facts) {
                Truth::Holds => {}
                Truth::Fails => return Holds::No(i + 1),
                Truth::NeedsBody => all = Holds::NeedsBody,
                Truth::Open if all == Holds::Yes => all = Holds::Open,
                Truth::Doubt(why) if !matches!(all, Holds::NeedsBody | Holds::Doubt(_)) => {
                    all = Holds::Doubt(format!("condition {} cannot be told: {why}", i + 1));
                }
                Truth::Open | Truth::Doubt(_) => {}
            }
        }
        all
    }

    /// Whether its words are all that counts.
    pub(super) fn is_plain(&self) -> bool {
        self.when.is_empty() && self.webhook.is_none()
    }

    /// How many pairs of resource and namespace the index holds for it.
    pub(super) fn pairs(&self) -> usize {
        match &self.scope {
            Scope::Resources {
                resources,
                namespaces,
                ..
            } => resources.len() * namespaces.len(),
            Scope::Paths(_) | Scope::Impersonation(_) => 1,
        }
    }

    /// Whether every request that `other` decides is decided by this one too, as far as can be seen from the words.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if !self.is_plain() {
            return false;
        }
        let verbs =
            self.verbs.iter().any(|verb| verb == "*") || is_subset(&other.verbs, &self.verbs);
        match (&self.scope, &other.scope) {
            (
                Scope::Resources {
                    groups,
                    resources,
                    namespaces,
                    names,
                },
                Scope::Resources {
                    groups: other_groups,
                    resources: other_resources,
                    namespaces: other_namespaces,
                    names: other_names,
                },
            ) => {
                verbs
                    && (groups.iter().any(|group| group == "*") || is_subset(other_groups, groups))
                    && other_resources
                        .iter()
                        .all(|other| resources.iter().any(|own| own.covers(other)))
                    && all_covered(namespaces, other_namespaces)
                    && (names.is_empty()
                        || (!other_names.is_empty() && all_covered(names, other_names)))
            }
            (Scope::Paths(paths), Scope::Paths(other_paths)) => {
                verbs && all_covered(paths, other_paths)
            }
            _ => false,
        }
    }
}

impl TextPattern {
    /// Reads a pattern; nothing when a star stands elsewhere than at the end.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some("") => Some(Self::Any),
            Some(prefix) if !prefix.contains('*') => Some(Self::Prefix(prefix.to_owned())),
            None if !text.contains('*') => Some(Self::Exact(text.to_owned())),
            _ => None,
        }
    }

    /// As written.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Prefix(prefix) => format!("{prefix}*"),
            Self::Exact(exact) => exact.clone(),
        }
    }

    /// Whether it matches a text.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Exact(exact) => text == exact,
        }
    }

    /// Whether it matches every text that `other` matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Any => *self == Self::Any,
            Self::Prefix(prefix) => match self {
                Self::Any => true,
                Self::Prefix(own) => prefix.starts_with(own.as_str()),
                Self::Exact(_) => false,
            },
            Self::Exact(exact) => self.matches(exact),
        }
    }
}

impl ResourcePattern {
    /// Reads a pattern; nothing when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.' | b'_')
                })
        };
        match text.split_once('/') {
            None if text == "*" => Some(Self::Any),
            None if is_word(text) => Some(Self::Exact(text.to_owned())),
            Some((resource, "*")) if is_word(resource) => {
                Some(Self::Subresources(resource.to_owned()))
            }
            Some(("*", sub)) if is_word(sub) => Some(Self::Everywhere(sub.to_owned())),
            Some((resource, sub)) if is_word(resource) && is_word(sub) => {
                Some(Self::Exact(text.to_owned()))
            }
            _ => None,
        }
    }

    /// The subresource it names, if it names one.
    pub(super) fn subresource(&self) -> Option<&str> {
        match self {
            Self::Exact(exact) => exact.split_once('/').map(|(_, sub)| sub),
            Self::Everywhere(sub) => Some(sub),
            Self::Any | Self::Subresources(_) => None,
        }
    }

    /// Whether every resource that `other` names is named by this one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Subresources(resource), Self::Exact(exact)) => exact
                .split_once('/')
                .is_some_and(|(other, _)| other == resource),
            (Self::Everywhere(sub), Self::Exact(exact)) => {
                exact.split_once('/').is_some_and(|(_, other)| other == sub)
            }
            _ => self == other,
        }
    }

    /// As written, and as the index has it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Exact(exact) => exact.clone(),
            Self::Subresources(resource) => format!("{resource}/*"),
            Self::Everywhere(sub) => format!("*/{sub}"),
        }
    }

    /// Whether it matches the resource of a request.
    pub(super) fn matches(&self, info: &RequestInfo) -> bool {
        match self {
            Self::Any => true,
            Self::Subresources(resource) => {
                resource == info.resource() && !info.subresource().is_empty()
            }
            Self::Everywhere(sub) => sub == info.subresource(),
            Self::Exact(exact) => match exact.split_once('/') {
                None => exact == info.resource() && info.subresource().is_empty(),
                Some((resource, sub)) => resource == info.resource() && sub == info.subresource(),
            },
        }
    }
}

fn all_covered(patterns: &[TextPattern], others: &[TextPattern]) -> bool {
    others
        .iter()
        .all(|other| patterns.iter().any(|own| own.covers(other)))
}

fn is_subset<T: PartialEq>(small: &[T], large: &[T]) -> bool {
    small.iter().all(|item| large.contains(item))
}
