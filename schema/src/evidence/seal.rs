//! Sealed days: the names of their objects, and the seal that commits them.
//!
//! ```text
//! sealed/v1/class=standard/dt=2026-11-22/shard=003/<source 8>-<first:020>-<last:020>.parquet    a stretch of a day
//! seals/v1/class=standard/dt=2026-11-22.json                                                    the commit of the day
//! sessions/v1/class=standard/dt=2026-11-22/shard=003/<source 8>-<first:020>-<last:020>.parquet  its index
//! ```
//! A sealed object holds the rows of session files that follow each other, merged in the order of sessions; it is a
//! session file in its form, [`super::Footer`] included. `first` and `last` are positions of the log, both covered; the
//! next object begins at `last + 1`. Two logs count positions each for itself, so the name says which log it is.
//!
//! **A day counts as sealed from the moment on at which its seal exists.** Then its rows are in `sealed/v1` alone, and
//! whatever lies below `events/v1` of that day is on its way out; before, `sealed/v1` counts for nothing. The seal is put
//! create-only, never changed and never deleted. It names every session file that it replaces, so it is also the record
//! of why they are gone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{PreviousFile, SESSIONS_PREFIX, folders, is_day, position};
use crate::ids::{Class, EventHash, Shard, SourceId};
use crate::time::Timestamp;

/// Prefix of all sealed objects.
pub const SEALED_PREFIX: &str = "sealed/v1/";

/// Prefix of all seals.
pub const SEALS_PREFIX: &str = "seals/v1/";

/// The format version of seals.
pub const SEAL_VERSION: u32 = 1;

/// The longest seal that is read, in bytes: a thousand files of each of a hundred shards take half of it.
pub const SEAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The name of a sealed object, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealedFileName {
    /// The class.
    pub class: Class,
    /// The day, `YYYY-MM-DD`.
    pub day: String,
    /// The shard.
    pub shard: Shard,
    /// The log.
    pub source: SourceId,
    /// First position covered.
    pub pos_from: u64,
    /// Last position covered.
    pub pos_last: u64,
}

/// A name that is not one of a sealed object, or of a seal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a sealed object or a seal: {0:?}")]
pub struct NotSealed(String);

impl SealedFileName {
    /// The name of the object's index of sessions.
    pub fn index_key(&self) -> String {
        format!("{SESSIONS_PREFIX}{}", self.tail())
    }

    /// The seal that the object counts by.
    pub fn seal(&self) -> SealName {
        SealName {
            class: self.class.clone(),
            day: self.day.clone(),
        }
    }

    fn tail(&self) -> String {
        let Self {
            class,
            day,
            shard,
            source,
            pos_from,
            pos_last,
        } = self;
        format!(
            "class={class}/dt={day}/shard={shard}/{source}-{pos_from:020}-{pos_last:020}.parquet"
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text
            .strip_prefix(SEALED_PREFIX)
            .or_else(|| text.strip_prefix(SESSIONS_PREFIX))?;
        let (class, day, shard, file) = folders(rest)?;
        let mut parts = file.split('-');
        let (source, first, last) = (parts.next()?, parts.next()?, parts.next()?);
        let name = Self {
            class,
            day: day.to_owned(),
            shard,
            source: source.parse().ok()?,
            pos_from: position(first)?,
            pos_last: position(last)?,
        };
        (parts.next().is_none() && name.pos_from <= name.pos_last).then_some(name)
    }
}

impl fmt::Display for SealedFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEALED_PREFIX}{}", self.tail())
    }
}

impl FromStr for SealedFileName {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        Self::parse(text).ok_or_else(|| NotSealed(text.to_owned()))
    }
}

/// The name of a seal, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealName {
    /// The class.
    pub class: Class,
    /// The day, `YYYY-MM-DD`.
    pub day: String,
}

impl SealName {
    /// Prefix of all seals of a class.
    pub fn class_prefix(class: &Class) -> String {
        format!("{SEALS_PREFIX}class={class}/")
    }

