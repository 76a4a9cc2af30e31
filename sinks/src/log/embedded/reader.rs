//! Reading one shard's segments, by the process that writes them or by another one.
//!
//! Blocking: callers run it where blocking is allowed. A few cursors are kept, so that who reads on from where it
//! stopped does not search.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hoop_schema::{Shard, SourceId};
use parking_lot::Mutex;

use super::cursor::{Cursor, Segment, unavailable};
use super::layout;
use super::room::Room;
use super::segment::SegmentHead;
use crate::log::{Bounds, LogRecord, Position, ReadError};

/// Cursors kept per shard: a recorder, a few outputs, a few people who look.
const CURSORS_MAX: usize = 8;
/// A segment that was listed may be gone when it is opened, and the list then is read again, so often.
const LISTINGS_MAX: u32 = 10;

/// Reads one shard.
#[derive(Debug)]
pub(crate) struct ShardReader {
    source: SourceId,
    shard: Shard,
    dir: PathBuf,
    cursors: Mutex<Vec<Cursor>>,
}

/// Who writes, as far as a reader knows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    /// This process: its list of segments, and what is durable.
    Own(&'a Room),
    /// Another process, or none: the folder.
    Folder,
}

enum Step {
    Moved,
    End,
}

impl ShardReader {
    pub(crate) fn new(source: SourceId, shard: Shard, dir: PathBuf) -> Self {
        Self {
            source,
            shard,
            dir,
            cursors: Mutex::default(),
        }
    }

