//! Recording a stream while it runs: a watch, a followed log, the channels of a command or of forwarded ports.
//!
//! Pieces gather for at most [`FLUSH_INTERVAL`] or [`FLUSH_BYTES`] and then become one `stream.data` event, so that
//! an event can be read within a second and a busy stream does not cost an event per frame.

use std::sync::Arc;
use std::time::Duration;

use hoop_schema::Kind;
use hoop_schema::kinds::request::{Ended, Level, Masked};
use hoop_schema::kinds::stream::{Channel, ConnectionState, StreamConnection, StreamResize};
use parking_lot::Mutex;

use super::answer::{AnswerHead, End};
use super::exchange::{Answer, Course, MaskedBody};

/// The longest that a piece gathers.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// The most that gathers: half of what one event takes.
pub(super) const FLUSH_BYTES: usize = 64 * 1024;

/// Pieces of one channel that come within this many microseconds are one moment of a terminal: less than anybody sees.
const MOMENT_US: u64 = 30_000;

/// How often a stream that waits for memory looks again: no longer than a sync takes.
const ROOM_INTERVAL: Duration = Duration::from_millis(2);

/// Whether all of a stream is recorded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Recorded,
    /// Some of it was dropped, since the memory for events under way is full; a gap tells of it. Or all of it is, since it
    /// cannot be encrypted; the outcome tells. A stream whose rule demands a record should be closed.
    Lossy,
}

/// Where a piece of a stream belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its channel.
    pub channel: Channel,
    /// Which forwarded connection, counted from 1; nothing for the channels of everything else.
    pub connection: Option<u32>,
    /// Where in the channel it begins, in bytes.
    pub offset: u64,
}

/// Writes a stream's data while it runs, and its outcome at the end.
///
/// Dropped without [`StreamRecorder::finish`], it says that the client was gone, unless told otherwise.
#[derive(Debug)]
#[must_use = "dropping it says that the client was gone"]
pub struct StreamRecorder {
    open: Arc<Mutex<Open>>,
    runtime: tokio::runtime::Handle,
    /// How it ended if it is just dropped.
    dropped: Ended,
}

/// What the recorder and its timer share.
#[derive(Debug)]
struct Open {
    /// Taken by the end.
    course: Option<(Course, AnswerHead)>,
    gathered: Vec<u8>,
    /// Of what has gathered: always of one channel.
    place: Place,
    gathered_at_us: u64,
    sent: u64,
    received: u64,
    events: u64,
    exit_code: Option<u8>,
    first_byte_us: u64,
    timer: bool,
    flow: Flow,
    level: Level,
    masked: Masked,
}

impl StreamRecorder {
    pub(super) fn new(course: Course, head: AnswerHead, channel: Channel) -> Self {
        let runtime = course.lanes.runtime().clone();
        let open = Open {
            gathered: Vec::new(),
            place: Place {
                channel,
                connection: None,
                offset: 0,
            },
            gathered_at_us: 0,
            sent: 0,
            received: 0,
            events: 0,
            exit_code: None,
            first_byte_us: course.elapsed_us(),
            timer: false,
            flow: Flow::Recorded,
            level: course.level(),
            masked: Masked::default(),
            course: Some((course, head)),
        };
        Self {
            open: Arc::new(Mutex::new(open)),
            runtime,
            dropped: Ended::ClientClosed,
        }
    }

    /// The next piece of the masked answer of one channel: for a watch, whole frames with their line breaks.
    pub fn push(&mut self, masked: &[u8]) -> Flow {
        let mut open = self.open.lock();
        open.sent += masked.len() as u64;
        if open.level == Level::RequestResponse && !masked.is_empty() {
            let place = Place {
                offset: open.place.offset + open.gathered.len() as u64,
                ..open.place
            };
            self.gather(&mut open, place, masked);
        }
        open.flow
    }

    /// The next piece of a stream of several channels. Pieces of one channel and connection come in order. What the
    /// client sent is recorded from the level `Request` on, what it got from `RequestResponse` on.
    pub fn push_at(&mut self, place: Place, masked: &[u8]) -> Flow {
        let mut open = self.open.lock();
        let wanted = match place.channel {
            Channel::Stdin | Channel::PortIn => open.level != Level::Metadata,
            _ => open.level == Level::RequestResponse,
        };
        if wanted && !masked.is_empty() {
            // What somebody typed and what came of it are told apart, and when; a flood of one channel gathers.
            let continues = place.channel == open.place.channel
                && place.connection == open.place.connection
                && open.now_us().saturating_sub(open.gathered_at_us) < MOMENT_US;
            if !continues {
                open.flush(true);
            }
            self.gather(&mut open, place, masked);
        }
        open.flow
    }

