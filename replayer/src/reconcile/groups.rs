//! Findings, put together by who and what.

use std::collections::BTreeMap;

use hoop_schema::Timestamp;
use serde::{Serialize, Serializer};

use super::sighting::Sighting;

/// The most groups of one kind of finding; requests of further groups are only counted.
pub const GROUPS_MAX: usize = 10_000;

/// Requests of one kind of finding.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Findings {
    /// How many.
    pub requests: u64,
    /// How many of them are in no group, because there were too many groups.
    pub ungrouped: u64,
    /// The requests by who and what; most of them first.
    #[serde(serialize_with = "by_count")]
    groups: BTreeMap<Key, Group>,
}

/// Who and what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The user that asked; empty where nobody was identified.
    pub user: String,
    /// The user it was done as; empty where that is the same.
    pub acting: String,
    /// Kubernetes verb.
    pub verb: String,
    /// Resource, with the subresource after a slash, or a path.
    pub resource: String,
    /// Namespace; empty for none.
    pub namespace: String,
}

/// Requests of one [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many.
    pub requests: u64,
    /// How many of them the API server answered with an error.
    pub refused: u64,
    /// When the first one came.
    pub first: Timestamp,
    /// When the last one came.
    pub last: Timestamp,
    /// Name of the object of one of them; empty for none.
    pub name: String,
    /// `auditID` of the same one.
    pub audit_id: String,
}

impl Findings {
    /// The groups, those with most requests first.
    pub fn groups(&self) -> Vec<(&Key, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.requests));
        groups
    }

    pub(super) fn add(&mut self, sighting: &Sighting) {
        self.requests += 1;
        let key = Key {
            user: sighting.user.clone(),
            acting: sighting.acting.clone(),
            verb: sighting.verb.clone(),
            resource: sighting.what.clone(),
            namespace: sighting.namespace.clone(),
        };
        let refused = u64::from(sighting.code >= 400);
        let full = self.groups.len() >= GROUPS_MAX;
        if let Some(group) = self.groups.get_mut(&key) {
            group.requests += 1;
            group.refused += refused;
            group.first = group.first.min(sighting.at);
            group.last = group.last.max(sighting.at);
        } else if full {
            self.ungrouped += 1;
        } else {
            let group = Group {
                requests: 1,
                refused,
                first: sighting.at,
                last: sighting.at,
                name: sighting.name.clone(),
                audit_id: sighting.id.clone(),
            };
            self.groups.insert(key, group);
        }
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    key: &'a Key,
    #[serde(flatten)]
    group: &'a Group,
}

fn by_count<S: Serializer>(groups: &BTreeMap<Key, Group>, to: S) -> Result<S::Ok, S::Error> {
    let mut listed: Vec<Listed<'_>> = groups
        .iter()
        .map(|(key, group)| Listed { key, group })
        .collect();
    listed.sort_by_key(|listed| std::cmp::Reverse(listed.group.requests));
    to.collect_seq(listed)
}
