//! A directory of evidence, for reading only: this package can prove evidence, never change it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};
use hoop_sinks::store::{Created, EvidenceStore, Metadata, ObjectHead, ObjectInfo, StoreError};
use sha2::{Digest, Sha256};

/// Read at once when an object is hashed.
const HASH_BUFFER_BYTES: usize = 1024 * 1024;

/// Folders below the root: prefix, version, class, day, shard. Deeper ones are not followed.
const DEPTH_MAX: usize = 8;

/// A directory of evidence.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The directory `root`; it is not looked at yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn failed(operation: &'static str, key: &str, source: std::io::Error) -> StoreError {
        if source.kind() == ErrorKind::NotFound {
            return StoreError::NotFound {
                key: key.to_owned(),
            };
        }
        StoreError::Refused {
            operation,
            key: key.to_owned(),
            source: source.into(),
        }
    }

    fn read_only(operation: &'static str, key: &str) -> StoreError {
        StoreError::Refused {
            operation,
            key: key.to_owned(),
            source: "this store is opened for reading only".into(),
        }
    }

    fn walk(
        &self,
        folder: &Path,
        depth: usize,
        found: &mut Vec<ObjectInfo>,
    ) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // A writer makes an object under another name first; such names begin with a dot.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let path = entry.path();
            if metadata.is_dir() && depth < DEPTH_MAX {
                self.walk(&path, depth + 1, found)?;
            } else if metadata.is_file() {
                let below = path.strip_prefix(&self.root).unwrap_or(&path);
                let created = metadata.modified()?.duration_since(UNIX_EPOCH);
                let micros = created.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0));
                found.push(ObjectInfo {
                    key: below.to_string_lossy().into_owned(),
                    bytes: metadata.len(),
                    created: Timestamp::from_micros(micros),
                });
            }
        }
        Ok(())
    }
}

#[async_trait]
impl EvidenceStore for Folder {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    async fn create(&self, key: &str, _: Bytes, _: &Metadata) -> Result<Created, StoreError> {
        Err(Self::read_only("create", key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        let mut file = match File::open(self.root.join(key)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Self::failed("head", key, e)),
        };
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        loop {
            let n = file
                .read(&mut buffer)
                .map_err(|e| Self::failed("head", key, e))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            bytes += n as u64;
        }
        let sha256 = EventHash::from_bytes(hash.finalize().into());
        Ok(Some(ObjectHead { bytes, sha256 }))
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let failed = |e| Self::failed("get", key, e);
        let file = File::open(self.root.join(key)).map_err(failed)?;
        let end = range.end.min(file.metadata().map_err(failed)?.len());
        let length = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start)
            .map_err(failed)?;
        Ok(bytes.into())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        // A prefix may end inside a name; only its folders narrow the walk.
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
        let mut found = Vec::new();
        self.walk(&self.root.join(folder), 0, &mut found)
            .map_err(|e| Self::failed("list", prefix, e))?;
        found.retain(|o| o.key.starts_with(prefix) && after.is_none_or(|after| &*o.key > after));
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        Err(Self::read_only("delete", key))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Err(Self::read_only("probe", ""))
    }
}
