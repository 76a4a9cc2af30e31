//! What masking rules of a policy do to objects, logs and streams, for the client and the record.

use std::time::Instant;

use bytes::Bytes;
use hoop_proxy::PolicySource;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use crate::harness::{Bed, Fake, PATIENCE, Setup, eventually, request, whole};

const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
const MASK: &str = "**hoop-masked**";

/// Alice sees no tokens; robot does, and the record does not; bob's record shows them by their hash.
const POLICY: &str = r#"
masking:
  - {name: hidden, detect: [jwt], client: redact}
  - {name: recorded, detect: [jwt], client: none}
  - {name: apart, detect: [jwt], client: partial, record: hmac}
  - name: settings
    fields:
      - {kind: ConfigMap, paths: [.data.password]}
profiles:
  - name: people
    subjects: {users: [alice]}
    rules:
      - {name: all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], masking: [hidden, settings]}
      - {name: paths, effect: allow, nonResourceURLs: ["/*"], verbs: ["*"], masking: [hidden]}
  - name: robots
    subjects: {users: [robot]}
    rules:
      - {name: all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], mask: none, masking: [recorded]}
  - name: others
    subjects: {users: [bob]}
    rules:
      - {name: all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], masking: [apart]}
"#;

fn setup() -> Setup {
    Setup {
        policy: PolicySource::Text(POLICY.to_owned()),
        ..Setup::default()
    }
}

async fn bed_with_config() -> Bed {
    let bed = setup().start().await;
    bed.cluster
        .put(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "shop", "annotations": {"note": format!("t={JWT}")}},
            "data": {"password": "hunter2", "token": JWT, "url": "http://shop"},
        }))
        .unwrap();
    bed
}

const CONFIG: &str = "/api/v1/namespaces/shop/configmaps/settings";

#[tokio::test]
async fn fields_and_tokens_of_an_object_are_masked_for_client_and_record() {
    let bed = bed_with_config().await;
    let answer = bed.get(CONFIG).await;
    let object = answer.json();
    assert_eq!(object["data"]["password"], MASK);
    assert_eq!(object["data"]["token"], MASK);
    assert_eq!(object["data"]["url"], "http://shop");
    assert_eq!(
        object["metadata"]["annotations"]["note"],
        format!("t={MASK}")
    );
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.masked.count, 3);
    assert!(
        outcome.masked.paths.contains(&"data.password".to_owned()),
        "{:?}",
        outcome.masked
    );
    assert_eq!(outcome.body.unwrap().bytes, answer.body.len() as u64);
    let written = bed.written().await;
    assert!(!written.contains("hunter2") && !written.contains(JWT));
    // What was masked does not come back.
    let update = request("PUT", "alice", CONFIG)
        .header("content-type", "application/json")
        .body(Full::from(answer.body))
        .unwrap();
    let refused = bed.client().await.send(update).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.message().contains("annotations.note"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn lists_and_watches_are_masked_too() {
    let bed = bed_with_config().await;
    for target in [
        "/api/v1/configmaps",
        "/api/v1/configmaps?watch=true&timeoutSeconds=1&resourceVersion=0",
    ] {
        let answer = bed.get(target).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains(MASK), "{text}");
        assert!(!text.contains("hunter2") && !text.contains(JWT), "{text}");
    }
    let written = bed.written().await;
    assert!(!written.contains("hunter2") && !written.contains(JWT));
}

#[tokio::test]
async fn the_client_may_see_what_the_record_masks() {
    let bed = bed_with_config().await;
    let answer = bed.client().await.get("robot", CONFIG).await;
    assert_eq!(answer.json()["data"]["token"], JWT);
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.masked.count, 2);
    assert_eq!(outcome.response_bytes, answer.body.len() as u64);
    assert!(!bed.written().await.contains(JWT));
}

#[tokio::test]
async fn client_and_record_see_their_own_forms() {
    let bed = bed_with_config().await;
    let answer = bed.client().await.get("bob", CONFIG).await;
    assert_eq!(answer.json()["data"]["token"], format!("{MASK}last:dXJl"));
    assert_eq!(
        answer.headers["content-length"],
        answer.body.len().to_string().as_str()
    );
    bed.only().await;
    let written = bed.written().await;
    assert!(written.contains(&format!("{MASK}hmac:")));
    assert!(!written.contains(JWT) && !written.contains("last:"));
}

