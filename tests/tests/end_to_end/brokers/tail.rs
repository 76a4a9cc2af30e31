//! `hoop-replay` over an installation whose log is on brokers: what is in no file yet is seen too, nothing is created or
//! remembered there, and when the brokers are away it says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{Answer, Nats, Need, free_port};
use serde_json::Value;

use super::configuration;
use crate::harness::{Test, kafka, nats, tests, this_run};
use crate::pipeline::{Cluster, POLICY, Pipeline, hoop};

/// How many requests each person makes at a time.
const REQUESTS: usize = 8;

pub(super) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Nats];
        what_is_on_nats_and_in_no_file_yet_is_seen,
        without_nats_the_files_are_shown_with_a_warning,
        a_reader_of_nats_creates_nothing,
    ];
    tests.extend(tests![&[Need::Kafka];
        what_is_on_kafka_and_in_no_file_yet_is_seen,
        a_reader_of_kafka_creates_nothing,
    ]);
    tests
}

fn on_nats(server: &str) -> String {
    format!("log: {{nats: {{servers: ['{server}'], replicas: 1, shards: 4, bytes_max: 64MiB}}}}")
}

fn on_kafka(brokers: &[String]) -> String {
    let brokers = brokers.join("', '");
    format!(
        "log: {{kafka: {{brokers: ['{brokers}'], replicas: 1, min_in_sync_replicas: 1, shards: 4}}}}"
    )
}

fn what_is_on_nats_and_in_no_file_yet_is_seen() -> Result<()> {
    the_tail_is_seen("nats-tail", &on_nats(&nats()?.url()))
}

fn what_is_on_kafka_and_in_no_file_yet_is_seen() -> Result<()> {
    the_tail_is_seen("kafka-tail", &on_kafka(&kafka()?.plain()))
}

/// An installation over a log, whose recorder writes no file before it is stopped.
struct Bed {
    pipeline: Pipeline,
    evidence: PathBuf,
}

impl Bed {
    fn start(name: &str, log: &str) -> Result<Self> {
        let run = this_run()?;
        let evidence = run.folder().join(format!("{name}-evidence"));
        std::fs::create_dir_all(&evidence)?;
        let text = configuration(name, log, &evidence).replace("flush_age: 2s", "flush_age: 1h");
        ensure!(text.contains("flush_age: 1h"), "{text}");
        let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
        let pipeline = Pipeline::start_with(Arc::clone(&run), name, Cluster::Sample, &files)?;
        Ok(Self { pipeline, evidence })
    }

    fn configuration(&self) -> PathBuf {
        self.pipeline.folder().join("hoop.yaml")
    }

    /// Runs `hoop-replay` over what `place` names.
    fn replay(&self, place: (&str, &Path), arguments: &[&str]) -> Result<Answer> {
        let mut command = hoop();
        command.arg("replay").arg(place.0).arg(place.1);
        Answer::of(command.args(arguments), "")
    }

    fn by_configuration(&self, arguments: &[&str]) -> Result<Answer> {
        self.replay(("--config", &self.configuration()), arguments)
    }
}

/// The ids of events of this kind, each of which has to be there once.
fn audit_ids(exported: &str, kind: &str) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for line in exported.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["kind"] == kind {
            let id = event["request"]["audit_id"].as_str().context("an id")?;
            ensure!(ids.insert(id.to_owned()), "{id} is there twice");
        }
    }
    Ok(ids)
}

