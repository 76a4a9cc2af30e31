//! Proves the evidence against the signed transparency log: that every session file is in it, unaltered and in its
//! place; that what is in it and is gone left by its term; and that the log has one past.
//!
//! The logs are read whole: every entry is hashed again, and roots, tiles and checkpoints are compared with what comes
//! out, so any two checkpoints that are there are consistent with each other. A checkpoint counts when a trusted key
//! signed it; a key that such a checkpoint covers the announcement of is trusted too.
//!
//! The form of a log is in [`hoop_schema::transparency`]. Memory: the files of one log, a few words each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hoop_schema::evidence::{Footer, RETENTION_PREFIX, SessionFileName};
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::leaf::{DeleteLeaf, FileLeaf, Leaf};
use hoop_schema::transparency::note::{NOTE_BYTES_MAX, Note, Signed, Verifier};
use hoop_schema::transparency::{LogPlace, TLOG_PREFIX};
use hoop_schema::{Class, EventHash, Kind, Shard, SourceId, Timestamp};
use hoop_sinks::store::{EvidenceStore, StoreError};

use super::{Finding, LogReport, Verdict, Walk};
use crate::evidence::Error;
use crate::sessions::View;

mod entries;
mod leaves;
mod signatures;

/// How long a recorder may take to log a file before its absence is a fault. It is a matter of seconds.
const LOGGED_WITHIN_MICROS: i64 = 15 * 60 * 1_000_000;

/// How long recorders may take to log a seal: one that another one put is proven before, in the next round.
const SEAL_LOGGED_WITHIN_MICROS: i64 = 3600 * 1_000_000;

/// The longest record of a deletion, in bytes; any event is shorter.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Whom to believe.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Keys of logs. Without any, signatures are not checked.
    pub keys: Vec<Verifier>,
    /// Keys of witnesses, whose cosignatures are looked for.
    pub witnesses: Vec<Verifier>,
    /// Checkpoints that were kept elsewhere: the logs must have them in their past.
    pub kept: Vec<Note>,
    /// The time now: a file that was committed just now need not be in a log yet.
    pub now: Timestamp,
}

/// What was seen of a session file.
#[derive(Debug, Clone)]
pub(crate) struct SeenFile {
    pub(crate) sha256: EventHash,
    /// Absent when the file cannot be read.
    pub(crate) footer: Option<SeenFooter>,
    /// Whether a log has it.
    logged: bool,
}

/// What of a footer is in a leaf, and when it was written.
#[derive(Debug, Clone)]
pub(crate) struct SeenFooter {
    source: SourceId,
    pos_from: u64,
    pos_to: u64,
    rows: u64,
    events_root: EventHash,
    written: Timestamp,
}

impl SeenFile {
    pub(crate) fn new(sha256: EventHash, footer: Option<&Footer>) -> Self {
        let footer = footer.map(|footer| SeenFooter {
            source: footer.source,
            pos_from: footer.pos_from,
            pos_to: footer.pos_to,
            rows: footer.rows,
            events_root: footer.events_root,
            written: footer.written,
        });
        Self {
            sha256,
            footer,
            logged: false,
        }
    }
}

/// The objects of one log.
#[derive(Debug, Default)]
struct Objects {
    /// By size.
    checkpoints: BTreeMap<u64, String>,
    cosigned: Vec<String>,
    /// Paths of tiles and bundles.
    tiles: HashSet<String>,
    /// Leaves that are proposed, whether a checkpoint covers them or not.
    leaves: u64,
}

/// The checkpoints of one log, from wherever they are.
struct Heads {
    /// Its own, by size.
    stored: BTreeMap<u64, (Note, Checkpoint)>,
    /// Those that were kept elsewhere.
    kept: Vec<(Note, Checkpoint)>,
    /// Those that witnesses signed, with the names of their objects.
    cosigned: Vec<(String, Note, Checkpoint)>,
}

impl Heads {
    /// Number of leaves that the newest one of its own covers.
    fn size(&self) -> u64 {
        self.stored.last_key_value().map_or(0, |(size, _)| *size)
    }

    /// Whether somebody has a checkpoint of this size.
    fn has(&self, size: u64) -> bool {
        self.stored.contains_key(&size)
            || self.kept.iter().any(|(_, c)| c.size == size)
            || self.cosigned.iter().any(|(_, _, c)| c.size == size)
    }
}

