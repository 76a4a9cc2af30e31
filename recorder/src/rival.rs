//! Whether a session file that somebody else put is evidence, so that recording may go on after it.
//!
//! A rival's put of a file is a commit, and its file is the truth about its positions: whoever finds it drops what it
//! has of them and goes on after it. Whoever may write to the store could use that, and put a file without an event in the
//! place of the next one, or one far ahead. So a recorder that signs goes on only after a file
//!
//! - that one of its keys signed, since only recorders have them; or
//! - that holds what the log holds: each record of its positions that is no copy, byte for byte, and nothing else but
//!   gaps and starts, which recorders say themselves. This is for recorders that do not sign, or with another key.
//!
//! Anything else is named, and passed over. Where it lies at the very name of the next file, the shard waits until somebody
//! has moved it away: the log keeps what is not committed.
//!
//! What cannot be told is taken: a shard without a single signed file whose log has dropped its beginning (evidence from
//! before there was a key), and positions that the log has dropped, of which nothing better can be had.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::evidence::{EVENTS_PREFIX, Footer, PreviousFile, ProducerState, SessionFileName};
use hoop_schema::transparency::note::Signed;
use hoop_schema::{DAY_MICROS, ProducerId, Shard, Timestamp};
use hoop_sinks::log::{EventReader, LogRecord, Position, ReadError};
use hoop_sinks::store::StoreError;

use crate::core::read_row;
use crate::holes::{Seen, Sequences};
use crate::resume::{counts, read_signed, recent_day, session_files};
use crate::seal::cursor::Cursor;
use crate::seal::merge::MergeError;
use crate::session_file::footer::{FooterError, SignedFooter};
use crate::shared::Shared;

/// The largest file that is compared with the log, in bytes; eight times what a flush makes of events that do not
/// compress.
const COMPARED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The first position of a log that has dropped nothing yet: some begin at 0, some at 1.
const FIRST_POSITION_MAX: u64 = 1;

/// Bytes of rows decoded at once, and of records read at once.
const BATCH_BYTES: usize = 1024 * 1024;

/// Kinds that recorders say themselves, in rows without a position.
const OWN_KINDS: [&str; 2] = ["gap", "recorder.started"];

/// What a recorder writes for a record that is no event.
const UNPARSED: &str = "recorder.unparsed";

/// Where a shard goes on.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The newest session file that is evidence, and its footer; `None` before the first one.
    pub(crate) file: Option<(Footer, PreviousFile)>,
    /// Files after it that are none, and why.
    pub(crate) refused: Vec<Refused>,
}

/// A file that is not what the log holds.
#[derive(Debug, thiserror::Error)]
#[error(
    "no key of this recorder signed {key}, and {why}: somebody else put it there; move it away and keep a copy"
)]
pub(crate) struct Refused {
    key: String,
    why: String,
}

/// Why it cannot be told where a shard goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RivalError {
    /// The store does not answer, or a file cannot be read.
    #[error(transparent)]
    File(#[from] FooterError),
    /// The log does not answer, so there is nothing to compare a file with.
    #[error("a session file of another recorder cannot be compared with the log")]
    Log(#[source] ReadError),
}

/// Looks at the files of one shard.
pub(crate) struct Rivals<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) reader: &'a dyn EventReader,
    pub(crate) shard: Shard,
}

/// A file that no key of this recorder signed.
struct Unsigned {
    name: SessionFileName,
    footer: Footer,
    file: PreviousFile,
}