    /// The terminal changed its size.
    pub fn resize(&mut self, width: u16, height: u16) -> Flow {
        let mut open = self.open.lock();
        open.flush(true);
        let at_us = open.now_us();
        open.write(|audit_id| {
            StreamResize {
                audit_id,
                at_us,
                width,
                height,
            }
            .into()
        });
        open.flow
    }

    /// A forwarded connection began or is over, with this many bytes to and from the port.
    pub fn connection(
        &mut self,
        connection: u32,
        port: u16,
        state: ConnectionState,
        (bytes_in, bytes_out): (u64, u64),
    ) -> Flow {
        let mut open = self.open.lock();
        open.flush(true);
        let at_us = open.now_us();
        open.write(|audit_id| {
            StreamConnection {
                audit_id,
                connection,
                port,
                at_us,
                state,
                bytes_in,
                bytes_out,
            }
            .into()
        });
        open.flow
    }

    /// The command ended with this code.
    pub fn exited(&mut self, code: u8) {
        self.open.lock().exit_code = Some(code);
    }

    /// Counts bytes that passed, of a stream whose data comes through [`StreamRecorder::push_at`].
    pub fn passed(&mut self, from_client: u64, to_client: u64) {
        let mut open = self.open.lock();
        open.received += from_client;
        open.sent += to_client;
    }

    /// Waits while the memory for events under way is half full: a stream that can wait becomes slow, not lossy.
    pub fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let budget = self
            .open
            .lock()
            .course
            .as_ref()
            .map(|(course, _)| Arc::clone(course.lanes.budget()));
        async move {
            while budget.as_ref().is_some_and(|budget| budget.is_half_full()) {
                tokio::time::sleep(ROOM_INTERVAL).await;
            }
        }
    }

    /// What was masked so far, for the case that the client goes away before the end.
    pub fn masked(&mut self, masked: Masked) {
        self.open.lock().masked = masked;
    }

    /// How the stream ended if it is dropped from now on.
    pub fn ended_when_dropped(&mut self, ended: Ended) {
        self.dropped = ended;
    }

    /// The stream is over: writes what has gathered and the outcome, without waiting for them.
    pub fn finish(self, end: End) {
        self.open.lock().end(end);
    }

    fn gather(&self, open: &mut Open, place: Place, masked: &[u8]) {
        if open.gathered.is_empty() {
            open.place = place;
            open.gathered_at_us = open.now_us();
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
    }
}

impl Drop for StreamRecorder {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        let masked = std::mem::take(&mut open.masked);
        open.end(End {
            ended: self.dropped,
            masked,
            decision: None,
        });
    }
}

impl Open {
    fn now_us(&self) -> u64 {
        self.course.as_ref().map_or(0, |(c, _)| c.elapsed_us())
    }

    /// Writes what has gathered. A character that is not whole yet waits for the rest of it, unless this is the last
    /// of its channel for now.
    fn flush(&mut self, last: bool) {
        let Some((course, _)) = &self.course else {
            return;
        };
        let whole = if last {
            self.gathered.len()
        } else {
            whole_characters(&self.gathered)
        };
        let (events, all) =
            course.write_stream_data(self.place, self.gathered_at_us, &self.gathered[..whole]);
        self.events += events;
        if !all && whole > 0 {
            self.flow = Flow::Lossy;
        }
        self.place.offset += whole as u64;
        self.gathered.drain(..whole);
    }

    fn write(&mut self, kind: impl FnOnce(String) -> Kind) {
        let Some((course, _)) = &self.course else {
            return;
        };
        self.events += 1;
        if !course.write_stream(&kind(course.audit_id().to_owned())) {
            self.flow = Flow::Lossy;
        }
    }

    fn end(&mut self, end: End) {
        self.flush(true);
        let Some((mut course, head)) = self.course.take() else {
            return;
        };
        if self.received > 0 {
            course.sent_upstream = self.received;
        }
        // What could not be encrypted is not there, and the outcome says so.
        let lost = course.has_lost_content() && course.records_answers();
        let body = lost.then(|| MaskedBody {
            recorded: None,
            bytes: self.sent,
            media_type: head.media_type.clone(),
        });
        let answer = Answer {
            head,
            ended: end.ended,
            response_bytes: self.sent,
            first_byte_us: self.first_byte_us,
            body,
            masked: end.masked,
            stream_events: self.events,
            exit_code: self.exit_code,
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
