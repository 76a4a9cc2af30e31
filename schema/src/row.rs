//! The flat columns of an event, as evidence files carry them beside the event's exact bytes.
//!
//! Writing a file and proving it use this one function, so a column that disagrees with its event is an alteration.
//! Everything one filters on is here; bodies are only in the event. The order of [`COLUMNS`] is the order in the
//! file; columns are only ever added, before none and after all of those that exist.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::bytes::{DecodeError, EVENT_BYTES_MAX};
use crate::ids::{EventHash, EventId, SessionId, Shard};
use crate::time::Timestamp;

/// Logical type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Microseconds since the Unix epoch, UTC.
    Timestamp,
    /// A string; `true` when few values repeat and a dictionary pays.
    Text(bool),
    /// A list of strings.
    TextList,
    /// A signed 64-bit integer.
    Int64,
    /// A signed 32-bit integer.
    Int32,
}

/// One column of an evidence file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether it is null on some rows.
    pub nullable: bool,
    /// What it says.
    pub doc: &'static str,
}

pub(crate) const fn column(
    name: &'static str,
    column_type: ColumnType,
    nullable: bool,
    doc: &'static str,
) -> Column {
    Column {
        name,
        column_type,
        nullable,
        doc,
    }
}

use ColumnType::{Int32, Int64, Text, TextList, Timestamp as Time};

/// Every column of format version 1, in file order.
pub const COLUMNS: &[Column] = &[
    column(
        "ts",
        Time,
        false,
        "When it happened, by the clock of the producer",
    ),
    column("kind", Text(true), false, "Kind of event"),
    column("session_id", Text(true), false, "Session it belongs to"),
    column("session_seq", Int64, false, "Position within the strand"),
    column("event_id", Text(false), false, "Name of the event"),
    column("producer_id", Text(true), false, "Who wrote it"),
    column(
        "producer_epoch",
        Int64,
        false,
        "Which start of the producer",
    ),
    column(
        "producer_seq",
        Int64,
        false,
        "Position in the producer's sequence",
    ),
    column(
        "position",
        Int64,
        true,
        "Position in the log; null on rows that the recorder made",
    ),
    column("log_ts", Time, false, "When the log took it"),
    column(
        "cluster",
        Text(true),
        false,
        "Name of the Kubernetes cluster",
    ),
    column("username", Text(true), true, "Who asked"),
    column("groups", TextList, true, "Groups of the user"),
    column("auth_method", Text(true), true, "How the caller proved it"),
    column(
        "login",
        Text(true),
        true,
        "What ties the sessions of one login together",
    ),
    column("source_ip", Text(true), true, "Address of the client"),
    column("user_agent", Text(true), true, "User-Agent, a claim"),
    column("command", Text(true), true, "Kubectl-Command, a claim"),
    column(
        "audit_id",
        Text(false),
        true,
        "Name of the request, shared with the API server's audit log",
    ),
    column("http_method", Text(true), true, "HTTP method"),
    column("request_uri", Text(true), true, "Path and query"),
    column("verb", Text(true), true, "Kubernetes verb"),
    column("api_group", Text(true), true, "API group; empty for core"),
    column("api_version", Text(true), true, "API version"),
    column("resource", Text(true), true, "Plural resource"),
    column("subresource", Text(true), true, "Subresource"),
    column("namespace", Text(true), true, "Namespace"),
    column("name", Text(true), true, "Name of the object"),
    column("decision", Text(true), true, "allow, deny or hold"),
    column(
        "decision_cause",
        Text(true),
        true,
        "What led to the decision",
    ),
    column("profile", Text(true), true, "Profile of the matching rule"),
    column("rule", Text(true), true, "Name of the matching rule"),
    column(
        "policy_revision",
        Text(true),
        true,
        "Revision of the policy",
    ),
    column("approval_id", Text(true), true, "Approval concerned"),
    column("status", Int32, true, "HTTP status the client got"),
    column("masked_count", Int64, true, "Number of values masked"),
    column("masked_paths", TextList, true, "Where values were masked"),
    column("request_bytes", Int64, true, "Bytes of request body"),
    column("response_bytes", Int64, true, "Bytes of response body"),
    column("duration_us", Int64, true, "Microseconds from head to end"),
    column("event_json", Text(false), false, "The event's exact bytes"),
];

