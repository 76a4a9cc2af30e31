//! What clients and the record see of secrets.

use hoop_proxy::sample_cluster::SEEDED_PASSWORD;
use hoop_schema::body::BodyEncoding;
use hoop_schema::kinds::request::{Cause, Ended};
use http_body_util::Full;

use crate::harness::{Bed, Fake, Setup, request, whole};

const SECRET: &str = "/api/v1/namespaces/shop/secrets/db-credentials";

/// The seeded password as `data` holds it.
fn encoded() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(SEEDED_PASSWORD)
}

async fn assert_unrecorded(bed: &Bed) {
    let written = bed.written().await;
    assert!(!written.contains(SEEDED_PASSWORD));
    assert!(!written.contains(&encoded()));
}

#[tokio::test]
async fn a_secret_is_masked_for_the_client_and_the_record() {
    let bed = Bed::start().await;
    let answer = bed.get(SECRET).await;
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(
        !text.contains(&encoded()) && !text.contains(SEEDED_PASSWORD),
        "{text}"
    );
    assert_eq!(
        answer.headers["content-length"],
        answer.body.len().to_string().as_str()
    );
    let (_, outcome) = bed.only().await;
    assert!(outcome.masked.count > 0);
    let body = outcome.body.as_ref().unwrap();
    assert_eq!(body.encoding, BodyEncoding::Json);
    assert_eq!(body.bytes, answer.body.len() as u64);
    assert_unrecorded(&bed).await;
}

#[tokio::test]
async fn lists_and_tables_are_masked_too() {
    for accept in [
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    ] {
        let bed = Bed::start().await;
        bed.cluster.fill_with_secrets("shop", 300, 1000);
        let request = request("GET", "alice", "/api/v1/secrets?includeObject=Object")
            .header("accept", accept)
            .body(Full::default())
            .unwrap();
        let answer = bed.client().await.send(request).await;
        assert_eq!(answer.status, 200);
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert!(!text.contains(&encoded()) && !text.contains(SEEDED_PASSWORD));
        assert!(bed.only().await.1.masked.count >= 300);
        assert_unrecorded(&bed).await;
    }
}

#[tokio::test]
async fn who_may_see_secrets_sees_them_and_the_record_does_not() {
    let bed = Bed::start().await;
    let answer = bed.client().await.get("robot", SECRET).await;
    assert!(
        String::from_utf8(answer.body.to_vec())
            .unwrap()
            .contains(&encoded())
    );
    let (_, outcome) = bed.only().await;
    assert!(outcome.masked.count > 0);
    assert_eq!(outcome.response_bytes, answer.body.len() as u64);
    assert_unrecorded(&bed).await;
    // A list that streams.
    bed.cluster.fill_with_secrets("shop", 300, 1000);
    let answer = bed.client().await.get("robot", "/api/v1/secrets").await;
    assert!(
        String::from_utf8(answer.body.to_vec())
            .unwrap()
            .contains(&encoded())
    );
    assert_unrecorded(&bed).await;
}

#[tokio::test]
async fn protobuf_is_asked_for_as_json() {
    let bed = Bed::start().await;
    let request = request("GET", "alice", SECRET)
        .header(
            "accept",
            "application/vnd.kubernetes.protobuf,application/json",
        )
        .body(Full::default())
        .unwrap();
    assert_eq!(
        bed.client().await.send(request).await.json()["kind"],
        "Secret"
    );
    assert_eq!(
        bed.cluster.seen().pop().unwrap().header("accept"),
        Some("application/json")
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_inspected_is_not_passed_on() {
    for (media_type, encoding) in [
        ("application/vnd.kubernetes.protobuf", ""),
        ("application/json", "gzip"),
        ("", ""),
    ] {
        let fake = Fake::start(async move |_| {
            let mut response = whole(200, media_type, "k8s\0 s3cret");
            if !encoding.is_empty() {
                response
                    .headers_mut()
                    .insert("content-encoding", encoding.parse().unwrap());
            }
            response
        })
        .await;
        let bed = Setup::before(&fake).start().await;
        let answer = bed.get("/api/v1/namespaces/a/configmaps/c").await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.json()["reason"], "BadGateway");
        let (intent, outcome) = bed.only().await;
        assert_eq!(intent.decision.cause, Cause::Rule);
        assert_eq!(
            (outcome.decision.cause, outcome.ended),
            (Cause::Uninspectable, Ended::GatewayClosed)
        );
        assert!(!bed.written().await.contains("s3cret"));
    }
}

#[tokio::test]
async fn json_that_is_none_is_not_passed_on_either() {
    let fake = Fake::start(async |_| whole(200, "application/json", "{\"data\": s3cret")).await;
    let bed = Setup::before(&fake).start().await;
    assert_eq!(bed.get("/api/v1/secrets").await.status, 502);
    assert!(!bed.written().await.contains("s3cret"));
}

#[tokio::test]
async fn an_error_in_plain_text_stays_an_error_without_its_text() {
    let fake = Fake::start(async |_| whole(404, "text/plain", "404 page not found: s3cret")).await;
    let bed = Setup::before(&fake).start().await;
    let answer = bed.get("/api/v1/namespaces/a/configmaps/c").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["kind"], "Status");
    assert!(!answer.message().contains("s3cret"));
}

#[tokio::test]
async fn bodies_of_writes_are_masked_in_the_record_and_reach_the_api_server_as_sent() {
    let bed = Bed::start().await;
    let body = r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"n"},"stringData":{"password":"hunter2"}}"#;
    let request = request("POST", "alice", "/api/v1/namespaces/shop/secrets")
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap();
    let answer = bed.client().await.send(request).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(bed.cluster.seen().pop().unwrap().body, body);
    let (intent, outcome) = bed.only().await;
    assert_eq!(intent.masked.count, 1);
    assert_eq!(intent.body.unwrap().encoding, BodyEncoding::Json);
    assert_eq!(outcome.request_bytes, body.len() as u64);
    let written = bed.written().await;
    assert!(!written.contains("hunter2") && !written.contains("aHVudGVyMg"));
}

#[tokio::test]
async fn bodies_that_cannot_be_inspected_are_recorded_as_left_out() {
    let fake = Fake::start(async |_| whole(201, "application/json", "{}")).await;
    let bed = Setup::before(&fake).start().await;
    let request = request("POST", "alice", "/api/v1/namespaces/shop/secrets")
        .header("content-type", "application/vnd.kubernetes.protobuf")
        .body(Full::from(&b"k8s\0\x0a hunter2"[..]))
        .unwrap();
    assert_eq!(bed.client().await.send(request).await.status, 201);
    let (intent, _) = bed.only().await;
    let body = intent.body.unwrap();
    assert_eq!((body.encoding, body.bytes), (BodyEncoding::Omitted, 13));
    assert!(!bed.written().await.contains("hunter2"));
}
