//! How a request or response body becomes part of events.
//!
//! A body that is JSON is embedded as JSON, other text as a string, the rest as base64; always after masking. What
//! does not fit into [`BODY_INLINE_BYTES_MAX`] goes on in `body.chunk` events, as text cut at character boundaries
//! or as base64. `bytes`, `sha256` and `truncated_at` say what is there, so nothing is trimmed silently.
//!
//! In a class whose content is encrypted (see [`crate::encryption`]), body and chunks hold ciphertext, and there is no
//! `sha256`: the hash of a short body tells the body to whoever can guess it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::encryption::{ENCRYPTED_BYTES_MORE, Encryption};
use crate::ids::{Class, EventHash};

/// The most a body may take inside an event, in bytes as written there; longer ones go into chunks.
pub const BODY_INLINE_BYTES_MAX: usize = 96 * 1024;

/// The most a chunk's content may take, in bytes as written in the event.
pub const CHUNK_BYTES_MAX: usize = 128 * 1024;

/// A recorded body.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Body {
    /// `Content-Type`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// How `content` is to be read.
    pub encoding: BodyEncoding,
    /// The body, if it fits here: a JSON value, or a string of text or base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub content: Option<Box<RawValue>>,
    /// Length of the whole masked body in bytes, recorded or not.
    pub bytes: u64,
    /// SHA-256 of the recorded part: of all of it, or of the first `truncated_at` bytes. Absent when it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<EventHash>,
    /// How many bytes were recorded, when not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated_at: Option<u64>,
    /// Number of `body.chunk` events that hold it, when `encoding` is `chunks`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub chunks: u32,
    /// The class of those events, when it is not this event's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_class: Option<Class>,
    /// With which key its content, or that of its chunks, is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// How the content of a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyEncoding {
    /// A JSON value: the body itself, without the line breaks it may have had between its tokens.
    Json,
    /// A string: the body itself.
    Text,
    /// A string: base64 of the body.
    Base64,
    /// In `body.chunk` events.
    Chunks,
    /// A string: base64 of the encrypted body.
    Encrypted,
    /// Not recorded: it could not be inspected, so it could not be masked; or no key for it could be kept, so it could
    /// not be encrypted.
    Omitted,
}

/// How a piece of a body or a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextEncoding {
    /// The piece itself.
    Text,
    /// Base64 of the piece.
    Base64,
    /// Base64 of the encrypted piece.
    Encrypted,
}

/// A piece of a body that goes into an event of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the recorded body, in bytes.
    pub offset: u64,
    /// How `content` is written.
    pub encoding: TextEncoding,
    /// The piece.
    pub content: String,
}

impl Body {
    /// Records `recorded`, the beginning of a masked body that is `total` bytes long in all. Returns the pieces that
    /// did not fit.
    pub fn record(recorded: &[u8], total: u64, media_type: Option<String>) -> (Self, Vec<Piece>) {
        let truncated_at = (total > recorded.len() as u64).then_some(recorded.len() as u64);
        let body = Self {
            media_type,
            encoding: BodyEncoding::Chunks,
            content: None,
            bytes: total,
            sha256: Some(EventHash::of(recorded)),
            truncated_at,
            chunks: 0,
            chunk_class: None,
            encryption: None,
        };
        if recorded.len() <= BODY_INLINE_BYTES_MAX
            && let Some((encoding, content)) = inline(recorded, truncated_at.is_none())
        {
            return (
                Self {
                    encoding,
                    content: Some(content),
                    ..body
                },
                Vec::new(),
            );
        }
        let pieces = cut(recorded, CHUNK_BYTES_MAX);
        let chunks = u32::try_from(pieces.len()).expect("a body in memory has fewer chunks");
        (Self { chunks, ..body }, pieces)
    }

