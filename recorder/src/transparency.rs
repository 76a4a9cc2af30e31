//! The transparency log of every class and shard: written by recorders that know nothing of each other.
//!
//! The form is in [`hoop_schema::transparency`]. This is about the order, and about what happens when something breaks.
//!
//! **One line.** What stands at index *i* is decided by the create-only put of `leaves/<i>`, as a session file is
//! decided by the put of its name. A recorder proposes a leaf only at the index after everything it has taken, and takes
//! what is there when somebody was faster. So every recorder takes the same leaves in the same order, and everything
//! else (tiles, bundles, root, checkpoint) follows from them: two recorders that write it write the same bytes, since
//! Ed25519 is deterministic. A late put of a leaf finds its index taken, and is refused. A leaf is proposed only when it
//! is not among those taken, so none is there twice.
//!
//! **Which leaves.** Whatever is in the store and not in the log: session files along their chain, each after the one
//! that it names as the file before it; then deletions, holds, erasures, seals. A file that its successor names and that is listed
//! late is waited for; one that is gone is passed over, and `verify` finds the hole. Nothing is remembered between runs
//! that is not in the store, so a recorder that dies at any point is followed by one that goes on:
//!
//! - before the leaf is put: the next one proposes it;
//! - after the leaf, before tiles: the next one finds the leaf, and writes the tiles;
//! - after some tiles: it writes all of them, and those that are there have the same bytes;
//! - after the tiles, before the checkpoint: the same; a checkpoint is written last, so whoever sees one finds its tiles.
//!
//! **What is signed.** A recorder signs only what extends the newest checkpoint that one of its keys signed, and only
//! leaves that one of them signed: whoever may write to the store, but has no key, can hold the log up, which is an
//! alarm, but not have anything signed that no recorder proposed. What a recorder committed itself is signed with the
//! hash that it committed, not with the one that it finds; what others committed, only when the file carries their
//! signature ([`hoop_schema::transparency::statement`]). A deletion is signed only when the term has passed by the
//! recorder's own configuration, no hold covers the file, and the file is still there.
//!
//! **A new key** is announced by a leaf, in a checkpoint that the old key signs too (both are given to the recorder until
//! every log has it). So who trusts the old key can follow to the new one.
//!
//! Nothing here holds up recording: it runs on a task of its own, and tries again for ever. A session file is deleted at
//! the end of its term only after a checkpoint covers the leaf that says so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoop_schema::evidence::SessionFileName;
use hoop_schema::transparency::LogPlace;
use hoop_schema::transparency::note::{SigningKey, Verifier};
use hoop_schema::{Class, EventHash, Shard};
use hoop_sinks::store::StoreError;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::metrics::ShardLabels;
use crate::session_file::footer::FooterError;
use crate::shared::Shared;

mod append;
mod found;
mod line;

use found::{Found, FoundFile};
use line::Line;

/// How often the store is listed for what others did; what this recorder commits is logged at once.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// How long one look at all logs may take before it counts as hung. What it did is in the store.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1800);

/// Refused files that are asked for at a look, whether they are still there: those of days that were not listed.
const ASKED_MAX: usize = 100;

/// Committed files whose hash is remembered until they are logged; a file each five minutes, of very many shards.
const COMMITTED_MAX: usize = 10_000;

/// The keys of a recorder.
#[derive(Debug)]
pub struct Signing {
    /// The key that signs.
    pub key: SigningKey,
    /// The key before it, until every log has announced the new one.
    pub previous: Option<SigningKey>,
}

impl Signing {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        self.previous.iter().chain([&self.key])
    }

    fn verifiers(&self) -> Vec<Verifier> {
        self.keys().map(|key| key.verifier().clone()).collect()
    }
}

