//! What proves that nothing is missing, or says what is.

use serde::{Deserialize, Serialize};

use crate::ids::{Class, EventHash, ProducerId, SessionId, Shard};

/// `gap`: a hole in a sequence. Filled in by the gateway when the log refused events, and by the recorder when it
/// finds a hole that stayed open for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gap {
    /// Whether the hole was found, or closed by a late arrival.
    pub state: GapState,
    /// Whose sequence has the hole.
    pub of_producer: ProducerId,
    /// In which epoch.
    pub of_epoch: u64,
    /// In which class.
    pub of_class: Class,
    /// In which shard.
    pub of_shard: Shard,
    /// First missing `producer_seq`.
    pub first_seq: u64,
    /// Last missing `producer_seq`.
    pub last_seq: u64,
    /// What is known about it.
    pub cause: GapCause,
    /// The lost events, where whoever lost them still knew them; at most 256. They keep the strands provable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostEvent>,
}

/// Whether a hole is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapState {
    /// The events are missing.
    Open,
    /// They arrived after the hole had been declared.
    Closed,
}

/// What is known about a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The log did not take them.
    Refused,
    /// The producer's memory for events under way was full.
    Overflow,
    /// A reader saw the sequence jump.
    Missing,
    /// A heartbeat named a sequence that never came.
    Tail,
    /// The log dropped them before they were read.
    Expired,
}

/// One lost event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LostEvent {
    /// Its `producer_seq`.
    pub producer_seq: u64,
    /// Its session.
    pub session_id: SessionId,
    /// Its `session_seq`.
    pub session_seq: u64,
    /// SHA-256 of its exact bytes.
    pub hash: EventHash,
}

/// `heartbeat`: every 60 seconds on the shards of the standard class, and on every other shard that had events since
/// the last one. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Heartbeat {
    /// The last `producer_seq` of every shard written in this epoch, before this heartbeat.
    pub last: Vec<LastSequence>,
    /// Seconds until the next one.
    pub interval_s: u32,
}

/// How far one sequence goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastSequence {
    /// The class.
    pub class: Class,
    /// The shard.
    pub shard: Shard,
    /// The last `producer_seq`.
    pub seq: u64,
}

/// `policy.changed`: another policy is in force, or was refused. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PolicyChanged {
    /// Revision that was loaded.
    pub revision: String,
    /// Revision in force before; absent at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Whether it is in force now.
    pub accepted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Number of profiles.
    pub profiles: u64,
    /// Number of rules.
    pub rules: u64,
}
