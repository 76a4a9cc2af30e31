//! Proves that the evidence is whole and unaltered, or names what is not.
//!
//! Every file is hashed and read to its last row. What is checked of it: that its name and its footer agree, that it
//! begins where the one before it ended and names that one's hash, that every typed column says what its event says,
//! that the Merkle root over its events is the one in the footer. What is checked over files and the tail of the log:
//! that every strand's hashes hang together and its `session.end` states its length and head, and that every
//! producer's sequence is dense. What is missing is told apart from what was declared missing and from what left by its
//! retention term. Then all of it is compared with the signed log of it (`transparency`).
//!
//! Nothing stops at a fault: the rest is still read, and the report says what of the damaged part can be.
//! Memory: one batch of rows, the positions of one file, and a few words per strand that has not ended.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hoop_schema::evidence::Footer;
use hoop_schema::kinds::integrity::GapState;
use hoop_schema::row::Row;
use hoop_schema::{Class, EventHash, Kind, SessionId, Shard, SourceId};

use crate::evidence::{Entry, Error, StoredFile};
use crate::output::Progress;
use crate::sessions::View;

mod clocks;
mod columns;
mod file;
mod finding;
pub mod report;
mod seals;
mod sequences;
mod strands;
mod transparency;

use clocks::Clocks;
use file::Linked;
pub use finding::{Cosigned, Finding, LogReport, Report, ShardReport, Verdict};
use seals::Seals;
use sequences::Sequences;
use strands::Strands;
use transparency::SeenFile;
pub use transparency::Trust;

/// What to prove.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// Only this session: its files are read whole, the others only hashed and linked.
    pub session: Option<SessionId>,
    /// Whether files of earlier days were left out, so that beginnings are not expected.
    pub days_limited: bool,
}

/// Everything that is known while walking.
pub(crate) struct Walk {
    pub(crate) scope: Scope,
    pub(crate) report: Report,
    pub(crate) strands: Strands,
    pub(crate) sequences: Sequences,
    pub(crate) clocks: Clocks,
    sessions: HashSet<SessionId>,
    /// Files that a later one names and that are not there, with who names them.
    missing_files: BTreeMap<String, String>,
    /// Files that left by their term.
    expired: HashMap<String, String>,
    /// Shards whose beginning may have left by its term.
    expired_shards: BTreeSet<(Class, Shard)>,
    /// Which files hold the session asked for.
    holds_session: HashSet<String>,
    /// What was seen of every file, for the transparency logs.
    files: HashMap<String, SeenFile>,
    /// Where the logs end, per class, shard and source.
    log_ends: HashMap<(Class, Shard, SourceId), u64>,
    /// The seals of sealed days.
    pub(crate) seals: Seals,
}

/// Walks everything that `view` shows.
///
/// # Errors
/// When the store does not answer. Damage is a finding, not an error.
pub async fn verify(
    view: &View,
    scope: Scope,
    trust: &Trust,
    progress: &mut Progress,
) -> Result<Report, Error> {
    let mut walk = Walk {
        scope,
        report: Report::new(),
        strands: Strands::new(scope.session),
        sequences: Sequences::default(),
        clocks: Clocks::default(),
        sessions: HashSet::new(),
        missing_files: BTreeMap::new(),
        expired: HashMap::new(),
        expired_shards: BTreeSet::new(),
        holds_session: HashSet::new(),
        files: HashMap::new(),
        log_ends: HashMap::new(),
        seals: Seals::default(),
    };
    if let Some(session) = scope.session {
        let session = session.to_string();
        for file in &view.catalog.files {
            match view
                .evidence
                .sessions_of(file, |id| id == session, None)
                .await
            {
                Ok(part) if part.sessions.is_empty() => {}
                Ok(_) | Err(Error::Damaged { .. }) => {
                    walk.holds_session.insert(file.name.to_string());
                }
                Err(e) => return Err(e),
            }
        }
    }
    walk.read_seals(view).await?;
    let mut previous: Option<(StoredFile, Linked)> = None;
    for stored in &view.catalog.files {
        let same = |(before, _): &(StoredFile, Linked)| before.series() == stored.series();
        let before = previous.take().filter(same);
        let linked = walk.file(view, stored, before.as_ref(), progress).await?;
        previous = Some((stored.clone(), linked));
    }
    for tail in &view.tails {
        walk.tail(tail);
    }
    for away in &view.evidence.logs_away {
        let mut finding = Finding::new(Verdict::Incomplete, "the log", away);
        finding.readable = Some("what is in files".into());
        walk.report.found(finding);
    }
    walk.logs(view, trust).await?;
    let with_tail = !view.tails.is_empty() && !view.is_without_a_log();
    walk.finish(view.catalog.foreign.clone(), with_tail);
    Ok(walk.report)
}

impl Walk {
    /// Whether the rows of a file are read, and not only its bytes hashed.
    pub(crate) fn reads_rows_of(&self, stored: &StoredFile) -> bool {
        self.scope.session.is_none() || self.holds_session.contains(&stored.name.to_string())
    }

