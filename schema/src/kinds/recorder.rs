//! What a recorder has to say. All filled in by the recorder.

use serde::{Deserialize, Serialize};

use crate::ids::{Class, SessionId, Shard, SourceId};
use crate::time::Timestamp;

/// `recorder.started`: a recorder took up a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecorderStarted {
    /// The log it reads.
    pub source: SourceId,
    /// The class.
    pub of_class: Class,
    /// The shard.
    pub of_shard: Shard,
    /// The position it begins at.
    pub position: u64,
}

/// `recorder.unparsed`: a record that is not an event of any version; it keeps its place and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecorderUnparsed {
    /// Why it could not be read.
    pub error: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its bytes in base64, at most the first 131,072 of them.
    pub raw_base64: String,
}

/// `recorder.expired`: a session file is about to be deleted because its term is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecorderExpired {
    /// Name of the object.
    pub key: String,
    /// SHA-256 of the object, hexadecimal.
    pub sha256: String,
    /// The class whose term is over.
    pub of_class: Class,
    /// Shard of the file.
    pub of_shard: Shard,
    /// First position it covers.
    pub pos_from: u64,
    /// Position after the last one it covers.
    pub pos_to: u64,
    /// Number of rows.
    pub rows: u64,
    /// The class's term in seconds.
    pub term_s: u64,
    /// From when on it could be deleted.
    pub due: Timestamp,
}

/// `recorder.hold`: a legal hold was set or released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecorderHold {
    /// Name of the hold.
    pub hold_id: String,
    /// Whether it is in force from now on.
    pub held: bool,
    /// The session whose files are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_session: Option<SessionId>,
    /// The user whose sessions' files are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_user: Option<String>,
    /// The case that it belongs to, which may have many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Who asked for it, as they called themselves.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// `recorder.erased`: the keys of a session's content are about to be destroyed, so that nobody can read it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecorderErased {
    /// The session whose content is erased.
    pub erased_session: SessionId,
    /// Whose session it was, as far as that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_user: Option<String>,
    /// Who asked for it, as they called themselves.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// `recorder.terms`: how long a class is kept is from now on another than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecorderTerms {
    /// The class.
    pub of_class: Class,
    /// Its term in seconds; absent when it is kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_s: Option<u64>,
    /// How its new objects are locked.
    pub mode: RetentionMode,
}

/// How the objects of a class are locked until the end of their term.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RetentionMode {
    /// Not at all.
    #[default]
    None,
    /// Only a permission of its own ends a term early.
    Governance,
    /// Nobody ends a term early.
    Compliance,
}
