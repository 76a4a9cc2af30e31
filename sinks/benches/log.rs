//! The embedded log beside what the disk can do: `cargo bench -p hoop-sinks --bench log`.
//!
//! Everything is measured in turns within one run, so that a busy machine slows all of it alike; look at the ratios.
//! - solo: one append after the other, each waited for, beside a bare write and fdatasync of the same bytes in place
//!   in a file that was filled with zeros before;
//! - 256 in flight: that many tasks, each waiting for its own append, beside a bare loop that writes and syncs 256
//!   events at a time.
#![expect(clippy::print_stdout, reason = "the output of the benchmark")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoop_schema::{Class, EventId, SessionId, Shard};
use hoop_sinks::log::embedded::{EmbeddedLog, Options};
use hoop_sinks::log::{EventReader, EventWriter, Outgoing};
use rustix::fs::fdatasync;
use tokio::runtime::Runtime;

const EVENT_BYTES: usize = 1500;
const ROUNDS: usize = 15;
const SOLO_PER_ROUND: usize = 300;
const IN_FLIGHT: usize = 256;
const BATCHES_PER_ROUND: usize = 80;
const FILE_BYTES: usize = 64 << 20;

/// A file of zeros, written in place from its begin to its end and over again.
struct Bare {
    file: File,
    offset: usize,
    event: Vec<u8>,
}

impl Bare {
    fn new(path: &Path) -> Self {
        let file = File::create(path).expect("can be created");
        file.write_all_at(&vec![0; FILE_BYTES], 0)
            .expect("there is room");
        file.sync_all().expect("can be synced");
        Self {
            file,
            offset: 0,
            event: vec![b'x'; EVENT_BYTES],
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.offset + bytes.len() > FILE_BYTES {
            self.offset = 0;
        }
        self.file
            .write_all_at(bytes, self.offset as u64)
            .expect("can be written");
        fdatasync(&self.file).expect("can be synced");
        self.offset += bytes.len();
    }

    fn solo(&mut self) -> Duration {
        let event = std::mem::take(&mut self.event);
        let begun = Instant::now();
        self.write(&event);
        let took = begun.elapsed();
        self.event = event;
        took
    }
}

fn event(bytes: &Bytes) -> Outgoing {
    Outgoing {
        event_id: EventId::new(0, &[0; 10]),
        session_id: SessionId::from_bytes([0; 16]),
        kind: "heartbeat",
        bytes: bytes.clone(),
        linger: false,
        spool: false,
    }
}

async fn in_flight(log: &Arc<EmbeddedLog>, bytes: &Bytes) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (log, bytes) = (Arc::clone(log), bytes.clone());
            tokio::spawn(async move {
                for _ in 0..BATCHES_PER_ROUND {
                    log.append(Shard(0), event(&bytes)).await.expect("is taken");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("does not panic");
    }
    (IN_FLIGHT * BATCHES_PER_ROUND) as f64 / begun.elapsed().as_secs_f64()
}

fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("are numbers"));
    values[values.len() / 2]
}

fn rate(times: &[Duration]) -> f64 {
    times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64()
}

/// What the rounds gave.
#[derive(Default)]
struct Figures {
    bare_solo: Vec<Duration>,
    log_solo: Vec<Duration>,
    /// p50 of the log over p50 of the bare file, by round.
    solo_ratio: Vec<f64>,
    solo_rate: Vec<f64>,
    many_rate: Vec<f64>,
    bare_batch_rate: Vec<f64>,
}

impl Figures {
    fn round(&mut self, runtime: &Runtime, log: &Arc<EmbeddedLog>, bare: &mut Bare) {
        let bytes = Bytes::from(vec![b'x'; EVENT_BYTES]);
        let mut bare_round: Vec<_> = (0..SOLO_PER_ROUND).map(|_| bare.solo()).collect();
        let mut log_round = runtime.block_on(one_at_a_time(log, &bytes));
        self.solo_rate.push(rate(&log_round));
        let ratio = median(&mut log_round).as_secs_f64() / median(&mut bare_round).as_secs_f64();
        self.solo_ratio.push(ratio);
        self.bare_solo.extend(bare_round);
        self.log_solo.extend(log_round);

        let batch = vec![b'x'; EVENT_BYTES * IN_FLIGHT];
        let begun = Instant::now();
        for _ in 0..BATCHES_PER_ROUND {
            bare.write(&batch);
        }
        let events = (IN_FLIGHT * BATCHES_PER_ROUND) as f64;
        self.bare_batch_rate
            .push(events / begun.elapsed().as_secs_f64());
        self.many_rate
            .push(runtime.block_on(in_flight(log, &bytes)));
    }

    fn print(mut self) {
        let bare_p50 = median(&mut self.bare_solo).as_secs_f64() * 1e6;
        let log_p50 = median(&mut self.log_solo).as_secs_f64() * 1e6;
        let ratio = median(&mut self.solo_ratio);
        let (solo, many) = (median(&mut self.solo_rate), median(&mut self.many_rate));
        let batches = median(&mut self.bare_batch_rate);
        println!("events of {EVENT_BYTES} bytes, medians of {ROUNDS} rounds in turns");
        println!(
            "| what                            |     figure | beside                   | ratio |"
        );
        println!(
            "|---------------------------------|------------|--------------------------|-------|"
        );
        println!(
            "| bare write and fdatasync, p50   | {bare_p50:7.0} µs |                          |       |"
        );
        println!(
            "| append, one at a time, p50      | {log_p50:7.0} µs | bare write and fdatasync | {ratio:5.2} |"
        );
        println!(
            "| append, one at a time           | {solo:8.0}/s |                          |       |"
        );
        let over_solo = many / solo;
        println!(
            "| append, {IN_FLIGHT} in flight           | {many:8.0}/s | append, one at a time    | {over_solo:5.1} |"
        );
        println!(
            "| bare loop, {IN_FLIGHT} events a sync     | {batches:8.0}/s |                          |       |"
        );
        let over_bare = many / batches;
        println!(
            "| append, {IN_FLIGHT} in flight           | {many:8.0}/s | bare loop                | {over_bare:5.2} |"
        );
    }
}

async fn one_at_a_time(log: &EmbeddedLog, bytes: &Bytes) -> Vec<Duration> {
    let mut times = Vec::with_capacity(SOLO_PER_ROUND);
    for _ in 0..SOLO_PER_ROUND {
        let begun = Instant::now();
        log.append(Shard(0), event(bytes)).await.expect("is taken");
        times.push(begun.elapsed());
    }
    times
}

fn main() {
    let dir =
        tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room for a folder");
    let runtime = Runtime::new().expect("a runtime");
    let options = Options {
        // Segments are used again during the run, as they are in a log that has run for a while.
        size_max: 4 * FILE_BYTES as u64,
        ..Options::default()
    };
    let log = EmbeddedLog::open(dir.path(), Class::standard(), options).expect("can be opened");
    let log = Arc::new(log);
    let mut bare = Bare::new(&dir.path().join("bare"));
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        figures.round(&runtime, &log, &mut bare);
        runtime.block_on(async {
            let next = log.bounds(Shard(0)).await.expect("can be asked").next;
            log.committed(Shard(0), next).await;
        });
    }
    figures.print();
}
