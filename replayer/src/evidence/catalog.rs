//! Which objects there are.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use hoop_schema::evidence::seal::{
    SEAL_BYTES_MAX, SEALED_PREFIX, SEALS_PREFIX, Seal, SealName, SealedFileName,
};
use hoop_schema::evidence::{EVENTS_PREFIX, FileName, SESSIONS_PREFIX, SessionFileName};
use hoop_schema::{Class, Shard, SourceId, Timestamp};
use hoop_sinks::store::{EvidenceStore, ObjectInfo, StoreError};

use super::{Error, Evidence};

/// Events may wait in a spool and clocks may differ: a session file of a neighbouring day can hold an event of a day.
const DAY_SLACK_MICROS: i64 = 86_400_000_000;

/// Which days are of interest. A bound that is absent is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Days {
    since: Option<String>,
    until: Option<String>,
}

impl Days {
    /// The days that can hold events between two points in time.
    pub fn between(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self {
            since: since.map(|t| t.plus_micros(-DAY_SLACK_MICROS).day()),
            until: until.map(|t| t.plus_micros(DAY_SLACK_MICROS).day()),
        }
    }

    /// Whether there is no bound.
    pub fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }

    fn holds(&self, day: &str) -> bool {
        self.since.as_deref().is_none_or(|since| day >= since)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }
}

/// One session file, or sealed object, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name.
    pub name: FileName,
    /// Its length.
    pub bytes: u64,
    /// What tells it apart from another object that lay there before.
    pub version: String,
    /// Length of its index of sessions, if there is one.
    pub index_bytes: Option<u64>,
    /// The index's version, if there is one.
    pub index_version: String,
}

/// Everything a listing shows.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Session files and, of sealed days, sealed objects, by class, shard, log and first position: every event once.
    pub files: Vec<StoredFile>,
    /// Days that are sealed.
    pub seals: BTreeSet<SealName>,
    /// Session files of sealed days. Nobody reads them any more, and they leave.
    pub replaced: Vec<SessionFileName>,
    /// Objects under the prefixes of evidence that are none of ours.
    pub foreign: Vec<String>,
    /// Bytes of all objects listed, days out of interest included.
    pub bytes: u64,
}

/// Which sequence of files a session file belongs to.
pub type Series = (Class, Shard, SourceId);

impl Catalog {
    /// The newest file of every series.
    pub fn newest(&self) -> BTreeMap<Series, &StoredFile> {
        let newest = self.files.iter().map(|file| (file.series(), file));
        newest.collect()
    }
}

impl Catalog {
    /// Whether a day of a class is sealed.
    pub fn is_sealed(&self, class: &Class, day: &str) -> bool {
        self.seals.contains(&SealName {
            class: class.clone(),
            day: day.to_owned(),
        })
    }
}

fn stored(name: FileName, object: &ObjectInfo, index: Option<ObjectInfo>) -> StoredFile {
    let version = |object: &ObjectInfo| format!("{} {}", object.created, object.tag);
    StoredFile {
        name,
        bytes: object.bytes,
        version: version(object),
        index_bytes: index.as_ref().map(|index| index.bytes),
        index_version: index.as_ref().map(version).unwrap_or_default(),
    }
}

impl StoredFile {
    /// Which sequence of files it belongs to.
    pub fn series(&self) -> Series {
        (self.name.class.clone(), self.name.shard, self.name.source)
    }
}

impl Evidence {
    /// Lists the session files of `days`, with their indexes. The newest file of every series is always in it, since
    /// the tail of the log begins where it ends.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn catalog(&self, days: &Days) -> Result<Catalog, Error> {
        let Some(store) = &self.store else {
            return Ok(Catalog::default());
        };
        let mut catalog = Catalog::default();
        let mut indexes = BTreeMap::new();
        let [listed, events, seals, sealed] = self.list(&**store).await?;
        for object in listed {
            catalog.bytes += object.bytes;
            indexes.insert(object.key.clone(), object);
        }
        for object in seals {
            match object.key.parse() {
                Ok(name) => drop(catalog.seals.insert(name)),
                Err(_) => catalog.foreign.push(object.key),
            }
        }
        for object in events {
            catalog.bytes += object.bytes;
            match object.key.parse::<SessionFileName>() {
                Ok(name) if catalog.is_sealed(&name.class, &name.day) => {
                    indexes.remove(&name.index_key());
                    catalog.replaced.push(name);
                }
                Ok(name) => {
                    let index = indexes.remove(&name.index_key());
                    catalog.files.push(stored(name.into(), &object, index));
                }
                Err(_) => catalog.foreign.push(object.key),
            }
        }
        for object in sealed {
            catalog.bytes += object.bytes;
            match object.key.parse::<SealedFileName>() {
                Ok(name) if catalog.is_sealed(&name.class, &name.day) => {
                    let index = indexes.remove(&name.index_key());
                    catalog.files.push(stored(name.into(), &object, index));
                }
                // The sealing of its day is under way, or broke off.
                Ok(_) => {}
                Err(_) => catalog.foreign.push(object.key),
            }
        }
        // An index is written after its session file and expires after it; one without a file is only odd if its
        // name is.
        catalog.foreign.extend(
            indexes
                .into_keys()
                .filter(|key| key.parse::<FileName>().is_err()),
        );
        catalog
            .files
            .sort_by_cached_key(|file| (file.series(), file.name.pos_from));
        if !days.is_all() {
            let newest: BTreeSet<FileName> =
                catalog.newest().values().map(|f| f.name.clone()).collect();
            catalog
                .files
                .retain(|f| days.holds(&f.name.day) || newest.contains(&f.name));
            catalog.seals.retain(|seal| days.holds(&seal.day));
            catalog.replaced.retain(|f| days.holds(&f.day));
        }
        Ok(catalog)
    }

    /// Lists indexes, session files, seals and sealed objects.
    async fn list(&self, store: &dyn EvidenceStore) -> Result<[Vec<ObjectInfo>; 4], StoreError> {
        let list = async |prefix| {
            self.stats.listed();
            store.list(prefix, None).await
        };
        // Sealed objects after the seals: a day's objects were all there before its seal. All else at the same time:
        // the files of a day leave long after its seal came, and an index comes and goes after its file.
        let sealed = async {
            let seals = list(SEALS_PREFIX).await?;
            Ok::<_, StoreError>((seals, list(SEALED_PREFIX).await?))
        };
        let (listed, events, sealed) =
            futures_util::join!(list(SESSIONS_PREFIX), list(EVENTS_PREFIX), sealed);
        let (seals, sealed) = sealed?;
        Ok([listed?, events?, seals, sealed])
    }

    /// Reads a seal.
    ///
    /// # Errors
    /// When the store does not answer, or the seal is damaged.
    pub async fn seal(&self, name: &SealName) -> Result<Seal, Error> {
        let key = name.to_string();
        let damaged = |what: String| Error::Damaged {
            key: key.clone(),
            what,
        };
        let Some(store) = &self.store else {
            return Err(damaged("there is no store to read it from".into()));
        };
        let bytes = store.get(&key, 0..SEAL_BYTES_MAX).await?;
        Seal::read(name, &bytes).map_err(damaged)
    }
}
