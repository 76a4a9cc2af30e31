//! The local cache of a bucket's evidence: ranges of objects that never change, so that asking a second time is quick
//! and cheap.
//!
//! ```text
//! <cache>/<SHA-256 of what it is, 64 hexadecimal digits>      one range of one object, 0600
//! <cache>/new-<process>-<number>                              one that is being written
//! entry:  "hoopcch1" | SHA-256 over (its name | bytes), 32 bytes | the bytes
//! ```
//! What a range is: place, key, length and version of the object as a listing that was made just now shows them, and its
//! first and last byte. An object that is replaced in the bucket has another version, so what is kept of it is not found.
//!
//! Promise: what comes out went in under the same name, or nothing comes out. An entry that does not have its checksum is
//! removed and read from the bucket again. Any number of processes may use one cache: an entry appears whole, by a rename,
//! and whoever looks for one that another process has just removed reads from the bucket. Nothing is synced: a torn entry
//! does not have its checksum.
//!
//! It is evidence that lies here, in part: the folder is for its owner alone (0700). It is bounded by bytes: when they are
//! passed, the entries that nobody has read for longest go first. Deleting all of it is always right.
//!
//! Not here: proofs. `verify` proves what lies in the bucket, not a copy of it on this machine.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hoop_schema::EventHash;
use sha2::{Digest, Sha256};

/// How an entry begins.
const MAGIC: &[u8; 8] = b"hoopcch1";

/// Bytes of an entry before those of the range.
const HEADER_BYTES: usize = MAGIC.len() + 32;

/// A longer range is not kept.
const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a cache where nothing else is said: a few thousand indexes, and the sessions that were looked at.
pub const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What is left when the oldest entries went: a tenth of room, so that not every entry is followed by a look at all.
const KEPT_TENTHS: u64 = 9;

/// How names of entries begin that are being written.
const UNFINISHED: &str = "new-";

/// An unfinished entry this old is of a process that has ended.
const UNFINISHED_MAX: Duration = Duration::from_secs(3600);

/// What the environment says about the cache; passed in, so that tests can say it.
#[derive(Debug, Clone, Default)]
pub struct CacheEnvironment {
    /// `HOOP_REPLAY_CACHE`: the folder, or `off`.
    pub cache: Option<OsString>,
    /// `HOOP_REPLAY_CACHE_BYTES`: how large it may get.
    pub bytes_max: Option<String>,
    /// `XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
}

impl CacheEnvironment {
    /// What the environment of this process says.
    pub fn of_process() -> Self {
        Self {
            cache: std::env::var_os("HOOP_REPLAY_CACHE"),
            bytes_max: std::env::var("HOOP_REPLAY_CACHE_BYTES").ok(),
            xdg_cache_home: std::env::var_os("XDG_CACHE_HOME"),
            home: std::env::var_os("HOME"),
        }
    }

    /// Opens the cache that the environment names; `None` where it is turned off, or there is no home for it.
    ///
    /// # Errors
    /// When the size is none, or the folder cannot be used.
    pub fn open(&self) -> Result<Option<Cache>, String> {
        let bytes_max = match &self.bytes_max {
            None => BYTES_MAX,
            Some(text) => text.trim().parse().map_err(|_| {
                format!("HOOP_REPLAY_CACHE_BYTES is {text:?}: write a number of bytes")
            })?,
        };
        let named = |value: &Option<OsString>| value.clone().filter(|v| !v.is_empty());
        let folder = match named(&self.cache) {
            Some(off) if off == "off" => return Ok(None),
            Some(folder) => PathBuf::from(folder),
            None => {
                // A relative path is to be ignored, says the specification of these folders.
                let xdg = named(&self.xdg_cache_home).map(PathBuf::from);
                let home = || Some(Path::new(&named(&self.home)?).join(".cache"));
                match xdg.filter(|path| path.is_absolute()).or_else(home) {
                    Some(caches) => caches.join("hoop-replay"),
                    None => return Ok(None),
                }
            }
        };
        match Cache::open(&folder, bytes_max) {
            Ok(cache) => Ok(Some(cache)),
            Err(error) => Err(format!(
                "the cache {} cannot be used ({error}): name another folder with HOOP_REPLAY_CACHE, or say --no-cache",
                folder.display()
            )),
        }
    }
}

/// Which object, in which version.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// The object of this name and length in a place, of this version.
    pub fn new(place: &str, key: &str, bytes: u64, version: &str) -> Self {
        Self(format!("{place}\n{key}\n{bytes}\n{version}"))
    }

    /// Name of the entry of a range.
    fn entry(&self, range: &Range<u64>) -> String {
        let text = format!("{}\n{}\n{}", self.0, range.start, range.end);
        EventHash::of(text.as_bytes()).to_string()
    }
}

