//! One sequence: the events of this producer in one shard of one class.
//!
//! Everything that fixes the place of an event (its numbers, its hash, the call to the log) happens under one lock
//! that is never held across an await. What can be encoded before is.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoop_schema::bytes::{EncodeError, EncodedFields, encode_fields, encode_with};
use hoop_schema::chain::Strand;
use hoop_schema::kinds::integrity::{Gap, GapCause, GapState, LostEvent};
use hoop_schema::kinds::request::AuthMethod;
use hoop_schema::kinds::session::{
    SessionBasis, SessionEnd, SessionEndCause, SessionStart, StrandState,
};
use hoop_schema::session::Basis;
use hoop_schema::{Class, Envelope, EventId, Kind, ProducerId, SessionId, Shard, Timestamp};
use hoop_sinks::log::{Appending, EventWriter, Outgoing};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::delivery::Followed;

/// The most losses that one gap event names, as the schema says.
const GAP_LOSSES_MAX: usize = 256;

/// One sequence and what it needs.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) class: Class,
    pub(super) shard: Shard,
    shards: u32,
    log: Arc<dyn EventWriter>,
    state: Mutex<State>,
    pub(super) followed: Mutex<Followed>,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    /// The last event's envelope; what does not change stays in place.
    envelope: Envelope,
    random: SmallRng,
    own: Option<OwnSession>,
    /// The lowest part that the producer's next session may be, and the session before it.
    next_own: (u32, Option<SessionId>),
    losses: BTreeMap<u64, Loss>,
    /// Whether a task is telling of the losses.
    reporting: bool,
    /// Whether anything but heartbeats was written since the last heartbeat.
    active: bool,
}

/// The session of the producer itself in this lane: heartbeats, gaps, notices.
#[derive(Debug)]
struct OwnSession {
    id: SessionId,
    part: u32,
    strand: Strand,
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Loss {
    session_id: SessionId,
    session_seq: u64,
    hash: hoop_schema::EventHash,
    cause: GapCause,
}

/// An event that has its place for good.
pub(super) struct Numbered {
    pub(super) outgoing: Outgoing,
    pub(super) place: LostEvent,
    /// The log's answer to come; nothing when the event was not handed to it.
    pub(super) appending: Option<Appending>,
}

/// Whether a numbered event goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Append,
    /// It goes there, and the local spool is good enough where there is one.
    Spool,
    /// It goes there with the next that somebody waits for, or some milliseconds later. Nobody waits for its fate, so
    /// the spool is good enough for it too.
    Linger,
    /// There is no memory for it: it only leaves its number and hash.
    Drop,
}

