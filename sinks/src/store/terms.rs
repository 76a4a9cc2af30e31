//! How long each class is kept, and since when: what an auditor compares the evidence with.
//!
//! ```text
//! terms/v1/class=standard/<n:010>.json      an event of kind `recorder.terms`; the last one is in force
//! ```
//! A recorder that starts with other terms than the last ones writes the next event. Recorders with different
//! configurations are seen to take turns. A class without events was always kept for ever.

use hoop_schema::kinds::recorder::{RecorderTerms, RetentionMode};
use hoop_schema::{Kind, Timestamp};

use super::history::{self, ReadError, Writer};
use super::{Created, EvidenceStore, StoreError};

/// Prefix of all terms.
pub const TERMS_PREFIX: &str = "terms/v1/";

/// Recorders that may write at once before one gives up for now.
const RIVALS_MAX: u32 = 8;

/// Why terms could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// What is there cannot be read.
    #[error("{0} does not say how long a class is kept")]
    Damaged(String),
    /// Others write all the time.
    #[error("several recorders say at once how long a class is kept")]
    Rivals,
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[source] StoreError),
}

/// The terms in force, by class, each with the time since when.
///
/// # Errors
/// When the store does not answer, or what is there are no terms.
pub async fn in_force(
    store: &dyn EvidenceStore,
) -> Result<Vec<(RecorderTerms, Timestamp)>, TermsError> {
    let found = history::latest(store, TERMS_PREFIX).await?;
    let terms = found.into_iter().map(|latest| match latest.kind {
        Kind::RecorderTerms(terms) => Ok((terms, latest.at)),
        _ => Err(TermsError::Damaged(TERMS_PREFIX.to_owned())),
    });
    terms.collect()
}

/// Says how long a class is kept, if that is not what was said last.
///
/// # Errors
/// When the store does not answer, or what is there are no terms.
pub async fn say(
    store: &dyn EvidenceStore,
    writer: Writer<'_>,
    terms: &RecorderTerms,
    now: Timestamp,
) -> Result<(), TermsError> {
    let folder = format!("{TERMS_PREFIX}class={}", terms.of_class);
    for _ in 0..RIVALS_MAX {
        let last = history::latest(store, &format!("{folder}/")).await?.pop();
        let number = last.as_ref().map_or(0, |last| last.number + 1);
        let same = match last.map(|last| last.kind) {
            Some(Kind::RecorderTerms(last)) => last == *terms,
            Some(_) => return Err(TermsError::Damaged(folder)),
            None => terms.term_s.is_none() && terms.mode == RetentionMode::None,
        };
        if same {
            return Ok(());
        }
        let kind = Kind::RecorderTerms(terms.clone());
        match history::append(store, &folder, number, writer, &kind, now).await {
            Ok(Created::Created) => return Ok(()),
            Ok(Created::Exists) => {}
            Err(e) => return Err(TermsError::Store(e)),
        }
    }
    Err(TermsError::Rivals)
}

impl From<ReadError> for TermsError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(key) => Self::Damaged(key),
            ReadError::Store(e) => Self::Store(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use hoop_schema::{Class, ProducerId};

    use super::*;
    use crate::store::memory::Memory;

    #[tokio::test]
    async fn only_a_change_is_written_and_nothing_is_forgotten() {
        let (store, id) = (Memory::new(), ProducerId::new("recorder").unwrap());
        let writer = Writer {
            cluster: "sample",
            producer_id: &id,
        };
        let terms = |term_s, mode| RecorderTerms {
            of_class: Class::standard(),
            term_s,
            mode,
        };
        let (never, year) = (
            terms(None, RetentionMode::None),
            terms(Some(31_536_000), RetentionMode::Compliance),
        );
        for (said, at) in [(&never, 1), (&year, 2), (&year, 3), (&never, 4)] {
            say(&store, writer, said, Timestamp::from_micros(at))
                .await
                .unwrap();
        }
        assert_eq!(store.list(TERMS_PREFIX, None).await.unwrap().len(), 2);
        let last = in_force(&store).await.unwrap();
        assert_eq!(last, [(never, Timestamp::from_micros(4))]);
    }
}
