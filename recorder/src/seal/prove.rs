//! Whether a seal that somebody else put is right: whether its objects hold the rows of the files that they replace.
//!
//! The transparency log explains by a seal why session files are gone, so a recorder signs a seal only when it made it
//! itself, or has made it again.

use bytes::Bytes;
use hoop_schema::EventHash;
use hoop_schema::evidence::seal::{SEAL_BYTES_MAX, Seal, SealName, SealedObject};
use hoop_sinks::store::EvidenceStore;

use super::{SealError, merge, plan, session_files};
use crate::seal::merge::{Input, Merged};

/// Makes every object of a seal again, from the session files. Returns the hash of the seal.
///
/// # Errors
/// When it is not right, or when that cannot be told any more, since session files are gone.
pub(super) async fn prove(
    store: &dyn EvidenceStore,
    name: &SealName,
) -> Result<EventHash, SealError> {
    let key = name.to_string();
    let wrong = |what: String| SealError::Damaged {
        key: key.clone(),
        what,
    };
    let bytes = store.get(&key, 0..SEAL_BYTES_MAX).await?;
    let seal = Seal::read(name, &bytes).map_err(wrong)?;
    let mut files = session_files(store, &name.class).await?;
    files.retain(|file| file.name.day == name.day);
    let left_out = files.iter().map(|file| file.name.to_string());
    if let Some(file) = left_out
        .into_iter()
        .find(|file| !seal.replaced().any(|replaced| replaced.key == *file))
    {
        return Err(wrong(format!("it leaves out {file}")));
    }
    let mut objects: Vec<&SealedObject> = Vec::new();
    for group in plan::groups(files) {
        let first = group.first().map(|file| file.name.to_string());
        let same = |object: &&SealedObject| {
            object.replaces.first().map(|file| &file.key) == first.as_ref()
        };
        let object = seal.objects.iter().find(same);
        let object = object.ok_or_else(|| wrong("files that it names are gone".to_owned()))?;
        let mut inputs = Vec::with_capacity(group.len());
        for file in group {
            let bytes = store.get(&file.name.to_string(), 0..u64::MAX).await?;
            let name = file.name;
            inputs.push(Input { name, bytes });
        }
        let there = store.get(&object.key, 0..u64::MAX).await?;
        let wanted = object.clone();
        let proving = tokio::task::spawn_blocking(move || is_same(inputs, there, &wanted)).await;
        if !proving.map_err(SealError::BrokeOff)?? {
            return Err(wrong(format!("it says something else of {}", object.key)));
        }
        objects.push(object);
    }
    if objects.len() != seal.objects.len() {
        return Err(wrong(
            "it names objects that nothing was merged into".to_owned(),
        ));
    }
    Ok(EventHash::of(&bytes))
}

/// Whether files make the object that is there.
fn is_same(
    inputs: Vec<Input>,
    there: Bytes,
    wanted: &SealedObject,
) -> Result<bool, super::MergeError> {
    let merged: Merged = merge(inputs)?;
    let object = if EventHash::of(&there) == merged.object.sha256 {
        merged.object
    } else {
        merge::adopt(&merged, there)?
    };
    Ok(object == *wanted)
}
