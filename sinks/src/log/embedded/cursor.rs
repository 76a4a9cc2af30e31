//! A place in a shard, and reading on from there.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::frame::{BLOCK, FRAME_BYTES_MAX, Frame};
use super::segment::{Found, SegmentHead, find_later_frame, read_frame};
use crate::log::{LogRecord, Position, ReadError};

/// How far the end of the log is searched for a later frame: past the longest frame that may be damaged.
const LOOK_AHEAD: u64 = 2 * FRAME_BYTES_MAX as u64;

/// A place between two records.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) segment: Arc<Segment>,
    /// The next frame to read, and its first position.
    pub(crate) offset: u64,
    pub(crate) expected: u64,
    /// The frame read last, of which records may be left.
    pub(crate) frame: Option<Arc<Frame>>,
    /// The next record to hand out.
    pub(crate) next: u64,
    /// What is known to be durable in this segment: everything before this offset.
    pub(crate) synced: u64,
    /// The end of the log was last looked at here, with the file as changed then.
    pub(crate) looked: Option<(u64, SystemTime)>,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) head: SegmentHead,
}

impl Cursor {
    pub(crate) fn begin(segment: Arc<Segment>) -> Self {
        let first = segment.head.first;
        Self {
            segment,
            offset: BLOCK as u64,
            expected: first,
            frame: None,
            next: first,
            synced: BLOCK as u64,
            looked: None,
        }
    }

    /// Goes on in the next segment. The one before is durable: it was synced before this one was made.
    pub(crate) fn enter(&mut self, segment: Arc<Segment>) {
        self.segment = segment;
        self.offset = BLOCK as u64;
        self.synced = BLOCK as u64;
        self.looked = None;
    }

    /// Reads the next frame. When there is none: what is wrong there, if it is not just empty.
    pub(crate) fn read_frame(&mut self) -> Result<Option<Option<&'static str>>, ReadError> {
        let segment = &self.segment;
        match read_frame(&segment.file, &segment.head, self.offset, self.expected)
            .map_err(unavailable)?
        {
            Found::Frame(frame) => {
                self.offset += frame.span;
                self.expected = frame.next();
                self.frame = Some(Arc::new(frame));
                Ok(None)
            }
            Found::Nothing => Ok(Some(None)),
            Found::Invalid(what) => Ok(Some(Some(what))),
        }
    }

    /// Hands out records of the frame read last. Says whether that is enough.
    pub(crate) fn hand_out(
        &mut self,
        from: u64,
        bytes_max: usize,
        bytes: &mut usize,
        records: &mut Vec<LogRecord>,
    ) -> bool {
        let Some(frame) = self.frame.take() else {
            return *bytes > bytes_max;
        };
        self.next = self.next.max(from);
        let skip = usize::try_from(self.next.saturating_sub(frame.first)).unwrap_or(usize::MAX);
        for record in frame.records.iter().skip(skip) {
            if *bytes > bytes_max {
                self.frame = Some(frame);
                return true;
            }
            *bytes += record.len();
            records.push(LogRecord {
                position: Position(self.next),
                log_ts: frame.log_ts,
                bytes: Bytes::clone(record),
            });
            self.next += 1;
        }
        *bytes > bytes_max
    }

    /// Whether a valid frame follows the place where none is. Looked up again only when the file has changed.
    pub(crate) fn is_followed(&mut self) -> Result<bool, ReadError> {
        let changed = self
            .segment
            .file
            .metadata()
            .and_then(|data| data.modified())
            .map_err(unavailable)?;
        if self.looked == Some((self.offset, changed)) {
            return Ok(false);
        }
        let segment = &self.segment;
        let later = find_later_frame(
            &segment.file,
            &segment.head,
            self.offset,
            self.expected,
            LOOK_AHEAD,
        )
        .map_err(unavailable)?;
        if later.is_none() {
            self.looked = Some((self.offset, changed));
        }
        Ok(later.is_some())
    }

    pub(crate) fn damaged(&self, what: &str) -> ReadError {
        ReadError::Damaged {
            place: format!("{} at offset {}", self.segment.path.display(), self.offset),
            position: Position(self.expected),
            what: what.to_owned(),
        }
    }
}

/// The file system did not answer.
pub(crate) fn unavailable(error: io::Error) -> ReadError {
    ReadError::Unavailable(error.into())
}