    /// Says of a body that it was there and was not recorded.
    pub fn omitted(total: u64, media_type: Option<String>) -> Self {
        Self {
            media_type,
            encoding: BodyEncoding::Omitted,
            content: None,
            bytes: total,
            sha256: None,
            truncated_at: Some(0),
            chunks: 0,
            chunk_class: None,
            encryption: None,
        }
    }

    /// Records `recorded`, the beginning of a masked body that is `total` bytes long in all, in pieces alone. Returns
    /// them.
    pub fn record_apart(
        recorded: &[u8],
        total: u64,
        media_type: Option<String>,
    ) -> (Self, Vec<Piece>) {
        let pieces = cut(recorded, CHUNK_BYTES_MAX);
        let body = Self {
            sha256: Some(EventHash::of(recorded)),
            ..Self::in_pieces(recorded, total, media_type, pieces.len())
        };
        (body, pieces)
    }

    /// The same of a body that `encrypt` makes unreadable: the text of all of it ([`Part::Whole`]) or of a piece. Without
    /// `apart`, one that is short enough stays inside.
    pub fn record_encrypted(
        recorded: &[u8],
        total: u64,
        media_type: Option<String>,
        apart: bool,
        encryption: Encryption,
        mut encrypt: impl FnMut(Part, &[u8]) -> String,
    ) -> (Self, Vec<Piece>) {
        if !apart && recorded.len() <= INLINE_PLAIN_BYTES_MAX {
            let text = encrypt(Part::Whole, recorded);
            let content = serde_json::value::to_raw_value(&text).expect("a string has a JSON form");
            let body = Self {
                encoding: BodyEncoding::Encrypted,
                content: Some(content),
                encryption: Some(encryption),
                ..Self::in_pieces(recorded, total, media_type, 0)
            };
            return (body, Vec::new());
        }
        let pieces: Vec<Piece> = cut_plain(recorded, CHUNK_PLAIN_BYTES_MAX)
            .zip(0..)
            .map(|((offset, piece), index)| Piece {
                offset,
                encoding: TextEncoding::Encrypted,
                content: encrypt(Part::Piece { index, offset }, piece),
            })
            .collect();
        let body = Self {
            encryption: Some(encryption),
            ..Self::in_pieces(recorded, total, media_type, pieces.len())
        };
        (body, pieces)
    }

    /// A body with all of `recorded` inside, in base64: for who shows what is too long as text of many escapes.
    #[cfg(feature = "encryption")]
    pub(crate) fn in_base64(recorded: &[u8], total: u64, media_type: Option<String>) -> Self {
        let text = STANDARD.encode(recorded);
        let content = serde_json::value::to_raw_value(&text).expect("a string has a JSON form");
        Self {
            encoding: BodyEncoding::Base64,
            content: Some(content),
            sha256: Some(EventHash::of(recorded)),
            ..Self::in_pieces(recorded, total, media_type, 0)
        }
    }

    fn in_pieces(recorded: &[u8], total: u64, media_type: Option<String>, pieces: usize) -> Self {
        Self {
            media_type,
            encoding: BodyEncoding::Chunks,
            content: None,
            bytes: total,
            sha256: None,
            truncated_at: (total > recorded.len() as u64).then_some(recorded.len() as u64),
            chunks: u32::try_from(pieces).expect("a body in memory has fewer chunks"),
            chunk_class: None,
            encryption: None,
        }
    }
}

/// What of a body is encrypted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All that is recorded of it.
    Whole,
    /// What one `body.chunk` event holds of it.
    Piece {
        /// Which, counted from 0.
        index: u32,
        /// Where in the recorded body it begins, in bytes.
        offset: u64,
    },
}

/// The most that a body may have to stay inside its event once it is encrypted: four letters for three bytes, and quotes.
const INLINE_PLAIN_BYTES_MAX: usize = (BODY_INLINE_BYTES_MAX - 2) / 4 * 3 - ENCRYPTED_BYTES_MORE;

/// The most that an encrypted piece may have.
pub const CHUNK_PLAIN_BYTES_MAX: usize = CHUNK_BYTES_MAX / 4 * 3 - ENCRYPTED_BYTES_MORE;

