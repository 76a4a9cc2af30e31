//! Session files that follow each other, merged into one sealed object.
//!
//! Every row is read again: its bytes are hashed into the Merkle root of its file, which has to be the one in the file's
//! footer, and its typed columns are made anew from the event. A file that is not what it says ends the work, so
//! nothing altered is ever sealed.
//!
//! The same files always give the same bytes: nothing of the time or of who seals them goes in.
//! Memory: the files as they are, one row group of events, a batch of rows per file, and what is compressed already.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::{Bytes, BytesMut};
use hoop_schema::EventHash;
use hoop_schema::evidence::seal::{ReplacedFile, SealedFileName, SealedObject};
use hoop_schema::evidence::{Footer, PreviousFile, SessionFileName};
use parquet::errors::ParquetError;

use super::cursor::{Cursor, Key};
use crate::index::Index;
use crate::session_file::columns::Columns;
use crate::session_file::footer::FILE_VERSION;
use crate::session_file::writer::{ROW_GROUP_ROWS, WRITER, Writer, arrays};

/// Bytes of events of a row group: what is held before it is written. Large enough that a day is a few dozen of them.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of decoded rows that all files hold together.
const BATCHES_BYTES: usize = 64 * 1024 * 1024;

/// Why files were not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A session file is not what it says of itself.
    #[error("{key} cannot be sealed{}: {why}", at(*row))]
    Damaged {
        /// The file.
        key: String,
        /// The row, from 0; absent where it is the file as a whole.
        row: Option<u64>,
        /// What is wrong.
        why: String,
    },
    /// The Parquet writer failed.
    #[error("cannot write a sealed object")]
    Write(#[from] ParquetError),
}

fn at(row: Option<u64>) -> String {
    row.map_or_else(String::new, |row| format!(", row {row}"))
}

/// A session file to be merged.
#[derive(Debug)]
pub struct Input {
    /// Its name.
    pub name: SessionFileName,
    /// All of its bytes.
    pub bytes: Bytes,
}

/// A sealed object ready to be put, and its index of sessions.
#[derive(Debug)]
pub struct Merged {
    /// Its name.
    pub name: SealedFileName,
    /// The object.
    pub file: Bytes,
    /// Its index of sessions.
    pub index: Bytes,
    /// What the seal says of it.
    pub object: SealedObject,
    /// What the first of the files names as the one before it.
    pub previous: Option<PreviousFile>,
}

/// Merges files that follow each other.
///
/// # Errors
/// When a file is damaged, or they do not follow each other.
pub fn merge(inputs: Vec<Input>) -> Result<Merged, MergeError> {
    let room = inputs.iter().map(|input| input.bytes.len()).sum();
    let batch_bytes = BATCHES_BYTES / inputs.len().max(1);
    let mut cursors = Vec::with_capacity(inputs.len());
    for input in inputs {
        cursors.push(Cursor::open(
            input.name.clone().into(),
            input.bytes,
            batch_bytes,
        )?);
    }
    let mut output = Output::new(room);
    let mut heap: BinaryHeap<Reverse<(Key, usize)>> = BinaryHeap::new();
    for (number, cursor) in cursors.iter().enumerate() {
        heap.extend(cursor.key().map(|key| Reverse((key.clone(), number))));
    }
    while let Some(Reverse((_, number))) = heap.pop() {
        let cursor = &mut cursors[number];
        let next = heap.peek().map(|Reverse(next)| next);
        // Neighbours are of one file more often than not.
        loop {
            output.take(cursor)?;
            cursor.advance()?;
            let goes_on = match next {
                Some((key, other)) => cursor.comes_before(key, *other > number),
                None => cursor.key().is_some(),
            };
            if !goes_on {
                break;
            }
        }
        heap.extend(cursor.key().map(|key| Reverse((key.clone(), number))));
    }
    let mut replaces = Vec::with_capacity(cursors.len());
    for cursor in &cursors {
        replaces.push(follow(&replaces, cursor)?);
    }
    let footers: Vec<Footer> = cursors.into_iter().map(|cursor| cursor.footer).collect();
    output.finish(footers, replaces)
}

