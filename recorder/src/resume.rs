//! Where a shard goes on: after the newest session file of its log.

use hoop_schema::evidence::{EVENTS_PREFIX, Footer, PreviousFile, SessionFileName};
use hoop_schema::{Class, Shard, SourceId, Timestamp};
use hoop_sinks::store::{EvidenceStore, StoreError};

use crate::session_file::footer::{FooterError, read_footer};

/// Days that are listed first. A shard that took nothing for longer is found by listing everything.
const RECENT_DAYS: i64 = 3;

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// The newest file of a shard, with its footer; `None` before the first one.
///
/// # Errors
/// When the store does not answer, or the newest file is damaged.
pub(crate) async fn newest_file(
    store: &dyn EvidenceStore,
    source: SourceId,
    class: &Class,
    shard: Shard,
    now: Timestamp,
) -> Result<Option<(Footer, PreviousFile)>, FooterError> {
    // Days do not go back within a shard, so if a recent day has a file of it, the newest one is recent.
    let recent = recent_day(EVENTS_PREFIX, class, now);
    for after in [Some(recent.as_str()), None] {
        let mut newest: Option<SessionFileName> = None;
        for name in session_files(store, class, after)
            .await
            .map_err(FooterError::Store)?
        {
            let mine = name.shard == shard && name.source == source;
            if mine && newest.as_ref().is_none_or(|n| n.pos_from < name.pos_from) {
                newest = Some(name);
            }
        }
        if let Some(name) = newest {
            return read(store, &name).await.map(Some);
        }
    }
    Ok(None)
}

/// Reads a session file's footer and makes sure that it is the file that its name promises.
///
/// # Errors
/// When the store does not answer, or the file is not what its name says.
pub(crate) async fn read(
    store: &dyn EvidenceStore,
    name: &SessionFileName,
) -> Result<(Footer, PreviousFile), FooterError> {
    let key = name.to_string();
    let (footer, sha256) = read_footer(store, &key).await?;
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
    Ok((footer, PreviousFile { key, sha256 }))
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
