//! Recording an answer: its masked body up to a limit, then one outcome.

use hoop_schema::kinds::request::{AnsweredBy, Decision, Ended, Masked};

use super::budget::{Held, Share};
use super::exchange::{Answer, Course, MaskedBody};

/// What is known of an answer when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// HTTP status.
    pub status: u16,
    /// `reason` of the Kubernetes Status, where the gateway answers itself.
    pub reason: Option<String>,
    /// Who answers.
    pub answered_by: AnsweredBy,
    /// `Content-Type` of the answer.
    pub media_type: Option<String>,
}

/// How an answer ended.
#[derive(Debug, Clone)]
pub struct End {
    /// How.
    pub ended: Ended,
    /// What was masked in it.
    pub masked: Masked,
    /// What went wrong after an allowed request was decided; nothing leaves the decision as it was.
    pub decision: Option<Decision>,
}

impl End {
    /// An answer that came to its end as decided.
    pub fn complete(masked: Masked) -> Self {
        Self {
            ended: Ended::Complete,
            masked,
            decision: None,
        }
    }
}

/// Captures the masked body of an answer while it streams, and writes the outcome.
///
/// Dropped without [`AnswerRecorder::finish`], it says that the client was gone, with what was captured by then.
#[derive(Debug)]
#[must_use = "dropping it says that the client was gone"]
pub struct AnswerRecorder {
    /// Taken by the end.
    open: Option<(Course, AnswerHead)>,
    captured: Vec<u8>,
    held: Option<Held>,
    bytes: u64,
    sent: u64,
    body_bytes_max: usize,
    first_byte_us: u64,
    inspected: bool,
    masked: Masked,
}

impl AnswerRecorder {
    pub(super) fn new(course: Course, head: AnswerHead) -> Self {
        let body_bytes_max = if course.records_answers() {
            course.lanes.limits().body_bytes_max
        } else {
            0
        };
        Self {
            held: course.lanes.budget().try_take(0, Share::Bulk),
            first_byte_us: course.elapsed_us(),
            body_bytes_max,
            open: Some((course, head)),
            captured: Vec::new(),
            bytes: 0,
            sent: 0,
            inspected: true,
            masked: Masked::default(),
        }
    }

    /// The next piece of the masked body. Pieces that would exceed the limit, or the memory for events under way, are
    /// counted and not kept; the outcome says from where on.
    pub fn push(&mut self, masked: &[u8]) {
        let whole = self.bytes == self.captured.len() as u64;
        self.bytes += masked.len() as u64;
        self.sent += masked.len() as u64;
        if !whole {
            return;
        }
        let room = self.body_bytes_max - self.captured.len();
        let piece = &masked[..masked.len().min(room)];
        if !piece.is_empty()
            && self
                .held
                .as_mut()
                .is_some_and(|held| held.grow(piece.len()))
        {
            self.captured.extend_from_slice(piece);
        }
    }

    /// Says how many bytes the client got, where that is not the length of what was pushed.
    pub fn sent(&mut self, bytes: u64) {
        self.sent = bytes;
    }

    /// What was masked so far, for the case that the client goes away before the end.
    pub fn masked(&mut self, masked: Masked) {
        self.masked = masked;
    }

    /// Says that the body could not be inspected: it is recorded as omitted.
    pub fn uninspected(&mut self) {
        self.inspected = false;
        self.captured = Vec::new();
    }

    /// The answer is over: writes the outcome, without waiting for it.
    pub fn finish(mut self, end: End) {
        self.write(end);
    }

    fn write(&mut self, end: End) {
        let Some((mut course, head)) = self.open.take() else {
            return;
        };
        // The events that carry the body are counted from here on.
        self.held = None;
        let recorded = self
            .inspected
            .then(|| std::mem::take(&mut self.captured).into());
        let body = (course.records_answers() && self.bytes > 0).then(|| MaskedBody {
            recorded,
            bytes: self.bytes,
            media_type: head.media_type.clone(),
        });
        let answer = Answer {
            head,
            ended: end.ended,
            response_bytes: self.sent,
            first_byte_us: self.first_byte_us,
            body,
            masked: end.masked,
            stream_events: 0,
            exit_code: None,
        };
        course.finish(answer, end.decision);
    }
}

impl Drop for AnswerRecorder {
    fn drop(&mut self) {
        let masked = std::mem::take(&mut self.masked);
        self.write(End {
            ended: Ended::ClientClosed,
            masked,
            decision: None,
        });
    }
}
