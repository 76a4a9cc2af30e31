//! The create-only put, and what becomes of answers that do not say what happened.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectLockMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hoop_schema::EventHash;

use super::failure::{Failure, Meaning};
use super::{S3, refused, unknown};
use crate::store::{CreateOptions, Created, LockMode, StoreError};

/// The most bytes that one put takes; S3's bound. Sealed files are a tenth of it at most.
const OBJECT_BYTES_MAX: usize = 5 << 30;

/// Tries of one put. Longer trouble is for the caller, who looks whether the object is there after all.
const PUT_ATTEMPTS: u32 = 3;

/// Before the second try; twice as long before the third.
const PUT_PAUSE: Duration = Duration::from_millis(200);

/// For the answer to one try, beside the time that the bytes take.
const PUT_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes a second that any line carries on which session files can be kept up with.
const PUT_BYTES_PER_SECOND: u64 = 2 << 20;

/// From this size on hashing is not for the threads that serve everybody: a hundredth of a second.
const HASH_INLINE_BYTES: usize = 8 << 20;

/// Metadata that every object of ours has.
pub(super) const SHA256: &str = "sha256";
/// Metadata that tells the object of one put from those of all others, also of the same bytes.
const PUT: &str = "put";

/// One put, as often as it is tried.
struct Put<'a> {
    key: &'a str,
    bytes: Bytes,
    sha256: EventHash,
    id: String,
    options: &'a CreateOptions,
}

impl S3 {
    pub(super) async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(refused("create", key, "an object has at most 5 GiB"));
        }
        if (options.retention.is_some() || options.held) && !self.bucket_locks().await? {
            return Err(self.cannot_lock("a put with a lock"));
        }
        let put = Put {
            key,
            sha256: hash(&bytes).await,
            bytes,
            id: random_id().map_err(|e| refused("create", key, e))?,
            options,
        };
        let mut unclear: Option<Failure> = None;
        let mut renewed = false;
        let mut pause = PUT_PAUSE;
        for attempt in 0..PUT_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let failure = match self.put_once(&put).await {
                Ok(()) => return Ok(Created::Created),
                Err(failure) => failure,
            };
            match (failure.meaning, unclear.take()) {
                (Meaning::Condition, None) => return Ok(Created::Exists),
                // One of the tries before may have made it.
                (Meaning::Condition, Some(before)) => return self.whose(&put, before).await,
                (Meaning::Unclear, _) => unclear = Some(failure),
                (Meaning::Credentials, before) if !renewed && self.connection.renew().await => {
                    (renewed, unclear) = (true, before);
                }
                (_, Some(before)) => return Err(unknown("create", key, before)),
                (_, None) => return Err(refused("create", key, failure)),
            }
        }
        Err(match unclear {
            Some(failure) => unknown("create", key, failure),
            None => refused("create", key, "the credentials changed while it was tried"),
        })
    }

    async fn put_once(&self, put: &Put<'_>) -> Result<(), Failure> {
        let length = put.bytes.len() as u64;
        let timeout = PUT_TIMEOUT + Duration::from_secs(length / PUT_BYTES_PER_SECOND);
        let mut request = self
            .connection
            .client()
            .put_object()
            .bucket(&self.place.bucket)
            .key(self.full_key(put.key))
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(put.sha256.as_bytes()))
            .body(ByteStream::from(put.bytes.clone()));
        for (name, value) in &put.options.metadata {
            request = request.metadata(*name, value);
        }
        request = request
            .metadata(SHA256, put.sha256.to_string())
            .metadata(PUT, &put.id);
        if let Some(retention) = put.options.retention {
            // Whole seconds, rounded up: not every server reads fractions, and a term must not end early.
            let seconds = -(-retention.until.as_micros()).div_euclid(1_000_000);
            request = request
                .object_lock_mode(lock_mode(retention.mode))
                .object_lock_retain_until_date(DateTime::from_secs(seconds));
        }
        if put.options.held {
            request = request.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On);
        }
        // Tried again here and not by the SDK: only who counts the tries knows whether "exists" may mean this put.
        let once = aws_sdk_s3::config::Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(timeout)
                    .build(),
            );
        let sent = request.customize().config_override(once).send().await;
        sent.map(drop).map_err(Failure::of)
    }

    /// After an answer that did not come, the name is taken: by that very put, or by somebody else.
    async fn whose(&self, put: &Put<'_>, before: Failure) -> Result<Created, StoreError> {
        let head = self
            .connection
            .ask(|client| {
                client
                    .head_object()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(put.key))
                    .send()
            })
            .await;
        match head {
            Ok(head) if head.metadata().and_then(|m| m.get(PUT)) == Some(&put.id) => {
                Ok(Created::Created)
            }
            Ok(_) => Ok(Created::Exists),
            Err(_) => Err(unknown("create", put.key, before)),
        }
    }
}

pub(super) fn lock_mode(mode: LockMode) -> ObjectLockMode {
    match mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    }
}

async fn hash(bytes: &Bytes) -> EventHash {
    if bytes.len() >= HASH_INLINE_BYTES {
        let shared = bytes.clone();
        if let Ok(hash) = tokio::task::spawn_blocking(move || EventHash::of(&shared)).await {
            return hash;
        }
    }
    EventHash::of(bytes)
}

/// 128 random bits in hexadecimal.
fn random_id() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
