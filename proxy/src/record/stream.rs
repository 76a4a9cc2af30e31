//! Recording a stream while it runs: a watch, a followed log.
//!
//! Pieces gather for at most [`FLUSH_INTERVAL`] or [`FLUSH_BYTES`] and then become one `stream.data` event, so that
//! an event can be read within a second and a busy stream does not cost an event per frame.

use std::sync::Arc;
use std::time::Duration;

use hoop_schema::Kind;
use hoop_schema::body::{CHUNK_BYTES_MAX, cut};
use hoop_schema::kinds::request::{Ended, Masked};
use hoop_schema::kinds::stream::{Channel, StreamData};
use parking_lot::Mutex;

use super::answer::{AnswerHead, End};
use super::exchange::{Answer, Course};

/// The longest that a piece gathers.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// The most that gathers: half of what one event takes.
pub(super) const FLUSH_BYTES: usize = 64 * 1024;

/// Whether all of a stream is recorded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Recorded,
    /// Some of it was dropped, since the memory for events under way is full; a gap tells of it. A stream whose rule
    /// demands a record should be closed.
    Lossy,
}

/// Writes a stream's data while it runs, and its outcome at the end.
///
/// Dropped without [`StreamRecorder::finish`], it says that the client was gone.
#[derive(Debug)]
#[must_use = "dropping it says that the client was gone"]
pub struct StreamRecorder {
    open: Arc<Mutex<Open>>,
    runtime: tokio::runtime::Handle,
}

/// What the recorder and its timer share.
#[derive(Debug)]
struct Open {
    /// Taken by the end.
    course: Option<(Course, AnswerHead)>,
    channel: Channel,
    gathered: Vec<u8>,
    gathered_at_us: u64,
    offset: u64,
    bytes: u64,
    events: u64,
    first_byte_us: u64,
    timer: bool,
    flow: Flow,
    records: bool,
    masked: Masked,
}

impl StreamRecorder {
    pub(super) fn new(course: Course, head: AnswerHead, channel: Channel) -> Self {
        let runtime = course.lanes.runtime().clone();
        let open = Open {
            channel,
            gathered: Vec::new(),
            gathered_at_us: 0,
            offset: 0,
            bytes: 0,
            events: 0,
            first_byte_us: course.elapsed_us(),
            timer: false,
            flow: Flow::Recorded,
            records: course.records_answers(),
            masked: Masked::default(),
            course: Some((course, head)),
        };
        Self {
            open: Arc::new(Mutex::new(open)),
            runtime,
        }
    }

    /// The next piece of the masked stream: for a watch, whole frames with their line breaks.
    pub fn push(&mut self, masked: &[u8]) -> Flow {
        let mut open = self.open.lock();
        open.bytes += masked.len() as u64;
        if !open.records || masked.is_empty() {
            return open.flow;
        }
        if open.gathered.is_empty() {
            open.gathered_at_us = open.course.as_ref().map_or(0, |(c, _)| c.elapsed_us());
        }
        // A frame stays whole where it can: what has gathered goes first.
        if !open.gathered.is_empty() && open.gathered.len() + masked.len() > FLUSH_BYTES {
            open.flush(false);
        }
        open.gathered.extend_from_slice(masked);
        if open.gathered.len() >= FLUSH_BYTES {
            open.flush(false);
        }
        if !open.gathered.is_empty() && !std::mem::replace(&mut open.timer, true) {
            let weak = Arc::downgrade(&self.open);
            self.runtime.spawn(async move {
                tokio::time::sleep(FLUSH_INTERVAL).await;
                if let Some(open) = weak.upgrade() {
                    let mut open = open.lock();
                    open.timer = false;
                    open.flush(false);
                }
            });
        }
        open.flow
    }

    /// What was masked so far, for the case that the client goes away before the end.
    pub fn masked(&mut self, masked: Masked) {
        self.open.lock().masked = masked;
    }

    /// The stream is over: writes what has gathered and the outcome, without waiting for them.
    pub fn finish(self, end: End) {
        self.open.lock().end(end);
    }
}

impl Drop for StreamRecorder {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        let masked = std::mem::take(&mut open.masked);
        open.end(End {
            ended: Ended::ClientClosed,
            masked,
            decision: None,
        });
    }
}

impl Open {
    /// Writes what has gathered. A character that is not whole yet waits for the rest of it, unless this is the end.
    fn flush(&mut self, last: bool) {
        let Some((course, _)) = &self.course else {
            return;
        };
        let whole = if last {
            self.gathered.len()
        } else {
            whole_characters(&self.gathered)
        };
        for piece in cut(&self.gathered[..whole], CHUNK_BYTES_MAX) {
            let data = Kind::from(StreamData {
                audit_id: course.audit_id().to_owned(),
                channel: self.channel,
                offset: self.offset + piece.offset,
                at_us: self.gathered_at_us,
                encoding: piece.encoding,
                content: piece.content,
            });
            self.events += 1;
            if !course.write_stream(&data) {
                self.flow = Flow::Lossy;
            }
        }
        self.offset += whole as u64;
        self.gathered.drain(..whole);
    }

    fn end(&mut self, end: End) {
        self.flush(true);
        let Some((mut course, head)) = self.course.take() else {
            return;
        };
        let answer = Answer {
            head,
            ended: end.ended,
            response_bytes: self.bytes,
            first_byte_us: self.first_byte_us,
            body: None,
            masked: end.masked,
            stream_events: self.events,
        };
        course.finish(answer, end.decision);
    }
}

/// Length of `bytes` without a character at the end that is cut off. Bytes that are no text count as whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}
