//! Evidence in a directory: one file per object, at the path that is its key.
//!
//! ```text
//! <root>/events/v1/class=standard/dt=2026-11-22/shard=000/00ff00ff-00000000000000000042.parquet
//! <root>/+tmp/<process>-<number>-<nanoseconds>        objects that are being written; no key can begin with `+`
//! ```
//! A put writes and syncs a file under `+tmp`, gives it its name with a hard link, which fails if the name is taken
//! (a rename that does not replace, where the file system has no links), and then syncs every folder down to it.
//! So an object is whole from the moment it can be seen, and after the answer it survives a loss of power.
//! What a crash leaves under `+tmp` is nobody's object; it is cleared away when the directory is opened.
//!
//! Not here: locks against deletion. Whoever may write to the directory may delete from it, so puts that ask for a
//! retention term and legal holds are refused rather than noted beside the object as if they were kept.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::EventHash;
use sha2::{Digest, Sha256};

use super::memory::{not_found, timestamp};
use super::{
    CreateOptions, Created, EvidenceStore, ObjectHead, ObjectInfo, Protection, Source, StoreError,
    key,
};

/// Folder of objects that are being written. `+` is no character of a key.
const TEMPORARY: &str = "+tmp";

/// Age from which a file under `+tmp` is taken for a leftover. A put takes seconds, so nobody writes it any more; if
/// somebody does after all, its put fails and is tried again.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Bytes read at once when an object is hashed: large enough that calls do not count, small enough for any stack.
const HASH_CHUNK_BYTES: usize = 64 * 1024;

/// A store in a directory.
#[derive(Debug, Clone)]
pub struct Dir {
    root: Arc<Path>,
    read_only: bool,
}