/// What the leaves of one log say.
#[derive(Debug, Default)]
struct Said {
    files: BTreeMap<String, FileLeaf>,
    deletions: HashMap<String, DeleteLeaf>,
    /// Holds, erasures and seals: name and hash.
    acts: Vec<(String, EventHash)>,
    /// Position after the last file of every source.
    ends: BTreeMap<SourceId, u64>,
    /// Keys, each with the index of the leaf that announces it.
    keys: Vec<(u64, Verifier)>,
    unknown: u64,
}

impl Walk {
    /// Proves all logs, once all files were walked.
    pub(crate) async fn logs(&mut self, view: &View, trust: &Trust) -> Result<(), Error> {
        let Some(store) = view.evidence.store.clone() else {
            return Ok(());
        };
        let logs = objects(&*store).await?;
        let mut kept: Vec<(Note, Checkpoint)> = Vec::new();
        for note in &trust.kept {
            match Checkpoint::parse(&note.text) {
                Some(checkpoint) => kept.push((note.clone(), checkpoint)),
                None => self.altered("a checkpoint that was kept", "it is no checkpoint".into()),
            }
        }
        let mut with_log: BTreeSet<(Class, Shard)> = BTreeSet::new();
        for (place, objects) in logs {
            let of_log: Vec<_> = kept
                .extract_if(.., |(_, c)| c.origin == place.origin())
                .collect();
            with_log.insert((place.class.clone(), place.shard));
            let mut log = Log {
                walk: self,
                store: &*store,
                trust,
                place,
            };
            log.prove(objects, of_log).await?;
        }
        for (_, checkpoint) in kept {
            let what = format!(
                "the log is not there, though a checkpoint of it with {} leaves was kept",
                checkpoint.size
            );
            self.report
                .found(Finding::new(Verdict::Incomplete, checkpoint.origin, what));
        }
        self.not_logged(trust, &with_log);
        self.records_of_deletions(&*store, &with_log).await?;
        if trust.keys.is_empty() && !with_log.is_empty() {
            self.report.notes.push(
                "signatures were not checked: give the key of the transparency log (--key FILE or VKEY)".into(),
            );
        }
        Ok(())
    }

    fn altered(&mut self, object: impl ToString, what: String) {
        self.report
            .found(Finding::new(Verdict::Altered, object, what));
    }

    fn incomplete(&mut self, object: impl ToString, what: String) {
        self.report
            .found(Finding::new(Verdict::Incomplete, object, what));
    }

    /// Files that no log has.
    fn not_logged(&mut self, trust: &Trust, with_log: &BTreeSet<(Class, Shard)>) {
        let mut fresh = 0;
        let mut without_log: BTreeSet<(Class, Shard)> = BTreeSet::new();
        let mut findings = Vec::new();
        for (key, seen) in &self.files {
            let Ok(name) = key.parse::<SessionFileName>() else {
                continue;
            };
            let log = (name.class, name.shard);
            if seen.logged {
                continue;
            }
            if !with_log.contains(&log) {
                without_log.insert(log);
                continue;
            }
            // Whatever its footer claims: a file among the positions of others is no file that is to be logged yet.
            let is_fresh = seen.footer.as_ref().is_some_and(|footer| {
                let age = trust
                    .now
                    .as_micros()
                    .saturating_sub(footer.written.as_micros());
                let end = self.log_ends.get(&(log.0, log.1, footer.source));
                age.abs() < LOGGED_WITHIN_MICROS && end.is_none_or(|end| footer.pos_from >= *end)
            });
            if is_fresh {
                fresh += 1;
            } else {
                let what = "it is not in the transparency log";
                findings.push(Finding::new(Verdict::Incomplete, key, what));
            }
        }
        for (seal, sealed) in self.seals.not_logged() {
            if !with_log.contains(&(seal.class.clone(), Shard(0))) {
                continue;
            }
            let age = trust.now.as_micros().saturating_sub(sealed.as_micros());
            if age.abs() < SEAL_LOGGED_WITHIN_MICROS {
                self.report.notes.push(format!(
                    "{seal} is not in the transparency log yet: run verify again"
                ));
            } else {
                let what = "it is not in the transparency log";
                findings.push(Finding::new(Verdict::Incomplete, seal, what));
            }
        }
        findings.sort_by(|a, b| a.object.cmp(&b.object));
        findings
            .into_iter()
            .for_each(|finding| self.report.found(finding));
        if fresh > 0 {
            let files = crate::when::counted(fresh, "file");
            self.report.notes.push(format!(
                "{files} committed within the last minutes and not in the transparency log yet: run verify again"
            ));
        }
        for (class, shard) in without_log {
            let what = "there is no transparency log of it, so nothing of it is signed";
            if trust.keys.is_empty() {
                self.report
                    .notes
                    .push(format!("class {class}, shard {}: {what}", shard.0));
            } else {
                self.incomplete(format!("class {class}, shard {}", shard.0), what.into());
            }
        }
    }

