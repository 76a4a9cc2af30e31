//! The rights that the documents give on Kafka: enough for each part, and no more.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::{event, read_all};
use hoop_sinks::log::kafka::{
    KafkaReader, KafkaWriter, OpenError, Options, Sasl, Secret, Security, Tls,
};
use hoop_sinks::log::{EventReader, EventWriter, Position};
use hoop_tests::testbed::{Kafka, Need};

use super::{block_on, options};
use crate::harness::{Test, tests, this_run};

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Kafka];
        what_the_documents_allow_is_enough_for_each_part_and_no_more,
    ]
}

/// How long a read waits for what it may not have, and how often it is tried.
const READ_WAIT: Duration = Duration::from_secs(5);
const READS_MAX: u32 = 12;

/// What `docs/brokers.md` allows, for one user each.
const RIGHTS: [(&str, &[&str]); 3] = [
    (
        "gateway",
        &[
            "--operation Write --operation Create --operation DescribeConfigs --resource-pattern-type prefixed --topic PREFIX",
        ],
    ),
    (
        "recorder",
        &[
            "--operation Read --operation Create --operation DescribeConfigs --resource-pattern-type prefixed --topic PREFIX",
            "--operation Read --group GROUP",
        ],
    ),
    (
        "investigator",
        &["--operation Describe --operation Read --resource-pattern-type prefixed --topic PREFIX"],
    ),
];

fn secured(options: &Options, kafka: &Kafka, user: &str) -> Options {
    let tls = Tls {
        ca_pem: Some(kafka.ca().to_owned()),
        ..Tls::default()
    };
    let sasl = Sasl::ScramSha512 {
        user: user.to_owned(),
        password: Secret::new(format!("{user}-secret")),
    };
    Options {
        brokers: kafka.sasl(),
        security: Security {
            tls: Some(tls),
            sasl: Some(sasl),
        },
        ..options.clone()
    }
}

fn administer(kafka: &Kafka, script: &str, rest: &str) -> Result<String> {
    let brokers = kafka.plain().join(",");
    let command = format!("{script} --bootstrap-server {brokers} {rest}");
    kafka.tool(&command)?.expect_success()
}

/// Creates the users and gives them their rights.
fn allow(kafka: &Kafka, base: &Options) -> Result<()> {
    for (user, rights) in RIGHTS {
        let user_of = format!(
            "--alter --add-config SCRAM-SHA-512=[password={user}-secret] --entity-type users --entity-name {user}"
        );
        administer(kafka, "kafka-configs.sh", &user_of)?;
        for right in rights {
            let right = right
                .replace("PREFIX", &format!("audit.{}.", base.cluster))
                .replace("GROUP", &base.lag_group);
            let rest = format!("--add --allow-principal User:{user} {right}");
            administer(kafka, "kafka-acls.sh", &rest)?;
        }
    }
    Ok(())
}

async fn writes(options: &Options) -> Result<()> {
    let writer = KafkaWriter::open(Class::standard(), options.clone()).await?;
    writer.append(Shard(0), event("not allowed")).await?;
    Ok(())
}

/// Whether the tools show what the recorder said: that it has recorded 7 of 10.
async fn lag_is_shown(kafka: &Kafka, base: &Options) -> Result<()> {
    let groups = format!("--describe --group {}", base.lag_group);
    for _ in 0..20 {
        let said = administer(kafka, "kafka-consumer-groups.sh", &groups)?;
        let is_lag = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.get(3..6) == Some(&["7", "10", "3"])
        };
        if said.lines().any(is_lag) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    bail!("the recorder's lag is not shown")
}

fn what_the_documents_allow_is_enough_for_each_part_and_no_more() -> Result<()> {
    let run = this_run()?;
    let authorizer = [
        (
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        ),
        ("super.users", "User:ANONYMOUS"),
    ];
    let kafka = Kafka::start(&run, "kafka-rights", 1, &authorizer)?;
    let mut base = options(kafka.plain());
    base.lag_group = format!("recorders-of-{}", base.cluster);
    allow(&kafka, &base)?;
    let [gateway, recorder, investigator] =
        ["gateway", "recorder", "investigator"].map(|user| secured(&base, &kafka, user));
    block_on(async {
        let class = Class::standard;
        let none = KafkaReader::open_to_look(class(), investigator.clone()).await;
        ensure!(matches!(none, Err(OpenError::Missing { .. })), "{none:?}");
        // Whoever comes first creates the topic.
        let reader = KafkaReader::open(class(), recorder.clone()).await?;
        let writer = KafkaWriter::open(class(), gateway.clone()).await?;
        for n in 0..10 {
            writer
                .append(Shard(0), event(format!(r#"{{"n":{n}}}"#)))
                .await?;
        }
        let read = read_all(&reader, Shard(0), Position(0)).await;
        ensure!(read.len() == 10, "{read:?}");
        reader.committed(Shard(0), Position(7)).await;
        let looker = KafkaReader::open_to_look(class(), investigator.clone()).await?;
        let seen = read_all(&looker, Shard(0), Position(0)).await;
        ensure!(seen.len() == 10, "{seen:?}");
        // And no more.
        for (options, who) in [(&recorder, "recorder"), (&investigator, "investigator")] {
            ensure!(writes(options).await.is_err(), "the {who} wrote");
        }
        let reading = KafkaReader::open(class(), gateway.clone()).await?;
        let mut refused = false;
        for _ in 0..READS_MAX {
            match reading
                .read(Shard(0), Position(0), 1 << 20, READ_WAIT)
                .await
            {
                Ok(records) => ensure!(records.is_empty(), "the gateway read: {records:?}"),
                Err(_) => {
                    refused = true;
                    break;
                }
            }
        }
        ensure!(refused, "nobody says that the gateway may not read");
        writer.close().await;
        lag_is_shown(&kafka, &base).await
    })
}
