//! What a stream has to be like, and what the log makes of others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::{event, read_all};
use hoop_sinks::log::nats::{Reader, Writer};
use hoop_sinks::log::{AppendError, EventReader, EventWriter, Position, ReadError};
use hoop_tests::testbed::{Nats, Need};

use super::bed::{admin, options, reader, writer};
use crate::client::block_on;
use crate::harness::{Test, nats, tests, this_run};

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Nats];
        a_stream_with_wrong_settings_is_refused_with_what_mends_it,
        a_stream_with_other_shards_is_refused,
        a_server_that_takes_too_small_messages_is_refused,
        a_stream_created_anew_under_its_name_is_noticed,
        an_event_that_comes_again_is_there_once,
        an_event_beyond_the_limit_is_refused_and_holds_nothing_up,
        subscribers_see_cloudevents,
        what_is_not_recorded_yet_is_shown_as_unprocessed,
    ]
}

fn a_stream_with_wrong_settings_is_refused_with_what_mends_it() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let admin = admin(&server.url()).await?;
        let wrong = Config {
            name: "audit_wrong_standard".to_owned(),
            subjects: vec!["audit.wrong.standard.>".to_owned()],
            max_age: Duration::from_secs(3600),
            discard: DiscardPolicy::Old,
            ..Config::default()
        };
        admin.create_stream(wrong.clone()).await?;
        let options = options(&server.url(), "wrong");
        let refused = Writer::open(Class::standard(), options.clone()).await;
        let refused = refused.err().context("it was taken")?.to_string();
        let (_, command) = refused
            .split_once("nats stream edit audit_wrong_standard ")
            .context("no command")?;
        let expected = "--discard=new --deny-delete --deny-purge --allow-direct --max-age=604800s --dupe-window=600s --metadata=hoop-source=";
        ensure!(command.starts_with(expected), "{refused}");
        let (source, shards) = command[expected.len()..]
            .split_once(" --metadata=hoop-shards=")
            .context("no shards")?;
        let mut right = wrong;
        right.discard = DiscardPolicy::New;
        right.deny_delete = true;
        right.deny_purge = true;
        right.allow_direct = true;
        right.max_age = Duration::from_secs(604_800);
        right.duplicate_window = Duration::from_secs(600);
        right.metadata = [("hoop-source", source), ("hoop-shards", shards)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        admin.update_stream(right).await?;
        let reader = reader(&options).await?;
        ensure!(reader.source().to_string() == source);
        Ok(())
    })
}

fn a_stream_with_other_shards_is_refused() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let mut options = options(&server.url(), "shards");
        writer(&options).await?.close().await;
        options.shards = options.shards.saturating_add(1);
        let refused = Reader::open(Class::standard(), options).await;
        let refused = refused.err().context("it was taken")?.to_string();
        ensure!(refused.contains("has 2 shards, not 3"), "{refused}");
        Ok(())
    })
}

fn a_server_that_takes_too_small_messages_is_refused() -> Result<()> {
    let run = this_run()?;
    let server = Nats::start(&run, "nats-narrow", "max_payload: 65536")?;
    block_on(async {
        let options = options(&server.url(), "narrow");
        let refused = Writer::open(Class::standard(), options).await;
        let refused = refused.err().context("it was taken")?.to_string();
        ensure!(refused.contains("set `max_payload: 528384`"), "{refused}");
        Ok(())
    })
}

fn a_stream_created_anew_under_its_name_is_noticed() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let options = options(&server.url(), "anew");
        let (old_writer, old_reader) = (writer(&options).await?, reader(&options).await?);
        let first = old_writer.append(Shard(0), event("old")).await?;
        let stream = "audit_anew_standard";
        admin(&server.url()).await?.delete_stream(stream).await?;
        ensure!(old_writer.ready().await.is_err(), "there is no stream");
        let (new_writer, new_reader) = (writer(&options).await?, reader(&options).await?);
        ensure!(new_reader.source() != old_reader.source());
        // The same position in the other log.
        let again = new_writer.append(Shard(0), event("new")).await?;
        ensure!(again == first, "{again}");
        let wait = Duration::ZERO;
        match old_reader.read(Shard(0), first, 0, wait).await {
            Err(ReadError::Unavailable(cause)) => {
                ensure!(cause.to_string().contains("created anew"), "{cause}");
            }
            other => anyhow::bail!("the old reader took the new log for its own: {other:?}"),
        }
        ensure!(old_reader.bounds(Shard(0)).await.is_err());
        old_writer.append(Shard(0), event("from before")).await?;
        let records = read_all(&new_reader, Shard(0), Position(0)).await;
        ensure!(records.len() == 2, "{records:?}");
        Ok(())
    })
}

