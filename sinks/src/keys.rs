//! The keys of encrypted content: made, wrapped by a master key, kept in a store of their own, and destroyed.
//!
//! What is encrypted with them, and the form of what is kept, are documented in [`hoop_schema::encryption`]. The store is
//! an [`EvidenceStore`] like any other, but never that of the evidence: evidence is kept, and copied, and locked, and a key
//! that cannot be destroyed erases nothing.

mod master;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hoop_schema::encryption::{
    Algorithm, ContentKey, WrappedKey, key_object, keys_of, wrapping_context,
};
use hoop_schema::{KeyId, SessionId};
use zeroize::Zeroizing;

use crate::store::{CreateOptions, Created, EvidenceStore, Place, StoreError};

pub use master::{FileMasterKey, KeyFileError, MasterError, MasterKey};

/// The longest wrapped key that is read, in bytes; a file's is 300, and what a service makes of 32 bytes is below 1 KiB.
const WRAPPED_BYTES_MAX: u64 = 16 * 1024;

/// Looks until nothing is left: what a gateway puts while a session is erased is found by the next one.
const DESTROY_ROUNDS_MAX: u32 = 8;

/// Why a key could not be made, read or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    NoRandomness(#[source] std::io::Error),
    /// The store of the keys does not answer.
    #[error("the key store does not answer")]
    Store(#[from] StoreError),
    /// A master key did not do its part.
    #[error("the master key {name} cannot be used")]
    Master {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: MasterError,
    },
    /// A key was wrapped by a master key that was not given.
    #[error("it is wrapped by the master key {0}, which was not given")]
    UnknownMaster(String),
    /// The object is no wrapped key, or another one than its name says.
    #[error("{0} is not the wrapped key that its name says")]
    Damaged(String),
    /// The store is no place for keys.
    #[error("{place} is no place for keys: {why}")]
    Unfit {
        /// Which store.
        place: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Keys come faster than they are destroyed.
    #[error("gateways go on to make keys for this session; end it first (`hoop sessions end`)")]
    StillMade,
}

impl KeyError {
    /// Whether what is kept was altered, so that trying again does not help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Master { source, .. } => matches!(source, MasterError::NotWrapped),
            _ => false,
        }
    }
}

/// Makes keys for content, and keeps them.
#[derive(Debug, Clone)]
pub struct KeyMaker {
    store: Arc<dyn EvidenceStore>,
    master: Arc<dyn MasterKey>,
}

impl KeyMaker {
    /// Keys in this store, wrapped by this master key.
    pub fn new(store: Arc<dyn EvidenceStore>, master: Arc<dyn MasterKey>) -> Self {
        Self { store, master }
    }

    /// Makes a key for the content of a session. It is kept, wrapped, when this returns. Where that is not certain, it is
    /// an error, and at most a key that nothing uses is kept.
    ///
    /// # Errors
    /// When the master key or the store does not do its part.
    pub async fn make(&self, session_id: SessionId) -> Result<ContentKey, KeyError> {
        let bytes = random::<32>()?;
        let key_id = KeyId::from_bytes(*random::<16>()?);
        let master = self.master.name();
        let context = wrapping_context(master, session_id, key_id);
        let wrapped = self.master.wrap(&bytes, &context).await;
        let wrapped = wrapped.map_err(|source| KeyError::Master {
            name: master.to_owned(),
            source,
        })?;
        let object = WrappedKey {
            v: 1,
            session_id,
            key_id,
            alg: Algorithm::Aes256Gcm,
            master: master.to_owned(),
            wrapped: STANDARD.encode(wrapped),
        };
        let name = key_object(session_id, key_id);
        let text = serde_json::to_vec(&object).expect("a wrapped key has a JSON form");
        let options = CreateOptions::default();
        let put = self.store.create(&name, Bytes::from(text), &options);
        match put.await? {
            Created::Created => Ok(ContentKey::new(session_id, key_id, &bytes)),
            // Nobody draws the same 16 bytes twice.
            Created::Exists => Err(KeyError::Damaged(name)),
        }
    }

    /// Whether keys can be made: the master key wraps, and the store keeps what can be destroyed again.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), KeyError> {
        check_store(&*self.store).await?;
        let name = self.master.name();
        let of_master = |source| KeyError::Master {
            name: name.to_owned(),
            source,
        };
        let bytes = random::<32>()?;
        let wrapped = self.master.wrap(&bytes, "probe").await.map_err(of_master)?;
        let again = self.master.unwrap(&wrapped, "probe").await;
        if *again.map_err(of_master)? != *bytes {
            return Err(of_master(MasterError::NotWrapped));
        }
        Ok(())
    }
}

