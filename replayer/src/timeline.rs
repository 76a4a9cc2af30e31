//! A session in the order in which it happened, made of its events. Pure: no clock, no I/O.
//!
//! Within a strand the order is `session_seq`; strands of several producers and classes are merged by `ts`. What is
//! missing is part of the timeline: holes in strands, requests without an outcome, strands without an end.

use std::collections::{BTreeMap, HashMap};

use hoop_schema::bytes::decode;
use hoop_schema::chain::Strand;
use hoop_schema::kinds::integrity::{Gap, GapState};
use hoop_schema::kinds::request::{BodyChunk, BodyOf, Intent, Outcome};
use hoop_schema::kinds::session::{SessionEnd, SessionStart};
use hoop_schema::kinds::stream::{StreamData, StreamResize};
use hoop_schema::{Event, Kind, SessionId, Timestamp};

use crate::evidence::Entry;

/// A strand that has been still for this long and has no `session.end` has lost it: a session ends after 15 idle
/// minutes, and a minute more is allowed for saying so.
const END_OVERDUE_MICROS: i64 = 16 * 60 * 1_000_000;

/// A session as it happened.
#[derive(Debug)]
pub struct Timeline {
    /// The session.
    pub session_id: SessionId,
    /// Cluster, as its producers call it.
    pub cluster: String,
    /// Its beginning, if it is there.
    pub start: Option<SessionStart>,
    /// Its end, if one strand has one.
    pub end: Option<SessionEnd>,
    /// First and last event.
    pub span: (Timestamp, Timestamp),
    /// What happened.
    pub items: Vec<Item>,
    /// Requests, in order of their first event; items refer to them by number.
    pub requests: Vec<Request>,
    /// What is wrong with it, each a sentence.
    pub problems: Vec<String>,
    /// Whether a strand has no end, though it may still be under way.
    pub open: bool,
}

/// One thing that happened.
#[derive(Debug)]
pub struct Item {
    /// When.
    pub ts: Timestamp,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// A request came; the number in [`Timeline::requests`].
    Request(usize),
    /// A hole in a sequence.
    Gap(Gap),
    /// Events of a strand are not there.
    Missing(String),
    /// Something else that deserves a line: its kind, and its event.
    Other(String, Box<Event>),
}

/// A request, from intent to outcome.
#[derive(Debug, Default)]
pub struct Request {
    /// Its name.
    pub audit_id: String,
    /// What was wanted and decided.
    pub intent: Option<Intent>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// Further pieces of its bodies.
    pub chunks: Vec<BodyChunk>,
    /// Pieces of its stream, in order.
    pub stream: Vec<StreamData>,
    /// Sizes of its terminal, in order.
    pub resizes: Vec<StreamResize>,
}

impl Timeline {
    /// Makes the timeline of one session of its entries. `now` says whether an end is overdue. `None` when there is
    /// no entry that can be read.
    pub fn new(entries: &[Entry], now: Timestamp) -> Option<Self> {
        let mut strands: BTreeMap<StrandKey, Vec<(Event, &Entry)>> = BTreeMap::new();
        for entry in entries {
            let Ok(event) = decode(entry.shown()) else {
                continue;
            };
            let key = (
                event.envelope.producer_id.as_str().to_owned(),
                event.envelope.producer_epoch,
                event.envelope.class.as_str().to_owned(),
            );
            strands.entry(key).or_default().push((event, entry));
        }
        let first = strands.values().next()?.first()?;
        let mut timeline = Self {
            session_id: first.0.envelope.session_id,
            cluster: first.0.envelope.cluster.clone(),
            start: None,
            end: None,
            span: (first.0.envelope.ts, first.0.envelope.ts),
            items: Vec::new(),
            requests: Vec::new(),
            problems: Vec::new(),
            open: false,
        };
        let mut merged = Vec::new();
        for ((producer, _, class), mut events) in strands {
            events.sort_by_key(|(event, _)| event.envelope.session_seq);
            timeline.follow(&producer, &class, &events, now, &mut merged);
        }
        merged.sort_by_key(|(ts, order, _)| (*ts, *order));
        let mut numbers = HashMap::new();
        for (ts, _, step) in merged {
            match step {
                Step::Event(event) => timeline.take(ts, *event, &mut numbers),
                Step::Missing(text) => timeline.items.push(Item {
                    ts,
                    what: What::Missing(text),
                }),
            }
        }
        timeline.find_unanswered(now);
        Some(timeline)
    }

