//! What the store holds that the log has to have.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use hoop_schema::bytes::decode;
use hoop_schema::evidence::seal::SealName;
use hoop_schema::evidence::{
    EVENTS_PREFIX, FileName, RETENTION_PREFIX, SessionFileName, end_of_term,
};
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::transparency::leaf::{ActLeaf, DeleteLeaf, Leaf};
use hoop_schema::{EventHash, Kind, Shard, Timestamp};
use hoop_sinks::store::erasures::ERASURES_PREFIX;
use hoop_sinks::store::holds::{HOLDS_PREFIX, HoldError, Holds};

use super::{ClassLogs, Looker, ProofError};
use crate::held::Held;
use crate::resume::recent_day;

/// The longest record of an act that is read, in bytes; any event is shorter.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// What was found of one shard.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Session files, by source and position.
    pub(super) files: Vec<FoundFile>,
    /// Leaves that are no files.
    pub(super) acts: Vec<Leaf>,
}

/// A session file that is there.
#[derive(Debug, Clone)]
pub(super) struct FoundFile {
    pub(super) name: SessionFileName,
    pub(super) created: Timestamp,
}

impl Looker<'_> {
    /// Session files of the class, of all days or of recent ones.
    pub(super) async fn files(&self, all_days: bool) -> Result<Vec<FoundFile>, ProofError> {
        let after = recent_day(EVENTS_PREFIX, self.class, self.shared.clock.now());
        let after = (!all_days).then_some(after.as_str());
        let prefix = SessionFileName::class_prefix(self.class);
        let listed = self.shared.store.list(&prefix, after).await?;
        let mut files: Vec<FoundFile> = listed
            .into_iter()
            .filter_map(|object| {
                Some(FoundFile {
                    name: object.key.parse().ok()?,
                    created: object.created,
                })
            })
            .collect();
        files.sort_by_key(|file| (file.name.shard, file.name.source, file.name.pos_from));
        Ok(files)
    }

    /// Files of the class that this recorder committed and that no log has yet.
    pub(super) fn committed(&self) -> Vec<FoundFile> {
        let created = self.shared.clock.now();
        let committed = self.shared.proofs.committed.lock();
        let names = committed.keys().filter_map(|key| key.parse().ok());
        let mut files: Vec<FoundFile> = names
            .filter(|name: &SessionFileName| name.class == *self.class)
            .map(|name| FoundFile { name, created })
            .collect();
        drop(committed);
        files.sort_by_key(|file| (file.name.shard, file.name.source, file.name.pos_from));
        files
    }

    /// Deletions, holds, erasures and seals that no log of the class has, by shard.
    pub(super) async fn acts(
        &self,
        logs: &mut ClassLogs,
    ) -> Result<BTreeMap<Shard, Vec<Leaf>>, ProofError> {
        let mut acts: BTreeMap<Shard, Vec<Leaf>> = BTreeMap::new();
        let deletions = format!("{RETENTION_PREFIX}class={}/", self.class);
        for key in self.missing(logs, &deletions).await? {
            let record = self.shared.store.get(&key, 0..RECORD_BYTES_MAX).await?;
            match self.deletion(&key, &record).await? {
                Deletion::Due(shard, leaf) => acts.entry(shard).or_default().push(leaf),
                Deletion::NotYet => {}
                // A rival that recorded, logged and carried it out meanwhile: then a log has it at the next look.
                Deletion::Never(_) if logs.doubted.insert(key.clone()) => {}
                Deletion::Never(why) => {
                    tracing::error!(
                        key,
                        why,
                        "this is no deletion that a recorder would make, so it is not in the transparency log"
                    );
                    logs.refused.insert(key);
                }
            }
        }
        let seals = SealName::class_prefix(self.class);
        for prefix in [HOLDS_PREFIX, ERASURES_PREFIX, &seals] {
            for object in self.missing(logs, prefix).await? {
                let Some(head) = self.shared.store.head(&object).await? else {
                    continue;
                };
                if prefix == seals && !self.shared.proofs.is_right(&object, head.sha256) {
                    continue;
                }
                let leaf = ActLeaf {
                    object,
                    sha256: head.sha256,
                };
                let leaf = match prefix {
                    HOLDS_PREFIX => Leaf::Hold(leaf),
                    ERASURES_PREFIX => Leaf::Erasure(leaf),
                    _ => Leaf::Seal(leaf),
                };
                acts.entry(Shard(0)).or_default().push(leaf);
            }
        }
        Ok(acts)
    }

    /// Objects under a prefix that no log has.
    async fn missing(&self, logs: &ClassLogs, prefix: &str) -> Result<Vec<String>, ProofError> {
        let listed = self.shared.store.list(prefix, None).await?;
        let lines: Vec<_> = logs
            .logs
            .values()
            .filter_map(|log| log.line.as_ref())
            .collect();
        let is_new = |key: &String| {
            !logs.refused.contains(key) && !lines.iter().any(|line| line.has_act(key))
        };
        Ok(listed
            .into_iter()
            .map(|object| object.key)
            .filter(is_new)
            .collect())
    }

    /// What to do with the record of a deletion. Only one that this recorder would make too has a leaf: whoever may write
    /// to the store must not have a file explained away before its term, or under a hold. The file is still there then,
    /// since it goes only after its leaf.
    async fn deletion(&self, key: &str, record: &[u8]) -> Result<Deletion, ProofError> {
        let Some((expired, file)) = expired(record).filter(|(_, file)| file.class == *self.class)
        else {
            return Ok(Deletion::Never("it cannot be read"));
        };
        // The term may have been another one when it was recorded; both have to be over.
        let due = end_of_term(&file.day, Duration::from_secs(expired.term_s));
        if due != Some(expired.due) {
            return Ok(Deletion::Never("its term is not over when it says"));
        }
        let Some(term) = self.shared.config.terms.get(self.class).copied() else {
            return Ok(Deletion::Never("this class is kept for ever"));
        };
        let now = self.shared.clock.now();
        if expired.due > now || end_of_term(&file.day, term).is_none_or(|due| due > now) {
            return Ok(Deletion::NotYet);
        }
        let store = &*self.shared.store;
        match store.head(&expired.key).await? {
            None => return Ok(Deletion::Never("its file is gone already")),
            Some(head) if head.sha256.to_string() != expired.sha256 => {
                return Ok(Deletion::Never("its file has another hash"));
            }
            Some(_) => {}
        }
        let config = &self.shared.config;
        let holds = Holds::new(store, &config.cluster, &config.recorder_id);
        let in_force = match holds.in_force().await {
            Ok(in_force) => in_force,
            Err(HoldError::Store(e)) => return Err(e.into()),
            // Nothing is deleted until somebody looked at it.
            Err(_) => return Ok(Deletion::NotYet),
        };
        let mut held = Held::default();
        held.in_force(in_force);
        if held.covers(store, &file).await {
            return Ok(Deletion::NotYet);
        }
        let leaf = Leaf::Delete(DeleteLeaf {
            object: key.to_owned(),
            sha256: EventHash::of(record),
            file: expired.key,
            file_sha256: expired.sha256,
            term_s: expired.term_s,
            due: expired.due,
        });
        Ok(Deletion::Due(expired.of_shard, leaf))
    }
}

/// What to do with the record of a deletion.
enum Deletion {
    /// It belongs into the log of this shard.
    Due(Shard, Leaf),
    /// Not now.
    NotYet,
    /// No recorder made it; why.
    Never(&'static str),
}

/// What a record says was deleted.
fn expired(record: &[u8]) -> Option<(RecorderExpired, FileName)> {
    let Kind::RecorderExpired(expired) = decode(record).ok()?.kind else {
        return None;
    };
    let file: FileName = expired.key.parse().ok()?;
    let same = (&file.class, file.shard) == (&expired.of_class, expired.of_shard);
    same.then_some((expired, file))
}

/// Files that were refused, so that the next one in their chain does not wait for them.
pub(super) type Refused = HashSet<String>;