    /// Records from `from` on, as the trait says, without waiting.
    pub(crate) fn read(
        &self,
        view: View<'_>,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, ReadError> {
        // Position 0 is where a reader starts that has read nothing: the first record ever is number 1.
        let from = from.max(1);
        let limit = self.limit(view);
        if limit.is_some_and(|limit| from >= limit) {
            return Ok(Vec::new());
        }
        let kept = self.take_cursor(from);
        let mut cursor = kept.map_or_else(|| self.new_cursor(view, from), Ok)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut outcome = Ok(());
        while !cursor.hand_out(from, bytes_max, &mut bytes, &mut records) {
            if limit.is_some_and(|limit| cursor.expected >= limit) {
                break;
            }
            match self.advance(view, &mut cursor) {
                Ok(Step::Moved) => {}
                Ok(Step::End) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if matches!(view, View::Folder) {
            self.make_durable(&mut cursor)?;
        }
        if records.is_empty() {
            outcome?;
        }
        self.keep(cursor);
        Ok(records)
    }

    /// What the shard holds.
    pub(crate) fn bounds(&self, view: View<'_>) -> Result<Bounds, ReadError> {
        let segments = self.segments(view).map_err(unavailable)?;
        let limit = self.limit(view);
        let (Some(&first), Some(&last)) = (segments.first(), segments.last()) else {
            let next = Position(limit.unwrap_or(1));
            return Ok(Bounds { first: next, next });
        };
        let next = match limit {
            Some(limit) => limit,
            None => self.find_end(view, last)?,
        };
        Ok(Bounds {
            first: Position(first),
            next: Position(next),
        })
    }

    fn find_end(&self, view: View<'_>, last: u64) -> Result<u64, ReadError> {
        let furthest = self
            .cursors
            .lock()
            .iter()
            .max_by_key(|cursor| cursor.expected)
            .cloned();
        let mut cursor = match furthest {
            Some(cursor) if cursor.expected >= last => cursor,
            _ => self.new_cursor(view, last)?,
        };
        loop {
            cursor.frame = None;
            cursor.next = cursor.expected;
            match self.advance(view, &mut cursor) {
                Ok(Step::Moved) => {}
                // Damage is reported to whoever reads there.
                Ok(Step::End) | Err(ReadError::Damaged { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.make_durable(&mut cursor)?;
        let next = cursor.expected;
        let kept = self.take_cursor(next);
        self.keep(kept.unwrap_or(cursor));
        Ok(next)
    }

    fn limit(&self, view: View<'_>) -> Option<u64> {
        match view {
            View::Own(room) => Some(*room.shards[self.shard.0 as usize].durable.borrow()),
            View::Folder => None,
        }
    }

    fn segments(&self, view: View<'_>) -> io::Result<Vec<u64>> {
        match view {
            View::Own(room) => {
                let segments = room.shards[self.shard.0 as usize].segments.lock();
                Ok(segments.keys().copied().collect())
            }
            View::Folder => layout::segments(&self.dir),
        }
    }

    /// The cursor that an earlier read left at `from`.
    fn take_cursor(&self, from: u64) -> Option<Cursor> {
        let mut cursors = self.cursors.lock();
        let index = cursors.iter().position(|cursor| cursor.next == from)?;
        Some(cursors.remove(index))
    }

    /// A cursor at `from`, or at the end of the log if that comes before.
    fn new_cursor(&self, view: View<'_>, from: u64) -> Result<Cursor, ReadError> {
        let mut cursor = self.seek(view, from)?;
        while cursor.expected <= from {
            if let Step::End = self.advance(view, &mut cursor)? {
                break;
            }
        }
        cursor.next = from.min(cursor.expected);
        Ok(cursor)
    }

    /// A cursor at the begin of the segment that has or had `from`.
    fn seek(&self, view: View<'_>, from: u64) -> Result<Cursor, ReadError> {
        for _ in 0..LISTINGS_MAX {
            let segments = self.segments(view).map_err(unavailable)?;
            let Some(&oldest) = segments.first() else {
                break;
            };
            let Some(&first) = segments.iter().rev().find(|first| **first <= from) else {
                return Err(expired(from, oldest));
            };
            if let Some(segment) = self.open(first)? {
                return Ok(Cursor::begin(segment));
            }
        }
        Err(unavailable(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no segment of {} can be opened", self.dir.display()),
        )))
    }

    /// Opens a segment; `None` when it is gone.
    fn open(&self, first: u64) -> Result<Option<Arc<Segment>>, ReadError> {
        let path = layout::segment_path(&self.dir, first);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(error)),
        };
        let damaged = |what: &str| ReadError::Damaged {
            place: format!("{} at offset 0", path.display()),
            position: Position(first),
            what: what.to_owned(),
        };
        let head = SegmentHead::read(&file).map_err(unavailable)?;
        let head = match head {
            Ok(head)
                if (head.source, head.shard, head.first) == (self.source, self.shard, first) =>
            {
                head
            }
            // A name that went away meanwhile is a file that is being used again.
            _ if !path.exists() => return Ok(None),
            Ok(_) => return Err(damaged("the segment belongs elsewhere")),
            Err(what) => return Err(damaged(what)),
        };
        Ok(Some(Arc::new(Segment { file, path, head })))
    }

    /// Reads the next frame into the cursor, or moves it to the next segment.
    fn advance(&self, view: View<'_>, cursor: &mut Cursor) -> Result<Step, ReadError> {
        let Some(what) = cursor.read_frame()? else {
            return Ok(Step::Moved);
        };
        let segments = self.segments(view).map_err(unavailable)?;
        let here = cursor.segment.head.first;
        let following = segments.iter().copied().find(|first| *first > here);
        if following == Some(cursor.expected) {
            let Some(segment) = self.open(cursor.expected)? else {
                return Err(expired(cursor.expected, self.oldest(view)?));
            };
            cursor.enter(segment);
            return Ok(Step::Moved);
        }
        if !segments.contains(&here) {
            return Err(expired(
                cursor.expected,
                segments.first().copied().unwrap_or(cursor.expected),
            ));
        }
        let must_be_there = match following {
            Some(_) => true,
            None => match self.limit(view) {
                Some(limit) => cursor.expected < limit,
                None => cursor.is_followed()?,
            },
        };
        // It may have been written since it was looked at.
        if cursor.read_frame()?.is_none() {
            return Ok(Step::Moved);
        }
        if must_be_there {
            return Err(
                cursor.damaged(what.unwrap_or("nothing is written here, though later records are"))
            );
        }
        Ok(Step::End)
    }

    fn oldest(&self, view: View<'_>) -> Result<u64, ReadError> {
        let segments = self.segments(view).map_err(unavailable)?;
        Ok(segments.first().copied().unwrap_or(1))
    }

    /// Records that were read may not be on the disk yet when another process writes them: only those that have a
    /// later frame certainly are. So the reader syncs, too.
    fn make_durable(&self, cursor: &mut Cursor) -> Result<(), ReadError> {
        if cursor.synced >= cursor.offset {
            return Ok(());
        }
        match rustix::fs::fdatasync(&cursor.segment.file) {
            // A read-only file system has no writer.
            Ok(()) | Err(rustix::io::Errno::ROFS | rustix::io::Errno::INVAL) => {
                cursor.synced = cursor.offset;
                Ok(())
            }
            Err(error) => Err(unavailable(error.into())),
        }
    }

    fn keep(&self, cursor: Cursor) {
        let mut cursors = self.cursors.lock();
        if cursors.len() >= CURSORS_MAX {
            cursors.remove(0);
        }
        cursors.push(cursor);
    }
}

fn expired(wanted: u64, first: u64) -> ReadError {
    ReadError::Expired {
        wanted: Position(wanted),
        first: Position(first),
    }
}
