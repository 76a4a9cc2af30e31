//! One request and its answer, from intent to outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::body::{Body, Piece};
use hoop_schema::bytes::encode_fields;
use hoop_schema::kinds::request::{
    AnsweredBy, BodyChunk, BodyOf, Decision, Durability, Ended, Intent, Level, Masked, Outcome,
    RequestAttributes, User,
};
use hoop_schema::kinds::stream::{Channel, StreamData};
use hoop_schema::{Class, Kind, SessionId};
use tokio::time::Instant;

use super::answer::{AnswerHead, AnswerRecorder};
use super::budget::Share;
use super::delivery::{Delivery, Patience};
use super::lanes::{FIELDS_BYTES_MAX, Lanes, LogIndex};
use super::secrecy::{self, NoKey, Secrecy};
use super::sessions::Ticket;
use super::stream::{Place, StreamRecorder};
use super::{RecordError, metrics::DropReason};

/// Which logs the events of a request go to, from its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The class of intent and outcome.
    pub class: Class,
    /// The class of bodies and stream data. When it differs, no body is inside an intent or outcome.
    pub body_class: Class,
}

/// A request body as it may be recorded.
#[derive(Debug, Clone)]
pub struct MaskedBody {
    /// The masked body, or its beginning; nothing when it could not be inspected.
    pub recorded: Option<Bytes>,
    /// Length of the whole masked body in bytes.
    pub bytes: u64,
    /// `Content-Type`, as sent.
    pub media_type: Option<String>,
}

/// What the gateway knows of a request when it has decided.
#[derive(Debug, Clone)]
pub struct NewIntent {
    /// What was decided, and why.
    pub decision: Decision,
    /// How much is recorded.
    pub level: Level,
    /// How durable the intent must be. Without a spool, `spool` is `log`.
    pub durability: Durability,
    /// Where it goes.
    pub placement: Placement,
    /// The request's body, if it has one. Left out of the record by [`Level::Metadata`].
    pub body: Option<MaskedBody>,
    /// What was masked in it.
    pub masked: Masked,
    /// Identity headers that the client sent, as in [`Intent::claims`].
    pub claims: BTreeMap<String, String>,
}

/// The record of one request. See the module above for its course.
///
/// Dropped after [`Exchange::intent`] was called, it writes the outcome of a request whose client was gone before
/// there was an answer.
#[derive(Debug)]
#[must_use = "an exchange that is dropped says that the client was gone"]
pub struct Exchange(Option<Course>);

/// What an exchange has and hands on to the recorder of its answer.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) lanes: Arc<Lanes>,
    ticket: Ticket,
    request: Arc<RequestAttributes>,
    head_at: Instant,
    /// Set by the intent: what the outcome repeats.
    decided: Option<Decided>,
    pub(super) sent_upstream: u64,
}

#[derive(Debug)]
struct Decided {
    decision: Decision,
    level: Level,
    log: LogIndex,
    body_log: LogIndex,
    secrecy: Secrecy,
}

/// Which body is written, and how.
#[derive(Clone, Copy)]
struct Form<'a> {
    of: BodyOf,
    secrecy: &'a Secrecy,
    /// Of the event, and of the body's pieces.
    logs: (LogIndex, LogIndex),
}

/// What an outcome says beyond its request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: AnswerHead,
    pub(super) ended: Ended,
    pub(super) response_bytes: u64,
    pub(super) first_byte_us: u64,
    pub(super) body: Option<MaskedBody>,
    pub(super) masked: Masked,
    pub(super) stream_events: u64,
    pub(super) exit_code: Option<u8>,
}

impl Exchange {
    pub(super) fn new(lanes: Arc<Lanes>, ticket: Ticket, request: Arc<RequestAttributes>) -> Self {
        Self(Some(Course {
            lanes,
            ticket,
            request,
            head_at: Instant::now(),
            decided: None,
            sent_upstream: 0,
        }))
    }

    /// The request, as its events say it.
    pub fn request(&self) -> &Arc<RequestAttributes> {
        &self.course().request
    }

    /// The ids that its session is known by: its own, the first one of its basis, and that of its predecessor.
    pub fn session(&self) -> [Option<SessionId>; 3] {
        self.course().ticket.session.names()
    }

    /// Says that the request is done as somebody else. Call it before [`Exchange::intent`]; returns what the events now
    /// say.
    pub fn done_as(&mut self, impersonated: User) -> Arc<RequestAttributes> {
        let course = self.course_mut();
        let request = Arc::make_mut(&mut course.request);
        request.impersonated = Some(impersonated);
        Arc::clone(&course.request)
    }

