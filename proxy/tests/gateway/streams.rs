//! Watches, followed logs, and answers that break off.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hoop_schema::Kind;
use hoop_schema::kinds::request::{Cause, Effect, Ended};
use hoop_schema::kinds::stream::Channel;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::harness::{
    Bed, Fake, FakeBody, PATIENCE, SOON, Setup, eventually, read, request, whole,
};

const SECRETS: &str = "/api/v1/namespaces/shop/secrets?watch=true";

async fn next(body: &mut Incoming) -> Option<Bytes> {
    let frame = tokio::time::timeout(PATIENCE, body.frame())
        .await
        .expect("a frame comes");
    frame.map(|frame| frame.unwrap().into_data().unwrap())
}

/// An answer whose body is sent piece by piece through the channel.
pub(crate) fn piecewise(
    media_type: &str,
) -> (mpsc::Sender<&'static str>, http::Response<FakeBody>) {
    let (sender, receiver) = mpsc::channel(16);
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        let piece: &str = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from(piece))), receiver))
    });
    let mut response = whole(200, media_type, "");
    *response.body_mut() = BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(pieces))));
    (sender, response)
}

/// A stream that is only ever polled through `&mut`, so that it is `Sync` whatever it holds.
struct SyncStream<S>(std::pin::Pin<Box<S>>);

impl<S: futures_util::Stream> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

#[tokio::test]
async fn a_watch_arrives_frame_by_frame_and_masked() {
    let bed = Bed::start().await;
    let watch = request("GET", "alice", SECRETS)
        .body(Full::default())
        .unwrap();
    let mut client = bed.client().await;
    let response = client.open(watch).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for i in 0..3 {
        bed.cluster.put(serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("w{i}"), "namespace": "shop"},
            "data": {"password": "aHVudGVyMg=="}
        })).unwrap();
        let name = format!("\"w{i}\"");
        let mut text = String::new();
        while !text.contains(&name) {
            text += std::str::from_utf8(&next(&mut body).await.unwrap()).unwrap();
        }
        assert!(!text.contains("aHVudGVyMg"), "{text}");
    }
    let data = eventually("recorded frames", async || {
        let events = bed.events().await;
        let data = events.into_iter().filter_map(|event| match event.kind {
            Kind::StreamData(data) => Some(data),
            _ => None,
        });
        let text = data
            .filter(|data| data.channel == Channel::Watch)
            .map(|data| data.content)
            .collect::<String>();
        text.contains("\"w2\"").then_some(text)
    })
    .await;
    assert!(!data.contains("aHVudGVyMg"));

    // The client goes away: so does the request to the API server, and the record says it.
    drop((body, client));
    let outcome = eventually("the outcome", async || bed.outcomes().await.pop()).await;
    assert_eq!((outcome.status, outcome.ended), (200, Ended::ClientClosed));
    assert!(outcome.masked.count >= 3);
    assert!(outcome.stream_events > 0);
}

