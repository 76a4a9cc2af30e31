//! Who signed the checkpoints of a log, and who cosigned them.

use std::collections::{BTreeMap, HashMap};

use hoop_schema::Timestamp;
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::note::{Note, Signed, Verifier};
use hoop_schema::transparency::tree::Hash;

use super::{Heads, Log, signed};
use crate::verify::{Cosigned, Finding, LogReport, Verdict};

impl Log<'_> {
    /// Every checkpoint has to have the root of the entries, and a trusted key's signature.
    pub(super) fn signatures(
        &mut self,
        heads: &Heads,
        roots: &HashMap<u64, Hash>,
        announced: &[(u64, Verifier)],
        report: &mut LogReport,
    ) {
        let right = |c: &Checkpoint| roots.get(&c.size).is_none_or(|root| *root == c.root);
        for (size, (_, checkpoint)) in &heads.stored {
            if !right(checkpoint) {
                let what = format!(
                    "it is not what the first {size} leaves of the log make: they were altered, or the log has two pasts"
                );
                self.walk.altered(self.place.checkpoint_key(*size), what);
            }
        }
        if self.trust.keys.is_empty() {
            return;
        }
        let trusted = self.trusted(&heads.stored, &right, announced);
        for (size, (note, _)) in &heads.stored {
            let key = self.place.checkpoint_key(*size);
            self.signed_by_any(&key, note, &trusted);
        }
        for (note, checkpoint) in &heads.kept {
            let object = format!("checkpoint of {} that was kept", checkpoint.origin);
            self.signed_by_any(&object, note, &trusted);
        }
        if let Some((_, (note, _))) = heads.stored.last_key_value() {
            let signers = trusted.iter().filter(|key| signed(note, key).is_some());
            report.signed_by = signers.map(Verifier::to_string).collect();
        }
    }

    /// The keys given, and those that a checkpoint signed by a trusted key covers the announcement of.
    fn trusted(
        &self,
        checkpoints: &BTreeMap<u64, (Note, Checkpoint)>,
        right: &impl Fn(&Checkpoint) -> bool,
        announced: &[(u64, Verifier)],
    ) -> Vec<Verifier> {
        let mut trusted = self.trust.keys.clone();
        loop {
            let is_covered = |index: u64| {
                checkpoints
                    .range(index + 1..)
                    .any(|(_, (note, checkpoint))| {
                        right(checkpoint) && trusted.iter().any(|key| signed(note, key).is_some())
                    })
            };
            let next = announced
                .iter()
                .find(|(index, key)| !trusted.contains(key) && is_covered(*index));
            let Some((_, key)) = next else { return trusted };
            trusted.push(key.clone());
        }
    }

    fn signed_by_any(&mut self, object: &str, note: &Note, trusted: &[Verifier]) {
        let said: Vec<Signed> = trusted.iter().map(|key| note.signed_by(key)).collect();
        if said.iter().any(|said| matches!(said, Signed::Yes(_))) {
            return;
        }
        if said.contains(&Signed::Wrong) {
            self.walk.altered(
                object,
                "its signature is not one of the key that it names".into(),
            );
            return;
        }
        let names: Vec<&str> = note.signatures.iter().map(|s| s.name.as_str()).collect();
        let what = format!(
            "it is signed by {}, and none of these keys is known: give the right one with --key",
            names.join(", ")
        );
        self.walk
            .report
            .found(Finding::new(Verdict::UnknownKey, object, what));
    }

    /// The latest cosignature of every witness.
    pub(super) fn cosignatures(
        &mut self,
        heads: &Heads,
        roots: &HashMap<u64, Hash>,
        report: &mut LogReport,
    ) {
        let kept = format!("checkpoint of {} that was kept", self.place.origin());
        let stored = heads.stored.iter();
        let stored = stored.map(|(size, (note, c))| (self.place.checkpoint_key(*size), note, c));
        let notes: Vec<(String, &Note, &Checkpoint)> = stored
            .chain(heads.kept.iter().map(|(note, c)| (kept.clone(), note, c)))
            .chain(
                heads
                    .cosigned
                    .iter()
                    .map(|(key, note, c)| (key.clone(), note, c)),
            )
            .collect();
        for witness in &self.trust.witnesses {
            let mut latest: Option<Cosigned> = None;
            for (object, note, checkpoint) in &notes {
                let time = match note.signed_by(witness) {
                    Signed::Yes(time) => time.unwrap_or(0),
                    Signed::No => continue,
                    Signed::Wrong => {
                        let what = format!("the cosignature of {} is wrong", witness.name());
                        self.walk.altered(object, what);
                        continue;
                    }
                };
                if !self.is_past(checkpoint, roots, report.leaves, object) {
                    continue;
                }
                let micros = i64::try_from(time)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(1_000_000);
                let cosigned = Cosigned {
                    witness: witness.name().to_owned(),
                    leaves: checkpoint.size,
                    at: Timestamp::from_micros(micros),
                };
                if latest
                    .as_ref()
                    .is_none_or(|l| (l.leaves, l.at) < (cosigned.leaves, cosigned.at))
                {
                    latest = Some(cosigned);
                }
            }
            report.cosigned.extend(latest);
        }
    }

    /// Whether a checkpoint that a witness saw is in the log's past; if not, that is a finding.
    fn is_past(
        &mut self,
        checkpoint: &Checkpoint,
        roots: &HashMap<u64, Hash>,
        leaves: u64,
        object: &str,
    ) -> bool {
        if checkpoint.size > leaves {
            let what = format!(
                "a witness saw {} leaves, and the log has {leaves}: the newest were cut off",
                checkpoint.size
            );
            self.walk.incomplete(object, what);
            return false;
        }
        match roots.get(&checkpoint.size) {
            Some(root) if *root == checkpoint.root => true,
            Some(_) => {
                self.walk
                    .altered(object, "a witness saw another past of this log".into());
                false
            }
            // Its leaves could not be read, which is a finding already.
            None => false,
        }
    }
}
