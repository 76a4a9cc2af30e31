//! A content key, and what it does.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ENCRYPTED_BYTES_MORE, Encryption, Place};
use crate::ids::{KeyId, SessionId};

/// The key of one session's content at one gateway. Prints as its name alone.
pub struct ContentKey {
    session_id: SessionId,
    key_id: KeyId,
    key: LessSafeKey,
}

/// Encrypted content was not made by this key for this place, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not what was encrypted for its place under this key")]
pub struct NotReadable;

impl ContentKey {
    /// The key of these bytes. Whoever has them wipes them.
    pub fn new(session_id: SessionId, key_id: KeyId, bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes 32 bytes");
        Self {
            session_id,
            key_id,
            key: LessSafeKey::new(key),
        }
    }

    /// The session whose content it encrypts.
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// Its name.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What events say of content that it has encrypted.
    pub fn encryption(&self) -> Encryption {
        Encryption::with(self.key_id)
    }

    /// Encrypts content of the request `audit_id` for its place; returns the text for the event. `number` must never come
    /// twice for one key: see the module.
    pub fn encrypt(&self, number: u64, audit_id: &str, place: Place, content: &[u8]) -> String {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
        let data = place.additional_data(self.session_id, self.key_id, audit_id);
        let mut bytes = Vec::with_capacity(content.len() + ENCRYPTED_BYTES_MORE);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(content);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(data.as_bytes()),
                &mut bytes[NONCE_LEN..],
            )
            .expect("content in memory is shorter than what AES-GCM takes");
        bytes.extend_from_slice(tag.as_ref());
        STANDARD.encode(bytes)
    }

    /// The content that the text of an event encrypts.
    ///
    /// # Errors
    /// When this key did not encrypt it for this place.
    pub fn decrypt(
        &self,
        audit_id: &str,
        place: Place,
        text: &str,
    ) -> Result<Vec<u8>, NotReadable> {
        let mut bytes = STANDARD.decode(text).map_err(|_| NotReadable)?;
        let (nonce, rest) = bytes
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(NotReadable)?;
        let data = place.additional_data(self.session_id, self.key_id, audit_id);
        let content = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(data.as_bytes()),
                rest,
            )
            .map_err(|_| NotReadable)?;
        Ok(content.to_vec())
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentKey")
            .field("session_id", &self.session_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}
