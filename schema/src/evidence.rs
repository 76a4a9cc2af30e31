//! Names and footers of evidence files: what the recorder writes and the replayer relies on.
//!
//! ```text
//! events/v1/class=standard/dt=2026-11-22/shard=003/<source 8>-<pos_from:020>.parquet     session files
//! sessions/v1/class=standard/dt=2026-11-22/shard=003/<source 8>-<pos_from:020>.parquet   their index, rebuildable
//! ```
//! Names of sealed days are in [`seal`].
//!
//! A session file's name holds only what two rival recorders agree on: source, class, shard, first position, and the
//! UTC day on which the log took the record at that position. So a create-only put of it is the commit. What they may
//! disagree on (where the file ends, say) is in the footer: one JSON text under the key [`FOOTER_KEY`],
//! signed under the key [`SIGNATURE_KEY`].
//! `class` comes before `dt`, because lifecycle rules of buckets work on prefixes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Class, EventHash, ProducerId, Shard, SourceId};
use crate::row::{Column, ColumnType, column};
use crate::time::{DAY_MICROS, Timestamp};

mod file_name;
pub mod seal;

pub use file_name::FileName;

/// Key of the footer among the Parquet file's key-value metadata.
pub const FOOTER_KEY: &str = "hoop.session_file";

/// Key of the recorder's signature among the Parquet file's key-value metadata, where the recorder has a key: a signed
/// note over the file's name and the text of its footer.
pub const SIGNATURE_KEY: &str = "hoop.signature";

/// Prefix of all session files.
pub const EVENTS_PREFIX: &str = "events/v1/";

/// Prefix of all records of deletions.
pub const RETENTION_PREFIX: &str = "retention/v1/";

/// Prefix of the index of sessions.
pub const SESSIONS_PREFIX: &str = "sessions/v1/";

/// The most distinct values that a list of the index of sessions has; a session that has more says so by this length.
pub const INDEX_LIST_MAX: usize = 64;

/// Every column of a file's index of sessions, in file order: one row per session that the file holds rows of, in the
/// order of those rows. What it says is of this file alone; a session that spans files has a row in each. Columns
/// are only ever added, after all of those that exist.
pub const SESSION_COLUMNS: &[Column] = {
    use ColumnType::{Int64, Text, TextList, Timestamp as Time};
    &[
        column("session_id", Text(true), false, "The session"),
        column(
            "username",
            Text(true),
            true,
            "Whose session it is: the first user named",
        ),
        column("groups", TextList, true, "Groups of that user"),
        column("source_ip", Text(true), true, "Address of the client"),
        column("auth_method", Text(true), true, "How the caller proved it"),
        column(
            "basis",
            Text(true),
            true,
            "What holds the session together; null where its start is in another file",
        ),
        column("command", Text(true), true, "Kubectl-Command, a claim"),
        column("first_ts", Time, false, "Earliest ts of its rows"),
        column("last_ts", Time, false, "Latest ts of its rows"),
        column("requests", Int64, false, "Number of intents"),
        column("denied", Int64, false, "Number of intents that were denied"),
        column(
            "masked",
            Int64,
            false,
            "Number of values masked, of all rows",
        ),
        column(
            "verbs",
            TextList,
            false,
            "Distinct verbs, sorted, at most 64",
        ),
        column(
            "resources",
            TextList,
            false,
            "Distinct resources, with the subresource after a slash, sorted, at most 64",
        ),
        column(
            "namespaces",
            TextList,
            false,
            "Distinct namespaces, sorted, at most 64",
        ),
        column(
            "gaps",
            Int64,
            false,
            "Number of gap events in this file that are rows of this session or name it",
        ),
        column(
            "ended",
            Int64,
            false,
            "Number of session.end events: one per strand that ended here",
        ),
        column(
            "first_row",
            Int64,
            false,
            "Number of its first row in the file, from 0",
        ),
        column(
            "row_count",
            Int64,
            false,
            "Number of its rows in the file, which are neighbours",
        ),
        column(
            "commands",
            TextList,
            false,
            "Distinct Kubectl-Command, claims, sorted, at most 64",
        ),
    ]
};

/// The name of a session file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionFileName {
    /// The class.
    pub class: Class,
    /// UTC day on which the log took the first record, `YYYY-MM-DD`.
    pub day: String,
    /// The shard.
    pub shard: Shard,
    /// The log.
    pub source: SourceId,
    /// First position covered.
    pub pos_from: u64,
}

/// A name that is not one of a session file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a session file: {0:?}")]
pub struct NotASessionFile(String);

impl SessionFileName {
    /// The name of the file's index of sessions.
    pub fn index_key(&self) -> String {
        format!("{SESSIONS_PREFIX}{}", self.tail())
    }

    /// Prefix of all files of a class, with the slash.
    pub fn class_prefix(class: &Class) -> String {
        format!("{EVENTS_PREFIX}class={class}/")
    }

    fn tail(&self) -> String {
        let Self {
            class,
            day,
            shard,
            source,
            pos_from,
        } = self;
        format!("class={class}/dt={day}/shard={shard}/{source}-{pos_from:020}.parquet")
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text
            .strip_prefix(EVENTS_PREFIX)
            .or_else(|| text.strip_prefix(SESSIONS_PREFIX))?;
        let (class, day, shard, file) = folders(rest)?;
        let (source, pos_from) = file.split_once('-')?;
        Some(Self {
            class,
            day: day.to_owned(),
            shard,
            source: source.parse().ok()?,
            pos_from: position(pos_from)?,
        })
    }
}

