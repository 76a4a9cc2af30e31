//! From the log to Parquet and back: the files say exactly what the log said, to others as well as to us.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{Need, Python};
use serde_json::Value;

use crate::harness::{Test, sample_pipeline, tests};

/// How soon an event can be read after it happened.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[]; every_command_of_hoop_replay_works_on_it];
    tests.extend(
        tests![&[]; an_event_is_visible_within_a_second]
            .into_iter()
            .map(Test::alone),
    );
    tests.extend(tests![&[Need::Python]; duckdb_reads_the_rows_that_the_log_has]);
    tests
}

const DUCKDB_ROWS: &str = r#"
import duckdb, json, sys
query = """
    select class, cast(shard as integer), position, event_json
    from read_parquet(? || '/events/v1/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)
    where position is not null
"""
for row in duckdb.execute(query, [sys.argv[1]]).fetchall():
    print(json.dumps(row))
"#;

fn duckdb_reads_the_rows_that_the_log_has() -> Result<()> {
    let python = Python::with_duckdb()?;
    let mut pipeline = sample_pipeline("duckdb")?;
    pipeline.work("alice", 40)?;
    pipeline.stop()?;
    let log = pipeline.records()?;
    ensure!(log.len() >= 80, "{} records", log.len());
    let evidence = pipeline.data().join("evidence");
    let printed = python.run(DUCKDB_ROWS, &[evidence.to_str().context("a path is text")?])?;
    let mut rows = BTreeMap::new();
    for line in printed.lines() {
        let (class, shard, position, event): (String, u32, u64, String) =
            serde_json::from_str(line)?;
        let twice = rows.insert((class, shard, position), event);
        ensure!(twice.is_none(), "a position is in two rows: {line}");
    }
    ensure!(
        rows.len() == log.len(),
        "{} rows, {} records",
        rows.len(),
        log.len()
    );
    ensure!(rows == log, "the rows hold the exact bytes of the records");
    Ok(())
}

fn an_event_is_visible_within_a_second() -> Result<()> {
    let pipeline = sample_pipeline("visible")?;
    for _ in 0..3 {
        let id = pipeline
            .work("alice", 1)?
            .pop()
            .context("one request was answered")?;
        let begun = Instant::now();
        while !pipeline
            .replay(&["export"])?
            .expect_success()?
            .contains(&id)
        {
            ensure!(begun.elapsed() < VISIBLE_WITHIN, "{id} is not visible yet");
        }
    }
    Ok(())
}

fn every_command_of_hoop_replay_works_on_it() -> Result<()> {
    let mut pipeline = sample_pipeline("replay")?;
    pipeline.work("alice", 5)?;
    pipeline.work("bob", 5)?;
    for stopped in [false, true] {
        if stopped {
            pipeline.stop()?;
        }
        let listed = pipeline.replay(&["list"])?.expect_success()?;
        ensure!(
            listed.contains("alice") && listed.contains("bob"),
            "{listed}"
        );
        let bobs = pipeline
            .replay(&["list", "--user", "bob"])?
            .expect_success()?;
        ensure!(bobs.contains("bob") && !bobs.contains("alice"), "{bobs}");
        let event = &pipeline.events(|event| event["request"]["user"]["username"] == "bob")?[0];
        let session = event["session_id"]
            .as_str()
            .context("an event has a session")?;
        let shown = pipeline.replay(&["show", session])?.expect_success()?;
        ensure!(shown.contains("bob"), "{shown}");
        let found = pipeline.replay(&["grep", "configmaps"])?.expect_success()?;
        ensure!(found.contains("configmaps"), "{found}");
        // Files and log together have every record of the log once, and what the recorder itself has to say.
        let exported = pipeline.replay(&["export"])?.expect_success()?;
        let mut lines: Vec<_> = exported.lines().collect();
        let records = pipeline.records()?;
        lines.retain(|line| !line.contains(r#""kind":"recorder."#));
        lines.sort_unstable();
        let mut wanted: Vec<_> = records.values().map(String::as_str).collect();
        wanted.sort_unstable();
        ensure!(
            !stopped || lines == wanted,
            "{} exported, {} recorded",
            lines.len(),
            wanted.len()
        );
        let audit = pipeline
            .replay(&["export", "--format", "audit"])?
            .expect_success()?;
        let audit: Value = serde_json::from_str(&audit)?;
        ensure!(
            audit["kind"] == "EventList" && audit["apiVersion"] == "audit.k8s.io/v1",
            "{audit}"
        );
        let verified = pipeline.replay(&["verify"])?;
        ensure!(
            verified.code == Some(0) || !stopped && verified.code == Some(2),
            "{verified:?}"
        );
    }
    Ok(())
}