    /// Prefix of everything that was sealed for this seal.
    pub fn sealed_prefix(&self) -> String {
        format!("{SEALED_PREFIX}class={}/dt={}/", self.class, self.day)
    }

    fn parse(text: &str) -> Option<Self> {
        let (class, day) = text.strip_prefix(SEALS_PREFIX)?.split_once('/')?;
        let day = day.strip_prefix("dt=")?.strip_suffix(".json")?;
        Some(Self {
            class: class.strip_prefix("class=")?.parse().ok()?,
            day: is_day(day).then(|| day.to_owned())?,
        })
    }
}

impl fmt::Display for SealName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEALS_PREFIX}class={}/dt={}.json", self.class, self.day)
    }
}

impl FromStr for SealName {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        Self::parse(text).ok_or_else(|| NotSealed(text.to_owned()))
    }
}

/// What a seal says. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Format version of the seal: 1.
    pub v: u32,
    /// The class.
    pub class: Class,
    /// The day, `YYYY-MM-DD`.
    pub day: String,
    /// When it was sealed, by the clock of the recorder.
    pub sealed: Timestamp,
    /// Which recorder sealed it.
    pub sealed_by: String,
    /// Every sealed object of the day, by shard, log and position.
    pub objects: Vec<SealedObject>,
}

/// One sealed object, and what it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedObject {
    /// Its name.
    pub key: String,
    /// SHA-256 of the object, hexadecimal.
    pub sha256: EventHash,
    /// Its length.
    pub bytes: u64,
    /// The shard.
    pub shard: Shard,
    /// The log.
    pub source: SourceId,
    /// First position covered.
    pub pos_from: u64,
    /// Position after the last one covered.
    pub pos_to: u64,
    /// Number of rows.
    pub rows: u64,
    /// Merkle root over the hashes of its events, in the order of its rows.
    pub events_root: EventHash,
    /// The session files whose rows it holds, in order; each begins where the one before it ends.
    pub replaces: Vec<ReplacedFile>,
}

/// A session file that a sealed object replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedFile {
    /// Its name.
    pub key: String,
    /// SHA-256 of the object, hexadecimal.
    pub sha256: EventHash,
    /// First position covered.
    pub pos_from: u64,
    /// Position after the last one covered.
    pub pos_to: u64,
    /// Number of rows.
    pub rows: u64,
    /// Merkle root over the hashes of its events, in the order of its rows.
    pub events_root: EventHash,
}

impl Seal {
    /// Reads a seal, and makes sure that it is the one that its name promises and that it hangs together: every object's
    /// files cover its positions without a hole and add up to its rows.
    ///
    /// # Errors
    /// In words, when it is not.
    pub fn read(name: &SealName, bytes: &[u8]) -> Result<Self, String> {
        let seal: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if seal.v > SEAL_VERSION {
            let v = seal.v;
            return Err(format!(
                "it has format version {v}, and this build knows {SEAL_VERSION}"
            ));
        }
        if (&seal.class, &seal.day) != (&name.class, &name.day) {
            return Err(format!(
                "it is the seal of class {}, {}",
                seal.class, seal.day
            ));
        }
        for object in &seal.objects {
            object
                .check(name)
                .map_err(|what| format!("{}: {what}", object.key))?;
        }
        Ok(seal)
    }

    /// All files that it replaces.
    pub fn replaced(&self) -> impl Iterator<Item = &ReplacedFile> {
        self.objects.iter().flat_map(|object| &object.replaces)
    }
}

impl SealedObject {
    /// The name that its facts make.
    pub fn name(&self, seal: &SealName) -> SealedFileName {
        SealedFileName {
            class: seal.class.clone(),
            day: seal.day.clone(),
            shard: self.shard,
            source: self.source,
            pos_from: self.pos_from,
            pos_last: self.pos_to.saturating_sub(1),
        }
    }

    /// The last file that it replaces: what the file after it names as the one before.
    pub fn last(&self) -> Option<PreviousFile> {
        self.replaces.last().map(|file| PreviousFile {
            key: file.key.clone(),
            sha256: file.sha256,
        })
    }

