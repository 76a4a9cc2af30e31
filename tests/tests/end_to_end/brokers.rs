//! More than one machine: several `hoop proxy` and `hoop recorder` with brokers between them.

mod tail;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{Answer, Nats, Need, Python};
use serde_json::Value;
use tokio::time::timeout;

use crate::client;
use crate::harness::{Test, kafka, nats, tests, this_run};
use crate::pipeline::{CONFIGURATION, Cluster, POLICY, Pipeline, hoop};
use crate::transparency;

/// How long everything may take to be in files.
const RECORDED_WITHIN: Duration = Duration::from_secs(60);

/// Requests whose end a kill may have left unsaid: those that were just answered, one of each person and kill.
const UNSAID_MAX: usize = 4;

/// How long a refused person tries: longer than the gateway waits for the log.
const REFUSED_FOR: Duration = Duration::from_secs(12);

/// How many requests each person makes at a time.
const REQUESTS: usize = 20;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Nats, Need::Tlog];
        nats_between_two_gateways_and_two_recorders_loses_and_doubles_nothing,
        while_nats_is_down_rules_with_a_spool_go_on_and_others_are_refused,
    ];
    tests.extend(tests![&[Need::Kafka, Need::Tlog];
        kafka_between_two_gateways_and_two_recorders_loses_and_doubles_nothing,
    ]);
    tests.extend(tests![&[Need::Nats, Need::Faketime];
        gateways_whose_clocks_are_an_hour_apart_are_named_and_nothing_is_lost,
    ]);
    tests.extend(tests![&[Need::Nats, Need::Kafka];
        a_check_asks_the_brokers_and_creates_nothing,
    ]);
    tests.extend(tests![&[Need::Nats, Need::Kafka, Need::Python];
        the_sample_consumers_tell_who_was_refused_and_who_asked_for_secrets,
    ]);
    tests.extend(tests![&[]; a_part_alone_over_the_embedded_log_is_refused]);
    tests.extend(tail::tests());
    tests
}

fn nats_between_two_gateways_and_two_recorders_loses_and_doubles_nothing() -> Result<()> {
    let log = format!(
        "log: {{nats: {{servers: ['{}'], replicas: 1, shards: 4, bytes_max: 64MiB}}}}",
        nats()?.url()
    );
    side_by_side("nats", &log)
}

fn kafka_between_two_gateways_and_two_recorders_loses_and_doubles_nothing() -> Result<()> {
    let brokers = kafka()?.plain().join("', '");
    let log = format!(
        "log: {{kafka: {{brokers: ['{brokers}'], replicas: 1, min_in_sync_replicas: 1, shards: 4}}}}"
    );
    side_by_side("kafka", &log)
}

/// Configuration of all processes over one log and one place of evidence.
fn configuration(name: &str, log: &str, evidence: &Path) -> String {
    let cluster = format!("cluster: {name}-side-by-side");
    let configuration = CONFIGURATION.replace("cluster: test", &cluster);
    format!(
        "{configuration}{log}\nevidence: {{place: '{}'}}\n",
        evidence.display()
    )
}

