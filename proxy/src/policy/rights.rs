//! The rights that the gateway's own credential needs for a policy, one by one: what an access review asks about. The
//! manifest of [`super::rbac`] grants them.

use std::fmt;

use super::Policy;
use super::rbac::{GatewayRights, Needed};
use super::rule::Scope;
use crate::impersonation::ORIGINAL_USER_EXTRA;

/// API group of what else is impersonated besides users, groups and service accounts.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Something that a credential may do or not, in the words of RBAC; an empty text stands for "any".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Right {
    /// Verb, such as `impersonate`.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub api_group: &'static str,
    /// Resource.
    pub resource: &'static str,
    /// Subresource; for `userextras` the key.
    pub subresource: String,
    /// Namespace; empty for all of them.
    pub namespace: String,
    /// Name; empty for every name.
    pub name: String,
}

/// What a gateway with some policy needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeededRights {
    /// The rights, each once.
    pub rights: Vec<Right>,
    /// Whether people come by their groups or by patterns of names, so that not all of their names are known.
    pub unnamed_users: bool,
}

impl Right {
    /// To act as any of these: `users`, `groups` or `serviceaccounts`.
    pub fn impersonate(resource: &'static str) -> Self {
        Self {
            verb: "impersonate",
            resource,
            ..Self::default()
        }
    }

    /// The same for one of them.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    fn of_authentication(verb: &'static str, resource: &'static str, subresource: &str) -> Self {
        Self {
            verb,
            api_group: AUTHENTICATION,
            resource,
            subresource: subresource.to_owned(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in the namespace {:?}", self.namespace)?;
        }
        Ok(())
    }
}

impl Policy {
    /// What the gateway's credential has to be allowed for this policy. `review_service_accounts` is whether it reviews
    /// tokens, too.
    pub fn needed_rights(&self, review_service_accounts: bool) -> NeededRights {
        let Needed {
            users,
            groups,
            extra,
            uids,
            service_accounts,
            patterns,
        } = self.needed(&GatewayRights::default());
        let named = |resource, name: &String| Right::impersonate(resource).named(name);
        let mut rights: Vec<_> = users.iter().map(|name| named("users", name)).collect();
        rights.extend(groups.iter().map(|name| named("groups", name)));
        for (namespace, names) in &service_accounts {
            rights.extend(names.iter().map(|name| Right {
                namespace: namespace.clone(),
                ..named("serviceaccounts", name)
            }));
        }
        if uids {
            rights.push(Right::of_authentication("impersonate", "uids", ""));
        }
        // The person's own name goes along only with those who act as somebody else.
        let as_others = self.profiles.iter().any(|profile| {
            let mut scopes = profile.rules.iter().map(|rule| &rule.scope);
            profile.act_as.is_some() || scopes.any(|scope| matches!(scope, Scope::Impersonation(_)))
        });
        for key in extra {
            if key != ORIGINAL_USER_EXTRA || as_others {
                let right = Right::of_authentication("impersonate", "userextras", &key);
                rights.push(right);
            }
        }
        if review_service_accounts {
            rights.push(Right::of_authentication("create", "tokenreviews", ""));
        }
        let by_groups = self
            .profiles
            .iter()
            .any(|profile| !profile.subjects.groups.is_empty());
        NeededRights {
            rights,
            unnamed_users: by_groups || patterns.iter().any(|pattern| pattern.starts_with("users")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(policy: &str, review: bool) -> (Vec<String>, bool) {
        let policy = Policy::parse(policy).unwrap();
        let needed = policy.needed_rights(review);
        let rights = needed.rights.iter().map(ToString::to_string);
        (rights.collect(), needed.unnamed_users)
    }

    #[test]
    fn a_policy_needs_whom_it_names() {
        let rule = "rules: [{effect: allow, apiGroups: ['*'], resources: ['*'], verbs: [get]}]";
        let policy = format!(
            "profiles:\n- {{name: a, subjects: {{users: [alice], serviceAccounts: ['shop:web']}}, {rule}}}\n"
        );
        let expected = [
            "impersonate users \"alice\"",
            "impersonate serviceaccounts \"web\" in the namespace \"shop\"",
        ];
        assert_eq!(
            needed(&policy, false),
            (expected.map(str::to_owned).to_vec(), false)
        );
        let (rights, _) = needed(&policy, true);
        assert_eq!(rights.last().unwrap(), "create tokenreviews");

        let by_group = format!("profiles:\n- {{name: a, subjects: {{groups: [dev]}}, {rule}}}\n");
        let expected = vec!["impersonate groups \"dev\"".to_owned()];
        assert_eq!(needed(&by_group, false), (expected, true));
        let by_pattern =
            format!("profiles:\n- {{name: a, subjects: {{users: ['a-*']}}, {rule}}}\n");
        assert_eq!(needed(&by_pattern, false), (Vec::new(), true));
    }

    #[test]
    fn who_acts_as_others_needs_the_key_that_says_who_they_are() {
        let policy = "profiles:\n- {name: a, subjects: {users: [alice]}, rules: [{effect: allow, impersonate: {users: \
                      [jane], uids: ['7'], extra: ['team=red']}}]}\n";
        let expected = [
            "impersonate users \"alice\"",
            "impersonate users \"jane\"",
            "impersonate uids",
            "impersonate userextras/gateway.hoop/original-user",
            "impersonate userextras/team",
        ];
        assert_eq!(needed(policy, false).0, expected);
    }
}
