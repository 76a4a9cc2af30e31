//! Watches and logs over WebSocket: masked, recorded and ended like those over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use hoop_proxy::PolicySource;
use hoop_proxy::endings::{Ending, write};
use hoop_schema::kinds::request::{Cause, Ended};
use hoop_schema::kinds::stream::Channel;
use hoop_schema::{Kind, Timestamp};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::harness::{Bed, Fake, PATIENCE, POLICY, Setup, eventually, request, whole};
use crate::streams::piecewise;

const WATCH: &str = "/api/v1/namespaces/shop/secrets?watch=true";
const LOG: &str = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp/log?follow=true";

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Of a frame that ends its message.
const FINAL: u8 = 0x80;

const ORIGIN: (&str, &str) = ("origin", "http://dashboard");

struct WebSocket {
    stream: TokioIo<Upgraded>,
    protocol: String,
    /// Of the last message.
    frames: usize,
}

fn asking(user: &str, target: &str, more: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = request("GET", user, target)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "WebSocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-extensions", "permessage-deflate");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

async fn open(bed: &Bed, request: Request<Full<Bytes>>) -> WebSocket {
    let mut response = bed.client().await.open(request).await;
    assert_eq!(response.status(), 101);
    let headers = response.headers().clone();
    assert_eq!(
        headers["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert!(headers.contains_key("audit-id"));
    assert!(!headers.contains_key("sec-websocket-extensions"));
    let protocol = headers.get("sec-websocket-protocol");
    WebSocket {
        protocol: protocol.map_or("", |p| p.to_str().unwrap()).to_owned(),
        frames: 0,
        stream: TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()),
    }
}

/// The end of a stream that ended well.
fn normal() -> (u8, Vec<u8>) {
    (CLOSE, 1000_u16.to_be_bytes().to_vec())
}

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap()];
    frame.extend([1, 2, 3, 4]);
    let masked = payload.iter().zip([1, 2, 3, 4].iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

impl WebSocket {
    /// The next whole message, of as many frames as it comes in.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        tokio::time::timeout(PATIENCE, async {
            let (mut opcode, mut message) = (0, Vec::new());
            self.frames = 0;
            loop {
                self.frames += 1;
                let first = self.stream.read_u8().await.unwrap();
                let length = match self.stream.read_u8().await.unwrap() {
                    126 => u64::from(self.stream.read_u16().await.unwrap()),
                    127 => self.stream.read_u64().await.unwrap(),
                    length @ 0..126 => u64::from(length),
                    _ => panic!("a server does not mask"),
                };
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                self.stream.read_exact(&mut payload).await.unwrap();
                message.extend(payload);
                if first & 0xf != 0 {
                    opcode = first & 0xf;
                }
                if first & 0x80 != 0 {
                    return (opcode, message);
                }
            }
        })
        .await
        .expect("a message comes")
    }

    /// All messages up to the close frame, and what that says.
    async fn rest(&mut self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut messages = Vec::new();
        loop {
            match self.next().await {
                (CLOSE, end) => return (messages, end),
                (_, message) => messages.push(message),
            }
        }
    }

    async fn say(&mut self, opcode: u8, payload: &[u8]) {
        self.send(&frame(FINAL | opcode, payload)).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn ends(&mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest));
        drop(end.await.expect("the connection ends"));
        assert!(rest.is_empty(), "{rest:?}");
    }
}

async fn recorded(bed: &Bed, channel: Channel) -> String {
    let text = |event: hoop_schema::Event| match event.kind {
        Kind::StreamData(data) if data.channel == channel => Some(data.content),
        _ => None,
    };
    bed.events().await.into_iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_watch_is_a_message_for_each_event_masked_and_recorded() {
    let bed = Bed::start().await;
    let browser = [ORIGIN, ("sec-websocket-protocol", "x")];
    let mut socket = open(&bed, asking("alice", WATCH, &browser)).await;
    assert_eq!(socket.protocol, "x");
    for i in 0..3 {
        bed.cluster.put(serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("w{i}"), "namespace": "shop"},
            "data": {"password": "aHVudGVyMg=="}
        })).unwrap();
        loop {
            let (opcode, message) = socket.next().await;
            assert_eq!(opcode, TEXT);
            let event: serde_json::Value = serde_json::from_slice(&message).unwrap();
            assert!(message.ends_with(b"}\n"), "as the API server ends them");
            if event["object"]["metadata"]["name"] == format!("w{i}") {
                let value = event["object"]["data"]["password"].as_str().unwrap();
                assert_ne!(value, "aHVudGVyMg==");
                break;
            }
        }
    }
    socket.say(PING, b"are you there").await;
    assert_eq!(socket.next().await, (PONG, b"are you there".to_vec()));
    // The API server takes no notice of what a client says.
    socket.say(TEXT, b"hello").await;
    socket.say(CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(socket.next().await, normal());
    socket.ends().await;

    let (intent, outcome) = bed.only().await;
    assert_eq!(intent.request.verb, "watch");
    assert_eq!((outcome.status, outcome.ended), (101, Ended::ClientClosed));
    assert!(outcome.masked.count >= 3);
    let recorded = recorded(&bed, Channel::Watch).await;
    assert!(recorded.contains("\"w2\"") && !recorded.contains("aHVudGVyMg"));
    let seen = bed.cluster.seen().pop().unwrap();
    assert_eq!(seen.header("upgrade"), None);
    assert_eq!(seen.header("sec-websocket-key"), None);
    assert_eq!(seen.header("accept"), Some("application/json"));
}

