//! What keeps a session file out of a day that is sealed.
//!
//! A name fences off rivals only while its file is there, and sealing lets files go. So whoever commits a session file
//! asks for the seal of its day, before the put and after it. Between the two there may be a seal that does not know
//! the file; then its records are committed again under the day after, and what lies below the sealed day counts for
//! nothing. A recorder that slept until its positions were sealed goes on after the newest file.

use hoop_schema::EventHash;
use hoop_schema::evidence::SessionFileName;
use hoop_schema::evidence::seal::{SEAL_BYTES_MAX, Seal, SealName};
use hoop_sinks::store::{EvidenceStore, StoreError};

use super::SealError;
use super::plan::day_after;

/// Where a session file stands to the seal of its day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The day is not sealed.
    Open,
    /// The day is sealed, with a file of this name and hash.
    Holds(EventHash),
    /// The day is sealed, and another file covered the position.
    Passed,
    /// The day is sealed without the position: what is there belongs to this day.
    Late(String),
}

/// Looks where a session file stands.
///
/// # Errors
/// When the store does not answer, or the seal is damaged.
pub(crate) async fn look(
    store: &dyn EvidenceStore,
    name: &SessionFileName,
) -> Result<Fence, SealError> {
    let seal = SealName {
        class: name.class.clone(),
        day: name.day.clone(),
    };
    Ok(match read_seal(store, &seal).await? {
        None => Fence::Open,
        Some(seal) => stands(&seal, name),
    })
}

fn stands(seal: &Seal, name: &SessionFileName) -> Fence {
    let key = name.to_string();
    if let Some(file) = seal.replaced().find(|file| file.key == key) {
        return Fence::Holds(file.sha256);
    }
    let covers = |object: &&hoop_schema::evidence::seal::SealedObject| {
        (object.shard, object.source) == (name.shard, name.source) && name.pos_from < object.pos_to
    };
    match (seal.objects.iter().find(covers), day_after(&name.day)) {
        (None, Some(day)) => Fence::Late(day),
        _ => Fence::Passed,
    }
}

/// A seal, if there is one.
///
/// # Errors
/// When the store does not answer, or it is damaged.
pub(crate) async fn read_seal(
    store: &dyn EvidenceStore,
    name: &SealName,
) -> Result<Option<Seal>, SealError> {
    let key = name.to_string();
    let bytes = match store.get(&key, 0..SEAL_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    match Seal::read(name, &bytes) {
        Ok(seal) => Ok(Some(seal)),
        Err(what) => Err(SealError::Damaged { key, what }),
    }
}
