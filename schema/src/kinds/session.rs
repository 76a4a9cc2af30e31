//! Begin and end of a session.

use serde::{Deserialize, Serialize};

use super::request::{AuthMethod, User};
use crate::ids::{Class, EventHash, SessionId};
use crate::time::Timestamp;

/// `session.start`: first event of a session in each of its strands. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SessionStart {
    /// Who works in this session; absent when the caller could not be identified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// How the caller proved it.
    pub auth_method: AuthMethod,
    /// What holds the session together.
    pub basis: SessionBasis,
    /// The session that this one continues, after 24 hours or 15 idle minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<SessionId>,
    /// What ties sessions of one login together: `jti` or `sid` of the token, serial of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// Address of the client, without the port.
    pub source_ip: String,
    /// `User-Agent` as the client sent it, at most 1,024 bytes. A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `Kubectl-Command` as the client sent it, such as `kubectl get`. A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What holds a session together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionBasis {
    /// One `Kubectl-Session` header of one identity: one invocation of `kubectl` or `helm`.
    KubectlSession,
    /// One client connection.
    Connection,
    /// The life of a producer: its heartbeats and notices.
    Producer,
}

/// `session.end`: last event of a strand. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SessionEnd {
    /// Why it ended.
    pub cause: SessionEndCause,
    /// Every strand of this session that this producer wrote, without the `session.end` events themselves.
    pub strands: Vec<StrandState>,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEndCause {
    /// Nothing happened for 15 minutes.
    Idle,
    /// It was open for 24 hours; its successor names it.
    Rollover,
    /// The client closed its connection.
    Disconnected,
    /// The producer was stopped.
    Shutdown,
}

/// `access.ended`: somebody ended a session, a login or a person's access before its time, and the gateway refuses it from
/// now on. Written when the gateway takes it, and again at each of its starts while it holds. What is not absent has to
/// fit together. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AccessEnded {
    /// The session that was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_session: Option<SessionId>,
    /// The login that was ended, as in `session.start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_login: Option<String>,
    /// The person who was ended, or whose session or login it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_user: Option<String>,
    /// When somebody said so.
    pub ended_at: Timestamp,
    /// Until when it is refused.
    pub until: Timestamp,
    /// Who says so. A claim.
    pub by: String,
    /// Why, for people; empty when nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Length and head of one strand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StrandState {
    /// The class that the strand was written to.
    pub class: Class,
    /// Number of events in it, which is the `session_seq` of the last one.
    pub count: u64,
    /// SHA-256 of its last event.
    pub head: EventHash,
}