/// Reads a sealed object back to its last row.
///
/// # Errors
/// When it is not what the seal says of it.
pub(super) fn check(
    name: &SealedFileName,
    object: &SealedObject,
    bytes: Bytes,
) -> Result<(), MergeError> {
    let mut cursor = Cursor::open(name.clone().into(), bytes, BATCHES_BYTES)?;
    while cursor.key().is_some() {
        cursor.take()?;
        cursor.advance()?;
    }
    let there = cursor.end()?;
    let same = (there.sha256, there.pos_to, there.rows, there.events_root)
        == (
            object.sha256,
            object.pos_to,
            object.rows,
            object.events_root,
        );
    if same {
        return Ok(());
    }
    Err(MergeError::Damaged {
        key: name.to_string(),
        row: None,
        why: "it is not the object that the seal names".to_owned(),
    })
}

/// What the seal says of an object that another version of the recorder left at the place of `merged`.
///
/// # Errors
/// When it does not hold the same rows.
pub(super) fn adopt(merged: &Merged, bytes: Bytes) -> Result<SealedObject, MergeError> {
    let length = bytes.len() as u64;
    let name = &merged.name;
    let mut there = Cursor::open(name.clone().into(), bytes, BATCHES_BYTES / 2)?;
    let mut ours = Cursor::open(name.clone().into(), merged.file.clone(), BATCHES_BYTES / 2)?;
    let other = |row| MergeError::Damaged {
        key: name.to_string(),
        row,
        why: "what lies there does not hold the rows of the files that are to be sealed".to_owned(),
    };
    let mut row = 0;
    while there.key().is_some() && ours.key().is_some() {
        let (one, two) = (there.take()?, ours.take()?);
        if (one.hash, one.position, one.log_ts) != (two.hash, two.position, two.log_ts) {
            return Err(other(Some(row)));
        }
        there.advance()?;
        ours.advance()?;
        row += 1;
    }
    let (there, ours) = (there.end()?, ours.end()?);
    if (there.rows, there.pos_to, there.events_root) != (ours.rows, ours.pos_to, ours.events_root) {
        return Err(other(None));
    }
    Ok(SealedObject {
        sha256: there.sha256,
        bytes: length,
        ..merged.object.clone()
    })
}

/// What a file was, once it is certain that it follows the one before it.
fn follow(before: &[ReplacedFile], cursor: &Cursor) -> Result<ReplacedFile, MergeError> {
    let file = cursor.end()?;
    let Some(before) = before.last() else {
        return Ok(file);
    };
    let damaged = |why: String| {
        Err(MergeError::Damaged {
            key: file.key.clone(),
            row: None,
            why,
        })
    };
    let named = cursor.footer.previous.as_ref();
    if file.pos_from != before.pos_to {
        return damaged(format!(
            "it begins at position {}, but the file before it, {}, ends at {}",
            file.pos_from, before.key, before.pos_to
        ));
    }
    match named {
        Some(named) if named.key != before.key => damaged(format!(
            "it names {} as the file before it, which is {}",
            named.key, before.key
        )),
        Some(named) if named.sha256 != before.sha256 => damaged(format!(
            "the file before it, {}, is not the one whose hash it names",
            before.key
        )),
        Some(_) => Ok(file),
        None => damaged(format!(
            "it names no file before it, but {} is there",
            before.key
        )),
    }
}

/// The sealed object under way.
struct Output {
    room: usize,
    writer: Option<Writer>,
    index: Index,
    columns: Columns,
    bytes: Vec<Bytes>,
    hashes: Vec<EventHash>,
    /// Where events are copied to, from pages that go.
    arena: BytesMut,
    bytes_total: usize,
}

/// Bytes that are made room for at once.
const ARENA_BYTES: usize = 1024 * 1024;

