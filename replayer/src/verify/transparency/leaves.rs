//! What the leaves of a log say, against what is there.

use std::time::Duration;

use hoop_schema::EventHash;
use hoop_schema::evidence::seal::SealedFileName;
use hoop_schema::evidence::{SessionFileName, end_of_term};
use hoop_schema::transparency::leaf::{DeleteLeaf, FileLeaf};

use super::{Error, Log, Said};
use crate::verify::LogReport;

impl Log<'_> {
    /// Every file of the log is there as it was logged, or left by its term; every act is still on record.
    pub(super) async fn compare(
        &mut self,
        said: Said,
        report: &mut LogReport,
    ) -> Result<(), Error> {
        let series = (self.place.class.clone(), self.place.shard);
        for (source, end) in &said.ends {
            let end_of = (series.0.clone(), series.1, *source);
            self.walk.log_ends.insert(end_of, *end);
        }
        let mut came_since = 0;
        for (key, leaf) in &said.files {
            report.files += 1;
            let deletion = said.deletions.get(key);
            if self.walk.files.contains_key(key) {
                self.file(key, leaf);
                continue;
            }
            if let Some((object, sha256)) = self.walk.seals.replaced(key).cloned() {
                report.files_sealed += 1;
                if sha256 != leaf.sha256 {
                    let what = format!("{object} replaces a file of this name with another hash");
                    self.walk.altered(key, what);
                }
                continue;
            }
            if self.walk.seals.left_out(key) {
                let what = "the seal of its day leaves it out, though the transparency log has it";
                self.walk.altered(key, what.into());
                continue;
            }
            if let Some(deletion) = deletion {
                report.files_deleted += 1;
                self.deleted(key, leaf, deletion);
            } else if !self.walk.scope.days_limited {
                // It may have come since the files were listed.
                match self.store.head(key).await? {
                    Some(head) if head.sha256 == leaf.sha256 => came_since += 1,
                    Some(_) => self
                        .walk
                        .altered(key, "it is not the file that was logged".into()),
                    None => {
                        let what = "it is not there, though the transparency log has it and no deletion of it";
                        self.walk.incomplete(key, what.into());
                    }
                }
            }
        }
        if came_since > 0 {
            let files = crate::when::counted(came_since, "file");
            let note = format!("{files} came while this was read: run verify again");
            self.walk.report.notes.push(note);
        }
        for leaf in said.deletions.values() {
            let sealed = leaf.file.parse::<SealedFileName>().ok();
            if let Some(name) = &sealed {
                self.sealed_deleted(name, leaf);
            }
            let file = leaf.file.parse::<SessionFileName>();
            let of = sealed.map(|f| (f.class, f.shard));
            let of = of.or(file.ok().map(|f| (f.class, f.shard)));
            if of.is_some_and(|of| of == series) {
                self.walk.expired_shards.insert(series.clone());
                self.walk
                    .expired
                    .insert(leaf.file.clone(), leaf.file_sha256.clone());
            }
            self.on_record(&leaf.object, leaf.sha256).await?;
        }
        for (object, sha256) in &said.acts {
            self.walk.seals.log(object);
            self.on_record(object, *sha256).await?;
        }
        Ok(())
    }

    /// A file that is there has to be the one that was logged.
    fn file(&mut self, key: &str, leaf: &FileLeaf) {
        let Some(seen) = self.walk.files.get_mut(key) else {
            return;
        };
        seen.logged = true;
        if seen.sha256 != leaf.sha256 {
            let what = format!(
                "its bytes are not those that were logged, whose hash is {}",
                leaf.sha256
            );
            self.walk.altered(key, what);
            return;
        }
        let as_logged = seen.footer.as_ref().is_none_or(|footer| {
            (footer.source, footer.pos_from, footer.pos_to)
                == (leaf.source, leaf.pos_from, leaf.pos_to)
                && (footer.rows, footer.events_root) == (leaf.rows, leaf.events_root)
        });
        if !as_logged {
            self.walk.altered(
                key,
                "its leaf in the transparency log says something else than its footer".into(),
            );
        }
    }

    /// A file that is gone has to be the one whose deletion was logged, and its term over.
    fn deleted(&mut self, key: &str, leaf: &FileLeaf, deletion: &DeleteLeaf) {
        if deletion.file_sha256 != leaf.sha256.to_string() {
            let what = "its deletion on record is of a file with another hash";
            self.walk.altered(key, what.into());
        }
        let day = key.parse::<SessionFileName>().ok().map(|name| name.day);
        self.due(key, day.as_deref(), deletion);
    }

    /// A sealed object that is gone has to be the one that its seal names, and its term over.
    fn sealed_deleted(&mut self, name: &SealedFileName, deletion: &DeleteLeaf) {
        let key = name.to_string();
        let sealed = self.walk.seals.sha256(&key);
        if sealed.is_some_and(|sealed| deletion.file_sha256 != sealed.to_string()) {
            let what = "its deletion on record is of an object with another hash";
            self.walk.altered(&key, what.into());
        }
        self.due(&key, Some(&name.day), deletion);
    }

    /// Nothing may be deleted before its term is over.
    fn due(&mut self, key: &str, day: Option<&str>, deletion: &DeleteLeaf) {
        let term = Duration::from_secs(deletion.term_s);
        let due = day.and_then(|day| end_of_term(day, term));
        if due != Some(deletion.due) || deletion.due > self.trust.now {
            let what = format!(
                "it was deleted before its term was over, at {}",
                deletion.due
            );
            self.walk.altered(key, what);
        }
    }

    /// An object that a leaf names has to be there as it was.
    async fn on_record(&mut self, object: &str, sha256: EventHash) -> Result<(), Error> {
        match self.store.head(object).await? {
            Some(head) if head.sha256 == sha256 => {}
            Some(_) => self.walk.altered(
                object,
                "it is not what the transparency log has of it".into(),
            ),
            None => {
                let what = "it is not there, though the transparency log has it";
                self.walk.incomplete(object, what.into());
            }
        }
        Ok(())
    }
}
