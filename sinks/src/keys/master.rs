//! Master keys: what wraps the keys of content.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoop_schema::encryption::Wrapping;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bits of a file's mode that let others read it.
const OTHERS_MAY: u32 = 0o077;

/// Wraps the keys of content, and unwraps them. A file does here ([`FileMasterKey`]); a key management service fits as
/// well: `wrap` is its encryption of a data key, and the context its additional data.
#[async_trait]
pub trait MasterKey: Send + Sync + fmt::Debug {
    /// Its name, the same for ever: wrapped keys name it. `file:` and 16 digits, or the name that a service knows it by.
    fn name(&self) -> &str;

    /// Makes of a key what only this master key reads again, and only with the same context.
    ///
    /// # Errors
    /// When it does not answer.
    async fn wrap(&self, key: &[u8; 32], context: &str) -> Result<Vec<u8>, MasterError>;

    /// The key that was wrapped.
    ///
    /// # Errors
    /// [`MasterError::NotWrapped`] when this master key did not wrap it in this context, or it was changed since.
    async fn unwrap(
        &self,
        wrapped: &[u8],
        context: &str,
    ) -> Result<Zeroizing<[u8; 32]>, MasterError>;
}

/// Why a master key did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// It does not answer, or refuses.
    #[error("it does not answer")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not wrap this, or not for this key.
    #[error("it did not wrap this key, or what is kept of the key was changed")]
    NotWrapped,
}

/// Why a master key's file cannot be used. The key is in none of these texts.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("cannot {what} the master key {}", file.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds no key.
    #[error("{} holds no master key: it must be 32 bytes in base64; `hoop key master` makes one", .0.display())]
    NoKey(PathBuf),
}

/// A master key in a file: 32 random bytes in base64, on one line. It is named by a hash of its bytes, so a file may be
/// moved, and two files are never confused. Prints as its name alone.
pub struct FileMasterKey {
    name: String,
    wrapping: Wrapping,
    is_private: bool,
}

impl FileMasterKey {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or holds no key.
    pub fn read(file: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Io {
            what: "read",
            file: file.to_owned(),
            source,
        };
        let text = Zeroizing::new(std::fs::read(file).map_err(failed)?);
        let mode = std::fs::metadata(file)
            .map_err(failed)?
            .permissions()
            .mode();
        let decoded = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new);
        let bytes = decoded
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok())
            .map(Zeroizing::new)
            .ok_or_else(|| KeyFileError::NoKey(file.to_owned()))?;
        Ok(Self::new(&bytes, mode & OTHERS_MAY == 0))
    }

    /// Makes a key in a file that is not there yet and that only its owner can read.
    ///
    /// # Errors
    /// When there is such a file, or it cannot be written.
    pub fn make(file: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Io {
            what: "write",
            file: file.to_owned(),
            source,
        };
        let mut bytes = Zeroizing::new([0; 32]);
        fill_random(&mut *bytes).map_err(failed)?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*bytes)));
        let mut opened = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .map_err(failed)?;
        let written = opened.write_all(text.as_bytes());
        written.and_then(|()| opened.sync_all()).map_err(failed)?;
        Ok(Self::new(&bytes, true))
    }

    fn new(bytes: &[u8; 32], is_private: bool) -> Self {
        let hash = Sha256::new()
            .chain_update(b"hoop.master-key.v1\n")
            .chain_update(bytes)
            .finalize();
        let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            name: format!("file:{digits}"),
            wrapping: Wrapping::new(bytes),
            is_private,
        }
    }

    /// Whether only the file's owner can read it.
    pub fn is_private(&self) -> bool {
        self.is_private
    }
}

impl fmt::Debug for FileMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileMasterKey").field(&self.name).finish()
    }
}

#[async_trait]
impl MasterKey for FileMasterKey {
    fn name(&self) -> &str {
        &self.name
    }

    async fn wrap(&self, key: &[u8; 32], context: &str) -> Result<Vec<u8>, MasterError> {
        let mut nonce = [0; 12];
        fill_random(&mut nonce).map_err(|e| MasterError::Refused(e.into()))?;
        Ok(self.wrapping.wrap(nonce, context, key))
    }

    async fn unwrap(
        &self,
        wrapped: &[u8],
        context: &str,
    ) -> Result<Zeroizing<[u8; 32]>, MasterError> {
        let mut key = Zeroizing::new([0; 32]);
        self.wrapping
            .unwrap(context, wrapped, &mut key)
            .map_err(|_| MasterError::NotWrapped)?;
        Ok(key)
    }
}

/// Fills all of it from the operating system.
pub(super) fn fill_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
        bytes = &mut bytes[filled..];
    }
    Ok(())
}
