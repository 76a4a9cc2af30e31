//! The envelope that every event shares, and the sum of all kinds.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{Class, EventHash, EventId, ProducerId, SessionId, Shard};
use crate::kinds::approval::{
    ApprovalConsumed, ApprovalDecided, ApprovalExpired, ApprovalRequested,
};
use crate::kinds::integrity::{Gap, Heartbeat, PolicyChanged};
use crate::kinds::recorder::{
    RecorderErased, RecorderExpired, RecorderHold, RecorderStarted, RecorderTerms, RecorderUnparsed,
};
use crate::kinds::request::{BodyChunk, Intent, Outcome};
use crate::kinds::session::{AccessEnded, SessionEnd, SessionStart};
use crate::kinds::stream::{StreamConnection, StreamData, StreamResize};
use crate::time::Timestamp;

/// The format that this build writes. Readers take every version up to it, and pass later ones on untouched.
pub const FORMAT_VERSION: u32 = 1;

/// One event: the envelope, then what its kind adds. On the wire both are one flat JSON object.
#[derive(Debug, Clone)]
pub struct Event {
    /// What every event has.
    pub envelope: Envelope,
    /// What this kind of event adds.
    pub kind: Kind,
}

/// What every event has. Filled in by the producer when it emits the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Envelope {
    /// Format version, see [`FORMAT_VERSION`].
    pub v: u32,
    /// Name of this event, the same in every copy of it.
    pub event_id: EventId,
    /// When it happened, by the clock of the producer.
    pub ts: Timestamp,
    /// Name of the Kubernetes cluster, from the configuration of the producer.
    pub cluster: String,
    /// Who wrote the event.
    pub producer_id: ProducerId,
    /// Which start of that producer: the microsecond of the start, so that it grows.
    pub producer_epoch: u64,
    /// Position in the sequence of (producer, epoch, class, shard): 1, 2, 3 … without holes.
    pub producer_seq: u64,
    /// Retention class, that is, which log.
    pub class: Class,
    /// Shard within the class.
    pub shard: Shard,
    /// Session this belongs to. Events about a producer itself belong to a session of that producer.
    pub session_id: SessionId,
    /// Position within the strand (session, producer, epoch, class): 1, 2, 3 … without holes.
    pub session_seq: u64,
    /// SHA-256 of the exact bytes of the strand's previous event; absent on its first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_hash: Option<EventHash>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal,)*) => {
        /// What happened. On the wire, the field `kind` holds the name and the fields follow beside it.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $variant($payload),)*
            /// A kind that this build does not know: its name and the whole event as it came. It passes through.
            Unknown(String, Box<RawValue>),
        }

        impl Kind {
            /// The names of all kinds that this build knows.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The name, as in the field `kind`.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Unknown(name, _) => name,
                }
            }

            /// Appends the fields of this kind as a JSON object and returns the kind's name. `None` for a kind that
            /// this build does not know.
            pub(crate) fn write_fields(&self, out: &mut Vec<u8>) -> Option<serde_json::Result<&'static str>> {
                match self {
                    $(Self::$variant(payload) => Some(serde_json::to_writer(out, payload).map(|()| $name)),)*
                    Self::Unknown(..) => None,
                }
            }

            /// Reads the fields of the kind `name` from the whole event.
            pub(crate) fn read_fields(name: &str, event: &str) -> serde_json::Result<Self> {
                match name {
                    $($name => serde_json::from_str(event).map(Self::$variant),)*
                    other => Ok(Self::Unknown(other.to_owned(), serde_json::from_str(event)?)),
                }
            }

            /// The name and JSON Schema of every kind.
            pub(crate) fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
                vec![$(($name, generator.subschema_for::<$payload>()),)*]
            }
        }

        $(impl From<$payload> for Kind {
            fn from(payload: $payload) -> Self {
                Self::$variant(payload)
            }
        })*
    };
}

kinds! {
    /// A session begins.
    SessionStart(SessionStart) = "session.start",
    /// A session ends; states how long its strands are.
    SessionEnd(SessionEnd) = "session.end",
    /// A request, and what was decided about it, before it has any effect.
    Intent(Intent) = "intent",
    /// What came of a request.
    Outcome(Outcome) = "outcome",
    /// A further piece of a body that was too long for its intent or outcome.
    BodyChunk(BodyChunk) = "body.chunk",
    /// A piece of a stream: exec, attach, port-forward, logs, watch.
    StreamData(StreamData) = "stream.data",
    /// The terminal of a stream changed its size.
    StreamResize(StreamResize) = "stream.resize",
    /// A port-forward opened a connection, or one is over.
    StreamConnection(StreamConnection) = "stream.connection",
    /// A request waits for approval.
    ApprovalRequested(ApprovalRequested) = "approval.requested",
    /// Somebody approved or denied.
    ApprovalDecided(ApprovalDecided) = "approval.decided",
    /// An approval was used.
    ApprovalConsumed(ApprovalConsumed) = "approval.consumed",
    /// An approval ran out of time.
    ApprovalExpired(ApprovalExpired) = "approval.expired",
    /// Events of a sequence are missing, or arrived after they had been declared missing.
    Gap(Gap) = "gap",
    /// A producer is alive, and this is how far its sequences go.
    Heartbeat(Heartbeat) = "heartbeat",
    /// Another policy is in force, or was refused.
    PolicyChanged(PolicyChanged) = "policy.changed",
    /// A recorder took up a shard.
    RecorderStarted(RecorderStarted) = "recorder.started",
    /// A record of the log that is not an event.
    RecorderUnparsed(RecorderUnparsed) = "recorder.unparsed",
    /// A session file is deleted because its term is over.
    RecorderExpired(RecorderExpired) = "recorder.expired",
    /// A legal hold was set or released.
    RecorderHold(RecorderHold) = "recorder.hold",
    /// A session, a login or a person's access was ended before its time.
    AccessEnded(AccessEnded) = "access.ended",
    /// How long a class is kept has changed.
    RecorderTerms(RecorderTerms) = "recorder.terms",
    /// A session's content is made unreadable for ever.
    RecorderErased(RecorderErased) = "recorder.erased",
}
