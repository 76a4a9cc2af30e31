//! What a master key in a file does to the keys of content.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::NotReadable;

/// Wraps keys by AES-256-GCM: `nonce (12 bytes) ‖ ciphertext (32) ‖ tag (16)`, the context as additional data. One master
/// key wraps one key per session and gateway: far fewer than the 2^32 that random nonces allow.
pub struct Wrapping(LessSafeKey);

impl Wrapping {
    /// By a master key of these bytes. Whoever has them wipes them.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Wraps a key. The nonce is random.
    pub fn wrap(&self, nonce: [u8; NONCE_LEN], context: &str, key: &[u8; 32]) -> Vec<u8> {
        let mut wrapped = nonce.to_vec();
        wrapped.extend_from_slice(key);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let place = &mut wrapped[NONCE_LEN..];
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(context.as_bytes()), place)
            .expect("a key is short");
        wrapped.extend_from_slice(tag.as_ref());
        wrapped
    }

    /// Puts the key that was wrapped into `key`.
    ///
    /// # Errors
    /// When it was not wrapped by this master key in this context, or changed since; then `key` is as it was.
    pub fn unwrap(
        &self,
        context: &str,
        wrapped: &[u8],
        key: &mut [u8; 32],
    ) -> Result<(), NotReadable> {
        let (nonce, sealed) = wrapped
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(NotReadable)?;
        let mut sealed: [u8; 48] = sealed.try_into().map_err(|_| NotReadable)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut sealed);
        let opened = opened.map_err(|_| NotReadable)?;
        key.copy_from_slice(opened);
        opened.fill(0);
        Ok(())
    }
}

impl std::fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wrapping(****)")
    }
}
