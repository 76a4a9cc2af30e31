//! A few minutes of everything going wrong at once, on each broker.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use hoop_tests::chaos::{self, BrokerKind, Options, PlaceKind, Progress};
use hoop_tests::testbed::Need;

use crate::harness::{Test, tests, this_run};

/// For how long.
const TIME: Duration = Duration::from_secs(300);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Kafka, Need::Minio];
        with_kafka_and_a_bucket_every_promise_is_kept,
    ];
    tests.extend(tests![&[Need::Nats, Need::Minio];
        with_nats_and_a_bucket_every_promise_is_kept,
    ]);
    tests
}

fn with_kafka_and_a_bucket_every_promise_is_kept() -> Result<()> {
    every_promise_is_kept(BrokerKind::Kafka)
}

fn with_nats_and_a_bucket_every_promise_is_kept() -> Result<()> {
    every_promise_is_kept(BrokerKind::Nats)
}

fn every_promise_is_kept(log: BrokerKind) -> Result<()> {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let options = Options {
        time: TIME,
        log,
        store: PlaceKind::S3,
        seed: u64::try_from(seed.as_micros())?,
        hoop: (PathBuf::from(env!("CARGO_BIN_EXE_tested-hoop")), Vec::new()),
    };
    let silent = |_: Progress<'_>| {};
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(chaos::run_in(&options, &this_run()?, &silent))?;
    ensure!(report.is_good(), "{report}");
    // A comparison of nothing with nothing proves nothing.
    let verdict = &report.verdict;
    ensure!(verdict.answered > 1000 && verdict.files > 10, "{report}");
    Ok(())
}
