//! The evidence store: named objects that are created once and never change.
//!
//! [`EvidenceStore::create`] is the one commit primitive of the whole pipeline: of all rivals that create one name,
//! exactly one wins. What every backend owes its callers is written at the methods, and each sentence is a test in
//! the conformance suite (`conformance`, feature `test-util`). [`memory`] keeps objects in this process, [`dir`] in a
//! directory, `s3` (feature `s3`) in a bucket; `faulty` (feature `test-util`) wraps a store and lets its answers go
//! wrong. [`open`] opens what people call a place. What is said about evidence and can change is kept as a [`history`]:
//! legal [`holds`], [`erasures`], and the [`terms`] of classes.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod dir;
pub mod erasures;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
pub mod history;
pub mod holds;
mod key;
mod lock;
pub mod memory;
mod place;
#[cfg(feature = "s3")]
pub mod s3;
pub mod terms;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};

pub use lock::{LockMode, Protection, Retention};
pub use place::{Access, BucketOptions, BucketPlace, InvalidPlace, Place, open};

/// Facts that travel with an object, such as `pos-to`. Keys are `a-z 0-9 -`, values printable ASCII. A backend without
/// room for them may leave them out: every file says the same in its footer.
pub type Metadata = BTreeMap<&'static str, String>;

/// What a put says beside the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Facts that travel with the object.
    pub metadata: Metadata,
    /// Until when nobody may delete the object; `None` for what the place does by itself.
    pub retention: Option<Retention>,
    /// Whether the object is held from its first moment on.
    pub held: bool,
}

impl From<Metadata> for CreateOptions {
    fn from(metadata: Metadata) -> Self {
        Self {
            metadata,
            ..Self::default()
        }
    }
}

/// What a store answers to a create-only put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there, durable, and this call made it.
    Created,
    /// An object of this name was there before; nothing was changed. It may be an earlier try of the same caller.
    Exists,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed; trying again may work.
    #[error("the store refused {operation} of {key}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of which object.
        key: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// It may have happened: look at the object to know.
    #[error("{operation} of {key} may or may not have happened")]
    Unknown {
        /// What was asked.
        operation: &'static str,
        /// Of which object.
        key: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// There is no such object.
    #[error("there is no object {key}")]
    NotFound {
        /// Which.
        key: String,
    },
    /// This store can lock nothing, so nothing was changed.
    #[error(
        "{place} cannot lock objects, so {what} was refused; use an S3 bucket with Object Lock, or no retention mode"
    )]
    CannotLock {
        /// Which store.
        place: String,
        /// What was asked.
        what: &'static str,
    },
    /// The store does not do what evidence needs; nothing may be recorded to it.
    #[error("the store at {place} is unfit for evidence: {why}")]
    Unfit {
        /// Which store.
        place: String,
        /// What it does wrong, and what to change.
        why: String,
    },
}

/// What lies below an error of this module.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was created, by the store's clock.
    pub created: Timestamp,
    /// What the store itself tells versions of its bytes apart by, such as an `ETag`; empty where it has no such thing.
    pub tag: String,
}

/// An object as it answers a question about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: EventHash,
}

/// A place for evidence. Keys are paths of `A-Z a-z 0-9 . _ = -` with `/` between segments; no segment is `.`, `..`
/// or empty.
#[async_trait]
pub trait EvidenceStore: Send + Sync + fmt::Debug {
    /// Where this is, for people.
    fn place(&self) -> String;

    /// Creates the object, if there is none of this name. When it returns [`Created::Created`], the object is durable
    /// and whole; nobody ever sees a part of one. Of rivals that create one name, exactly one gets `Created`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when nothing was written, [`StoreError::Unknown`] when that is not certain,
    /// [`StoreError::CannotLock`] when a lock was asked for that this store cannot keep.
    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError>;

    /// Length and SHA-256 of the object, `None` if there is none.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError>;

    /// The bytes of the object in `range`, clipped to its end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when the store cannot tell.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// All objects whose key begins with `prefix`, in order of their keys' bytes, after `after` if given.
    ///
    /// # Errors
    /// When the store cannot tell. A prefix without objects is an empty list.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Deletes the object with all its bytes. Only retention does this, after it has recorded that it will.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, [`StoreError::Refused`] if it is locked.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Deletes every object whose key begins with `prefix`, with all its bytes, those that an earlier delete only hid as
    /// well; returns how many there were. Only the keys of erased content go like this.
    ///
    /// # Errors
    /// When the store does not do it, or one is locked; what was deleted until then stays so.
    async fn destroy(&self, prefix: &str) -> Result<u64, StoreError> {
        let mut destroyed = 0;
        for object in self.list(prefix, None).await? {
            match self.delete(&object.key).await {
                Ok(()) => destroyed += 1,
                Err(StoreError::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(destroyed)
    }

    /// Whether the place itself keeps locked objects from being deleted, whoever asks. Where it does not, every lock
    /// is refused: one that only the well-behaved respect would be no evidence.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn locks(&self) -> Result<bool, StoreError>;

    /// Whether whoever asks could delete objects that are not locked. Nothing is deleted to find out.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn may_delete(&self) -> Result<bool, StoreError>;

    /// What keeps the object from being deleted; nothing, where the store does not lock.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when the store cannot tell.
    async fn protection(&self, key: &str) -> Result<Protection, StoreError>;

    /// Sets the object's legal hold, or releases it. Neither changes its retention; both may be done again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::CannotLock`], or when the store refuses.
    async fn hold(&self, key: &str, held: bool) -> Result<(), StoreError>;

    /// Makes sure that this store keeps its promise, by creating a probe object twice and expecting the refusal.
    /// Returns what is not as it should be though evidence can be kept, in sentences for people.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] when it does not.
    async fn probe(&self) -> Result<Vec<String>, StoreError>;
}
