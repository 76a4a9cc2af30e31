//! Objects in a bucket that others put there, under names of any kind: an audit log that somebody ships, say. Read alone.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;

use super::{PREFIX_BYTES_MAX, S3};
use crate::store::{Access, BucketOptions, BucketPlace, ObjectInfo, StoreError};

/// What such a place begins with.
const SCHEME: &str = "s3://";

/// Objects of others: one, or all below a folder, or all whose key begins so.
///
/// Written `s3://bucket/key`, `s3://bucket/folder` with or without a slash at its end, `s3://bucket/beginning*`, or
/// `s3://bucket` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPlace {
    bucket: String,
    prefix: String,
    /// Whether every key that begins with the prefix is meant, and not only folders and objects of this name.
    any_that_begins_so: bool,
}

/// A text that names no objects of a bucket.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} names no objects: write s3://BUCKET/KEY, s3://BUCKET/FOLDER/ or s3://BUCKET/BEGINNING*"
)]
pub struct InvalidForeignPlace(String);

/// A bucket with objects of others.
#[derive(Debug)]
pub struct ForeignObjects {
    place: ForeignPlace,
    bucket: S3,
}

impl ForeignObjects {
    /// Makes ready to read. Nothing is sent yet.
    ///
    /// # Errors
    /// When the bucket's name leaves no room for keys.
    pub async fn open(place: &ForeignPlace, options: &BucketOptions) -> Result<Self, StoreError> {
        let whole = BucketPlace {
            bucket: place.bucket.clone(),
            prefix: String::new(),
        };
        Ok(Self {
            place: place.clone(),
            bucket: S3::open(&whole, Access::Read, options).await?,
        })
    }

    /// The objects that the place names and that are not empty, in the order of their keys.
    ///
    /// # Errors
    /// When the bucket cannot tell.
    pub async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = self.bucket.read_all_keys(&self.place.prefix, None).await?;
        listed.retain(|object| self.place.holds(&object.key) && object.bytes > 0);
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// The bytes of an object in `range`, clipped to its end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when the bucket cannot tell.
    pub async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.bucket.read_range(key, range).await
    }
}

impl ForeignPlace {
    fn holds(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        let folder = self.prefix.is_empty() || self.prefix.ends_with('/');
        self.any_that_begins_so || folder || rest.is_empty() || rest.starts_with('/')
    }
}

impl FromStr for ForeignPlace {
    type Err = InvalidForeignPlace;

    fn from_str(text: &str) -> Result<Self, InvalidForeignPlace> {
        let invalid = || InvalidForeignPlace(text.to_owned());
        let rest = text.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // The bucket's name has the same rules as one of ours.
        if format!("{SCHEME}{bucket}")
            .parse::<crate::store::Place>()
            .is_err()
        {
            return Err(invalid());
        }
        let beginning = prefix.strip_suffix('*');
        let prefix = beginning.unwrap_or(prefix);
        if prefix.len() > PREFIX_BYTES_MAX || prefix.contains('*') {
            return Err(invalid());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            any_that_begins_so: beginning.is_some(),
        })
    }
}

impl fmt::Display for ForeignPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.any_that_begins_so { "*" } else { "" };
        write!(f, "{SCHEME}{}/{}{star}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_an_object_and_a_folder_and_a_star_means_all_that_begin_so() {
        let holds = |place: &str, key: &str| place.parse::<ForeignPlace>().unwrap().holds(key);
        for (place, key, expected) in [
            ("s3://logs/audit", "audit", true),
            ("s3://logs/audit", "audit/2026/a b.gz", true),
            ("s3://logs/audit", "audit-other/x", false),
            ("s3://logs/audit/", "audit/x", true),
            ("s3://logs/audit/", "audit", false),
            ("s3://logs/audit/2026-11*", "audit/2026-11-22.log", true),
            ("s3://logs/audit/2026-11*", "audit/2026-12-01.log", false),
            ("s3://logs", "anything/at all", true),
            ("s3://logs/", "x", true),
        ] {
            assert_eq!(holds(place, key), expected, "{place} {key}");
        }
    }

    #[test]
    fn what_names_no_objects_is_said_to_name_none() {
        for text in [
            "",
            "logs/x",
            "s3://",
            "s3:///x",
            "s3://Logs/x",
            "s3://logs/a*b",
            "gs://logs/x",
        ] {
            assert!(text.parse::<ForeignPlace>().is_err(), "{text:?}");
        }
    }
}