impl Rivals<'_> {
    /// Whether one of this recorder's keys signed the file; true of every file for one that does not sign.
    pub(crate) fn is_signed(&self, signed: &SignedFooter, key: &str) -> bool {
        let Some(signing) = &self.shared.config.signing else {
            return true;
        };
        signed.signature(key).is_some_and(|note| {
            let by = |verifier| matches!(note.signed_by(verifier), Signed::Yes(_));
            signing.keys().any(|key| by(key.verifier()))
        })
    }

    /// The newest file of the shard that is evidence.
    ///
    /// # Errors
    /// When the store or the log does not answer, or a file is damaged.
    pub(crate) async fn newest(&self) -> Result<Newest, RivalError> {
        let (class, now) = (self.reader.class(), self.shared.clock.now());
        // Days do not go back within a shard, so if a recent day has a signed file of it, the newest one is recent.
        let recent = recent_day(EVENTS_PREFIX, class, now);
        for after in [Some(recent.as_str()), None] {
            let (signed, unsigned) = self.newest_signed(after).await?;
            if signed.is_some() {
                return self.follow(signed, unsigned).await;
            }
            if after.is_none() {
                // From the beginning on, if the log goes back so far.
                let begins = unsigned.first().is_some_and(|f| f.footer.pos_from == 0);
                return match begins && self.bounds().await?.0 <= FIRST_POSITION_MAX {
                    true => self.follow(None, unsigned).await,
                    false => self.newest_unsigned(unsigned).await,
                };
            }
        }
        Ok(Newest::default())
    }

    /// The newest signed file, and those after it, the oldest first.
    async fn newest_signed(
        &self,
        after: Option<&str>,
    ) -> Result<(Option<(Footer, PreviousFile)>, Vec<Unsigned>), RivalError> {
        let (store, class) = (&*self.shared.store, self.reader.class());
        let listed = session_files(store, class, after).await;
        let mut mine = listed.map_err(FooterError::Store)?;
        mine.retain(|name| name.shard == self.shard && name.source == self.reader.source());
        mine.sort_by(|a, b| (a.pos_from, &a.day).cmp(&(b.pos_from, &b.day)));
        let mut unsigned = Vec::new();
        while let Some(name) = mine.pop() {
            if !counts(store, &name).await? {
                continue;
            }
            let (signed, file) = match read_signed(store, &name).await {
                Ok(read) => read,
                Err(FooterError::Store(StoreError::NotFound { .. })) => continue,
                Err(e) => return Err(e.into()),
            };
            if self.is_signed(&signed, &file.key) {
                unsigned.reverse();
                return Ok((Some((signed.footer, file)), unsigned));
            }
            unsigned.push(Unsigned {
                name,
                footer: signed.footer,
                file,
            });
        }
        unsigned.reverse();
        Ok((None, unsigned))
    }

    /// Goes on from a signed file over those after it that hold what the log holds.
    async fn follow(
        &self,
        signed: Option<(Footer, PreviousFile)>,
        unsigned: Vec<Unsigned>,
    ) -> Result<Newest, RivalError> {
        let mut newest = Newest {
            file: signed,
            refused: Vec::new(),
        };
        for next in unsigned {
            let before = newest.file.as_ref().map(|(footer, _)| footer);
            match self.compare(before, &next).await? {
                Ok(producers) => {
                    tracing::warn!(class = %self.reader.class(), shard = %self.shard, key = %next.name, "no key of this recorder signed this session file, but it holds what the log holds; going on after it");
                    let footer = Footer {
                        producers,
                        ..next.footer
                    };
                    newest.file = Some((footer, next.file));
                }
                Err(why) => newest.refused.push(Refused {
                    key: next.file.key,
                    why,
                }),
            }
        }
        Ok(newest)
    }

    /// The newest file where none is signed, but for those that are ahead of the log.
    async fn newest_unsigned(&self, mut unsigned: Vec<Unsigned>) -> Result<Newest, RivalError> {
        let mut newest = Newest::default();
        if unsigned.is_empty() {
            return Ok(newest);
        }
        let next = self.bounds().await?.1;
        while let Some(last) = unsigned.pop() {
            if last.footer.pos_to <= next {
                newest.file = Some((last.footer, last.file));
                break;
            }
            newest.refused.push(Refused {
                key: last.file.key,
                why: ahead(last.footer.pos_to, next),
            });
        }
        Ok(newest)
    }

    async fn bounds(&self) -> Result<(u64, u64), RivalError> {
        let bounds = self.reader.bounds(self.shard).await;
        let bounds = bounds.map_err(RivalError::Log)?;
        Ok((bounds.first.0, bounds.next.0))
    }

    /// Compares a file with the log. Returns the producers' sequences after it, as the log has them, or why it is not
    /// what the log holds.
    async fn compare(
        &self,
        before: Option<&Footer>,
        file: &Unsigned,
    ) -> Result<Result<Vec<ProducerState>, String>, RivalError> {
        let footer = &file.footer;
        let (first, next) = self.bounds().await?;
        let from = before.map_or(0, |before| before.pos_to);
        if footer.pos_from != from {
            let from = footer.pos_from;
            return Ok(Err(format!(
                "it begins at position {from}, not where the file before it ends"
            )));
        }
        if footer.pos_to > next {
            return Ok(Err(ahead(footer.pos_to, next)));
        }
        let tomorrow = self.shared.clock.now().plus_micros(DAY_MICROS).day();
        if file.name.day > tomorrow {
            return Ok(Err("its day has not come yet".to_owned()));
        }
        let rows = match self.rows(&file.name).await? {
            Ok(rows) => rows,
            Err(why) => return Ok(Err(why)),
        };
        let sequences = Sequences::new(
            before.map(|b| b.producers.clone()).unwrap_or_default(),
            self.shared.config.holes,
        );
        let mut comparison = Comparison {
            sequences,
            rows,
            class: self.reader.class().as_str(),
            shard: self.shard,
        };
        // What the log has dropped is taken as the file has it: nothing better can be had.
        let dropped: Vec<LogRecord> = comparison.rows.range(..first).map(as_record).collect();
        for record in dropped {
            if let Err(why) = comparison.take(&record) {
                return Ok(Err(why));
            }
        }
        let mut position = first.max(footer.pos_from);
        while position < footer.pos_to {
            let read =
                self.reader
                    .read(self.shard, Position(position), BATCH_BYTES, Duration::ZERO);
            let records = read.await.map_err(RivalError::Log)?;
            let Some(last) = records.last() else { break };
            position = last.position.0.saturating_add(1);
            for record in records {
                if record.position.0 >= footer.pos_to {
                    break;
                }
                if let Err(why) = comparison.take(&record) {
                    return Ok(Err(why));
                }
            }
        }
        Ok(comparison.end())
    }

    /// The rows of a file that have a position, or why it is no session file that a recorder would write.
    async fn rows(&self, name: &SessionFileName) -> Result<Result<Rows, String>, RivalError> {
        let (store, key) = (&*self.shared.store, name.to_string());
        let of_store = |e| RivalError::File(FooterError::Store(e));
        let head = store.head(&key).await.map_err(of_store)?;
        if head.is_none_or(|head| head.bytes > COMPARED_BYTES_MAX) {
            return Ok(Err("it is too large to be compared with the log".to_owned()));
        }
        let bytes = store.get(&key, 0..COMPARED_BYTES_MAX).await;
        let bytes = bytes.map_err(of_store)?;
        let name = name.clone();
        let reading = tokio::task::spawn_blocking(move || rows_of(&name, bytes)).await;
        Ok(reading.unwrap_or_else(|e| Err(format!("reading it broke off: {e}"))))
    }
}

