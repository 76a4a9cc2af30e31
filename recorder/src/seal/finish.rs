//! Whether a day is finished: whether no recorder will ever commit another session file of it.
//!
//! A file's name is taken from its first position and from the day on which the log took the record there, and days do
//! not go back within a shard. So a shard is done with a day when
//!
//! - it has a file of a later day, whose link says that nothing of the day is missing before it; or
//! - the log's next record after its newest file is of a later day; or
//! - the log holds no further record, and the day has been over for long enough that clocks do not matter.
//!
//! The last one is an expectation, not a proof: the clock of a broker may be hours behind. What comes then all the same is
//! not lost, since a recorder that finds its day sealed commits under the day after (`fence`).

use std::time::Duration;

use hoop_schema::Shard;
use hoop_schema::evidence::SessionFileName;
use hoop_sinks::log::{EventReader, LogRecord, Position, ReadError};
use hoop_sinks::store::EvidenceStore;

use super::SealError;
use super::plan::Listed;
use crate::resume::read;

/// Whether every shard of the reader's log is done with `day`. `files` are all session files of the class.
///
/// # Errors
/// When store or log do not answer, a file is damaged, or files are missing.
pub(super) async fn is_finished(
    store: &dyn EvidenceStore,
    reader: &dyn EventReader,
    files: &[Listed],
    day: &str,
) -> Result<bool, SealError> {
    for shard in (0..reader.shards()).map(Shard) {
        let mine = files
            .iter()
            .map(|file| &file.name)
            .filter(|name| name.shard == shard && name.source == reader.source());
        let (mut last, mut next): (Option<&SessionFileName>, Option<&SessionFileName>) =
            (None, None);
        for name in mine {
            if name.day.as_str() <= day {
                last = last
                    .filter(|last| last.pos_from > name.pos_from)
                    .or(Some(name));
            } else {
                next = next
                    .filter(|next| next.pos_from < name.pos_from)
                    .or(Some(name));
            }
        }
        let done = match next {
            Some(next) => {
                follows(store, last, next, day).await?;
                true
            }
            None => at_the_end(store, reader, shard, last, day).await?,
        };
        if !done {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes sure that no file of `day` is missing between the last one up to it and the first one after it.
async fn follows(
    store: &dyn EvidenceStore,
    last: Option<&SessionFileName>,
    next: &SessionFileName,
    day: &str,
) -> Result<(), SealError> {
    let (footer, _) = read(store, next).await?;
    let Some(previous) = footer.previous else {
        return match last {
            Some(last) if last.day == day => Err(SealError::Chain {
                key: next.to_string(),
                what: format!("names no file before it, though {last} is there"),
            }),
            _ => Ok(()),
        };
    };
    let is_last = last.is_some_and(|last| last.to_string() == previous.key);
    let is_earlier = previous
        .key
        .parse::<SessionFileName>()
        .is_ok_and(|name| name.day.as_str() < day);
    let day_has_none = last.is_none_or(|last| last.day != day);
    if is_last || is_earlier && day_has_none {
        return Ok(());
    }
    Err(SealError::Chain {
        key: next.to_string(),
        what: format!("follows {}, which is not there", previous.key),
    })
}

/// Whether the log holds nothing of `day` after the last file.
async fn at_the_end(
    store: &dyn EvidenceStore,
    reader: &dyn EventReader,
    shard: Shard,
    last: Option<&SessionFileName>,
    day: &str,
) -> Result<bool, SealError> {
    let from = match last {
        Some(last) => Position(read(store, last).await?.0.pos_to),
        None => Position(0),
    };
    let records = match first(reader, shard, from).await {
        // What has expired unread is of no day any more; what follows it is.
        Err(ReadError::Expired { first: held, .. }) => first(reader, shard, held).await,
        other => other,
    };
    let next = records.map_err(SealError::Log)?.into_iter().next();
    Ok(next.is_none_or(|record| record.log_ts.day().as_str() > day))
}

async fn first(
    reader: &dyn EventReader,
    shard: Shard,
    from: Position,
) -> Result<Vec<LogRecord>, ReadError> {
    reader.read(shard, from, 1, Duration::ZERO).await
}
