//! What reaches the API server, and over which connections.

use std::time::Duration;

use bytes::Bytes;
use hoop_schema::kinds::request::{AnsweredBy, Ended};
use http_body_util::{BodyExt, Full};

use crate::harness::{Bed, Fake, Setup, eventually, request, whole};

const POD: &str = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp";

#[tokio::test]
async fn the_gateway_acts_as_the_person_with_its_own_credential() {
    let bed = Bed::start().await;
    let request = request("GET", "alice", &format!("{POD}?x=%41;y"))
        .header("x-forwarded-for", "10.9.8.7")
        .header("cookie", "session=1")
        .header("connection", "x-secret-hop, impersonate-user")
        .header("x-secret-hop", "1")
        .header("user-agent", "kubectl/v1.36.0")
        .body(Full::default())
        .unwrap();
    // A query that servers read differently is refused; without the semicolon it passes as it is.
    assert_eq!(bed.client().await.send(request).await.status, 400);
    let answer = bed.get(&format!("{POD}?x=%41")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["kind"], "Pod");

    let seen = bed.cluster.seen().pop().unwrap();
    assert_eq!(seen.user.as_deref(), Some("alice"));
    assert!(seen.groups.contains(&"people".to_owned()));
    assert_eq!(seen.impersonated_by.as_deref(), Some("hoop-gateway"));
    assert_eq!(
        seen.uri.path_and_query().unwrap().as_str(),
        format!("{POD}?x=%41")
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("accept-encoding"), None);
    assert_eq!(
        seen.header("host"),
        Some(bed.cluster.address().to_string().as_str())
    );
    assert_eq!(answer.headers["audit-id"], seen.header("audit-id").unwrap());

    let outcome = eventually("the outcome", async || {
        bed.outcomes().await.into_iter().find(|o| o.status == 200)
    })
    .await;
    assert_eq!(outcome.request.audit_id, seen.header("audit-id").unwrap());
    assert_eq!(
        (outcome.answered_by, outcome.ended),
        (AnsweredBy::Upstream, Ended::Complete)
    );
    assert_eq!(outcome.response_bytes, answer.body.len() as u64);
    assert!(outcome.first_byte_us > 0 && outcome.duration_us >= outcome.first_byte_us);
    bed.assert_metric(
        "hoop_gateway_requests_total{effect=\"allow\",cause=\"rule\",verb_class=\"read\"} 1",
    );
}

#[tokio::test]
async fn a_certificate_names_its_user_and_groups() {
    let bed = Bed::start().await;
    let own = bed.ca.client("carol", "certified", false);
    let answer = bed.client_as(Some(own)).await.get("", POD).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = bed.cluster.seen().pop().unwrap();
    assert_eq!(seen.user.as_deref(), Some("carol"));
    let (intent, _) = bed.only().await;
    assert_eq!(intent.request.user.as_ref().unwrap().groups, ["certified"]);
    assert!(intent.request.login.is_some(), "the serial number");
}

#[tokio::test]
async fn names_outside_ascii_reach_the_api_server_as_they_are() {
    let bed = Bed::start().await;
    let answer = bed.client().await.get("alice", POD).await;
    assert_eq!(answer.status, 200);
    let fake = Fake::start(async |request| {
        let user = request.headers()["impersonate-user"].as_bytes().to_vec();
        whole(200, "text/plain", user)
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let own = bed.ca.client("ålice", "certified", false);
    let answer = bed.client_as(Some(own)).await.get("", "/metrics").await;
    assert_eq!(answer.body, "ålice".as_bytes());
}

#[tokio::test]
async fn connections_to_the_api_server_are_kept_and_used_again() {
    let fake = Fake::start(async |_| whole(200, "application/json", "{}")).await;
    let bed = Setup::before(&fake).start().await;
    let mut client = bed.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("alice", "/api/v1/pods").await.status, 200);
    }
    assert_eq!(fake.connections(), 1);
    // A chunked answer ends differently and gives its connection back as well.
    let fake = Fake::start(async |_| {
        let pieces = [Ok(http_body::Frame::data(Bytes::from_static(b"{}")))];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
        let mut response = whole(200, "application/json", "");
        *response.body_mut() = BodyExt::boxed(body);
        response
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let mut client = bed.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("alice", "/api/v1/pods").await.body, "{}");
    }
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_replaced() {
    let bed = Bed::start().await;
    let mut client = bed.client().await;
    assert_eq!(client.get("alice", POD).await.status, 200);
    bed.cluster.restart().await.unwrap();
    assert_eq!(client.get("alice", POD).await.status, 200);
    let create = request("POST", "alice", "/api/v1/namespaces/shop/configmaps")
        .header("content-type", "application/json")
        .body(Full::from(
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"n"}}"#,
        ))
        .unwrap();
    bed.cluster.restart().await.unwrap();
    assert_eq!(client.send(create).await.status, 201);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_said_to_be_and_nothing_else() {
    let bed = Bed::start().await;
    bed.cluster.stop().await;
    let answer = bed.get(POD).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "ServiceUnavailable");
    assert!(!answer.message().contains("127.0.0.1"));
    let (_, outcome) = bed.only().await;
    assert_eq!(
        (outcome.status, outcome.ended),
        (503, Ended::UpstreamUnreachable)
    );
    bed.assert_metric("hoop_gateway_upstream_errors_total{operation=\"connect\"} 1");
}

#[tokio::test]
async fn a_silent_api_server_is_given_up_after_a_while() {
    let fake = Fake::start(async |_| std::future::pending().await).await;
    let mut setup = Setup::before(&fake);
    setup.limits.upstream_head_timeout = Duration::from_millis(50);
    let bed = setup.start().await;
    let answer = bed.get("/api/v1/pods").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["reason"].as_str()),
        (504, Some("Timeout"))
    );
    eventually("an end of the request", async || {
        (fake.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn http_2_works_as_well() {
    let bed = Bed::start().await;
    let mut sender = bed.http2().await;
    let requests = (0..5).map(|_| {
        let request = http::Request::get(format!("https://gateway{POD}"))
            .header("authorization", "Bearer token-alice")
            .body(Full::default())
            .unwrap();
        sender.send_request(request)
    });
    for response in futures_util::future::join_all(requests).await {
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["kind"],
            "Pod"
        );
    }
    eventually("five outcomes", async || {
        (bed.outcomes().await.len() == 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_proxied_service_says_passes_as_it_is_and_is_recorded_by_its_length() {
    let fake = Fake::start(async |request| {
        assert_eq!(
            request.uri().path_and_query().unwrap().as_str(),
            "/api/v1/namespaces/a/services/s/proxy/x%2Fy?z"
        );
        whole(401, "text/html", "log in, password=hunter2")
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let answer = bed
        .get("/api/v1/namespaces/a/services/s/proxy/x%2Fy?z")
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_ref()),
        (401, &b"log in, password=hunter2"[..])
    );
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.response_bytes, answer.body.len() as u64);
    assert!(!bed.written().await.contains("hunter2"));
}
