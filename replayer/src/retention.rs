//! What is kept until when, who can delete it, and what was deleted and why.
//!
//! Terms come from what recorders said in the evidence (`terms/v1/`), locks from the store itself, deletions from their
//! records (`retention/v1/`), which are written before a file goes. Files that are neither there nor recorded as deleted
//! show as holes between the positions of the files around them. What vanished at the end of a shard shows only
//! where something else says how far it went: the log, or a signed checkpoint.

mod deleted;
mod locks;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hoop_schema::evidence::end_of_term;
use hoop_schema::kinds::recorder::{RecorderErased, RecorderHold, RecorderTerms, RetentionMode};
use hoop_schema::{Class, Timestamp};
use hoop_sinks::store::erasures::{self, KnownErasure};
use hoop_sinks::store::holds::{HoldError, Holds};
use hoop_sinks::store::terms::{self, TermsError};
use hoop_sinks::store::{EvidenceStore, StoreError};
use serde::Serialize;

use crate::contents::of_erasure;
use crate::evidence::file::SessionFile;
use crate::evidence::{Catalog, Days, Error, Evidence, StoredFile};
use crate::holdings::Holdings;
use crate::output::Progress;

pub use deleted::{DeletedFile, Deletions, Hole};
pub use locks::Locks;

/// Objects that are asked at once.
const OBJECTS_AT_ONCE: usize = 16;

/// Everything about retention that can be known from the evidence.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// Where the evidence is.
    pub place: String,
    /// Whether the store keeps locked objects from being deleted, whoever asks; `None` when it did not say.
    pub store_locks: Option<bool>,
    /// Whether whoever made this report could delete objects that are not locked; `None` when the store did not say.
    pub may_delete: Option<bool>,
    /// What there is of each class.
    pub classes: Vec<ClassReport>,
    /// Holds in force.
    pub holds: Vec<HeldReport>,
    /// Deletions that were recorded: done, and waiting.
    pub deleted: Vec<DeletedFile>,
    /// Sessions whose content was made unreadable, the oldest erasure first.
    pub erased: Vec<ErasedReport>,
    /// Positions that neither a file nor a record of a deletion covers.
    pub unexplained: Vec<Hole>,
    /// Session files whose footer cannot be read; `verify` says more.
    pub unreadable: Vec<String>,
}

/// What there is of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassReport {
    /// The class.
    pub class: Class,
    /// Its term in seconds; absent when it is kept for ever.
    pub term_s: Option<u64>,
    /// How its new objects are locked, as recorders say.
    pub mode: RetentionMode,
    /// Since when term and mode are as they are; absent when no recorder ever said any.
    pub since: Option<Timestamp>,
    /// Session files and, of sealed days, sealed objects.
    pub files: u64,
    /// Session files of sealed days that are still there: they leave, unless something locks them.
    pub replaced: u64,
    /// Session files and their indexes, those of sealed days that are still there included.
    pub objects: u64,
    /// Length of all of them in bytes.
    pub bytes: u64,
    /// The oldest day that has files.
    pub oldest_day: Option<String>,
    /// The newest day that has files.
    pub newest_day: Option<String>,
    /// When the term of the oldest day is over.
    pub oldest_until: Option<Timestamp>,
    /// When the term of the newest day is over.
    pub newest_until: Option<Timestamp>,
    /// Files whose term is over and that are still there: held, the newest of a shard, or not looked after.
    pub past_term: u64,
    /// What the store says of its files.
    pub locks: Locks,
    /// Files deleted at the end of their term.
    pub deleted: u64,
}

/// A hold in force.
#[derive(Debug, Clone, Serialize)]
pub struct HeldReport {
    /// The hold.
    #[serde(flatten)]
    pub hold: RecorderHold,
    /// Since when.
    pub since: Timestamp,
    /// Session files that it keeps.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// How many of them would be past their term without it.
    pub past_term: u64,
}

