//! Evidence kept in the memory of this process. It keeps every promise of a store except to outlive the process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};
use parking_lot::Mutex;

use super::{Created, EvidenceStore, Metadata, ObjectHead, ObjectInfo, StoreError, key};

/// A store in memory.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Object>>,
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    created: Timestamp,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl EvidenceStore for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    async fn create(&self, key: &str, bytes: Bytes, _: &Metadata) -> Result<Created, StoreError> {
        key::check("create", key)?;
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        let created = timestamp(SystemTime::now());
        objects.insert(key.to_owned(), Object { bytes, created });
        Ok(Created::Created)
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        key::check("head", key)?;
        let bytes = self.objects.lock().get(key).map(|o| o.bytes.clone());
        Ok(bytes.map(|bytes| ObjectHead {
            bytes: bytes.len() as u64,
            sha256: EventHash::of(&bytes),
        }))
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        key::check("get", key)?;
        let objects = self.objects.lock();
        let object = objects.get(key).ok_or_else(|| not_found(key))?;
        let clip = |at: u64| {
            usize::try_from(at).map_or(object.bytes.len(), |at| at.min(object.bytes.len()))
        };
        let end = clip(range.end);
        Ok(object.bytes.slice(clip(range.start).min(end)..end))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.objects.lock();
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        Ok(objects
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .map(|(key, object)| ObjectInfo {
                key: key.clone(),
                bytes: object.bytes.len() as u64,
                created: object.created,
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check("delete", key)?;
        let gone = self.objects.lock().remove(key);
        gone.map(drop).ok_or_else(|| not_found(key))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(super) fn not_found(key: &str) -> StoreError {
    StoreError::NotFound {
        key: key.to_owned(),
    }
}

/// A time of the system's clock as events write it.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    let micros = |d: std::time::Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    crate::evidence_store_conformance!(|| async {
        Arc::new(Memory::new()) as Arc<dyn EvidenceStore>
    });
}
