//! The journal's promises, onto real in-memory logs where they work, and onto a faulty double where they must not.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use hoop_schema::bytes::decode;
use hoop_schema::chain::Strand;
use hoop_schema::kinds::integrity::GapState;
use hoop_schema::kinds::request::{
    AnsweredBy, AuthMethod, Cause, Decision, Durability, Effect, Level, Masked, User,
};
use hoop_schema::{Event, EventHash, Kind, SessionId, Shard, SourceId};
use hoop_sinks::log::memory::MemoryLog;
use hoop_sinks::log::{EventReader, Outgoing, Position};

use super::*;
use faulty_log::{Fault, FaultyLog};

mod bodies;
mod encrypted;
mod faults;
mod faulty_log;
mod life;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An event as it was found in a log.
#[derive(Debug, Clone)]
struct Found {
    event: Event,
    hash: EventHash,
    bytes: Vec<u8>,
}

fn found(bytes: &[u8]) -> Found {
    Found {
        event: decode(bytes).unwrap(),
        hash: EventHash::of(bytes),
        bytes: bytes.to_vec(),
    }
}

impl Found {
    fn name(&self) -> &str {
        self.event.kind.name()
    }
}

fn config(limits: Limits) -> Config {
    Config {
        cluster: "test".into(),
        producer_id: ProducerId::new("gateway-1").unwrap(),
        standard: Class::new("standard").unwrap(),
        encryption: None,
        limits,
    }
}

fn start_with(
    logs: Vec<Arc<dyn EventWriter>>,
    limits: Limits,
    registry: &mut Registry,
) -> Arc<Journal> {
    Journal::start(config(limits), logs, system_clock(), registry).unwrap()
}

fn start(logs: Vec<Arc<dyn EventWriter>>) -> Arc<Journal> {
    start_with(logs, Limits::default(), &mut Registry::default())
}

fn memory_log(class: &str, shards: u32) -> Arc<MemoryLog> {
    let class = Class::new(class).unwrap();
    Arc::new(MemoryLog::new(
        class,
        SourceId::from_bytes([1; 4]),
        shards,
        1 << 30,
    ))
}

/// All events of a log, by shard, in log order.
async fn read_all(log: &MemoryLog) -> Vec<(Shard, Vec<Found>)> {
    let mut all = Vec::new();
    for shard in (0..EventReader::shards(log)).map(Shard) {
        let (mut events, mut from) = (Vec::new(), Position(0));
        loop {
            let batch = log
                .read(shard, from, 1 << 24, Duration::ZERO)
                .await
                .unwrap();
            let Some(last) = batch.last() else { break };
            from = Position(last.position.0 + 1);
            events.extend(batch.iter().map(|record| found(&record.bytes)));
        }
        all.push((shard, events));
    }
    all
}

async fn events(log: &MemoryLog) -> Vec<Found> {
    read_all(log)
        .await
        .into_iter()
        .flat_map(|(_, events)| events)
        .collect()
}

fn landed(log: &FaultyLog) -> Vec<Found> {
    log.landed()
        .iter()
        .map(|(_, outgoing)| found(&outgoing.bytes))
        .collect()
}

fn request_of(username: &str) -> Arc<RequestAttributes> {
    Arc::new(RequestAttributes {
        audit_id: "a-1".into(),
        received: Timestamp::from_micros(0),
        user: (!username.is_empty()).then(|| User {
            username: username.into(),
            ..User::default()
        }),
        impersonated: None,
        auth_method: if username.is_empty() {
            AuthMethod::None
        } else {
            AuthMethod::StaticToken
        },
        login: None,
        client_id: None,
        actors: Vec::new(),
        break_glass: false,
        source_ip: PEER.to_string(),
        http_method: "GET".into(),
        request_uri: "/api/v1/pods".into(),
        verb: "list".into(),
        object_ref: None,
        user_agent: Some("kubectl/v1.36.0".into()),
        command: Some("kubectl get".into()),
        argv: Vec::new(),
    })
}

fn allow(class: &str) -> NewIntent {
    NewIntent {
        decision: Decision {
            effect: Effect::Allow,
            cause: Cause::Rule,
            profile: None,
            rule: Some("all".into()),
            message: String::new(),
            policy_revision: "0".repeat(16),
        },
        level: Level::RequestResponse,
        durability: Durability::Log,
        placement: Placement {
            class: Class::new(class).unwrap(),
            body_class: Class::new(class).unwrap(),
        },
        body: None,
        masked: Masked::default(),
        claims: BTreeMap::new(),
    }
}

fn head(status: u16) -> AnswerHead {
    AnswerHead {
        status,
        reason: None,
        answered_by: AnsweredBy::Upstream,
        media_type: Some("application/json".into()),
    }
}

/// One whole request.
async fn exchange(
    journal: &Journal,
    connection: &Connection,
    user: &str,
    header: Option<&str>,
) -> Result<(), RecordError> {
    let mut exchange = journal.open(connection, request_of(user), header);
    let verdict = exchange.intent(allow("standard")).await;
    let mut answer = exchange.answer(head(if verdict.is_ok() { 200 } else { 503 }));
    answer.push(b"{\"kind\":\"PodList\"}");
    answer.finish(End::complete(Masked::default()));
    verdict
}

