//! What a masked value becomes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::sentinel::{SENTINEL, SENTINEL_BASE64};
use super::{MaskKey, MaskMode};

/// Bytes of the keyed hash that are shown: enough that two values never meet by chance.
const HASH_BYTES: usize = 16;

/// Domain of what is no base64 although it should be: cannot meet a decoded value that begins alike.
const NOT_BASE64: &[u8] = b"\0not base64\0";

/// How much of a value [`MaskMode::Partial`] shows, in bytes: what receipts show of a card number.
const SHOWN_BYTES: usize = 4;

/// A value shorter than this is not shown in part: at least three quarters stay hidden.
const PARTIAL_BYTES_MIN: u64 = 16;

/// How a value is written where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As text.
    Plain,
    /// In base64, as in `data` of a Secret.
    Base64,
}

/// Takes a value piece by piece and gives what stands in its place.
#[derive(Debug)]
pub(super) struct Replacement {
    form: Form,
    value: Option<Box<Value>>,
}

/// A value, decoded, so that `data` and `stringData` of the same secret are equal.
struct Value {
    digest: Digest,
    /// Characters of base64 that do not make a group of four yet.
    group: Vec<u8>,
    /// Whether the pieces are taken as they are.
    is_raw: bool,
}

/// What is kept of it.
enum Digest {
    Hash(Hmac<Sha256>),
    End(End),
}

/// The last bytes of a value.
#[derive(Default)]
struct End {
    last: [u8; SHOWN_BYTES],
    bytes: u64,
    /// Whether they are not those of a text.
    is_hidden: bool,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(****)")
    }
}

impl Replacement {
    pub(super) fn new(form: Form, mode: MaskMode, key: &MaskKey) -> Self {
        let digest = match mode {
            MaskMode::None | MaskMode::Redact => None,
            MaskMode::Hmac => Some(Digest::Hash(
                Hmac::new_from_slice(&key.0).expect("HMAC takes keys of any length"),
            )),
            MaskMode::Partial => Some(Digest::End(End::default())),
        };
        let value = digest.map(|digest| {
            Box::new(Value {
                digest,
                group: Vec::new(),
                is_raw: form == Form::Plain,
            })
        });
        Self { form, value }
    }

    /// Takes the next piece of the value, unescaped.
    #[inline]
    pub(super) fn take(&mut self, piece: &[u8]) {
        if let Some(value) = &mut self.value {
            value.take(piece);
        }
    }

    /// What stands in the place of the value, as text: nothing in it needs an escape.
    pub(super) fn text(self) -> String {
        match self.value {
            None => SENTINEL.to_owned(),
            Some(value) => value.finish(),
        }
    }

    /// Appends what stands in the place of the value, as a JSON string.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        out.push(b'"');
        match (&self.value, self.form) {
            (None, Form::Base64) => out.extend_from_slice(SENTINEL_BASE64.as_bytes()),
            (Some(_), Form::Base64) => {
                out.extend_from_slice(STANDARD.encode(self.text()).as_bytes());
            }
            (_, Form::Plain) => out.extend_from_slice(self.text().as_bytes()),
        }
        out.push(b'"');
    }
}

impl Value {
    fn take(&mut self, piece: &[u8]) {
        if self.is_raw {
            self.digest.update(piece);
            return;
        }
        self.group.extend_from_slice(piece);
        let whole = self.group.len() / 4 * 4;
        match STANDARD.decode(&self.group[..whole]) {
            Ok(decoded) => {
                self.digest.update(&decoded);
                self.group.drain(..whole);
            }
            Err(_) => self.take_groups(whole),
        }
    }

    /// Takes the groups before the first wrong one: where it stops to be base64 must not depend on how the value is cut.
    fn take_groups(&mut self, whole: usize) {
        let mut taken = 0;
        for group in self.group[..whole].chunks(4) {
            let Ok(decoded) = STANDARD.decode(group) else {
                break;
            };
            self.digest.update(&decoded);
            taken += group.len();
        }
        self.group.drain(..taken);
        if taken < whole {
            self.give_up();
        }
    }

    /// From here on it is text.
    fn give_up(&mut self) {
        self.is_raw = true;
        if let Digest::End(end) = &mut self.digest {
            end.is_hidden = true;
        }
        self.digest.update(NOT_BASE64);
        self.digest.update(&self.group);
        self.group.clear();
    }

    fn finish(mut self) -> String {
        if !self.group.is_empty() {
            self.give_up();
        }
        match self.digest {
            Digest::Hash(mac) => {
                let digest = mac.finalize().into_bytes();
                let hex: String = digest[..HASH_BYTES]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                format!("{SENTINEL}hmac:{hex}")
            }
            Digest::End(end) => end.shown().map_or_else(
                || SENTINEL.to_owned(),
                |last| format!("{SENTINEL}last:{last}"),
            ),
        }
    }
}

impl Digest {
    fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Hash(mac) => mac.update(piece),
            Self::End(end) => end.update(piece),
        }
    }
}

impl End {
    fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        match piece.last_chunk() {
            Some(last) => self.last = *last,
            None => {
                self.last.rotate_left(piece.len());
                self.last[SHOWN_BYTES - piece.len()..].copy_from_slice(piece);
            }
        }
    }

    /// The end of a text that is long enough; letters, digits and what needs no escape anywhere.
    fn shown(&self) -> Option<&str> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+/=".contains(byte);
        let shows = !self.is_hidden && self.bytes >= PARTIAL_BYTES_MIN;
        let last = std::str::from_utf8(&self.last).ok()?;
        (shows && self.last.iter().all(is_plain)).then_some(last)
    }
}
