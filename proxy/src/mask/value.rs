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
    hash: Option<Box<ValueHash>>,
}

/// Keyed hash of a value, decoded, so that `data` and `stringData` of the same secret are equal.
struct ValueHash {
    mac: Hmac<Sha256>,
    /// Characters of base64 that do not make a group of four yet.
    group: Vec<u8>,
    /// Whether the pieces are taken as they are.
    is_raw: bool,
}

impl std::fmt::Debug for ValueHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueHash(****)")
    }
}

impl Replacement {
    pub(super) fn new(form: Form, mode: MaskMode, key: &MaskKey) -> Self {
        let hash = (mode == MaskMode::Hmac).then(|| {
            Box::new(ValueHash {
                mac: Hmac::new_from_slice(&key.0).expect("HMAC takes keys of any length"),
                group: Vec::new(),
                is_raw: form == Form::Plain,
            })
        });
        Self { form, hash }
    }

    /// Takes the next piece of the value, unescaped.
    #[inline]
    pub(super) fn take(&mut self, piece: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.take(piece);
        }
    }

    /// Appends what stands in the place of the value, as a JSON string.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        out.push(b'"');
        match (self.hash, self.form) {
            (None, Form::Plain) => out.extend_from_slice(SENTINEL.as_bytes()),
            (None, Form::Base64) => out.extend_from_slice(SENTINEL_BASE64.as_bytes()),
            (Some(hash), form) => {
                let text = hash.finish();
                match form {
                    Form::Plain => out.extend_from_slice(text.as_bytes()),
                    Form::Base64 => out.extend_from_slice(STANDARD.encode(text).as_bytes()),
                }
            }
        }
        out.push(b'"');
    }
}

impl ValueHash {
    fn take(&mut self, piece: &[u8]) {
        if self.is_raw {
            self.mac.update(piece);
            return;
        }
        self.group.extend_from_slice(piece);
        let whole = self.group.len() / 4 * 4;
        match STANDARD.decode(&self.group[..whole]) {
            Ok(decoded) => {
                self.mac.update(&decoded);
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
            self.mac.update(&decoded);
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
        self.mac.update(NOT_BASE64);
        self.mac.update(&self.group);
        self.group.clear();
    }

    fn finish(mut self) -> String {
        if !self.group.is_empty() {
            self.give_up();
        }
        let digest = self.mac.finalize().into_bytes();
        let hex: String = digest[..HASH_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{SENTINEL}hmac:{hex}")
    }
}