/// Checks what every set of events must satisfy when nothing is under way any more: each sequence is dense, every
/// number is in the log or named by a gap but not both, copies are equal to the byte, and every strand hangs
/// together across what was lost.
fn prove(events: &[Found]) {
    let mut sequences: BTreeMap<(String, u32), BTreeMap<u64, Option<&Found>>> = BTreeMap::new();
    for found in events {
        let envelope = &found.event.envelope;
        let lane = (envelope.class.to_string(), envelope.shard.0);
        let before = sequences
            .entry(lane)
            .or_default()
            .insert(envelope.producer_seq, Some(found));
        if let Some(Some(copy)) = before {
            assert_eq!(copy.bytes, found.bytes, "a copy is not equal");
        }
    }
    /// `prev_hash`, the event's own hash, and whether the event itself is there.
    type Link = (Option<EventHash>, EventHash, bool);
    let mut strands: HashMap<(SessionId, String), BTreeMap<u64, Link>> = HashMap::new();
    for found in events {
        let envelope = &found.event.envelope;
        let strand = (envelope.session_id, envelope.class.to_string());
        let link = (envelope.prev_hash, found.hash, true);
        strands
            .entry(strand)
            .or_default()
            .insert(envelope.session_seq, link);
    }
    let mut told = std::collections::HashSet::new();
    for found in events {
        let Kind::Gap(gap) = &found.event.kind else {
            continue;
        };
        if !told.insert(found.hash) {
            continue;
        }
        assert_eq!(gap.state, GapState::Open);
        assert_eq!(gap.lost.len() as u64, gap.last_seq - gap.first_seq + 1);
        for lost in &gap.lost {
            let lane = (gap.of_class.to_string(), gap.of_shard.0);
            let before = sequences
                .get_mut(&lane)
                .unwrap()
                .insert(lost.producer_seq, None);
            assert!(
                before.is_none(),
                "event {} is in the log or in another gap",
                lost.producer_seq
            );
            let strand = (lost.session_id, gap.of_class.to_string());
            strands
                .entry(strand)
                .or_default()
                .insert(lost.session_seq, (None, lost.hash, false));
        }
    }
    for (lane, numbers) in sequences {
        let dense: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(
            numbers.into_keys().collect::<Vec<_>>(),
            dense,
            "holes in {lane:?}"
        );
    }
    for (strand, links) in strands {
        let mut reader = Strand::default();
        for (seq, (prev, hash, present)) in links {
            // A lost event does not say what came before it, but its hash joins the next one to it.
            let prev = if present { prev } else { reader.head() };
            assert_eq!(reader.follow(seq, prev, hash), Ok(()), "strand {strand:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_in_the_log_is_the_order_of_sequences_under_64_tasks() {
    let log = memory_log("standard", 4);
    let journal = start(vec![log.clone()]);
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                let connection = journal.connection(PEER);
                for turn in 0..20 {
                    let header = format!("{n}-{}", turn / 10);
                    exchange(&journal, &connection, "alice", Some(&header))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let mut all = Vec::new();
    for (shard, events) in read_all(&log).await {
        let numbers: Vec<u64> = events
            .iter()
            .map(|e| e.event.envelope.producer_seq)
            .collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
        assert!(
            events
                .iter()
                .all(|e| e.event.envelope.session_id.shard(4) == shard)
        );
        all.extend(events);
    }
    prove(&all);
    let count = |name: &str| all.iter().filter(|e| e.name() == name).count();
    assert_eq!((count("intent"), count("outcome")), (64 * 20, 64 * 20));
    assert_eq!(
        (count("gap"), count("session.start")),
        (0, count("session.end"))
    );
}

#[tokio::test]
async fn a_clock_that_runs_backwards_changes_no_order() {
    let log = memory_log("standard", 1);
    let ticks = AtomicU64::new(1_000_000_000);
    let clock: Clock =
        Arc::new(move || Timestamp::from_micros(ticks.fetch_sub(7_000, Ordering::Relaxed) as i64));
    let journal = Journal::start(
        config(Limits::default()),
        vec![log.clone()],
        clock,
        &mut Registry::default(),
    )
    .unwrap();
    let connection = journal.connection(PEER);
    for _ in 0..10 {
        exchange(&journal, &connection, "alice", None)
            .await
            .unwrap();
    }
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    prove(&events);
    let times: Vec<_> = events.iter().map(|e| e.event.envelope.ts).collect();
    assert!(times.is_sorted_by(|a, b| a > b));
    assert!(
        events
            .iter()
            .map(|e| e.event.envelope.producer_seq)
            .is_sorted()
    );
}

#[tokio::test]
async fn what_does_not_fit_together_does_not_start() {
    let start = |cluster: &str, logs: Vec<Arc<dyn EventWriter>>| {
        let config = Config {
            cluster: cluster.into(),
            ..config(Limits::default())
        };
        Journal::start(config, logs, system_clock(), &mut Registry::default()).unwrap_err()
    };
    assert!(matches!(start("", vec![]), StartError::ClusterName(0)));
    assert!(matches!(
        start("c", vec![memory_log("short", 1)]),
        StartError::NoLog(_)
    ));
    let twice: Vec<Arc<dyn EventWriter>> =
        vec![memory_log("standard", 1), memory_log("standard", 2)];
    assert!(matches!(start("c", twice), StartError::TwoLogs(_)));
}

#[tokio::test]
async fn a_class_without_a_log_is_an_error() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    assert!(!journal.has_class(&Class::new("long").unwrap()));
    assert!(matches!(
        exchange.intent(allow("long")).await,
        Err(RecordError::NoLog(_))
    ));
    drop(exchange);
    assert!(journal.shutdown(Duration::from_secs(1)).await);
    assert!(events(&log).await.is_empty());
}
