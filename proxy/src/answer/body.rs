//! The body that the client gets: masked and recorded as it is polled, without a task or a buffer of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::kinds::request::{Cause, Decision, Effect, Ended};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::view::{Record, Seen, View};
use crate::lifetime::{Lifetime, Over};
use crate::mask::MaskError;
use crate::metrics::{InFlight, Metrics};
use crate::record::{AnswerRecorder, End, Flow, StreamRecorder};
use crate::upstream::UpstreamBody;

/// The longest that bytes of a followed log are held back because they may be the beginning of a secret: nobody
/// notices it. What comes later than that is taken for something else.
const HELD_BACK_MAX: Duration = Duration::from_millis(20);

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
        parting: Parting,
    },
}

/// How a stream says that it is over before its time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parting {
    /// As an `ERROR` event.
    Watch,
    /// As a line.
    Log,
    /// There are no words for it.
    Silent,
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
    /// Nothing more comes. Says why, where it is before its time.
    Over(Option<Over>),
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
    /// Runs while bytes are held back of a stream that somebody may be looking at.
    held_back: Option<Pin<Box<Sleep>>>,
    decision: Decision,
    /// Why it was ended before its time.
    over: Option<Over>,
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

impl ClientBody {
    /// No body.
    pub(crate) fn none() -> Self {
        Self(Inner::Over(None))
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
            return Self(Inner::Over(None));
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
            return Self(Inner::Over(None));
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
            held_back: None,
            decision,
            over: None,
            strict,
            metrics,
            _in_flight: in_flight,
        })))
    }

    /// Why it was ended before its time, once it was.
    pub(crate) fn over(&self) -> Option<&Over> {
        match &self.0 {
            Inner::Over(over) => over.as_ref(),
            _ => None,
        }
    }

    /// Resolves when it may not go on, and ends it without last words: the client has not taken the last piece yet.
    pub(crate) async fn cut_off(&mut self) {
        std::future::poll_fn(|cx| {
            let Inner::Streamed(streamed) = &mut self.0 else {
                return Poll::Pending;
            };
            let Some(over) = streamed.is_over(cx) else {
                return Poll::Pending;
            };
            let decision = over.decision(&streamed.decision);
            streamed.finish(Ended::GatewayClosed, Some(decision));
            self.0 = Inner::Over(Some(over));
            Poll::Ready(())
        })
        .await;
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

    /// Whether it is a stream that may not go on, and why.
    fn is_over(&mut self, cx: &mut Context<'_>) -> Option<Over> {
        match &mut self.recorder {
            Some(Recorder::Stream { lifetime, .. }) => match Pin::new(lifetime).poll(cx) {
                Poll::Ready(over) => Some(over),
                Poll::Pending => None,
            },
            _ => None,
        }
    }

    /// Ends such a stream; returns its last words, none in the middle of a line.
    fn part(&mut self, over: &Over) -> Bytes {
        let mut words = Bytes::new();
        if let Some(Recorder::Stream {
            recorder, parting, ..
        }) = &mut self.recorder
        {
            if self.at_line_start {
                words = parting.words(&over.message());
            }
            recorder.push(&words);
        }
        let decision = over.decision(&self.decision);
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
            let frame = match Pin::new(&mut self.upstream).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.poll_held_back(cx));
                    let seen = self.view.flush();
                    return Poll::Ready(Some(self.take(seen)));
                }
            };
            let seen = match frame {
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
                piece => {
                    // What is held back now has just come.
                    self.held_back = None;
                    return Poll::Ready(Some(piece));
                }
            }
        }
    }

    /// What the client gets next, and whether it is the last.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<Result<Bytes, BrokenOff>>, bool)> {
        if let Some(over) = self.is_over(cx) {
            let words = self.part(&over);
            self.over = Some(over);
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

    /// Ready when what is held back must go on. Only streams are looked at while they run.
    fn poll_held_back(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.recorder, Some(Recorder::Stream { .. })) || !self.view.holds_back() {
            return Poll::Pending;
        }
        let timer = self
            .held_back
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HELD_BACK_MAX)));
        ready!(timer.as_mut().poll(cx));
        self.held_back = None;
        Poll::Ready(())
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
            Inner::Over(_) => Poll::Ready(None),
            Inner::Unrecorded(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Over(None);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Whole(_) => {
                let Inner::Whole(whole) = std::mem::replace(&mut self.0, Inner::Over(None)) else {
                    return Poll::Ready(None);
                };
                whole.recorder.finish(whole.end);
                Poll::Ready(Some(Ok(Frame::data(whole.bytes))))
            }
            Inner::Streamed(streamed) => {
                let (step, over) = ready!(streamed.poll_step(cx));
                if over {
                    let why = streamed.over.take();
                    self.0 = Inner::Over(why);
                }
                Poll::Ready(step.map(|step| step.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Over(_))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Over(_) => SizeHint::with_exact(0),
            Inner::Unrecorded(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Whole(whole) => SizeHint::with_exact(whole.bytes.len() as u64),
            Inner::Streamed(streamed) if streamed.view.rewrites() => SizeHint::default(),
            Inner::Streamed(streamed) => streamed.upstream.size_hint(),
        }
    }
}