#[tokio::test]
async fn a_log_comes_in_bytes_or_in_base64_after_an_empty_message() {
    for (protocol, expected) in [
        ("", BINARY),
        ("binary.k8s.io", BINARY),
        ("base64.binary.k8s.io", TEXT),
    ] {
        let bed = Bed::start().await;
        let more = [("sec-websocket-protocol", protocol)];
        let more = if protocol.is_empty() { &[][..] } else { &more };
        let mut socket = open(&bed, asking("alice", LOG, more)).await;
        assert_eq!(socket.protocol, protocol);
        assert_eq!(socket.next().await, (expected, Vec::new()));
        bed.cluster
            .append_log("shop", "web-6d4b75cb6d-hk2vp", "the last line");
        let mut log = Vec::new();
        while !log.ends_with(b"the last line\n") {
            let (opcode, message) = socket.next().await;
            assert_eq!(opcode, expected);
            log.extend(match expected {
                TEXT => BASE64_STANDARD.decode(message).unwrap(),
                _ => message,
            });
        }
        drop(socket);
        let (_, outcome) = bed.only().await;
        assert_eq!((outcome.status, outcome.ended), (101, Ended::ClientClosed));
        let recorded = recorded(&bed, Channel::Log).await;
        assert_eq!(recorded.as_bytes(), log);
    }
}

#[tokio::test]
async fn a_log_that_is_over_says_so() {
    let bed = Bed::start().await;
    bed.cluster
        .append_log("shop", "web-6d4b75cb6d-hk2vp", "a line");
    let target = LOG.split('?').next().unwrap();
    let mut socket = open(&bed, asking("alice", target, &[])).await;
    let mut log = Vec::new();
    loop {
        match socket.next().await {
            (BINARY, message) => log.extend(message),
            other => {
                assert_eq!(other, normal());
                break;
            }
        }
    }
    assert!(log.ends_with(b"a line\n"));
    let (_, outcome) = bed.only().await;
    assert_eq!((outcome.status, outcome.ended), (101, Ended::Complete));
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_one_like_any_other() {
    let bed = Bed::start().await;
    let missing = "/api/v1/namespaces/shop/pods/missing/log";
    let answer = bed.client().await.send(asking("alice", missing, &[])).await;
    assert_eq!(answer.status, 404);
    assert_eq!(bed.only().await.1.status, 404);

    let bed = Bed::start().await;
    let answer = bed
        .client()
        .await
        .send(asking("bob", WATCH, &[ORIGIN]))
        .await;
    assert_eq!(answer.status, 403);
    assert!(bed.cluster.seen().is_empty());
}

#[tokio::test]
async fn a_handshake_that_the_api_server_would_refuse_is_refused() {
    for (target, more, says) in [
        (WATCH, &[][..], "Origin"),
        (
            WATCH,
            &[("origin", "x"), ("sec-websocket-protocol", "a, b")],
            "subprotocol",
        ),
        (
            LOG,
            &[("sec-websocket-protocol", "v4.channel.k8s.io")],
            "subprotocol",
        ),
        (LOG, &[("sec-websocket-key", "again")], "Sec-WebSocket-Key"),
    ] {
        let bed = Bed::start().await;
        let answer = bed.client().await.send(asking("alice", target, more)).await;
        assert_eq!(answer.status, 403);
        assert!(answer.message().contains(says), "{}", answer.message());
        let (intent, _) = bed.only().await;
        assert_eq!(intent.decision.cause, Cause::UpgradeRefused);
        assert!(bed.cluster.seen().is_empty());
    }
}

/// A close frame as a browser hands it on.
fn end_of(message: &[u8]) -> (u16, &str) {
    let (code, reason) = message.split_at(2);
    let code = u16::from_be_bytes(code.try_into().unwrap());
    (code, std::str::from_utf8(reason).unwrap())
}

#[tokio::test]
async fn a_watch_ends_with_the_credential_that_opened_it() {
    let bed = Bed::start().await;
    let mut socket = open(&bed, asking("soon", WATCH, &[ORIGIN])).await;
    let (messages, end) = socket.rest().await;
    let (code, reason) = end_of(&end);
    assert_eq!(code, 1008);
    assert!(reason.contains("expired"), "{reason}");
    let last = messages.last().expect("a message");
    let event: serde_json::Value = serde_json::from_slice(last).unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["reason"], "Unauthorized");
    socket.ends().await;
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.decision.cause, Cause::CredentialExpired);
    assert_eq!((outcome.status, outcome.ended), (101, Ended::GatewayClosed));
}

