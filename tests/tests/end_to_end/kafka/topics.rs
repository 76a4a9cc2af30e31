//! Topics that are not as they must be, and who may use them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::{event, read_all};
use hoop_sinks::log::kafka::{
    KafkaReader, KafkaWriter, OpenError, Options, Sasl, Secret, Security, Tls, TokenFile,
};
use hoop_sinks::log::{AppendError, EventReader, EventWriter, Position, ReadError};
use hoop_tests::testbed::{Kafka, Need};

use super::{block_on, options};
use crate::harness::{self, Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Kafka];
        a_topic_that_would_lose_events_is_refused_with_the_command_that_mends_it,
        a_topic_that_is_missing_is_named_with_the_command_that_creates_it,
        a_topic_created_again_under_its_name_is_another_log,
        an_event_beyond_the_limit_of_the_topic_concerns_no_other,
        other_consumers_see_cloudevents_and_the_usual_tools_see_the_lag,
        every_way_to_say_who_we_are_works,
        a_wrong_password_is_said,
    ]
}

fn class() -> Class {
    Class::standard()
}

fn command(kafka: &Kafka, script: &str, rest: &str) -> Result<String> {
    let brokers = kafka.plain().join(",");
    kafka
        .tool(&format!("{script} --bootstrap-server {brokers} {rest}"))?
        .expect_success()
}

async fn append(writer: &KafkaWriter, text: &str) -> Result<Position> {
    Ok(writer.append(Shard(0), event(text.to_owned())).await?)
}

fn a_topic_that_would_lose_events_is_refused_with_the_command_that_mends_it() -> Result<()> {
    let kafka = harness::kafka()?;
    block_on(async {
        let options = options(kafka.plain());
        let topic = options.topic(&class());
        let wrong = "--config cleanup.policy=compact --config message.timestamp.type=CreateTime --config \
                     retention.ms=3600000 --config unclean.leader.election.enable=true --config max.message.bytes=1000";
        let rest =
            format!("--create --topic {topic} --partitions 2 --replication-factor 1 {wrong}");
        command(&kafka, "kafka-topics.sh", &rest)?;
        let refused = KafkaWriter::open(class(), options.clone()).await;
        let Err(OpenError::Settings {
            problems, commands, ..
        }) = refused
        else {
            bail!("opened with wrong settings: {refused:?}");
        };
        ensure!(
            problems.len() == 5 && commands.len() == 1,
            "{problems:?} {commands:?}"
        );
        kafka.tool(&commands[0])?.expect_success()?;
        let writer = KafkaWriter::open(class(), options.clone()).await?;
        append(&writer, "mended").await?;
        writer.close().await;

        let mut more = options.clone();
        more.shards = NonZeroU32::new(3).context("not zero")?;
        let refused = KafkaReader::open(class(), more).await;
        ensure!(
            matches!(refused, Err(OpenError::Settings { .. })),
            "{refused:?}"
        );
        let mut copies = options.clone();
        copies.replicas = NonZeroU32::new(3).context("not zero")?;
        let refused = KafkaReader::open(class(), copies).await;
        ensure!(
            matches!(refused, Err(OpenError::Settings { .. })),
            "{refused:?}"
        );
        Ok(())
    })
}

fn a_topic_that_is_missing_is_named_with_the_command_that_creates_it() -> Result<()> {
    let kafka = harness::kafka()?;
    block_on(async {
        let mut options = options(kafka.plain());
        options.create_topic = false;
        let refused = KafkaReader::open(class(), options.clone()).await;
        let Err(OpenError::Missing { command, .. }) = refused else {
            bail!("opened what is not there: {refused:?}");
        };
        kafka.tool(&command)?.expect_success()?;
        let writer = KafkaWriter::open(class(), options.clone()).await?;
        append(&writer, "first").await?;
        writer.close().await;

        options.cluster.push_str("-more");
        options.create_topic = true;
        options.replicas = NonZeroU32::new(3).context("not zero")?;
        let refused = KafkaWriter::open(class(), options).await;
        ensure!(
            matches!(refused, Err(OpenError::Create { .. })),
            "{refused:?}"
        );
        Ok(())
    })
}

