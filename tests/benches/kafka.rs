//! The writer of the log on Kafka beside the broker's own client: `kafka-producer-perf-test.sh`, on the same broker, with
//! the same records, acknowledgements, compression, batches and lingering, in turns.
//!
//! `cargo bench --workspace --bench kafka` needs Java and Maven, and measures something only on a quiet machine. The
//! broker's client makes its records of random capital letters; so does this.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use hoop_schema::{Class, EventId, SessionId, Shard};
use hoop_sinks::log::kafka::{KafkaWriter, Options};
use hoop_sinks::log::{Appending, EventWriter, Outgoing};
use hoop_tests::testbed::{Kafka, Run};

/// Records of one turn: seconds of work.
const RECORDS: usize = 300_000;

/// Bytes of a record, those of a request without a body.
const RECORD_BYTES: usize = 1500;

/// Different records; more would only be generated.
const DIFFERENT: usize = 1000;

/// Turns, of which the medians count.
const TURNS: usize = 5;

/// What both clients get.
const BATCH_BYTES: &str = "262144";
const LINGER_MS: &str = "5";
const BUFFER_BYTES: usize = 64 << 20;

#[expect(clippy::print_stdout, reason = "this is the output of the benchmark")]
fn main() -> Result<()> {
    let run = Run::begin()?;
    let kafka = Kafka::start(&run, "kafka-bench", 1, &[])?;
    let mut options = Options::new(kafka.plain(), "bench");
    options.shards = NonZeroU32::new(2).context("not zero")?;
    options.replicas = NonZeroU32::MIN;
    options.in_sync_replicas_min = NonZeroU32::MIN;
    options.in_flight_bytes_max = BUFFER_BYTES;
    options
        .properties
        .insert("batch.size".to_owned(), BATCH_BYTES.to_owned());
    let records = records();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let their_rate = broker_client(&kafka, &options)?;
        let our_rate = writer(&options, &records)?;
        println!("turn {turn}: the broker's client {their_rate:.0}/s, the writer {our_rate:.0}/s");
        // The first turn warms the broker up.
        if turn > 0 {
            theirs.push(their_rate);
            ours.push(our_rate);
        }
    }
    let (theirs, ours) = (median(theirs), median(ours));
    println!(
        "{RECORDS} records of {RECORD_BYTES} bytes, acks=all, zstd: the broker's client {theirs:.0}/s, the writer \
         {ours:.0}/s, {:.2} of it",
        ours / theirs
    );
    Ok(())
}

fn records() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut letter = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        b'A' + (state >> 33) as u8 % 26
    };
    (0..DIFFERENT)
        .map(|_| (0..RECORD_BYTES).map(|_| letter()).collect())
        .collect()
}

fn broker_client(kafka: &Kafka, options: &Options) -> Result<f64> {
    let topic = options.topic(&Class::standard());
    // It creates none; the first turn of the writer would come too late.
    drop(runtime()?.block_on(KafkaWriter::open(Class::standard(), options.clone()))?);
    let command = format!(
        "kafka-producer-perf-test.sh --topic {topic} --num-records {RECORDS} --record-size {RECORD_BYTES} \
         --throughput -1 --producer-props bootstrap.servers={} acks=all enable.idempotence=true \
         compression.type=zstd batch.size={BATCH_BYTES} linger.ms={LINGER_MS} buffer.memory={BUFFER_BYTES} \
         max.request.size=1048588",
        kafka.plain().join(",")
    );
    let said = kafka.tool(&command)?.expect_success()?;
    let line = said.lines().last().context("it said nothing")?;
    let (before, _) = line.split_once(" records/sec").context("no rate")?;
    let rate = before.split(' ').next_back().context("no rate")?;
    Ok(rate.parse()?)
}

fn writer(options: &Options, records: &[Vec<u8>]) -> Result<f64> {
    runtime()?.block_on(async {
        let writer = Arc::new(KafkaWriter::open(Class::standard(), options.clone()).await?);
        let begun = Instant::now();
        let mut waiting: std::collections::VecDeque<Appending> = std::collections::VecDeque::new();
        let under_way_max = BUFFER_BYTES / (2 * RECORD_BYTES);
        for n in 0..RECORDS {
            if waiting.len() >= under_way_max
                && let Some(first) = waiting.pop_front()
            {
                first.await?;
            }
            let bytes = records[n % DIFFERENT].clone();
            waiting.push_back(writer.append(Shard((n % 2) as u32), outgoing(n, bytes)));
        }
        for appending in waiting {
            appending.await?;
        }
        let took = begun.elapsed();
        writer.close().await;
        Ok(RECORDS as f64 / took.as_secs_f64())
    })
}

fn outgoing(n: usize, bytes: Vec<u8>) -> Outgoing {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n as u64).to_be_bytes());
    Outgoing {
        event_id: EventId::new(0, &random),
        session_id: SessionId::from_bytes([(n % 251) as u8; 16]),
        kind: "intent",
        bytes: bytes.into(),
        linger: true,
        spool: false,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