    /// Deletions of classes and shards that have no log: there, the record alone explains that a file is gone.
    async fn records_of_deletions(
        &mut self,
        store: &dyn EvidenceStore,
        with_log: &BTreeSet<(Class, Shard)>,
    ) -> Result<(), Error> {
        for object in store.list(RETENTION_PREFIX, None).await? {
            let record = store.get(&object.key, 0..RECORD_BYTES_MAX).await?;
            let Ok(Kind::RecorderExpired(expired)) =
                hoop_schema::bytes::decode(&record).map(|event| event.kind)
            else {
                self.altered(object.key, "it is no record of a deletion".into());
                continue;
            };
            let log = (expired.of_class.clone(), expired.of_shard);
            if !with_log.contains(&log) && !self.files.contains_key(&expired.key) {
                self.expired_shards.insert(log);
                self.expired.insert(expired.key, expired.sha256);
            }
        }
        Ok(())
    }
}

/// One log under proof.
struct Log<'a> {
    walk: &'a mut Walk,
    store: &'a dyn EvidenceStore,
    trust: &'a Trust,
    place: LogPlace,
}

impl Log<'_> {
    async fn prove(
        &mut self,
        objects: Objects,
        kept: Vec<(Note, Checkpoint)>,
    ) -> Result<(), Error> {
        let mut report = LogReport::new(self.place.origin());
        let heads = Heads {
            stored: self.checkpoints(&objects).await?,
            kept,
            cosigned: self.cosigned(&objects).await?,
        };
        let size = heads.size();
        let entries::Read {
            said,
            roots,
            leaves,
        } = self.read(&objects, &heads).await?;
        report.leaves = leaves;
        report.checkpoints = heads.stored.len() as u64;
        self.signatures(&heads, &roots, &said.keys, &mut report);
        self.cosignatures(&heads, &roots, &mut report);
        self.kept(&heads.kept, size, &roots);
        report.kept_leaves = heads.kept.iter().map(|(_, kept)| kept.size).max();
        let origin = self.place.origin();
        let notes = &mut self.walk.report.notes;
        if objects.leaves > size {
            notes.push(format!(
                "{origin}: leaves that no checkpoint covers yet: {}; run verify again",
                objects.leaves - size
            ));
        }
        if said.unknown > 0 {
            notes.push(format!(
                "{origin}: leaves of kinds that this build does not know: {}",
                said.unknown
            ));
        }
        self.compare(said, &mut report).await?;
        self.walk.report.logs.push(report);
        Ok(())
    }

    /// Checkpoints that witnesses signed.
    async fn cosigned(
        &mut self,
        objects: &Objects,
    ) -> Result<Vec<(String, Note, Checkpoint)>, Error> {
        let mut cosigned = Vec::new();
        for key in &objects.cosigned {
            let note = self.note(key).await?;
            match note.and_then(|note| Some((Checkpoint::parse(&note.text)?, note))) {
                Some((checkpoint, note)) if checkpoint.origin == self.place.origin() => {
                    cosigned.push((key.clone(), note, checkpoint));
                }
                Some((checkpoint, _)) => {
                    let what = format!("it is a checkpoint of another log, {}", checkpoint.origin);
                    self.walk.altered(key, what);
                }
                None => self.walk.altered(key, "it is no signed checkpoint".into()),
            }
        }
        Ok(cosigned)
    }

    /// All checkpoints that can be read, by size.
    async fn checkpoints(
        &mut self,
        objects: &Objects,
    ) -> Result<BTreeMap<u64, (Note, Checkpoint)>, Error> {
        let mut checkpoints = BTreeMap::new();
        for (size, key) in &objects.checkpoints {
            let note = self.note(key).await?;
            match note.and_then(|note| Some((Checkpoint::parse(&note.text)?, note))) {
                Some((checkpoint, _)) if checkpoint.origin != self.place.origin() => {
                    let what = format!("it is a checkpoint of another log, {}", checkpoint.origin);
                    self.walk.altered(key, what);
                }
                Some((checkpoint, _)) if checkpoint.size != *size => {
                    let what = format!(
                        "it is a checkpoint of {} leaves under this name",
                        checkpoint.size
                    );
                    self.walk.altered(key, what);
                }
                Some((checkpoint, note)) => {
                    checkpoints.insert(*size, (note, checkpoint));
                }
                None => self.walk.altered(key, "it is no signed checkpoint".into()),
            }
        }
        Ok(checkpoints)
    }

    async fn note(&self, key: &str) -> Result<Option<Note>, Error> {
        let bytes = get(self.store, key, NOTE_BYTES_MAX as u64).await?;
        Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok()))
    }

    /// Checkpoints that were kept elsewhere have to be in the log's past.
    fn kept(&mut self, kept: &[(Note, Checkpoint)], size: u64, roots: &HashMap<u64, [u8; 32]>) {
        for (_, checkpoint) in kept {
            let origin = self.place.origin();
            if checkpoint.size > size {
                let what = format!(
                    "it has {size} leaves, and a checkpoint of it with {} was kept: the newest were cut off",
                    checkpoint.size
                );
                self.walk.incomplete(origin, what);
            } else if roots
                .get(&checkpoint.size)
                .is_some_and(|root| *root != checkpoint.root)
            {
                let what = format!(
                    "its first {} leaves are not those of the checkpoint that was kept: it has two pasts",
                    checkpoint.size
                );
                self.walk.altered(origin, what);
            }
        }
    }
}