/// A piece as it is written: text where it is UTF-8 and fits, base64 otherwise.
#[cfg(feature = "encryption")]
pub(crate) fn written(piece: &[u8]) -> (TextEncoding, String) {
    let fits = |text: &&str| text.chars().map(written_width).sum::<usize>() <= CHUNK_BYTES_MAX;
    match std::str::from_utf8(piece).ok().filter(fits) {
        Some(text) => (TextEncoding::Text, text.to_owned()),
        None => (TextEncoding::Base64, STANDARD.encode(piece)),
    }
}

/// Cuts `bytes` into pieces of at most `max` bytes (at least 64) with their offsets; where it is UTF-8 throughout, never
/// within a character.
pub fn cut_plain(bytes: &[u8], max: usize) -> impl Iterator<Item = (u64, &[u8])> {
    let max = max.max(64);
    let text = std::str::from_utf8(bytes).ok();
    let mut begin = 0;
    std::iter::from_fn(move || {
        let end = bytes.len().min(begin + max);
        let end = text.map_or(end, |text| text.floor_char_boundary(end));
        let piece = (begin as u64, &bytes[begin..end]);
        begin = end;
        (!piece.1.is_empty()).then_some(piece)
    })
}

/// The embedded form of a body, if it is short enough.
fn inline(recorded: &[u8], whole: bool) -> Option<(BodyEncoding, Box<RawValue>)> {
    let fits = |content: &RawValue| content.get().len() <= BODY_INLINE_BYTES_MAX;
    let text = std::str::from_utf8(recorded).ok();
    if whole
        && let Some(json) = text.and_then(embed_json)
        && fits(&json)
    {
        return Some((BodyEncoding::Json, json));
    }
    let (encoding, content) = match text {
        Some(text) => (BodyEncoding::Text, serde_json::value::to_raw_value(text)),
        None => (
            BodyEncoding::Base64,
            serde_json::value::to_raw_value(&STANDARD.encode(recorded)),
        ),
    };
    let content = content.expect("a string has a JSON form");
    fits(&content).then_some((encoding, content))
}

/// `text` as a JSON value on one line, if it is JSON. Tokens are kept as they are: order, numbers and escapes.
fn embed_json(text: &str) -> Option<Box<RawValue>> {
    let trimmed = text.trim_ascii();
    if !matches!(trimmed.as_bytes().first(), Some(b'{' | b'[')) {
        return None;
    }
    if !trimmed.bytes().any(|b| matches!(b, b'\n' | b'\r')) {
        return RawValue::from_string(trimmed.to_owned()).ok();
    }
    // Line breaks can only stand between tokens: inside a string, JSON forbids them.
    let one_line: String = trimmed
        .chars()
        .filter(|c| !matches!(c, '\n' | '\r'))
        .collect();
    RawValue::from_string(trimmed.to_owned()).ok()?;
    RawValue::from_string(one_line).ok()
}

/// Cuts `bytes` into pieces whose written form is at most `max` bytes (at least 64): text where it is UTF-8
/// throughout, base64 otherwise.
pub fn cut(bytes: &[u8], max: usize) -> Vec<Piece> {
    let max = max.max(64);
    let mut pieces = Vec::new();
    let Ok(text) = std::str::from_utf8(bytes) else {
        let step = max / 4 * 3;
        for (i, piece) in bytes.chunks(step).enumerate() {
            let offset = (i * step) as u64;
            pieces.push(Piece {
                offset,
                encoding: TextEncoding::Base64,
                content: STANDARD.encode(piece),
            });
        }
        return pieces;
    };
    let (mut begin, mut written) = (0, 0);
    for (at, c) in text.char_indices() {
        let width = written_width(c);
        if written + width > max {
            pieces.push(text_piece(text, begin, at));
            (begin, written) = (at, 0);
        }
        written += width;
    }
    if begin < text.len() {
        pieces.push(text_piece(text, begin, text.len()));
    }
    pieces
}

