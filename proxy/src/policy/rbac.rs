//! What the gateway itself may do in the cluster: the least that a policy needs, as manifests to apply.
//!
//! The gateway acts as the people behind it, so its credential needs the right to impersonate: the users, groups and
//! service accounts that the policy names, and nothing else. RBAC knows no patterns and no "members of a group". Where
//! the policy has those, the manifest says what has to be added, or, if that is asked for, allows every user name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Policy;
use super::impersonation::SERVICE_ACCOUNT;
use super::rule::{Scope, TextPattern};
use crate::impersonation::ORIGINAL_USER_EXTRA;

/// What to write a manifest for, beyond the policy.
#[derive(Debug, Clone, Default)]
pub struct GatewayRights {
    /// Name of the roles and bindings.
    pub name: String,
    /// Namespace and name of the gateway's service account.
    pub service_account: (String, String),
    /// Users who come by their groups, so that the policy does not name them.
    pub users: Vec<String>,
    /// Groups that people are in and the policy does not name.
    pub groups: Vec<String>,
    /// Keys of `extra` that the authenticator adds.
    pub extra: Vec<String>,
    /// Whether any user name may be impersonated, since they are not known beforehand.
    pub any_user: bool,
}

/// What the policy says of identities.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub(super) users: BTreeSet<String>,
    pub(super) groups: BTreeSet<String>,
    pub(super) extra: BTreeSet<String>,
    pub(super) uids: bool,
    /// Names by namespace; none for every name in it.
    pub(super) service_accounts: BTreeMap<String, BTreeSet<String>>,
    /// What RBAC has no words for.
    pub(super) patterns: BTreeSet<String>,
}

impl Policy {
    /// Manifests of the roles and bindings that a gateway with this policy needs, as one YAML text.
    pub fn gateway_rights(&self, rights: &GatewayRights) -> String {
        let needed = self.needed(rights);
        let mut text = String::from(
            "# What the gateway may do in the cluster, by its policy. Written by `hoop policy rbac`.\n",
        );
        for pattern in &needed.patterns {
            let _infallible = writeln!(
                text,
                "# RBAC has no words for {pattern}: add the names with --user or --group."
            );
        }
        if needed.users.is_empty() && !rights.any_user {
            text += "# The policy names groups only: add the users with --user, or allow every name with --any-user.\n";
        }
        text += &cluster_role(&needed, rights);
        text += &binding("ClusterRole", None, rights);
        for (namespace, names) in &needed.service_accounts {
            text += &head("Role", Some(namespace), &rights.name);
            text += "rules:\n";
            text += &rule("", "serviceaccounts", &["impersonate"], names.iter());
            text += &binding("Role", Some(namespace), rights);
        }
        text
    }

    pub(super) fn needed(&self, rights: &GatewayRights) -> Needed {
        let mut needed = Needed {
            users: rights.users.iter().cloned().collect(),
            groups: rights.groups.iter().cloned().collect(),
            extra: rights.extra.iter().cloned().collect(),
            ..Needed::default()
        };
        needed.extra.insert(ORIGINAL_USER_EXTRA.to_owned());
        for profile in &self.profiles {
            for user in &profile.subjects.users {
                needed.user(user);
            }
            for group in &profile.subjects.groups {
                needed.group(group);
            }
            if let Some(account) = &profile.act_as {
                needed.user(&TextPattern::Exact(account.to_string()));
            }
            for rule in &profile.rules {
                let Scope::Impersonation(targets) = &rule.scope else {
                    continue;
                };
                for user in targets.users.iter().chain(&targets.service_accounts) {
                    needed.user(user);
                }
                for group in &targets.groups {
                    needed.group(group);
                }
                needed.uids |= !targets.uids.is_empty();
                needed
                    .extra
                    .extend(targets.extra.iter().map(|(key, _)| key.clone()));
            }
        }
        needed
    }
}

impl Needed {
    fn user(&mut self, pattern: &TextPattern) {
        match pattern {
            TextPattern::Exact(name) => match account(name) {
                Some((namespace, name)) => {
                    let names = self.service_accounts.entry(namespace.to_owned());
                    names.or_default().insert(name.to_owned());
                }
                None => {
                    self.users.insert(name.clone());
                }
            },
            pattern => {
                self.patterns.insert(format!("users {:?}", pattern.text()));
            }
        }
    }

    fn group(&mut self, pattern: &TextPattern) {
        match pattern {
            // The API server adds it by itself.
            TextPattern::Exact(name) if name == super::AUTHENTICATED => {}
            TextPattern::Exact(name) => {
                self.groups.insert(name.clone());
            }
            pattern => {
                self.patterns.insert(format!("groups {:?}", pattern.text()));
            }
        }
    }
}

fn account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')
}

fn cluster_role(needed: &Needed, rights: &GatewayRights) -> String {
    let mut text = head("ClusterRole", None, &rights.name);
    text += "rules:\n";
    if rights.any_user {
        text += "  # Every user name: people come by their groups. Groups stay limited, so nobody becomes system:masters.\n";
        text += &rule("", "users", &["impersonate"], std::iter::empty());
    } else if !needed.users.is_empty() {
        text += &rule("", "users", &["impersonate"], needed.users.iter());
    }
    if !needed.groups.is_empty() {
        text += &rule("", "groups", &["impersonate"], needed.groups.iter());
    }
    let group = "authentication.k8s.io";
    text += &rule(group, "uids", &["impersonate"], std::iter::empty());
    if !needed.uids {
        text += "  # uids: those that the authenticator gives people; they grant nothing by themselves.\n";
    }
    for key in &needed.extra {
        text += &rule(
            group,
            &format!("userextras/{key}"),
            &["impersonate"],
            std::iter::empty(),
        );
    }
    text +=
        "  # To check the tokens of service accounts, and to ask at its start what it may do.\n";
    text += &rule(group, "tokenreviews", &["create"], std::iter::empty());
    text += &rule(
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        &["create"],
        std::iter::empty(),
    );
    text
}

fn head(kind: &str, namespace: Option<&str>, name: &str) -> String {
    let mut text = format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {}\n",
        quoted(name)
    );
    if let Some(namespace) = namespace {
        let _infallible = writeln!(text, "  namespace: {}", quoted(namespace));
    }
    text
}

fn rule<'n>(
    group: &str,
    resource: &str,
    verbs: &[&str],
    names: impl Iterator<Item = &'n String>,
) -> String {
    let mut text = format!(
        "  - apiGroups: [{}]\n    resources: [{}]\n    verbs: [{}]\n",
        quoted(group),
        quoted(resource),
        verbs.join(", ")
    );
    let names: Vec<String> = names.map(|name| quoted(name)).collect();
    if !names.is_empty() {
        let _infallible = writeln!(text, "    resourceNames: [{}]", names.join(", "));
    }
    text
}

fn binding(kind: &str, namespace: Option<&str>, rights: &GatewayRights) -> String {
    let (account_namespace, account) = &rights.service_account;
    let mut text = head(&format!("{kind}Binding"), namespace, &rights.name);
    let _infallible = write!(
        text,
        "roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {}\nsubjects:\n  - kind: ServiceAccount\n    \
         name: {}\n    namespace: {}\n",
        quoted(&rights.name),
        quoted(account),
        quoted(account_namespace)
    );
    text
}

/// A text as YAML reads it back, whatever is in it: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