/// Whether a store is fit for keys: what it locks cannot be destroyed.
///
/// # Errors
/// When it is not, or does not answer.
pub async fn check_store(store: &dyn EvidenceStore) -> Result<(), KeyError> {
    if store.locks().await? {
        return Err(KeyError::Unfit {
            place: store.place(),
            why: "it can lock objects, and a key that cannot be destroyed erases nothing; use a bucket without Object Lock",
        });
    }
    Ok(())
}

/// Whether two places overlap, so that what is kept in one is kept in the other. Directories are compared as the file
/// system knows them, where they are there.
pub fn overlap(one: &Place, other: &Place) -> bool {
    match (one, other) {
        (Place::Dir(one), Place::Dir(other)) => {
            let (one, other) = (resolved(one), resolved(other));
            one.starts_with(&other) || other.starts_with(&one)
        }
        (Place::Bucket(one), Place::Bucket(other)) => {
            let inside = |inner: &str, outer: &str| {
                let rest = inner.strip_prefix(outer);
                outer.is_empty()
                    || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            one.bucket == other.bucket
                && (inside(&one.prefix, &other.prefix) || inside(&other.prefix, &one.prefix))
        }
        _ => false,
    }
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in whole.ancestors() {
        if let (Ok(known), Ok(rest)) = (there.canonicalize(), whole.strip_prefix(there)) {
            return known.join(rest);
        }
    }
    whole
}

/// Reads keys again, and destroys them.
#[derive(Clone)]
pub struct KeyRing {
    store: Arc<dyn EvidenceStore>,
    masters: Vec<Arc<dyn MasterKey>>,
}

impl KeyRing {
    /// The keys in this store, as far as these master keys wrapped them.
    pub fn new(store: Arc<dyn EvidenceStore>, masters: Vec<Arc<dyn MasterKey>>) -> Self {
        Self { store, masters }
    }

    /// Where the keys are, for people.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// Whether any master key was given.
    pub fn can_read(&self) -> bool {
        !self.masters.is_empty()
    }

    /// The key of this name; `None` when it is not there.
    ///
    /// # Errors
    /// When it is not what its name says, its master key is not here, or store or master key do not answer.
    pub async fn read(
        &self,
        session_id: SessionId,
        key_id: KeyId,
    ) -> Result<Option<ContentKey>, KeyError> {
        let name = key_object(session_id, key_id);
        let text = match self.store.get(&name, 0..WRAPPED_BYTES_MAX).await {
            Ok(text) => text,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let kept: Option<WrappedKey> = serde_json::from_slice(&text).ok();
        let fits = |kept: &WrappedKey| {
            (kept.session_id, kept.key_id, kept.alg) == (session_id, key_id, Algorithm::Aes256Gcm)
        };
        let kept = kept
            .filter(fits)
            .ok_or_else(|| KeyError::Damaged(name.clone()))?;
        let wrapped = STANDARD
            .decode(&kept.wrapped)
            .map_err(|_| KeyError::Damaged(name))?;
        let master = self.masters.iter().find(|m| m.name() == kept.master);
        let master = master.ok_or_else(|| KeyError::UnknownMaster(kept.master.clone()))?;
        let context = wrapping_context(&kept.master, session_id, key_id);
        let bytes = master.unwrap(&wrapped, &context).await;
        let bytes = bytes.map_err(|source| KeyError::Master {
            name: kept.master,
            source,
        })?;
        Ok(Some(ContentKey::new(session_id, key_id, &bytes)))
    }

    /// How many keys of a session are kept.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self, session_id: SessionId) -> Result<usize, KeyError> {
        Ok(self.store.list(&keys_of(session_id), None).await?.len())
    }

    /// Destroys every key of a session, all versions of them; returns how many objects that were.
    ///
    /// # Errors
    /// When the store does not do it; what was destroyed until then stays so, and the next call completes it.
    pub async fn destroy(&self, session_id: SessionId) -> Result<u64, KeyError> {
        let mut destroyed = 0;
        for _ in 0..DESTROY_ROUNDS_MAX {
            match self.store.destroy(&keys_of(session_id)).await? {
                0 => return Ok(destroyed),
                more => destroyed += more,
            }
        }
        Err(KeyError::StillMade)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("place", &self.store.place())
            .field("masters", &self.masters.len())
            .finish()
    }
}

/// Random bytes of the operating system; wiped when they are dropped.
fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, KeyError> {
    let mut bytes = Zeroizing::new([0; N]);
    master::fill_random(&mut *bytes).map_err(KeyError::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
