//! Deleting: every version of a name, the one that shows last.

use super::failure::{Failure, Meaning};
use super::{S3, not_found, refused, unknown};
use crate::store::StoreError;

/// One version of a name: its bytes, or a marker that says that it was deleted.
struct Version {
    id: Option<String>,
    is_latest: bool,
    is_marker: bool,
}

impl S3 {
    /// Deletes all versions. The one that shows goes last: were it the first, an older one would show in its place, if
    /// this is broken off.
    pub(super) async fn delete_all_versions(&self, key: &str) -> Result<(), StoreError> {
        let mut versions = match self.versions(key).await {
            Ok(versions) => versions,
            Err(failure) if failure.meaning == Meaning::NotImplemented => {
                self.head_object(key)
                    .await
                    .map_err(|f| delete_error(key, f))?;
                vec![Version {
                    id: None,
                    is_latest: true,
                    is_marker: false,
                }]
            }
            Err(failure) => return Err(refused("delete", key, failure)),
        };
        if !versions.iter().any(|v| v.is_latest && !v.is_marker) {
            return Err(not_found(key));
        }
        versions.sort_by_key(|version| version.is_latest);
        for version in versions {
            self.delete_version(key, version.id)
                .await
                .map_err(|failure| delete_error(key, failure))?;
        }
        Ok(())
    }

    /// Deletes all versions of every name that begins with `prefix`, also of those that show none; returns how many names
    /// there were.
    pub(super) async fn destroy_all_versions(&self, prefix: &str) -> Result<u64, StoreError> {
        let failed = |failure| delete_error(prefix, failure);
        let found = match self.versions_below(&self.full_key(prefix), false).await {
            Ok(found) => found,
            // A server without versions shows all that it has.
            Err(failure) if failure.meaning == Meaning::NotImplemented => {
                let listed = self.read_list(prefix, None).await?;
                for object in &listed {
                    let deleted = self.delete_version(&object.key, None).await;
                    deleted.map_err(failed)?;
                }
                return Ok(listed.len() as u64);
            }
            Err(failure) => return Err(failed(failure)),
        };
        let names: std::collections::BTreeSet<String> =
            found.iter().map(|(name, _)| name.clone()).collect();
        for (name, version) in found {
            let Some(key) = self.own_key(&name) else {
                continue;
            };
            let deleted = self.delete_version(key, version.id).await;
            deleted.map_err(|failure| delete_error(key, failure))?;
        }
        Ok(names.len() as u64)
    }

    pub(super) async fn delete_version(
        &self,
        key: &str,
        id: Option<String>,
    ) -> Result<(), Failure> {
        self.connection
            .ask(|client| {
                client
                    .delete_object()
                    .bucket(&self.place.bucket)
                    .key(self.full_key(key))
                    .set_version_id(id.clone())
                    .send()
            })
            .await
            .map(drop)
    }

    /// All versions of one name.
    async fn versions(&self, key: &str) -> Result<Vec<Version>, Failure> {
        let name = self.full_key(key);
        let found = self.versions_below(&name, true).await?.into_iter();
        let own = found.filter(|(found, _)| *found == name);
        Ok(own.map(|(_, version)| version).collect())
    }

    /// All versions of all names that begin with `name`, each with its name in the bucket; of `name` `alone`, and perhaps a
    /// few others, if only those are wanted.
    async fn versions_below(
        &self,
        name: &str,
        alone: bool,
    ) -> Result<Vec<(String, Version)>, Failure> {
        let mut found = Vec::new();
        let mut next: (Option<String>, Option<String>) = (None, None);
        loop {
            let page = self
                .connection
                .ask(|client| {
                    client
                        .list_object_versions()
                        .bucket(&self.place.bucket)
                        .prefix(name)
                        .set_key_marker(next.0.clone())
                        .set_version_id_marker(next.1.clone())
                        .send()
                })
                .await?;
            found.extend(page.versions().iter().filter_map(|v| {
                let version = Version {
                    id: v.version_id().map(str::to_owned),
                    is_latest: v.is_latest() == Some(true),
                    is_marker: false,
                };
                Some((v.key()?.to_owned(), version))
            }));
            found.extend(page.delete_markers().iter().filter_map(|m| {
                let version = Version {
                    id: m.version_id().map(str::to_owned),
                    is_latest: m.is_latest() == Some(true),
                    is_marker: true,
                };
                Some((m.key()?.to_owned(), version))
            }));
            let after = (
                page.next_key_marker().map(str::to_owned),
                page.next_version_id_marker().map(str::to_owned),
            );
            // Behind the name come others that begin with it.
            let passed = alone && after.0.as_deref().is_none_or(|key| key > name);
            if page.is_truncated() != Some(true) || passed || after == next {
                return Ok(found);
            }
            next = after;
        }
    }
}

fn delete_error(key: &str, failure: Failure) -> StoreError {
    match failure.meaning {
        Meaning::NotFound => not_found(key),
        Meaning::Unclear => unknown("delete", key, failure),
        _ => refused("delete", key, failure),
    }
}