#[tokio::test]
async fn a_log_ends_when_access_is_ended_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ended.jsonl");
    let setup = Setup {
        endings: Some(file.clone()),
        ..Setup::default()
    };
    let bed = setup.start().await;
    let mut socket = open(&bed, asking("alice", LOG, &[])).await;
    assert_eq!(socket.next().await, (BINARY, Vec::new()));
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    let ending = Ending {
        session: None,
        login: None,
        user: Some("alice".into()),
        at: now,
        until: now.plus_micros(3_600_000_000),
        by: "root".into(),
        reason: "laptop lost".into(),
    };
    let new = folder.path().join("new");
    std::fs::write(&new, write(&[ending]).unwrap()).unwrap();
    std::fs::rename(new, file).unwrap();
    let (messages, end) = socket.rest().await;
    let log = String::from_utf8(messages.concat()).unwrap();
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("hoop: ") && last.contains("laptop lost"),
        "{last}"
    );
    let (code, reason) = end_of(&end);
    assert_eq!(code, 1008);
    assert!(reason.contains("laptop lost"), "{reason}");
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.decision.cause, Cause::AccessEnded);
    assert_eq!(outcome.ended, Ended::GatewayClosed);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_waited_for_until_its_credential_expires() {
    static PIECE: Bytes = Bytes::from_static(&[b'x'; 64 * 1024]);
    let taken = Arc::new(AtomicUsize::new(0));
    let pieces = Arc::clone(&taken);
    let fake = Fake::start(move |_| {
        let pieces = Arc::clone(&pieces);
        async move {
            let endless = futures_util::stream::repeat_with(move || {
                pieces.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(PIECE.clone()))
            });
            let mut response = whole(200, "text/plain", "");
            *response.body_mut() = BodyExt::boxed(StreamBody::new(endless));
            response
        }
    })
    .await;
    let mut setup = Setup::before(&fake);
    let policy = POLICY.replace("{name: work,", "{name: work, record: Metadata,");
    setup.policy = PolicySource::Text(policy);
    let bed = setup.start().await;
    let mut socket = open(&bed, asking("soon", LOG, &[])).await;
    assert_eq!(socket.next().await, (BINARY, Vec::new()));
    let (_, outcome) = bed.only().await;
    assert_eq!(outcome.decision.cause, Cause::CredentialExpired);
    assert_eq!((outcome.status, outcome.ended), (101, Ended::GatewayClosed));
    // What the buffers of four sockets hold, and no more.
    let bytes = taken.load(Ordering::SeqCst) * PIECE.len();
    assert!(bytes < 48 << 20, "{bytes} bytes were taken");
    eventually("an end of the request", async || {
        (fake.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request() {
    for close in [true, false] {
        let fake = Fake::start(async |_| {
            let mut response = whole(200, "application/json", "");
            let nothing = futures_util::stream::pending::<std::io::Result<Frame<Bytes>>>();
            *response.body_mut() = BodyExt::boxed(StreamBody::new(nothing));
            response
        })
        .await;
        let bed = Setup::before(&fake).start().await;
        let mut socket = open(&bed, asking("alice", WATCH, &[ORIGIN])).await;
        assert_eq!(fake.open(), 1);
        if close {
            socket.say(CLOSE, &[]).await;
            assert_eq!(socket.next().await, normal());
        } else {
            drop(socket);
        }
        eventually("an end of the request", async || {
            (fake.open() == 0).then_some(())
        })
        .await;
        let (_, outcome) = bed.only().await;
        assert_eq!((outcome.status, outcome.ended), (101, Ended::ClientClosed));
    }
}

#[tokio::test]
async fn an_event_is_one_frame_however_it_comes_and_a_broken_one_says_so() {
    let event = "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n";
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
    let mut socket = open(&bed, asking("alice", WATCH, &[ORIGIN])).await;
    let sender = started.recv().await.unwrap();
    for piece in event.as_bytes().chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap();
        sender.send(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(socket.next().await, (TEXT, event.as_bytes().to_vec()));
    assert_eq!(socket.frames, 1);
    sender.send("{\"type\"").await.unwrap();
    drop(fake);
    let (_, end) = socket.rest().await;
    assert_eq!(end_of(&end), (1011, "the API server broke off"));
    let (_, outcome) = bed.only().await;
    assert_eq!(
        (outcome.status, outcome.ended),
        (101, Ended::UpstreamClosed)
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_cut_into_messages_is_recorded_as_the_one_it_is() {
    let fake = Fake::start(async |_| whole(200, "application/yaml", "kind: Status")).await;
    let bed = Setup::before(&fake).start().await;
    let masked = asking("alice", WATCH, &[ORIGIN]);
    let answer = bed.client().await.send(masked).await;
    assert_eq!(answer.status, 502);
    assert_eq!(bed.only().await.1.status, 502);

    let bed = Setup::before(&fake).start().await;
    let unmasked = asking("robot", WATCH, &[ORIGIN]);
    let answer = bed.client().await.send(unmasked).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "kind: Status");
    assert_eq!(bed.only().await.1.status, 200);
}

#[tokio::test]
async fn a_token_among_the_subprotocols_authenticates_and_goes_nowhere() {
    let bed = Bed::start().await;
    let bearer = BASE64_URL_SAFE_NO_PAD.encode("token-alice");
    let offered = format!("base64url.bearer.authorization.k8s.io.{bearer}, base64.binary.k8s.io");
    let more = [("sec-websocket-protocol", offered.as_str())];
    let mut socket = open(&bed, asking("", LOG, &more)).await;
    assert_eq!(socket.protocol, "base64.binary.k8s.io");
    assert_eq!(socket.next().await, (TEXT, Vec::new()));
    drop(socket);
    let (intent, _) = bed.only().await;
    assert_eq!(intent.request.user.as_ref().unwrap().username, "alice");
    assert_eq!(intent.request.verb, "get");
    assert_eq!(
        intent.request.object_ref.as_ref().unwrap().subresource,
        "log"
    );
    let written = bed.written().await;
    assert!(!written.contains(&bearer) && !written.contains("token-alice"));
    let seen = bed.cluster.seen().pop().unwrap();
    assert_eq!(seen.header("sec-websocket-protocol"), None);

    let wrong = BASE64_URL_SAFE_NO_PAD.encode("token-nobody");
    let offered = format!("base64url.bearer.authorization.k8s.io.{wrong}, binary.k8s.io");
    let more = [("sec-websocket-protocol", offered.as_str())];
    let answer = bed.client().await.send(asking("", LOG, &more)).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn messages_of_a_client_are_passed_over_however_they_are_cut() {
    let bed = Bed::start().await;
    let mut socket = open(&bed, asking("alice", LOG, &[])).await;
    let fragments: [(u8, &[u8]); 4] = [
        (TEXT, b"one "),
        (FINAL | PING, b"between"),
        (0, b"message "),
        (FINAL, b"in three"),
    ];
    for (first, payload) in fragments {
        for byte in frame(first, payload) {
            socket.send(&[byte]).await;
        }
    }
    socket.say(PING, b"after").await;
    let mut pongs = Vec::new();
    while pongs.len() < 2 {
        match socket.next().await {
            (PONG, payload) => pongs.push(payload),
            other => assert_eq!(other.0, BINARY),
        }
    }
    assert_eq!(pongs, [b"between".to_vec(), b"after".to_vec()]);
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_stream() {
    let too_long = [[FINAL | BINARY, 0xff, 0, 0, 0, 1], [0, 0, 0, 0, 1, 2]].concat();
    for (bytes, code, says) in [
        // A client has to mask.
        (vec![FINAL | TEXT, 1, b'x'], 1002, "not masked"),
        (vec![0xc1, 0x80, 1, 2, 3, 4], 1002, "reserved bits"),
        (frame(PING, b"x"), 1002, "fragmented"),
        (frame(FINAL, b"x"), 1002, "continues nothing"),
        ([too_long, vec![3, 4]].concat(), 1009, "4294967296 bytes"),
    ] {
        let bed = Bed::start().await;
        let mut socket = open(&bed, asking("alice", LOG, &[])).await;
        assert_eq!(socket.next().await, (BINARY, Vec::new()));
        socket.send(&bytes).await;
        let (_, end) = socket.rest().await;
        let end = end_of(&end);
        assert_eq!(end.0, code);
        assert!(end.1.contains(says), "{}", end.1);
        socket.ends().await;
        assert_eq!(bed.only().await.1.ended, Ended::ClientClosed);
    }
}