fn text_piece(text: &str, begin: usize, end: usize) -> Piece {
    Piece {
        offset: begin as u64,
        encoding: TextEncoding::Text,
        content: text[begin..end].to_owned(),
    }
}

/// Bytes that a character takes inside a JSON string as `serde_json` writes it.
fn written_width(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_keeps_its_order_numbers_and_escapes() {
        let text = "{\"b\": 1.50,\n\t\"a\":\"\\u00e9\"}\n";
        let (body, pieces) = Body::record(text.as_bytes(), text.len() as u64, None);
        assert_eq!(body.encoding, BodyEncoding::Json);
        assert_eq!(
            body.content.unwrap().get(),
            "{\"b\": 1.50,\t\"a\":\"\\u00e9\"}"
        );
        assert!(pieces.is_empty());
    }

    #[test]
    fn a_line_break_that_holds_two_tokens_apart_is_no_json() {
        let (body, _) = Body::record(b"{\"a\":1\n2}", 9, None);
        assert_eq!(body.encoding, BodyEncoding::Text);
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let (body, pieces) = Body::record(b"{\"a\":", 100, None);
        assert_eq!(
            (body.encoding, body.bytes, body.truncated_at),
            (BodyEncoding::Text, 100, Some(5))
        );
        assert_eq!(body.sha256, Some(EventHash::of(b"{\"a\":")));
        assert!(pieces.is_empty());
        assert_eq!(Body::omitted(7, None).truncated_at, Some(0));
    }

    #[test]
    fn bytes_become_base64() {
        let (body, _) = Body::record(&[0, 255], 2, None);
        assert_eq!(
            (body.encoding, body.content.unwrap().get()),
            (BodyEncoding::Base64, "\"AP8=\"")
        );
    }

    #[test]
    fn the_longest_inline_body_is_not_longer_than_said() {
        let text = "\"".repeat(BODY_INLINE_BYTES_MAX);
        let (body, pieces) = Body::record(text.as_bytes(), text.len() as u64, None);
        assert_eq!(
            (body.encoding, body.chunks as usize),
            (BodyEncoding::Chunks, pieces.len())
        );
        assert!(
            pieces
                .iter()
                .all(|p| serde_json::to_string(&p.content).unwrap().len() <= CHUNK_BYTES_MAX + 2)
        );
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_body(text in "(.|[\u{0}-\u{1f}\"\\\\])*", max in 64usize..200) {
            let pieces = cut(text.as_bytes(), max);
            let joined: String = pieces.iter().map(|p| p.content.as_str()).collect();
            prop_assert_eq!(&joined, &text);
            for piece in &pieces {
                prop_assert!(serde_json::to_string(&piece.content).unwrap().len() <= max + 2);
                prop_assert!(text[piece.offset as usize..].starts_with(&piece.content));
            }
        }

        #[test]
        fn plain_pieces_join_and_keep_characters_whole(text in "(.|é|😀){0,300}", max in 64usize..80, raw: Vec<u8>) {
            for bytes in [text.as_bytes(), &raw] {
                let mut joined = Vec::new();
                for (offset, piece) in cut_plain(bytes, max) {
                    prop_assert_eq!(offset, joined.len() as u64);
                    prop_assert!(piece.len() <= max);
                    if std::str::from_utf8(bytes).is_ok() {
                        prop_assert!(std::str::from_utf8(piece).is_ok());
                    }
                    joined.extend_from_slice(piece);
                }
                prop_assert_eq!(&joined[..], bytes);
            }
        }

        #[test]
        fn any_bytes_are_recorded(bytes: Vec<u8>) {
            let (body, pieces) = Body::record(&bytes, bytes.len() as u64, None);
            prop_assert_eq!(body.sha256, Some(EventHash::of(&bytes)));
            prop_assert!(pieces.is_empty());
            prop_assert!(!body.content.unwrap().get().contains('\n'));
        }
    }
}