impl Lane {
    pub(super) fn new(
        log: Arc<dyn EventWriter>,
        shard: Shard,
        envelope: Envelope,
        random: SmallRng,
    ) -> Self {
        Self {
            class: log.class().clone(),
            shard,
            shards: log.shards(),
            log,
            state: Mutex::new(State {
                envelope,
                random,
                own: None,
                next_own: (0, None),
                losses: BTreeMap::new(),
                reporting: false,
                active: false,
            }),
            followed: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sends an event again, under its old number.
    pub(super) fn append_again(&self, event: &Outgoing) -> Appending {
        self.log.append(self.shard, event.clone())
    }

    /// Gives an event its numbers, its id and its hash, and hands it to the log.
    ///
    /// # Errors
    /// When it does not fit into an event; then nothing has changed.
    pub(super) fn number(
        &self,
        state: &mut State,
        now: Timestamp,
        (session_id, strand): (SessionId, &mut Strand),
        fields: &EncodedFields,
        fate: Fate,
    ) -> Result<Numbered, EncodeError> {
        let mut random = [0; 10];
        state.random.fill_bytes(&mut random);
        let (session_seq, prev_hash) = strand.next();
        let envelope = &mut state.envelope;
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        envelope.event_id = EventId::new(millis, &random);
        envelope.ts = now;
        envelope.session_id = session_id;
        envelope.session_seq = session_seq;
        envelope.prev_hash = prev_hash;
        envelope.producer_seq += 1;
        let encoded = match encode_with(envelope, fields) {
            Ok(encoded) => encoded,
            Err(error) => {
                envelope.producer_seq -= 1;
                return Err(error);
            }
        };
        strand.push(encoded.hash);
        let place = LostEvent {
            producer_seq: envelope.producer_seq,
            session_id,
            session_seq,
            hash: encoded.hash,
        };
        let outgoing = Outgoing {
            event_id: envelope.event_id,
            session_id,
            kind: fields.name(),
            bytes: encoded.bytes.into(),
            linger: fate == Fate::Linger,
            spool: fate != Fate::Append,
        };
        let appending = (fate != Fate::Drop).then(|| self.log.append(self.shard, outgoing.clone()));
        state.active = true;
        Ok(Numbered {
            outgoing,
            place,
            appending,
        })
    }

    /// Writes an event of the producer itself, after the `session.start` of its session if that is new.
    ///
    /// # Errors
    /// When it does not fit into an event.
    pub(super) fn number_own(
        &self,
        state: &mut State,
        now: Timestamp,
        fields: &EncodedFields,
    ) -> Result<(Option<Numbered>, Numbered), EncodeError> {
        let mut start = None;
        let mut own = match state.own.take() {
            Some(own) => own,
            None => {
                let (own, event) = self.begin_own(state, now)?;
                start = Some(event);
                own
            }
        };
        let event = self.number(state, now, (own.id, &mut own.strand), fields, Fate::Linger);
        state.own = Some(own);
        Ok((start, event?))
    }

    /// Ends the producer's session, if it has one; on a rollover, begins the next.
    ///
    /// # Errors
    /// Never for these small events.
    pub(super) fn end_own(
        &self,
        state: &mut State,
        now: Timestamp,
        cause: SessionEndCause,
    ) -> Result<Vec<Numbered>, EncodeError> {
        let Some(mut own) = state.own.take() else {
            return Ok(Vec::new());
        };
        let strands = own
            .strand
            .head()
            .map(|head| StrandState {
                class: self.class.clone(),
                count: own.strand.count(),
                head,
            })
            .into_iter()
            .collect();
        let end = encode_fields(&SessionEnd { cause, strands }.into())?;
        let mut events =
            vec![self.number(state, now, (own.id, &mut own.strand), &end, Fate::Linger)?];
        state.next_own = (own.part + 1, Some(own.id));
        if cause == SessionEndCause::Rollover {
            let (next, start) = self.begin_own(state, now)?;
            state.own = Some(next);
            events.push(start);
        }
        Ok(events)
    }

    /// Since when the producer's session is open.
    pub(super) fn own_since(state: &State) -> Option<Instant> {
        state.own.as_ref().map(|own| own.since)
    }

    fn begin_own(
        &self,
        state: &mut State,
        now: Timestamp,
    ) -> Result<(OwnSession, Numbered), EncodeError> {
        let (part_min, predecessor) = state.next_own;
        let basis = Basis::Producer {
            producer_id: state.envelope.producer_id.clone(),
            producer_epoch: state.envelope.producer_epoch,
            class: self.class.clone(),
            shard: self.shard,
        };
        // The first part whose id belongs into this shard: a session is always found in the shard of its id.
        let (part, id) = (part_min..)
            .map(|part| (part, basis.session_id(part)))
            .find(|(_, id)| id.shard(self.shards) == self.shard)
            .expect("ids are uniform over the shards");
        let start = SessionStart {
            user: None,
            auth_method: AuthMethod::Internal,
            basis: SessionBasis::Producer,
            predecessor,
            login: None,
            source_ip: String::new(),
            user_agent: None,
            command: None,
        };
        let fields = encode_fields(&Kind::from(start))?;
        let mut own = OwnSession {
            id,
            part,
            strand: Strand::default(),
            since: Instant::now(),
        };
        let event = self.number(state, now, (own.id, &mut own.strand), &fields, Fate::Linger)?;
        Ok((own, event))
    }

    /// The oldest losses as one gap event's fields: neighbours of one cause, at most 256. They are the caller's to
    /// tell of now.
    pub(super) fn take_gap(&self, state: &mut State) -> Option<Gap> {
        let (&first_seq, first) = state.losses.first_key_value()?;
        let cause = first.cause;
        let mut lost = Vec::new();
        let mut next = first_seq;
        while lost.len() < GAP_LOSSES_MAX
            && let Some(entry) = state.losses.first_entry()
            && *entry.key() == next
            && entry.get().cause == cause
        {
            let loss = entry.remove();
            lost.push(LostEvent {
                producer_seq: next,
                session_id: loss.session_id,
                session_seq: loss.session_seq,
                hash: loss.hash,
            });
            next += 1;
        }
        Some(Gap {
            state: GapState::Open,
            of_producer: state.envelope.producer_id.clone(),
            of_epoch: state.envelope.producer_epoch,
            of_class: self.class.clone(),
            of_shard: self.shard,
            first_seq,
            last_seq: next - 1,
            cause,
            lost,
        })
    }
}

impl State {
    /// Cluster and producer, as in every event.
    pub(super) fn identity(&self) -> (String, ProducerId) {
        (
            self.envelope.cluster.clone(),
            self.envelope.producer_id.clone(),
        )
    }

    /// Remembers an event that will not be in the log. Returns whether somebody must be sent to tell of it.
    pub(super) fn lose(&mut self, place: &LostEvent, cause: GapCause) -> bool {
        self.losses.insert(
            place.producer_seq,
            Loss {
                session_id: place.session_id,
                session_seq: place.session_seq,
                hash: place.hash,
                cause,
            },
        );
        !std::mem::replace(&mut self.reporting, true)
    }

    /// Whoever tells of the losses is done.
    pub(super) fn reported(&mut self) {
        self.reporting = false;
    }

    /// Whether losses wait to be told of.
    pub(super) fn is_reporting(&self) -> bool {
        self.reporting
    }

    /// Number of losses nobody was told of yet.
    pub(super) fn losses(&self) -> usize {
        self.losses.len()
    }

    /// The last sequence given out; 0 when there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.envelope.producer_seq
    }

    /// Whether anything was written since this was last asked.
    pub(super) fn take_active(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }
}
