//! From Kafka into a bucket: a recorder that was away catches up with a backlog, and then stays fresh under a steady
//! load. `cargo bench --workspace --bench backlog -- [EVENTS] [SECONDS]` needs Java,
//! Maven and Go, prints a line per part, and measures something only on a quiet machine.
//!
//! The recorder is that of `hoop up`, with one shard, its real reader and its real store, in this process; broker and
//! store are processes of their own on the same machine. The physical limit beside it is the same reader alone, which
//! drops what it reads.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use hoop_recorder::generator::Generator;
use hoop_recorder::{Config, Recorder};
use hoop_schema::evidence::EVENTS_PREFIX;
use hoop_schema::{Class, ProducerId, Shard};
use hoop_sinks::log::kafka::{KafkaReader, KafkaWriter, Options};
use hoop_sinks::log::{Appending, EventReader, EventWriter, Outgoing, Position};
use hoop_sinks::store::s3::S3;
use hoop_sinks::store::{
    Access, BucketOptions, BucketPlace, CreateOptions, Created, EvidenceStore, ObjectHead,
    ObjectInfo, Protection, StoreError,
};
use hoop_tests::testbed::{Kafka, Minio, Run};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

/// What the programs allocate with, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of the backlog when no number is given.
const EVENTS: u64 = 1_000_000;

/// Seconds of the steady load when no number is given.
const SECONDS: u64 = 60;

/// Events per second of the steady load.
const STEADY_RATE: u64 = 1000;

/// How often files are written under the steady load.
const FLUSH_AGE: Duration = Duration::from_secs(5);

/// Events under way to the broker at once.
const UNDER_WAY_MAX: usize = 20_000;

fn main() -> Result<()> {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let events: u64 = numbers.next().unwrap_or(EVENTS);
    let seconds: u64 = numbers.next().unwrap_or(SECONDS);
    let run = Run::begin()?;
    let kafka = Kafka::start(&run, "kafka-backlog", 1, &[])?;
    let minio = Minio::start(&run)?;
    minio.make_bucket("evidence", false)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&kafka, &minio, events, seconds))
}

async fn measure(kafka: &Kafka, minio: &Minio, events: u64, seconds: u64) -> Result<()> {
    let mut options = Options::new(kafka.plain(), "bench");
    options.shards = NonZeroU32::MIN;
    options.replicas = NonZeroU32::MIN;
    options.in_sync_replicas_min = NonZeroU32::MIN;
    let writer = KafkaWriter::open(Class::standard(), options.clone()).await?;
    let mut generator = Generator::new("standard", 1);
    let raw = fill(&writer, &mut generator, events).await?;
    let reader = KafkaReader::open(Class::standard(), options.clone()).await?;
    let limit = read_alone(&reader, events).await?;
    println!("reading alone: {limit}");

    let store = Arc::new(Counted {
        inner: open(minio).await?,
        put: Mutex::default(),
        puts: AtomicU64::new(0),
        gets: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    });
    let mut config = Config::new("bench", ProducerId::new("recorder-1")?);
    config.flush.age = FLUSH_AGE;
    let reader = KafkaReader::open(Class::standard(), options).await?;
    let recorder = Recorder::new(
        config,
        vec![Arc::new(reader)],
        Arc::clone(&store) as Arc<dyn EvidenceStore>,
        &mut Registry::default(),
    )?;
    let handle = recorder.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let (begun, processor) = (Instant::now(), processor_seconds());
    let running = tokio::spawn(recorder.run(async {
        drop(stopped.await);
    }));
    handle.flush().await?;
    let rate = Rate::since(begun, processor, events);
    let millions = events as f64 / 1e6;
    println!(
        "recorder: {rate}, {:.0} MB of events/s of processor time, {:.2} of reading alone; per million events {:.1} puts, {:.1} gets, heads and listings, {:.0} MB stored",
        raw as f64 / 1e6 / rate.processor,
        rate.per_second / limit.per_second,
        store.puts.load(Ordering::Relaxed) as f64 / millions,
        store.gets.load(Ordering::Relaxed) as f64 / millions,
        store.bytes.load(Ordering::Relaxed) as f64 / 1e6 / millions,
    );
    freshness(&writer, &mut generator, &handle, &store, seconds).await?;
    drop(stop);
    running.await??;
    writer.close().await;
    Ok(())
}

/// Writes the backlog; returns its bytes.
async fn fill(writer: &KafkaWriter, generator: &mut Generator, events: u64) -> Result<u64> {
    let (begun, mut raw) = (Instant::now(), 0u64);
    let mut waiting: VecDeque<Appending> = VecDeque::new();
    for _ in 0..events {
        if waiting.len() >= UNDER_WAY_MAX
            && let Some(first) = waiting.pop_front()
        {
            first.await?;
        }
        let event = next(generator, true);
        raw += event.bytes.len() as u64;
        waiting.push_back(writer.append(Shard(0), event));
    }
    for appending in waiting {
        appending.await?;
    }
    println!(
        "backlog: {events} events of {} bytes, written at {:.0}/s",
        raw / events,
        events as f64 / begun.elapsed().as_secs_f64()
    );
    Ok(raw)
}

