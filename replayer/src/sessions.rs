//! Sessions over all files and the tail: found by a prefix of their id, summed up, or read whole.

use std::collections::BTreeMap;

use hoop_schema::SessionId;
use hoop_schema::row::Row;

use crate::evidence::file::SessionFile;
use crate::evidence::tail::ShardTail;
use crate::evidence::{Catalog, Days, Entry, Error, Evidence, StoredFile};
use crate::exit::Failure;
use crate::summary::SessionSummary;

/// Digits of a session id that are shown, unless two sessions share them.
const SHORT_ID_DIGITS: usize = 8;

/// A listing of the files, and what the logs hold after them.
#[derive(Debug)]
pub struct View {
    /// The evidence it is a view of.
    pub evidence: Evidence,
    /// The files.
    pub catalog: Catalog,
    /// The live tails, one per class and shard.
    pub tails: Vec<ShardTail>,
}

impl View {
    /// Lists the files of `days` and reads the tail.
    ///
    /// # Errors
    /// When store or log do not answer.
    pub async fn open(evidence: Evidence, days: &Days) -> Result<Self, Error> {
        let mut catalog = evidence.catalog(days).await?;
        let tails = evidence.tail(&mut catalog, days).await?;
        Ok(Self {
            evidence,
            catalog,
            tails,
        })
    }

    /// Damage of a log that keeps part of its tail from being seen.
    pub fn tail_damage(&self) -> impl Iterator<Item = String> + '_ {
        self.tails
            .iter()
            .filter_map(|tail| tail.damage.as_ref())
            .map(|damage| format!("{damage}; everything before it is shown"))
    }

    /// Entries of the tails with their columns.
    fn tail_rows(&self) -> impl Iterator<Item = (&Entry, Row<'_>)> {
        let entries = self.tails.iter().flat_map(|tail| &tail.entries);
        entries.filter_map(|entry| Some((entry, Row::read(&entry.bytes).ok()?)))
    }

    /// Sums up every session that has an event in the files of this view or in the tail. Files that cannot be read
    /// are named in the second part; they do not hide the others. With `exact`, events are read instead of indexes.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn summaries(&self, exact: bool) -> Result<(Vec<SessionSummary>, Vec<Error>), Error> {
        let mut sessions: BTreeMap<SessionId, SessionSummary> = BTreeMap::new();
        let mut damaged = Vec::new();
        for file in &self.catalog.files {
            match self.evidence.summaries_of(file, exact).await {
                Ok(summaries) => {
                    for summary in summaries {
                        merge(&mut sessions, summary);
                    }
                }
                Err(e @ Error::Damaged { .. }) => damaged.push(e),
                Err(e) => return Err(e),
            }
        }
        for (_, row) in self.tail_rows() {
            let new = || SessionSummary::new(row.session_id, row.ts);
            sessions
                .entry(row.session_id)
                .or_insert_with(new)
                .absorb(&row);
        }
        Ok((sessions.into_values().collect(), damaged))
    }

    /// The one session whose id begins with `prefix`, and the files that hold parts of it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn find(&self, prefix: &str) -> Result<Found, Failure> {
        let prefix = prefix.trim().to_lowercase();
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::usage(format!(
                "{prefix:?} is no session id: give its first hexadecimal digits, as `hoop-replay list` shows them"
            )));
        }
        let wanted = |id: &str| id.starts_with(&prefix);
        let mut found: BTreeMap<SessionId, Vec<(StoredFile, u64, u64)>> = BTreeMap::new();
        let mut damaged = Vec::new();
        for file in &self.catalog.files {
            match self.evidence.sessions_of(file, wanted).await {
                Ok(part) => {
                    for rows in part.sessions {
                        let part = (file.clone(), rows.first_row, rows.row_count);
                        found.entry(rows.session_id).or_default().push(part);
                    }
                }
                Err(e @ Error::Damaged { .. }) => damaged.push(e),
                Err(e) => return Err(e.into()),
            }
        }
        for (_, row) in self.tail_rows() {
            if wanted(&row.session_id.to_string()) {
                found.entry(row.session_id).or_default();
            }
        }
        let mut ids = found.into_iter();
        match (ids.next(), ids.next()) {
            (Some((session_id, parts)), None) => Ok(Found {
                session_id,
                parts,
                damaged,
            }),
            (Some((first, _)), Some((second, _))) => Err(Failure::usage(format!(
                "{} sessions begin with {prefix}, such as {first} and {second}: give more digits",
                2 + ids.count()
            ))),
            (None, _) => match damaged.pop() {
                Some(e) => Err(e.into()),
                None => Err(Failure::not_found(format!(
                    "no session begins with {prefix}: see `hoop-replay list --all` for those there are"
                ))),
            },
        }
    }

    /// All entries of a session: those of the files, then those of the tail.
    ///
    /// # Errors
    /// When the store does not answer. What cannot be read of a damaged file is named in `found.damaged`.
    pub async fn entries(&self, found: &mut Found) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (stored, first_row, row_count) in &found.parts {
            let part = async {
                let file = SessionFile::open(&self.evidence, stored).await?;
                let rows = *first_row..first_row.saturating_add(*row_count);
                let mut stream = file.entries(rows).await?;
                let mut part = Vec::new();
                while let Some(batch) = stream.next().await? {
                    part.extend(batch);
                }
                Ok::<_, Error>(part)
            };
            match part.await {
                Ok(part) => entries.extend(part),
                Err(e @ Error::Damaged { .. }) => found.damaged.push(e),
                Err(e) => return Err(e),
            }
        }
        let session = |row: &Row<'_>| row.session_id == found.session_id;
        let tail = self.tail_rows().filter(|(_, row)| session(row));
        entries.extend(tail.map(|(entry, _)| entry.clone()));
        Ok(entries)
    }
}

/// A session that was asked for.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub session_id: SessionId,
    /// The files that hold parts of it, with its first row and number of rows there.
    pub parts: Vec<(StoredFile, u64, u64)>,
    /// Files that could not be searched or read; they may hold more of it.
    pub damaged: Vec<Error>,
}

fn merge(sessions: &mut BTreeMap<SessionId, SessionSummary>, summary: SessionSummary) {
    match sessions.get_mut(&summary.session_id) {
        Some(known) => known.merge(summary),
        None => drop(sessions.insert(summary.session_id, summary)),
    }
}

/// How many digits tell these sessions apart: at least eight.
pub fn short_id_digits<'a>(ids: impl Iterator<Item = &'a SessionId>) -> usize {
    let mut ids: Vec<String> = ids.map(ToString::to_string).collect();
    ids.sort_unstable();
    ids.dedup();
    let shared = ids.windows(2).map(|pair| {
        let same = pair[0].bytes().zip(pair[1].bytes());
        same.take_while(|(a, b)| a == b).count()
    });
    shared.max().unwrap_or(0).max(SHORT_ID_DIGITS - 1) + 1
}