/// Why a log is not written any further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// The store does not answer; it is tried again.
    #[error("the evidence store does not answer")]
    Store(#[from] StoreError),
    /// Somebody changed what must not change. A person has to look at it; nothing more is signed.
    #[error("{object} {what}; nothing more of this log is signed until somebody has looked at it")]
    Broken {
        /// Which object.
        object: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

fn broken(object: impl ToString, what: &'static str) -> ProofError {
    ProofError::Broken {
        object: object.to_string(),
        what,
    }
}

/// What the rest of the recorder and the task that writes the logs tell each other.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    wake: Notify,
    /// Whether there is something to be logged that is no session file.
    acts: AtomicBool,
    /// What this recorder committed and has not logged yet.
    committed: Mutex<HashMap<String, EventHash>>,
    /// Hashes of the names of all acts that a checkpoint covers.
    recorded: Mutex<HashSet<EventHash>>,
    /// Seals that this recorder put, or proved to be right: their names and hashes.
    seals: Mutex<HashMap<String, EventHash>>,
    /// Seals that are in no log, and of which this recorder does not know whether they are right.
    doubtful: Mutex<BTreeSet<String>>,
}

impl Proofs {
    /// A session file was committed by this recorder.
    pub(crate) fn committed(&self, key: &str, sha256: EventHash) {
        let mut committed = self.committed.lock();
        if committed.len() < COMMITTED_MAX {
            committed.insert(key.to_owned(), sha256);
        }
        drop(committed);
        self.wake.notify_one();
    }

    /// This recorder put this seal, or proved that its objects hold the rows of what they replace.
    pub(crate) fn sealed(&self, key: &str, sha256: EventHash) {
        self.doubtful.lock().remove(key);
        self.seals.lock().insert(key.to_owned(), sha256);
        self.acts.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Seals that somebody has to prove before they are logged.
    pub(crate) fn doubtful_seals(&self) -> Vec<String> {
        self.doubtful.lock().iter().cloned().collect()
    }

    /// Whether this seal is right. If that is not known, somebody will look: whoever may write to the store must not have
    /// session files explained away by objects that hold something else.
    fn is_right(&self, seal: &str, sha256: EventHash) -> bool {
        let known = self.seals.lock().get(seal).copied();
        if known != Some(sha256) {
            self.doubtful.lock().insert(seal.to_owned());
        }
        known == Some(sha256)
    }

    /// Whether a checkpoint covers the leaf of this act. If not, it will soon.
    pub(crate) fn is_recorded(&self, key: &str) -> bool {
        let recorded = self
            .recorded
            .lock()
            .contains(&EventHash::of(key.as_bytes()));
        if !recorded {
            self.acts.store(true, Ordering::Relaxed);
            self.wake.notify_one();
        }
        recorded
    }
}

/// Writes the logs of these classes until `last` says that everything is committed; then once more.
pub(crate) async fn run(shared: Arc<Shared>, classes: Vec<Class>, mut last: watch::Receiver<bool>) {
    let Some(signing) = shared.config.signing.clone() else {
        return;
    };
    let mut writer = Writer {
        shared: &shared,
        signing: &signing,
        classes: classes
            .into_iter()
            .map(|class| (class, ClassLogs::default()))
            .collect(),
    };
    let mut looked_for_acts = None;
    loop {
        let is_last = *last.borrow();
        let now = shared.clock.now().as_micros();
        let interval =
            i64::try_from(shared.config.retention_interval.as_micros()).unwrap_or(i64::MAX);
        let due = looked_for_acts.is_none_or(|then: i64| now.saturating_sub(then) >= interval);
        let acts = shared.proofs.acts.swap(false, Ordering::Relaxed) || due;
        if acts {
            looked_for_acts = Some(now);
        }
        if timeout(LOOK_TIMEOUT, writer.look(acts)).await.is_err() {
            tracing::warn!("writing the transparency log took too long; trying again");
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = shared.proofs.wake.notified() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            _ = last.changed() => {}
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    signing: &'a Signing,
    classes: BTreeMap<Class, ClassLogs>,
}

/// The logs of one class, and what waits for them.
#[derive(Default)]
struct ClassLogs {
    logs: BTreeMap<Shard, Log>,
    /// Whether all files are in the logs that were there at the last look; then only recent days are looked at.
    looked_at_all: bool,
    /// When all files were listed last; until that is too long ago, what this recorder committed is all that is new.
    listed: Option<Instant>,
    /// Files that cannot be read or that nobody with a key wrote, and acts that are none, so that each is said once.
    refused: HashSet<String>,
    /// Acts that looked like none once.
    doubted: HashSet<String>,
}

#[derive(Default)]
struct Log {
    /// Absent until it could be loaded.
    line: Option<Line>,
    /// What was said last of what is wrong, so that it is not said every minute.
    said: Option<String>,
}

impl Writer<'_> {
    /// Brings all logs up to what the store holds now.
    async fn look(&mut self, acts: bool) {
        for (class, logs) in &mut self.classes {
            let looker = Looker {
                shared: self.shared,
                signing: self.signing,
                class,
            };
            if let Err(e) = looker.look(logs, acts).await {
                logs.looked_at_all = false;
                let error = crate::back_off::with_causes(&e);
                tracing::warn!(%class, error, "cannot look for what has to be in the transparency log; trying again later");
                self.shared.proofs.acts.fetch_or(acts, Ordering::Relaxed);
            }
        }
    }
}

/// One look at one class.
struct Looker<'a> {
    shared: &'a Shared,
    signing: &'a Signing,
    class: &'a Class,
}

impl Looker<'_> {
    async fn look(&self, logs: &mut ClassLogs, acts: bool) -> Result<(), ProofError> {
        let fresh = logs.listed.is_some_and(|at| at.elapsed() < LOOK_INTERVAL);
        let files = if fresh && logs.looked_at_all && !acts {
            self.committed()
        } else {
            let files = self.files(!logs.looked_at_all).await?;
            logs.listed = Some(Instant::now());
            self.forget_gone(logs, &files).await?;
            files
        };
        let mut shards: BTreeSet<Shard> = files.iter().map(|file| file.name.shard).collect();
        shards.extend(logs.logs.keys().copied());
        if acts {
            // Holds, erasures and seals are in the log of the first shard of a class.
            shards.insert(Shard(0));
        }
        let mut whole = true;
        for shard in &shards {
            whole &= self.load(logs, *shard).await;
        }
        if acts {
            // What others logged is not to be judged again: the file of a deletion is gone by now.
            for line in logs.logs.values_mut().filter_map(|log| log.line.as_mut()) {
                whole &= append::read_on(self.shared, line).await.is_ok();
            }
        }
        let mut wanted = if acts && whole {
            self.acts(logs).await?
        } else {
            BTreeMap::new()
        };
        for shard in shards {
            let found = Found {
                files: files
                    .iter()
                    .filter(|f| f.name.shard == shard)
                    .cloned()
                    .collect(),
                acts: wanted.remove(&shard).unwrap_or_default(),
            };
            whole &= self.advance(logs, shard, found).await;
        }
        if acts && !whole {
            self.shared.proofs.acts.store(true, Ordering::Relaxed);
        }
        logs.looked_at_all = whole;
        Ok(())
    }

    /// Forgets refused files that somebody has moved away: then nothing is wrong with the log any more.
    async fn forget_gone(
        &self,
        logs: &mut ClassLogs,
        files: &[FoundFile],
    ) -> Result<(), ProofError> {
        let there: HashSet<String> = files.iter().map(|file| file.name.to_string()).collect();
        let mut gone = Vec::new();
        let refused = logs.refused.iter().filter(|key| !there.contains(*key));
        for key in refused.take(ASKED_MAX) {
            if self.shared.store.head(key).await?.is_none() {
                gone.push(key.clone());
            }
        }
        for key in gone {
            logs.refused.remove(&key);
        }
        Ok(())
    }

    /// Whether the log of this shard is loaded, now or before.
    async fn load(&self, logs: &mut ClassLogs, shard: Shard) -> bool {
        let log = logs.logs.entry(shard).or_default();
        if log.line.is_some() {
            return true;
        }
        let place = LogPlace::new(&self.shared.config.cluster, self.class, shard);
        match append::load(self.shared, self.signing, place).await {
            Ok(line) => {
                log.line = Some(line);
                true
            }
            Err(e) => self.failed(log, shard, &e),
        }
    }

    /// Whether everything that was found is in the log of this shard now.
    async fn advance(&self, logs: &mut ClassLogs, shard: Shard, found: Found) -> bool {
        let ClassLogs { logs, refused, .. } = logs;
        let Some(log) = logs.get_mut(&shard) else {
            return false;
        };
        let Some(line) = log.line.as_mut() else {
            return false;
        };
        let labels = ShardLabels::new(self.class, shard);
        let metrics = &self.shared.metrics;
        let waiting = |line: &Line| {
            let waiting = found.files.iter().filter(|f| line.wants_file(&f.name));
            let oldest = waiting.clone().map(|f| f.created).min();
            let count = waiting.count() + found.acts.iter().filter(|a| line.wants(a)).count();
            let now = self.shared.clock.now().as_micros();
            let age = oldest.map_or(0, |oldest| now.saturating_sub(oldest.as_micros()).max(0));
            metrics.unproven.get_or_create(&labels).set(count as i64);
            let seconds = metrics.oldest_unproven_seconds.get_or_create(&labels);
            seconds.set(age as f64 / 1e6);
        };
        waiting(line);
        let advanced = append::advance(self.shared, self.signing, line, &found, refused).await;
        waiting(line);
        metrics
            .proven_leaves
            .get_or_create(&labels)
            .set(i64::try_from(line.published()).unwrap_or(i64::MAX));
        match advanced {
            Ok(whole) => {
                if log.said.take().is_some() {
                    tracing::info!(class = %self.class, %shard, "the transparency log is written again");
                }
                let is_ours = |key: &String| {
                    let name = key.parse::<SessionFileName>();
                    name.is_ok_and(|name| name.shard == shard)
                };
                let unsigned = refused.iter().filter(|key| is_ours(key)).count();
                let broken = i64::from(unsigned > 0);
                metrics.proof_broken.get_or_create(&labels).set(broken);
                whole
            }
            Err(e) => self.failed(log, shard, &e),
        }
    }

    /// Says what is wrong with a log, once; always `false`.
    fn failed(&self, log: &mut Log, shard: Shard, error: &ProofError) -> bool {
        let text = crate::back_off::with_causes(error);
        let is_broken = matches!(error, ProofError::Broken { .. });
        if is_broken {
            let labels = ShardLabels::new(self.class, shard);
            self.shared
                .metrics
                .proof_broken
                .get_or_create(&labels)
                .set(1);
        }
        if log.said.as_ref() != Some(&text) {
            if is_broken {
                tracing::error!(class = %self.class, %shard, error = text, "the transparency log was tampered with");
            } else {
                tracing::warn!(class = %self.class, %shard, error = text, "cannot write the transparency log; trying again");
            }
            log.said = Some(text);
        }
        false
    }
}

impl From<FooterError> for ProofError {
    fn from(error: FooterError) -> Self {
        match error {
            FooterError::Store(e) => Self::Store(e),
            FooterError::Damaged { key, .. } => broken(key, "is damaged"),
        }
    }
}

#[cfg(test)]
mod tests;