impl Output {
    fn new(room: usize) -> Self {
        Self {
            room,
            writer: None,
            index: Index::default(),
            columns: Columns::default(),
            bytes: Vec::new(),
            hashes: Vec::new(),
            arena: BytesMut::new(),
            bytes_total: 0,
        }
    }

    /// Takes the next row of a file.
    fn take(&mut self, cursor: &mut Cursor) -> Result<(), MergeError> {
        let taken = cursor.take()?;
        self.columns.push(&taken.row, taken.position, taken.log_ts);
        if self.arena.capacity() < taken.event.len() {
            self.arena.reserve(ARENA_BYTES.max(taken.event.len()));
        }
        self.arena.extend_from_slice(taken.event);
        self.bytes.push(self.arena.split().freeze());
        self.hashes.push(taken.hash);
        self.bytes_total += taken.event.len();
        if self.bytes_total >= ROW_GROUP_BYTES || self.bytes.len() >= ROW_GROUP_ROWS {
            self.write_group()?;
        }
        Ok(())
    }

    /// Writes what gathered as a row group.
    fn write_group(&mut self) -> Result<(), MergeError> {
        let (columns, bytes) = (
            std::mem::take(&mut self.columns),
            std::mem::take(&mut self.bytes),
        );
        let hashes = std::mem::take(&mut self.hashes);
        self.bytes_total = 0;
        let order: Vec<u32> = (0..u32::try_from(bytes.len()).unwrap_or(u32::MAX)).collect();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::new(&columns, bytes.len(), self.room)?),
        };
        writer.row_group(&arrays(&columns), &bytes, &order, |row| {
            hashes[row as usize]
        })?;
        self.index.add(&columns, &bytes, &order);
        Ok(())
    }

    fn finish(
        mut self,
        footers: Vec<Footer>,
        replaces: Vec<ReplacedFile>,
    ) -> Result<Merged, MergeError> {
        if !self.bytes.is_empty() || self.writer.is_none() {
            self.write_group()?;
        }
        let (writer, first, last) = match (self.writer, footers.first(), footers.last()) {
            (Some(writer), Some(first), Some(last)) => (writer, first, last),
            _ => return Err(ParquetError::General("there is no file to seal".into()).into()),
        };
        let footer = Footer {
            v: FILE_VERSION,
            source: first.source,
            class: first.class.clone(),
            shard: first.shard,
            pos_from: first.pos_from,
            pos_to: last.pos_to,
            rows: footers.iter().map(|f| f.rows).sum(),
            recorder_rows: footers.iter().map(|f| f.recorder_rows).sum(),
            copies: footers.iter().map(|f| f.copies).sum(),
            events_root: writer.events_root(),
            previous: first.previous.clone(),
            producers: last.producers.clone(),
            written: last.written,
            writer: WRITER.to_owned(),
        };
        let text =
            serde_json::to_string(&footer).map_err(|e| ParquetError::External(Box::new(e)))?;
        let file: Bytes = writer.finish(text, None)?.into();
        let name = SealedFileName {
            class: footer.class,
            day: day_of(&replaces),
            shard: footer.shard,
            source: footer.source,
            pos_from: footer.pos_from,
            pos_last: footer.pos_to.saturating_sub(1),
        };
        let object = SealedObject {
            key: name.to_string(),
            sha256: EventHash::of(&file),
            bytes: file.len() as u64,
            shard: footer.shard,
            source: footer.source,
            pos_from: footer.pos_from,
            pos_to: footer.pos_to,
            rows: footer.rows,
            events_root: footer.events_root,
            replaces,
        };
        Ok(Merged {
            name,
            file,
            index: self.index.finish()?.into(),
            object,
            previous: footer.previous,
        })
    }
}

fn day_of(replaces: &[ReplacedFile]) -> String {
    let name = replaces
        .first()
        .and_then(|file| file.key.parse::<SessionFileName>().ok());
    name.map(|name| name.day).unwrap_or_default()
}
