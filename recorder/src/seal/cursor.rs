//! One session file while it is merged: its rows one after another, each checked.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use hoop_schema::chain::MerkleTree;
use hoop_schema::evidence::seal::ReplacedFile;
use hoop_schema::evidence::{FileName, Footer};
use hoop_schema::row::Row;
use hoop_schema::{EventHash, SessionId, Timestamp};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::merge::MergeError;
use crate::session_file::footer::footer_of;

/// The columns that are read. All others are made again from the event.
const COLUMNS: [&str; 8] = [
    "session_id",
    "session_seq",
    "producer_id",
    "producer_epoch",
    "producer_seq",
    "position",
    "log_ts",
    "event_json",
];

/// What rows are sorted by, as in session files; rows that agree in all of it stay in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) session_id: SessionId,
    session_seq: u64,
    producer: Arc<str>,
    epoch: u64,
    seq: u64,
}

/// A session file, or a sealed object, that is read row by row.
pub(crate) struct Cursor {
    name: FileName,
    pub(crate) footer: Footer,
    sha256: EventHash,
    reader: ParquetRecordBatchReader,
    batch: Batch,
    /// Row within the batch, and within the file.
    at: usize,
    row: u64,
    /// The key of the row that comes next; `None` after the last.
    key: Option<Key>,
    tree: MerkleTree,
    without_position: u64,
}

/// The columns of one batch.
struct Batch {
    rows: usize,
    session_id: StringArray,
    session_seq: PrimitiveArray<Int64Type>,
    producer_id: StringArray,
    epoch: PrimitiveArray<Int64Type>,
    seq: PrimitiveArray<Int64Type>,
    position: PrimitiveArray<Int64Type>,
    log_ts: PrimitiveArray<TimestampMicrosecondType>,
    event_json: StringArray,
}

/// What comes of a row.
pub(crate) struct Taken<'a> {
    pub(crate) row: Row<'a>,
    pub(crate) event: &'a [u8],
    pub(crate) hash: EventHash,
    pub(crate) position: Option<u64>,
    pub(crate) log_ts: Timestamp,
}

impl Cursor {
    /// Opens a session file at its first row.
    ///
    /// # Errors
    /// When it is not the file that its name promises, or is damaged.
    pub(crate) fn open(
        name: FileName,
        bytes: Bytes,
        batch_bytes: usize,
    ) -> Result<Self, MergeError> {
        let sha256 = EventHash::of(&bytes);
        let damaged = |why: String| MergeError::Damaged {
            key: name.to_string(),
            row: None,
            why,
        };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
            .map_err(|e| damaged(e.to_string()))?;
        let footer = footer_of(builder.metadata()).map_err(damaged)?.footer;
        let said = (&footer.class, footer.shard, footer.source, footer.pos_from);
        if said != (&name.class, name.shard, name.source, name.pos_from) {
            return Err(damaged("its footer is that of another file".to_owned()));
        }
        let projection = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        let raw: i64 = builder
            .metadata()
            .row_groups()
            .iter()
            .map(|group| group.total_byte_size())
            .sum();
        let rows = builder.metadata().file_metadata().num_rows().max(1);
        let row_bytes = usize::try_from(raw / rows).unwrap_or(0).max(1);
        let reader = builder
            .with_projection(projection)
            .with_batch_size((batch_bytes / row_bytes).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX))
            .build()
            .map_err(|e| damaged(e.to_string()))?;
        let mut cursor = Self {
            name,
            footer,
            sha256,
            reader,
            batch: Batch::empty(),
            at: 0,
            row: 0,
            key: None,
            tree: MerkleTree::default(),
            without_position: 0,
        };
        cursor.turn_to_row()?;
        Ok(cursor)
    }

    /// The key of the row that comes next; `None` after the last.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Whether the row that comes next belongs before that of another cursor.
    pub(crate) fn comes_before(&self, other: &Key, other_is_later_file: bool) -> bool {
        let key = self.key.as_ref();
        match key.map_or(Ordering::Greater, |key| key.cmp(other)) {
            Ordering::Less => true,
            Ordering::Equal => other_is_later_file,
            Ordering::Greater => false,
        }
    }

    /// The row that comes next, read and compared with its columns. Then say [`Cursor::advance`].
    ///
    /// # Errors
    /// When the row is not what its columns say.
    pub(crate) fn take(&mut self) -> Result<Taken<'_>, MergeError> {
        let (name, row_number) = (&self.name, self.row);
        let damaged = |why: String| MergeError::Damaged {
            key: name.to_string(),
            row: Some(row_number),
            why,
        };
        let batch = &self.batch;
        let event = batch.event_json.value(self.at).as_bytes();
        let row =
            Row::read(event).map_err(|e| damaged(format!("its event cannot be read: {e}")))?;
        if &*row.class != name.class.as_str() || row.shard != name.shard {
            return Err(damaged("its event is of another class or shard".to_owned()));
        }
        let fits = self.key.as_ref().is_some_and(|key| {
            (
                key.session_id,
                key.session_seq,
                &*key.producer,
                key.epoch,
                key.seq,
            ) == (
                row.session_id,
                row.session_seq,
                &*row.producer_id,
                row.producer_epoch,
                row.producer_seq,
            )
        });
        if !fits {
            let why = "its columns name another session, producer or sequence than its event";
            return Err(damaged(why.to_owned()));
        }
        let position = batch
            .position
            .is_valid(self.at)
            .then(|| batch.position.value(self.at));
        let position = match position.map(u64::try_from) {
            None => None,
            Some(Ok(at)) if (self.footer.pos_from..self.footer.pos_to).contains(&at) => Some(at),
            Some(_) => {
                return Err(damaged(
                    "its position is not one that the file covers".to_owned(),
                ));
            }
        };
        let hash = EventHash::of(event);
        self.tree.push(hash);
        self.without_position += u64::from(position.is_none());
        Ok(Taken {
            row,
            event,
            hash,
            position,
            log_ts: Timestamp::from_micros(batch.log_ts.value(self.at)),
        })
    }

    /// Turns to the next row.
    ///
    /// # Errors
    /// When the file is damaged there, or its rows are not sorted.
    pub(crate) fn advance(&mut self) -> Result<(), MergeError> {
        self.at += 1;
        self.row += 1;
        self.turn_to_row()
    }

    /// What the file was, once all rows were taken.
    ///
    /// # Errors
    /// When its rows are not those that its footer says.
    pub(crate) fn end(&self) -> Result<ReplacedFile, MergeError> {
        let footer = &self.footer;
        let wrong = if self.row != footer.rows {
            format!("it has {} rows, its footer says {}", self.row, footer.rows)
        } else if self.tree.root() != footer.events_root {
            "the hash over its events is not the one in its footer: an event was altered".to_owned()
        } else if self.without_position != footer.recorder_rows {
            format!(
                "{} of its rows have no position, its footer says {}",
                self.without_position, footer.recorder_rows
            )
        } else {
            return Ok(ReplacedFile {
                key: self.name.to_string(),
                sha256: self.sha256,
                pos_from: footer.pos_from,
                pos_to: footer.pos_to,
                rows: footer.rows,
                events_root: footer.events_root,
            });
        };
        Err(self.damaged(wrong))
    }

    fn damaged(&self, why: impl ToString) -> MergeError {
        MergeError::Damaged {
            key: self.name.to_string(),
            row: Some(self.row),
            why: why.to_string(),
        }
    }

    /// Makes the key of the row at `at`, from the next batch if this one is at its end.
    fn turn_to_row(&mut self) -> Result<(), MergeError> {
        while self.at >= self.batch.rows {
            match self.reader.next() {
                None => {
                    self.key = None;
                    return Ok(());
                }
                Some(Ok(batch)) => {
                    let batch = Batch::of(&batch);
                    self.batch = batch.ok_or_else(|| {
                        self.damaged("a column is missing, or has nulls or another type")
                    })?;
                    self.at = 0;
                }
                Some(Err(e)) => return Err(self.damaged(e)),
            }
        }
        let before = self.key.take();
        let key = self.batch.key(self.at, before.as_ref());
        let key = key.ok_or_else(|| self.damaged("a session or a sequence cannot be read"))?;
        if before.is_some_and(|before| before > key) {
            return Err(self.damaged("its rows are not sorted"));
        }
        self.key = Some(key);
        Ok(())
    }
}