fn the_tail_is_seen(name: &str, log: &str) -> Result<()> {
    let mut bed = Bed::start(name, log)?;
    let mut asked: BTreeSet<String> = bed.pipeline.work("alice", REQUESTS)?.into_iter().collect();
    asked.extend(bed.pipeline.work("bob", REQUESTS)?);
    let data = bed.pipeline.data();
    // An intent is on the log before its request has an effect, so all of them are there now.
    for place in [("--config", bed.configuration()), ("--data", data.clone())] {
        let exported = bed.replay((place.0, &place.1), &["export"])?;
        let exported = exported.expect_success()?;
        let intents = audit_ids(&exported, "intent")?;
        ensure!(asked.is_subset(&intents), "{place:?}: {intents:?}");
    }
    // Files alone say nothing yet.
    let files = bed.replay(("--evidence", &bed.evidence), &["list"])?;
    ensure!(files.code == Some(66), "{files:?}");

    let listed = bed.by_configuration(&["list", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed.expect_success()?)?;
    let session = listed.as_array().and_then(|all| {
        let of_bob = all.iter().find(|session| session["user"] == "bob")?;
        of_bob["session_id"].as_str()
    });
    let session = session.with_context(|| format!("bob is listed in {listed}"))?;
    let shown = bed.by_configuration(&["show", session])?.expect_success()?;
    ensure!(shown.contains("bob"), "{shown}");

    who_is_at_work_is_listed_and_ended(&bed)?;
    // Once it is in files, it is there once all the same.
    bed.pipeline.stop()?;
    let stopped = bed.by_configuration(&["export"])?.expect_success()?;
    let of_files = bed.replay(("--evidence", &bed.evidence), &["export"])?;
    let of_files = of_files.expect_success()?;
    for kind in ["intent", "outcome"] {
        let all = audit_ids(&stopped, kind)?;
        ensure!(all == audit_ids(&of_files, kind)?, "{kind}");
        ensure!(asked.is_subset(&all), "{kind}: {all:?}");
    }
    let verified = bed.by_configuration(&["verify"])?;
    ensure!(matches!(verified.code, Some(0 | 3)), "{verified:?}");
    Ok(())
}

/// `hoop sessions` finds on the brokers what it needs.
fn who_is_at_work_is_listed_and_ended(bed: &Bed) -> Result<()> {
    let data = bed.pipeline.data();
    let sessions = |arguments: &[&str]| {
        let mut command = hoop();
        command.arg("sessions").args(arguments);
        Answer::of(command.arg("--data").arg(&data), "")
    };
    let listed = sessions(&["list"])?.expect_success()?;
    ensure!(
        listed.contains("alice") && listed.contains("bob"),
        "{listed}"
    );
    let ended = sessions(&["end", "--user", "bob"])?;
    ensure!(ended.stderr.contains("at each of them"), "{ended:?}");
    ended.expect_success()?;
    bed.pipeline.work("bob", 1)?;
    let exported = bed.by_configuration(&["export"])?.expect_success()?;
    let is_refused = |line: &str| line.contains("\"bob\"") && line.contains("\"access_ended\"");
    ensure!(exported.lines().any(is_refused), "bob is let in");
    Ok(())
}

fn without_nats_the_files_are_shown_with_a_warning() -> Result<()> {
    let run = this_run()?;
    let mut server = Nats::start(&run, "nats-tail-away", "")?;
    let mut bed = Bed::start("nats-tail-away", &on_nats(&server.url()))?;
    bed.pipeline.work("alice", REQUESTS)?;
    bed.pipeline.stop()?;
    let before = bed.by_configuration(&["list"])?.expect_success()?;
    server.kill();
    for place in [
        ("--config", bed.configuration()),
        ("--data", bed.pipeline.data()),
    ] {
        let listed = bed.replay((place.0, &place.1), &["list"])?;
        ensure!(listed.code == Some(74), "{listed:?}");
        ensure!(listed.stdout == before, "{listed:?}, before: {before:?}");
        ensure!(listed.stderr.contains(&server.url()), "{listed:?}");
        ensure!(listed.stderr.contains("newest events"), "{listed:?}");
    }
    let verified = bed.by_configuration(&["verify", "-o", "json"])?;
    ensure!(verified.code == Some(2), "{verified:?}");
    ensure!(verified.stdout.contains("cannot connect"), "{verified:?}");
    // A directory that says that there is more than files, while nobody says where.
    std::fs::remove_file(bed.configuration())?;
    let listed = bed.replay(("--data", &bed.pipeline.data()), &["list"])?;
    ensure!(listed.stderr.contains("--config"), "{listed:?}");
    ensure!(!listed.success, "{listed:?}");
    Ok(())
}

fn a_reader_of_nats_creates_nothing() -> Result<()> {
    creates_nothing("nats-tail-nobody", &on_nats(&nats()?.url()))
}

fn a_reader_of_kafka_creates_nothing() -> Result<()> {
    creates_nothing("kafka-tail-nobody", &on_kafka(&kafka()?.plain()))?;
    // Nobody is at this address.
    let nobody = format!("127.0.0.1:{}", free_port()?);
    let away = looked_at("kafka-tail-away", &on_kafka(std::slice::from_ref(&nobody)))?;
    ensure!(away.code == Some(74), "{away:?}");
    ensure!(away.stderr.contains(&nobody), "{away:?}");
    Ok(())
}

/// Looks twice at an installation that never was.
fn creates_nothing(name: &str, log: &str) -> Result<()> {
    for _ in 0..2 {
        let looked = looked_at(name, log)?;
        ensure!(looked.code == Some(74), "{looked:?}");
        ensure!(looked.stderr.contains("does not exist"), "{looked:?}");
    }
    Ok(())
}

fn looked_at(name: &str, log: &str) -> Result<Answer> {
    let folder = this_run()?.folder().join(name);
    let evidence = folder.join("evidence");
    std::fs::create_dir_all(evidence.join("events/v1"))?;
    let file = folder.join("hoop.yaml");
    std::fs::write(&file, configuration(name, log, &evidence))?;
    let mut command = hoop();
    command.args(["replay", "--config"]).arg(&file).arg("list");
    Answer::of(&mut command, "")
}
