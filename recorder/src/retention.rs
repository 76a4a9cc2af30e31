//! Retention: session files whose term is over are deleted, and that they were is recorded first.
//!
//! ```text
//! retention/v1/class=standard/dt=2026-11-22/<event_id>.json      an event of kind `recorder.expired`
//! ```
//! A file is due when the term of its class has passed since the end of the UTC day that its name says; it holds no
//! event of a later day. The record's name is cut from a hash of the file's, so a deletion that broke off is recorded
//! once. Never deleted: the newest file of a shard, from which a recorder goes on; a held file; a file that cannot be
//! read, since nobody can tell whether it is held.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{Array, StringArray};
use bytes::Bytes;
use hoop_schema::evidence::SessionFileName;
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::{Class, ProducerId, SessionId, Shard, SourceId, Timestamp};
use hoop_sinks::log::EventReader;
use hoop_sinks::store::{EvidenceStore, Metadata, StoreError};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::holds::{HoldError, Holds, holds_any};
use crate::index::rebuild;
use crate::own::{OwnEvents, event_id};
use crate::resume::{read, session_files};
use crate::session_file::footer::FooterError;
use crate::shared::Shared;

/// Prefix of all records of deletions.
pub const RETENTION_PREFIX: &str = "retention/v1/";

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
        .filter_map(|f| Some((f.clone(), due_from(f, term)?)));
    dated
        .filter(|(file, due)| *due <= now && !is_newest(file))
        .collect()
}

/// From when on a file may be deleted; `None` for a day that does not exist, which no recorder writes.
fn due_from(file: &SessionFileName, term: Duration) -> Option<Timestamp> {
    const DAY_MICROS: i64 = 86_400_000_000;
    let day: Timestamp = format!("{}T00:00:00.000000Z", file.day).parse().ok()?;
    let term = i64::try_from(term.as_micros()).ok()?;
    Some(day.plus_micros(DAY_MICROS).plus_micros(term))
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
    let mut held = 0;
    for (file, due) in due(&files, reader.source(), term, shared.clock.now()) {
        // Asked again for every file: a hold that is set now must be in force for the next one.
        let in_force = holds.in_force().await.map_err(RetentionError::Holds)?;
        if !in_force.is_empty() && is_held(&*shared.store, &file, &in_force).await {
            held += 1;
            continue;
        }
        let record = Record {
            cluster: &shared.config.cluster,
            producer_id,
            epoch: shared.next_epoch(),
            term,
            due,
        };
        match record
            .delete(&*shared.store, &file, shared.clock.now())
            .await
        {
            Ok(()) => drop(shared.metrics.expired_files.inc()),
            Err(FooterError::Store(StoreError::NotFound { .. })) => {}
            Err(FooterError::Store(e)) => return Err(RetentionError::Store(e)),
            Err(e) => {
                tracing::error!(error = %e, "a session file past its term is kept, since it is damaged")
            }
        }
    }
    shared.metrics.held_files.set(held);
    Ok(())
}

/// Whether a hold covers the file. When that cannot be told, it does.
async fn is_held(
    store: &dyn EvidenceStore,
    file: &SessionFileName,
    holds: &[hoop_schema::kinds::recorder::RecorderHold],
) -> bool {
    let index = match store.get(&file.index_key(), 0..u64::MAX).await {
        Ok(index) => sessions_of(index),
        Err(_) => None,
    };
    let sessions = match index {
        Some(sessions) => Some(sessions),
        None => match store.get(&file.to_string(), 0..u64::MAX).await {
            Ok(bytes) => rebuild(bytes)
                .ok()
                .and_then(|index| sessions_of(index.into())),
            Err(_) => None,
        },
    };
    sessions.is_none_or(|sessions| holds_any(holds, &sessions))
}

/// The sessions of an index, each with its user; `None` when it is damaged.
fn sessions_of(index: Bytes) -> Option<Vec<(SessionId, Option<String>)>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(index)
        .ok()?
        .build()
        .ok()?;
    let mut sessions = Vec::new();
    for batch in reader {
        let batch = batch.ok()?;
        let text = |name| {
            batch
                .column_by_name(name)?
                .as_any()
                .downcast_ref::<StringArray>()
        };
        let (ids, users) = (text("session_id")?, text("username")?);
        for row in 0..batch.num_rows() {
            let user = users.is_valid(row).then(|| users.value(row).to_owned());
            sessions.push((ids.value(row).parse().ok()?, user));
        }
    }
    Some(sessions)
}

/// What the record of a deletion says beside the file.
struct Record<'a> {
    cluster: &'a str,
    producer_id: &'a ProducerId,
    epoch: u64,
    term: Duration,
    due: Timestamp,
}

impl Record<'_> {
    /// Records the deletion, then deletes the index and the file. May be done again from any point.
    async fn delete(
        &self,
        store: &dyn EvidenceStore,
        file: &SessionFileName,
        now: Timestamp,
    ) -> Result<(), FooterError> {
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
        store
            .create(&key, bytes, &Metadata::new())
            .await
            .map_err(FooterError::Store)?;
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
        Ok(())
    }
}

/// Name of the record of a file's deletion: the same for every try.
fn record_key(class: &Class, day: &str, due: Timestamp, key: &str) -> String {
    format!(
        "{RETENTION_PREFIX}class={class}/dt={day}/{}.json",
        event_id(due, key.as_bytes())
    )
}

#[cfg(test)]
mod tests;
