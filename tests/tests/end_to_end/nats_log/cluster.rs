//! Three servers, each with a copy: leaders come and go under load.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_sinks::log::EventWriter;
use hoop_sinks::log::nats::Options;
use hoop_tests::testbed::{NatsCluster, Need};

use super::bed::{Producers, admin, compare, options, reader, writer};
use crate::client::block_on;
use crate::harness::{Test, tests, this_run};

/// Elections, and a server that catches up, on a busy machine.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

const STREAM: &str = "audit_three_standard";

pub(crate) fn tests() -> Vec<Test> {
    let tests = tests![&[Need::Nats]; changes_of_the_leader_lose_and_double_nothing];
    tests.into_iter().map(Test::alone).collect()
}

fn changes_of_the_leader_lose_and_double_nothing() -> Result<()> {
    let run = this_run()?;
    let mut cluster = NatsCluster::start(&run, "three")?;
    block_on(async {
        let options = Options {
            urls: cluster.urls(),
            replicas: NonZeroU32::new(3).expect("three is not zero"),
            ..options("", "three")
        };
        // The servers elect a leader of their own first.
        let begun = Instant::now();
        let writer = loop {
            match writer(&options).await {
                Ok(writer) => break writer,
                Err(error) => ensure!(begun.elapsed() < AGAIN_WITHIN, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let reader = reader(&options).await?;
        let producers = Producers::start(&writer, 16);
        producers.go_on(200, AGAIN_WITHIN).await?;
        for _ in 0..3 {
            step_down(&cluster).await?;
            producers.go_on(200, AGAIN_WITHIN).await?;
        }
        let leader = leader(&cluster).await?;
        cluster.servers[leader].kill();
        producers.go_on(200, AGAIN_WITHIN).await?;
        cluster.servers[leader].start_again(&run)?;
        producers.go_on(200, AGAIN_WITHIN).await?;
        let leader = self::leader(&cluster).await?;
        cluster.servers[leader].pause();
        let paused = producers.go_on(200, AGAIN_WITHIN).await;
        cluster.servers[leader].resume();
        paused.context("while the leader is paused")?;
        producers.go_on(200, AGAIN_WITHIN).await?;
        let ledger = producers.stop().await?;
        writer.close().await;
        compare(&reader, &ledger).await
    })
}

/// The server that leads the stream.
async fn leader(cluster: &NatsCluster) -> Result<usize> {
    let begun = Instant::now();
    loop {
        let name = leader_name(cluster).await;
        let index = |name: String| cluster.servers.iter().position(|s| s.name() == name);
        match name.map(|name| name.and_then(index)) {
            Ok(Some(index)) => return Ok(index),
            other => ensure!(begun.elapsed() < AGAIN_WITHIN, "no leader: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn leader_name(cluster: &NatsCluster) -> Result<Option<String>> {
    for url in cluster.urls() {
        let Ok(Ok(admin)) = tokio::time::timeout(Duration::from_secs(2), admin(&url)).await else {
            continue;
        };
        let stream = admin.get_stream(STREAM).await?;
        let info = stream.cached_info().cluster.as_ref();
        return Ok(info.and_then(|info| info.leader.clone()));
    }
    Ok(None)
}

/// Asks the leader to let another one lead.
async fn step_down(cluster: &NatsCluster) -> Result<()> {
    let client = async_nats::connect(cluster.urls().as_slice()).await?;
    let api = format!("$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}");
    let answer = client.request(api, "".into()).await?;
    let answer = String::from_utf8_lossy(&answer.payload).into_owned();
    ensure!(answer.contains("\"success\":true"), "{answer}");
    Ok(())
}
