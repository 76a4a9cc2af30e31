//! Histories: facts about evidence that change, kept in a store whose objects never do.
//!
//! ```text
//! <folder>/<n:010>.json      an event; n counts from 0, and the last one says how it is now
//! ```
//! Every change is a create-only put of the next number. So nothing is forgotten, and of two who change one thing at a
//! time one is told so. The events stand in no log: each is a strand of its own, and its place is the object's name.

use std::collections::BTreeMap;

use bytes::Bytes;
use hoop_schema::bytes::decode;
use hoop_schema::own::OwnEvents;
use hoop_schema::{Class, Kind, ProducerId, Shard, Timestamp};

use super::{CreateOptions, Created, EvidenceStore, StoreError};

/// The longest event of a history that is read, in bytes; any event is shorter.
const EVENT_BYTES_MAX: u64 = 1 << 20;

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// Name of the cluster that the evidence is of.
    pub cluster: &'a str,
    /// Name of the recorder or tool.
    pub producer_id: &'a ProducerId,
}

/// The last event of a history.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    /// Its number.
    pub(super) number: u64,
    /// When it was written, by the clock of whoever wrote it.
    pub(super) at: Timestamp,
    /// What it says.
    pub(super) kind: Kind,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// What is there is not an event.
    #[error("{0} is no event")]
    Damaged(String),
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[source] StoreError),
}

/// The last event of every history whose folder begins with `prefix`, in order of the folders.
pub(super) async fn latest(
    store: &dyn EvidenceStore,
    prefix: &str,
) -> Result<Vec<Latest>, ReadError> {
    let listed = store.list(prefix, None).await.map_err(ReadError::Store)?;
    // In order of keys, so the last one of each folder is the one that counts.
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for object in listed {
        if let Some((folder, _)) = object.key.rsplit_once('/') {
            last.insert(folder.to_owned(), object.key);
        }
    }
    let mut found = Vec::with_capacity(last.len());
    for key in last.into_values() {
        let bytes = store
            .get(&key, 0..EVENT_BYTES_MAX)
            .await
            .map_err(ReadError::Store)?;
        found.push(read(&key, &bytes).ok_or(ReadError::Damaged(key))?);
    }
    Ok(found)
}

fn read(key: &str, bytes: &[u8]) -> Option<Latest> {
    let (_, name) = key.rsplit_once('/')?;
    let event = decode(bytes).ok()?;
    Some(Latest {
        number: name.strip_suffix(".json")?.parse().ok()?,
        at: event.envelope.ts,
        kind: event.kind,
    })
}

/// Puts the event of this number into a history, if there is none yet.
pub(super) async fn append(
    store: &dyn EvidenceStore,
    folder: &str,
    number: u64,
    writer: Writer<'_>,
    kind: &Kind,
    now: Timestamp,
) -> Result<Created, StoreError> {
    let epoch = u64::try_from(now.as_micros()).unwrap_or_default();
    let mut own = OwnEvents::new(
        writer.cluster,
        writer.producer_id,
        epoch,
        &Class::standard(),
        Shard(0),
    );
    let bytes = Bytes::from(own.make(now, kind));
    let key = format!("{folder}/{number:010}.json");
    store.create(&key, bytes, &CreateOptions::default()).await
}