/// Two of each; one of each is killed at work and comes back.
fn side_by_side(name: &str, log: &str) -> Result<()> {
    let run = this_run()?;
    let evidence = run.folder().join(format!("{name}-evidence"));
    std::fs::create_dir_all(&evidence)?;
    let cluster = format!("{name}-side-by-side");
    let (key, vkey) = transparency::make_key(&run.folder().join(format!("{name}-key")), &cluster)?;
    // Recorders of one cluster share one key.
    let text = configuration(name, log, &evidence).replace(
        "recorder: {",
        &format!("recorder: {{signing_key: '{}', ", key.display()),
    );
    let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
    let part = |part, number| {
        let name = format!("{name}-{part}-{number}");
        Pipeline::start_part(Arc::clone(&run), &name, part, Cluster::Sample, &files)
    };
    let mut gateways = [part("proxy", 1)?, part("proxy", 2)?];
    let mut recorders = [part("recorder", 1)?, part("recorder", 2)?];
    let mut asked = Vec::new();
    for round in 0..3 {
        for gateway in &gateways {
            asked.extend(gateway.work("alice", REQUESTS)?);
            asked.extend(gateway.work("bob", REQUESTS)?);
        }
        match round {
            0 => {
                recorders[0].kill();
                gateways[1].kill();
                gateways[1].start_again()?;
            }
            1 => recorders[0].start_again()?,
            _ => {}
        }
    }
    for gateway in &mut gateways {
        gateway.stop()?;
    }
    every_request_is_recorded(&evidence, &asked)?;
    for recorder in &mut recorders {
        recorder.stop()?;
    }
    nothing_is_doubled(&evidence)?;
    let verified = replay(&evidence, &["verify", "-o", "json", "--key", &vkey])?;
    transparency::ensure_logs_are_proven(&verified)?;
    let leaves = transparency::proven_by_reference(&evidence, &vkey)?;
    ensure!(leaves > 1, "{leaves} leaves");
    Ok(())
}

fn gateways_whose_clocks_are_an_hour_apart_are_named_and_nothing_is_lost() -> Result<()> {
    let run = this_run()?;
    let evidence = run.folder().join("clocks-evidence");
    std::fs::create_dir_all(&evidence)?;
    let log = format!(
        "log: {{nats: {{servers: ['{}'], replicas: 1, shards: 2, bytes_max: 64MiB}}}}",
        nats()?.url()
    );
    let text = configuration("clocks", &log, &evidence);
    let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
    let part = |part, number| {
        let name = format!("clocks-{part}-{number}");
        Pipeline::start_part(Arc::clone(&run), &name, part, Cluster::Sample, &files)
    };
    let [mut right, mut fast, mut slow] = [part("proxy", 1)?, part("proxy", 2)?, part("proxy", 3)?];
    for (gateway, ahead) in [(&mut fast, "+1h"), (&mut slow, "-1h")] {
        gateway.stop()?;
        gateway.set_clock(ahead);
        gateway.start_again()?;
    }
    let mut recorder = part("recorder", 1)?;
    let mut asked = Vec::new();
    for _ in 0..3 {
        for gateway in [&right, &fast, &slow] {
            asked.extend(gateway.work("alice", REQUESTS)?);
        }
    }
    for gateway in [&mut right, &mut fast, &mut slow] {
        gateway.stop()?;
    }
    every_request_is_recorded(&evidence, &asked)?;
    let said = recorder.said();
    recorder.stop()?;
    nothing_is_doubled(&evidence)?;
    ensure!(said.contains("its clock is ahead of the log's"), "{said}");
    let verified = replay(&evidence, &["verify", "-o", "json"])?.expect_success()?;
    let verified: Value = serde_json::from_str(&verified)?;
    let notes = verified["notes"].to_string();
    for way in [
        "was ahead of the log's, by up to",
        "was behind the log's, by up to 1h",
    ] {
        ensure!(notes.contains(way), "{notes}");
    }
    Ok(())
}