/// A folder of ranges.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    /// Bytes in the cache as far as this process knows; `None` before it has looked.
    bytes: Mutex<Option<u64>>,
}

/// Entries that this process has begun to write.
static BEGUN: AtomicU64 = AtomicU64::new(0);

impl Cache {
    /// Opens a cache, and creates its folder where it is missing. A folder that others may enter is closed to them.
    ///
    /// # Errors
    /// When it cannot be created, or belongs to somebody else.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let metadata = fs::metadata(folder)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to somebody else"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            bytes_max,
            bytes: Mutex::default(),
        })
    }

    /// The bytes of a range, if they are here.
    pub async fn get(self: &Arc<Self>, identity: &Identity, range: &Range<u64>) -> Option<Bytes> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if length > ENTRY_BYTES_MAX {
            return None;
        }
        let (cache, entry) = (Arc::clone(self), identity.entry(range));
        let read = tokio::task::spawn_blocking(move || cache.read(&entry, length));
        read.await.ok()?
    }

    /// Keeps the bytes of a range. What cannot be kept is not: the bucket has it.
    pub async fn put(self: &Arc<Self>, identity: &Identity, range: &Range<u64>, bytes: &Bytes) {
        if bytes.len() > ENTRY_BYTES_MAX || bytes.len() as u64 > self.bytes_max / 4 {
            return;
        }
        let (cache, entry, bytes) = (Arc::clone(self), identity.entry(range), bytes.clone());
        let written = tokio::task::spawn_blocking(move || {
            if cache.write(&entry, &bytes).is_ok() {
                cache.make_room(bytes.len() + HEADER_BYTES);
            }
        });
        drop(written.await);
    }

    fn read(&self, entry: &str, length: usize) -> Option<Bytes> {
        let path = self.folder.join(entry);
        let mut file = File::open(&path).ok()?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + length + 1);
        // One more than there may be, so that an entry that is too long shows.
        let limit = (HEADER_BYTES + length + 1) as u64;
        let read = (&mut file).take(limit).read_to_end(&mut bytes);
        let whole = read.is_ok()
            && bytes.len() == HEADER_BYTES + length
            && bytes.starts_with(MAGIC)
            && bytes[MAGIC.len()..HEADER_BYTES] == checksum(entry, &bytes[HEADER_BYTES..]);
        if !whole {
            fs::remove_file(&path).ok();
            return None;
        }
        // Who is read last goes last.
        file.set_modified(SystemTime::now()).ok();
        Some(Bytes::from(bytes).slice(HEADER_BYTES..))
    }

    fn write(&self, entry: &str, bytes: &[u8]) -> io::Result<()> {
        let number = BEGUN.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{UNFINISHED}{}-{number}", std::process::id());
        let unfinished = self.folder.join(unfinished);
        // Processes of different containers can have one number; of those, one keeps its entry.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        let mut write = || {
            file.write_all(MAGIC)?;
            file.write_all(&checksum(entry, bytes))?;
            file.write_all(bytes)?;
            fs::rename(&unfinished, self.folder.join(entry))
        };
        let written = write();
        if written.is_err() {
            fs::remove_file(&unfinished).ok();
        }
        written
    }

    /// Counts what was written, and removes the oldest entries when there are too many bytes.
    fn make_room(&self, written_bytes: usize) {
        let mut known = self.bytes.lock().unwrap_or_else(|e| e.into_inner());
        let bytes = match *known {
            Some(bytes) => bytes + written_bytes as u64,
            None => self.entries().iter().map(|entry| entry.bytes).sum(),
        };
        *known = Some(bytes);
        if bytes <= self.bytes_max {
            return;
        }
        let mut entries = self.entries();
        entries.sort_by_key(|entry| entry.read);
        let mut left: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            if left <= self.bytes_max / 10 * KEPT_TENTHS {
                break;
            }
            // Another process may have been faster.
            fs::remove_file(&entry.path).ok();
            left -= entry.bytes;
        }
        *known = Some(left);
    }

    /// All entries. What a process that has ended left unfinished is removed.
    fn entries(&self) -> Vec<Entry> {
        let Ok(listed) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for listed in listed.flatten() {
            let Ok(metadata) = listed.metadata() else {
                continue;
            };
            let read = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = listed.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(UNFINISHED) {
                if read.elapsed().is_ok_and(|age| age > UNFINISHED_MAX) {
                    fs::remove_file(listed.path()).ok();
                }
            // Whatever else lies here is none of ours.
            } else if name.parse::<EventHash>().is_ok() && metadata.is_file() {
                entries.push(Entry {
                    path: listed.path(),
                    bytes: metadata.len(),
                    read,
                });
            }
        }
        entries
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    /// When it was read last.
    read: SystemTime,
}

/// Over the name too: an entry under the name of another is no entry.
fn checksum(entry: &str, bytes: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(entry.as_bytes())
        .chain_update(bytes)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests;
