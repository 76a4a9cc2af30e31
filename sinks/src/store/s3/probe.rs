//! The probe: does this bucket keep evidence, and does it keep it from those who record it.
//!
//! It puts `probe/v1/create-only` twice, under other bytes, and expects to be refused: the object stays for ever, so that
//! no right to delete is needed. Then it asks for Object Lock, versions and lifecycle rules, and tries to delete a name that never was,
//! `probe/v1/never-created`: an identity that may not delete is told so before anything else, and one that may has
//! deleted nothing, at worst with a marker of that name.

use aws_sdk_s3::types::BucketVersioningStatus;
use bytes::Bytes;

use super::S3;
use super::failure::{Failure, Meaning, chain};
use crate::store::{CreateOptions, Created, EvidenceStore, StoreError};

const CREATE_ONLY: &str = "probe/v1/create-only";
pub(super) const NEVER_CREATED: &str = "probe/v1/never-created";

/// A tag that no object has.
const NO_TAG: &str = "\"00000000000000000000000000000000\"";

impl S3 {
    pub(super) async fn probe_bucket(&self) -> Result<Vec<String>, StoreError> {
        self.probe_create_only().await?;
        self.probe_reading().await?;
        let mut odd = Vec::new();
        self.probe_locks(&mut odd).await?;
        self.probe_versions(&mut odd).await?;
        self.probe_deleting(&mut odd).await;
        self.probe_lifecycle(&mut odd).await;
        Ok(odd)
    }

    async fn probe_create_only(&self) -> Result<(), StoreError> {
        let (mut answers, options) = (Vec::new(), CreateOptions::default());
        for bytes in [&b"first"[..], b"second"] {
            let put = self
                .create(CREATE_ONLY, Bytes::from_static(bytes), &options)
                .await;
            answers.push(put.map_err(|e| {
                self.unfit(format!(
                    "cannot create objects ({}); see which rights it takes with `hoop store policy`",
                    chain(&e)
                ))
            })?);
        }
        let kept = self
            .get(CREATE_ONLY, 0..u64::MAX)
            .await
            .map_err(|e| self.unfit(format!("cannot read objects ({})", chain(&e))))?;
        if answers[1] != Created::Exists || kept != b"first"[..] {
            return Err(self.unfit(
                "a second put of one name was not refused, so the server ignores If-None-Match and two recorders would overwrite each other; use a server that knows conditional writes".to_owned(),
            ));
        }
        Ok(())
    }

    async fn probe_reading(&self) -> Result<(), StoreError> {
        let listed = self
            .list(CREATE_ONLY, None)
            .await
            .map_err(|e| self.unfit(format!("cannot list objects ({})", chain(&e))))?;
        if listed.iter().any(|object| object.key == CREATE_ONLY) {
            return Ok(());
        }
        Err(self.unfit(
            "an object that is there is not listed; use a server whose listings are never late"
                .to_owned(),
        ))
    }

    async fn probe_locks(&self, odd: &mut Vec<String>) -> Result<(), StoreError> {
        match self.ask_bucket_locks().await {
            Ok(true) => Ok(()),
            Ok(false) if self.wants_locks => Err(self.unfit(
                "it has no Object Lock, which the retention modes governance and compliance need; create the bucket with Object Lock, or set evidence.object_lock to false"
                    .to_owned(),
            )),
            Ok(false) => {
                odd.push(format!(
                    "{} has no Object Lock: whoever may delete from it can remove evidence for good",
                    self.place
                ));
                Ok(())
            }
            Err(failure) if self.wants_locks => Err(self.unfit(format!(
                "cannot tell whether it has Object Lock ({failure}); allow s3:GetBucketObjectLockConfiguration"
            ))),
            Err(failure) => {
                odd.push(format!(
                    "cannot tell whether {} has Object Lock: {failure}",
                    self.place
                ));
                Ok(())
            }
        }
    }

    async fn probe_versions(&self, odd: &mut Vec<String>) -> Result<(), StoreError> {
        let answer = self
            .connection
            .ask(|client| {
                client
                    .get_bucket_versioning()
                    .bucket(&self.place.bucket)
                    .send()
            })
            .await;
        match answer {
            Ok(found) if found.status() == Some(&BucketVersioningStatus::Suspended) => {
                Err(self.unfit(
                    "its versioning is suspended, so a delete destroys what older versions kept; switch versioning on"
                        .to_owned(),
                ))
            }
            Ok(_) => Ok(()),
            Err(failure) if failure.meaning == Meaning::NotImplemented => Ok(()),
            Err(failure) => {
                odd.push(format!("cannot tell whether {} keeps versions: {failure}", self.place));
                Ok(())
            }
        }
    }

    async fn probe_deleting(&self, odd: &mut Vec<String>) {
        match self.ask_may_delete().await {
            Ok(false) => {}
            Ok(true) => odd.push(format!(
                "this identity may delete from {}, and who records should not; take s3:DeleteObject and s3:DeleteObjectVersion from it, as `hoop store policy` does",
                self.place
            )),
            Err(failure) => odd.push(format!(
                "cannot tell whether this identity may delete from {}: {failure}",
                self.place
            )),
        }
    }

    /// Deletes a name that never was: the answer says whether it would have been allowed.
    pub(super) async fn ask_may_delete(&self) -> Result<bool, Failure> {
        let answer = self
            .connection
            .ask(|client| {
                client
                    .delete_object()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(NEVER_CREATED))
                    // Where the server knows it, the delete does not even leave a marker.
                    .if_match(NO_TAG)
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_denied() => Ok(false),
            Err(failure) if matches!(failure.meaning, Meaning::Condition | Meaning::NotFound) => {
                Ok(true)
            }
            Err(failure) => Err(failure),
        }
    }

    fn unfit(&self, why: String) -> StoreError {
        StoreError::Unfit {
            place: self.place.to_string(),
            why,
        }
    }
}
