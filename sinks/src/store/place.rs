//! Where evidence is kept, as people write it: a directory, or `s3://bucket/prefix`; and the one way to open it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hoop_schema::Class;

use super::dir::Dir;
use super::{EvidenceStore, StoreError, key};

/// What a place in a bucket begins with.
const SCHEME: &str = "s3://";

/// A place for evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Dir(PathBuf),
    /// A bucket of S3 or of a server that speaks its protocol.
    Bucket(BucketPlace),
}

/// Everything under one prefix of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPlace {
    /// Name of the bucket.
    pub bucket: String,
    /// What all keys of this evidence begin with, without a slash at its ends; empty for the whole bucket.
    pub prefix: String,
}

/// A text that is no place.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no place for evidence: write a directory, or s3://BUCKET/PREFIX")]
pub struct InvalidPlace(String);

/// How a bucket is reached. What is not said here comes from the environment and the files that every tool for AWS
/// reads: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_PROFILE`, `~/.aws`, the roles of a pod or machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// URL of the server, for others than AWS: MinIO, Ceph, R2.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host name; by default where an endpoint is named.
    pub path_style: Option<bool>,
    /// File with credentials, in the form of `~/.aws/credentials`, instead of all other sources.
    pub credentials_file: Option<PathBuf>,
    /// Whether the bucket must have Object Lock, because evidence is to be locked.
    pub object_lock: bool,
    /// How long what is recorded has to stay, by class, and for ever where a class has no term: the probe then looks for
    /// lifecycle rules of the bucket that end it early. `None` for whoever records nothing.
    pub terms: Option<BTreeMap<Class, Duration>>,
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading alone: puts, deletes and holds are refused.
    Read,
    /// Everything.
    Write,
}

/// Opens a place. A directory is created where it is missing and is to be written to; a bucket is not: nothing is sent
/// to it before it is asked something.
///
/// # Errors
/// [`StoreError::Unfit`] when it cannot be opened.
pub async fn open(
    place: &Place,
    access: Access,
    options: &BucketOptions,
) -> Result<Arc<dyn EvidenceStore>, StoreError> {
    match (place, access) {
        (Place::Dir(root), Access::Read) => Ok(Arc::new(Dir::read_only(root)?)),
        (Place::Dir(root), Access::Write) => Ok(Arc::new(Dir::open(root)?)),
        (Place::Bucket(place), access) => open_bucket(place, access, options).await,
    }
}

#[cfg(feature = "s3")]
async fn open_bucket(
    place: &BucketPlace,
    access: Access,
    options: &BucketOptions,
) -> Result<Arc<dyn EvidenceStore>, StoreError> {
    Ok(Arc::new(super::s3::S3::open(place, access, options).await?))
}

#[cfg(not(feature = "s3"))]
async fn open_bucket(
    place: &BucketPlace,
    _: Access,
    _: &BucketOptions,
) -> Result<Arc<dyn EvidenceStore>, StoreError> {
    Err(StoreError::Unfit {
        place: place.to_string(),
        why: "this build is without S3; build it with the feature s3".to_owned(),
    })
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let invalid = || InvalidPlace(text.to_owned());
        let Some(rest) = text.strip_prefix(SCHEME) else {
            // A mistyped scheme must not become a directory of that name.
            if text.is_empty() || text.contains("://") {
                return Err(invalid());
            }
            return Ok(Self::Dir(text.into()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let bucket_fits = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if !bucket_fits || !(prefix.is_empty() || key::check("open", prefix).is_ok()) {
            return Err(invalid());
        }
        Ok(Self::Bucket(BucketPlace {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(root) => write!(f, "{}", root.display()),
            Self::Bucket(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for BucketPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket_with_a_prefix() {
        for (text, bucket, prefix, written) in [
            ("s3://audit", "audit", "", "s3://audit"),
            ("s3://audit/", "audit", "", "s3://audit"),
            (
                "s3://my.audit-1/a/b/",
                "my.audit-1",
                "a/b",
                "s3://my.audit-1/a/b",
            ),
        ] {
            let place: Place = text.parse().unwrap();
            let expected = BucketPlace {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            };
            assert_eq!(place, Place::Bucket(expected));
            assert_eq!(place.to_string(), written);
        }
        assert_eq!("/a/b".parse::<Place>().unwrap(), Place::Dir("/a/b".into()));
        assert_eq!("s3".parse::<Place>().unwrap(), Place::Dir("s3".into()));
    }

    #[test]
    fn what_is_neither_is_said_to_be_neither() {
        for text in [
            "",
            "s3://",
            "s3:///prefix",
            "s3://Bucket/x",
            "s3://audit/a//b",
            "s3://audit/../b",
            "S3://audit",
            "gs://audit/x",
            "https://audit.s3.amazonaws.com/x",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }
}
