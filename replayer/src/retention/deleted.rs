//! What was deleted: with a record, and without one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use hoop_schema::bytes::decode;
use hoop_schema::evidence::{FileName, Footer, RETENTION_PREFIX};
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::{Class, Kind, ProducerId, Shard, Timestamp};
use hoop_sinks::store::EvidenceStore;
use serde::Serialize;

use super::OBJECTS_AT_ONCE;
use crate::evidence::catalog::Series;
use crate::evidence::{Catalog, Error, StoredFile};

/// The longest record that is read, in bytes; any event is shorter.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// A session file that was deleted, or will be, because its term was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeletedFile {
    /// Name of the object.
    pub key: String,
    /// SHA-256 of the object, hexadecimal.
    pub sha256: String,
    /// Its class.
    pub class: Class,
    /// Its shard.
    pub shard: Shard,
    /// Its day.
    pub day: Option<String>,
    /// Number of rows.
    pub rows: u64,
    /// The class's term in seconds, at that time.
    pub term_s: u64,
    /// From when on it could be deleted.
    pub due: Timestamp,
    /// When its deletion was recorded, just before it.
    pub recorded: Timestamp,
    /// Which recorder did it.
    pub by: ProducerId,
    /// Whether it is gone. Else it waits: for a proof to cover the record, for a lock to end, or for a rule of the
    /// bucket.
    pub gone: bool,
}

/// Positions that neither a file nor a record of a deletion covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// The class.
    pub class: Class,
    /// The shard.
    pub shard: Shard,
    /// The first position; absent when it is not known how far back it goes.
    pub pos_from: Option<u64>,
    /// The position after the last.
    pub pos_to: u64,
    /// The file or record after the hole.
    pub before: String,
    /// The file that is named as the one before, if the file after the hole names one.
    pub missing: Option<String>,
}

/// Positions that a session file covers, or covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    series: Series,
    pos_from: u64,
    pos_to: u64,
    key: String,
    previous: Option<String>,
}

impl Span {
    /// What a file says of itself.
    pub(super) fn of(file: &StoredFile, footer: &Footer) -> Self {
        Self {
            series: file.series(),
            pos_from: footer.pos_from,
            pos_to: footer.pos_to,
            key: file.name.to_string(),
            previous: footer
                .previous
                .as_ref()
                .map(|previous| previous.key.clone()),
        }
    }
}

/// All records of deletions.
#[derive(Debug, Default)]
pub struct Deletions {
    records: Vec<(RecorderExpired, Timestamp, ProducerId)>,
}