#[tokio::test]
async fn bodies_of_writes_are_masked_in_the_record_and_arrive_as_sent() {
    let bed = setup().start().await;
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n", "namespace": "shop"},
        "data": {"password": "hunter2", "other": format!("a {JWT} b")},
    })
    .to_string();
    let create = request("POST", "alice", "/api/v1/namespaces/shop/configmaps")
        .header("content-type", "application/json")
        .body(Full::from(body.clone()))
        .unwrap();
    assert_eq!(bed.client().await.send(create).await.status, 201);
    assert_eq!(bed.cluster.seen().pop().unwrap().body, body);
    let (intent, _) = bed.only().await;
    assert_eq!(intent.masked.count, 2);
    let written = bed.written().await;
    assert!(!written.contains("hunter2") && !written.contains(JWT));
}

#[tokio::test]
async fn a_log_is_masked_over_any_cut_and_so_is_a_bare_path() {
    let lines = format!("start\n{}t={JWT} end\n", "x".repeat(100_000));
    let body = lines.clone();
    let fake = Fake::start(move |_| {
        let body = body.clone();
        async move { whole(200, "text/plain", body) }
    })
    .await;
    let bed = Setup {
        policy: PolicySource::Text(POLICY.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let masked = lines.replace(JWT, MASK);
    for target in ["/api/v1/namespaces/shop/pods/web/log", "/metrics"] {
        let answer = bed.get(target).await;
        assert_eq!(answer.body, masked, "{target}");
    }
    let log = "/api/v1/namespaces/shop/pods/web/log";
    assert_eq!(bed.client().await.get("robot", log).await.body, lines);
    let apart = bed.client().await.get("bob", log).await;
    assert_eq!(apart.body, lines.replace(JWT, &format!("{MASK}last:dXJl")));
    eventually("all outcomes", async || {
        (bed.outcomes().await.len() == 4).then_some(())
    })
    .await;
    assert!(!bed.written().await.contains(JWT));
}

#[tokio::test]
async fn a_log_that_is_compressed_is_not_passed_on_unmasked() {
    let fake = Fake::start(async |_| {
        let mut response = whole(200, "text/plain", "\u{1f}\u{8b}s3cret");
        let headers = response.headers_mut();
        headers.insert("content-encoding", "gzip".parse().unwrap());
        response
    })
    .await;
    let bed = Setup {
        policy: PolicySource::Text(POLICY.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let answer = bed.get("/api/v1/namespaces/shop/pods/web/log").await;
    assert_eq!(answer.status, 502);
    assert!(!bed.written().await.contains("s3cret"));
}

#[tokio::test]
async fn a_followed_log_waits_no_longer_than_it_must() {
    let bed = setup().start().await;
    let target = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp/log?follow=true&tailLines=0";
    let follow = request("GET", "alice", target)
        .body(Full::default())
        .unwrap();
    let mut client = bed.client().await;
    let response = client.open(follow).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut seen = String::new();
    let begun = Instant::now();
    for line in [format!("token {JWT}"), "ends with eyJ".to_owned()] {
        bed.cluster
            .append_log("shop", "web-6d4b75cb6d-hk2vp", &line);
        while !seen.ends_with('\n') || seen.is_empty() {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
            let piece: Bytes = frame.unwrap().unwrap().unwrap().into_data().unwrap();
            seen += std::str::from_utf8(&piece).unwrap();
        }
        assert!(!seen.contains(JWT), "{seen}");
        if line.contains(JWT) {
            assert_eq!(seen, format!("token {MASK}\n"));
        } else {
            assert_eq!(seen, "ends with eyJ\n");
        }
        seen.clear();
    }
    assert!(begun.elapsed() < PATIENCE / 2);
    drop((body, client));
    eventually("the outcome", async || bed.outcomes().await.pop()).await;
    assert!(!bed.written().await.contains(JWT));
}