fn an_event_that_comes_again_is_there_once() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let options = options(&server.url(), "again");
        let (writer, reader) = (writer(&options).await?, reader(&options).await?);
        let twice = event("twice");
        let first = writer.append(Shard(0), twice.clone()).await?;
        writer.append(Shard(0), event("between")).await?;
        ensure!(writer.append(Shard(0), twice).await? == first);
        let records = read_all(&reader, Shard(0), Position(0)).await;
        ensure!(records.len() == 2, "{records:?}");
        Ok(())
    })
}

fn an_event_beyond_the_limit_is_refused_and_holds_nothing_up() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let mut options = options(&server.url(), "large");
        let admin = admin(&server.url()).await?;
        options.record_bytes_max = 200_000;
        let writer = writer(&options).await?;
        // The stream's own limit becomes narrower than what was agreed on.
        let stream = admin.get_stream("audit_large_standard").await?;
        let mut narrow = stream.cached_info().config.clone();
        narrow.max_message_size = 100_000;
        admin.update_stream(narrow).await?;
        let appends = [10, 150_000, 20, 200_001, 30]
            .map(|bytes| writer.append(Shard(0), event(vec![b'x'; bytes])));
        let mut taken = Vec::new();
        for append in appends {
            taken.push(match append.await {
                Ok(_) => true,
                Err(AppendError::Terminal(_)) => false,
                Err(other) => return Err(other.into()),
            });
        }
        ensure!(taken == [true, false, true, false, true], "{taken:?}");
        Ok(())
    })
}

fn subscribers_see_cloudevents() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let options = options(&server.url(), "cloud");
        let writer = writer(&options).await?;
        let event = event("{}");
        let position = writer.append(Shard(1), event.clone()).await?;
        let stream = admin(&server.url())
            .await?
            .get_stream("audit_cloud_standard")
            .await?;
        let message = stream.direct_get(position.0).await?;
        ensure!(&*message.subject == "audit.cloud.standard.001.heartbeat");
        let header = |name: &str| message.headers.get(name).map(|v| v.as_str().to_owned());
        ensure!(header("ce-specversion").as_deref() == Some("1.0"));
        ensure!(header("ce-id") == Some(event.event_id.to_string()));
        ensure!(header("Nats-Msg-Id") == header("ce-id"));
        ensure!(header("ce-type").as_deref() == Some("hoop.audit.heartbeat"));
        ensure!(message.payload == "{}");
        Ok(())
    })
}

fn what_is_not_recorded_yet_is_shown_as_unprocessed() -> Result<()> {
    let server = nats()?;
    block_on(async {
        let options = options(&server.url(), "lag");
        let (writer, reader) = (writer(&options).await?, reader(&options).await?);
        let mut positions = Vec::new();
        for n in 0..10 {
            positions.push(writer.append(Shard(1), event(format!("{n}"))).await?);
            writer.append(Shard(0), event("of another shard")).await?;
        }
        let stream = admin(&server.url())
            .await?
            .get_stream("audit_lag_standard")
            .await?;
        for (committed, unprocessed) in [(3, 7), (8, 2)] {
            reader.committed(Shard(1), positions[committed]).await;
            let mut shown: PullConsumer = stream
                .get_consumer("hoop-recorder-001")
                .await
                .map_err(|error| anyhow::anyhow!("there is no hint: {error}"))?;
            let found = shown.info().await?.num_pending;
            ensure!(found == unprocessed, "{found} and not {unprocessed}");
            // Hints are not moved more often than every second.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        Ok(())
    })
}
