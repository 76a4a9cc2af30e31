//! Sealed objects leave when the term of their class is over, as session files do: recorded first, never while held.
//!
//! Where a transparency log is written, an object goes only after a checkpoint of it covers the record.
//! The record is an event of kind `recorder.expired` with the name of the object, where those of session files are. The
//! seal stays, so that nobody takes the day for one that is not sealed.

use hoop_schema::Class;
use hoop_schema::evidence::end_of_term;
use hoop_schema::evidence::seal::{SealName, SealedFileName, SealedObject};
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::own::OwnEvents;
use hoop_sinks::store::holds::Holds;
use hoop_sinks::store::{CreateOptions, EvidenceStore, StoreError};

use super::SealError;
use super::fence::read_seal;
use crate::held::Held;
use crate::keep::lock;
use crate::retention::record_key;
use crate::shared::Shared;

/// Deletes what is due of a class.
pub(crate) async fn expire(shared: &Shared, class: &Class) -> Result<(), SealError> {
    let (store, config, now) = (&*shared.store, &shared.config, shared.clock.now());
    let Some(term) = config.terms.get(class).copied() else {
        return Ok(());
    };
    let holds = Holds::new(store, &config.cluster, &config.recorder_id);
    let mut held = Held::default();
    for day in super::sealed_days(store, class).await? {
        let Some(due) = end_of_term(&day, term).filter(|due| *due <= now) else {
            continue;
        };
        let name = SealName {
            class: class.clone(),
            day,
        };
        let there = store.list(&name.sealed_prefix(), None).await?;
        if there.is_empty() {
            continue;
        }
        let Some(seal) = read_seal(store, &name).await? else {
            continue;
        };
        for object in &seal.objects {
            if !there.iter().any(|listed| listed.key == object.key) {
                continue;
            }
            let file = object.name(&name);
            // Asked again for every object: a hold that is set now must be in force for the next one.
            let in_force = holds.in_force().await.map_err(SealError::Holds)?;
            held.in_force(in_force);
            if held.covers(store, &file.clone().into()).await {
                continue;
            }
            let expired = RecorderExpired {
                key: object.key.clone(),
                sha256: object.sha256.to_string(),
                of_class: class.clone(),
                of_shard: object.shard,
                pos_from: object.pos_from,
                pos_to: object.pos_to,
                rows: object.rows,
                term_s: term.as_secs(),
                due,
            };
            let record = record(shared, &file, expired).await?;
            if config.signing.is_some() && !shared.proofs.is_recorded(&record) {
                continue;
            }
            match delete(store, &file, object).await {
                Ok(()) => drop(shared.metrics.expired_files.inc()),
                // Locked, or not for this identity to delete: it is recorded, and a rule of the bucket may delete it.
                Err(SealError::Store(e @ StoreError::Refused { .. })) => {
                    tracing::warn!(key = object.key, error = %e, "a sealed object past its term is recorded as expired, and the store does not let it go");
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Records a deletion, once. Returns the name of the record.
async fn record(
    shared: &Shared,
    file: &SealedFileName,
    expired: RecorderExpired,
) -> Result<String, SealError> {
    let config = &shared.config;
    let key = record_key(&file.class, &file.day, expired.due, &expired.key);
    // A strand of its own, as for session files.
    let mut own = OwnEvents::new(
        &config.cluster,
        &config.recorder_id,
        shared.next_epoch(),
        &file.class,
        file.shard,
    );
    let now = shared.clock.now();
    let bytes = own.make(now, &expired.into());
    let options = CreateOptions {
        retention: lock(config, &file.class, &now.day(), now),
        ..CreateOptions::default()
    };
    shared.store.create(&key, bytes.into(), &options).await?;
    Ok(key)
}

async fn delete(
    store: &dyn EvidenceStore,
    file: &SealedFileName,
    object: &SealedObject,
) -> Result<(), SealError> {
    for key in [file.index_key(), object.key.clone()] {
        match store.delete(&key).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    tracing::info!(
        key = object.key,
        "a sealed object was deleted at the end of its term"
    );
    Ok(())
}
