//! Legal holds: files that must not be deleted, whatever their term.
//!
//! ```text
//! holds/v1/<hold_id>/<n:010>.json      an event of kind `recorder.hold`; n counts from 0, and the last one is in force
//! ```
//! Every change is a create-only put of the next number, so of two people who change one hold at a time one is told to
//! look again. A hold names a session or a user; every session file that has rows of it is kept.

use std::collections::BTreeMap;

use hoop_schema::bytes::decode;
use hoop_schema::kinds::recorder::RecorderHold;
use hoop_schema::{Class, Kind, ProducerId, SessionId, Shard, Timestamp};
use hoop_sinks::store::{Created, EvidenceStore, Metadata, StoreError};

use crate::own::OwnEvents;

/// Prefix of all holds.
pub const HOLDS_PREFIX: &str = "holds/v1/";

/// The longest hold event that is read, in bytes; any event is shorter.
const HOLD_BYTES_MAX: u64 = 1 << 20;

/// Why a hold could not be set, released or read.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The name does not fit.
    #[error("{0:?} cannot name a hold; use 1 to 64 characters of a-z 0-9 -")]
    Name(String),
    /// A hold names either a session or a user.
    #[error("a hold names a session or a user, and only one of them")]
    Target,
    /// There is no such hold in force.
    #[error("there is no hold {0} in force")]
    NotHeld(String),
    /// Somebody changed it at the same time.
    #[error("somebody else changed hold {0} at the same time; look at it and try again")]
    Rival(String),
    /// What is there cannot be read, so nothing is deleted until somebody looks at it.
    #[error("{0} is not a hold")]
    Damaged(String),
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[source] StoreError),
}

/// The holds of one store, changed in the name of one recorder or tool.
#[derive(Debug, Clone, Copy)]
pub struct Holds<'a> {
    store: &'a dyn EvidenceStore,
    cluster: &'a str,
    producer_id: &'a ProducerId,
}

impl<'a> Holds<'a> {
    /// The holds of this store. `producer_id` names who writes the events.
    pub fn new(
        store: &'a dyn EvidenceStore,
        cluster: &'a str,
        producer_id: &'a ProducerId,
    ) -> Self {
        Self {
            store,
            cluster,
            producer_id,
        }
    }

    /// All holds in force.
    ///
    /// # Errors
    /// When the store does not answer, or what is there is not a hold.
    pub async fn in_force(&self) -> Result<Vec<RecorderHold>, HoldError> {
        let listed = self
            .store
            .list(HOLDS_PREFIX, None)
            .await
            .map_err(HoldError::Store)?;
        // In order of keys, so the last one of each hold is the one that counts.
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for object in listed {
            let folder = object
                .key
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder)
                .to_owned();
            last.insert(folder, object.key);
        }
        let mut holds = Vec::new();
        for key in last.into_values() {
            let hold = self.read(&key).await?;
            holds.extend(Some(hold).filter(|h| h.held));
        }
        Ok(holds)
    }

    /// Sets a hold, from now on.
    ///
    /// # Errors
    /// When the name or target does not fit, somebody changes it at the same time, or the store does not answer.
    pub async fn set(&self, hold: RecorderHold, now: Timestamp) -> Result<(), HoldError> {
        if hold.held_session.is_some() == hold.held_user.is_some() {
            return Err(HoldError::Target);
        }
        let next = self.next(&hold.hold_id).await?;
        self.write(RecorderHold { held: true, ..hold }, next, now)
            .await
    }

    /// Releases a hold, from now on.
    ///
    /// # Errors
    /// When it is not in force, somebody changes it at the same time, or the store does not answer.
    pub async fn release(
        &self,
        hold_id: &str,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), HoldError> {
        let next = self.next(hold_id).await?;
        let last = next
            .checked_sub(1)
            .ok_or_else(|| HoldError::NotHeld(hold_id.to_owned()))?;
        let hold = self.read(&key(hold_id, last)).await?;
        if !hold.held {
            return Err(HoldError::NotHeld(hold_id.to_owned()));
        }
        let released = RecorderHold {
            held: false,
            by: by.to_owned(),
            reason: reason.to_owned(),
            ..hold
        };
        self.write(released, next, now).await
    }

    /// The number that the next change of a hold has.
    async fn next(&self, hold_id: &str) -> Result<u64, HoldError> {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if hold_id.is_empty() || hold_id.len() > 64 || !hold_id.bytes().all(fits) {
            return Err(HoldError::Name(hold_id.chars().take(100).collect()));
        }
        let prefix = format!("{HOLDS_PREFIX}{hold_id}/");
        let listed = self
            .store
            .list(&prefix, None)
            .await
            .map_err(HoldError::Store)?;
        Ok(listed.len() as u64)
    }

    async fn read(&self, key: &str) -> Result<RecorderHold, HoldError> {
        let bytes = self
            .store
            .get(key, 0..HOLD_BYTES_MAX)
            .await
            .map_err(HoldError::Store)?;
        match decode(&bytes).map(|event| event.kind) {
            Ok(Kind::RecorderHold(hold)) => Ok(hold),
            _ => Err(HoldError::Damaged(key.to_owned())),
        }
    }

    async fn write(
        &self,
        hold: RecorderHold,
        number: u64,
        now: Timestamp,
    ) -> Result<(), HoldError> {
        let hold_id = hold.hold_id.clone();
        let key = key(&hold_id, number);
        let epoch = u64::try_from(now.as_micros()).unwrap_or_default();
        // A strand of its own for every change: it stands in no log, and its place is the object's name.
        let mut own = OwnEvents::new(
            self.cluster,
            self.producer_id,
            epoch,
            &Class::standard(),
            Shard(0),
        );
        let bytes = own.make(now, &hold.into());
        match self.store.create(&key, bytes, &Metadata::new()).await {
            Ok(Created::Created) => Ok(()),
            Ok(Created::Exists) => Err(HoldError::Rival(hold_id)),
            Err(e) => Err(HoldError::Store(e)),
        }
    }
}

/// Whether a file that has these sessions, each with its user, is held.
pub(crate) fn holds_any(holds: &[RecorderHold], sessions: &[(SessionId, Option<String>)]) -> bool {
    sessions.iter().any(|(session, user)| {
        holds.iter().any(|h| {
            h.held_session == Some(*session) || (h.held_user.is_some() && h.held_user == *user)
        })
    })
}

fn key(hold_id: &str, number: u64) -> String {
    format!("{HOLDS_PREFIX}{hold_id}/{number:010}.json")
}