    /// Follows the link from a file to the one before it.
    pub(crate) fn link(
        &mut self,
        stored: &StoredFile,
        footer: &Footer,
        before: Option<&(StoredFile, Linked)>,
    ) {
        let key = stored.name.to_string();
        let Some((_, linked)) = before else {
            if let Some(link) = footer
                .previous
                .as_ref()
                .filter(|_| !self.scope.days_limited)
            {
                self.missing_files.insert(link.key.clone(), key);
            }
            return;
        };
        let previous_key = linked.key.clone();
        match &footer.previous {
            Some(link) if link.key == previous_key && link.sha256 != linked.sha256 => {
                let mut finding = Finding::new(
                    Verdict::Altered,
                    previous_key,
                    format!("its bytes are not those that the next file, {key}, was linked to"),
                );
                finding.readable = Some("see the other findings of this file, if any".into());
                self.report.found(finding);
            }
            Some(link) if link.key == previous_key => {}
            Some(link) => {
                self.missing_files.insert(link.key.clone(), key);
                return;
            }
            None => {
                let what = format!("it names no file before it, but {previous_key} is there");
                self.report
                    .found(Finding::new(Verdict::Altered, &key, what));
            }
        }
        let Some(pos_to) = linked.pos_to else { return };
        if footer.pos_from != pos_to {
            let what = format!(
                "it begins at position {}, but the file before it ends at {pos_to}",
                footer.pos_from
            );
            let verdict = if footer.pos_from > pos_to {
                Verdict::Incomplete
            } else {
                Verdict::Altered
            };
            self.report.found(Finding::new(verdict, key, what));
        }
    }

    /// Takes one event: its strand, and what it says about others.
    pub(crate) fn event(
        &mut self,
        row: &Row<'_>,
        hash: EventHash,
        bytes: &[u8],
        place: &Place<'_>,
    ) {
        if self.scope.session.is_none_or(|s| s == row.session_id) {
            self.sessions.insert(row.session_id);
        }
        self.strands.follow(row, hash, place, &mut self.report);
        if !matches!(
            &*row.kind,
            "session.end" | "gap" | "recorder.expired" | "heartbeat"
        ) {
            return;
        }
        let Ok(event) = hoop_schema::bytes::decode(bytes) else {
            let what = format!("its event of kind {} cannot be read", &*row.kind);
            self.report.found(place.finding(Verdict::Altered, what));
            return;
        };
        match event.kind {
            Kind::SessionEnd(end) => {
                self.strands
                    .end(&event.envelope, &end, place, &mut self.report);
            }
            Kind::Gap(gap) => {
                if gap.state == GapState::Open {
                    self.strands.lost(&gap);
                }
                self.sequences.gap(&gap);
            }
            Kind::RecorderExpired(expired) => {
                self.expired_shards
                    .insert((expired.of_class.clone(), expired.of_shard));
                self.expired.insert(expired.key, expired.sha256);
            }
            Kind::Heartbeat(heartbeat) => self.sequences.heartbeat(&event.envelope, &heartbeat),
            _ => {}
        }
    }

    fn tail(&mut self, tail: &crate::evidence::tail::ShardTail) {
        let class = tail.class.as_ref().map_or("?", |class| class.as_str());
        let object = format!("log of class {class}, shard {}", tail.shard.0);
        if let Some((from, to)) = tail.lost {
            let what = format!(
                "positions {from} to {} are neither in a file nor in the log",
                to - 1
            );
            self.report
                .found(Finding::new(Verdict::Incomplete, &object, what));
        }
        for entry in &tail.entries {
            let Entry { bytes, .. } = entry;
            let Ok(row) = Row::read(bytes) else { continue };
            let place = Place {
                object: &object,
                row: None,
                position: entry.position,
            };
            self.report.tail_events += 1;
            self.event(&row, entry.hash(), bytes, &place);
            self.sequences.arrive(&row, &object, &mut self.report);
        }
        if tail.unparsed > 0 {
            let what = crate::when::counted(tail.unparsed, "record");
            self.report.notes.push(format!(
                "{object}: {what} are no events; the recorder will keep their bytes"
            ));
        }
        if let Some(damage) = &tail.damage {
            let mut finding = Finding::new(Verdict::Altered, &object, damage);
            finding.readable = Some("everything before this position".into());
            self.report.found(finding);
        }
        if let Some(away) = &tail.away {
            let what = crate::sessions::with_causes(away);
            let mut finding = Finding::new(Verdict::Incomplete, &object, what);
            finding.readable = Some("what is in files".into());
            self.report.found(finding);
        }
    }

    fn finish(&mut self, foreign: Vec<String>, with_tail: bool) {
        for (key, named_by) in std::mem::take(&mut self.missing_files) {
            if self.expired.contains_key(&key) || self.seals.replaced(&key).is_some() {
                continue;
            }
            let what = format!("it is not there, though {named_by} names it as the file before it");
            self.report
                .found(Finding::new(Verdict::Incomplete, key, what));
        }
        self.seals_at_the_end();
        let begins_late = |class: &Class, shard: Shard| {
            self.scope.days_limited
                || self.scope.session.is_some()
                || self.expired_shards.contains(&(class.clone(), shard))
        };
        self.strands.finish(&begins_late, &mut self.report);
        if self.scope.session.is_none() {
            self.sequences
                .finish(&begins_late, with_tail, &mut self.report);
        }
        self.clocks.finish(&mut self.report);
        let report = &mut self.report;
        report.sessions = self.sessions.len() as u64;
        report.files_expired = self.expired.len() as u64;
        report.foreign = foreign;
        if !with_tail {
            report.notes.push(
                "the live log was not read (--log, or --data): events that are in no file yet are not proven".into(),
            );
        }
    }
}

/// Where an event lies.
pub(crate) struct Place<'a> {
    pub(crate) object: &'a str,
    pub(crate) row: Option<u64>,
    pub(crate) position: Option<u64>,
}

impl Place<'_> {
    pub(crate) fn finding(&self, verdict: Verdict, what: impl ToString) -> Finding {
        Finding {
            row: self.row,
            position: self.position,
            ..Finding::new(verdict, self.object, what)
        }
    }
}
