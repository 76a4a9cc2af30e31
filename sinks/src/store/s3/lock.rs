//! Object Lock: what keeps an object from being deleted, asked and set.

use aws_sdk_s3::types::{
    ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetentionMode,
};

use super::failure::{Failure, Meaning};
use super::read::time;
use super::{S3, not_found, refused, unknown};
use crate::store::{LockMode, Protection, Retention, StoreError};

/// What S3 answers when a bucket or an object has no lock of the kind that was asked for.
const NO_LOCK: [&str; 2] = [
    "ObjectLockConfigurationNotFoundError",
    "NoSuchObjectLockConfiguration",
];

impl S3 {
    /// Whether the bucket has Object Lock.
    pub(super) async fn bucket_locks(&self) -> Result<bool, StoreError> {
        if self.locks.initialized() {
            return Ok(true);
        }
        let locks = self
            .ask_bucket_locks()
            .await
            .map_err(|failure| refused("locks", "", failure))?;
        if locks {
            self.locks.get_or_init(|| async {}).await;
        }
        Ok(locks)
    }

    pub(super) async fn ask_bucket_locks(&self) -> Result<bool, Failure> {
        let answer = self
            .connection
            .ask(|client| {
                client
                    .get_object_lock_configuration()
                    .bucket(&self.place.bucket)
                    .send()
            })
            .await;
        match answer {
            Ok(found) => Ok(found
                .object_lock_configuration()
                .and_then(|found| found.object_lock_enabled())
                == Some(&ObjectLockEnabled::Enabled)),
            Err(failure) if has_no_lock(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn read_protection(&self, key: &str) -> Result<Protection, StoreError> {
        if !self.bucket_locks().await? {
            let found = self.head_object(key).await;
            return match found {
                Ok(_) => Ok(Protection::default()),
                Err(failure) => Err(lock_error("protection", key, failure)),
            };
        }
        Ok(Protection {
            retention: self.retention(key).await?,
            held: self.held(key).await?,
        })
    }

    async fn retention(&self, key: &str) -> Result<Option<Retention>, StoreError> {
        let answer = self
            .connection
            .ask(|client| {
                client
                    .get_object_retention()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(key))
                    .send()
            })
            .await;
        let found = match answer {
            Ok(found) => found,
            Err(failure) if has_no_lock(&failure) => return Ok(None),
            Err(failure) => return Err(lock_error("protection", key, failure)),
        };
        let Some(found) = found.retention() else {
            return Ok(None);
        };
        let mode = match found.mode() {
            None => return Ok(None),
            Some(ObjectLockRetentionMode::Governance) => LockMode::Governance,
            // A mode that is not known yet is none that can be ended early.
            Some(_) => LockMode::Compliance,
        };
        let until = found.retain_until_date().map(time);
        Ok(until.map(|until| Retention { mode, until }))
    }

    async fn held(&self, key: &str) -> Result<bool, StoreError> {
        let answer = self
            .connection
            .ask(|client| {
                client
                    .get_object_legal_hold()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(key))
                    .send()
            })
            .await;
        match answer {
            Ok(found) => Ok(found.legal_hold().and_then(|hold| hold.status())
                == Some(&ObjectLockLegalHoldStatus::On)),
            Err(failure) if has_no_lock(&failure) => Ok(false),
            Err(failure) => Err(lock_error("protection", key, failure)),
        }
    }

    pub(super) async fn set_hold(&self, key: &str, held: bool) -> Result<(), StoreError> {
        if !self.bucket_locks().await? {
            self.read_protection(key).await?;
            return Err(self.cannot_lock("a legal hold"));
        }
        let status = if held {
            ObjectLockLegalHoldStatus::On
        } else {
            ObjectLockLegalHoldStatus::Off
        };
        let answer = self
            .connection
            .ask(|client| {
                client
                    .put_object_legal_hold()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(key))
                    .legal_hold(
                        ObjectLockLegalHold::builder()
                            .status(status.clone())
                            .build(),
                    )
                    .send()
            })
            .await;
        answer.map(drop).map_err(|failure| match failure.meaning {
            Meaning::Unclear => unknown("hold", key, failure),
            _ => lock_error("hold", key, failure),
        })
    }

    pub(super) fn cannot_lock(&self, what: &'static str) -> StoreError {
        StoreError::CannotLock {
            place: self.place.to_string(),
            what,
        }
    }
}

fn has_no_lock(failure: &Failure) -> bool {
    NO_LOCK.iter().any(|code| failure.is(code)) || failure.meaning == Meaning::NotImplemented
}

fn lock_error(operation: &'static str, key: &str, failure: Failure) -> StoreError {
    match failure.meaning {
        Meaning::NotFound => not_found(key),
        _ => refused(operation, key, failure),
    }
}
