//! Faults that no real broker can be made to show at will, on librdkafka's mock of a cluster.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use hoop_schema::{Class, EventId, SessionId, Shard};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::topic::Topic;
use super::{KafkaWriter, Metrics, Options, client};
use crate::log::{AppendError, AppendResult, EventWriter, Outgoing, Position};

const BROKER: i32 = 1;
const PATIENCE: Duration = Duration::from_secs(20);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> (Cluster, Options) {
    let cluster = Cluster::new(1).unwrap();
    let mut options = Options::new(vec![cluster.bootstrap_servers()], "mock");
    options.shards = NonZeroU32::new(2).unwrap();
    options.close_within = Duration::from_millis(500);
    let topic = options.topic(&Class::standard());
    cluster.create_topic(&topic, 2, 1).unwrap();
    (cluster, options)
}

fn writer(options: &Options) -> KafkaWriter {
    let class = Class::standard();
    let topic = Topic::unchecked(options, &class).unwrap();
    let config = client::producing(options);
    KafkaWriter::start(class, topic, options.clone(), config, &Metrics::default()).unwrap()
}

fn event(linger: bool) -> Outgoing {
    Outgoing {
        event_id: EventId::new(0, &[0; 10]),
        session_id: SessionId::from_bytes([0; 16]),
        kind: "heartbeat",
        bytes: b"{}".as_slice().into(),
        linger,
        spool: false,
    }
}

async fn append(writer: &KafkaWriter) -> AppendResult {
    writer.append(Shard(0), event(false)).await
}

async fn until_taken(writer: &KafkaWriter) -> Position {
    let begun = Instant::now();
    loop {
        match append(writer).await {
            Ok(position) => return position,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_error_leaves_fates_unknown_and_makes_a_new_producer() {
    let (cluster, options) = cluster();
    let writer = writer(&options);
    assert_eq!(append(&writer).await.unwrap(), Position(0));
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
    );
    let fate = append(&writer).await;
    assert!(matches!(fate, Err(AppendError::Unknown(_))), "{fate:?}");
    let position = until_taken(&writer).await;
    assert!(position > Position(0));
    assert_eq!(append(&writer).await.unwrap(), Position(position.0 + 1));
    writer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_answered_for_and_then_refused_at_once() {
    let (cluster, mut options) = cluster();
    options.stalled_after = Duration::from_millis(300);
    options.answer_within = Duration::from_millis(600);
    let writer = writer(&options);
    append(&writer).await.unwrap();
    cluster.broker_down(BROKER).unwrap();
    let fate = append(&writer).await;
    assert!(matches!(fate, Err(AppendError::Unknown(_))), "{fate:?}");
    let begun = Instant::now();
    let refused = append(&writer).await;
    assert!(
        matches!(refused, Err(AppendError::Retryable(_))),
        "{refused:?}"
    );
    assert!(begun.elapsed() < options.answer_within);
    assert!(writer.ready().await.is_err());
    cluster.broker_up(BROKER).unwrap();
    // The one whose fate was unknown was written before.
    assert_eq!(until_taken(&writer).await, Position(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_gives_up_on_brokers_that_are_gone() {
    let (cluster, options) = cluster();
    let writer = writer(&options);
    append(&writer).await.unwrap();
    cluster.broker_down(BROKER).unwrap();
    let appending = [
        writer.append(Shard(0), event(false)),
        writer.append(Shard(1), event(true)),
    ];
    let begun = Instant::now();
    writer.close().await;
    assert!(begun.elapsed() < PATIENCE);
    for appending in appending {
        let fate = tokio::time::timeout(Duration::ZERO, appending).await;
        let fate = fate.expect("is answered");
        assert!(matches!(fate, Err(AppendError::Unknown(_))), "{fate:?}");
    }
    assert!(matches!(
        append(&writer).await,
        Err(AppendError::Terminal(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_writer_still_sends_what_it_took() {
    let (_cluster, mut options) = cluster();
    options.linger = Duration::from_secs(60);
    let writer = writer(&options);
    let appending = writer.append(Shard(0), event(true));
    drop(writer);
    assert_eq!(appending.await.unwrap(), Position(0));
}