/// A string of an event, borrowed from its bytes unless it had escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Str<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// A list of strings of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StrList<'a>(pub Vec<Str<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for StrList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = StrList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StrList<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(StrList(list))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// The columns of one event, borrowed from its bytes. Columns that come from the log (`position`, `log_ts`) are the
/// reader's to add.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row<'a> {
    /// Format version of the event.
    pub v: u32,
    /// `event_id`.
    pub event_id: EventId,
    /// `ts`.
    pub ts: Timestamp,
    /// `kind`.
    #[serde(borrow)]
    pub kind: Str<'a>,
    /// `cluster`.
    pub cluster: Str<'a>,
    /// `producer_id`.
    pub producer_id: Str<'a>,
    /// `producer_epoch`.
    pub producer_epoch: u64,
    /// `producer_seq`.
    pub producer_seq: u64,
    /// The class that the event names; part of the file's name, not a column.
    pub class: Str<'a>,
    /// The shard that the event names; part of the file's name, not a column.
    pub shard: Shard,
    /// `session_id`.
    pub session_id: SessionId,
    /// `session_seq`.
    pub session_seq: u64,
    /// Hash of the strand's previous event; not a column.
    #[serde(default)]
    pub prev_hash: Option<EventHash>,
    /// The request, on intents and outcomes.
    #[serde(default)]
    pub request: Option<RequestColumns<'a>>,
    /// The decision, on intents and outcomes.
    #[serde(default)]
    pub decision: Option<DecisionColumns<'a>>,
    /// User of a `session.start`; use [`Row::user`].
    #[serde(default)]
    user: Option<UserColumns<'a>>,
    /// Authentication of a `session.start`; use [`Row::auth_method`].
    #[serde(default)]
    auth_method: Option<Str<'a>>,
    #[serde(default)]
    login: Option<Str<'a>>,
    #[serde(default)]
    source_ip: Option<Str<'a>>,
    #[serde(default)]
    user_agent: Option<Str<'a>>,
    #[serde(default)]
    command: Option<Str<'a>>,
    #[serde(default)]
    audit_id: Option<Str<'a>>,
    /// `approval_id`.
    #[serde(default)]
    pub approval_id: Option<Str<'a>>,
    /// `status`.
    #[serde(default)]
    pub status: Option<u16>,
    /// `masked_count` and `masked_paths`.
    #[serde(default)]
    pub masked: Option<MaskedColumns<'a>>,
    /// `request_bytes`.
    #[serde(default)]
    pub request_bytes: Option<u64>,
    /// `response_bytes`.
    #[serde(default)]
    pub response_bytes: Option<u64>,
    /// `duration_us`.
    #[serde(default)]
    pub duration_us: Option<u64>,
}

/// Columns of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RequestColumns<'a> {
    #[serde(borrow)]
    audit_id: Str<'a>,
    #[serde(default)]
    user: Option<UserColumns<'a>>,
    auth_method: Str<'a>,
    #[serde(default)]
    login: Option<Str<'a>>,
    source_ip: Str<'a>,
    /// `http_method`.
    pub http_method: Str<'a>,
    /// `request_uri`.
    pub request_uri: Str<'a>,
    /// `verb`.
    pub verb: Str<'a>,
    /// What the request is about.
    #[serde(default)]
    pub object_ref: Option<ObjectColumns<'a>>,
    #[serde(default)]
    user_agent: Option<Str<'a>>,
    #[serde(default)]
    command: Option<Str<'a>>,
}

/// Columns of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct UserColumns<'a> {
    /// `username`.
    #[serde(borrow)]
    pub username: Str<'a>,
    /// `groups`.
    #[serde(default)]
    pub groups: StrList<'a>,
}

/// Columns of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObjectColumns<'a> {
    /// `api_group`.
    #[serde(borrow, default)]
    pub api_group: Str<'a>,
    /// `api_version`.
    #[serde(default)]
    pub api_version: Str<'a>,
    /// `resource`.
    pub resource: Str<'a>,
    /// `subresource`.
    #[serde(default)]
    pub subresource: Str<'a>,
    /// `namespace`.
    #[serde(default)]
    pub namespace: Str<'a>,
    /// `name`.
    #[serde(default)]
    pub name: Str<'a>,
}

/// Columns of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DecisionColumns<'a> {
    /// `decision`.
    #[serde(borrow)]
    pub effect: Str<'a>,
    /// `decision_cause`.
    pub cause: Str<'a>,
    /// `profile`.
    #[serde(default)]
    pub profile: Option<Str<'a>>,
    /// `rule`.
    #[serde(default)]
    pub rule: Option<Str<'a>>,
    /// `policy_revision`.
    #[serde(default)]
    pub policy_revision: Option<Str<'a>>,
}

/// Columns of masking.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MaskedColumns<'a> {
    /// `masked_count`.
    pub count: u64,
    /// `masked_paths`.
    #[serde(borrow, default)]
    pub paths: StrList<'a>,
}

impl<'a> Row<'a> {
    /// Reads the columns from an event's exact bytes.
    ///
    /// # Errors
    /// When the bytes are not an event; such a record becomes a `recorder.unparsed` row.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(DecodeError::NotUtf8)?;
        serde_json::from_str(text).map_err(DecodeError::NotAnEvent)
    }

    /// `username` and `groups`: of the request, else of the session that starts.
    pub fn user(&self) -> Option<&UserColumns<'a>> {
        self.request
            .as_ref()
            .and_then(|r| r.user.as_ref())
            .or(self.user.as_ref())
    }

    /// `auth_method`.
    pub fn auth_method(&self) -> Option<&str> {
        self.request
            .as_ref()
            .map(|r| &*r.auth_method)
            .or(self.auth_method.as_deref())
    }

    /// `login`.
    pub fn login(&self) -> Option<&str> {
        self.request
            .as_ref()
            .and_then(|r| r.login.as_deref())
            .or(self.login.as_deref())
    }

    /// `source_ip`.
    pub fn source_ip(&self) -> Option<&str> {
        self.request
            .as_ref()
            .map(|r| &*r.source_ip)
            .or(self.source_ip.as_deref())
    }

    /// `user_agent`.
    pub fn user_agent(&self) -> Option<&str> {
        self.request
            .as_ref()
            .and_then(|r| r.user_agent.as_deref())
            .or(self.user_agent.as_deref())
    }

    /// `command`.
    pub fn command(&self) -> Option<&str> {
        self.request
            .as_ref()
            .and_then(|r| r.command.as_deref())
            .or(self.command.as_deref())
    }

    /// `audit_id`: of the request, or of the request that a chunk or a stream belongs to.
    pub fn audit_id(&self) -> Option<&str> {
        self.request
            .as_ref()
            .map(|r| &*r.audit_id)
            .or(self.audit_id.as_deref())
    }
}
