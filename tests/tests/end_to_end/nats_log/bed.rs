//! Logs for tests, somebody who appends until the log takes it, and the comparison of what was acknowledged with what
//! is there.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::{event, read_all};
use hoop_sinks::log::nats::{Options, Reader, Writer};
use hoop_sinks::log::{AppendError, EventWriter, Position};

/// Shards of the logs of these tests.
pub(crate) const SHARDS: u32 = 2;

/// Options for one server, with short times.
pub(crate) fn options(url: &str, cluster: &str) -> Options {
    let mut options = Options::new(vec![url.to_owned()], cluster.to_owned());
    options.shards = NonZeroU32::new(SHARDS).expect("two is not zero");
    options.replicas = NonZeroU32::MIN;
    options.bytes_max = 256 << 20;
    options.ack_timeout = Duration::from_secs(1);
    options.append_timeout = Duration::from_secs(4);
    options.request_timeout = Duration::from_secs(2);
    options
}

pub(crate) async fn writer(options: &Options) -> Result<Arc<Writer>> {
    let writer = Writer::open(Class::standard(), options.clone()).await;
    Ok(Arc::new(writer.context("the log can be written")?))
}

pub(crate) async fn reader(options: &Options) -> Result<Reader> {
    let reader = Reader::open(Class::standard(), options.clone()).await;
    reader.context("the log can be read")
}

/// JetStream for the administrator of a server.
pub(crate) async fn admin(url: &str) -> Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(url).await?))
}

/// What was acknowledged: bytes by shard and position.
pub(crate) type Ledger = BTreeMap<(u32, u64), String>;

/// Shard, position and bytes of what one producer had acknowledged.
type Acknowledged = Vec<(u32, u64, String)>;

/// Producers that append without pause, each one event after the other to one shard, and each event until it is
/// acknowledged.
#[derive(Debug)]
pub(crate) struct Producers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Result<Acknowledged>>>,
}

impl Producers {
    pub(crate) fn start(writer: &Arc<Writer>, count: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let produce = |producer| {
            let (writer, stop) = (Arc::clone(writer), Arc::clone(&stop));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(produce(writer, producer, stop, acknowledged))
        };
        let tasks = (0..count).map(produce).collect();
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Events acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged.
    pub(crate) async fn go_on(&self, more: u64, within: Duration) -> Result<()> {
        let wanted = self.acknowledged() + more;
        let waited = tokio::time::timeout(within, async {
            while self.acknowledged() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let (found, before) = (waited.await, wanted - more);
        ensure!(
            found.is_ok(),
            "only {} events after {before} within {within:?}",
            self.acknowledged() - before
        );
        Ok(())
    }

    /// Lets them end with an acknowledged event each.
    pub(crate) async fn stop(self) -> Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::new();
        for task in self.tasks {
            for (shard, position, text) in task.await?? {
                let other = ledger.insert((shard, position), text);
                ensure!(other.is_none(), "two events at position {position}");
            }
        }
        Ok(ledger)
    }
}

async fn produce(
    writer: Arc<Writer>,
    producer: u32,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Result<Acknowledged> {
    let shard = producer % SHARDS;
    let mut done = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let text = format!("{producer}.{number:06}");
        number += 1;
        let event = event(text.clone());
        let position = loop {
            match writer.append(Shard(shard), event.clone()).await {
                Ok(position) => break position,
                Err(AppendError::Terminal(error)) => return Err(anyhow::anyhow!(error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        acknowledged.fetch_add(1, Ordering::Relaxed);
        done.push((shard, position.0, text));
    }
    Ok(done)
}

/// Everything acknowledged is in the log at its position, nothing is there twice, and every producer's events are in
/// the order of its calls.
pub(crate) async fn compare(reader: &Reader, ledger: &Ledger) -> Result<()> {
    let mut found = Ledger::new();
    for shard in 0..SHARDS {
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for record in read_all(reader, Shard(shard), Position(0)).await {
            let text = String::from_utf8(record.bytes.to_vec())?;
            let (producer, number) = text.split_once('.').context("an event of a producer")?;
            if let Some(before) = last.insert(producer.to_owned(), number.to_owned()) {
                ensure!(
                    *before < *number,
                    "{producer}.{number} comes after {producer}.{before}"
                );
            }
            found.insert((shard, record.position.0), text);
        }
    }
    for (place, text) in ledger {
        ensure!(
            found.get(place) == Some(text),
            "{text} was acknowledged at {place:?}, where {:?} is",
            found.get(place)
        );
    }
    Ok(())
}
