//! The body that the client gets: masked and recorded as it is polled, without a task or a buffer of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hoop_schema::kinds::request::{Cause, Decision, Effect, Ended, Masked};
use http_body::{Body, Frame, SizeHint};

use crate::lifetime::{self, Lifetime};
use crate::mask::{MaskError, Masker};
use crate::metrics::{InFlight, Metrics};
use crate::record::{AnswerRecorder, End, Flow, StreamRecorder};
use crate::upstream::UpstreamBody;

/// What the client and the record see of a body.
#[derive(Debug)]
pub(super) enum View {
    /// Both the bytes as they came: nothing in them can be masked.
    AsItCame,
    /// The client the bytes as they came, the record their number: they could not be inspected.
    Unrecorded,
    /// Both the masked form.
    Masked(Masker),
    /// The client the bytes as they came, the record the masked form.
    RecordMasked(Masker),
}

/// A piece of a body in both views.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) client: Bytes,
    record: Record,
}

#[derive(Debug)]
enum Record {
    /// What the client sees.
    Same,
    Other(Vec<u8>),
    /// Only the number of bytes.
    Length,
}

/// Who writes the outcome.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per answer, and boxed with the rest of it"
)]
pub(super) enum Recorder {
    Answer(AnswerRecorder),
    Stream {
        recorder: StreamRecorder,
        lifetime: Lifetime,
        /// What the stream says when its lifetime is over.
        parting: Option<Bytes>,
    },
}

/// A response body.
#[derive(Debug)]
pub(crate) struct ClientBody(Inner);

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is that of nearly all answers, which should not take an allocation more"
)]
enum Inner {
    Whole(Whole),
    /// Of an answer that leaves no record.
    Unrecorded(Bytes),
    Streamed(Box<Streamed>),
    Over,
}

#[derive(Debug)]
struct Whole {
    bytes: Bytes,
    recorder: AnswerRecorder,
    end: End,
    _in_flight: InFlight,
}

#[derive(Debug)]
struct Streamed {
    upstream: UpstreamBody,
    view: View,
    /// Taken by the end.
    recorder: Option<Recorder>,
    sent: u64,
    /// Whether nothing was sent, or whole lines.
    at_line_start: bool,
    decision: Decision,
    /// Whether a stream that cannot be recorded in full is closed.
    strict: bool,
    metrics: Metrics,
    _in_flight: InFlight,
}