    /// Says how the request's target and command are shown, where that is not as they were sent. Call it before
    /// [`Exchange::intent`]; returns what the events now say.
    pub fn shown_as(&mut self, request_uri: String, argv: Vec<String>) -> Arc<RequestAttributes> {
        let course = self.course_mut();
        let request = Arc::make_mut(&mut course.request);
        (request.request_uri, request.argv) = (request_uri, argv);
        Arc::clone(&course.request)
    }

    /// Says that the request's head came `before` this exchange was opened; the outcome's times count from there.
    #[must_use = "returns the exchange"]
    pub fn head_came(mut self, before: Duration) -> Self {
        let course = self.course_mut();
        course.head_at = course.head_at.checked_sub(before).unwrap_or(course.head_at);
        self
    }

    /// Writes the intent, after the chunks of its body. `Ok` says that all of it is durable, or that the rule asks
    /// for less. Where content is encrypted, the key is kept before that. Call it once.
    ///
    /// # Errors
    /// The request must not go upstream. Answer it all the same through [`Exchange::answer`], so that the outcome
    /// tells what the client got as soon as the log is back; the lost intent itself becomes part of a gap. An intent
    /// that timed out may still be written later.
    pub async fn intent(&mut self, intent: NewIntent) -> Result<(), RecordError> {
        let course = self.course_mut();
        let deadline = Instant::now() + course.lanes.limits().intent_wait_max;
        let durability = intent.durability;
        let (secrecy, no_key) = match course.secrecy(&intent).await {
            Ok(secrecy) => (secrecy, None),
            Err(no_key) => (Secrecy::Lost, Some(no_key)),
        };
        let deliveries = course.write_intent(intent, secrecy)?;
        if durability == Durability::BestEffort {
            return Ok(());
        }
        let all = async {
            let mut verdict = Ok(());
            for delivery in deliveries {
                verdict = verdict.and(delivery.verdict().await);
            }
            verdict
        };
        match tokio::time::timeout_at(deadline, all).await {
            Ok(verdict) => verdict.map_err(RecordError::Unavailable)?,
            Err(_) => return Err(RecordError::Unavailable(None)),
        }
        no_key.map_or(Ok(()), |no_key| Err(RecordError::NoKey(no_key)))
    }

    /// Says how many bytes of request body went upstream.
    pub fn sent_upstream(&mut self, bytes: u64) {
        self.course_mut().sent_upstream = bytes;
    }

    /// The answer begins: its body is recorded as the level says, and the outcome is written at its end.
    pub fn answer(mut self, head: AnswerHead) -> AnswerRecorder {
        AnswerRecorder::new(self.take(), head)
    }

    /// The answer is a stream: it is recorded while it runs.
    pub fn stream(mut self, head: AnswerHead, channel: Channel) -> StreamRecorder {
        StreamRecorder::new(self.take(), head, channel)
    }

    fn course(&self) -> &Course {
        self.0
            .as_ref()
            .expect("only taken by methods that consume the exchange")
    }

    fn course_mut(&mut self) -> &mut Course {
        self.0
            .as_mut()
            .expect("only taken by methods that consume the exchange")
    }

    fn take(&mut self) -> Course {
        self.0
            .take()
            .expect("only taken by methods that consume the exchange")
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(mut course) = self.0.take() else {
            return;
        };
        if course.decided.is_some() {
            let head = AnswerHead {
                status: 0,
                reason: None,
                answered_by: AnsweredBy::Gateway,
                media_type: None,
            };
            course.finish(
                Answer {
                    head,
                    ended: Ended::ClientClosed,
                    response_bytes: 0,
                    first_byte_us: 0,
                    body: None,
                    masked: Masked::default(),
                    stream_events: 0,
                    exit_code: None,
                },
                None,
            );
        }
    }
}

impl Course {
    /// Microseconds since the request's head.
    pub(super) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.head_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether the answer's body is recorded.
    pub(super) fn records_answers(&self) -> bool {
        self.decided
            .as_ref()
            .is_some_and(|d| d.level == Level::RequestResponse)
    }

    /// How much is recorded.
    pub(super) fn level(&self) -> Level {
        self.decided
            .as_ref()
            .map_or(Level::Metadata, |decided| decided.level)
    }

    pub(super) fn audit_id(&self) -> &str {
        &self.request.audit_id
    }

    /// Whether content was to be encrypted and there was no key, so that none is recorded.
    pub(super) fn has_lost_content(&self) -> bool {
        let secrecy = self.decided.as_ref().map(|decided| &decided.secrecy);
        matches!(secrecy, Some(Secrecy::Lost))
    }

