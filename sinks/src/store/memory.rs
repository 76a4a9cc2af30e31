//! Evidence kept in the memory of this process. It keeps every promise of a store, locks included, except to outlive
//! the process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};
use parking_lot::Mutex;

use super::{
    CreateOptions, Created, EvidenceStore, ObjectHead, ObjectInfo, Protection, StoreError, key,
};

/// A store in memory.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Object>>,
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    created: Timestamp,
    protection: Protection,
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

    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError> {
        key::check("create", key)?;
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        let created = timestamp(SystemTime::now());
        let protection = Protection {
            retention: options.retention,
            held: options.held,
        };
        let object = Object {
            bytes,
            created,
            protection,
        };
        objects.insert(key.to_owned(), object);
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
                tag: String::new(),
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check("delete", key)?;
        let mut objects = self.objects.lock();
        let object = objects.get(key).ok_or_else(|| not_found(key))?;
        if object.protection.locks_at(timestamp(SystemTime::now())) {
            return Err(StoreError::Refused {
                operation: "delete",
                key: key.to_owned(),
                source: "the object is locked".into(),
            });
        }
        objects.remove(key);
        Ok(())
    }

    async fn locks(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn may_delete(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn protection(&self, key: &str) -> Result<Protection, StoreError> {
        key::check("protection", key)?;
        let protection = self.objects.lock().get(key).map(|o| o.protection);
        protection.ok_or_else(|| not_found(key))
    }

    async fn hold(&self, key: &str, held: bool) -> Result<(), StoreError> {
        key::check("hold", key)?;
        let mut objects = self.objects.lock();
        let object = objects.get_mut(key).ok_or_else(|| not_found(key))?;
        object.protection.held = held;
        Ok(())
    }

    async fn probe(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
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
