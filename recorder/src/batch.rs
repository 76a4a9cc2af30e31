//! The rows of one session file while they gather, and once they are whole.

use bytes::Bytes;
use hoop_schema::evidence::{Footer, PreviousFile, ProducerState, SessionFileName};
use hoop_schema::row::Row;
use hoop_schema::transparency::note::Note;
use hoop_schema::transparency::statement::statement;
use hoop_schema::{EventHash, SessionId, Timestamp};
use parquet::errors::ParquetError;

use crate::index;
use crate::session_file::columns::{Columns, place};
use crate::session_file::footer::FILE_VERSION;
use crate::session_file::writer::{WRITER, write};
use crate::transparency::Signing;

/// Rows of a file at most, so that their numbers and strings fit their types whatever the size of a flush.
pub(crate) const ROWS_MAX: usize = 4_000_000;

/// Rows that gather.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    columns: Columns,
    bytes: Vec<Bytes>,
    keys: Vec<Key>,
    bytes_total: usize,
}

/// What rows are sorted by, but for the producer's name.
#[derive(Debug, Clone, Copy)]
struct Key {
    session_id: SessionId,
    session_seq: u64,
    epoch: u64,
    seq: u64,
}

impl Rows {
    /// Adds a row; `row` was read from `bytes`.
    pub(crate) fn push(
        &mut self,
        row: &Row<'_>,
        bytes: Bytes,
        position: Option<u64>,
        log_ts: Timestamp,
    ) {
        self.columns.push(row, position, log_ts);
        self.keys.push(Key {
            session_id: row.session_id,
            session_seq: row.session_seq,
            epoch: row.producer_epoch,
            seq: row.producer_seq,
        });
        self.bytes_total += bytes.len();
        self.bytes.push(bytes);
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of their events.
    pub(crate) fn bytes_total(&self) -> usize {
        self.bytes_total
    }

    /// The order of the file: by session and place in it, then by producer, then as they came.
    pub(crate) fn order(&self) -> Vec<u32> {
        let producer = place("producer_id");
        let mut order: Vec<u32> = (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by(|a, b| {
            let (one, other) = (&self.keys[*a as usize], &self.keys[*b as usize]);
            (one.session_id, one.session_seq)
                .cmp(&(other.session_id, other.session_seq))
                .then_with(|| {
                    self.columns
                        .text(producer, *a)
                        .cmp(&self.columns.text(producer, *b))
                })
                .then_with(|| (one.epoch, one.seq, a).cmp(&(other.epoch, other.seq, b)))
        });
        order
    }

    /// The columns and the events' bytes, in order of arrival.
    pub(crate) fn parts(&self) -> (&Columns, &[Bytes]) {
        (&self.columns, &self.bytes)
    }
}

/// Everything that one session file will hold.
#[derive(Debug)]
pub struct Batch {
    pub(crate) rows: Rows,
    pub(crate) name: SessionFileName,
    pub(crate) pos_to: u64,
    pub(crate) recorder_rows: u64,
    pub(crate) copies: u64,
    pub(crate) producers: Vec<ProducerState>,
}

/// A session file ready to be put, and its index of sessions.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The session file.
    pub file: Bytes,
    /// Its SHA-256.
    pub sha256: EventHash,
    /// Its index of sessions.
    pub index: Bytes,
    /// What it says of itself.
    pub footer: Footer,
}

impl Batch {
    /// Name of the file.
    pub fn name(&self) -> &SessionFileName {
        &self.name
    }

    /// Position after the last one covered.
    pub fn pos_to(&self) -> u64 {
        self.pos_to
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Bytes of the events.
    pub fn event_bytes(&self) -> usize {
        self.rows.bytes_total()
    }

    /// Writes the session file and its index: the expensive part, pure and on one thread. With keys, the file is signed.
    ///
    /// # Errors
    /// When the Parquet writer fails.
    pub fn encode(
        &self,
        previous: Option<PreviousFile>,
        written: Timestamp,
        signing: Option<&Signing>,
    ) -> Result<Encoded, ParquetError> {
        let order = self.rows.order();
        let (columns, bytes) = self.rows.parts();
        let written_rows = write(columns, bytes, &order)?;
        let footer = Footer {
            v: FILE_VERSION,
            source: self.name.source,
            class: self.name.class.clone(),
            shard: self.name.shard,
            pos_from: self.name.pos_from,
            pos_to: self.pos_to,
            rows: self.rows(),
            recorder_rows: self.recorder_rows,
            copies: self.copies,
            events_root: written_rows.events_root(),
            previous,
            producers: self.producers.clone(),
            written,
            writer: WRITER.to_owned(),
        };
        let text =
            serde_json::to_string(&footer).map_err(|e| ParquetError::External(Box::new(e)))?;
        let signature = signing.map(|signing| {
            let text = statement(&self.name.to_string(), &text);
            Note::sign(text, signing.keys()).to_string()
        });
        let file: Bytes = written_rows.finish(text, signature)?.into();
        let index = index::write(columns, bytes, &order)?.into();
        let sha256 = EventHash::of(&file);
        Ok(Encoded {
            file,
            sha256,
            index,
            footer,
        })
    }
}