/// Why a body was broken off. The client sees a connection that ends too early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error("the API server broke off")]
    Upstream(#[source] hyper::Error),
    #[error("the answer could not be inspected")]
    Uninspectable(#[source] MaskError),
    #[error("the stream could not be recorded in full")]
    Unrecorded,
}

impl View {
    /// Both views of the next bytes.
    fn piece(&mut self, chunk: Bytes) -> Result<Seen, MaskError> {
        match self {
            Self::AsItCame => Ok(Seen {
                client: chunk,
                record: Record::Same,
            }),
            Self::Unrecorded => Ok(Seen {
                client: chunk,
                record: Record::Length,
            }),
            Self::Masked(masker) => {
                let mut out = Vec::with_capacity(chunk.len() + 64);
                masker.push(&chunk, &mut out)?;
                Ok(Seen {
                    client: out.into(),
                    record: Record::Same,
                })
            }
            Self::RecordMasked(masker) => {
                let mut out = Vec::with_capacity(chunk.len() + 64);
                if masker.push(&chunk, &mut out).is_ok() {
                    return Ok(Seen {
                        client: chunk,
                        record: Record::Other(out),
                    });
                }
                // The rule lets the client see it in any case; the record takes no more of it.
                *self = Self::Unrecorded;
                Ok(Seen {
                    client: chunk,
                    record: Record::Length,
                })
            }
        }
    }

    /// Both views of what is still held back at the end.
    fn rest(&mut self) -> Result<Seen, MaskError> {
        let mut out = Vec::new();
        match self {
            Self::Masked(masker) => {
                masker.finish(&mut out)?;
                Ok(Seen {
                    client: out.into(),
                    record: Record::Same,
                })
            }
            Self::RecordMasked(masker) => {
                if masker.finish(&mut out).is_err() {
                    *self = Self::Unrecorded;
                    out.clear();
                }
                Ok(Seen {
                    client: Bytes::new(),
                    record: Record::Other(out),
                })
            }
            Self::AsItCame | Self::Unrecorded => Ok(Seen {
                client: Bytes::new(),
                record: Record::Same,
            }),
        }
    }

    /// Both views of a body that is there in full.
    pub(super) fn whole(&mut self, bytes: Bytes) -> Result<Seen, MaskError> {
        let mut seen = self.piece(bytes)?;
        let rest = self.rest()?;
        if !rest.client.is_empty() {
            seen.client = [seen.client, rest.client].concat().into();
        }
        if let (Record::Other(recorded), Record::Other(rest)) = (&mut seen.record, rest.record) {
            recorded.extend_from_slice(&rest);
        }
        if matches!(self, Self::Unrecorded) {
            seen.record = Record::Length;
        }
        Ok(seen)
    }

    pub(super) fn masked(&self) -> Masked {
        match self {
            Self::Masked(masker) | Self::RecordMasked(masker) => masker.masked().clone(),
            Self::AsItCame | Self::Unrecorded => Masked::default(),
        }
    }
}

impl Seen {
    /// Records it; the client has got `sent` bytes in all.
    pub(super) fn record(&self, recorder: &mut AnswerRecorder, sent: u64) {
        match &self.record {
            Record::Same => recorder.push(&self.client),
            Record::Other(recorded) => {
                recorder.push(recorded);
                recorder.sent(sent);
            }
            Record::Length => {
                recorder.push(&self.client);
                recorder.uninspected();
            }
        }
    }
}

impl ClientBody {
    /// No body.
    pub(super) fn none() -> Self {
        Self(Inner::Over)
    }

    /// A body that is there in full. `recorder` has it already, and gets `end` when the client took it.
    pub(super) fn whole(
        bytes: Bytes,
        recorder: AnswerRecorder,
        end: End,
        in_flight: InFlight,
    ) -> Self {
        if bytes.is_empty() {
            recorder.finish(end);
            return Self(Inner::Over);
        }
        Self(Inner::Whole(Whole {
            bytes,
            recorder,
            end,
            _in_flight: in_flight,
        }))
    }

    /// A body that nobody records.
    pub(super) fn unrecorded(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self(Inner::Over);
        }
        Self(Inner::Unrecorded(bytes))
    }

    /// A body that comes as the API server sends it.
    pub(super) fn streamed(
        upstream: UpstreamBody,
        view: View,
        recorder: Recorder,
        decision: Decision,
        strict: bool,
        in_flight: InFlight,
        metrics: Metrics,
    ) -> Self {
        Self(Inner::Streamed(Box::new(Streamed {
            upstream,
            view,
            recorder: Some(recorder),
            sent: 0,
            at_line_start: true,
            decision,
            strict,
            metrics,
            _in_flight: in_flight,
        })))
    }
}

impl Streamed {
    /// Records a piece; the client's view of it, or why it may not go on.
    fn take(&mut self, seen: Seen) -> Result<Bytes, BrokenOff> {
        self.sent += seen.client.len() as u64;
        let flow = match (&mut self.recorder, &seen.record) {
            (Some(Recorder::Answer(recorder)), _) => {
                seen.record(recorder, self.sent);
                Flow::Recorded
            }
            (Some(Recorder::Stream { recorder, .. }), Record::Same) => recorder.push(&seen.client),
            (Some(Recorder::Stream { recorder, .. }), Record::Other(recorded)) => {
                recorder.push(recorded)
            }
            (Some(Recorder::Stream { .. }), Record::Length) | (None, _) => Flow::Recorded,
        };
        if let Some(last) = seen.client.last() {
            self.at_line_start = *last == b'\n';
        }
        if flow == Flow::Lossy && self.strict {
            return Err(BrokenOff::Unrecorded);
        }
        Ok(seen.client)
    }

    fn finish(&mut self, ended: Ended, decision: Option<Decision>) {
        let end = End {
            ended,
            masked: self.view.masked(),
            decision,
        };
        match self.recorder.take() {
            Some(Recorder::Answer(recorder)) => recorder.finish(end),
            Some(Recorder::Stream { recorder, .. }) => recorder.finish(end),
            None => {}
        }
    }

    /// Whether it is a stream that has outlived the credential which opened it.
    fn has_expired(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.recorder {
            Some(Recorder::Stream { lifetime, .. }) => Pin::new(lifetime).poll(cx).is_ready(),
            _ => false,
        }
    }