    /// Walks one strand: events get a time that does not go back, holes become steps of their own.
    fn follow(
        &mut self,
        producer: &str,
        class: &str,
        events: &[(Event, &Entry)],
        now: Timestamp,
        merged: &mut Vec<(Timestamp, usize, Step)>,
    ) {
        let mut strand = Strand::default();
        let mut ts = Timestamp::from_micros(i64::MIN);
        let mut last_seq = 0;
        for (event, entry) in events {
            let envelope = &event.envelope;
            if envelope.session_seq == last_seq {
                continue;
            }
            last_seq = envelope.session_seq;
            ts = ts.max(envelope.ts);
            if let Err(e) = strand.follow(envelope.session_seq, envelope.prev_hash, entry.hash()) {
                let text = format!("{e} ({producer}, class {class})");
                self.problems.push(text.clone());
                merged.push((ts, merged.len(), Step::Missing(text)));
            }
            self.span.0 = self.span.0.min(envelope.ts);
            self.span.1 = self.span.1.max(envelope.ts);
            merged.push((ts, merged.len(), Step::Event(Box::new(event.clone()))));
        }
        let ended = |(event, _): &(Event, &Entry)| matches!(event.kind, Kind::SessionEnd(_));
        if !events.last().is_some_and(ended) {
            self.open = true;
            if now.as_micros() - ts.as_micros() > END_OVERDUE_MICROS {
                self.problems.push(format!(
                    "the strand of {producer} in class {class} has no end: the gateway stopped without saying so, or its last events are missing"
                ));
            }
        }
    }

    fn take(&mut self, ts: Timestamp, event: Event, numbers: &mut HashMap<String, usize>) {
        match event.kind {
            Kind::SessionStart(start) => self.start = self.start.take().or(Some(start)),
            Kind::SessionEnd(end) => self.end = Some(end),
            Kind::Intent(intent) => {
                let audit_id = intent.request.audit_id.clone();
                self.request(ts, audit_id, numbers).intent = Some(intent);
            }
            Kind::Outcome(outcome) => {
                let audit_id = outcome.request.audit_id.clone();
                self.request(ts, audit_id, numbers).outcome = Some(outcome);
            }
            Kind::BodyChunk(chunk) => {
                let audit_id = chunk.audit_id.clone();
                self.request(ts, audit_id, numbers).chunks.push(chunk);
            }
            Kind::StreamData(data) => {
                let audit_id = data.audit_id.clone();
                self.request(ts, audit_id, numbers).stream.push(data);
            }
            Kind::Gap(gap) => {
                if gap.state == GapState::Open {
                    self.problems.push(format!(
                        "events {} to {} of {} are missing: {:?}",
                        gap.first_seq, gap.last_seq, gap.of_producer, gap.cause
                    ));
                }
                let what = What::Gap(gap);
                self.items.push(Item { ts, what });
            }
            Kind::StreamResize(resize) => {
                let audit_id = resize.audit_id.clone();
                self.request(ts, audit_id, numbers).resizes.push(resize);
            }
            Kind::StreamConnection(_) | Kind::Heartbeat(_) => {}
            _ => {
                let what = What::Other(event.kind.name().to_owned(), Box::new(event));
                self.items.push(Item { ts, what });
            }
        }
    }

    /// The request `audit_id`, which becomes an item with its first event.
    fn request(
        &mut self,
        ts: Timestamp,
        audit_id: String,
        numbers: &mut HashMap<String, usize>,
    ) -> &mut Request {
        let number = *numbers.entry(audit_id).or_insert_with_key(|audit_id| {
            let number = self.requests.len();
            self.requests.push(Request {
                audit_id: audit_id.clone(),
                ..Request::default()
            });
            let what = What::Request(number);
            self.items.push(Item { ts, what });
            number
        });
        &mut self.requests[number]
    }

    fn find_unanswered(&mut self, now: Timestamp) {
        let overdue = now.as_micros() - self.span.1.as_micros() > END_OVERDUE_MICROS;
        let unanswered = self.requests.iter().filter(|r| r.outcome.is_none()).count();
        let unasked = self.requests.iter().filter(|r| r.intent.is_none()).count();
        if unanswered > 0 && (overdue || !self.open) {
            self.problems.push(format!(
                "{unanswered} requests have no outcome: the gateway stopped, or the outcome is missing"
            ));
        }
        if unasked > 0 {
            self.problems.push(format!(
                "{unasked} requests have no intent: part of the session is in files that are not here"
            ));
        }
    }
}

impl Request {
    /// The attributes, of intent or outcome.
    pub fn attributes(&self) -> Option<&hoop_schema::kinds::request::RequestAttributes> {
        let of_intent = self.intent.as_ref().map(|i| &*i.request);
        of_intent.or(self.outcome.as_ref().map(|o| &*o.request))
    }

    /// The decision that holds in the end.
    pub fn decision(&self) -> Option<&hoop_schema::kinds::request::Decision> {
        let of_outcome = self.outcome.as_ref().map(|o| &o.decision);
        of_outcome.or(self.intent.as_ref().map(|i| &i.decision))
    }

    /// Chunks of one of its bodies, in order.
    pub fn chunks_of(&self, of: BodyOf) -> Vec<&BodyChunk> {
        let mut chunks: Vec<&BodyChunk> = self.chunks.iter().filter(|c| c.of == of).collect();
        chunks.sort_by_key(|c| c.index);
        chunks
    }
}

/// Producer, epoch and class.
type StrandKey = (String, u64, String);

enum Step {
    Event(Box<Event>),
    Missing(String),
}