#[tokio::test]
async fn the_gateway_adds_less_than_five_milliseconds_to_a_frame() {
    let (answers, mut started) = mpsc::channel(1);
    let fake = Fake::start(move |_| {
        let (sender, response) = piecewise("application/json");
        let answers = answers.clone();
        async move {
            answers.send(sender).await.unwrap();
            response
        }
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let watch = request("GET", "alice", SECRETS)
        .body(Full::default())
        .unwrap();
    let mut client = bed.client().await;
    let response = client.open(watch).await;
    let sender = started.recv().await.unwrap();
    let mut body = response.into_body();
    let mut fastest = Duration::MAX;
    for _ in 0..30 {
        let sent = Instant::now();
        sender
            .send(
                "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Secret\",\"data\":{\"p\":\"eA==\"}}}\n",
            )
            .await
            .unwrap();
        let frame = next(&mut body).await.unwrap();
        fastest = fastest.min(sent.elapsed());
        assert!(frame.ends_with(b"}\n"), "a frame is whole: {frame:?}");
        assert!(!frame.windows(4).any(|w| w == b"eA=="));
    }
    // The fastest of thirty, since the machine may be busy; a buffer would slow all of them.
    assert!(fastest < Duration::from_millis(5), "{fastest:?}");
}

#[tokio::test]
async fn a_followed_log_is_recorded_while_it_runs() {
    let bed = Bed::start().await;
    let follow = request(
        "GET",
        "alice",
        "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp/log?follow=true",
    )
    .body(Full::default())
    .unwrap();
    let mut client = bed.client().await;
    let response = client.open(follow).await;
    let mut body = response.into_body();
    assert!(next(&mut body).await.unwrap().starts_with(b"GET / 200"));
    bed.cluster
        .append_log("shop", "web-6d4b75cb6d-hk2vp", "a new line");
    assert_eq!(next(&mut body).await.unwrap(), "a new line\n");
    eventually("the recorded line", async || {
        let events = bed.events().await;
        events
            .iter()
            .any(|event| {
                matches!(&event.kind, Kind::StreamData(data)
            if data.channel == Channel::Log && data.content.contains("a new line"))
            })
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_request() {
    let fake = Fake::start(async |_| std::future::pending().await).await;
    let bed = Setup::before(&fake).start().await;
    let mut client = bed.client().await;
    let asking = client.get("alice", "/api/v1/pods");
    assert!(
        tokio::time::timeout(Duration::from_millis(300), asking)
            .await
            .is_err()
    );
    assert_eq!(fake.open(), 1);
    drop(client);
    let (_, outcome) = bed.only().await;
    assert_eq!((outcome.status, outcome.ended), (0, Ended::ClientClosed));
    eventually("an end of the request", async || {
        (fake.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_breaks_off_is_passed_on_as_a_broken_answer() {
    let bed = Bed::start().await;
    bed.cluster.fill_with_secrets("shop", 2000, 1000);
    bed.cluster.break_next_body();
    let list = request("GET", "alice", "/api/v1/secrets")
        .body(Full::default())
        .unwrap();
    let response = bed.client().await.open(list).await;
    assert_eq!(response.status(), 200);
    assert!(
        read(response).await.is_err(),
        "the client must not take it for the whole list"
    );
    let (_, outcome) = bed.only().await;
    assert_eq!(
        (outcome.status, outcome.ended),
        (200, Ended::UpstreamClosed)
    );
    bed.assert_metric("hoop_gateway_upstream_errors_total{operation=\"body\"} 1");
}

#[tokio::test]
async fn a_small_answer_that_breaks_off_becomes_an_error() {
    let fake = Fake::start(async |_| {
        let pieces = [
            Ok(Frame::data(Bytes::from_static(b"{\"kind\":"))),
            Err(std::io::ErrorKind::BrokenPipe.into()),
        ];
        let mut response = whole(200, "application/json", "");
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        *response.body_mut() = BodyExt::boxed(body);
        let headers = response.headers_mut();
        headers.insert("content-length", http::HeaderValue::from_static("100"));
        response
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let answer = bed.get("/api/v1/namespaces/shop/secrets/s").await;
    assert_eq!(answer.status, 502);
    assert_eq!(bed.only().await.1.ended, Ended::UpstreamClosed);
}

#[tokio::test]
async fn a_watch_that_turns_into_something_else_is_cut_off() {
    let (answers, mut started) = mpsc::channel(1);
    let fake = Fake::start(move |_| {
        let (sender, response) = piecewise("application/json");
        let answers = answers.clone();
        async move {
            answers.send(sender).await.unwrap();
            response
        }
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let watch = request("GET", "alice", SECRETS)
        .body(Full::default())
        .unwrap();
    let mut client = bed.client().await;
    let response = client.open(watch).await;
    let sender = started.recv().await.unwrap();
    sender
        .send("{\"type\":\"ADDED\",\"object\":{}}\n")
        .await
        .unwrap();
    sender.send("s3cret s3cret s3cret").await.unwrap();
    assert!(read(response).await.is_err());
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.ended, Ended::GatewayClosed);
    assert_eq!(outcome.decision.cause.as_str(), "uninspectable");
    assert!(!bed.written().await.contains("s3cret"));
}

#[tokio::test]
async fn told_to_stop_it_lets_streams_end_and_records_those_it_breaks_off() {
    let mut setup = Setup::default();
    setup.limits.drain_timeout = Duration::from_millis(100);
    let mut bed = setup.start().await;
    let watch = request("GET", "alice", SECRETS)
        .body(Full::default())
        .unwrap();
    let mut client = bed.client().await;
    let response = client.open(watch).await;
    assert!(bed.stop().await, "all events are acknowledged");
    drop(response);
    assert_eq!(bed.only().await.1.ended, Ended::ClientClosed);
    assert!(tokio::net::TcpStream::connect(bed.address).await.is_err());
}

/// Reads to the end, which must be an orderly one.
async fn to_the_end(mut body: Incoming) -> String {
    let mut text = String::new();
    while let Some(piece) = next(&mut body).await {
        text += std::str::from_utf8(&piece).unwrap();
    }
    text
}

async fn outcome_of_an_expired_stream(bed: &Bed) {
    let outcome = eventually("the outcome", async || bed.outcomes().await.pop()).await;
    assert_eq!((outcome.status, outcome.ended), (200, Ended::GatewayClosed));
    assert_eq!(outcome.decision.cause, Cause::CredentialExpired);
    assert_eq!(outcome.decision.effect, Effect::Deny);
}

#[tokio::test]
async fn a_watch_ends_with_the_credential_that_opened_it_and_says_so() {
    let bed = Bed::start().await;
    let watch = request("GET", "soon", SECRETS)
        .body(Full::default())
        .unwrap();
    let mut client = bed.client().await;
    let response = client.open(watch).await;
    assert_eq!(response.status(), 200);
    let text = to_the_end(response.into_body()).await;
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "ERROR");
    assert_eq!(last["object"]["reason"], "Unauthorized");
    assert_eq!(last["object"]["code"], 401);
    let message = last["object"]["message"].as_str().unwrap();
    assert!(message.contains("expired"), "{message}");
    outcome_of_an_expired_stream(&bed).await;
    // And the API server is no longer asked.
    let answer = client.get("soon", SECRETS).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_followed_log_ends_with_the_credential_that_opened_it() {
    let bed = Bed::start().await;
    let target = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp/log?follow=true";
    let follow = request("GET", "soon", target)
        .body(Full::default())
        .unwrap();
    let response = bed.client().await.open(follow).await;
    let text = to_the_end(response.into_body()).await;
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("hoop: ") && last.contains("expired"),
        "{last}"
    );
    outcome_of_an_expired_stream(&bed).await;
}

#[tokio::test]
async fn a_connection_is_not_known_any_longer_than_its_certificate() {
    let bed = Bed::start().await;
    let own = bed.ca.client("soon", "certified", false);
    let mut client = bed.client_as(Some(own)).await;
    let target = "/api/v1/namespaces/shop/pods";
    assert_eq!(client.get("", target).await.status, 200);
    // Certificates count whole seconds.
    tokio::time::sleep(SOON + Duration::from_secs(1)).await;
    let answer = client.get("", target).await;
    assert_eq!(answer.status, 401);
    assert!(answer.message().contains("expired"), "{answer:?}");
}

#[tokio::test]
async fn the_beginning_of_a_secret_in_a_followed_log_is_held_back_for_a_moment_only() {
    let policy = r#"
masking:
  - {name: tokens, detect: [jwt]}
profiles:
  - name: people
    subjects: {users: [alice]}
    rules:
      - {name: all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], masking: [tokens]}
"#;
    let (sender, response) = piecewise("text/plain");
    let response = std::sync::Mutex::new(Some(response));
    let fake = Fake::start(move |_| {
        let response = response.lock().unwrap().take().unwrap();
        async move { response }
    })
    .await;
    let bed = Setup {
        policy: hoop_proxy::PolicySource::Text(policy.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let follow = request(
        "GET",
        "alice",
        "/api/v1/namespaces/shop/pods/web/log?follow=true",
    )
    .body(Full::default())
    .unwrap();
    let mut client = bed.client().await;
    sender.send("a eyJhbGciOiJSUzI1NiJ9.").await.unwrap();
    let mut body = client.open(follow).await.into_body();
    assert_eq!(next(&mut body).await.unwrap(), "a ");
    // Nothing more comes: it goes on as it is.
    let begun = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), "eyJhbGciOiJSUzI1NiJ9.");
    assert!(begun.elapsed() < PATIENCE / 2);
    // What completes the secret later is masked all the same.
    sender.send("eyJzdWIiOiJhIn0.c2ln b\n").await.unwrap();
    assert_eq!(next(&mut body).await.unwrap(), "**hoop-masked** b\n");
    drop(sender);
    assert!(next(&mut body).await.is_none());
    let outcome = eventually("the outcome", async || bed.outcomes().await.pop()).await;
    assert_eq!((outcome.ended, outcome.masked.count), (Ended::Complete, 1));
}
