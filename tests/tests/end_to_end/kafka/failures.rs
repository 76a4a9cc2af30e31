//! Brokers that die, stand still, change their leader or run out of room, under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hoop_schema::Class;
use hoop_sinks::log::kafka::{KafkaWriter, Options};
use hoop_sinks::log::{AppendError, EventWriter};
use hoop_tests::testbed::{Kafka, Need};

use super::load::Load;
use super::{block_on, options};
use crate::harness::{Test, tests, this_run};

/// Workers for each shard.
const WORKERS: u32 = 2;

/// Acknowledgements between two misfortunes.
const BETWEEN: u64 = 500;

/// How often a broker is killed.
const KILLS: usize = 3;

/// Longer than every time-out of a broker for its clients.
const STILL_FOR: Duration = Duration::from_secs(30);

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Kafka];
        a_broker_killed_under_load_loses_nothing_acknowledged,
        a_broker_that_stands_still_delays_and_loses_nothing,
        three_brokers_that_die_in_turn_lose_nothing_acknowledged,
    ]
}

async fn open(options: &Options) -> Result<Arc<KafkaWriter>> {
    Ok(Arc::new(
        KafkaWriter::open(Class::standard(), options.clone()).await?,
    ))
}

fn a_broker_killed_under_load_loses_nothing_acknowledged() -> Result<()> {
    let run = this_run()?;
    let mut kafka = Kafka::start(&run, "kafka-killed", 1, &[])?;
    block_on(async {
        let options = options(kafka.plain());
        let writer = open(&options).await?;
        let load = Load::start(&writer, WORKERS);
        for _ in 0..KILLS {
            load.wait_for(BETWEEN).await?;
            kafka.kill(0);
            kafka.start_again(&run, 0)?;
        }
        load.wait_for(BETWEEN).await?;
        let ledger = load.stop().await?;
        writer.close().await;
        ledger.check(&options).await?;
        Ok(())
    })
}

fn a_broker_that_stands_still_delays_and_loses_nothing() -> Result<()> {
    let run = this_run()?;
    let kafka = Kafka::start(&run, "kafka-still", 1, &[])?;
    block_on(async {
        let mut options = options(kafka.plain());
        options.stalled_after = Duration::from_secs(2);
        options.answer_within = Duration::from_secs(5);
        let writer = open(&options).await?;
        let load = Load::start(&writer, WORKERS);
        load.wait_for(BETWEEN).await?;
        kafka.pause(0, true)?;
        let begun = Instant::now();
        tokio::time::sleep(options.stalled_after + options.answer_within + Duration::from_secs(2))
            .await;
        let ready = writer.ready().await;
        ensure!(matches!(ready, Err(AppendError::Retryable(_))), "{ready:?}");
        tokio::time::sleep(STILL_FOR.saturating_sub(begun.elapsed())).await;
        kafka.pause(0, false)?;
        load.wait_for(BETWEEN).await?;
        writer.ready().await?;
        let ledger = load.stop().await?;
        ensure!(ledger.unknown > 0, "every append waited for 30 seconds");
        ensure!(
            ledger.refused > ledger.unknown,
            "appends were taken all the time"
        );
        writer.close().await;
        let copies = ledger.check(&options).await?;
        ensure!(
            copies > 0,
            "what was answered as unknown was written when the broker went on"
        );
        Ok(())
    })
}

fn three_brokers_that_die_in_turn_lose_nothing_acknowledged() -> Result<()> {
    let run = this_run()?;
    let mut kafka = Kafka::start(&run, "kafka-three", 3, &[])?;
    block_on(async {
        let options = options(kafka.plain());
        let writer = open(&options).await?;
        let load = Load::start(&writer, WORKERS);
        for broker in 0..3 {
            load.wait_for(BETWEEN).await?;
            kafka.kill(broker);
            // The others go on without it.
            load.wait_for(BETWEEN).await?;
            kafka.start_again(&run, broker)?;
            let begun = Instant::now();
            while writer.ready().await.is_err() {
                ensure!(
                    begun.elapsed() < Duration::from_secs(120),
                    "not ready again"
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let ledger = load.stop().await?;
        writer.close().await;
        ledger.check(&options).await?;
        Ok(())
    })
}