fn while_nats_is_down_rules_with_a_spool_go_on_and_others_are_refused() -> Result<()> {
    let run = this_run()?;
    let mut server = Nats::start(&run, "nats-down", "")?;
    let evidence = run.folder().join("nats-down-evidence");
    std::fs::create_dir_all(&evidence)?;
    let log = format!(
        "log: {{nats: {{servers: ['{}'], replicas: 1, shards: 2, bytes_max: 64MiB}}}}",
        server.url()
    );
    let text = configuration("nats-down", &log, &evidence);
    // The people of the platform may go on, the developers may not.
    let policy = POLICY.replace(
        "  - name: everything\n    effect: allow\n",
        "  - name: everything\n    effect: allow\n    durability: spool\n",
    );
    ensure!(policy != POLICY, "the rule is there");
    let files = [("hoop.yaml", text.as_str()), ("policy.yaml", &policy)];
    let mut both = Pipeline::start_with(Arc::clone(&run), "nats-down", Cluster::Sample, &files)?;
    let mut asked = both.work("alice", REQUESTS)?;
    asked.extend(both.work("bob", REQUESTS)?);
    server.kill();
    asked.extend(both.work("alice", REQUESTS)?);
    let bob = both.kubeconfig("bob");
    // The client asks again and again while the answer is 503.
    let answered =
        client::block_on(async { Ok(timeout(REFUSED_FOR, client::status(&bob)).await) })?;
    let refused = !matches!(&answered, Ok(Ok(status)) if status.is_success());
    ensure!(refused, "{answered:?}: the broker has no intent");
    // What is in the spool survives the process.
    both.kill();
    server.start_again(&run)?;
    both.start_again()?;
    asked.extend(both.work("bob", REQUESTS)?);
    every_request_is_recorded(&evidence, &asked)?;
    both.stop()?;
    nothing_is_doubled(&evidence)
}