/// The end of a UTC day of the form `YYYY-MM-DD`; `None` for one that does not exist, which no recorder writes.
pub fn end_of_day(day: &str) -> Option<Timestamp> {
    Some(Timestamp::beginning_of(day)?.plus_micros(DAY_MICROS))
}

/// When the term of what belongs to a day is over: terms count from the end of the UTC day on which the log took the
/// events. `None` for a day that does not exist, and for a term beyond all time.
pub fn end_of_term(day: &str, term: Duration) -> Option<Timestamp> {
    let term = i64::try_from(term.as_micros()).ok()?;
    Some(end_of_day(day)?.plus_micros(term))
}

/// Class, day and shard of `class=…/dt=…/shard=…/<file>.parquet`, and what is left of the file's name.
fn folders(rest: &str) -> Option<(Class, &str, Shard, &str)> {
    let mut parts = rest.split('/');
    let class = parts.next()?.strip_prefix("class=")?.parse().ok()?;
    let day = parts.next()?.strip_prefix("dt=")?;
    let shard = parts.next()?.strip_prefix("shard=")?;
    let file = parts.next()?.strip_suffix(".parquet")?;
    if parts.next().is_some() || !is_day(day) || !is_digits(shard, 3) {
        return None;
    }
    Some((class, day, Shard(shard.parse().ok()?), file))
}

/// Whether a text has the form `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    let fits = |(i, b): (usize, u8)| match i {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(fits)
}

fn is_digits(text: &str, length_min: usize) -> bool {
    text.len() >= length_min && text.bytes().all(|b| b.is_ascii_digit())
}

/// A position as names have it.
fn position(text: &str) -> Option<u64> {
    is_digits(text, 20).then(|| text.parse().ok())?
}

impl fmt::Display for SessionFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{EVENTS_PREFIX}{}", self.tail())
    }
}

impl FromStr for SessionFileName {
    type Err = NotASessionFile;

    fn from_str(text: &str) -> Result<Self, NotASessionFile> {
        Self::parse(text).ok_or_else(|| NotASessionFile(text.to_owned()))
    }
}

/// What a session file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// Format version of the file: 1.
    pub v: u32,
    /// The log.
    pub source: SourceId,
    /// The class.
    pub class: Class,
    /// The shard.
    pub shard: Shard,
    /// First position covered.
    pub pos_from: u64,
    /// Position after the last one covered; the next file begins here.
    pub pos_to: u64,
    /// Number of rows.
    pub rows: u64,
    /// Number of rows without a position, made by the recorder.
    pub recorder_rows: u64,
    /// Number of records left out because they were copies of earlier ones.
    pub copies: u64,
    /// Merkle root (RFC 6962) over the hashes of the rows' events, in row order.
    pub events_root: EventHash,
    /// The file before this one in the same shard; absent on the first, and where that one left by its term.
    pub previous: Option<PreviousFile>,
    /// How far the producers' sequences go at `pos_to`, so that copies and holes are known over a restart.
    pub producers: Vec<ProducerState>,
    /// When the file was made, by the clock of the recorder.
    pub written: Timestamp,
    /// What wrote it: name and version.
    pub writer: String,
}

/// A link to the previous session file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousFile {
    /// Name of the object.
    pub key: String,
    /// SHA-256 of the object, hexadecimal.
    pub sha256: EventHash,
}

/// How far one producer's sequence goes in one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: u64,
    /// The highest `producer_seq` seen.
    pub last_seq: u64,
    /// Holes below it that are still open: first and last missing sequence, and whether a gap was declared.
    pub holes: Vec<Hole>,
    /// When its last event came, by the log's clock; states older than the memory of the recorder are dropped.
    pub last_seen: Timestamp,
}

/// A hole in a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// First missing sequence.
    pub first_seq: u64,
    /// Last missing sequence.
    pub last_seq: u64,
    /// Position at which it was seen.
    pub since_position: u64,
    /// Log time at which it was seen.
    pub since: Timestamp,
    /// Whether a `gap` event was written for it.
    pub declared: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let key = "events/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042.parquet";
        let name: SessionFileName = key.parse().unwrap();
        assert_eq!(name.to_string(), key);
        assert_eq!(name.index_key(), key.replace("events/", "sessions/"));
    }

    #[test]
    fn other_objects_are_not_session_files() {
        for key in [
            "events/v1/class=standard/dt=2026-11-22/shard=003/x.parquet",
            "events/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-42.parquet",
            "events/v1/class=standard/dt=20261122/shard=003/00ff00ff-00000000000000000042.parquet",
            "events/v1/class=A/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042.parquet",
            "events/v2/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042.parquet",
            "events/v1/class=standard/dt=2026-11-22/shard=003/00ff00ff-00000000000000000042.parquet/x",
            "events/v1/class=standard/dt=2026-11-22/shard=+03/00ff00ff-00000000000000000042.parquet",
        ] {
            assert!(key.parse::<SessionFileName>().is_err(), "{key}");
        }
    }
}
