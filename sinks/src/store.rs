//! The evidence store: named objects that are created once and never change.
//!
//! [`EvidenceStore::create`] is the one commit primitive of the whole pipeline: of all rivals that create one name,
//! exactly one wins. What every backend owes its callers is written at the methods, and each sentence is a test in
//! the conformance suite (`conformance`, feature `test-util`). [`memory`] keeps objects in this process, [`dir`] in a
//! directory; `faulty` (feature `test-util`) wraps a store and lets its answers go wrong.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod dir;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
mod key;
pub mod memory;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};

/// Facts that travel with an object, such as `pos-to`. Keys are `a-z 0-9 -`, values printable ASCII. A backend without
/// room for them may leave them out: every file says the same in its footer.
pub type Metadata = BTreeMap<&'static str, String>;

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
    /// [`StoreError::Refused`] when nothing was written, [`StoreError::Unknown`] when that is not certain.
    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        metadata: &Metadata,
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

    /// Deletes the object. Only retention does this, after it has recorded that it will.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Makes sure that this store keeps its promise, by creating a probe object twice and expecting the refusal.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] when it does not.
    async fn probe(&self) -> Result<(), StoreError>;
}
