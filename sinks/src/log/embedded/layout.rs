//! Names in a log's folder, the file that describes it, its lock, and the small files beside the segments.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hoop_schema::{Class, Shard, SourceId};
use serde::{Deserialize, Serialize};

use super::error::{OpenError, io_error};

const DESCRIPTION: &str = "log.json";
const LOCK: &str = "lock";
const COMMITTED: &str = "committed";
const SPARE: &str = "spare";
const FORMAT_VERSION: u32 = 1;

/// `log.json`: what is fixed when a log is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    format_version: u32,
    pub(crate) class: Class,
    pub(crate) source: SourceId,
    pub(crate) shards: u32,
}

/// The right to write to a log.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Description {
    /// Reads the description of the log in `dir`; `None` when there is none.
    pub(crate) fn read(dir: &Path, class: &Class) -> Result<Option<Self>, OpenError> {
        let file = dir.join(DESCRIPTION);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &file)(error)),
        };
        let wrong = |what: String| OpenError::Description {
            file: file.clone(),
            what,
        };
        let this: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if this.format_version != FORMAT_VERSION {
            return Err(wrong(format!(
                "its format version is {}, this program knows {FORMAT_VERSION}",
                this.format_version
            )));
        }
        if this.class != *class {
            return Err(wrong(format!(
                "it is of class {}, not {}",
                this.class.as_str(),
                class.as_str()
            )));
        }
        if this.shards == 0 {
            return Err(wrong("a log has at least one shard".to_owned()));
        }
        Ok(Some(this))
    }

    /// Reads the description of the log in `dir`, or makes a new log there.
    pub(crate) fn read_or_create(
        dir: &Path,
        class: &Class,
        shards: u32,
    ) -> Result<Self, OpenError> {
        if let Some(this) = Self::read(dir, class)? {
            if this.shards != shards {
                return Err(OpenError::Shards {
                    dir: dir.to_owned(),
                    found: this.shards,
                    wanted: shards,
                });
            }
            return Ok(this);
        }
        let first = shard_dir(dir, Shard(0));
        if !segments(&first).unwrap_or_default().is_empty() {
            return Err(OpenError::Description {
                file: dir.join(DESCRIPTION),
                what:
                    "it is missing, though there are segments; put it back or move the folder aside"
                        .to_owned(),
            });
        }
        let this = Self {
            format_version: FORMAT_VERSION,
            class: class.clone(),
            source: SourceId::from_bytes(random().map_err(io_error("get random bytes for", dir))?),
            shards,
        };
        let text = serde_json::to_vec_pretty(&this).expect("plain fields serialize");
        write_atomically(dir, DESCRIPTION, &text, true)
            .map_err(io_error("describe the log in", dir))?;
        Ok(this)
    }
}

/// Folder of one class's log.
pub(crate) fn class_dir(dir: &Path, class: &Class) -> PathBuf {
    dir.join(class.as_str())
}

/// Folder of one shard.
pub(crate) fn shard_dir(dir: &Path, shard: Shard) -> PathBuf {
    dir.join(format!("shard={shard}"))
}

/// File of the segment whose first record has this position.
pub(crate) fn segment_path(shard_dir: &Path, first: u64) -> PathBuf {
    shard_dir.join(format!("{first:020}.segment"))
}

/// The file that becomes the next segment.
pub(crate) fn spare_path(shard_dir: &Path) -> PathBuf {
    shard_dir.join(SPARE)
}

/// First positions of the segments in a shard's folder, ascending. Other files are passed over.
pub(crate) fn segments(shard_dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(shard_dir)? {
        let name = entry?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".segment"));
        found.extend(
            first
                .filter(|first| first.len() == 20)
                .and_then(|first| first.parse::<u64>().ok()),
        );
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes this process the one writer of the log in `dir`, until the lock is dropped.
pub(crate) fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { file }),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

impl Drop for Lock {
    /// Unlocks in so many words: closing the file is not enough while a child process that is being started still
    /// has a copy of it.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot unlock the log; it is free when this process ends");
        }
    }
}

/// The position up to which a shard is committed, as last written; 0 when it is not known. The checksum keeps a
/// torn file from saying too much.
pub(crate) fn read_committed(shard_dir: &Path) -> u64 {
    let text = fs::read_to_string(shard_dir.join(COMMITTED)).unwrap_or_default();
    let mut words = text.split_whitespace();
    let (Some(number), Some(sum)) = (words.next(), words.next()) else {
        return 0;
    };
    if format!("{:08x}", crc32c::crc32c(number.as_bytes())) == sum {
        number.parse().unwrap_or(0)
    } else {
        0
    }
}

/// Writes the position up to which a shard is committed. Not synced: it is a hint, and an older one does no harm.
pub(crate) fn write_committed(shard_dir: &Path, position: u64) -> io::Result<()> {
    let number = position.to_string();
    let sum = crc32c::crc32c(number.as_bytes());
    write_atomically(
        shard_dir,
        COMMITTED,
        format!("{number} {sum:08x}\n").as_bytes(),
        false,
    )
}

/// Saves bytes that are about to be cut from the end of a log, under a name that was not used before.
pub(crate) fn save_torn(shard_dir: &Path, position: u64, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut tries = 0u32;
    loop {
        let suffix = if tries == 0 {
            String::new()
        } else {
            format!(".{tries}")
        };
        let path = shard_dir.join(format!("torn-{position:020}{suffix}"));
        match OpenOptions::new().create_new(true).write(true).open(&path) {
            Ok(mut file) => {
                file.write_all(bytes)?;
                file.sync_all()?;
                sync_dir(shard_dir)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Makes created, renamed and removed names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    debug_assert_eq!(filled, N, "requests of up to 256 bytes are answered whole");
    Ok(bytes)
}

/// The segments of a shard by first position, with the time each was begun.
pub(crate) type SegmentMap = BTreeMap<u64, hoop_schema::Timestamp>;

fn write_atomically(dir: &Path, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&new, dir.join(name))?;
    if durable {
        sync_dir(dir)?;
    }
    Ok(())
}