/// An erasure.
#[derive(Debug, Clone, Serialize)]
pub struct ErasedReport {
    /// Whose content, who asked for it, and why.
    #[serde(flatten)]
    pub erased: RecorderErased,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The evidence cannot be read.
    #[error(transparent)]
    Evidence(#[from] Error),
    /// Holds cannot be read.
    #[error("legal holds cannot be read")]
    Holds(#[source] HoldError),
    /// Terms cannot be read.
    #[error("the terms of classes cannot be read")]
    Terms(#[source] TermsError),
}

impl Report {
    /// Puts it together. Every footer is read, every record of a deletion, the sessions of every file where something
    /// is held, and where the store locks, the protection of every file.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn make(
        evidence: &Evidence,
        store: &dyn EvidenceStore,
        now: Timestamp,
        progress: &mut Progress,
    ) -> Result<Self, ReportError> {
        let catalog = evidence.catalog(&Days::default()).await?;
        progress.expect(catalog.files.iter().map(|f| f.bytes).sum());
        let store_locks = store.locks().await.ok();
        let (spans, unreadable) = spans(evidence, &catalog, progress).await?;
        let deletions = Deletions::read(store).await?;
        let locks = match store_locks {
            Some(true) => locks::read(store, &catalog, now).await?,
            _ => BTreeMap::new(),
        };
        let terms = terms::in_force(store).await.map_err(ReportError::Terms)?;
        let erased = erasures::known(store).await.map_err(of_erasure)?;
        let mut report = Self {
            at: now,
            place: store.place(),
            store_locks,
            may_delete: store.may_delete().await.ok(),
            classes: Vec::new(),
            holds: Vec::new(),
            unexplained: deletions.unexplained(&spans),
            deleted: deletions.files(&catalog),
            erased: in_order(erased),
            unreadable,
        };
        report.classes = classes(&catalog, &terms, locks, &report.deleted, now);
        report.holds = report.held(evidence, store, &catalog, progress).await?;
        Ok(report)
    }

    async fn held(
        &self,
        evidence: &Evidence,
        store: &dyn EvidenceStore,
        catalog: &Catalog,
        progress: &mut Progress,
    ) -> Result<Vec<HeldReport>, ReportError> {
        let id = hoop_schema::ProducerId::new("hoop-replay").expect("a name of plain letters");
        let known = Holds::new(store, "", &id).known().await;
        let mut known = known.map_err(ReportError::Holds)?;
        known.retain(|known| known.hold.held);
        if known.is_empty() {
            return Ok(Vec::new());
        }
        progress.expect(catalog.files.iter().map(|f| f.bytes).sum());
        let mut holdings = Holdings::default();
        holdings.read(evidence, &catalog.files, progress).await?;
        let held = known.into_iter().map(|known| {
            let files: Vec<_> = holdings.files_of(&known.hold).collect();
            let past = files.iter().filter(|file| self.is_past_term(file));
            HeldReport {
                since: known.at,
                files: files.len() as u64,
                bytes: files.iter().map(|f| f.bytes).sum(),
                past_term: past.count() as u64,
                hold: known.hold.clone(),
            }
        });
        Ok(held.collect())
    }

    fn is_past_term(&self, file: &StoredFile) -> bool {
        let class = self.classes.iter().find(|c| c.class == file.name.class);
        let until = class.and_then(|class| until(&file.name.day, class.term_s));
        until.is_some_and(|until| until <= self.at)
    }
}

fn in_order(mut known: Vec<KnownErasure>) -> Vec<ErasedReport> {
    known.sort_by_key(|known| known.at);
    let report = |KnownErasure { erased, at }| ErasedReport { erased, at };
    known.into_iter().map(report).collect()
}

/// The positions that each file covers, and files that do not say.
async fn spans(
    evidence: &Evidence,
    catalog: &Catalog,
    progress: &mut Progress,
) -> Result<(Vec<deleted::Span>, Vec<String>), Error> {
    let mut answers = stream::iter(&catalog.files)
        .map(|file| async move { (file, SessionFile::open(evidence, file).await) })
        .buffered(OBJECTS_AT_ONCE);
    let (mut spans, mut unreadable) = (Vec::new(), Vec::new());
    while let Some((file, opened)) = answers.next().await {
        progress.advance(file.bytes, &file.name.to_string());
        match opened {
            Ok(opened) => spans.push(deleted::Span::of(file, &opened.footer)),
            Err(Error::Damaged { key, .. }) => unreadable.push(key),
            Err(Error::Store(StoreError::NotFound { .. })) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((spans, unreadable))
}

/// What there is of each class that has files, terms or deletions.
fn classes(
    catalog: &Catalog,
    terms: &[(RecorderTerms, Timestamp)],
    mut locks: BTreeMap<Class, Locks>,
    deleted: &[DeletedFile],
    now: Timestamp,
) -> Vec<ClassReport> {
    let mut classes: BTreeMap<Class, ClassReport> = BTreeMap::new();
    for (terms, since) in terms {
        let report = of(&mut classes, &terms.of_class);
        report.term_s = terms.term_s;
        report.mode = terms.mode;
        report.since = Some(*since);
    }
    for file in deleted.iter().filter(|file| file.gone) {
        of(&mut classes, &file.class).deleted += 1;
    }
    for file in &catalog.files {
        let report = of(&mut classes, &file.name.class);
        report.files += 1;
        report.objects += 1 + u64::from(file.index_bytes.is_some());
        report.bytes += file.bytes + file.index_bytes.unwrap_or(0);
        let day = &file.name.day;
        if report.oldest_day.as_ref().is_none_or(|oldest| day < oldest) {
            report.oldest_day = Some(day.clone());
        }
        if report.newest_day.as_ref().is_none_or(|newest| day > newest) {
            report.newest_day = Some(day.clone());
        }
        let past = until(day, report.term_s).is_some_and(|until| until <= now);
        report.past_term += u64::from(past);
    }
    for file in &catalog.replaced {
        let report = of(&mut classes, &file.class);
        report.replaced += 1;
        report.objects += 2;
    }
    for (class, report) in &mut classes {
        let ends = |day: &Option<String>| until(day.as_ref()?, report.term_s);
        report.oldest_until = ends(&report.oldest_day);
        report.newest_until = ends(&report.newest_day);
        report.locks = locks.remove(class).unwrap_or_default();
    }
    classes.into_values().collect()
}

fn of<'a>(classes: &'a mut BTreeMap<Class, ClassReport>, class: &Class) -> &'a mut ClassReport {
    let new = || ClassReport {
        class: class.clone(),
        term_s: None,
        mode: RetentionMode::None,
        since: None,
        files: 0,
        replaced: 0,
        objects: 0,
        bytes: 0,
        oldest_day: None,
        newest_day: None,
        oldest_until: None,
        newest_until: None,
        past_term: 0,
        locks: Locks::default(),
        deleted: 0,
    };
    classes.entry(class.clone()).or_insert_with(new)
}

/// When the term of what belongs to a day is over; `None` for a class that is kept for ever.
fn until(day: &str, term_s: Option<u64>) -> Option<Timestamp> {
    end_of_term(day, Duration::from_secs(term_s?))
}
