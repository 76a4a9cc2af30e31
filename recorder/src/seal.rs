//! Sealing: the session files of a finished day become few large objects, and then leave.
//!
//! The form is in [`hoop_schema::evidence::seal`]. **The create-only put of the seal is the commit**; in this order:
//!
//! 1. A day is **finished** when no recorder will commit another file of it (`finish`). Every shard has to be.
//! 2. Files that follow each other are **merged** into one object each (`plan` says which, `merge` how). Every row is
//!    hashed again; a file that is not what it says of itself ends the sealing of that day, and everything stays.
//! 3. Objects and their indexes are put create-only. The same files make the same bytes, so rival sealers put the same
//!    objects. What another version of the recorder left there is taken over if it holds the same rows.
//! 4. The **seal** is put create-only. It names every object and every file that they replace.
//! 5. When the seal has been there for a while, so that whoever reads the small files is done, every object is read
//!    back to its last row, and the **small files leave** (`expire`), but for the newest of each shard, from which a
//!    recorder goes on.
//!
//! Whatever breaks off before the seal leaves objects that nobody counts and that the next try takes up; whatever breaks
//! off after it leaves files that nobody counts and that the next round deletes. `fence` keeps late files out of sealed
//! days. `term` deletes sealed objects when the term of their class is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::evidence::PreviousFile;
use hoop_schema::evidence::SessionFileName;
use hoop_schema::evidence::seal::{SEAL_VERSION, Seal, SealName, SealedObject};
use hoop_schema::{Class, EventHash, Shard, Timestamp};
use hoop_sinks::log::{EventReader, ReadError};
use hoop_sinks::store::holds::HoldError;
use hoop_sinks::store::{EvidenceStore, Metadata, StoreError};
use tokio::time::interval;

use crate::keep::Keep;
use crate::session_file::footer::FooterError;
use crate::shared::Shared;
use plan::Listed;
use put::Landed;

pub(crate) mod cursor;
mod expire;
pub(crate) mod fence;
mod finish;
pub(crate) mod merge;
pub(crate) mod plan;
mod prove;
mod put;
pub(crate) mod term;

pub use merge::{Input, MergeError, Merged, merge};

/// How much later than its turn a day is sealed by a recorder whose share has not the first shard.
const TURN: Duration = Duration::from_secs(3 * 3600);

