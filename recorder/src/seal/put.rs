//! One create-only put, tried until it is clear what became of it.

use std::time::Duration;

use bytes::Bytes;
use hoop_schema::{Class, EventHash, Shard};
use hoop_sinks::store::{CreateOptions, EvidenceStore, Source, StoreError};
use tokio::time::timeout;

use crate::back_off::BackOff;
use crate::commit::{Commit, HeadAnswer, Step};

/// How long one put may take before its answer counts as lost: large objects over a slow line.
const PUT_TIMEOUT: Duration = Duration::from_secs(300);

/// Unclear answers before it is given up until the next round.
const TRIES_MAX: u32 = 8;

/// What lies at the name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// These bytes, whoever put them.
    Ours,
    /// Other bytes.
    Others,
}

/// Puts an object, or finds out what is there.
///
/// # Errors
/// When the store does not answer for so long that it is better to begin anew later.
pub(super) async fn put(
    store: &dyn EvidenceStore,
    key: &str,
    bytes: &Bytes,
    options: &CreateOptions,
    (class, shard): (&Class, Shard),
) -> Result<Landed, StoreError> {
    let mut commit = Commit::new(EventHash::of(bytes));
    let (mut pause, mut tries) = (BackOff::default(), 0);
    loop {
        let error = match commit.step() {
            Step::Committed => return Ok(Landed::Ours),
            Step::Lost => return Ok(Landed::Others),
            Step::Put => {
                let put = store.create(key, bytes.clone(), options);
                let answer = timeout(PUT_TIMEOUT, put).await;
                let answer = answer.unwrap_or_else(|e| Err(no_answer(key, e.into())));
                commit.put_answered((&answer).into());
                answer.err()
            }
            Step::Head => {
                let (answer, error) = match store.head(key).await {
                    Ok(Some(head)) => (HeadAnswer::Object(head.sha256), None),
                    Ok(None) => (HeadAnswer::None, None),
                    Err(e) => (HeadAnswer::Unknown, Some(e)),
                };
                commit.head_answered(answer);
                error
            }
        };
        if let Some(error) = error {
            tries += 1;
            if tries >= TRIES_MAX {
                return Err(error);
            }
            let what = "cannot put an object of a sealed day";
            pause.wait(what, &error, class, shard).await;
        }
    }
}

fn no_answer(key: &str, source: Source) -> StoreError {
    StoreError::Unknown {
        operation: "create",
        key: key.to_owned(),
        source,
    }
}
