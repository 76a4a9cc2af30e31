//! Looking for one session in a bucket: how often the bucket is asked, and what the local cache is good for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{Answer, Fault, FaultProxy, Minio, Need};
use parking_lot::Mutex;

use super::{Bucket, block_on};
use crate::harness::{Test, minio, tests};
use crate::pipeline::hoop;

#[path = "../../../benches/lookup/made.rs"]
mod made;

/// Large enough that of a sealed object only parts are read.
const SHAPE: made::Shape = made::Shape {
    events: 16_000,
    shards: 4,
    days: 1,
    files: 4,
};

/// Of which four are listings.
const REQUESTS_MAX: usize = 10;

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Minio];
        a_session_of_a_sealed_day_is_found_with_few_requests_and_kept_in_the_cache,
    ]
}

/// The evidence behind a proxy that writes down what is asked for.
struct Counted {
    place: String,
    proxy: FaultProxy,
    asked: Arc<Mutex<Vec<String>>>,
    minio: Arc<Minio>,
}

impl Counted {
    async fn start(minio: Arc<Minio>, bed: &Bucket) -> Result<Self> {
        let proxy = FaultProxy::start(minio.address()).await?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        proxy.set(move |request| {
            log.lock().push(request.uri.path().to_owned());
            Fault::None
        });
        Ok(Self {
            place: bed.place.to_string(),
            proxy,
            asked,
            minio,
        })
    }

    /// Runs `hoop-replay` with this cache; returns what it said and how many requests it took.
    fn replay(&self, cache: &Path, arguments: &[&str]) -> Result<(Answer, usize)> {
        self.asked.lock().clear();
        let mut command = hoop();
        command
            .args(["replay", "--evidence", &self.place])
            .args(["--s3-endpoint", &self.proxy.url()])
            .args(arguments)
            .env("AWS_SHARED_CREDENTIALS_FILE", self.minio.root())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOOP_REPLAY_CACHE", cache);
        let answer = Answer::of(&mut command, "")?;
        let requests = self.asked.lock().len();
        Ok((answer, requests))
    }

    /// How many of the requests of the last run were for sealed objects.
    fn of_sealed_objects(&self) -> usize {
        let asked = self.asked.lock();
        asked
            .iter()
            .filter(|path| path.contains("/sealed/"))
            .count()
    }
}

fn a_session_of_a_sealed_day_is_found_with_few_requests_and_kept_in_the_cache() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    let made = block_on(async { made::make(&bed.open().await?, &SHAPE).await })?;
    let session = made.sessions.first().context("a session")?.to_string();
    // The proxy has to run while the program does.
    let runtime = tokio::runtime::Runtime::new()?;
    let counted = runtime.block_on(Counted::start(minio, &bed))?;
    let cache = tempfile::tempdir()?;

    let show = ["show", &session, "--bodies"];
    let (first, requests) = counted.replay(cache.path(), &show)?;
    let shown = first.expect_success()?;
    ensure!(requests <= REQUESTS_MAX, "{requests}: {:?}", counted.asked);
    ensure!(shown.contains("requests"), "{shown}");
    // By its first digits alone, every shard has to be asked, and the answer is the same.
    let prefix = ["show", &session[..12], "--bodies", "--no-cache"];
    let (by_prefix, more) = counted.replay(cache.path(), &prefix)?;
    ensure!(by_prefix.expect_success()? == shown, "another answer");
    ensure!(more > requests, "{more} requests");

    // What was read once is not asked for again.
    let (again, listings) = counted.replay(cache.path(), &show)?;
    ensure!(again.expect_success()? == shown, "another answer");
    ensure!(listings == 4, "{:?}", counted.asked);
    // Whatever becomes of the cache, the answer is the same.
    for entry in std::fs::read_dir(cache.path())? {
        let path = entry?.path();
        let mut bytes = std::fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes)?;
    }
    let (damaged, read_again) = counted.replay(cache.path(), &show)?;
    ensure!(damaged.expect_success()? == shown, "another answer");
    ensure!(read_again == requests, "{read_again} and not {requests}");

    // A proof is of what lies in the bucket.
    let (listed, _) = counted.replay(cache.path(), &["list", "-o", "json"])?;
    listed.expect_success()?;
    let (verified, _) = counted.replay(cache.path(), &["verify"])?;
    // The generator ends in the middle of things, but nothing is altered.
    ensure!(matches!(verified.code, Some(0 | 2)), "{verified:?}");
    let objects = SHAPE.shards as usize;
    ensure!(
        counted.of_sealed_objects() >= objects,
        "{:?}",
        counted.asked
    );

    let none = tempfile::tempdir()?;
    let uncached = [&show[..], &["--no-cache"]].concat();
    let (_, _) = counted.replay(none.path(), &uncached)?;
    ensure!(std::fs::read_dir(none.path())?.next().is_none(), "cached");
    Ok(())
}
