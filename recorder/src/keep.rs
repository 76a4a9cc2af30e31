//! What keeps a new object from being deleted: the lock of its class, and the holds in force.
//!
//! A session file and its index are locked until the term of their class is over, and held from their first moment on
//! if a hold covers them. A hold that cannot be read then never holds up recording: whoever looks after the store sets
//! it later. What says that a file was deleted is locked for another term.

use hoop_schema::evidence::end_of_term;
use hoop_schema::kinds::recorder::{RecorderHold, RecorderTerms, RetentionMode};
use hoop_schema::{Class, Timestamp};
use hoop_sinks::store::history::Writer;
use hoop_sinks::store::holds::Holds;
use hoop_sinks::store::{CreateOptions, LockMode, Metadata, Retention, StoreError, terms};

use crate::config::Config;
use crate::held::{covers_any, sessions_of};
use crate::shared::Shared;

/// A lock must end in the future, by the clock of the store; one that ends this soon keeps nothing any more.
const LOCK_MIN_MICROS: i64 = 3_600_000_000;

/// Finds out whether the store locks, which it must where a class is to be locked, and says in the evidence how long
/// each class is kept.
pub(crate) async fn prepare<'a>(
    shared: &Shared,
    classes: impl Iterator<Item = &'a Class>,
) -> Result<(), StoreError> {
    let wanted = !shared.config.locks.is_empty();
    let locks = match shared.store.locks().await {
        Ok(locks) => locks,
        Err(e) if wanted => return Err(e),
        Err(e) => {
            tracing::warn!(error = %e, "cannot tell whether the evidence store locks; holds are kept by recorders alone");
            false
        }
    };
    if wanted && !locks {
        return Err(StoreError::CannotLock {
            place: shared.store.place(),
            what: "a retention mode",
        });
    }
    shared.locks.get_or_init(|| locks);
    let writer = Writer {
        cluster: &shared.config.cluster,
        producer_id: &shared.config.recorder_id,
    };
    for class in classes {
        let terms = terms_of(&shared.config, class);
        let now = shared.clock.now();
        if let Err(e) = terms::say(&*shared.store, writer, &terms, now).await {
            tracing::warn!(%class, error = %e, "cannot say in the evidence how long a class is kept");
        }
    }
    Ok(())
}

fn terms_of(config: &Config, class: &Class) -> RecorderTerms {
    RecorderTerms {
        of_class: class.clone(),
        term_s: config.terms.get(class).map(|term| term.as_secs()),
        mode: match config.locks.get(class) {
            None => RetentionMode::None,
            Some(LockMode::Governance) => RetentionMode::Governance,
            Some(LockMode::Compliance) => RetentionMode::Compliance,
        },
    }
}

/// The lock of an object of a class that belongs to a day.
pub(crate) fn lock(config: &Config, class: &Class, day: &str, now: Timestamp) -> Option<Retention> {
    let (mode, term) = (*config.locks.get(class)?, *config.terms.get(class)?);
    let until = end_of_term(day, term)?;
    (until > now.plus_micros(LOCK_MIN_MICROS)).then_some(Retention { mode, until })
}

/// What keeps new objects of a class and day.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    lock: Option<Retention>,
    /// Holds in force, where the store can hold.
    holds: Vec<RecorderHold>,
}

impl Keep {
    /// What is in force now.
    pub(crate) async fn now(shared: &Shared, class: &Class, day: &str) -> Self {
        Self {
            lock: lock(&shared.config, class, day, shared.clock.now()),
            holds: holds(shared).await,
        }
    }

    /// How an object with this index is put.
    pub(crate) fn options(&self, index: &bytes::Bytes, metadata: Metadata) -> CreateOptions {
        let is_held =
            || sessions_of(index.clone()).is_none_or(|sessions| covers_any(&self.holds, &sessions));
        CreateOptions {
            metadata,
            retention: self.lock,
            held: !self.holds.is_empty() && is_held(),
        }
    }

    /// How an object is put that is of no session.
    pub(crate) fn plain_options(&self) -> CreateOptions {
        CreateOptions {
            retention: self.lock,
            ..CreateOptions::default()
        }
    }
}

/// How a session file of a class and day is put, and its index.
pub(crate) async fn options(
    shared: &Shared,
    (class, day): (&Class, &str),
    index: &bytes::Bytes,
    metadata: Metadata,
) -> CreateOptions {
    let keep = Keep::now(shared, class, day).await;
    keep.options(index, metadata)
}

/// The holds in force, where the store can hold.
async fn holds(shared: &Shared) -> Vec<RecorderHold> {
    if shared.locks.get() != Some(&true) {
        return Vec::new();
    }
    let (store, config) = (&*shared.store, &shared.config);
    let holds = Holds::new(store, &config.cluster, &config.recorder_id);
    holds.in_force().await.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "legal holds cannot be read; new files are held as soon as they can be");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoop_schema::ProducerId;

    use super::*;

    #[test]
    fn a_lock_ends_with_the_term_and_never_in_the_past() {
        let mut config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
        let class = Class::standard();
        let at = |now: &str| lock(&config, &class, "2026-11-22", now.parse().unwrap());
        assert_eq!(at("2026-11-22T12:00:00Z"), None, "no mode, no lock");
        config
            .terms
            .insert(class.clone(), Duration::from_secs(86_400));
        config.locks.insert(class.clone(), LockMode::Governance);
        let at = |now: &str| lock(&config, &class, "2026-11-22", now.parse().unwrap());
        let until = "2026-11-24T00:00:00Z".parse().unwrap();
        let mode = LockMode::Governance;
        assert_eq!(at("2026-11-22T12:00:00Z"), Some(Retention { mode, until }));
        assert_eq!(at("2026-11-23T23:30:00Z"), None, "nothing is left to lock");
    }
}
