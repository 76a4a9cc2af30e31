//! Which objects there are.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use hoop_schema::evidence::{EVENTS_PREFIX, SESSIONS_PREFIX, SessionFileName};
use hoop_schema::{Class, Shard, SourceId, Timestamp};

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

/// One session file as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name.
    pub name: SessionFileName,
    /// Its length.
    pub bytes: u64,
    /// Length of its index of sessions, if there is one.
    pub index_bytes: Option<u64>,
}

/// Everything a listing shows.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Session files, by class, shard, log and first position.
    pub files: Vec<StoredFile>,
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
        for object in store.list(SESSIONS_PREFIX, None).await? {
            catalog.bytes += object.bytes;
            indexes.insert(object.key, object.bytes);
        }
        for object in store.list(EVENTS_PREFIX, None).await? {
            catalog.bytes += object.bytes;
            match object.key.parse::<SessionFileName>() {
                Ok(name) => catalog.files.push(StoredFile {
                    index_bytes: indexes.remove(&name.index_key()),
                    name,
                    bytes: object.bytes,
                }),
                Err(_) => catalog.foreign.push(object.key),
            }
        }
        // An index is written after its session file and expires after it; one without a file is only odd if its
        // name is.
        catalog.foreign.extend(
            indexes
                .into_keys()
                .filter(|key| key.parse::<SessionFileName>().is_err()),
        );
        catalog
            .files
            .sort_by_cached_key(|file| (file.series(), file.name.pos_from));
        if !days.is_all() {
            let newest: BTreeSet<SessionFileName> =
                catalog.newest().values().map(|f| f.name.clone()).collect();
            catalog
                .files
                .retain(|f| days.holds(&f.name.day) || newest.contains(&f.name));
        }
        Ok(catalog)
    }
}