fn ahead(pos_to: u64, next: u64) -> String {
    format!("it goes up to position {pos_to}, but the log only up to {next}")
}

/// A row of a file: its event, its kind if that is a recorder's own, and when the log took it.
#[derive(Debug)]
struct FoundRow {
    event: Bytes,
    is_unparsed: bool,
    log_ts: Timestamp,
}

/// Rows by position.
type Rows = BTreeMap<u64, FoundRow>;

fn as_record((position, row): (&u64, &FoundRow)) -> LogRecord {
    LogRecord {
        position: Position(*position),
        log_ts: row.log_ts,
        bytes: row.event.clone(),
    }
}

fn rows_of(name: &SessionFileName, bytes: Bytes) -> Result<Rows, String> {
    let read = |e| match e {
        MergeError::Damaged { row, why, .. } => match row {
            Some(row) => format!("its row {row} is damaged: {why}"),
            None => format!("it is damaged: {why}"),
        },
        other => other.to_string(),
    };
    let mut cursor = Cursor::open(name.clone().into(), bytes, BATCH_BYTES).map_err(read)?;
    let mut rows = Rows::new();
    while cursor.key().is_some() {
        let taken = cursor.take().map_err(read)?;
        let kind = &*taken.row.kind;
        match taken.position {
            None if OWN_KINDS.contains(&kind) => {}
            None => return Err(format!("it has an event of kind {kind} that no log took")),
            Some(position) => {
                let row = FoundRow {
                    event: Bytes::copy_from_slice(taken.event),
                    is_unparsed: kind == UNPARSED,
                    log_ts: taken.log_ts,
                };
                if rows.insert(position, row).is_some() {
                    return Err(format!("it has two events at position {position}"));
                }
            }
        }
        cursor.advance().map_err(read)?;
    }
    cursor.end().map_err(read)?;
    Ok(rows)
}

/// Rows of a file while they are compared with the records of the log, in order.
struct Comparison<'a> {
    sequences: Sequences,
    /// Those that no record was found for yet.
    rows: Rows,
    class: &'a str,
    shard: Shard,
}

impl Comparison<'_> {
    /// Takes the next record of the log.
    fn take(&mut self, record: &LogRecord) -> Result<(), String> {
        let position = record.position.0;
        let found = self.rows.remove(&position);
        let Ok(row) = read_row(&record.bytes, self.class, self.shard) else {
            return match found {
                Some(found) if found.is_unparsed => Ok(()),
                _ => Err(format!(
                    "it leaves out what the log has at position {position}"
                )),
            };
        };
        let producer = self.sequences.known(&row.producer_id, row.producer_epoch);
        let producer = match producer {
            Some(known) => known,
            None => ProducerId::new(&row.producer_id).map_err(|e| e.to_string())?,
        };
        let (epoch, seq) = (row.producer_epoch, row.producer_seq);
        let seen = self
            .sequences
            .see(&producer, epoch, seq, position, record.log_ts);
        match (seen, found) {
            (Seen::Copy, None) => Ok(()),
            (Seen::New | Seen::Late, Some(found))
                if found.event == record.bytes && found.log_ts == record.log_ts =>
            {
                Ok(())
            }
            (Seen::New | Seen::Late, None) => Err(format!(
                "it leaves out the event that the log has at position {position}"
            )),
            (_, Some(_)) => Err(format!(
                "its event at position {position} is not the one that the log has there"
            )),
        }
    }

    /// The producers' sequences, once all records were taken.
    fn end(self) -> Result<Vec<ProducerState>, String> {
        match self.rows.first_key_value() {
            None => Ok(self.sequences.states()),
            Some((position, _)) => Err(format!(
                "it has an event at position {position}, where the log has none"
            )),
        }
    }
}