/// Reads the backlog and drops it.
async fn read_alone(reader: &KafkaReader, events: u64) -> Result<Rate> {
    let (begun, processor) = (Instant::now(), processor_seconds());
    let mut from = Position(0);
    while from.0 < events {
        let records = reader
            .read(Shard(0), from, 8 << 20, Duration::from_secs(1))
            .await?;
        from = Position(records.last().map_or(from.0, |last| last.position.0 + 1));
    }
    Ok(Rate::since(begun, processor, events))
}

/// How long after its acknowledgement an event is in a session file, under a steady load.
async fn freshness(
    writer: &KafkaWriter,
    generator: &mut Generator,
    handle: &hoop_recorder::Handle,
    store: &Counted,
    seconds: u64,
) -> Result<()> {
    let mut taken: Vec<(u64, Instant)> = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..seconds * 100 {
        tick.tick().await;
        let appending: Vec<Appending> = (0..STEADY_RATE / 100)
            .map(|_| writer.append(Shard(0), next(generator, false)))
            .collect();
        for appending in appending {
            taken.push((appending.await?.0, Instant::now()));
        }
    }
    handle.flush().await?;
    let files = store.put.lock().clone();
    let mut late: Vec<Duration> = Vec::with_capacity(taken.len());
    for (position, at) in taken {
        let (_, put) = files
            .iter()
            .find(|(pos_to, _)| position < *pos_to)
            .context("an event is in no file")?;
        late.push(put.saturating_duration_since(at));
    }
    late.sort();
    let at = |part: f64| late[((late.len() - 1) as f64 * part) as usize];
    println!(
        "freshness at {STEADY_RATE} events/s, files every {FLUSH_AGE:?}: p50 {:.2?}, p99 {:.2?}, most {:.2?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

fn next(generator: &mut Generator, linger: bool) -> Outgoing {
    let (session_id, event_id, bytes) = generator.event();
    Outgoing {
        event_id,
        session_id,
        kind: "intent",
        bytes,
        linger,
        spool: false,
    }
}

async fn open(minio: &Minio) -> Result<S3> {
    let place = BucketPlace {
        bucket: "evidence".to_owned(),
        prefix: String::new(),
    };
    let options = BucketOptions {
        endpoint: Some(minio.url()),
        region: Some("us-east-1".to_owned()),
        credentials_file: Some(minio.root()),
        ..BucketOptions::default()
    };
    Ok(S3::open(&place, Access::Write, &options).await?)
}

/// How fast something went.
struct Rate {
    per_second: f64,
    per_processor_second: f64,
    processor: f64,
}

impl Rate {
    fn since(begun: Instant, processor: f64, events: u64) -> Self {
        let processor = processor_seconds() - processor;
        Self {
            per_second: events as f64 / begun.elapsed().as_secs_f64(),
            per_processor_second: events as f64 / processor,
            processor,
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} events/s, {:.0} per second of processor time",
            self.per_second, self.per_processor_second
        )
    }
}

/// Seconds that this process, all threads of it, was on a processor.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
    // User and system time, fields 14 and 15 of proc(5), in hundredths of a second.
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / 100.0
}

/// A store that counts what is asked of it, and notes when which file was there.
#[derive(Debug)]
struct Counted {
    inner: S3,
    /// Position after the last of each session file, and when it was there.
    put: Mutex<Vec<(u64, Instant)>>,
    puts: AtomicU64,
    gets: AtomicU64,
    bytes: AtomicU64,
}

#[async_trait]
impl EvidenceStore for Counted {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let created = self.inner.create(key, bytes, options).await?;
        if key.starts_with(EVENTS_PREFIX) {
            let pos_to = options.metadata.get("pos-to");
            let pos_to = pos_to.and_then(|pos_to| pos_to.parse().ok());
            self.put
                .lock()
                .push((pos_to.unwrap_or_default(), Instant::now()));
        }
        Ok(created)
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.head(key).await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn locks(&self) -> Result<bool, StoreError> {
        self.inner.locks().await
    }

    async fn may_delete(&self) -> Result<bool, StoreError> {
        self.inner.may_delete().await
    }

    async fn protection(&self, key: &str) -> Result<Protection, StoreError> {
        self.inner.protection(key).await
    }

    async fn hold(&self, key: &str, on: bool) -> Result<(), StoreError> {
        self.inner.hold(key, on).await
    }

    async fn probe(&self) -> Result<Vec<String>, StoreError> {
        self.inner.probe().await
    }
}
