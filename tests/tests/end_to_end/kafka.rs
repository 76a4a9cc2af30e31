//! The event log on a real Kafka: every promise of the log, and what brokers do to it.

mod failures;
mod load;
mod rights;
mod topics;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::Position;
use hoop_sinks::log::conformance::{self, Backend, Log, Test as Sentence};
use hoop_sinks::log::kafka::{KafkaReader, KafkaWriter, Options};
use hoop_tests::testbed::{Kafka, Need};

use crate::harness::{self, Test, tests};

/// A sentence that no broker can hold: its retention knows nothing of what is recorded. The trait says so.
const NOT_OF_A_BROKER: &str = "what_is_not_committed_is_kept";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Kafka]; every_promise_of_the_log_holds];
    tests.extend(topics::tests());
    tests.extend(rights::tests());
    tests.extend(failures::tests());
    tests
}

/// Names clusters, so that every test has topics of its own.
static CLUSTERS: AtomicU32 = AtomicU32::new(1);

/// Options for a log of its own with two shards, on brokers without security.
pub(crate) fn options(brokers: Vec<String>) -> Options {
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let copies = NonZeroU32::new(if brokers.len() >= 3 { 3 } else { 1 }).expect("not zero");
    let mut options = Options::new(brokers, format!("c{number}"));
    options.shards = NonZeroU32::new(conformance::SHARDS).expect("not zero");
    options.replicas = copies;
    options.in_sync_replicas_min = NonZeroU32::new(copies.get().min(2)).expect("not zero");
    options
}

/// Runs a test on a runtime of its own.
pub(crate) fn block_on(test: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(test);
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

struct OnKafka {
    kafka: Arc<Kafka>,
    options: Options,
    small: Options,
}

impl OnKafka {
    fn new(kafka: Arc<Kafka>) -> Self {
        let mut small = options(kafka.plain());
        // Far less than the suite may use, so that appends are faster than any broker.
        small.record_bytes_max = 100_000;
        small.in_flight_bytes_max = 256 << 10;
        Self {
            options: options(kafka.plain()),
            small,
            kafka,
        }
    }
}

#[async_trait]
impl Backend for OnKafka {
    async fn open(&self) -> Log {
        open(&self.options).await
    }

    async fn open_small(&self) -> Log {
        open(&self.small).await
    }

    /// Drops what is held of a shard, as retention does when its time has come.
    async fn make_room(&self, log: &Log, shard: Shard) {
        let bounds = log.reader.bounds(shard).await.expect("can be asked");
        let kafka = Arc::clone(&self.kafka);
        let topic = self.small.topic(log.reader.class());
        let dropped =
            tokio::task::spawn_blocking(move || drop_before(&kafka, &topic, shard, bounds.next));
        dropped
            .await
            .expect("does not panic")
            .expect("records are dropped");
    }
}

async fn open(options: &Options) -> Log {
    let writer = KafkaWriter::open(Class::standard(), options.clone()).await;
    let reader = KafkaReader::open(Class::standard(), options.clone()).await;
    Log {
        writer: Arc::new(writer.unwrap_or_else(|e| panic!("no writer: {e}"))),
        reader: Arc::new(reader.unwrap_or_else(|e| panic!("no reader: {e}"))),
    }
}

fn drop_before(kafka: &Kafka, topic: &str, shard: Shard, position: Position) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let what = format!(
        r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":{},"offset":{position}}}]}}"#,
        shard.0
    );
    std::fs::write(file.path(), what)?;
    let command = format!(
        "kafka-delete-records.sh --bootstrap-server {} --offset-json-file {}",
        kafka.plain().join(","),
        file.path().display()
    );
    kafka.tool(&command)?.expect_success()?;
    Ok(())
}

fn every_promise_of_the_log_holds() -> Result<()> {
    let kafka = harness::kafka()?;
    let sentences: [(&str, Sentence<OnKafka>); 22] = hoop_sinks::log_conformance!(list of OnKafka);
    let mut failed = Vec::new();
    for (name, sentence) in sentences {
        if name == NOT_OF_A_BROKER {
            continue;
        }
        let backend = OnKafka::new(Arc::clone(&kafka));
        let held = block_on(async move {
            let held = tokio::spawn(async move { sentence(&backend).await }).await;
            Ok(held?)
        });
        if let Err(error) = held {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
