//! Sealed days: every object is the one that its seal names, and the chain of session files goes on through it.

use std::collections::{BTreeMap, HashMap, HashSet};

use hoop_schema::evidence::Footer;
use hoop_schema::evidence::seal::{SealName, SealedObject};
use hoop_schema::{EventHash, Timestamp};

use super::file::Linked;
use super::{Finding, Verdict, Walk};
use crate::evidence::{Error, StoredFile};
use crate::sessions::View;

/// What the seals say.
#[derive(Default)]
pub(crate) struct Seals {
    /// Sealed objects by name.
    objects: BTreeMap<String, SealedObject>,
    /// Files that sealed objects replace: the object, and the file's hash.
    replaced: HashMap<String, (String, EventHash)>,
    /// Seals that cannot be read: what they sealed cannot be compared.
    damaged: HashSet<SealName>,
    /// Objects that were walked.
    seen: HashSet<String>,
    /// Session files of sealed days that no seal names.
    left_out: HashSet<String>,
    /// When each day was sealed, as its seal says, and whether a transparency log has that.
    sealed: BTreeMap<SealName, (Timestamp, bool)>,
}

impl Seals {
    /// A transparency log has this seal.
    pub(crate) fn log(&mut self, key: &str) {
        if let Ok(name) = key.parse::<SealName>()
            && let Some((_, logged)) = self.sealed.get_mut(&name)
        {
            *logged = true;
        }
    }

    /// Seals that no transparency log has, and when they were made.
    pub(crate) fn not_logged(&self) -> Vec<(SealName, Timestamp)> {
        let sealed = self.sealed.iter().filter(|(_, (_, logged))| !logged);
        sealed.map(|(name, (at, _))| (name.clone(), *at)).collect()
    }

    /// Hash of a sealed object, as its seal says.
    pub(crate) fn sha256(&self, key: &str) -> Option<EventHash> {
        self.objects.get(key).map(|object| object.sha256)
    }

    /// Whether this is a session file of a sealed day that the seal does not name.
    pub(crate) fn left_out(&self, key: &str) -> bool {
        self.left_out.contains(key)
    }

    /// The object that replaces a session file, and the hash of that file.
    pub(crate) fn replaced(&self, key: &str) -> Option<&(String, EventHash)> {
        self.replaced.get(key)
    }
}

impl Seals {
    /// This object is there, whatever it is like.
    pub(super) fn see(&mut self, key: &str) {
        if self.objects.contains_key(key) {
            self.seen.insert(key.to_owned());
        }
    }
}

impl Walk {
    /// Reads the seals of all days that are looked at.
    pub(super) async fn read_seals(&mut self, view: &View) -> Result<(), Error> {
        for name in &view.catalog.seals {
            match view.evidence.seal(name).await {
                Ok(seal) => {
                    self.seals.sealed.insert(name.clone(), (seal.sealed, false));
                    for object in seal.objects {
                        for file in &object.replaces {
                            let by = (object.key.clone(), file.sha256);
                            self.seals.replaced.insert(file.key.clone(), by);
                        }
                        self.seals.objects.insert(object.key.clone(), object);
                    }
                }
                Err(Error::Damaged { key, what }) => {
                    self.report.found(Finding::new(Verdict::Altered, key, what));
                    self.seals.damaged.insert(name.clone());
                }
                Err(e) => return Err(e),
            }
        }
        for file in &view.catalog.replaced {
            let seal = SealName {
                class: file.class.clone(),
                day: file.day.clone(),
            };
            let key = file.to_string();
            if !self.seals.replaced.contains_key(&key) && !self.seals.damaged.contains(&seal) {
                self.report.notes.push(format!(
                    "{key} came into its day after {seal}: it is not among the evidence, and nobody reads it"
                ));
                self.seals.left_out.insert(key);
            }
        }
        Ok(())
    }

    /// What the file after this one has to name.
    pub(super) fn linked(
        &self,
        stored: &StoredFile,
        sha256: EventHash,
        pos_to: Option<u64>,
    ) -> Linked {
        let key = stored.name.to_string();
        match self.seals.objects.get(&key).and_then(SealedObject::last) {
            Some(last) => Linked {
                key: last.key,
                sha256: last.sha256,
                pos_to,
            },
            None => Linked {
                key,
                sha256,
                pos_to,
            },
        }
    }

    /// A sealed object has to be the one that its seal names.
    pub(super) fn as_sealed(&mut self, stored: &StoredFile, footer: &Footer, sha256: EventHash) {
        let seal = stored.name.seal();
        if !stored.name.is_sealed() || self.seals.damaged.contains(&seal) {
            return;
        }
        let key = stored.name.to_string();
        let wrong = match self.seals.objects.get(&key) {
            // The newest file of a shard is looked at whatever its day, and seals of other days were not read.
            None if self.scope.days_limited => None,
            None => Some(format!("{seal} does not name it")),
            Some(object) if object.sha256 != sha256 => Some(format!(
                "its bytes are not those that {seal} names, whose hash is {}",
                object.sha256
            )),
            Some(object) => {
                let same = (footer.pos_to, footer.rows, footer.events_root)
                    == (object.pos_to, object.rows, object.events_root);
                (!same).then(|| format!("its footer says something else than {seal}"))
            }
        };
        if let Some(what) = wrong {
            self.report.found(Finding::new(Verdict::Altered, key, what));
        }
    }

    /// Objects that a seal names and that are not there.
    pub(super) fn seals_at_the_end(&mut self) {
        let missing = self
            .seals
            .objects
            .keys()
            .filter(|key| !self.seals.seen.contains(*key) && !self.expired.contains_key(*key));
        for key in missing {
            let what = "it is not there, though the seal of its day names it";
            self.report
                .found(Finding::new(Verdict::Incomplete, key, what));
        }
    }
}
