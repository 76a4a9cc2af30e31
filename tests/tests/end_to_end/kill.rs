//! The promise of it all: what a client saw answered is recorded, whatever dies when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::client;
use crate::harness::{Test, sample_pipeline, tests};

/// How often the whole process is killed.
const KILLS: usize = 100;

/// Clients at work at the same time.
const CLIENTS: usize = 8;

/// How long a life lasts at most after it is ready: each a different part of this, so that every phase is hit.
const LIFE_MAX: Duration = Duration::from_millis(600);

pub(crate) fn tests() -> Vec<Test> {
    let tests = tests![&[]; what_was_answered_is_recorded_once_after_a_hundred_kills];
    tests.into_iter().map(Test::alone).collect()
}

fn what_was_answered_is_recorded_once_after_a_hundred_kills() -> Result<()> {
    let mut pipeline = sample_pipeline("kill")?;
    let mut answered = BTreeSet::new();
    let mut lives_with_answers = 0;
    for kill in 0..KILLS {
        if kill > 0 {
            pipeline.start_again()?;
        }
        // The golden ratio spreads any number of moments evenly.
        let part = (kill as f64 * 0.618_033_988_7).fract();
        let life = LIFE_MAX.mul_f64(part);
        let kubeconfigs: Vec<_> = (0..CLIENTS)
            .map(|i| pipeline.kubeconfig(if i % 2 == 0 { "alice" } else { "bob" }))
            .collect();
        let ids = client::block_on(async {
            let clients = kubeconfigs
                .into_iter()
                .map(|kubeconfig| tokio::spawn(client::work_until_refused(kubeconfig)));
            let clients: Vec<_> = clients.collect();
            let begun = Instant::now();
            tokio::time::sleep(life.saturating_sub(begun.elapsed())).await;
            pipeline.kill();
            let mut ids = Vec::new();
            for client in clients {
                ids.extend(client.await??);
            }
            Ok(ids)
        })?;
        lives_with_answers += usize::from(!ids.is_empty());
        answered.extend(ids);
    }
    ensure!(
        lives_with_answers > KILLS / 2,
        "only {lives_with_answers} lives answered anything"
    );

    // Once more to an orderly end.
    pipeline.start_again()?;
    pipeline.stop()?;
    let exported = pipeline.replay(&["export"])?.expect_success()?;
    let mut intents: BTreeMap<String, usize> = BTreeMap::new();
    for line in exported.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["kind"] == "intent" {
            let id = event["request"]["audit_id"].as_str().unwrap_or_default();
            *intents.entry(id.to_owned()).or_default() += 1;
        }
    }
    let lost: Vec<_> = answered
        .iter()
        .filter(|id| !intents.contains_key(*id))
        .collect();
    ensure!(
        lost.is_empty(),
        "{} of {} answered requests are lost: {lost:?}",
        lost.len(),
        answered.len()
    );
    let twice: Vec<_> = intents.iter().filter(|(_, count)| **count != 1).collect();
    ensure!(twice.is_empty(), "recorded more than once: {twice:?}");
    let verified = pipeline.replay(&["verify"])?;
    // Requests that were under way have no outcome: that is incomplete, and said; never altered.
    ensure!(matches!(verified.code, Some(0 | 2)), "{verified:?}");
    Ok(())
}
