//! Encrypted content: what was sent and shown, readable only while a key of its session is kept, and every proof of it
//! holding after that key is destroyed.
//!
//! A gateway encrypts content before the event that carries it is numbered and hashed. So the hash chain, the Merkle
//! roots, the signed log and every copy of an event are about ciphertext, and are proven without any key. Who asked for
//! what, what was decided, lengths, times and what was masked stay readable: that is what an erasure leaves behind.
//!
//! # Encrypted content
//! Bodies inside intents and outcomes, `body.chunk` and `stream.data` say `"encoding":"encrypted"` and
//! `"encryption":{"alg":"aes-256-gcm","key_id":"…"}`. Their `content` is a string, base64 (RFC 4648, with padding) of
//!
//! ```text
//! nonce (12 bytes) ‖ ciphertext (as long as the content) ‖ tag (16 bytes)
//! ```
//! by AES-256-GCM. The additional data is one line of JSON without white space, which ties a ciphertext to its place, so
//! that none can be put where another belongs:
//!
//! ```text
//! ["hoop.content.v1",SESSION,KEY,AUDIT_ID,"body","request"]                   a body inside its event
//! ["hoop.content.v1",SESSION,KEY,AUDIT_ID,"chunk","response",INDEX,OFFSET]    a body.chunk
//! ["hoop.content.v1",SESSION,KEY,AUDIT_ID,"stream","stdout",CONNECTION,OFFSET]   a stream.data; null where it has no
//!                                                                             connection
//! ```
//! Session and key are the 32 digits that the event has. The place stands for the event: an `audit_id` names one request,
//! and within it each place is written once. (The event's own id is given under the lock that orders the log, when the
//! content is encrypted already.)
//!
//! # Keys and nonces
//! A **content key** belongs to one session of one gateway process: it is made for the first content of the session, and
//! is gone from the gateway's memory with the session, which is open for 24 hours at most. Outside of that memory it is
//! only kept wrapped. The nonce is four zero bytes and a number, big-endian, that counts what the key encrypts. Since no
//! key outlives its process, no number comes twice under one key: there is no bound by the birthday problem, which random
//! nonces of 96 bits would have after some 2^32 pieces. (A virtual machine that is resumed twice from one snapshot repeats
//! numbers, as it does those of events; never do that with a gateway.)
//!
//! # Wrapped keys
//! ```text
//! keys/v1/<session>/<key id>.json     in a store of its own, never that of the evidence
//! {"v":1,"session_id":"…","key_id":"…","alg":"aes-256-gcm","master":"file:0f1e2d3c4b5a6978","wrapped":"<base64>"}
//! ```
//! `wrapped` is what the master key of this name made of the 32 bytes and of [`wrapping_context`], which it authenticates.
//! The object is created before the first event that uses the key goes onto the log. Destroying all objects below
//! `keys/v1/<session>/` is what erases the content of a session.
//!
//! # What does not depend on it
//! No event has a hash of content that is encrypted: that of a short body would tell it to whoever can guess it.

use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, SessionId};
use crate::kinds::request::BodyOf;
use crate::kinds::stream::Channel;

#[cfg(feature = "encryption")]
mod content;
#[cfg(feature = "encryption")]
mod event;
#[cfg(feature = "encryption")]
mod wrapping;

#[cfg(feature = "encryption")]
pub use content::{ContentKey, NotReadable};
#[cfg(feature = "encryption")]
pub use event::{EncryptedContent, encrypted_content};
#[cfg(feature = "encryption")]
pub use wrapping::Wrapping;

/// By how many bytes encrypted content is longer, before base64: nonce and tag.
pub const ENCRYPTED_BYTES_MORE: usize = 12 + 16;

/// Prefix of all wrapped keys.
pub const KEYS_PREFIX: &str = "keys/v1/";

/// How content is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Encryption {
    /// The algorithm.
    pub alg: Algorithm,
    /// The key, one of its session.
    pub key_id: KeyId,
    /// Why the content cannot be shown. Never in a recorded event: whoever shows one may say so here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// An algorithm that content and keys are encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Algorithm {
    /// AES-256-GCM, as this module says.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// One that this build does not know.
    #[serde(rename = "unknown", other)]
    Unknown,
}

/// Where content stands in the record of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A body inside its intent or outcome.
    Body(BodyOf),
    /// A `body.chunk`.
    Chunk {
        /// Which body.
        of: BodyOf,
        /// Which piece of it, from 0.
        index: u32,
        /// Where the piece begins, in bytes.
        offset: u64,
    },
    /// A `stream.data`.
    Stream {
        /// Its channel.
        channel: Channel,
        /// Which forwarded connection.
        connection: Option<u32>,
        /// Where in the channel it begins, in bytes.
        offset: u64,
    },
}

/// A content key as it is kept: the text of its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Format version: 1.
    pub v: u32,
    /// The session whose content it encrypts.
    pub session_id: SessionId,
    /// Its name.
    pub key_id: KeyId,
    /// The algorithm that it is for.
    pub alg: Algorithm,
    /// Name of the master key that wrapped it.
    pub master: String,
    /// What the master key made of it, in base64.
    pub wrapped: String,
}

impl Encryption {
    /// By AES-256-GCM, with this key.
    pub fn with(key_id: KeyId) -> Self {
        Self {
            alg: Algorithm::Aes256Gcm,
            key_id,
            unreadable: None,
        }
    }
}

/// Prefix of the wrapped keys of one session, with the slash.
pub fn keys_of(session_id: SessionId) -> String {
    format!("{KEYS_PREFIX}{session_id}/")
}

/// Name of the object that a wrapped key is kept as.
pub fn key_object(session_id: SessionId, key_id: KeyId) -> String {
    format!("{}{key_id}.json", keys_of(session_id))
}

/// What a master key authenticates beside the key that it wraps: `["hoop.content-key.v1",MASTER,SESSION,KEY]`.
pub fn wrapping_context(master: &str, session_id: SessionId, key_id: KeyId) -> String {
    serde_json::json!(["hoop.content-key.v1", master, session_id, key_id]).to_string()
}

#[cfg(feature = "encryption")]
impl Place {
    /// The additional data of content at this place.
    fn additional_data(self, session_id: SessionId, key_id: KeyId, audit_id: &str) -> String {
        let head = ("hoop.content.v1", session_id, key_id, audit_id);
        let (name, session, key, audit_id) = head;
        let json = match self {
            Self::Body(of) => serde_json::json!([name, session, key, audit_id, "body", of]),
            Self::Chunk { of, index, offset } => {
                serde_json::json!([name, session, key, audit_id, "chunk", of, index, offset])
            }
            Self::Stream {
                channel,
                connection,
                offset,
            } => serde_json::json!([
                name, session, key, audit_id, "stream", channel, connection, offset
            ]),
        };
        json.to_string()
    }
}

#[cfg(test)]
#[cfg(feature = "encryption")]
mod tests;
