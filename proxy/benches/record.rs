//! What recording one request costs in processor time: intent and outcome with a body of 2 KB onto a log that takes
//! everything at once, beside the floors of the same bytes in the same run. Also: memory per open session.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use hoop_proxy::record::{
    AnswerHead, Config, End, Journal, Limits, NewIntent, Placement, system_clock,
};
use hoop_schema::kinds::request::{
    AnsweredBy, AuthMethod, Cause, Decision, Durability, Effect, Level, Masked, RequestAttributes,
    User,
};
use hoop_schema::{Class, EventHash, ProducerId, Shard, Timestamp};
use hoop_sinks::log::{AppendError, Appending, EventWriter, Outgoing, Position};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

/// Takes everything, keeps the last two events.
#[derive(Debug)]
struct NullLog {
    class: Class,
    last: Mutex<[Option<Outgoing>; 2]>,
}

#[async_trait]
impl EventWriter for NullLog {
    fn class(&self) -> &Class {
        &self.class
    }

    fn shards(&self) -> u32 {
        16
    }

    fn append(&self, _: Shard, event: Outgoing) -> Appending {
        let mut last = self.last.lock();
        last.swap(0, 1);
        last[1] = Some(event);
        Box::pin(std::future::ready(Ok(Position(0))))
    }

    async fn ready(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn close(&self) {}
}

fn request() -> Arc<RequestAttributes> {
    Arc::new(RequestAttributes {
        audit_id: "0f6c8f5e-3f5d-4b0e-9a53-2f9d5f0f7c11".into(),
        received: Timestamp::from_micros(1_795_000_000_000_000),
        user: Some(User {
            username: "alice@example.com".into(),
            groups: vec!["system:authenticated".into(), "developers".into()],
            ..User::default()
        }),
        impersonated: None,
        auth_method: AuthMethod::StaticToken,
        login: None,
        client_id: None,
        actors: Vec::new(),
        break_glass: false,
        source_ip: "10.1.2.3".into(),
        http_method: "GET".into(),
        request_uri: "/api/v1/namespaces/default/pods/web-0".into(),
        verb: "get".into(),
        object_ref: None,
        user_agent: Some("kubectl/v1.36.0 (linux/amd64) kubernetes/abcdef0".into()),
        command: Some("kubectl get".into()),
        argv: Vec::new(),
    })
}

fn intent(class: &Class) -> NewIntent {
    NewIntent {
        decision: Decision {
            effect: Effect::Allow,
            cause: Cause::Rule,
            profile: Some("developers".into()),
            rule: Some("read-pods".into()),
            message: String::new(),
            policy_revision: "0123456789abcdef".into(),
        },
        level: Level::RequestResponse,
        durability: Durability::Log,
        placement: Placement {
            class: class.clone(),
            body_class: class.clone(),
        },
        body: None,
        masked: Masked::default(),
        claims: BTreeMap::new(),
    }
}

fn body() -> Vec<u8> {
    let mut body =
        br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","labels":{"#.to_vec();
    for n in 0.. {
        let label = format!(r#""app.kubernetes.io/label-{n}":"value-{n}","#);
        if body.len() + label.len() > 2_040 {
            break;
        }
        body.extend(label.bytes());
    }
    body.extend(br#""last":"1"}}}"#);
    body
}

fn head() -> AnswerHead {
    AnswerHead {
        status: 200,
        reason: None,
        answered_by: AnsweredBy::Upstream,
        media_type: Some("application/json".into()),
    }
}

fn journal() -> (Arc<Journal>, Arc<NullLog>) {
    let class = Class::new("standard").expect("a class");
    let log = Arc::new(NullLog {
        class: class.clone(),
        last: Mutex::default(),
    });
    let config = Config {
        cluster: "production".into(),
        producer_id: ProducerId::new("gateway-1").expect("a producer id"),
        standard: class,
        encryption: None,
        limits: Limits::default(),
    };
    let journal = Journal::start(
        config,
        vec![log.clone()],
        system_clock(),
        &mut Registry::default(),
    )
    .expect("it fits together");
    (journal, log)
}

async fn exchanges(journal: &Journal, class: &Class, body: &[u8], count: u64) {
    let connection = journal.connection(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let request = request();
    for _ in 0..count {
        let mut exchange = journal.open(&connection, Arc::clone(&request), None);
        exchange
            .intent(intent(class))
            .await
            .expect("the log takes everything");
        let mut answer = exchange.answer(head());
        answer.push(body);
        answer.finish(End::complete(Masked::default()));
    }
}

fn record(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let (journal, log) = journal();
    let (class, body) = (log.class.clone(), body());
    let mut group = c.benchmark_group("record");
    group.bench_function("intent and outcome of a 2 KB answer, 1 task", |b| {
        b.iter_custom(|n| {
            let began = Instant::now();
            runtime.block_on(exchanges(&journal, &class, &body, n));
            began.elapsed()
        });
    });
    group.bench_function("the same, 64 tasks on 2 cores, per exchange", |b| {
        b.iter_custom(|n| {
            let each = n.div_ceil(64);
            let began = Instant::now();
            let tasks: Vec<_> = (0..64)
                .map(|_| {
                    let (journal, class, body) =
                        (Arc::clone(&journal), class.clone(), body.clone());
                    runtime.spawn(async move { exchanges(&journal, &class, &body, each).await })
                })
                .collect();
            for task in tasks {
                runtime.block_on(task).expect("it does not panic");
            }
            began.elapsed().mul_f64(n as f64 / (each * 64) as f64)
        });
    });
    runtime.block_on(exchanges(&journal, &class, &body, 2));
    let both: Vec<Vec<u8>> = log
        .last
        .lock()
        .iter()
        .flatten()
        .map(|event| event.bytes.to_vec())
        .collect();
    let decoded: Vec<_> = both
        .iter()
        .map(|bytes| hoop_schema::bytes::decode(bytes).expect("an event"))
        .collect();
    group.bench_function("floor: SHA-256 of both events and of the body", |b| {
        b.iter(|| {
            both.iter()
                .for_each(|bytes| _ = black_box(EventHash::of(bytes)));
            EventHash::of(black_box(&body))
        });
    });
    group.bench_function("floor: serde_json of both events", |b| {
        b.iter(|| {
            for event in &decoded {
                black_box(serde_json::to_vec(&event.envelope).ok());
                black_box(hoop_schema::bytes::encode_fields(&event.kind).ok());
            }
        });
    });
    group.finish();
}

/// Resident memory of this process in bytes, where the system tells it.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<f64>().ok()? * 4096.0)
}

fn memory(_: &mut Criterion) {
    const SESSIONS: u32 = 90_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let (journal, log) = journal();
    let class = log.class.clone();
    let connection = journal.connection(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let request = request();
    let before = resident();
    runtime.block_on(async {
        for n in 0..SESSIONS {
            let mut exchange =
                journal.open(&connection, Arc::clone(&request), Some(&n.to_string()));
            exchange
                .intent(intent(&class))
                .await
                .expect("the log takes everything");
            exchange
                .answer(head())
                .finish(End::complete(Masked::default()));
        }
    });
    if let (Some(before), Some(after)) = (before, resident()) {
        println!(
            "memory per open session: {:.0} bytes",
            (after - before) / f64::from(SESSIONS)
        );
    }
    runtime.block_on(journal.shutdown(Duration::from_secs(10)));
}

criterion_group!(benches, record, memory);
criterion_main!(benches);
