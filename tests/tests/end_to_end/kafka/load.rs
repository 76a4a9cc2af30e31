//! A gateway at work, as far as the log can tell, and the proof that nothing it was promised is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hoop_schema::Class;
use hoop_schema::Shard;
use hoop_sinks::log::conformance::{SHARDS, event, read_all};
use hoop_sinks::log::kafka::{KafkaReader, KafkaWriter, Options};
use hoop_sinks::log::{AppendError, EventReader, EventWriter, Position};
use tokio::task::JoinHandle;

/// Appends that are made one after the other without waiting.
const BURST: usize = 20;

/// Bytes of an event, about those of a request without a body.
const EVENT_BYTES: usize = 1500;

/// Rest before an append is made again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Appenders at work until they are told to stop.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Result<Ledger>>>,
}

/// What the log acknowledged.
#[derive(Default)]
pub(super) struct Ledger {
    /// The place of each event.
    positions: BTreeMap<String, (Shard, Position)>,
    /// Bursts of events that were all acknowledged at the first attempt, in the order of their appends.
    bursts: Vec<Vec<Position>>,
    /// Answers that were not an acknowledgement.
    pub(super) refused: usize,
    /// Those of them after which the event may have been written.
    pub(super) unknown: usize,
}

impl Load {
    /// Starts `workers` for each shard.
    pub(super) fn start(writer: &Arc<KafkaWriter>, workers: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let worker = |n: u32| {
            let (writer, stop, acknowledged) = (
                Arc::clone(writer),
                Arc::clone(&stop),
                Arc::clone(&acknowledged),
            );
            tokio::spawn(async move { work(&writer, n, &stop, &acknowledged).await })
        };
        let workers = (0..workers * SHARDS).map(worker).collect();
        Self {
            stop,
            acknowledged,
            workers,
        }
    }

    /// Events acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged.
    pub(super) async fn wait_for(&self, more: u64) -> Result<()> {
        let wanted = self.acknowledged() + more;
        for _ in 0..6000 {
            if self.acknowledged() >= wanted {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!(
            "nothing is acknowledged any more: {} of {wanted}",
            self.acknowledged()
        )
    }

    /// Lets the workers finish what they have begun.
    pub(super) async fn stop(self) -> Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for worker in self.workers {
            let ledger = tokio::time::timeout(Duration::from_secs(120), worker).await;
            let ledger = ledger.context("a worker does not end")???;
            all.positions.extend(ledger.positions);
            all.bursts.extend(ledger.bursts);
            all.refused += ledger.refused;
            all.unknown += ledger.unknown;
        }
        Ok(all)
    }
}

async fn work(
    writer: &KafkaWriter,
    worker: u32,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Result<Ledger> {
    let shard = Shard(worker % SHARDS);
    let mut ledger = Ledger::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut waiting = Vec::new();
        for _ in 0..BURST {
            number += 1;
            let mut outgoing = event(format!("{worker}.{number}.{}", "x".repeat(EVENT_BYTES)));
            outgoing.linger = number % 4 == 0;
            waiting.push((outgoing.clone(), writer.append(shard, outgoing)));
        }
        let mut positions = Vec::new();
        let mut all_at_once = true;
        for (outgoing, mut appending) in waiting {
            loop {
                match appending.await {
                    Ok(position) => {
                        positions.push(position);
                        let text = String::from_utf8(outgoing.bytes.to_vec())?;
                        ledger.positions.insert(text, (shard, position));
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(AppendError::Terminal(error)) => {
                        bail!("an event was refused for good: {error}")
                    }
                    Err(error) => {
                        ledger.refused += 1;
                        ledger.unknown += usize::from(matches!(error, AppendError::Unknown(_)));
                        all_at_once = false;
                        tokio::time::sleep(AGAIN_AFTER).await;
                        appending = writer.append(shard, outgoing.clone());
                    }
                }
            }
        }
        if all_at_once {
            ledger.bursts.push(positions);
        }
    }
    Ok(ledger)
}

impl Ledger {
    /// Reads the log with a new reader and holds it against what was acknowledged. Returns how many records are
    /// copies.
    pub(super) async fn check(&self, options: &Options) -> Result<usize> {
        let reader = KafkaReader::open(Class::standard(), options.clone()).await?;
        let mut found: BTreeMap<(Shard, Position), String> = BTreeMap::new();
        let mut texts: BTreeMap<String, usize> = BTreeMap::new();
        for shard in (0..reader.shards()).map(Shard) {
            let records = read_all(&reader, shard, Position(0)).await;
            ensure!(
                records.is_sorted_by_key(|record| record.log_ts),
                "the log's time goes back"
            );
            for record in records {
                let text = String::from_utf8(record.bytes.to_vec())?;
                *texts.entry(text.clone()).or_default() += 1;
                found.insert((shard, record.position), text);
            }
        }
        ensure!(!self.positions.is_empty(), "nothing was acknowledged");
        for (text, place) in &self.positions {
            let there = found.get(place);
            ensure!(
                there == Some(text),
                "{:.20} was acknowledged at {place:?}, where there is {:.20?}",
                text,
                there
            );
        }
        for burst in &self.bursts {
            ensure!(
                burst.is_sorted_by(|a, b| a < b),
                "not in the order of the appends: {burst:?}"
            );
        }
        ensure!(!self.bursts.is_empty(), "no burst went through at once");
        Ok(texts.values().map(|count| count - 1).sum())
    }
}