    /// How the content of this request is written. A caller who could not be identified has none: the answer is the
    /// gateway's own.
    async fn secrecy(&self, new: &NewIntent) -> Result<Secrecy, NoKey> {
        let log = self.lanes.log_of(&new.placement.body_class);
        let encrypts = log.is_some_and(|log| self.lanes.encrypts(log));
        if !encrypts || new.level == Level::Metadata || self.request.user.is_none() {
            return Ok(Secrecy::Open);
        }
        let wait_max = secrecy::wait_max(
            new.durability == Durability::BestEffort,
            self.lanes.limits().intent_wait_max,
        );
        let key = secrecy::key_of(&self.lanes, &self.ticket.session, wait_max).await?;
        Ok(Secrecy::Key(key))
    }

    fn write_intent(
        &mut self,
        new: NewIntent,
        secrecy: Secrecy,
    ) -> Result<Vec<Delivery>, RecordError> {
        let log = self.log(&new.placement.class)?;
        let body_log = self.log(&new.placement.body_class)?;
        let patience = match new.durability {
            Durability::Log => Patience::Short,
            Durability::Spool => Patience::Spool,
            // Nobody waits, and the request goes on in any case: the event is kept like an outcome.
            Durability::BestEffort => Patience::Long,
        };
        let body = new.body.filter(|_| new.level != Level::Metadata);
        let mut intent = Intent {
            request: Arc::clone(&self.request),
            decision: new.decision.clone(),
            level: new.level,
            durability: new.durability,
            body: None,
            masked: new.masked,
            claims: new.claims,
        };
        let decided = Decided {
            decision: new.decision,
            level: new.level,
            log,
            body_log,
            secrecy: secrecy.clone(),
        };
        let form = Form {
            of: BodyOf::Request,
            secrecy: &secrecy,
            logs: (log, body_log),
        };
        let mut apart = log != body_log;
        loop {
            let (inline, pieces) = match &body {
                Some(body) => self.record_body(body, apart, form),
                None => (None, Vec::new()),
            };
            intent.body = inline;
            let kind = Kind::from(intent);
            let fields = encode_fields(&kind)
                .ok()
                .filter(|fields| fields.len() <= FIELDS_BYTES_MAX);
            let Some(fields) = fields else {
                let Kind::Intent(again) = kind else {
                    unreachable!("made of an intent above")
                };
                if apart || body.is_none() {
                    self.lanes.metrics().drop_event(DropReason::TooLong);
                    return Err(RecordError::TooLong(FIELDS_BYTES_MAX + 1));
                }
                // Long attributes and a long body together: the body goes into chunks.
                (intent, apart) = (again, true);
                continue;
            };
            let mut deliveries = Vec::with_capacity(1 + pieces.len());
            // From here on there is something that an outcome must follow.
            self.decided = Some(decided);
            for chunk in self.chunks(pieces, form) {
                deliveries.push(self.write(body_log, &chunk?, patience, Share::Bulk)?);
            }
            let session = &self.ticket.session;
            deliveries.push(self.lanes.write(
                session,
                &self.request,
                log,
                &fields,
                patience,
                Share::Bulk,
            )?);
            return Ok(deliveries);
        }
    }

    /// Writes the outcome; the answer's body goes with it or before it. Never waits. Nothing is written without an
    /// intent.
    pub(super) fn finish(&mut self, answer: Answer, decision: Option<Decision>) {
        let duration_us = self.elapsed_us();
        let Some(decided) = self.decided.take() else {
            return;
        };
        let mut outcome = Outcome {
            request: Arc::clone(&self.request),
            decision: decision.unwrap_or(decided.decision),
            status: answer.head.status,
            reason: answer.head.reason,
            answered_by: answer.head.answered_by,
            ended: answer.ended,
            request_bytes: self.sent_upstream,
            response_bytes: answer.response_bytes,
            first_byte_us: answer.first_byte_us,
            duration_us,
            body: None,
            masked: answer.masked,
            stream_events: answer.stream_events,
            exit_code: answer.exit_code,
        };
        let apart = decided.log != decided.body_log;
        let form = Form {
            of: BodyOf::Response,
            secrecy: &decided.secrecy,
            logs: (decided.log, decided.body_log),
        };
        let mut pieces = Vec::new();
        if let Some(body) = &answer.body {
            (outcome.body, pieces) = self.record_body(body, apart, form);
        }
        let fits = |kind: &Kind| {
            let fields = encode_fields(kind).ok()?;
            (fields.len() <= FIELDS_BYTES_MAX).then_some(fields)
        };
        let mut kind = Kind::from(outcome);
        let mut fields = fits(&kind);
        if fields.is_none()
            && let (Some(body), Kind::Outcome(outcome)) = (&answer.body, &mut kind)
        {
            (outcome.body, pieces) = self.record_body(body, true, form);
            fields = fits(&kind);
        }
        let Some(fields) = fields else {
            self.lanes.metrics().drop_event(DropReason::TooLong);
            tracing::error!("outcome is too long for an event; its intent stands alone");
            return;
        };
        for chunk in self.chunks(pieces, form).flatten() {
            self.write_late(decided.body_log, &chunk, Share::Bulk);
        }
        let written = self.lanes.write(
            &self.ticket.session,
            &self.request,
            decided.log,
            &fields,
            Patience::Long,
            Share::Whole,
        );
        if let Err(error) = written {
            tracing::error!(%error, "outcome could not be written; its intent stands alone");
        }
    }

