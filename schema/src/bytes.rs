//! The one encoding of an event.
//!
//! An event is one JSON object on one line, in UTF-8, without a line break inside or after it:
//!
//! ```text
//! {"v":1,"event_id":"…","ts":"…","cluster":"…","producer_id":"…","producer_epoch":…,"producer_seq":…,"class":"…",
//!  "shard":…,"session_id":"…","session_seq":…[,"prev_hash":"…"],"kind":"intent", …the fields of the kind… }
//! ```
//!
//! Envelope first, then `kind`, then the kind's fields; no white space between tokens except inside embedded JSON
//! bodies. These bytes go on the log, into the hash and into evidence. They are never encoded again: a reader that
//! wants to prove an event hashes the bytes it has. An event is at most [`EVENT_BYTES_MAX`] long.
//!
//! Readers ignore fields they do not know and keep kinds they do not know (see [`Kind::Unknown`]).

use serde::Deserialize;

use crate::event::{Envelope, Event, Kind};
use crate::ids::EventHash;

/// The longest event, in bytes: below the 256 KiB above which Falco drops and the 1 MiB above which brokers refuse.
pub const EVENT_BYTES_MAX: usize = 192 * 1024;

/// Room for the envelope and the kind's name; a longer one costs one more allocation, nothing else.
const ENVELOPE_BYTES_USUAL: usize = 640;

/// An event's exact bytes and their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// One line of JSON, without the line break.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub hash: EventHash,
}

/// Why an event could not be encoded. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The event is longer than [`EVENT_BYTES_MAX`]; its body should have gone into chunks.
    #[error("event of {0} bytes is longer than {EVENT_BYTES_MAX}")]
    TooLong(usize),
    /// A field has no JSON form, or the kind is unknown to this build.
    #[error("event has no JSON form")]
    Unrepresentable(#[source] Option<serde_json::Error>),
}

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any event.
    #[error("record of {0} bytes is longer than {EVENT_BYTES_MAX}")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("record is not UTF-8")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Not a JSON object with the fields of an event.
    #[error("record is not an event")]
    NotAnEvent(#[source] serde_json::Error),
}

/// The fields of a kind, encoded ahead of the envelope: a producer that numbers its events under a lock does this
/// part outside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFields {
    name: &'static str,
    json: Vec<u8>,
}

impl EncodedFields {
    /// The name of the kind.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Length in bytes; the event is longer by its envelope.
    pub fn len(&self) -> usize {
        self.json.len()
    }

    /// Whether the kind has no fields.
    pub fn is_empty(&self) -> bool {
        self.json == b"{}"
    }
}

/// Encodes an event.
///
/// # Errors
/// When the event is too long or has no JSON form.
pub fn encode(envelope: &Envelope, kind: &Kind) -> Result<EncodedEvent, EncodeError> {
    encode_with(envelope, &encode_fields(kind)?)
}

/// Encodes what a kind adds to the envelope, for [`encode_with`].
///
/// # Errors
/// When the kind has no JSON form, or its fields alone are longer than an event.
pub fn encode_fields(kind: &Kind) -> Result<EncodedFields, EncodeError> {
    let mut json = Vec::with_capacity(1024);
    let name = match kind.write_fields(&mut json) {
        None => return Err(EncodeError::Unrepresentable(None)),
        Some(Err(e)) => return Err(EncodeError::Unrepresentable(Some(e))),
        Some(Ok(name)) => name,
    };
    if json.len() > EVENT_BYTES_MAX {
        return Err(EncodeError::TooLong(json.len()));
    }
    Ok(EncodedFields { name, json })
}

/// Encodes an event whose fields are encoded already. The result is that of [`encode`].
///
/// # Errors
/// When the event is too long or the envelope has no JSON form.
pub fn encode_with(
    envelope: &Envelope,
    fields: &EncodedFields,
) -> Result<EncodedEvent, EncodeError> {
    let mut bytes = Vec::with_capacity(fields.json.len() + ENVELOPE_BYTES_USUAL);
    serde_json::to_writer(&mut bytes, envelope)
        .map_err(|e| EncodeError::Unrepresentable(Some(e)))?;
    let closed = bytes.pop();
    debug_assert_eq!(closed, Some(b'}'), "an envelope is an object");
    bytes.extend_from_slice(b",\"kind\":\"");
    bytes.extend_from_slice(fields.name.as_bytes());
    bytes.push(b'"');
    if fields.is_empty() {
        bytes.push(b'}');
    } else {
        bytes.push(b',');
        bytes.extend_from_slice(&fields.json[1..]);
    }
    if bytes.len() > EVENT_BYTES_MAX {
        return Err(EncodeError::TooLong(bytes.len()));
    }
    debug_assert!(!bytes.contains(&b'\n'), "an event is one line");
    let hash = EventHash::of(&bytes);
    Ok(EncodedEvent { bytes, hash })
}

/// Decodes an event of any version and kind.
///
/// # Errors
/// When the bytes are not an event at all. A kind or a field that this build does not know is no error.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    if bytes.len() > EVENT_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(DecodeError::NotUtf8)?;
    let envelope: Envelope = serde_json::from_str(text).map_err(DecodeError::NotAnEvent)?;
    let KindName { kind } = serde_json::from_str(text).map_err(DecodeError::NotAnEvent)?;
    let kind = Kind::read_fields(&kind, text).map_err(DecodeError::NotAnEvent)?;
    Ok(Event { envelope, kind })
}

#[derive(Deserialize)]
struct KindName {
    kind: String,
}

#[cfg(test)]
mod tests;
