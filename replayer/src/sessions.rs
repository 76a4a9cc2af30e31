//! Sessions over all files and the tail: summed up, or read whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use hoop_schema::row::Row;
use hoop_schema::{Class, SessionId};

use crate::contents::Contents;
use crate::evidence::file::SessionFile;
use crate::evidence::tail::ShardTail;
use crate::evidence::{Catalog, Days, Entry, Error, Evidence, StoredFile};
use crate::output::Progress;
use crate::summary::SessionSummary;
use crate::when::counted;

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
    /// What makes encrypted content readable; without it, entries come as they were recorded.
    pub contents: Option<Arc<Contents>>,
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
            contents: None,
        })
    }

    /// What is wrong with the keys and the content that were read.
    pub async fn content_damage(&self) -> Vec<String> {
        match &self.contents {
            Some(contents) => contents.damage().await,
            None => Vec::new(),
        }
    }

    /// Makes an entry readable, where that is asked for.
    pub(crate) async fn readable(&self, mut entry: Entry) -> Result<Entry, Error> {
        if let Some(contents) = &self.contents {
            contents.read(&mut entry).await?;
        }
        Ok(entry)
    }

    /// What keeps part of a tail from being seen: damage, and logs that do not answer.
    pub fn tail_damage(&self) -> impl Iterator<Item = String> + '_ {
        let damage = self.tails.iter().filter_map(|tail| tail.damage.as_ref());
        let damage = damage.map(|damage| format!("{damage}; everything before it is shown"));
        damage.chain(self.logs_away())
    }

    /// Logs that do not answer: which, why, and what that means. Without an answer, events that are in no file yet are not
    /// seen.
    pub fn logs_away(&self) -> impl Iterator<Item = String> + '_ {
        // The shards of one log are away for one reason.
        let mut reasons: BTreeMap<String, (Option<&Class>, u64)> = BTreeMap::new();
        for tail in &self.tails {
            if let Some(away) = &tail.away {
                let reason = with_causes(away);
                let (_, shards) = reasons.entry(reason).or_insert((tail.class.as_ref(), 0));
                *shards += 1;
            }
        }
        let of_shards = reasons.into_iter().map(|(reason, (class, shards))| {
            let class = class.map_or("?", Class::as_str);
            let shards = counted(shards, "shard");
            format!("{shards} of the log, the first of class {class}: {reason}")
        });
        let opened = self.evidence.logs_away.iter().cloned();
        opened.chain(of_shards).map(|away| {
            format!("{away}; only what is in files is shown, the newest events may be missing")
        })
    }

    /// Whether a log did not answer.
    pub fn is_without_a_log(&self) -> bool {
        !self.evidence.logs_away.is_empty() || self.tails.iter().any(|tail| tail.away.is_some())
    }

    /// Entries of the tails with their columns.
    fn tail_rows(&self) -> impl Iterator<Item = (&Entry, Row<'_>)> {
        let entries = self.tails.iter().flat_map(|tail| &tail.entries);
        entries.filter_map(|entry| Some((entry, Row::read(&entry.bytes).ok()?)))
    }

    /// The sessions of the tails, each with its user as far as one of its events says it.
    pub fn tail_sessions(&self) -> impl Iterator<Item = (SessionId, Option<String>)> + '_ {
        let user = |row: &Row<'_>| row.user().map(|user| user.username.to_string());
        self.tail_rows()
            .map(move |(_, row)| (row.session_id, user(&row)))
    }

    /// Name of the cluster that the evidence is of, by the newest event that can be read.
    pub async fn cluster(&self) -> Option<String> {
        let tail = self.tails.iter().flat_map(|tail| &tail.entries).last();
        let mut event = tail.map(|entry| entry.bytes.clone());
        for stored in self.catalog.newest().into_values() {
            if event.is_none() {
                event = first_event(&self.evidence, stored).await;
            }
        }
        let event = hoop_schema::bytes::decode(&event?).ok()?;
        Some(event.envelope.cluster)
    }

    /// Sums up every session that has an event in the files of this view or in the tail. Files that cannot be read
    /// are named in the second part; they do not hide the others. With `exact`, events are read instead of indexes.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn summaries(
        &self,
        exact: bool,
        progress: &mut Progress,
    ) -> Result<(Vec<SessionSummary>, Vec<Error>), Error> {
        let mut sessions: BTreeMap<SessionId, SessionSummary> = BTreeMap::new();
        let mut damaged = Vec::new();
        let bytes = |file: &StoredFile| match file.index_bytes.filter(|_| !exact) {
            Some(bytes) => bytes,
            None => file.bytes,
        };
        progress.expect(self.catalog.files.iter().map(bytes).sum());
        let reach = self.evidence.reach;
        let at_once = match exact {
            true => reach.files_ahead(),
            false => reach.requests_at_once(),
        };
        let ask = async |file| (file, self.evidence.summaries_of(file, exact).await);
        let mut answers = stream::iter(&self.catalog.files).map(ask).buffered(at_once);
        while let Some((file, answer)) = answers.next().await {
            progress.advance(bytes(file), &file.name.to_string());
            match answer {
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

    /// All entries of a session: those of the files, then those of the tail.
    ///
    /// # Errors
    /// When the store does not answer. What cannot be read of a damaged file is named in `found.damaged`.
    pub async fn entries(&self, found: &mut Found) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let reach = self.evidence.reach;
        let read = async |part: &(StoredFile, u64, u64)| self.part(part).await;
        let mut parts = stream::iter(&found.parts)
            .map(read)
            .buffered(reach.files_ahead());
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => entries.extend(part),
                Err(e @ Error::Damaged { .. }) => found.damaged.push(e),
                Err(e) => return Err(e),
            }
        }
        drop(parts);
        let session = |row: &Row<'_>| row.session_id == found.session_id;
        let tail = self.tail_rows().filter(|(_, row)| session(row));
        entries.extend(tail.map(|(entry, _)| entry.clone()));
        let mut readable = Vec::with_capacity(entries.len());
        for entry in entries {
            readable.push(self.readable(entry).await?);
        }
        Ok(readable)
    }
}

impl View {
    /// The entries of a session in one file.
    async fn part(&self, part: &(StoredFile, u64, u64)) -> Result<Vec<Entry>, Error> {
        let (stored, first_row, row_count) = part;
        let file = SessionFile::open(&self.evidence, stored).await?;
        let rows = *first_row..first_row.saturating_add(*row_count);
        let mut stream = file.entries(rows).await?;
        let mut part = Vec::new();
        while let Some(batch) = stream.next().await? {
            part.extend(batch);
        }
        Ok(part)
    }
}

async fn first_event(evidence: &Evidence, stored: &StoredFile) -> Option<bytes::Bytes> {
    let file = SessionFile::open(evidence, stored).await.ok()?;
    let mut entries = file.entries(0..1).await.ok()?;
    let first = entries.next().await.ok()??.into_iter().next();
    first.map(|entry| entry.bytes)
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

/// An error with everything below it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        below = cause.source();
    }
    text
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