    fn check(&self, seal: &SealName) -> Result<(), String> {
        if self.name(seal).to_string() != self.key {
            return Err("its name is not that of what it covers".to_owned());
        }
        let (mut at, mut rows) = (self.pos_from, 0u64);
        for file in &self.replaces {
            if file.pos_from != at || file.pos_to <= at {
                return Err(format!(
                    "the files that it replaces do not follow each other at position {at}"
                ));
            }
            (at, rows) = (file.pos_to, rows.saturating_add(file.rows));
        }
        if at != self.pos_to || rows != self.rows {
            return Err(format!(
                "the files that it replaces have {rows} rows up to position {at}, it has {} up to {}",
                self.rows, self.pos_to
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sealed/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042-00000000000000000077.parquet";

    #[test]
    fn names_round_trip() {
        let name: SealedFileName = KEY.parse().unwrap();
        assert_eq!(name.to_string(), KEY);
        assert_eq!(name.index_key(), KEY.replace("sealed/", "sessions/"));
        assert_eq!(
            name.index_key().parse::<SealedFileName>(),
            Ok(name.clone()),
            "an index is told by the same name"
        );
        let seal = "seals/v1/class=standard/dt=2026-11-22.json";
        assert_eq!(name.seal().to_string(), seal);
        assert_eq!(seal.parse(), Ok(name.seal()));
        assert!(KEY.starts_with(&name.seal().sealed_prefix()));
    }

    #[test]
    fn other_objects_are_neither() {
        for key in [
            "sealed/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042.parquet",
            "sealed/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042-00000000000000000041.parquet",
            "sealed/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042-00000000000000000077-1.parquet",
            "events/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042-00000000000000000077.parquet",
        ] {
            assert!(key.parse::<SealedFileName>().is_err(), "{key}");
        }
        for key in [
            "seals/v1/class=standard/dt=2026-1122.json",
            "seals/v1/class=standard/x/dt=2026-11-22.json",
            "seals/v1/class=standard/dt=2026-11-22.json/x",
        ] {
            assert!(key.parse::<SealName>().is_err(), "{key}");
        }
    }

    fn file(pos_from: u64, pos_to: u64, rows: u64) -> ReplacedFile {
        ReplacedFile {
            key: String::new(),
            sha256: EventHash::of(b"file"),
            pos_from,
            pos_to,
            rows,
            events_root: EventHash::of(b"root"),
        }
    }

    fn read(replaces: Vec<ReplacedFile>) -> Result<Seal, String> {
        let name: SealedFileName = KEY.parse().unwrap();
        let seal = Seal {
            v: SEAL_VERSION,
            class: name.class.clone(),
            day: name.day.clone(),
            sealed: Timestamp::from_micros(1),
            sealed_by: "recorder-1".into(),
            objects: vec![SealedObject {
                key: KEY.into(),
                sha256: EventHash::of(b"object"),
                bytes: 9,
                shard: name.shard,
                source: name.source,
                pos_from: 42,
                pos_to: 78,
                rows: 7,
                events_root: EventHash::of(b"root"),
                replaces,
            }],
        };
        let bytes = serde_json::to_vec(&seal).unwrap();
        let read = Seal::read(&name.seal(), &bytes)?;
        assert_eq!(read, seal);
        Ok(read)
    }

    #[test]
    fn what_a_seal_replaces_has_neither_holes_nor_overlaps() {
        let seal = read(vec![file(42, 50, 3), file(50, 78, 4)]).unwrap();
        assert_eq!(seal.replaced().count(), 2);
        assert!(read(vec![file(42, 50, 3), file(51, 78, 4)]).is_err());
        assert!(read(vec![file(42, 50, 3), file(49, 78, 4)]).is_err());
        assert!(read(vec![file(42, 50, 3), file(50, 78, 5)]).is_err());
        assert!(read(vec![file(42, 50, 7)]).is_err());
    }
}
