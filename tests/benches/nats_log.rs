//! The writer of the event log on NATS beside the broker's own bench client, in turns on one server, with the same
//! stream, the same size of records, the same ids and the same number of messages under way: `cargo bench --workspace
//! --bench nats_log [rounds]`. It needs Go; the client is `nats bench js pub async` of natscli.
//!
//! Twice: on a server that syncs every write, as one that holds an event log alone should, and on one that does not,
//! where the client counts and not the disk.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_schema::{Class, EventId, SessionId, Shard};
use hoop_sinks::log::nats::{Options, Writer};
use hoop_sinks::log::{EventWriter, Outgoing};
use hoop_tests::testbed::{Nats, Need, Run, nats_client};

const EVENT_BYTES: usize = 1500;

/// Messages under way at once: what the bench client has by default.
const UNDER_WAY: usize = 500;

const ROUNDS: usize = 5;

/// The least part of the bench client's rate that the writer has to reach.
const RATIO_MIN: f64 = 0.7;

fn main() -> Result<()> {
    let lacking = Need::Nats.lacking();
    ensure!(lacking.is_none(), "{}", lacking.unwrap_or_default());
    let rounds = std::env::args().find_map(|argument| argument.parse().ok());
    let (run, client) = (Run::begin()?, nats_client()?);
    let runtime = tokio::runtime::Runtime::new()?;
    println!(
        "events of {EVENT_BYTES} bytes, {UNDER_WAY} under way, one server, medians of rounds in turns"
    );
    for (name, settings, messages) in [
        ("every write synced", "always", 3_000),
        ("not synced", "2m", 60_000),
    ] {
        let server = Nats::start_with_sync(&run, &format!("bench-{settings}"), settings)?;
        let bench = Bench {
            url: server.url(),
            client: client.clone(),
            messages,
        };
        bench.measure(&runtime, name, rounds.unwrap_or(ROUNDS))?;
    }
    Ok(())
}

struct Bench {
    url: String,
    client: PathBuf,
    messages: usize,
}

impl Bench {
    fn measure(&self, runtime: &tokio::runtime::Runtime, name: &str, rounds: usize) -> Result<()> {
        let mut options = Options::new(vec![self.url.clone()], "bench".to_owned());
        options.replicas = NonZeroU32::MIN;
        options.shards = NonZeroU32::MIN;
        // More than is written, and less than any disk has.
        options.bytes_max = 4 << 30;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Each round has a writer of its own, as it has a client of its own.
        for round in 0..rounds {
            let writer = runtime.block_on(Writer::open(Class::standard(), options.clone()))?;
            ours.push(runtime.block_on(self.append(&writer, round))?);
            runtime.block_on(writer.close());
            theirs.push(self.bench_client(&self.client)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let ratio = ours / theirs;
        let verdict = if ratio >= RATIO_MIN { "met" } else { "MISSED" };
        println!(
            "{name:<20} writer {ours:>8.0}/s   nats bench {theirs:>8.0}/s   ratio {ratio:.2}   target {RATIO_MIN} {verdict}"
        );
        Ok(())
    }

    /// Events a second through the writer.
    async fn append(&self, writer: &Writer, round: usize) -> Result<f64> {
        let bytes = bytes::Bytes::from(vec![b'x'; EVENT_BYTES]);
        let mut under_way = VecDeque::new();
        let begun = Instant::now();
        for number in 0..self.messages {
            if under_way.len() == UNDER_WAY {
                let first = under_way.pop_front().context("it is not empty")?;
                within(first).await?;
            }
            let mut random = [0; 10];
            random[..8].copy_from_slice(&(number as u64).to_be_bytes());
            under_way.push_back(writer.append(
                Shard(0),
                Outgoing {
                    event_id: EventId::new(round as u64, &random),
                    session_id: SessionId::from_bytes([0; 16]),
                    kind: "heartbeat",
                    bytes: bytes.clone(),
                    linger: false,
                    spool: false,
                },
            ));
        }
        for append in under_way {
            within(append).await?;
        }
        Ok(self.messages as f64 / begun.elapsed().as_secs_f64())
    }

    /// Messages a second by the bench client, as it says itself.
    fn bench_client(&self, client: &Path) -> Result<f64> {
        let output = Command::new(client)
            .args([
                "--server",
                &self.url,
                "bench",
                "js",
                "pub",
                "async",
                "--dedup",
                "--no-progress",
            ])
            .args([
                "--size",
                &EVENT_BYTES.to_string(),
                "--batch",
                &UNDER_WAY.to_string(),
            ])
            .args(["--msgs", &self.messages.to_string()])
            .args([
                "--stream",
                "audit_bench_standard",
                "audit.bench.standard.000.bench",
            ])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (before, _) = said.split_once(" msgs/sec").with_context(|| said.clone())?;
        let rate = before.rsplit(' ').next().context("no rate")?;
        Ok(rate.replace(',', "").parse()?)
    }
}

async fn within(append: hoop_sinks::log::Appending) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(60), append).await??;
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
