//! What the store itself says about its objects.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use hoop_schema::{Class, Timestamp};
use hoop_sinks::store::{EvidenceStore, LockMode, StoreError};
use serde::Serialize;

use super::OBJECTS_AT_ONCE;
use crate::evidence::{Catalog, Error};

/// How the session files of a class are locked. All are 0 where the store does not lock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Locks {
    /// Files locked so that only a permission of its own ends the term early.
    pub governance: u64,
    /// Files that nobody can delete before the end of their term.
    pub compliance: u64,
    /// Files under a legal hold.
    pub held: u64,
    /// Files that nothing keeps from being deleted.
    pub unlocked: u64,
    /// Files whose locks cannot be read.
    pub unknown: u64,
    /// When the first lock that is in force ends.
    pub first_until: Option<Timestamp>,
    /// When the last one ends.
    pub last_until: Option<Timestamp>,
}

/// Asks for the protection of every session file.
pub(super) async fn read(
    store: &dyn EvidenceStore,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<BTreeMap<Class, Locks>, Error> {
    let mut answers = stream::iter(&catalog.files)
        .map(|file| async move {
            let answer = store.protection(&file.name.to_string()).await;
            (&file.name.class, answer)
        })
        .buffered(OBJECTS_AT_ONCE);
    let mut classes: BTreeMap<Class, Locks> = BTreeMap::new();
    while let Some((class, answer)) = answers.next().await {
        let locks = classes.entry(class.clone()).or_default();
        let protection = match answer {
            Ok(protection) => protection,
            Err(StoreError::NotFound { .. }) => continue,
            Err(StoreError::Refused { .. }) => {
                locks.unknown += 1;
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        locks.held += u64::from(protection.held);
        match protection.retention.filter(|lock| lock.until > now) {
            Some(lock) => {
                match lock.mode {
                    LockMode::Governance => locks.governance += 1,
                    LockMode::Compliance => locks.compliance += 1,
                }
                let first = locks
                    .first_until
                    .map_or(lock.until, |first| first.min(lock.until));
                locks.first_until = Some(first);
                locks.last_until = locks.last_until.max(Some(lock.until));
            }
            None if protection.held => {}
            None => locks.unlocked += 1,
        }
    }
    Ok(classes)
}
