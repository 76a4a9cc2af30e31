//! Retention: session files whose term is over are deleted, and that they were is recorded first.
//!
//! ```text
//! retention/v1/class=standard/dt=2026-11-22/<event_id>.json      an event of kind `recorder.expired`
//! ```
//! A file is due when the term of its class has passed since the end of the UTC day that its name says; it holds no
//! event of a later day. The record's name is cut from a hash of the file's, so a deletion that broke off is recorded
//! once. Where a transparency log is written, the file goes only after a checkpoint of it covers the record; where
//! the recorder may not delete, a lifecycle rule does it after the record. Never deleted: the newest file of a shard,
//! from which a recorder goes on; a held file; a file that cannot be read, since nobody can tell whether it is held.

use std::collections::BTreeMap;
use std::time::Duration;

use hoop_schema::evidence::{RETENTION_PREFIX, SessionFileName, end_of_term};
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::own::{OwnEvents, event_id};
use hoop_schema::{Class, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::EventReader;
use hoop_sinks::store::holds::{HoldError, Holds};
use hoop_sinks::store::{CreateOptions, Retention, StoreError};

use crate::held::Held;
use crate::keep::lock;
use crate::resume::{read, session_files};
use crate::session_file::footer::FooterError;
use crate::shared::Shared;

/// Why files past their term are still there.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[source] StoreError),
    /// It cannot be told which files are held.
    #[error("legal holds cannot be read, so nothing is deleted")]
    Holds(#[source] HoldError),
}

/// Names of files that are due at `now`: all of the class but the newest of each shard, oldest first. `source` is the
/// log that is recorded now; of logs that are no longer there, all files may go.
pub(crate) fn due(
    files: &[SessionFileName],
    source: SourceId,
    term: Duration,
    now: Timestamp,
) -> Vec<(SessionFileName, Timestamp)> {
    let mut newest: BTreeMap<Shard, u64> = BTreeMap::new();
    for file in files.iter().filter(|f| f.source == source) {
        let newest = newest.entry(file.shard).or_default();
        *newest = (*newest).max(file.pos_from);
    }
    let is_newest =
        |f: &SessionFileName| f.source == source && newest.get(&f.shard) == Some(&f.pos_from);
    let dated = files
        .iter()
        .filter_map(|f| Some((f.clone(), end_of_term(&f.day, term)?)));
    dated
        .filter(|(file, due)| *due <= now && !is_newest(file))
        .collect()
}

/// Deletes what is due of the reader's class.
pub(crate) async fn expire(
    shared: &Shared,
    reader: &dyn EventReader,
) -> Result<(), RetentionError> {
    let class = reader.class();
    let Some(term) = shared.config.terms.get(class).copied() else {
        return Ok(());
    };
    let files = session_files(&*shared.store, class, None)
        .await
        .map_err(RetentionError::Store)?;
    let producer_id = &shared.config.recorder_id;
    let holds = Holds::new(&*shared.store, &shared.config.cluster, producer_id);
    let (mut held, mut kept) = (Held::default(), 0);
    let mut refused: Option<StoreError> = None;
    for (file, due) in due(&files, reader.source(), term, shared.clock.now()) {
        let now = shared.clock.now();
        // Asked again for every file: a hold that is set now must be in force for the next one.
        let in_force = holds.in_force().await.map_err(RetentionError::Holds)?;
        held.in_force(in_force);
        if held.covers(&*shared.store, &file.clone().into()).await {
            kept += 1;
            continue;
        }
        let record = Record {
            cluster: &shared.config.cluster,
            producer_id,
            epoch: shared.next_epoch(),
            term,
            due,
            lock: lock(&shared.config, class, &now.day(), now),
        };
        match record.delete(shared, &file).await {
            Ok(Deleted::Waits) => {}
            Ok(Deleted::Gone) => drop(shared.metrics.expired_files.inc()),
            Err(FooterError::Store(StoreError::NotFound { .. })) => {}
            // Locked, or not for this identity to delete: it is recorded, and a rule of the bucket may delete it.
            Err(FooterError::Store(e @ StoreError::Refused { .. })) => {
                kept += 1;
                refused.get_or_insert(e);
            }
            Err(FooterError::Store(e)) => return Err(RetentionError::Store(e)),
            Err(e) => {
                tracing::error!(error = %e, "a session file past its term is kept, since it is damaged")
            }
        }
    }
    shared.metrics.held_files.set(kept);
    if let Some(e) = refused {
        tracing::warn!(%class, error = %e, "files past their term are recorded as expired, and the store does not let them go");
    }
    Ok(())
}

/// How far a deletion got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deleted {
    /// The file is gone.
    Gone,
    /// It is recorded, and waits for the transparency log.
    Waits,
}

/// What the record of a deletion says beside the file.
struct Record<'a> {
    cluster: &'a str,
    producer_id: &'a ProducerId,
    epoch: u64,
    term: Duration,
    due: Timestamp,
    /// How long the record itself is locked.
    lock: Option<Retention>,
}

impl Record<'_> {
    /// Records the deletion, then deletes the index and the file. May be done again from any point.
    async fn delete(
        &self,
        shared: &Shared,
        file: &SessionFileName,
    ) -> Result<Deleted, FooterError> {
        let (store, now) = (&*shared.store, shared.clock.now());
        let (footer, object) = read(store, file).await?;
        let expired = RecorderExpired {
            key: object.key.clone(),
            sha256: object.sha256.to_string(),
            of_class: footer.class.clone(),
            of_shard: footer.shard,
            pos_from: footer.pos_from,
            pos_to: footer.pos_to,
            rows: footer.rows,
            term_s: self.term.as_secs(),
            due: self.due,
        };
        let key = record_key(&footer.class, &file.day, self.due, &object.key);
        // A strand of its own for every deletion: it stands in no log, and its place is the object's name. Its epoch is
        // of no other strand, so that a try that broke off never shares an identity with another event.
        let mut own = OwnEvents::new(
            self.cluster,
            self.producer_id,
            self.epoch,
            &footer.class,
            footer.shard,
        );
        let bytes = own.make(now, &expired.into());
        let options = CreateOptions {
            retention: self.lock,
            ..CreateOptions::default()
        };
        store
            .create(&key, bytes.into(), &options)
            .await
            .map_err(FooterError::Store)?;
        if shared.config.signing.is_some() && !shared.proofs.is_recorded(&key) {
            return Ok(Deleted::Waits);
        }
        match store.delete(&file.index_key()).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(e) => return Err(FooterError::Store(e)),
        }
        store
            .delete(&object.key)
            .await
            .map_err(FooterError::Store)?;
        tracing::info!(
            key = object.key,
            "a session file was deleted at the end of its term"
        );
        Ok(Deleted::Gone)
    }
}

/// Name of the record of a file's deletion: the same for every try.
pub(crate) fn record_key(class: &Class, day: &str, due: Timestamp, key: &str) -> String {
    format!(
        "{RETENTION_PREFIX}class={class}/dt={day}/{}.json",
        event_id(due, key.as_bytes())
    )
}

#[cfg(test)]
mod tests;
