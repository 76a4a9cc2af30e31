//! Recorded bodies and streams, put together and made readable.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoop_schema::body::{Body, BodyEncoding, TextEncoding};
use hoop_schema::encryption::Encryption;
use hoop_schema::kinds::request::BodyChunk;
use hoop_schema::kinds::stream::StreamData;
use serde_json::Value;

/// The most of one body that is put together for showing, in bytes: more is not read by people.
pub const BODY_SHOWN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A body as far as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A JSON value.
    Json(Value),
    /// Text.
    Text(String),
    /// Bytes that are no text.
    Binary(Vec<u8>),
    /// Not there, and why.
    Absent(String),
}

/// Puts a body together from itself and its chunks.
pub fn content(body: &Body, chunks: &[&BodyChunk]) -> Content {
    let text = |raw: &serde_json::value::RawValue| {
        serde_json::from_str::<String>(raw.get())
            .map_err(|_| Content::Absent("the recorded body is not a string".into()))
    };
    match (body.encoding, &body.content) {
        (BodyEncoding::Json, Some(raw)) => match serde_json::from_str(raw.get()) {
            Ok(value) => Content::Json(value),
            Err(_) => Content::Text(raw.get().to_owned()),
        },
        (BodyEncoding::Text, Some(raw)) => text(raw).map_or_else(|absent| absent, of_text),
        (BodyEncoding::Base64, Some(raw)) => match text(raw) {
            Ok(text) => of_base64(&text),
            Err(absent) => absent,
        },
        (BodyEncoding::Chunks, _) => of_chunks(body, chunks),
        (BodyEncoding::Encrypted, _) => Content::Absent(why_not(body.encryption.as_ref())),
        (BodyEncoding::Omitted, _) => Content::Absent(
            "not recorded: it could not be inspected, so it could not be masked, or no key to encrypt it could be kept".into(),
        ),
        _ => Content::Absent("the event has no content".into()),
    }
}

fn of_text(text: String) -> Content {
    match serde_json::from_str::<Value>(&text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => Content::Json(value),
        _ => Content::Text(text),
    }
}

fn of_base64(text: &str) -> Content {
    match STANDARD.decode(text) {
        Ok(bytes) => of_bytes(bytes),
        Err(_) => Content::Absent("the recorded base64 cannot be read".into()),
    }
}

fn of_chunks(body: &Body, chunks: &[&BodyChunk]) -> Content {
    if let Some(locked) = chunks
        .iter()
        .find(|chunk| chunk.encoding == TextEncoding::Encrypted)
    {
        return Content::Absent(why_not(locked.encryption.as_ref()));
    }
    if let Some(encryption) = body.encryption.as_ref().filter(|_| chunks.is_empty()) {
        return Content::Absent(why_not(Some(encryption)));
    }
    if chunks.len() < usize::try_from(body.chunks).unwrap_or(usize::MAX) {
        let there = chunks.len();
        return Content::Absent(format!("{there} of its {} pieces are here", body.chunks));
    }
    let mut bytes = Vec::new();
    for chunk in chunks {
        if bytes.len() + chunk.content.len() > BODY_SHOWN_BYTES_MAX {
            break;
        }
        match piece(chunk.encoding, &chunk.content) {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => return Content::Absent("a piece of it cannot be read".into()),
        }
    }
    of_bytes(bytes)
}

fn of_bytes(bytes: Vec<u8>) -> Content {
    match String::from_utf8(bytes) {
        Ok(text) => of_text(text),
        Err(e) => Content::Binary(e.into_bytes()),
    }
}

/// Why encrypted content is not shown.
fn why_not(encryption: Option<&Encryption>) -> String {
    match encryption {
        None => "encrypted, and the event does not say with which key".into(),
        Some(Encryption {
            unreadable: Some(why),
            ..
        }) => why.clone(),
        Some(Encryption { key_id, .. }) => format!("encrypted, key {key_id}"),
    }
}

/// Why a piece of a stream cannot be read, if it is encrypted.
pub fn unreadable(data: &StreamData) -> Option<String> {
    let encrypted = data.encoding == TextEncoding::Encrypted;
    encrypted.then(|| why_not(data.encryption.as_ref()))
}

/// The bytes of a chunk or of a piece of a stream.
pub fn piece(encoding: TextEncoding, content: &str) -> Option<Vec<u8>> {
    match encoding {
        TextEncoding::Text => Some(content.as_bytes().to_vec()),
        TextEncoding::Base64 => STANDARD.decode(content).ok(),
        TextEncoding::Encrypted => None,
    }
}

impl Content {
    /// Lines for people: JSON pretty-printed, text as it is.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Json(value) => pretty(value),
            Self::Text(text) => text.lines().map(str::to_owned).collect(),
            Self::Binary(bytes) => vec![format!("({} bytes that are no text)", bytes.len())],
            Self::Absent(why) => vec![format!("[{why}]")],
        }
    }

    /// The JSON value, if it is one.
    pub fn json(&self) -> Option<&Value> {
        match self {
            Self::Json(value) => Some(value),
            _ => None,
        }
    }
}

/// A value over several lines.
pub fn pretty(value: &Value) -> Vec<String> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value has a JSON form");
    text.lines().map(str::to_owned).collect()
}

/// An object without what changes with every write and says nothing about what a person changed.
pub fn without_noise(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        for field in [
            "managedFields",
            "resourceVersion",
            "generation",
            "uid",
            "creationTimestamp",
        ] {
            metadata.shift_remove(field);
        }
    }
    if let Value::Object(object) = &mut value {
        object.shift_remove("status");
    }
    value
}
