//! The small files of sealed days leave.
//!
//! The seal is the record of it: it was there before, it names each file with its hash, and it stays. Nothing is deleted
//! before every object of the day was read back from the store, row by row, and, where a transparency log is written, before a
//! checkpoint of it covers the seal. Where the recorder may not delete, or locks or
//! holds keep files, those stay until they are let go; nobody counts them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hoop_schema::evidence::SessionFileName;
use hoop_schema::evidence::seal::{ReplacedFile, Seal, SealName};
use hoop_schema::{Class, Timestamp};
use hoop_sinks::store::{EvidenceStore, StoreError};

use super::fence::read_seal;
use super::plan::{self, Listed};
use super::{SealError, merge, session_files};
use crate::shared::Shared;

/// How long a file whose deletion was refused is left alone: a lock or a hold lasts for days, and there may be thousands
/// of files.
const REFUSED_FOR: Duration = Duration::from_secs(6 * 3600);

/// What this process has learned about files that are to leave.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Seals whose objects were read back: once is enough, and files may stay for long.
    read_back: HashSet<SealName>,
    /// Files whose deletion was refused, and when.
    refused: HashMap<SessionFileName, Timestamp>,
}

/// Deletes the small files of every day of the class whose seal is old enough.
pub(super) async fn expire(
    shared: &Shared,
    class: &Class,
    leaving: &mut Leaving,
) -> Result<(), SealError> {
    let (store, grace) = (&*shared.store, shared.config.seal.grace);
    let files = session_files(store, class).await?;
    let now = shared.clock.now();
    leaving
        .refused
        .retain(|_, refused| !has_passed(REFUSED_FOR, *refused, now));
    for day in super::sealed_days(store, class).await? {
        if !files.iter().any(|file| file.name.day == day) {
            continue;
        }
        let name = SealName {
            class: class.clone(),
            day,
        };
        let Some(seal) = read_seal(store, &name).await? else {
            continue;
        };
        let is_signed =
            shared.config.signing.is_none() || shared.proofs.is_recorded(&name.to_string());
        if !has_passed(grace, seal.sealed, now) || !is_signed {
            continue;
        }
        let mut leave = to_leave(&seal, &files);
        leave.retain(|(file, _)| !leaving.refused.contains_key(file));
        if leave.is_empty() {
            continue;
        }
        if !leaving.read_back.contains(&name) {
            read_back(store, &name, &seal).await?;
            leaving.read_back.insert(name.clone());
        }
        let deleted = delete(store, &leave, &mut leaving.refused, now).await?;
        shared.metrics.replaced_files.inc_by(deleted);
        tracing::info!(%class, day = name.day, files = deleted, "session files of a sealed day were deleted");
    }
    Ok(())
}

fn has_passed(time: Duration, since: Timestamp, now: Timestamp) -> bool {
    let passed = now.as_micros().saturating_sub(since.as_micros());
    passed >= i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The files that are there still and may leave: those that the seal names, but for the newest of each series.
fn to_leave<'a>(seal: &'a Seal, files: &[Listed]) -> Vec<(SessionFileName, &'a ReplacedFile)> {
    let newest = plan::newest(files);
    let is_newest =
        |name: &SessionFileName| newest.get(&(name.shard, name.source)) == Some(&name.pos_from);
    seal.replaced()
        .filter_map(|file| {
            let name: SessionFileName = file.key.parse().ok()?;
            let is_there = files.iter().any(|listed| listed.name == name);
            (is_there && !is_newest(&name)).then_some((name, file))
        })
        .collect()
}

/// Makes sure that what replaces the files can be read to its last row.
async fn read_back(
    store: &dyn EvidenceStore,
    name: &SealName,
    seal: &Seal,
) -> Result<(), SealError> {
    for object in &seal.objects {
        let sealed = object.name(name);
        let bytes = store.get(&object.key, 0..u64::MAX).await?;
        let object = object.clone();
        let checking =
            tokio::task::spawn_blocking(move || merge::check(&sealed, &object, bytes)).await;
        checking.map_err(SealError::BrokeOff)??;
    }
    Ok(())
}

/// Deletes files that are what the seal says, each after its index, and remembers those that may not be. Returns how many
/// are gone.
async fn delete(
    store: &dyn EvidenceStore,
    leave: &[(SessionFileName, &ReplacedFile)],
    refused: &mut HashMap<SessionFileName, Timestamp>,
    now: Timestamp,
) -> Result<u64, SealError> {
    let mut deleted = 0;
    for (name, file) in leave {
        match store.head(&file.key).await? {
            Some(head) if head.sha256 == file.sha256 => {}
            Some(_) => {
                tracing::error!(
                    key = file.key,
                    "a session file is not the one that was sealed; it stays"
                );
                continue;
            }
            None => continue,
        }
        let deleting = async {
            for key in [name.index_key(), file.key.clone()] {
                match store.delete(&key).await {
                    Ok(()) | Err(StoreError::NotFound { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        };
        match deleting.await {
            Ok(()) => deleted += 1,
            Err(e @ StoreError::Refused { .. }) => {
                refused.insert(name.clone(), now);
                let error = crate::back_off::with_causes(&e);
                tracing::debug!(
                    key = file.key,
                    error,
                    "a session file of a sealed day cannot be deleted yet"
                );
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(deleted)
}