/// Why a day is not sealed, or its small files are still there.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[from] StoreError),
    /// The log does not answer.
    #[error("the log cannot be asked whether the day is finished")]
    Log(#[source] ReadError),
    /// A session file is damaged or gone.
    #[error("a session file cannot be read")]
    File(#[from] FooterError),
    /// A row or a file is not what it says of itself; nothing of its day is sealed.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Session files are missing; nothing of their day is sealed.
    #[error("{key} {what}; run `hoop-replay verify` to see what is missing")]
    Chain {
        /// The file after the hole.
        key: String,
        /// What it says.
        what: String,
    },
    /// Something lies among the sealed objects of the day that this sealing did not make.
    #[error(
        "{key} lies among the objects of a day that is not sealed, and is none of them; look at it and take it away"
    )]
    Stranger {
        /// Its name.
        key: String,
    },
    /// A seal or a sealed object is not what it should be.
    #[error("{key} is damaged: {what}")]
    Damaged {
        /// Its name.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be told which objects are held.
    #[error("legal holds cannot be read, so nothing is deleted")]
    Holds(#[source] HoldError),
    /// Merging broke off.
    #[error("merging session files broke off")]
    BrokeOff(#[source] tokio::task::JoinError),
}

/// What a sealing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Session files that are sealed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that replace them.
    pub objects: u64,
}

/// Seals what is finished, and lets the small files of sealed days go, until it is stopped. Nothing here may hold up
/// recording, so failures are reported and tried again later.
pub(crate) async fn run(shared: Arc<Shared>, readers: Vec<Arc<dyn EventReader>>) {
    if !shared.config.seal.enabled {
        return;
    }
    let mut ticks = interval(shared.config.seal.interval);
    let mut leaving = expire::Leaving::default();
    loop {
        ticks.tick().await;
        let mut failed = 0;
        for reader in &readers {
            let class = reader.class();
            match seal_class(&shared, &**reader).await {
                Ok(days) => failed += days,
                Err(e) => warn(class, "cannot look for days to seal", &e),
            }
            failed += prove_doubtful(&shared, class).await;
            if let Err(e) = expire::expire(&shared, class, &mut leaving).await {
                warn(class, "cannot delete session files that are sealed", &e);
            }
        }
        shared.metrics.unsealable_days.set(failed);
    }
}

/// Proves the seals of others that the transparency log waits for. Returns how many are not right.
async fn prove_doubtful(shared: &Shared, class: &Class) -> i64 {
    let mut failed = 0;
    for key in shared.proofs.doubtful_seals() {
        let Ok(name) = key.parse::<SealName>() else {
            continue;
        };
        if name.class != *class || shared.proofs.is_recorded(&key) {
            continue;
        }
        match prove::prove(&*shared.store, &name).await {
            Ok(sha256) => shared.proofs.sealed(&key, sha256),
            Err(e) => {
                failed += 1;
                let error = crate::back_off::with_causes(&e);
                tracing::error!(
                    key,
                    error,
                    "a seal that is not in the transparency log is not one that this recorder would put, so it is not logged"
                );
            }
        }
    }
    failed
}

fn warn(class: &Class, what: &'static str, error: &SealError) {
    let error = crate::back_off::with_causes(error);
    tracing::warn!(%class, error, "{what}; trying again later");
}

/// Seals every finished day of a class, the oldest first. Returns how many could not be sealed.
async fn seal_class(shared: &Shared, reader: &dyn EventReader) -> Result<i64, SealError> {
    let (store, class, config) = (&*shared.store, reader.class(), &shared.config);
    let mut failed = 0;
    let sealed = sealed_days(store, class).await?;
    let files = session_files(store, class).await?;
    let term = config.terms.get(class).copied();
    let now = shared.clock.now();
    // One of several recorders does it; the others, when that one does not.
    let turn = if config.share.owns(Shard(0)) {
        Duration::ZERO
    } else {
        TURN
    };
    let after = config.seal.after.saturating_add(turn);
    for day in plan::days_to_seal(&files, &sealed, after, term, now) {
        let name = SealName {
            class: class.clone(),
            day,
        };
        let sealing = async {
            if !finish::is_finished(store, reader, &files, &name.day).await? {
                return Ok(None);
            }
            let by = config.recorder_id.as_str();
            let keep = Keep::now(shared, class, &name.day).await;
            seal_kept(store, &name, by, now, &keep).await
        };
        match sealing.await {
            Ok(None) => {}
            Ok(Some((done, seal))) => {
                shared.proofs.sealed(&name.to_string(), seal);
                shared.metrics.sealed_days.inc();
                shared.metrics.sealed_bytes.inc_by(done.bytes);
                tracing::info!(%class, day = name.day, files = done.files, bytes = done.bytes, objects = done.objects, "a day is sealed");
            }
            Err(e) => {
                failed += 1;
                let error = crate::back_off::with_causes(&e);
                tracing::error!(%class, day = name.day, error, "a day cannot be sealed; its session files stay");
            }
        }
    }
    Ok(failed)
}

/// Seals a day that is finished; whoever calls this has made sure that it is. Returns what was done and the hash of the
/// seal; `None` when the day is sealed already, or there is nothing of it. May be done again from any point, and by rivals at
/// a time.
///
/// # Errors
/// When the store does not answer, or something is damaged or missing. Then nothing has changed for readers.
pub async fn seal_day(
    store: &dyn EvidenceStore,
    day: &SealName,
    sealed_by: &str,
    now: Timestamp,
) -> Result<Option<(Sealed, EventHash)>, SealError> {
    seal_kept(store, day, sealed_by, now, &Keep::default()).await
}

/// The same; what is put is locked and held as `keep` says.
async fn seal_kept(
    store: &dyn EvidenceStore,
    day: &SealName,
    sealed_by: &str,
    now: Timestamp,
    keep: &Keep,
) -> Result<Option<(Sealed, EventHash)>, SealError> {
    let key = day.to_string();
    if store.head(&key).await?.is_some() {
        return Ok(None);
    }
    let mut files = session_files(store, &day.class).await?;
    files.retain(|file| file.name.day == day.day);
    if files.is_empty() {
        return Ok(None);
    }
    let mut sealed = Sealed {
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.bytes).sum(),
        objects: 0,
    };
    let mut objects: Vec<SealedObject> = Vec::new();
    for group in plan::groups(files) {
        // Somebody else may have sealed the day meanwhile.
        if store.head(&key).await?.is_some() {
            return Ok(None);
        }
        let object = seal_group(store, group, objects.last(), keep).await?;
        objects.push(object);
    }
    sealed.objects = objects.len() as u64;
    for there in store.list(&day.sealed_prefix(), None).await? {
        if !objects.iter().any(|object| object.key == there.key) {
            return Err(SealError::Stranger { key: there.key });
        }
    }
    let seal = Seal {
        v: SEAL_VERSION,
        class: day.class.clone(),
        day: day.day.clone(),
        sealed: now,
        sealed_by: sealed_by.to_owned(),
        objects,
    };
    let bytes = serde_json::to_vec_pretty(&seal).map_err(|e| SealError::Damaged {
        key: key.clone(),
        what: e.to_string(),
    })?;
    let bytes = Bytes::from(bytes);
    let options = keep.plain_options();
    let put = put::put(store, &key, &bytes, &options, (&day.class, Shard(0))).await?;
    Ok((put == Landed::Ours).then(|| (sealed, EventHash::of(&bytes))))
}