impl Dir {
    /// Opens the directory for writing, creates it where it is missing, and clears leftovers of crashed puts away.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] when it cannot be created or written to.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let unfit = |e: io::Error| StoreError::Unfit {
            place: root.display().to_string(),
            why: format!(
                "cannot create or read the directory: {e}; give a directory that can be written to"
            ),
        };
        fs::create_dir_all(root.join(TEMPORARY)).map_err(unfit)?;
        clear_leftovers(&root.join(TEMPORARY), LEFTOVER_AGE).map_err(unfit)?;
        sync_folder(root).map_err(unfit)?;
        Ok(Self {
            root: root.into(),
            read_only: false,
        })
    }

    /// Opens the directory for reading only: nothing in it is changed, and puts and deletes are refused.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] when it is not a directory.
    pub fn read_only(root: &Path) -> Result<Self, StoreError> {
        if !root.is_dir() {
            return Err(StoreError::Unfit {
                place: root.display().to_string(),
                why: "there is no such directory; give the one that the recorder writes to"
                    .to_owned(),
            });
        }
        Ok(Self {
            root: root.into(),
            read_only: true,
        })
    }

    /// Runs blocking file work off the asynchronous threads.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Path, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (root, owned) = (Arc::clone(&self.root), key.to_owned());
        match tokio::task::spawn_blocking(move || work(&root, &owned)).await {
            Ok(result) => result,
            Err(e) => Err(unknown(operation, key, e)),
        }
    }

    fn cannot_lock(&self, what: &'static str) -> StoreError {
        StoreError::CannotLock {
            place: self.place(),
            what,
        }
    }

    fn check_change(&self, operation: &'static str, key: &str) -> Result<(), StoreError> {
        key::check(operation, key)?;
        if self.read_only {
            return Err(refused(
                operation,
                key,
                "the directory was opened for reading only",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl EvidenceStore for Dir {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError> {
        self.check_change("create", key)?;
        if options.retention.is_some() || options.held {
            return Err(self.cannot_lock("a put with a lock"));
        }
        self.blocking("create", key, move |root, key| create(root, key, &bytes))
            .await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        key::check("head", key)?;
        self.blocking("head", key, |root, key| {
            match File::open(root.join(key)).and_then(hash) {
                Ok(head) => Ok(Some(head)),
                Err(e) if is_missing(&e) => Ok(None),
                Err(e) => Err(refused("head", key, e)),
            }
        })
        .await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        key::check("get", key)?;
        self.blocking("get", key, move |root, key| {
            read_range(&root.join(key), range).map_err(|e| {
                if is_missing(&e) {
                    not_found(key)
                } else {
                    refused("get", key, e)
                }
            })
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        if prefix
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err(refused("list", prefix, "a prefix stays within the store"));
        }
        let after = after.map(str::to_owned);
        self.blocking("list", prefix, move |root, prefix| {
            list(root, prefix, after.as_deref()).map_err(|e| refused("list", prefix, e))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check_change("delete", key)?;
        self.blocking("delete", key, |root, key| {
            let path = root.join(key);
            fs::remove_file(&path).map_err(|e| {
                if is_missing(&e) {
                    not_found(key)
                } else {
                    refused("delete", key, e)
                }
            })?;
            path.parent()
                .map_or(Ok(()), sync_folder)
                .map_err(|e| unknown("delete", key, e))
        })
        .await
    }

    async fn locks(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn may_delete(&self) -> Result<bool, StoreError> {
        self.blocking("delete", "", |root, _| {
            Ok(rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_ok())
        })
        .await
    }

    async fn protection(&self, key: &str) -> Result<Protection, StoreError> {
        key::check("protection", key)?;
        self.blocking("protection", key, |root, key| {
            match fs::metadata(root.join(key)) {
                Ok(found) if found.is_file() => Ok(Protection::default()),
                Ok(_) => Err(not_found(key)),
                Err(e) if is_missing(&e) => Err(not_found(key)),
                Err(e) => Err(refused("protection", key, e)),
            }
        })
        .await
    }

    async fn hold(&self, key: &str, _: bool) -> Result<(), StoreError> {
        self.protection(key).await?;
        Err(self.cannot_lock("a legal hold"))
    }

    async fn probe(&self) -> Result<Vec<String>, StoreError> {
        let unfit = |why: String| StoreError::Unfit {
            place: self.place(),
            why,
        };
        let key = format!("probe/v1/{}", unique_name());
        let mut answers = Vec::new();
        for bytes in [&b"first"[..], b"second"] {
            let put = self
                .create(&key, Bytes::from_static(bytes), &CreateOptions::default())
                .await;
            answers.push(
                put.map_err(|e| unfit(format!("cannot create objects: {}", with_causes(&e))))?,
            );
        }
        let kept = self.get(&key, 0..u64::MAX).await?;
        self.delete(&key).await?;
        if answers != [Created::Created, Created::Exists] || kept != b"first"[..] {
            return Err(unfit(
                "a second put of one name was not refused; use a local file system".to_owned(),
            ));
        }
        Ok(Vec::new())
    }
}

/// The put: see the module's documentation. Until the name is given, a failure leaves nothing behind.
fn create(root: &Path, key: &str, bytes: &[u8]) -> Result<Created, StoreError> {
    let target = root.join(key);
    let folder = target.parent().unwrap_or(root);
    let temporary = root.join(TEMPORARY).join(unique_name());
    let prepared = write_synced(&temporary, bytes).and_then(|()| fs::create_dir_all(folder));
    if let Err(e) = prepared {
        remove_temporary(&temporary);
        return Err(refused("create", key, e));
    }
    let named = give_name(&temporary, &target);
    remove_temporary(&temporary);
    let created = match named {
        Ok(()) => Created::Created,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Created::Exists,
        Err(e) if is_missing(&e) => return Err(refused("create", key, e)),
        Err(e) => return Err(unknown("create", key, e)),
    };
    // Also when it exists: whoever made it may not have come to syncing the folders, and the caller will rely on it.
    sync_down(root, folder).map_err(|e| unknown("create", key, e))?;
    Ok(created)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the file its name unless the name is taken, in one step.
fn give_name(temporary: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, target) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::Unsupported
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::TooManyLinks
            ) =>
        {
            rename_without_replacing(temporary, target).map_err(|_| e)
        }
        answer => answer,
    }
}

#[cfg(target_os = "linux")]
fn rename_without_replacing(temporary: &Path, target: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(
        CWD,
        temporary,
        CWD,
        target,
        RenameFlags::NOREPLACE,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn rename_without_replacing(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Best effort: what stays is a leftover, cleared away at the next opening.
fn remove_temporary(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && !is_missing(&e)
    {
        tracing::warn!(error = %e, "cannot remove a temporary file of the evidence store");
    }
}

/// Syncs every folder from `root` down to `folder`. Clean folders cost next to nothing.
fn sync_down(root: &Path, folder: &Path) -> io::Result<()> {
    for ancestor in folder.ancestors() {
        sync_folder(ancestor)?;
        if ancestor == root {
            break;
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn clear_leftovers(folder: &Path, age: Duration) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let modified = entry.metadata().and_then(|m| m.modified());
        if modified.is_ok_and(|m| m.elapsed().is_ok_and(|elapsed| elapsed >= age)) {
            remove_temporary(&entry.path());
        }
    }
    Ok(())
}

fn hash(mut file: File) -> io::Result<ObjectHead> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        digest.update(&chunk[..n]);
        bytes += n as u64;
    }
    Ok(ObjectHead {
        bytes,
        sha256: EventHash::from_bytes(digest.finalize().into()),
    })
}

fn read_range(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let end = range.end.min(length);
    let start = range.start.min(end);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::with_capacity(usize::try_from(end - start).map_err(io::Error::other)?);
    file.take(end - start).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn list(root: &Path, prefix: &str, after: Option<&str>) -> io::Result<Vec<ObjectInfo>> {
    let mut found = Vec::new();
    // Begin in the deepest folder that the prefix names whole.
    let mut folders = vec![
        prefix
            .rfind('/')
            .map_or(String::new(), |slash| prefix[..=slash].to_owned()),
    ];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Err(e) if is_missing(&e) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(|n| format!("{folder}{n}")) else {
                continue;
            };
            if entry.file_type()?.is_dir() {
                let inside = format!("{name}/");
                let wanted = inside.starts_with(prefix) || prefix.starts_with(&inside);
                let passed = after
                    .is_some_and(|after| after > inside.as_str() && !after.starts_with(&inside));
                if wanted && !passed && !inside.starts_with('+') {
                    folders.push(inside);
                }
            } else if name.starts_with(prefix) && after.is_none_or(|after| name.as_str() > after) {
                found.extend(info(&entry, name)?);
            }
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

/// `None` for a file that is no object, or that has gone since the folder was read.
fn info(entry: &DirEntry, name: String) -> io::Result<Option<ObjectInfo>> {
    if key::check("list", &name).is_err() || !entry.file_type()?.is_file() {
        return Ok(None);
    }
    match entry.metadata() {
        Err(e) if is_missing(&e) => Ok(None),
        metadata => {
            let metadata = metadata?;
            let created = timestamp(metadata.modified()?);
            Ok(Some(ObjectInfo {
                key: name,
                bytes: metadata.len(),
                created,
                tag: String::new(),
            }))
        }
    }
}

/// Whether there is no such object. A path through a file, as in `a/b` beside an object `a`, is missing too, and a
/// folder is no object.
fn is_missing(e: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(e.kind(), NotFound | NotADirectory | IsADirectory)
}

/// A name that no other put uses, of this or another process.
fn unique_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{number}-{}", std::process::id(), since.as_nanos())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

fn refused(operation: &'static str, key: &str, source: impl Into<Source>) -> StoreError {
    StoreError::Refused {
        operation,
        key: key.to_owned(),
        source: source.into(),
    }
}

fn unknown(operation: &'static str, key: &str, source: impl Into<Source>) -> StoreError {
    StoreError::Unknown {
        operation,
        key: key.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
