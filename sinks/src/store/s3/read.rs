//! Reading: heads, ranges that go on where they broke off, listings page by page.

use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ChecksumMode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};
use sha2::{Digest, Sha256};

use super::failure::{Failure, Meaning, chain};
use super::put::SHA256;
use super::{S3, not_found, refused};
use crate::store::{ObjectHead, ObjectInfo, StoreError};

/// How often the bytes of one range may break off before it is given up; each time it goes on where it was.
const BREAKS_MAX: u32 = 4;

/// Bytes that are made room for before they come; a wrong length must not take all memory.
const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// Bytes of one piece of an object that is hashed because nobody kept its hash.
const HASH_PIECE_BYTES: u64 = 16 << 20;

impl S3 {
    pub(super) async fn read_head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        let head = match self.head_object(key).await {
            Ok(head) => head,
            Err(failure) if failure.meaning == Meaning::NotFound => return Ok(None),
            Err(failure) => return Err(refused("head", key, failure)),
        };
        let bytes = u64::try_from(head.content_length().unwrap_or_default()).unwrap_or_default();
        let sha256 = match kept_hash(&head) {
            Some(sha256) => sha256,
            // Not put by us, on a server that keeps no checksums.
            None => match self.hash_object(key, bytes).await {
                Err(StoreError::NotFound { .. }) => return Ok(None),
                hashed => hashed?,
            },
        };
        Ok(Some(ObjectHead { bytes, sha256 }))
    }

    pub(super) async fn head_object(&self, key: &str) -> Result<HeadObjectOutput, Failure> {
        self.connection
            .ask(|client| {
                client
                    .head_object()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(key))
                    .checksum_mode(ChecksumMode::Enabled)
                    .send()
            })
            .await
    }

    async fn hash_object(&self, key: &str, bytes: u64) -> Result<EventHash, StoreError> {
        let mut digest = Sha256::new();
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + HASH_PIECE_BYTES);
            let piece = self.read_range(key, at..end).await?;
            if piece.is_empty() {
                return Err(refused("head", key, "the object changed while it was read"));
            }
            at += piece.len() as u64;
            digest.update(&piece);
        }
        Ok(EventHash::from_bytes(digest.finalize().into()))
    }

    pub(super) async fn read_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            let found = self.head_object(key).await;
            return match found {
                Ok(_) => Ok(Bytes::new()),
                Err(failure) => Err(read_error("get", key, failure)),
            };
        }
        let mut read = Vec::new();
        let mut etag = None;
        let mut breaks = 0;
        loop {
            let rest = range.start + read.len() as u64..range.end;
            let mut found = match self.get_object(key, &rest, etag.as_deref()).await {
                Ok(found) => found,
                Err(failure) if failure.meaning == Meaning::Range => return Ok(read.into()),
                Err(failure) => return Err(read_error("get", key, failure)),
            };
            let length = u64::try_from(found.content_length().unwrap_or_default());
            let room = length.unwrap_or_default().min(RESERVE_BYTES_MAX);
            read.reserve(usize::try_from(room).unwrap_or_default());
            etag = found.e_tag().map(str::to_owned);
            let broken = loop {
                match found.body.try_next().await {
                    Ok(Some(piece)) => read.extend_from_slice(&piece),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            let Some(error) = broken else {
                return Ok(read.into());
            };
            breaks += 1;
            if breaks >= BREAKS_MAX {
                return Err(refused("get", key, chain(&error)));
            }
            if read.len() as u64 >= range.end - range.start {
                return Ok(read.into());
            }
        }
    }

    /// The bytes of a range that is not empty, of the object with this tag if one is given.
    async fn get_object(
        &self,
        key: &str,
        range: &Range<u64>,
        etag: Option<&str>,
    ) -> Result<GetObjectOutput, Failure> {
        // A range from 0 to the end is none: an empty object has no first byte to begin at.
        let header = match (range.start, range.end) {
            (0, u64::MAX) => None,
            (start, u64::MAX) => Some(format!("bytes={start}-")),
            (start, end) => Some(format!("bytes={start}-{}", end - 1)),
        };
        self.connection
            .ask(|client| {
                client
                    .get_object()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(key))
                    .set_range(header.clone())
                    .set_if_match(etag.map(str::to_owned))
                    .send()
            })
            .await
    }

    pub(super) async fn read_list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = self.read_all_keys(prefix, after).await?;
        listed.retain_mut(|object| {
            let own = self.own_key(&object.key);
            match own.filter(|key| after.is_none_or(|after| *key > after)) {
                Some(key) => {
                    object.key = key.to_owned();
                    true
                }
                None => false,
            }
        });
        // Sorted already by S3; not by every server in the order of bytes.
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// All objects whose key begins with our prefix and this one, by their whole keys, whoever named them.
    pub(super) async fn read_all_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self
                .connection
                .ask(|client| {
                    client
                        .list_objects_v2()
                        .bucket(&self.place.bucket)
                        .prefix(self.full_key(prefix))
                        // Asked for with every page: not every server keeps it in the token.
                        .set_start_after(after.map(|after| self.full_key(after)))
                        .set_continuation_token(token.clone())
                        .send()
                })
                .await
                .map_err(|failure| refused("list", prefix, failure))?;
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                listed.push(ObjectInfo {
                    key: key.to_owned(),
                    bytes: u64::try_from(object.size().unwrap_or_default()).unwrap_or_default(),
                    created: object.last_modified().map_or_else(Timestamp::default, time),
                    tag: object.e_tag().unwrap_or_default().to_owned(),
                });
            }
            let next = page.next_continuation_token().map(str::to_owned);
            if page.is_truncated() != Some(true) || next.is_none() || next == token {
                break;
            }
            token = next;
        }
        Ok(listed)
    }
}

/// The hash that the server checked, or else the one that the put said.
fn kept_hash(head: &HeadObjectOutput) -> Option<EventHash> {
    // A checksum of many parts has `-` and their number behind it, and is none of the bytes.
    let checked = head.checksum_sha256().filter(|sum| !sum.contains('-'));
    if let Some(bytes) = checked.and_then(|sum| STANDARD.decode(sum).ok()) {
        return bytes.try_into().ok().map(EventHash::from_bytes);
    }
    head.metadata()?.get(SHA256)?.parse().ok()
}

fn read_error(operation: &'static str, key: &str, failure: Failure) -> StoreError {
    match failure.meaning {
        Meaning::NotFound => not_found(key),
        _ => refused(operation, key, failure),
    }
}

/// A time of the SDK.
pub(super) fn time(time: &DateTime) -> Timestamp {
    let micros = i64::from(time.subsec_nanos() / 1000);
    Timestamp::from_micros(time.secs().saturating_mul(1_000_000).saturating_add(micros))
}
