//! Encrypted content, made readable as far as its keys are there and nobody has erased it.
//!
//! What is done here is for showing alone: an entry keeps its exact bytes, which is what proofs are about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoop_schema::bytes::{decode, encode};
use hoop_schema::encryption::{ContentKey, encrypted_content};
use hoop_schema::{KeyId, SessionId, Timestamp};
use hoop_sinks::keys::KeyRing;
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::erasures::{self, ErasureError, KnownErasure};
use tokio::sync::Mutex;

use crate::evidence::{Entry, Error};

/// What every event with encrypted content has in it.
const MARK: &str = "\"encryption\":{";

/// Keys that are remembered; sessions come one after the other, so more are not needed again.
const KEYS_MAX: usize = 1024;

/// Digits of a key's name that people are told.
const KEY_DIGITS: usize = 8;

/// Findings that are told one by one.
const DAMAGE_MAX: usize = 20;

/// The content of one place of evidence.
#[derive(Debug)]
pub struct Contents {
    store: Option<Arc<dyn EvidenceStore>>,
    ring: Option<KeyRing>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The sessions that have an erasure, once they were listed.
    erased: Option<BTreeSet<SessionId>>,
    keys: BTreeMap<(SessionId, KeyId), Arc<Fate>>,
    damage: BTreeSet<String>,
}

/// What became of a key.
#[derive(Debug)]
enum Fate {
    /// It is here.
    Key(ContentKey),
    /// It is not, and what is shown instead.
    Unreadable(String),
}

impl Contents {
    /// Content of the evidence in this store, with these keys if any.
    pub fn new(store: Option<Arc<dyn EvidenceStore>>, ring: Option<KeyRing>) -> Self {
        Self {
            store,
            ring,
            state: Mutex::default(),
        }
    }

    /// The keys, if a place of them was named.
    pub fn ring(&self) -> Option<&KeyRing> {
        self.ring.as_ref()
    }

    /// Makes the content of an entry readable, or lets it say why it is not. Entries without encrypted content stay as
    /// they are.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn read(&self, entry: &mut Entry) -> Result<(), Error> {
        let marked = std::str::from_utf8(&entry.bytes).is_ok_and(|text| text.contains(MARK));
        if !marked {
            return Ok(());
        }
        let Ok(mut event) = decode(&entry.bytes) else {
            return Ok(());
        };
        let session_id = event.envelope.session_id;
        let Some(content) = encrypted_content(&mut event) else {
            return Ok(());
        };
        let Some(key_id) = content.key_id() else {
            return Ok(());
        };
        match &*self.fate(session_id, key_id).await? {
            Fate::Unreadable(why) => content.unreadable(why),
            Fate::Key(key) => {
                if content.decrypt(key).is_err() {
                    let event_id = event.envelope.event_id;
                    let what = format!(
                        "the content of event {event_id} is not what was encrypted with key {key_id}: it was changed, or the key was"
                    );
                    self.state.lock().await.note(what);
                    if let Some(content) = encrypted_content(&mut event) {
                        content.unreadable("altered: it is not what was encrypted");
                    }
                }
            }
        }
        entry.readable = encode(&event.envelope, &event.kind)
            .ok()
            .map(|encoded| encoded.bytes.into());
        Ok(())
    }

    /// The erasure of a session, if there is one.
    ///
    /// # Errors
    /// When the store does not answer, or what it has is no erasure.
    pub async fn erasure(&self, session_id: SessionId) -> Result<Option<KnownErasure>, Error> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let mut state = self.state.lock().await;
        if state.erased.is_none() {
            let listed = erasures::sessions(&**store).await;
            state.erased = Some(listed.map_err(of_erasure)?);
        }
        let is_erased = state
            .erased
            .as_ref()
            .is_some_and(|erased| erased.contains(&session_id));
        match is_erased {
            true => erasures::of(&**store, session_id).await.map_err(of_erasure),
            false => Ok(None),
        }
    }

    /// The erasure of a session of which encrypted content was read. Nothing is asked where none was.
    ///
    /// # Errors
    /// When the store does not answer, or what it has is no erasure.
    pub async fn erasure_of_read(
        &self,
        session_id: SessionId,
    ) -> Result<Option<KnownErasure>, Error> {
        let has_read = self.state.lock().await.erased.is_some();
        match has_read {
            true => self.erasure(session_id).await,
            false => Ok(None),
        }
    }

    /// What is wrong with keys and content that were asked for; the exit code is that of damage.
    pub async fn damage(&self) -> Vec<String> {
        self.state.lock().await.damage.iter().cloned().collect()
    }

    async fn fate(&self, session_id: SessionId, key_id: KeyId) -> Result<Arc<Fate>, Error> {
        let known = self
            .state
            .lock()
            .await
            .keys
            .get(&(session_id, key_id))
            .cloned();
        if let Some(fate) = known {
            return Ok(fate);
        }
        let fate = Arc::new(self.find(session_id, key_id).await?);
        let mut state = self.state.lock().await;
        if state.keys.len() >= KEYS_MAX {
            state.keys.clear();
        }
        state.keys.insert((session_id, key_id), Arc::clone(&fate));
        Ok(fate)
    }

    async fn find(&self, session_id: SessionId, key_id: KeyId) -> Result<Fate, Error> {
        // First: an erasure that was broken off is one, though a key is still there.
        if let Some(KnownErasure { erased, at }) = self.erasure(session_id).await? {
            return Ok(Fate::Unreadable(erased_on(at, &erased.reason)));
        }
        let Some(ring) = self.ring.as_ref().filter(|ring| ring.can_read()) else {
            // Short enough for 80 columns.
            let key = key_id
                .to_string()
                .chars()
                .take(KEY_DIGITS)
                .collect::<String>();
            let why = format!("encrypted, key {key}; give --keys and --master-key");
            return Ok(Fate::Unreadable(why));
        };
        let why = match ring.read(session_id, key_id).await {
            Ok(Some(key)) => return Ok(Fate::Key(key)),
            Ok(None) => format!(
                "it is not in {}, and no erasure of session {session_id} is on record",
                ring.place()
            ),
            Err(hoop_sinks::keys::KeyError::Store(e)) => return Err(e.into()),
            Err(error) => format!("{:#}", anyhow::Error::new(error)),
        };
        let mut state = self.state.lock().await;
        state.note(format!("the key {key_id} cannot be used: {why}"));
        Ok(Fate::Unreadable(format!(
            "encrypted, and key {key_id} cannot be used"
        )))
    }
}

impl State {
    fn note(&mut self, what: String) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.insert(what);
        }
    }
}

/// What is shown in the place of erased content.
pub fn erased_on(at: Timestamp, reason: &str) -> String {
    let at = at.to_string();
    let day = at.split('T').next().unwrap_or_default();
    match reason {
        "" => format!("erased on {day}"),
        reason => format!("erased on {day}: {reason}"),
    }
}

pub(crate) fn of_erasure(error: ErasureError) -> Error {
    match error {
        ErasureError::Damaged(key) => Error::Damaged {
            key,
            what: "it does not say what was erased".into(),
        },
        ErasureError::Store(e) => e.into(),
    }
}
