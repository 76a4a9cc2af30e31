//! Durable before effect.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hoop_schema::kinds::request::{Cause, Effect, Intent};
use hoop_schema::{Kind, Shard};
use hoop_sinks::log::memory::MemoryLog;
use hoop_sinks::log::{EventReader, EventWriter, Position};

use crate::harness::{Bed, Fake, Setup, whole};

async fn intents_in(log: &MemoryLog) -> Vec<Intent> {
    let records = log
        .read(Shard(0), Position(0), usize::MAX, Duration::ZERO)
        .await
        .unwrap();
    records
        .iter()
        .filter_map(
            |record| match hoop_schema::bytes::decode(&record.bytes).unwrap().kind {
                Kind::Intent(intent) => Some(intent),
                _ => None,
            },
        )
        .collect()
}

#[tokio::test]
async fn the_intent_is_in_the_log_before_the_api_server_sees_the_request() {
    let log: Arc<OnceLock<Arc<MemoryLog>>> = Arc::default();
    let seen_by_fake = Arc::clone(&log);
    let fake = Fake::start(move |request| {
        let log = Arc::clone(&seen_by_fake);
        async move {
            let audit_id = request.headers()["audit-id"].to_str().unwrap().to_owned();
            let intents = intents_in(log.get().unwrap()).await;
            let there = intents.iter().any(|intent| {
                intent.request.audit_id == audit_id && intent.decision.effect == Effect::Allow
            });
            whole(if there { 200 } else { 500 }, "application/json", "{}")
        }
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    assert!(log.set(Arc::clone(&bed.log)).is_ok());
    let mut client = bed.client().await;
    for _ in 0..50 {
        assert_eq!(
            client
                .get("alice", "/api/v1/namespaces/a/configmaps/c")
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn without_the_log_nothing_reaches_the_api_server() {
    let bed = Bed::start().await;
    assert!(bed.readiness.check().await.is_ok());
    bed.log.close().await;
    let answer = bed.get("/api/v1/namespaces/shop/pods").await;
    assert_eq!(answer.status, 503);
    let status = answer.json();
    assert_eq!(status["reason"], "ServiceUnavailable");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("nothing was done: the audit log")
    );
    assert!(!answer.headers.contains_key("retry-after"));
    assert!(bed.cluster.seen().is_empty());
    assert!(bed.readiness.check().await.is_err());
    bed.assert_metric(&format!(
        "hoop_gateway_requests_total{{effect=\"deny\",cause=\"{}\",verb_class=\"read\"}} 1",
        Cause::LogUnavailable.as_str()
    ));
}