/// Rows decoded at once, whatever they weigh.
const BATCH_ROWS_MIN: usize = 16;

/// Rows decoded at once at most: more would be slower, since they leave the processor's cache.
const BATCH_ROWS_MAX: usize = 1024;

impl Batch {
    fn empty() -> Self {
        let texts = || StringArray::from(Vec::<&str>::new());
        let numbers = || PrimitiveArray::from(Vec::<i64>::new());
        Self {
            rows: 0,
            session_id: texts(),
            session_seq: numbers(),
            producer_id: texts(),
            epoch: numbers(),
            seq: numbers(),
            position: numbers(),
            log_ts: PrimitiveArray::from(Vec::<i64>::new()),
            event_json: texts(),
        }
    }

    fn of(batch: &RecordBatch) -> Option<Self> {
        let text = |name| {
            let text = batch.column_by_name(name)?.as_string_opt::<i32>()?;
            (text.null_count() == 0).then(|| text.clone())
        };
        fn number<T: ArrowPrimitiveType>(
            batch: &RecordBatch,
            name: &str,
            nullable: bool,
        ) -> Option<PrimitiveArray<T>> {
            let number = batch.column_by_name(name)?.as_primitive_opt::<T>()?;
            (nullable || number.null_count() == 0).then(|| number.clone())
        }
        Some(Self {
            rows: batch.num_rows(),
            session_id: text("session_id")?,
            session_seq: number(batch, "session_seq", false)?,
            producer_id: text("producer_id")?,
            epoch: number(batch, "producer_epoch", false)?,
            seq: number(batch, "producer_seq", false)?,
            position: number(batch, "position", true)?,
            log_ts: number(batch, "log_ts", false)?,
            event_json: text("event_json")?,
        })
    }

    fn key(&self, at: usize, before: Option<&Key>) -> Option<Key> {
        let producer = self.producer_id.value(at);
        let producer = match before {
            Some(before) if &*before.producer == producer => Arc::clone(&before.producer),
            _ => Arc::from(producer),
        };
        Some(Key {
            session_id: self.session_id.value(at).parse().ok()?,
            session_seq: u64::try_from(self.session_seq.value(at)).ok()?,
            producer,
            epoch: u64::try_from(self.epoch.value(at)).ok()?,
            seq: u64::try_from(self.seq.value(at)).ok()?,
        })
    }
}