/// Merges the files of one object and puts it with its index. `before` is the object before it on that day.
async fn seal_group(
    store: &dyn EvidenceStore,
    group: Vec<Listed>,
    before: Option<&SealedObject>,
    keep: &Keep,
) -> Result<SealedObject, SealError> {
    let mut inputs = Vec::with_capacity(group.len());
    for file in group {
        let bytes = store.get(&file.name.to_string(), 0..u64::MAX).await?;
        inputs.push(Input {
            name: file.name,
            bytes,
        });
    }
    let merging = tokio::task::spawn_blocking(move || merge(inputs)).await;
    let merged = merging.map_err(SealError::BrokeOff)??;
    begins_where_it_should(&merged, before)?;
    let place = (&merged.name.class, merged.name.shard);
    let metadata = Metadata::from([
        ("pos-to", merged.object.pos_to.to_string()),
        ("sha256", merged.object.sha256.to_string()),
        ("rows", merged.object.rows.to_string()),
    ]);
    let options = keep.options(&merged.index, metadata);
    let key = merged.name.to_string();
    let object = match put::put(store, &key, &merged.file, &options, place).await? {
        Landed::Ours => merged.object.clone(),
        Landed::Others => {
            let there = store.get(&key, 0..u64::MAX).await?;
            merge::adopt(&merged, there)?
        }
    };
    // An index of another version says the same.
    let index = merged.name.index_key();
    put::put(
        store,
        &index,
        &merged.index,
        &keep.options(&merged.index, Metadata::new()),
        place,
    )
    .await?;
    Ok(object)
}

/// The first file of an object follows the last one of the object before it; the first of a day, one of an earlier day.
fn begins_where_it_should(merged: &Merged, before: Option<&SealedObject>) -> Result<(), SealError> {
    let first = merged.object.replaces.first().map(|file| file.key.clone());
    let wrong = |what: String| {
        Err(SealError::Chain {
            key: first.unwrap_or_default(),
            what,
        })
    };
    let same = |before: &&SealedObject| {
        (before.shard, before.source) == (merged.object.shard, merged.object.source)
    };
    let named = merged.previous.as_ref();
    match before
        .filter(same)
        .and_then(|before| Some((before, before.last()?)))
    {
        Some((before, last)) => {
            if before.pos_to == merged.object.pos_from && named == Some(&last) {
                return Ok(());
            }
            wrong(format!("does not follow {}, which is before it", last.key))
        }
        None => match named {
            Some(PreviousFile { key, .. }) if !is_of_earlier_day(key, &merged.name.day) => {
                wrong(format!("follows {key}, which is not there"))
            }
            _ => Ok(()),
        },
    }
}

fn is_of_earlier_day(key: &str, day: &str) -> bool {
    key.parse::<SessionFileName>()
        .is_ok_and(|name| name.day.as_str() < day)
}

/// Days of a class that are sealed.
async fn sealed_days(
    store: &dyn EvidenceStore,
    class: &Class,
) -> Result<BTreeSet<String>, StoreError> {
    let listed = store.list(&SealName::class_prefix(class), None).await?;
    let names = listed
        .iter()
        .filter_map(|object| object.key.parse::<SealName>().ok());
    Ok(names.map(|name| name.day).collect())
}

/// All session files of a class.
async fn session_files(
    store: &dyn EvidenceStore,
    class: &Class,
) -> Result<Vec<Listed>, StoreError> {
    let listed = store
        .list(&SessionFileName::class_prefix(class), None)
        .await?;
    let listed = listed.into_iter().filter_map(|object| {
        Some(Listed {
            name: object.key.parse().ok()?,
            bytes: object.bytes,
        })
    });
    Ok(listed.collect())
}

#[cfg(test)]
mod tests;
