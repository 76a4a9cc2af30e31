//! One session among ten million events in a bucket: how many requests, and how many bytes, as the bucket sees them.
//!
//! `cargo bench --workspace --bench lookup -- [EVENTS] [SHARDS] [DAYS]` makes the evidence with the recorder's own code,
//! seals it, puts it into a real MinIO, and asks `hoop-replay show SESSION` for one session of each day: with an empty
//! cache, and again. Between the two stands a proxy that counts. It needs Go for MinIO.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

mod made;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hoop_sinks::store::s3::S3;
use hoop_sinks::store::{Access, BucketOptions, BucketPlace};
use hoop_tests::testbed::{Fault, FaultProxy, Minio, Run};
use made::{Made, Shape, make};
use parking_lot::Mutex;

/// Events when none are asked for.
const EVENTS: u64 = 10_000_000;

/// Shards, as a log on brokers has them by default.
const SHARDS: u64 = 8;

/// Session files of a shard and day: one every five minutes.
const FILES: u64 = 288;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let number = |place: usize, default: u64| {
        arguments
            .get(place)
            .map_or(Ok(default), |text| text.parse())
    };
    let shape = Shape {
        events: number(0, EVENTS)?,
        shards: u32::try_from(number(1, SHARDS)?)?,
        days: u32::try_from(number(2, 1)?)?,
        files: FILES,
    };
    let run = Run::begin()?;
    let minio = Minio::start(&run)?;
    minio.make_bucket("lookup", false)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let began = Instant::now();
    let made = runtime.block_on(fill(&minio, &shape))?;
    println!(
        "{} events in {} objects of {} bytes, made in {:.0} s",
        shape.events,
        made.objects,
        made.bytes,
        began.elapsed().as_secs_f64()
    );
    let proxy = runtime.block_on(FaultProxy::start(minio.address()))?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    proxy.set(move |request| {
        let range = request.headers.get("range");
        let range = range.and_then(|range| range.to_str().ok());
        let range = range.unwrap_or("").to_owned();
        log.lock().push((request.uri.path().to_owned(), range));
        Fault::None
    });
    for session in &made.sessions {
        let cache = tempfile::tempdir()?;
        for what in ["nothing cached", "cached"] {
            seen.lock().clear();
            let began = Instant::now();
            let output = Command::new(env!("CARGO_BIN_EXE_tested-hoop"))
                .args(["replay", "--evidence", "s3://lookup", "--stats"])
                .args(["--s3-endpoint", &proxy.url(), "show", &session.to_string()])
                .env("AWS_SHARED_CREDENTIALS_FILE", minio.root())
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .env("HOOP_REPLAY_CACHE", cache.path())
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{said}");
            let took = began.elapsed();
            let requests = seen.lock().clone();
            let bytes: u64 = requests.iter().filter_map(|(_, range)| length(range)).sum();
            println!(
                "{session} {what}: {} requests, {bytes} bytes = {:.4} %, {} ms; {}",
                requests.len(),
                bytes as f64 / made.bytes as f64 * 100.0,
                took.as_millis(),
                said.trim()
            );
            for (path, range) in requests {
                println!("    {path} {range}");
            }
        }
    }
    Ok(())
}

/// Bytes of `bytes=from-to`.
fn length(range: &str) -> Option<u64> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    (to.parse::<u64>().ok()? + 1).checked_sub(from.parse().ok()?)
}

async fn fill(minio: &Minio, shape: &Shape) -> Result<Made> {
    let place = BucketPlace {
        bucket: "lookup".into(),
        prefix: String::new(),
    };
    let options = BucketOptions {
        endpoint: Some(minio.url()),
        credentials_file: Some(minio.root()),
        ..BucketOptions::default()
    };
    let store = S3::open(&place, Access::Write, &options).await?;
    make(&store, shape)
        .await
        .context("cannot make the evidence")
}