fn the_sample_consumers_tell_who_was_refused_and_who_asked_for_secrets() -> Result<()> {
    let run = this_run()?;
    let python = Python::with_brokers()?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let (nats, brokers) = (nats()?.url(), kafka()?.plain());
    let on_nats =
        format!("log: {{nats: {{servers: ['{nats}'], replicas: 1, shards: 2, bytes_max: 64MiB}}}}");
    let on_kafka = format!(
        "log: {{kafka: {{brokers: ['{}'], replicas: 1, min_in_sync_replicas: 1, shards: 2}}}}",
        brokers.join("', '")
    );
    for (name, log, server, stream) in [
        (
            "nats-siem",
            on_nats,
            nats.as_str(),
            "audit_nats-siem-side-by-side_standard",
        ),
        (
            "kafka-siem",
            on_kafka,
            &brokers[0],
            "audit.kafka-siem-side-by-side.standard",
        ),
    ] {
        let evidence = run.folder().join(format!("{name}-evidence"));
        let text = configuration(name, &log, &evidence);
        let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
        let pipeline = Pipeline::start_with(Arc::clone(&run), name, Cluster::Sample, &files)?;
        let asked = pipeline.work("bob", REQUESTS)?.len();
        let file = examples.join(format!("{}_alerts.py", name.trim_end_matches("-siem")));
        let consumer = python.start(&run, &format!("{name}-consumer"), &file, &[server, stream])?;
        let begun = Instant::now();
        // Of four requests one is for secrets, and one is forbidden.
        loop {
            let said = consumer.log();
            let told: Vec<Value> = said
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .filter(|alert: &Value| alert["who"] == "bob")
                .collect();
            let secrets = told.iter().filter(|alert| alert["what"] == "secrets");
            let refused = told.iter().filter(|alert| alert["effect"] == "deny");
            if (secrets.count(), refused.count()) == (asked / 4, asked / 4) {
                break;
            }
            ensure!(begun.elapsed() < RECORDED_WITHIN, "{name} said {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn a_part_alone_over_the_embedded_log_is_refused() -> Result<()> {
    let run = this_run()?;
    let folder = run.folder().join("part-alone");
    for part in ["proxy", "recorder"] {
        let mut command = hoop();
        command.arg(part).arg("--data").arg(&folder);
        let answer = Answer::of(&mut command, "")?;
        ensure!(answer.code == Some(64), "{answer:?}");
        ensure!(answer.stderr.contains("log.kafka.brokers"), "{answer:?}");
    }
    Ok(())
}

fn replay(evidence: &Path, arguments: &[&str]) -> Result<Answer> {
    let mut command = hoop();
    command.args(["replay", "--evidence"]).arg(evidence);
    Answer::of(command.args(arguments), "")
}

/// All events in the files.
fn events(evidence: &Path) -> Result<Vec<Value>> {
    let exported = replay(evidence, &["export"])?;
    let lines = exported.stdout.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().context("events are JSON")
}

/// Waits until there is an intent for each audit id, and an outcome, but for the few that a kill may have cost.
fn every_request_is_recorded(evidence: &Path, asked: &[String]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut found: BTreeMap<(String, String), u32> = BTreeMap::new();
        for event in events(evidence)? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let key = (text(&event["request"]["audit_id"]), text(&event["kind"]));
            *found.entry(key).or_default() += 1;
        }
        let count = |id: &String, kind: &str| {
            let key = (id.clone(), kind.to_owned());
            found.get(&key).copied().unwrap_or_default()
        };
        let doubled = asked
            .iter()
            .find(|id| count(id, "intent") > 1 || count(id, "outcome") > 1);
        ensure!(doubled.is_none(), "{doubled:?} is there twice");
        let without = |kind| asked.iter().filter(|id| count(id, kind) == 0).count();
        let (missing, unsaid) = (without("intent"), without("outcome"));
        if missing == 0 && unsaid <= UNSAID_MAX {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < RECORDED_WITHIN,
            "of {} requests {missing} have no intent, {unsaid} no outcome",
            asked.len()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// No event id is in the files twice.
fn nothing_is_doubled(evidence: &Path) -> Result<()> {
    let mut ids: Vec<String> = events(evidence)?
        .iter()
        .map(|event| event["event_id"].to_string())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == all, "{} events are copies", all - ids.len());
    Ok(())
}

fn a_check_asks_the_brokers_and_creates_nothing() -> Result<()> {
    let run = this_run()?;
    let (nats, brokers) = (nats()?.url(), kafka()?.plain());
    let on_nats = |server: &str, shards: u32| {
        format!(
            "log: {{nats: {{servers: ['{server}'], replicas: 1, shards: {shards}, bytes_max: 64MiB}}}}"
        )
    };
    let on_kafka = |broker: &str, shards: u32| {
        format!(
            "log: {{kafka: {{brokers: ['{broker}'], replicas: 1, min_in_sync_replicas: 1, shards: {shards}}}}}"
        )
    };
    let nobody = format!("127.0.0.1:{}", hoop_tests::testbed::free_port()?);
    for (name, good, other, away) in [
        (
            "nats-check",
            on_nats(&nats, 2),
            on_nats(&nats, 3),
            on_nats(&format!("nats://{nobody}"), 2),
        ),
        (
            "kafka-check",
            on_kafka(&brokers[0], 2),
            on_kafka(&brokers[0], 3),
            on_kafka(&nobody, 2),
        ),
    ] {
        let folder = run.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("policy.yaml"), POLICY)?;
        let check = |log: &str| {
            std::fs::write(
                folder.join("hoop.yaml"),
                configuration(name, log, &folder.join("evidence")),
            )?;
            let mut command = hoop();
            command
                .args(["check", "--config"])
                .arg(folder.join("hoop.yaml"))
                .arg("--data")
                .arg(folder.join("data"));
            anyhow::Ok(Answer::of(&mut command, "")?.stdout)
        };
        for _ in 0..2 {
            let said = check(&good)?;
            ensure!(
                said.matches("the first start creates it").count() == 3,
                "{said}"
            );
        }
        let text = configuration(name, &good, &folder.join("evidence"));
        let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
        Pipeline::start_with(Arc::clone(&run), name, Cluster::Sample, &files)?.stop()?;
        let said = check(&good)?;
        ensure!(said.matches("as it must be").count() == 3, "{said}");
        let said = check(&other)?;
        ensure!(said.contains("wrong") && said.contains("shards"), "{said}");
        let said = check(&away)?;
        ensure!(said.matches("wrong  log").count() == 1, "{said}");
    }
    Ok(())
}
