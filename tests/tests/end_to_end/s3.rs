//! Evidence in a bucket: the store against its suite and beyond on a real MinIO, behind a bad line, under the rights
//! that its roles get; and the whole pipeline on it.

mod faults;
mod holds;
mod lookup;
mod pipeline;
mod rights;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hoop_sinks::store::s3::S3;
use hoop_sinks::store::{
    Access, BucketOptions, BucketPlace, CreateOptions, Created, EvidenceStore, StoreError,
    conformance,
};
use hoop_tests::testbed::{Minio, Need};

use crate::harness::{Test, minio, tests};

/// Objects of a listing that takes more than one page, of a thousand keys each.
const MANY: usize = 1005;

/// Puts at once.
const AT_ONCE: usize = 16;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Minio];
        a_listing_has_as_many_pages_as_it_takes,
        what_others_put_under_the_prefix_is_not_listed,
        a_hash_that_nobody_kept_is_computed,
        after_a_plain_delete_a_name_is_free_and_delete_removes_all_versions,
        what_is_destroyed_leaves_no_version_behind,
        two_installations_share_a_bucket,
        a_bucket_without_object_lock_is_unfit_when_it_must_have_it,
        a_bucket_with_suspended_versions_is_unfit,
        a_bucket_that_is_not_there_is_said,
    ];
    tests.extend(suite());
    tests.extend(faults::tests());
    tests.extend(rights::tests());
    tests.extend(holds::tests());
    tests.extend(lookup::tests());
    tests.extend(pipeline::tests());
    tests
}

/// One test per promise of every store, in a bucket with Object Lock and in one without.
macro_rules! in_both_buckets {
    ($($promise:ident),*) => {
        mod with_locks {
            $(pub(super) fn $promise() -> anyhow::Result<()> {
                super::promised(true, stringify!($promise), |store, at| async move {
                    super::conformance::$promise(store, &at).await;
                })
            })*
        }
        mod without_locks {
            $(pub(super) fn $promise() -> anyhow::Result<()> {
                super::promised(false, stringify!($promise), |store, at| async move {
                    super::conformance::$promise(store, &at).await;
                })
            })*
        }
        fn suite() -> Vec<Test> {
            vec![
                $(Test::new(
                    concat!("s3::with_locks::", stringify!($promise)),
                    &[Need::Minio],
                    with_locks::$promise,
                ),
                Test::new(
                    concat!("s3::without_locks::", stringify!($promise)),
                    &[Need::Minio],
                    without_locks::$promise,
                ),)*
            ]
        }
    };
}

hoop_sinks::evidence_store_conformance!(each in_both_buckets);

/// Runs one function of the suite in a prefix of its own.
fn promised<F: Future<Output = ()>>(
    locks: bool,
    name: &str,
    keep: impl FnOnce(Arc<dyn EvidenceStore>, String) -> F,
) -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, locks)?;
    block_on(async {
        keep(Arc::new(bed.open().await?), format!("conformance/{name}/")).await;
        Ok(())
    })
}

/// A bucket of one test.
struct Bucket {
    place: BucketPlace,
    options: BucketOptions,
}

impl Bucket {
    fn make(minio: &Minio, locks: bool) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let bucket = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        minio.make_bucket(&bucket, locks)?;
        Ok(Self {
            place: BucketPlace {
                bucket,
                prefix: "audit/prod".to_owned(),
            },
            options: BucketOptions {
                endpoint: Some(minio.url()),
                credentials_file: Some(minio.root()),
                ..BucketOptions::default()
            },
        })
    }

    async fn open(&self) -> Result<S3> {
        Ok(S3::open(&self.place, Access::Write, &self.options).await?)
    }

    /// Opens it as somebody else, or by another way.
    async fn open_with(&self, endpoint: Option<String>, credentials: PathBuf) -> Result<S3> {
        let options = BucketOptions {
            endpoint: endpoint.or_else(|| self.options.endpoint.clone()),
            credentials_file: Some(credentials),
            ..self.options.clone()
        };
        Ok(S3::open(&self.place, Access::Write, &options).await?)
    }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(future)
}

async fn put(store: &S3, key: &str, bytes: &[u8]) -> Result<Created, StoreError> {
    let options = CreateOptions::default();
    store
        .create(key, Bytes::copy_from_slice(bytes), &options)
        .await
}

fn a_listing_has_as_many_pages_as_it_takes() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    block_on(async {
        let store = Arc::new(bed.open().await?);
        let mut tasks = tokio::task::JoinSet::new();
        for first in 0..AT_ONCE {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for i in (first..MANY).step_by(AT_ONCE) {
                    put(&store, &format!("a/{i:05}"), b"x").await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        let all = store.list("a/", None).await?;
        ensure!(all.len() == MANY, "{} listed", all.len());
        ensure!(all.windows(2).all(|w| w[0].key < w[1].key), "in order");
        let rest = store.list("a/", Some("a/00001")).await?;
        ensure!(rest.len() == MANY - 2 && rest[0].key == "a/00002");
        Ok(())
    })
}

fn what_others_put_under_the_prefix_is_not_listed() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    block_on(async {
        let store = bed.open().await?;
        put(&store, "a/b", b"x").await?;
        for key in [
            "audit/prod/a/c d",
            "audit/production/a/e",
            "audit/prod/f%20",
        ] {
            let foreign = minio.client().put_object();
            foreign.bucket(&bed.place.bucket).key(key).send().await?;
        }
        let keys: Vec<_> = store
            .list("", None)
            .await?
            .into_iter()
            .map(|o| o.key)
            .collect();
        ensure!(keys == ["a/b"], "{keys:?}");
        Ok(())
    })
}