    /// Ends such a stream; returns its last words, none in the middle of a line.
    fn expire(&mut self) -> Bytes {
        let mut words = Bytes::new();
        if let Some(Recorder::Stream {
            recorder, parting, ..
        }) = &mut self.recorder
        {
            words = parting
                .take()
                .filter(|_| self.at_line_start)
                .unwrap_or_default();
            recorder.push(&words);
        }
        let decision = lifetime::expired(&self.decision);
        self.finish(Ended::GatewayClosed, Some(decision));
        words
    }

    fn break_off(&mut self, why: BrokenOff) -> BrokenOff {
        let (ended, cause) = match &why {
            BrokenOff::Upstream(_) => (Ended::UpstreamClosed, None),
            BrokenOff::Uninspectable(_) => (Ended::GatewayClosed, Some(Cause::Uninspectable)),
            BrokenOff::Unrecorded => (Ended::GatewayClosed, Some(Cause::LogUnavailable)),
        };
        if cause.is_none() {
            self.metrics.upstream_failed("body");
        }
        tracing::warn!(
            error = &why as &dyn std::error::Error,
            "an answer was broken off"
        );
        let decision = cause.map(|cause| Decision {
            effect: Effect::Deny,
            cause,
            message: why.to_string(),
            ..self.decision.clone()
        });
        self.finish(ended, decision);
        why
    }

    /// The next piece that is not empty; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            let seen = match ready!(Pin::new(&mut self.upstream).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => self.view.piece(chunk),
                    // Trailers: the API server sends none.
                    Err(_) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(BrokenOff::Upstream(error)))),
                None => {
                    let rest = self.view.rest().map_err(BrokenOff::Uninspectable);
                    let piece = rest.and_then(|seen| self.take(seen));
                    return match piece {
                        Ok(piece) if piece.is_empty() => Poll::Ready(None),
                        piece => Poll::Ready(Some(piece)),
                    };
                }
            };
            let piece = seen
                .map_err(BrokenOff::Uninspectable)
                .and_then(|seen| self.take(seen));
            match piece {
                Ok(piece) if piece.is_empty() => {}
                piece => return Poll::Ready(Some(piece)),
            }
        }
    }

    /// What the client gets next, and whether it is the last.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<Result<Bytes, BrokenOff>>, bool)> {
        if self.has_expired(cx) {
            let words = self.expire();
            return Poll::Ready(((!words.is_empty()).then_some(Ok(words)), true));
        }
        let piece =
            ready!(self.poll_piece(cx)).map(|piece| piece.and_then(|piece| self.ends_with(piece)));
        Poll::Ready(match piece {
            Some(Ok((piece, last))) => {
                if last {
                    self.finish(Ended::Complete, None);
                }
                (Some(Ok(piece)), last)
            }
            Some(Err(why)) => (Some(Err(self.break_off(why))), true),
            None => {
                self.finish(Ended::Complete, None);
                (None, true)
            }
        })
    }

    /// HTTP does not ask for more when it has as many bytes as announced: the end comes with the last piece.
    fn ends_with(&mut self, piece: Bytes) -> Result<(Bytes, bool), BrokenOff> {
        if !self.upstream.is_end_stream() {
            return Ok((piece, false));
        }
        let seen = self.view.rest().map_err(BrokenOff::Uninspectable)?;
        let rest = self.take(seen)?;
        if rest.is_empty() {
            return Ok((piece, true));
        }
        Ok(([piece, rest].concat().into(), true))
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // Nobody polled to the end: the client is gone. The recorder says so when it is dropped.
        match &mut self.recorder {
            Some(Recorder::Answer(recorder)) => recorder.masked(self.view.masked()),
            Some(Recorder::Stream { recorder, .. }) => recorder.masked(self.view.masked()),
            None => {}
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.0 {
            Inner::Over => Poll::Ready(None),
            Inner::Unrecorded(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Over;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Whole(_) => {
                let Inner::Whole(whole) = std::mem::replace(&mut self.0, Inner::Over) else {
                    return Poll::Ready(None);
                };
                whole.recorder.finish(whole.end);
                Poll::Ready(Some(Ok(Frame::data(whole.bytes))))
            }
            Inner::Streamed(streamed) => {
                let (step, over) = ready!(streamed.poll_step(cx));
                if over {
                    self.0 = Inner::Over;
                }
                Poll::Ready(step.map(|step| step.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Over)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Over => SizeHint::with_exact(0),
            Inner::Unrecorded(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Whole(whole) => SizeHint::with_exact(whole.bytes.len() as u64),
            Inner::Streamed(streamed) => match &streamed.view {
                View::Masked(_) => SizeHint::default(),
                _ => streamed.upstream.size_hint(),
            },
        }
    }
}