    /// Writes an event of this request without waiting. Returns whether there was room for it; a gap tells if not.
    pub(super) fn write_stream(&self, kind: &Kind) -> bool {
        self.decided
            .as_ref()
            .is_some_and(|decided| self.write_late(decided.body_log, kind, Share::Bulk))
    }

    /// Writes bytes of a stream in the same way, in as many events as they take. Returns how many, and whether there was
    /// room for all; there is none for what cannot be encrypted.
    pub(super) fn write_stream_data(&self, place: Place, at_us: u64, bytes: &[u8]) -> (u64, bool) {
        let Some(decided) = &self.decided else {
            return (0, false);
        };
        let (mut events, mut all) = (0, !self.has_lost_content());
        for piece in decided.secrecy.stream(self.audit_id(), place, bytes) {
            let data = StreamData {
                audit_id: self.audit_id().to_owned(),
                channel: place.channel,
                connection: place.connection,
                offset: place.offset + piece.offset,
                at_us,
                encoding: piece.encoding,
                content: piece.content,
                encryption: decided.secrecy.encryption(),
            };
            events += 1;
            all &= self.write_stream(&data.into());
        }
        (events, all)
    }

    fn write_late(&self, log: LogIndex, kind: &Kind, share: Share) -> bool {
        match self.write(log, kind, Patience::Long, share) {
            Ok(delivery) => !matches!(delivery, Delivery::Dropped),
            Err(error) => {
                tracing::error!(%error, kind = kind.name(), "event could not be written");
                false
            }
        }
    }

    fn write(
        &self,
        log: LogIndex,
        kind: &Kind,
        patience: Patience,
        share: Share,
    ) -> Result<Delivery, RecordError> {
        let fields = encode_fields(kind).map_err(|_| RecordError::TooLong(FIELDS_BYTES_MAX + 1))?;
        self.lanes.write(
            &self.ticket.session,
            &self.request,
            log,
            &fields,
            patience,
            share,
        )
    }

    /// The form of a body in its event, and the pieces that go into chunks: all of it when it goes to another class.
    fn record_body(
        &self,
        body: &MaskedBody,
        apart: bool,
        form: Form<'_>,
    ) -> (Option<Body>, Vec<Piece>) {
        let media_type = body.media_type.clone();
        let Some(recorded) = &body.recorded else {
            return (Some(Body::omitted(body.bytes, media_type)), Vec::new());
        };
        if body.bytes == 0 {
            return (None, Vec::new());
        }
        let place = (self.audit_id(), form.of);
        let (mut recorded, pieces) = form
            .secrecy
            .body(place, recorded, body.bytes, media_type, apart);
        let (log, body_log) = form.logs;
        if body_log != log && !pieces.is_empty() {
            recorded.chunk_class = Some(self.lanes.class_of(body_log).clone());
        }
        (Some(recorded), pieces)
    }

    fn chunks(
        &self,
        pieces: Vec<Piece>,
        form: Form<'_>,
    ) -> impl Iterator<Item = Result<Kind, RecordError>> + use<> {
        let audit_id = self.request.audit_id.clone();
        let (of, encryption) = (form.of, form.secrecy.encryption());
        pieces.into_iter().enumerate().map(move |(index, piece)| {
            Ok(Kind::from(BodyChunk {
                audit_id: audit_id.clone(),
                of,
                index: u32::try_from(index).map_err(|_| RecordError::TooLong(index))?,
                offset: piece.offset,
                encoding: piece.encoding,
                content: piece.content,
                encryption: encryption.clone(),
            }))
        })
    }

    fn log(&self, class: &Class) -> Result<LogIndex, RecordError> {
        self.lanes
            .log_of(class)
            .ok_or_else(|| RecordError::NoLog(class.clone()))
    }
}
