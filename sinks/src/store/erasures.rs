//! Erasures: sessions whose content was made unreadable for ever.
//!
//! ```text
//! erasures/v1/<session>/0000000000.json      an event of kind `recorder.erased`
//! ```
//! The event is created before the first key is destroyed, and there is one for a session, however often somebody asks.
//! So what can no longer be read is always explained; and where the keys are still there, what was begun is known. It says
//! nothing of the content, and stays when the session files themselves have left.

use std::collections::BTreeSet;

use hoop_schema::kinds::recorder::RecorderErased;
use hoop_schema::{Kind, SessionId, Timestamp};

use super::history::{self, Latest, ReadError, Writer};
use super::{Created, EvidenceStore, StoreError};

/// Prefix of all erasures.
pub const ERASURES_PREFIX: &str = "erasures/v1/";

/// Why an erasure could not be recorded or read.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// What is there cannot be read.
    #[error("{0} does not say what was erased")]
    Damaged(String),
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[source] StoreError),
}

/// What is known of one erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownErasure {
    /// What was said.
    pub erased: RecorderErased,
    /// When, by the clock of whoever said it.
    pub at: Timestamp,
}

/// All erasures, in order of their sessions.
///
/// # Errors
/// When the store does not answer, or what is there is no erasure.
pub async fn known(store: &dyn EvidenceStore) -> Result<Vec<KnownErasure>, ErasureError> {
    let found = history::latest(store, ERASURES_PREFIX).await?;
    found.into_iter().map(read).collect()
}

/// The sessions that have an erasure.
///
/// # Errors
/// When the store does not answer.
pub async fn sessions(store: &dyn EvidenceStore) -> Result<BTreeSet<SessionId>, ErasureError> {
    let listed = store.list(ERASURES_PREFIX, None).await;
    let listed = listed.map_err(ErasureError::Store)?;
    let session = |key: &str| {
        let (session, _) = key.strip_prefix(ERASURES_PREFIX)?.split_once('/')?;
        session.parse().ok()
    };
    Ok(listed.iter().filter_map(|o| session(&o.key)).collect())
}

/// The erasure of this session, if there is one.
///
/// # Errors
/// When the store does not answer, or what is there is no erasure.
pub async fn of(
    store: &dyn EvidenceStore,
    session: SessionId,
) -> Result<Option<KnownErasure>, ErasureError> {
    let prefix = format!("{ERASURES_PREFIX}{session}/");
    let found = history::latest(store, &prefix).await?.pop();
    found.map(read).transpose()
}

/// Records an erasure, unless that of this session is on record. Returns what is on record now, and whether this wrote it.
///
/// # Errors
/// When the store does not answer, or what is there is no erasure.
pub async fn record(
    store: &dyn EvidenceStore,
    writer: Writer<'_>,
    erased: RecorderErased,
    now: Timestamp,
) -> Result<(KnownErasure, bool), ErasureError> {
    let session = erased.erased_session;
    if let Some(known) = of(store, session).await? {
        return Ok((known, false));
    }
    let folder = format!("{ERASURES_PREFIX}{session}");
    let kind = Kind::from(erased.clone());
    match history::append(store, &folder, 0, writer, &kind, now).await {
        Ok(Created::Created) => Ok((KnownErasure { erased, at: now }, true)),
        // Somebody else was first; or it was this one, by an earlier try.
        Ok(Created::Exists) => match of(store, session).await? {
            Some(known) => Ok((known, false)),
            None => Err(ErasureError::Damaged(folder)),
        },
        Err(e) => Err(ErasureError::Store(e)),
    }
}

fn read(latest: Latest) -> Result<KnownErasure, ErasureError> {
    match latest.kind {
        Kind::RecorderErased(erased) => Ok(KnownErasure {
            erased,
            at: latest.at,
        }),
        other => Err(ErasureError::Damaged(format!(
            "an event of kind {}",
            other.name()
        ))),
    }
}

impl From<ReadError> for ErasureError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(key) => Self::Damaged(key),
            ReadError::Store(e) => Self::Store(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use hoop_schema::ProducerId;

    use super::*;
    use crate::store::memory::Memory;

    #[tokio::test]
    async fn one_erasure_of_a_session_is_on_record_whoever_asks_again() {
        let (store, id) = (Memory::new(), ProducerId::new("legal").unwrap());
        let writer = Writer {
            cluster: "sample",
            producer_id: &id,
        };
        let erased = |reason: &str| RecorderErased {
            erased_session: SessionId::from_bytes([1; 16]),
            erased_user: None,
            by: "carol".into(),
            reason: reason.into(),
        };
        let first = record(&store, writer, erased("asked"), Timestamp::from_micros(1));
        let (first, written) = first.await.unwrap();
        assert!(written);
        let again = record(&store, writer, erased("again"), Timestamp::from_micros(2));
        assert_eq!(again.await.unwrap(), (first.clone(), false));
        assert_eq!(known(&store).await.unwrap(), [first]);
        let other = of(&store, SessionId::from_bytes([2; 16])).await.unwrap();
        assert_eq!(other, None);
    }
}