fn a_hash_that_nobody_kept_is_computed() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    block_on(async {
        let bytes: Vec<u8> = (0..20_000_000u32).map(|i| (i % 249) as u8).collect();
        let foreign = minio.client().put_object().bucket(&bed.place.bucket);
        foreign
            .key("audit/prod/a")
            .body(bytes.clone().into())
            .send()
            .await?;
        let head = bed.open().await?.head("a").await?.context("it is there")?;
        ensure!(head.bytes == bytes.len() as u64);
        ensure!(head.sha256 == hoop_schema::EventHash::of(&bytes));
        Ok(())
    })
}

/// S3 takes a name for free when a delete marker is its newest version. So whoever may delete may let a name be
/// committed twice: the bytes of both are there, and the retention role's delete removes both.
fn after_a_plain_delete_a_name_is_free_and_delete_removes_all_versions() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    block_on(async {
        let store = bed.open().await?;
        let client = minio.client();
        ensure!(put(&store, "a", b"first").await? == Created::Created);
        let plain = client.delete_object().bucket(&bed.place.bucket);
        plain.key("audit/prod/a").send().await?;
        ensure!(store.head("a").await?.is_none(), "it is hidden");
        ensure!(put(&store, "a", b"second").await? == Created::Created);
        let versions = async || {
            let list = client.list_object_versions().bucket(&bed.place.bucket);
            let list = list.prefix("audit/prod/a").send().await?;
            anyhow::Ok((list.versions().len(), list.delete_markers().len()))
        };
        ensure!(versions().await? == (2, 1), "{:?}", versions().await?);
        store.delete("a").await?;
        ensure!(versions().await? == (0, 0), "{:?}", versions().await?);
        let again = store.delete("a").await;
        ensure!(
            matches!(again, Err(StoreError::NotFound { .. })),
            "{again:?}"
        );
        Ok(())
    })
}

/// A key that somebody deleted in the usual way could be brought back: erasing takes it with all its versions.
fn what_is_destroyed_leaves_no_version_behind() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    block_on(async {
        let store = bed.open().await?;
        let client = minio.client();
        for key in ["keys/v1/a/1", "keys/v1/a/2", "keys/v1/b/1"] {
            ensure!(put(&store, key, b"x").await? == Created::Created);
        }
        let hide = client.delete_object().bucket(&bed.place.bucket);
        hide.key("audit/prod/keys/v1/a/1").send().await?;
        ensure!(store.list("keys/v1/a/", None).await?.len() == 1);
        ensure!(store.destroy("keys/v1/a/").await? == 2);
        ensure!(store.destroy("keys/v1/a/").await? == 0);
        let list = client.list_object_versions().bucket(&bed.place.bucket);
        let left = list.prefix("audit/prod/keys/").send().await?;
        let names: Vec<_> = left.versions().iter().map(|v| v.key()).collect();
        ensure!(names == [Some("audit/prod/keys/v1/b/1")], "{names:?}");
        ensure!(left.delete_markers().is_empty(), "{left:?}");
        Ok(())
    })
}

fn two_installations_share_a_bucket() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    block_on(async {
        let mut stores = Vec::new();
        for prefix in ["", "a", "a/b"] {
            let place = BucketPlace {
                prefix: prefix.to_owned(),
                ..bed.place.clone()
            };
            stores.push(S3::open(&place, Access::Write, &bed.options).await?);
        }
        for store in &stores {
            ensure!(put(store, "x", store.place().as_bytes()).await? == Created::Created);
        }
        for store in &stores {
            ensure!(store.get("x", 0..99).await? == store.place());
        }
        ensure!(stores[2].list("", None).await?.len() == 1);
        Ok(())
    })
}

fn a_bucket_without_object_lock_is_unfit_when_it_must_have_it() -> Result<()> {
    let minio = minio()?;
    let mut bed = Bucket::make(&minio, false)?;
    block_on(async {
        let odd = bed.open().await?.probe().await?;
        ensure!(odd.iter().any(|o| o.contains("no Object Lock")), "{odd:?}");
        bed.options.object_lock = true;
        expect_unfit(
            bed.open().await?.probe().await,
            "create the bucket with Object Lock",
        )
    })
}

fn a_bucket_with_suspended_versions_is_unfit() -> Result<()> {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    block_on(async {
        for status in [
            BucketVersioningStatus::Enabled,
            BucketVersioningStatus::Suspended,
        ] {
            let suspended = VersioningConfiguration::builder().status(status).build();
            let put = minio.client().put_bucket_versioning();
            put.bucket(&bed.place.bucket)
                .versioning_configuration(suspended)
                .send()
                .await?;
        }
        expect_unfit(bed.open().await?.probe().await, "switch versioning on")
    })
}

fn a_bucket_that_is_not_there_is_said() -> Result<()> {
    let minio = minio()?;
    let mut bed = Bucket::make(&minio, false)?;
    bed.place.bucket = "never-made".to_owned();
    block_on(async {
        let store = bed.open().await?;
        expect_unfit(store.probe().await, "NoSuchBucket")?;
        let answer = put(&store, "a", b"x").await;
        ensure!(
            matches!(answer, Err(StoreError::Refused { .. })),
            "{answer:?}"
        );
        Ok(())
    })
}

fn expect_unfit(probed: Result<Vec<String>, StoreError>, why: &str) -> Result<()> {
    match probed {
        Err(error @ StoreError::Unfit { .. }) => {
            ensure!(error.to_string().contains(why), "{error}");
            Ok(())
        }
        other => anyhow::bail!("it is not unfit: {other:?}"),
    }
}

/// An error with all its causes.
fn whole(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