fn a_topic_created_again_under_its_name_is_another_log() -> Result<()> {
    let kafka = harness::kafka()?;
    block_on(async {
        let options = options(kafka.plain());
        let topic = options.topic(&class());
        let writer = KafkaWriter::open(class(), options.clone()).await?;
        let reader = KafkaReader::open(class(), options.clone()).await?;
        for n in 0..10 {
            append(&writer, &format!("{n}")).await?;
        }
        ensure!(read_all(&reader, Shard(0), Position(0)).await.len() == 10);

        command(
            &kafka,
            "kafka-topics.sh",
            &format!("--delete --topic {topic}"),
        )?;
        let again = loop {
            match KafkaReader::open(class(), options.clone()).await {
                Ok(again) => break again,
                // The brokers may still be at deleting it.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        ensure!(again.source() != reader.source(), "the same name for ever");
        let read = reader
            .read(Shard(0), Position(10), 1 << 20, Duration::from_secs(60))
            .await;
        let read = match read {
            Err(ReadError::Unavailable(_)) => {
                reader.read(Shard(0), Position(10), 1, Duration::ZERO).await
            }
            other => other,
        };
        let Err(ReadError::Damaged { what, .. }) = &read else {
            bail!("reading on in another log: {read:?}");
        };
        ensure!(what.contains("created again"), "{what}");
        // A writer that asks notices at once; one that does not, with the next look at the topic.
        drop(writer.ready().await);
        let refused = writer.append(Shard(0), event("into another log")).await;
        ensure!(
            matches!(refused, Err(AppendError::Terminal(_))),
            "{refused:?}"
        );
        let new = KafkaWriter::open(class(), options.clone()).await?;
        ensure!(append(&new, "new").await? == Position(0));
        Ok(())
    })
}

fn an_event_beyond_the_limit_of_the_topic_concerns_no_other() -> Result<()> {
    let kafka = harness::kafka()?;
    block_on(async {
        let options = options(kafka.plain());
        let topic = options.topic(&class());
        let writer = KafkaWriter::open(class(), options.clone()).await?;
        let too_large = vec![b'x'; options.record_bytes_max + 1];
        let refused = writer.append(Shard(0), event(too_large)).await;
        ensure!(
            matches!(refused, Err(AppendError::Terminal(_))),
            "{refused:?}"
        );
        let largest = noise(options.record_bytes_max);
        writer.append(Shard(0), event(largest.clone())).await?;

        let lowered = "--alter --entity-type topics --add-config max.message.bytes=20000";
        command(
            &kafka,
            "kafka-configs.sh",
            &format!("{lowered} --entity-name {topic}"),
        )?;
        let refused = writer.append(Shard(0), event(largest)).await;
        ensure!(
            matches!(refused, Err(AppendError::Terminal(_))),
            "{refused:?}"
        );
        append(&writer, "small").await?;
        writer.close().await;
        let reader = KafkaReader::open(class(), options.clone()).await;
        ensure!(
            matches!(reader, Err(OpenError::Settings { .. })),
            "{reader:?}"
        );
        Ok(())
    })
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| byte()).collect()
}

fn other_consumers_see_cloudevents_and_the_usual_tools_see_the_lag() -> Result<()> {
    let kafka = harness::kafka()?;
    block_on(async {
        let mut options = options(kafka.plain());
        options.lag_group = format!("recorders-of-{}", options.cluster);
        let topic = options.topic(&class());
        let writer = KafkaWriter::open(class(), options.clone()).await?;
        for n in 0..10 {
            append(&writer, &format!(r#"{{"n":{n}}}"#)).await?;
        }
        let rest = format!(
            "--topic {topic} --partition 0 --offset 0 --max-messages 1 --property print.headers=true --property \
             print.key=true"
        );
        let seen = command(&kafka, "kafka-console-consumer.sh", &rest)?;
        for part in [
            "ce_specversion:1.0",
            "ce_type:hoop.audit.heartbeat",
            "content-type:application/json",
            r#"{"n":0}"#,
        ] {
            ensure!(seen.contains(part), "{part} is not in {seen}");
        }

        let reader = KafkaReader::open(class(), options.clone()).await?;
        reader.committed(Shard(0), Position(7)).await;
        let rest = format!("--describe --group {}", options.lag_group);
        for _ in 0..20 {
            let groups = kafka.tool(&format!(
                "kafka-consumer-groups.sh --bootstrap-server {} {rest}",
                kafka.plain().join(",")
            ))?;
            let line = groups.stdout.lines().find(|line| line.contains(&topic));
            let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
            if words.get(3..6) == Some(&["7", "10", "3"]) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        bail!("the lag is not shown")
    })
}

fn tls(kafka: &Kafka) -> Tls {
    Tls {
        ca_pem: Some(kafka.ca().to_owned()),
        ..Tls::default()
    }
}

fn scram(password: &str) -> Sasl {
    Sasl::ScramSha512 {
        user: "alice".to_owned(),
        password: Secret::new(password),
    }
}

fn every_way_to_say_who_we_are_works() -> Result<()> {
    let kafka = harness::kafka()?;
    let (certificate, key) = kafka.client_certificate("gateway")?;
    let mutual = Tls {
        certificate_pem: Some(certificate),
        key_pem: Some(Secret::new(key)),
        ..tls(&kafka)
    };
    let alice = || ("alice".to_owned(), Secret::new("alice-secret"));
    let (user, password) = alice();
    let plain = Sasl::Plain { user, password };
    let (user, password) = alice();
    let sha256 = Sasl::ScramSha256 { user, password };
    let file = tempfile::NamedTempFile::new()?;
    let expires = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs()
        + 3600;
    let claims = format!(
        r#"{{"sub":"gateway","iat":{},"exp":{expires}}}"#,
        expires - 3600
    );
    let (head, claims) = (
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(claims),
    );
    std::fs::write(file.path(), format!("{head}.{claims}."))?;
    let token = Sasl::OAuthBearer(std::sync::Arc::new(TokenFile(file.path().to_owned())));

    let mut ways: BTreeMap<&str, (Vec<String>, Tls, Option<Sasl>)> = BTreeMap::new();
    ways.insert("a client certificate", (kafka.tls(), mutual, None));
    for (name, sasl) in [
        ("PLAIN", plain),
        ("SCRAM-SHA-256", sha256),
        ("SCRAM-SHA-512", scram("alice-secret")),
        ("OAUTHBEARER", token),
    ] {
        ways.insert(name, (kafka.sasl(), tls(&kafka), Some(sasl)));
    }
    for (name, (brokers, tls, sasl)) in ways {
        block_on(async {
            let mut options = options(brokers);
            // Under OAUTHBEARER topics have to exist.
            let mut plain: Options = options.clone();
            plain.brokers = kafka.plain();
            drop(KafkaReader::open(class(), plain).await?);
            options.security = Security {
                tls: Some(tls),
                sasl,
            };
            let writer = KafkaWriter::open(class(), options.clone()).await?;
            writer.ready().await?;
            append(&writer, name).await?;
            writer.close().await;
            let reader = KafkaReader::open(class(), options).await?;
            let records = read_all(&reader, Shard(0), Position(0)).await;
            ensure!(records.len() == 1, "{records:?}");
            Ok(())
        })
        .with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn a_wrong_password_is_said() -> Result<()> {
    let kafka = harness::kafka()?;
    block_on(async {
        let mut options = options(kafka.sasl());
        options.security = Security {
            tls: Some(tls(&kafka)),
            sasl: Some(scram("guessed")),
        };
        let refused = KafkaWriter::open(class(), options).await;
        let Err(error @ OpenError::Unreachable { .. }) = refused else {
            bail!("opened with a wrong password: {refused:?}");
        };
        let text = error.to_string();
        ensure!(text.to_lowercase().contains("authentication"), "{text}");
        ensure!(!text.contains("guessed"), "{text}");
        Ok(())
    })
}
