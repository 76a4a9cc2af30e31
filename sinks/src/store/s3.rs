//! Evidence in a bucket of S3, or of a server that speaks its protocol: one object per object, under one prefix.
//!
//! ```text
//! s3://<bucket>/<prefix>/events/v1/class=standard/dt=2026-11-22/shard=000/00ff00ff-00000000000000000042.parquet
//!   x-amz-checksum-sha256   SHA-256 of the bytes, checked by the server before it takes them
//!   x-amz-meta-sha256       the same in hexadecimal, for servers that do not keep checksums
//!   x-amz-meta-put          a number of this one put, by which it knows its own object again
//!   x-amz-meta-…            the facts that the caller gave, such as pos-to
//! <prefix>/probe/v1/create-only     the object that the probe puts once and tries to replace at every start
//! ```
//! A put is one request with `If-None-Match: *`; the bucket decides who of many is first. An answer that does not say
//! what happened (409, 5xx, none at all) is followed by the same put again, a few times: if that one meets an object,
//! its `put` says whether it is our own, landed after all. What stays unclear is [`StoreError::Unknown`], and the
//! caller looks at the object.
//!
//! **Versions.** In a bucket with versions a plain delete leaves a marker, behind which the bytes stay, and after it
//! a create-only put succeeds again: S3 takes a name as free when its newest version is a marker. So a name commits
//! only as long as nobody may delete. The probe therefore tells when the identity that records could delete, and the
//! policies in [`policy`] give that right to nobody but the retention role. [`EvidenceStore::delete`] removes every
//! version of a name, since an expired object that can be brought back has not expired.
//!
//! Not here: who may do what in the bucket (the bucket's own policies, written by [`policy`]), and lifecycle rules.

mod client;
mod delete;
mod failure;
pub mod foreign;
mod lifecycle;
mod lock;
pub mod policy;
mod probe;
mod put;
mod read;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::Class;
use tokio::sync::OnceCell;

use client::Connection;

use super::place::{Access, BucketOptions, BucketPlace};
use super::{
    CreateOptions, Created, EvidenceStore, ObjectHead, ObjectInfo, Protection, Source, StoreError,
    key,
};

/// A store in a bucket.
#[derive(Debug)]
pub struct S3 {
    place: BucketPlace,
    read_only: bool,
    wants_locks: bool,
    terms: Option<BTreeMap<Class, Duration>>,
    connection: Connection,
    /// Whether the bucket has Object Lock, once it has said so. It cannot be taken away from a bucket again.
    locks: OnceCell<()>,
}

impl S3 {
    /// Makes ready to speak to a bucket. Nothing is sent to it yet.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] when the prefix leaves no room for keys.
    pub async fn open(
        place: &BucketPlace,
        access: Access,
        options: &BucketOptions,
    ) -> Result<Self, StoreError> {
        if place.prefix.len() > PREFIX_BYTES_MAX {
            return Err(StoreError::Unfit {
                place: place.to_string(),
                why: format!(
                    "its prefix is longer than {PREFIX_BYTES_MAX} bytes; choose a shorter one"
                ),
            });
        }
        Ok(Self {
            place: place.clone(),
            read_only: access == Access::Read,
            wants_locks: options.object_lock,
            terms: options.terms.clone(),
            connection: Connection::open(options).await,
            locks: OnceCell::new(),
        })
    }

    /// The key in the bucket of one of our keys, or of the beginning of one.
    fn full_key(&self, key: &str) -> String {
        if self.place.prefix.is_empty() {
            return key.to_owned();
        }
        format!("{}/{key}", self.place.prefix)
    }

    /// Our key of a key in the bucket; `None` for what is none of ours.
    fn own_key<'a>(&self, key: &'a str) -> Option<&'a str> {
        let own = if self.place.prefix.is_empty() {
            key
        } else {
            key.strip_prefix(&self.place.prefix)?.strip_prefix('/')?
        };
        key::check("list", own).is_ok().then_some(own)
    }

    fn check_change(&self, operation: &'static str, key: &str) -> Result<(), StoreError> {
        key::check(operation, key)?;
        if self.read_only {
            return Err(refused(
                operation,
                key,
                "the bucket was opened for reading only",
            ));
        }
        Ok(())
    }
}

/// S3 takes keys of 1024 bytes; ours are below 300, and this leaves room for longer ones.
const PREFIX_BYTES_MAX: usize = 512;

#[async_trait]
impl EvidenceStore for S3 {
    fn place(&self) -> String {
        self.place.to_string()
    }

    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError> {
        self.check_change("create", key)?;
        self.put(key, bytes, options).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        key::check("head", key)?;
        self.read_head(key).await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        key::check("get", key)?;
        self.read_range(key, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        self.read_list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check_change("delete", key)?;
        self.delete_all_versions(key).await
    }

    async fn destroy(&self, prefix: &str) -> Result<u64, StoreError> {
        self.check_change("destroy", prefix.trim_end_matches('/'))?;
        self.destroy_all_versions(prefix).await
    }

    async fn locks(&self) -> Result<bool, StoreError> {
        self.bucket_locks().await
    }

    async fn may_delete(&self) -> Result<bool, StoreError> {
        let answer = self.ask_may_delete().await;
        answer.map_err(|failure| refused("delete", probe::NEVER_CREATED, failure))
    }

    async fn protection(&self, key: &str) -> Result<Protection, StoreError> {
        key::check("protection", key)?;
        self.read_protection(key).await
    }

    async fn hold(&self, key: &str, held: bool) -> Result<(), StoreError> {
        self.check_change("hold", key)?;
        self.set_hold(key, held).await
    }

    async fn probe(&self) -> Result<Vec<String>, StoreError> {
        self.probe_bucket().await
    }
}

fn refused(operation: &'static str, key: &str, source: impl Into<Source>) -> StoreError {
    StoreError::Refused {
        operation,
        key: key.to_owned(),
        source: source.into(),
    }
}

fn unknown(operation: &'static str, key: &str, source: impl Into<Source>) -> StoreError {
    StoreError::Unknown {
        operation,
        key: key.to_owned(),
        source: source.into(),
    }
}

fn not_found(key: &str) -> StoreError {
    StoreError::NotFound {
        key: key.to_owned(),
    }
}
