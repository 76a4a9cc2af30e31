//! One rule, and what it matches.

use hoop_schema::Class;
use hoop_schema::kinds::request::{Durability, Effect, Level};

use crate::mask::MaskMode;
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
    pub(super) mask: MaskMode,
    pub(super) level: Level,
    pub(super) durability: Durability,
    pub(super) class: Class,
    pub(super) body_class: Option<Class>,
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
        names: Vec<String>,
    },
    Paths(Vec<TextPattern>),
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
    /// Whether it matches a request. `verb` is the request's, or [`EXEC`].
    pub(super) fn matches(&self, info: &RequestInfo, verb: &str) -> bool {
        if !self.verbs.iter().any(|own| own == verb || own == "*") {
            return false;
        }
        match &self.scope {
            Scope::Resources {
                groups,
                resources,
                namespaces,
                names,
            } => {
                info.is_resource
                    && (names.is_empty() || names.iter().any(|name| name == info.name()))
                    && namespaces
                        .iter()
                        .any(|pattern| pattern.matches(info.namespace()))
                    && groups
                        .iter()
                        .any(|group| group == "*" || group == info.api_group())
                    && resources.iter().any(|pattern| pattern.matches(info))
            }
            Scope::Paths(paths) => {
                !info.is_resource && paths.iter().any(|pattern| pattern.matches(&info.path))
            }
        }
    }

    /// How many pairs of resource and namespace the index holds for it.
    pub(super) fn pairs(&self) -> usize {
        match &self.scope {
            Scope::Resources {
                resources,
                namespaces,
                ..
            } => resources.len() * namespaces.len(),
            Scope::Paths(_) => 1,
        }
    }

    /// Whether every request that `other` matches is matched by this one too, as far as can be seen from the words.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let verbs =
            self.verbs.iter().any(|verb| verb == "*") || is_subset(&other.verbs, &self.verbs);
        verbs
            && match (&self.scope, &other.scope) {
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
                    let all =
                        |pattern: &TextPattern| namespaces.iter().any(|own| own.covers(pattern));
                    (groups.iter().any(|group| group == "*") || is_subset(other_groups, groups))
                        && (resources.contains(&ResourcePattern::Any)
                            || is_subset(other_resources, resources))
                        && other_namespaces.iter().all(all)
                        && (names.is_empty()
                            || (!other_names.is_empty() && is_subset(other_names, names)))
                }
                (Scope::Paths(paths), Scope::Paths(other_paths)) => other_paths
                    .iter()
                    .all(|other| paths.iter().any(|own| own.covers(other))),
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

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Exact(exact) => text == exact,
        }
    }

    fn covers(&self, other: &Self) -> bool {
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

    /// As written, and as the index has it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Exact(exact) => exact.clone(),
            Self::Subresources(resource) => format!("{resource}/*"),
            Self::Everywhere(sub) => format!("*/{sub}"),
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
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

fn is_subset<T: PartialEq>(small: &[T], large: &[T]) -> bool {
    small.iter().all(|item| large.contains(item))
}
