//! Acting as somebody else: whom a rule of kind `impersonate` names, and what is never asserted.

use hoop_schema::kinds::request::User;

use super::rule::TextPattern;

/// How the names of service accounts begin.
pub(super) const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whom a rule is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) users: Vec<TextPattern>,
    pub(super) groups: Vec<TextPattern>,
    pub(super) uids: Vec<TextPattern>,
    /// Key, and a pattern for its values.
    pub(super) extra: Vec<(String, TextPattern)>,
    /// Service accounts, by their user names.
    pub(super) service_accounts: Vec<TextPattern>,
}

impl Targets {
    /// The first part of `asked` that is not among them, in words.
    pub(super) fn missing(&self, asked: &User) -> Option<String> {
        if !self.names_user(&asked.username) {
            return Some(format!("user {:?}", asked.username));
        }
        if let Some(group) = asked.groups.iter().find(|group| !self.names_group(group)) {
            return Some(format!("group {group:?}"));
        }
        if let Some(uid) = asked.uid.as_deref().filter(|uid| !matches(&self.uids, uid)) {
            return Some(format!("uid {uid:?}"));
        }
        let mut pairs = asked
            .extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        pairs
            .find(|(key, value)| !self.names_extra(key, value))
            .map(|(key, value)| format!("extra {key:?} = {value:?}"))
    }

    /// Whether any part of `asked` is among them.
    pub(super) fn touch(&self, asked: &User) -> bool {
        self.names_user(&asked.username)
            || asked.groups.iter().any(|group| self.names_group(group))
            || asked
                .uid
                .as_deref()
                .is_some_and(|uid| matches(&self.uids, uid))
            || asked
                .extra
                .iter()
                .any(|(key, values)| values.iter().any(|value| self.names_extra(key, value)))
    }

    fn names_user(&self, name: &str) -> bool {
        if name.starts_with(SERVICE_ACCOUNT) {
            return matches(&self.service_accounts, name);
        }
        !is_reserved(name) && matches(&self.users, name)
    }

    fn names_group(&self, group: &str) -> bool {
        !is_reserved(group) && matches(&self.groups, group)
    }

    fn names_extra(&self, key: &str, value: &str) -> bool {
        self.extra
            .iter()
            .any(|(own, values)| own == key && values.matches(value))
    }
}

/// Why `asked` is never asserted, whatever a policy says: `system:` names belong to the cluster's own components.
pub(super) fn never_asserted(asked: &User) -> Option<String> {
    let name = &asked.username;
    if is_reserved(name) && !is_service_account(name) {
        return Some(format!("user {name:?}"));
    }
    let group = asked.groups.iter().find(|group| is_reserved(group))?;
    Some(format!("group {group:?}"))
}

/// Whether this is `system:serviceaccount:NAMESPACE:NAME`.
pub(super) fn is_service_account(name: &str) -> bool {
    name.strip_prefix(SERVICE_ACCOUNT)
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(namespace, name)| {
            !namespace.is_empty() && !name.is_empty() && !name.contains(':')
        })
}

/// Whether a name belongs to the cluster's own components.
pub(super) fn is_reserved(name: &str) -> bool {
    name.get(..7)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("system:"))
}

fn matches(patterns: &[TextPattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}