/// All objects under the prefix of transparency logs, by log.
async fn objects(store: &dyn EvidenceStore) -> Result<BTreeMap<LogPlace, Objects>, Error> {
    let mut logs: BTreeMap<LogPlace, Objects> = BTreeMap::new();
    for object in store.list(TLOG_PREFIX, None).await? {
        let Some((place, rest)) = LogPlace::parse(&object.key) else {
            continue;
        };
        let objects = logs.entry(place).or_default();
        if let Some(size) = rest
            .strip_prefix("checkpoints/")
            .and_then(|s| s.parse().ok())
        {
            objects.checkpoints.insert(size, object.key);
        } else if rest.starts_with("cosigned/") {
            objects.cosigned.push(object.key);
        } else if rest.starts_with("tile/") {
            objects.tiles.insert(rest.to_owned());
        } else if rest.starts_with("leaves/") {
            objects.leaves += 1;
        }
    }
    Ok(logs)
}

/// An object's bytes, or none.
async fn get(
    store: &dyn EvidenceStore,
    key: &str,
    bytes_max: u64,
) -> Result<Option<bytes::Bytes>, Error> {
    match store.get(key, 0..bytes_max).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether a key signed a note, and at which time.
fn signed(note: &Note, key: &Verifier) -> Option<Option<u64>> {
    match note.signed_by(key) {
        Signed::Yes(time) => Some(time),
        _ => None,
    }
}

/// Everything that a leaf says about its log, taken in.
impl Said {
    fn take(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        match Leaf::parse(bytes) {
            Some(Leaf::File(file)) => {
                let end = self.ends.insert(file.source, file.pos_to);
                let (object, from) = (file.object.clone(), file.pos_from);
                if self.files.insert(object.clone(), file).is_some() {
                    return Err(format!(
                        "leaf {index} names {object}, which was logged before"
                    ));
                }
                match end {
                    Some(end) if from > end => Err(format!(
                        "leaf {index}, {object}, begins at position {from}, but the file before it ends at {end}: a file between them was never logged"
                    )),
                    Some(end) if from < end => Err(format!(
                        "leaf {index}, {object}, begins at position {from}, but the file before it ends at {end}"
                    )),
                    _ => Ok(()),
                }
            }
            Some(Leaf::Delete(leaf)) => {
                self.deletions.entry(leaf.file.clone()).or_insert(leaf);
                Ok(())
            }
            Some(Leaf::Hold(act) | Leaf::Seal(act) | Leaf::Erasure(act)) => {
                self.acts.push((act.object, act.sha256));
                Ok(())
            }
            Some(Leaf::Key { vkey }) => {
                let key = vkey.parse().map_err(|e| format!("leaf {index}: {e}"))?;
                self.keys.push((index, key));
                Ok(())
            }
            Some(Leaf::Unknown) => {
                self.unknown += 1;
                Ok(())
            }
            None => Err(format!("leaf {index} cannot be read")),
        }
    }
}
