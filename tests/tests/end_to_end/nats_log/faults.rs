//! One server that is stopped, killed and paused under load.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hoop_schema::Shard;
use hoop_sinks::log::conformance::event;
use hoop_sinks::log::{AppendError, EventReader, EventWriter, Position};
use hoop_tests::testbed::{Nats, Need};

use super::bed::{Producers, compare, options, reader, writer};
use crate::client::block_on;
use crate::harness::{Test, tests, this_run};

/// How long it may take until events flow again.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// How often the server is killed.
const KILLS: usize = 5;

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Nats];
        a_restart_of_the_server_loses_and_doubles_nothing,
        kills_of_the_server_lose_and_double_nothing,
        a_paused_server_is_an_answer_in_time_and_loses_nothing,
        without_a_server_appends_fail_in_time_and_work_again_later,
    ]
}

fn a_restart_of_the_server_loses_and_doubles_nothing() -> Result<()> {
    let run = this_run()?;
    let mut server = Nats::start(&run, "nats-restart", "")?;
    block_on(async {
        let options = options(&server.url(), "restart");
        let (writer, reader) = (writer(&options).await?, reader(&options).await?);
        let producers = Producers::start(&writer, 8);
        producers.go_on(200, AGAIN_WITHIN).await?;
        for _ in 0..2 {
            server.stop()?;
            server.start_again(&run)?;
            producers.go_on(200, AGAIN_WITHIN).await?;
        }
        let ledger = producers.stop().await?;
        compare(&reader, &ledger).await
    })
}

fn kills_of_the_server_lose_and_double_nothing() -> Result<()> {
    let run = this_run()?;
    let mut server = Nats::start(&run, "nats-kill", "")?;
    block_on(async {
        let options = options(&server.url(), "kill");
        let (writer, reader) = (writer(&options).await?, reader(&options).await?);
        let producers = Producers::start(&writer, 32);
        for kill in 0..KILLS {
            producers
                .go_on(100 + 37 * kill as u64, AGAIN_WITHIN)
                .await?;
            server.kill();
            server.start_again(&run)?;
        }
        producers.go_on(100, AGAIN_WITHIN).await?;
        let ledger = producers.stop().await?;
        compare(&reader, &ledger).await
    })
}

fn a_paused_server_is_an_answer_in_time_and_loses_nothing() -> Result<()> {
    let run = this_run()?;
    let server = Nats::start(&run, "nats-pause", "")?;
    block_on(async {
        let options = options(&server.url(), "pause");
        let (writer, reader) = (writer(&options).await?, reader(&options).await?);
        let producers = Producers::start(&writer, 8);
        producers.go_on(100, AGAIN_WITHIN).await?;
        server.pause();
        let begun = Instant::now();
        ensure!(writer.ready().await.is_err(), "a paused server is ready");
        let answer = writer.append(Shard(0), event("99.000000")).await;
        let took = begun.elapsed();
        server.resume();
        ensure!(
            matches!(
                answer,
                Err(AppendError::Unknown(_) | AppendError::Retryable(_))
            ),
            "{answer:?}"
        );
        let patience = options.request_timeout + options.append_timeout + options.ack_timeout;
        ensure!(took < patience + Duration::from_secs(1), "{took:?}");
        producers.go_on(200, AGAIN_WITHIN).await?;
        writer.ready().await?;
        let ledger = producers.stop().await?;
        compare(&reader, &ledger).await
    })
}

fn without_a_server_appends_fail_in_time_and_work_again_later() -> Result<()> {
    let run = this_run()?;
    let mut server = Nats::start(&run, "nats-away", "")?;
    block_on(async {
        let options = options(&server.url(), "away");
        let (writer, reader) = (writer(&options).await?, reader(&options).await?);
        writer.append(Shard(0), event("first")).await?;
        server.kill();
        let appends: Vec<_> = (0..100)
            .map(|n| writer.append(Shard(0), event(format!("{n}"))))
            .collect();
        let begun = Instant::now();
        let (mut refused, mut unknown) = (0, 0);
        for append in appends {
            match append.await {
                Err(AppendError::Retryable(_)) => refused += 1,
                Err(AppendError::Unknown(_)) => unknown += 1,
                other => bail!("nobody was there, and the answer is {other:?}"),
            }
        }
        ensure!(begun.elapsed() < options.append_timeout + options.ack_timeout * 2);
        ensure!(refused + unknown == 100);
        ensure!(writer.ready().await.is_err(), "nobody is there");
        let (wait, from) = (Duration::ZERO, Position(0));
        ensure!(reader.read(Shard(0), from, 0, wait).await.is_err());
        server.start_again(&run)?;
        let begun = Instant::now();
        while let Err(error) = writer.append(Shard(0), event("last")).await {
            ensure!(begun.elapsed() < AGAIN_WITHIN, "{error:?}");
        }
        while let Err(error) = reader.read(Shard(0), from, 0, wait).await {
            ensure!(begun.elapsed() < AGAIN_WITHIN, "{error:?}");
        }
        Ok(())
    })
}
