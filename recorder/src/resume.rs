//! What it takes to go on after a session file: finding it, and reading what it says of itself.

use hoop_schema::evidence::{Footer, PreviousFile, SessionFileName};
use hoop_schema::{Class, DAY_MICROS, Timestamp};
use hoop_sinks::store::{EvidenceStore, StoreError};

use crate::seal::SealError;
use crate::seal::fence::{self, Fence};
use crate::session_file::footer::{FooterError, SignedFooter, read_signed_footer};

/// Days that are listed first. A shard that took nothing for longer is found by listing everything.
const RECENT_DAYS: i64 = 3;

/// Whether a file is evidence: one that came into a day after its seal is not, and its records are in another file.
pub(crate) async fn counts(
    store: &dyn EvidenceStore,
    name: &SessionFileName,
) -> Result<bool, FooterError> {
    match fence::look(store, name).await {
        Ok(Fence::Open | Fence::Holds(_)) => Ok(true),
        Ok(Fence::Passed | Fence::Late(_)) => Ok(false),
        Err(SealError::Store(e)) => Err(FooterError::Store(e)),
        Err(e) => Err(FooterError::Damaged {
            key: name.to_string(),
            why: e.to_string(),
        }),
    }
}

/// Reads a session file's footer and makes sure that it is the file that its name promises.
///
/// # Errors
/// When the store does not answer, or the file is not what its name says.
pub(crate) async fn read(
    store: &dyn EvidenceStore,
    name: &SessionFileName,
) -> Result<(Footer, PreviousFile), FooterError> {
    let (signed, file) = read_signed(store, name).await?;
    Ok((signed.footer, file))
}

/// The same, with what was signed of the footer.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_signed(
    store: &dyn EvidenceStore,
    name: &SessionFileName,
) -> Result<(SignedFooter, PreviousFile), FooterError> {
    let key = name.to_string();
    let (signed, sha256) = read_signed_footer(store, &key).await?;
    let footer = &signed.footer;
    let same = footer.source == name.source
        && footer.class == name.class
        && footer.shard == name.shard
        && footer.pos_from == name.pos_from;
    if !same {
        return Err(FooterError::Damaged {
            key,
            why: "its footer is that of another file".to_owned(),
        });
    }
    Ok((signed, PreviousFile { key, sha256 }))
}

/// The names of a class's session files after `after`, in order of their keys.
pub(crate) async fn session_files(
    store: &dyn EvidenceStore,
    class: &Class,
    after: Option<&str>,
) -> Result<Vec<SessionFileName>, StoreError> {
    let listed = store
        .list(&SessionFileName::class_prefix(class), after)
        .await?;
    Ok(listed
        .iter()
        .filter_map(|object| object.key.parse().ok())
        .collect())
}

/// A key before all objects of recent days under `prefix`.
pub(crate) fn recent_day(prefix: &str, class: &Class, now: Timestamp) -> String {
    format!(
        "{prefix}class={class}/dt={}",
        now.plus_micros(-RECENT_DAYS * DAY_MICROS).day()
    )
}