impl Deletions {
    /// Reads them. What is among them and is no record of a deletion explains nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read(store: &dyn EvidenceStore) -> Result<Self, Error> {
        let listed = store.list(RETENTION_PREFIX, None).await?;
        let mut answers = stream::iter(&listed)
            .map(|object| store.get(&object.key, 0..RECORD_BYTES_MAX))
            .buffered(OBJECTS_AT_ONCE);
        let mut records = Vec::new();
        while let Some(bytes) = answers.next().await {
            let Ok(event) = decode(&bytes?) else { continue };
            if let Kind::RecorderExpired(expired) = event.kind {
                records.push((expired, event.envelope.ts, event.envelope.producer_id));
            }
        }
        records.sort_by(|a, b| (a.1, &a.0.key).cmp(&(b.1, &b.0.key)));
        Ok(Self { records })
    }

    /// The files that they are of, the oldest deletion first.
    pub(super) fn files(&self, catalog: &Catalog) -> Vec<DeletedFile> {
        let files = catalog.files.iter().map(|f| f.name.to_string());
        let replaced = catalog.replaced.iter().map(ToString::to_string);
        let there: BTreeSet<String> = files.chain(replaced).collect();
        let files = self.records.iter().map(|(expired, recorded, by)| {
            let name: Option<FileName> = expired.key.parse().ok();
            DeletedFile {
                key: expired.key.clone(),
                sha256: expired.sha256.clone(),
                class: expired.of_class.clone(),
                shard: expired.of_shard,
                day: name.map(|name| name.day),
                rows: expired.rows,
                term_s: expired.term_s,
                due: expired.due,
                recorded: *recorded,
                by: by.clone(),
                gone: !there.contains(&expired.key),
            }
        });
        files.collect()
    }

    /// Positions that neither a file nor a record covers.
    pub(super) fn unexplained(&self, files: &[Span]) -> Vec<Hole> {
        let mut spans: BTreeMap<Series, Vec<Span>> = BTreeMap::new();
        let recorded = self.records.iter().filter_map(|(expired, _, _)| {
            let name: FileName = expired.key.parse().ok()?;
            Some(Span {
                series: (name.class, name.shard, name.source),
                pos_from: expired.pos_from,
                pos_to: expired.pos_to,
                key: expired.key.clone(),
                previous: None,
            })
        });
        for span in files.iter().cloned().chain(recorded) {
            spans.entry(span.series.clone()).or_default().push(span);
        }
        let mut holes = Vec::new();
        for ((class, shard, _), mut spans) in spans {
            // A file that is there comes before the record of its deletion: it says more.
            spans.sort_by(|a, b| {
                (a.pos_from, a.previous.is_none()).cmp(&(b.pos_from, b.previous.is_none()))
            });
            let known: BTreeSet<String> = spans.iter().map(|span| span.key.clone()).collect();
            let mut covered: Option<u64> = None;
            for span in spans {
                let missing = span.previous.filter(|key| !known.contains(key));
                let is_hole = match covered {
                    Some(covered) => span.pos_from > covered,
                    None => missing.is_some(),
                };
                if is_hole {
                    holes.push(Hole {
                        class: class.clone(),
                        shard,
                        pos_from: covered,
                        pos_to: span.pos_from,
                        before: span.key,
                        missing,
                    });
                }
                covered = covered.max(Some(span.pos_to));
            }
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use hoop_schema::SourceId;
    use hoop_schema::evidence::SessionFileName;

    use super::*;

    fn span(pos_from: u64, pos_to: u64, previous: Option<&str>) -> Span {
        let (class, source) = (Class::standard(), SourceId::from_bytes([7; 4]));
        let name = SessionFileName {
            class: class.clone(),
            day: "2026-11-22".into(),
            shard: Shard(0),
            source,
            pos_from,
        };
        Span {
            series: (class, Shard(0), source),
            pos_from,
            pos_to,
            key: name.to_string(),
            previous: previous.map(str::to_owned),
        }
    }

    fn expired(of: &Span) -> (RecorderExpired, Timestamp, ProducerId) {
        let expired = RecorderExpired {
            key: of.key.clone(),
            sha256: "00".into(),
            of_class: Class::standard(),
            of_shard: Shard(0),
            pos_from: of.pos_from,
            pos_to: of.pos_to,
            rows: 1,
            term_s: 1,
            due: Timestamp::from_micros(1),
        };
        let by = ProducerId::new("recorder-1").unwrap();
        (expired, Timestamp::from_micros(2), by)
    }

    #[test]
    fn what_is_there_or_recorded_is_explained_and_the_rest_is_not() {
        let first = span(1, 5, None);
        let second = span(5, 9, Some(&first.key));
        let third = span(9, 12, Some(&second.key));
        let nothing = Deletions::default();
        let all = [first.clone(), second.clone(), third.clone()];
        assert_eq!(nothing.unexplained(&all), []);
        let recorded = Deletions {
            records: vec![expired(&first), expired(&second)],
        };
        assert_eq!(recorded.unexplained(std::slice::from_ref(&third)), []);
        assert_eq!(recorded.unexplained(&all), [], "recorded and still there");
        let hole = nothing.unexplained(&[first.clone(), third.clone()]);
        assert_eq!((hole[0].pos_from, hole[0].pos_to), (Some(5), 9));
        assert_eq!(hole[0].missing.as_ref(), Some(&second.key));
        let begins = nothing.unexplained(&[third]);
        assert_eq!((begins[0].pos_from, begins[0].pos_to), (None, 9));
    }
}
