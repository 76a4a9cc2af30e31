//! exec and other upgrades: bytes pass as they are, and the record has what they mean.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hoop_proxy::PolicySource;
use hoop_schema::Kind;
use hoop_schema::kinds::request::{Cause, Ended, Outcome};
use hoop_schema::kinds::stream::{Channel, StreamData};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Bed, Fake, FakeBody, PATIENCE, Setup, eventually, request, whole};

pub(crate) const EXEC: &str =
    "/api/v1/namespaces/shop/pods/web/exec?command=sh&stdin=true&stdout=true&tty=true";
pub(crate) const V5: &str = "v5.channel.k8s.io";
const SUCCESS: &str = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;

/// A token between two letters, in pieces.
const PIECES: [&str; 3] = ["a eyJhbGciOiJSUzI1NiJ9.ey", "JzdWIiOiJhIn0.c2ln", " b\n"];

pub(crate) type Stream = TokioIo<Upgraded>;

/// A binary message of one frame; those of clients are masked.
pub(crate) fn message(masked: bool, channel: u8, text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap();
    assert!(length < 126, "short messages only");
    let mut frame = vec![0x82, length | if masked { 0x80 } else { 0 }];
    let key = if masked { &[0x5a, 1, 2, 3][..] } else { &[] };
    frame.extend_from_slice(key);
    let payload = std::iter::once(&channel).chain(text);
    frame.extend(payload.enumerate().map(
        |(i, byte)| {
            if masked { byte ^ key[i % 4] } else { *byte }
        },
    ));
    frame
}

/// An API server that turns every request into a stream and hands it to `serve`.
pub(crate) async fn switching<F>(
    protocol: Option<&'static str>,
    serve: impl Fn(Stream) -> F + Clone + Send + Sync + 'static,
) -> (Fake, Arc<Mutex<Vec<HeaderMap>>>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    let fake = Fake::start(move |mut request: Request<Incoming>| {
        heads.lock().unwrap().push(request.headers().clone());
        let upgrade = hyper::upgrade::on(&mut request);
        let serve = serve.clone();
        tokio::spawn(async move { serve(TokioIo::new(upgrade.await.unwrap())).await });
        let mut response: Response<FakeBody> =
            Response::new(Empty::new().map_err(|e| match e {}).boxed());
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "Upgrade".parse().unwrap());
        headers.insert("upgrade", "websocket".parse().unwrap());
        headers.insert(
            "sec-websocket-accept",
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap(),
        );
        if let Some(protocol) = protocol {
            headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        async move { response }
    })
    .await;
    (fake, seen)
}

fn upgrading(target: &str, protocols: &str) -> Request<Full<Bytes>> {
    upgrading_as("alice", target, protocols)
}

fn upgrading_as(user: &str, target: &str, protocols: &str) -> Request<Full<Bytes>> {
    request("GET", user, target)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-extensions", "permessage-deflate")
        .header("sec-websocket-protocol", protocols)
        .body(Full::default())
        .unwrap()
}

async fn switch(bed: &Bed, request: Request<Full<Bytes>>) -> (HeaderMap, Stream) {
    let mut response = bed.client().await.open(request).await;
    assert_eq!(response.status(), 101);
    let headers = response.headers().clone();
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    (headers, TokioIo::new(upgraded))
}

/// A text message of a server whose channel is a digit.
fn in_base64(channel: u8, text: &str) -> Vec<u8> {
    let payload = format!("{channel}{}", BASE64_STANDARD.encode(text));
    let length = u8::try_from(payload.len()).unwrap();
    [&[0x81, length], payload.as_bytes()].concat()
}

async fn read_exactly(stream: &mut Stream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes))
        .await
        .expect("bytes come")
        .unwrap();
    bytes
}

async fn the_outcome(bed: &Bed) -> Outcome {
    eventually("an outcome", async || bed.outcomes().await.pop()).await
}

async fn data(bed: &Bed) -> Vec<StreamData> {
    let data = |event: hoop_schema::Event| match event.kind {
        Kind::StreamData(data) => Some(data),
        _ => None,
    };
    bed.events().await.into_iter().filter_map(data).collect()
}

fn text_of(data: &[StreamData], channel: Channel) -> String {
    data.iter()
        .filter(|piece| piece.channel == channel)
        .map(|piece| piece.content.as_str())
        .collect()
}

/// Echoes one message as output, says how the command ended, and closes.
async fn shell(mut stream: Stream) {
    let asked = message(true, 0, b"date\n");
    assert_eq!(read_exactly(&mut stream, asked.len()).await, asked);
    let mut said = message(false, 1, b"today\n");
    said.extend(message(false, 3, &SUCCESS.as_bytes()[..60]));
    stream.write_all(&said).await.unwrap();
    // The rest of the status in a frame of its own, as kubelets may.
    let rest = message(false, 3, &SUCCESS.as_bytes()[60..]);
    stream.write_all(&rest).await.unwrap();
    stream.flush().await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_command_is_tunnelled_as_it_is_and_recorded_by_channel() {
    let (fake, seen) = switching(Some(V5), shell).await;
    let bed = Setup::before(&fake).start().await;
    let (headers, mut stream) = switch(&bed, upgrading(EXEC, V5)).await;
    assert_eq!(headers["sec-websocket-protocol"], V5);
    assert_eq!(
        headers["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let sent = message(true, 0, b"date\n");
    stream.write_all(&sent).await.unwrap();
    stream.flush().await.unwrap();
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
        .await
        .expect("the stream ends")
        .unwrap();
    assert_eq!(&got[..9], message(false, 1, b"today\n"));

    let outcome = the_outcome(&bed).await;
    assert_eq!((outcome.status, outcome.ended), (101, Ended::Complete));
    assert_eq!(outcome.exit_code, Some(3));
    assert_eq!(outcome.request.argv, ["sh"]);
    assert_eq!(outcome.request_bytes, sent.len() as u64);
    assert_eq!(outcome.response_bytes, got.len() as u64);
    let data = data(&bed).await;
    assert_eq!(text_of(&data, Channel::Stdin), "date\n");
    assert_eq!(text_of(&data, Channel::Stdout), "today\n");
    assert_eq!(text_of(&data, Channel::Error), SUCCESS);
    assert_eq!(outcome.stream_events, data.len() as u64);

    let seen = seen.lock().unwrap()[0].clone();
    assert_eq!(seen["impersonate-user"], "alice");
    assert!(!seen.contains_key("authorization"), "{seen:?}");
    assert!(!seen.contains_key("sec-websocket-extensions"), "{seen:?}");
}

const MASKING: &str = r#"
masking:
  - {name: tokens, detect: [jwt]}
profiles:
  - name: people
    subjects: {users: [alice]}
    rules:
      - {name: all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], masking: [tokens]}
"#;

#[tokio::test]
async fn what_a_command_prints_is_masked_over_any_cut_and_what_it_reads_in_the_record() {
    let serve = |mut stream: Stream| async move {
        let asked = message(true, 0, PIECES[1].as_bytes());
        read_exactly(&mut stream, asked.len()).await;
        for piece in PIECES {
            let said = message(false, 1, piece.as_bytes());
            stream.write_all(&said).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.shutdown().await.unwrap();
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let bed = Setup {
        policy: PolicySource::Text(MASKING.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let (_, mut stream) = switch(&bed, upgrading(EXEC, V5)).await;
    let sent = message(true, 0, PIECES[1].as_bytes());
    stream.write_all(&sent).await.unwrap();
    stream.flush().await.unwrap();
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
        .await
        .expect("the stream ends")
        .unwrap();
    let text: Vec<u8> = got
        .iter()
        .copied()
        .filter(|byte| byte.is_ascii_graphic() || b" \n".contains(byte))
        .collect();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text, "a **hoop-masked** b\n");
    assert!(got.starts_with(&message(false, 1, b"a ")), "{got:?}");

    assert_eq!(the_outcome(&bed).await.masked.count, 1);
    let data = data(&bed).await;
    assert_eq!(text_of(&data, Channel::Stdout), "a **hoop-masked** b\n");
    assert_eq!(text_of(&data, Channel::Stdin), PIECES[1]);
    let mut offset = 0;
    for piece in data.iter().filter(|piece| piece.channel == Channel::Stdout) {
        assert_eq!(piece.offset, offset);
        offset += piece.content.len() as u64;
    }
}

#[tokio::test]
async fn what_may_begin_a_secret_on_a_terminal_is_held_back_for_a_moment_only() {
    let serve = |mut stream: Stream| async move {
        stream
            .write_all(&message(false, 1, b"$ eyJ"))
            .await
            .unwrap();
        stream.flush().await.unwrap();
        // Nothing more comes until the client has seen it.
        read_exactly(&mut stream, message(true, 0, b"x").len()).await;
        stream.shutdown().await.unwrap();
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let bed = Setup {
        policy: PolicySource::Text(MASKING.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let (_, mut stream) = switch(&bed, upgrading(EXEC, V5)).await;
    for shown in [&b"$ "[..], b"eyJ"] {
        let expected = message(false, 1, shown);
        assert_eq!(read_exactly(&mut stream, expected.len()).await, expected);
    }
    stream.write_all(&message(true, 0, b"x")).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    drop(
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("ends"),
    );
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(the_outcome(&bed).await.masked.count, 0);
    let data = data(&bed).await;
    assert_eq!(text_of(&data, Channel::Stdout), "$ eyJ");
}

#[tokio::test]
async fn output_in_base64_is_masked_as_what_it_stands_for() {
    let serve = |mut stream: Stream| async move {
        for piece in PIECES {
            stream.write_all(&in_base64(1, piece)).await.unwrap();
        }
        stream.flush().await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let protocol = "base64.channel.k8s.io";
    let (fake, _) = switching(Some(protocol), serve).await;
    let bed = Setup {
        policy: PolicySource::Text(MASKING.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let (_, mut stream) = switch(&bed, upgrading(EXEC, protocol)).await;
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
        .await
        .expect("the stream ends")
        .unwrap();
    let (mut left, mut text) = (&got[..], Vec::new());
    while let [0x81, length, message @ ..] = left {
        let (message, rest) = message.split_at(usize::from(*length));
        let encoded = message.strip_prefix(b"1").expect("standard output");
        text.extend(BASE64_STANDARD.decode(encoded).unwrap());
        left = rest;
    }
    assert!(left.is_empty(), "{got:?}");
    assert_eq!(String::from_utf8(text).unwrap(), "a **hoop-masked** b\n");
    assert_eq!(the_outcome(&bed).await.masked.count, 1);
    let data = data(&bed).await;
    assert_eq!(text_of(&data, Channel::Stdout), "a **hoop-masked** b\n");
}

#[tokio::test]
async fn a_stream_that_cannot_be_decoded_is_closed_and_says_why() {
    // A message for a channel that does not exist.
    let serve = |mut stream: Stream| async move {
        stream.write_all(&message(false, 9, b"?")).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let bed = Setup::before(&fake).start().await;
    let (_, mut stream) = switch(&bed, upgrading(EXEC, V5)).await;
    let mut got = Vec::new();
    drop(
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
            .await
            .expect("is closed"),
    );
    assert!(
        got.is_empty(),
        "nothing passes that is not recorded: {got:?}"
    );
    let outcome = the_outcome(&bed).await;
    assert_eq!(outcome.ended, Ended::GatewayClosed);
    assert_eq!(outcome.decision.cause, Cause::Uninspectable);
    assert!(
        outcome.decision.message.contains("channel 9"),
        "{}",
        outcome.decision.message
    );
}

#[tokio::test]
async fn under_a_rule_that_records_metadata_it_goes_on() {
    let serve = |mut stream: Stream| async move {
        stream.write_all(&message(false, 9, b"?")).await.unwrap();
        stream.flush().await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let policy = r#"{profiles: [{name: p, subjects: {users: [alice]}, rules: [
        {effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], record: Metadata}]}]}"#;
    let setup = Setup {
        policy: PolicySource::Text(policy.to_owned()),
        ..Setup::before(&fake)
    };
    let bed = setup.start().await;
    let (_, mut stream) = switch(&bed, upgrading(EXEC, V5)).await;
    assert_eq!(read_exactly(&mut stream, 4).await, message(false, 9, b"?"));
    let outcome = the_outcome(&bed).await;
    assert_eq!(outcome.ended, Ended::UpstreamClosed);
    assert_eq!(outcome.response_bytes, 4);
    assert!(data(&bed).await.is_empty());
}

#[tokio::test]
async fn a_protocol_that_was_not_offered_is_refused_and_nothing_is_tunnelled() {
    let (fake, _) = switching(Some("v4.channel.k8s.io"), |_| async {}).await;
    let bed = Setup::before(&fake).start().await;
    let answer = bed.client().await.send(upgrading(EXEC, V5)).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.message().contains("not offered"),
        "{}",
        answer.message()
    );
    let outcome = the_outcome(&bed).await;
    assert_eq!(outcome.decision.cause, Cause::Uninspectable);
}

#[tokio::test]
async fn what_the_api_server_answers_instead_reaches_the_client() {
    let fake =
        Fake::start(|_| async { whole(400, "text/plain", "container not found (\"web\")") }).await;
    let bed = Setup::before(&fake).start().await;
    let answer = bed.client().await.send(upgrading(EXEC, V5)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, "container not found (\"web\")");
    assert_eq!(the_outcome(&bed).await.status, 400);
}

#[tokio::test]
async fn a_token_among_the_subprotocols_does_not_travel_on() {
    let (fake, seen) = switching(Some(V5), |_| async {}).await;
    let bed = Setup::before(&fake).start().await;
    let token = format!("base64url.bearer.authorization.k8s.io.c2VjcmV0, {V5}");
    let (_, stream) = switch(&bed, upgrading(EXEC, &token)).await;
    drop(stream);
    the_outcome(&bed).await;
    assert_eq!(seen.lock().unwrap()[0]["sec-websocket-protocol"], V5);
    assert!(!bed.written().await.contains("c2VjcmV0"));
}

#[tokio::test]
async fn what_a_proxied_pod_upgrades_to_is_counted_and_not_looked_into() {
    let serve = |mut stream: Stream| async move {
        let got = read_exactly(&mut stream, 5).await;
        stream.write_all(&got.repeat(2)).await.unwrap();
        stream.flush().await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (fake, _) = switching(None, serve).await;
    let bed = Setup::before(&fake).start().await;
    let target = "/api/v1/namespaces/shop/pods/web/proxy/socket";
    let (_, mut stream) = switch(&bed, upgrading(target, "chat")).await;
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_exactly(&mut stream, 10).await, b"hellohello");
    let outcome = the_outcome(&bed).await;
    assert_eq!((outcome.request_bytes, outcome.response_bytes), (5, 10));
    assert!(data(&bed).await.is_empty());
}

#[tokio::test]
async fn a_gateway_that_stops_closes_its_streams_and_says_so() {
    let serve = |mut stream: Stream| async move {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let mut setup = Setup::before(&fake);
    setup.limits.drain_timeout = Duration::from_millis(100);
    let mut bed = setup.start().await;
    let (_, mut stream) = switch(&bed, upgrading(EXEC, V5)).await;
    stream.write_all(&message(true, 0, b"ls")).await.unwrap();
    stream.flush().await.unwrap();
    // The gateway has it before it is told to stop.
    eventually("an intent", async || bed.intents().await.pop()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    bed.stop().await;
    let outcome = the_outcome(&bed).await;
    assert_eq!(outcome.ended, Ended::GatewayClosed);
    assert_eq!(text_of(&data(&bed).await, Channel::Stdin), "ls");
}

#[tokio::test]
async fn a_command_ends_with_the_credential_that_opened_it_and_says_so() {
    let serve = |mut stream: Stream| async move {
        stream.write_all(&message(false, 1, b"$ ")).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let bed = Setup::before(&fake).start().await;
    let (_, mut stream) = switch(&bed, upgrading_as("soon", EXEC, V5)).await;
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
        .await
        .expect("the stream ends")
        .unwrap();
    let prompt = message(false, 1, b"$ ");
    let status = got.strip_prefix(&prompt[..]).expect("the prompt");
    // One long message on the error channel, then the close frame.
    assert_eq!((status[0], status[1], status[4]), (0x82, 126, 3));
    assert_eq!(status[status.len() - 4..], [0x88, 2, 0x03, 0xe8]);
    let status = &status[5..status.len() - 4];
    let status: serde_json::Value = serde_json::from_slice(status).unwrap();
    assert_eq!(status["status"], "Failure");
    assert!(status["message"].as_str().unwrap().contains("expired"));
    let outcome = the_outcome(&bed).await;
    assert_eq!(outcome.ended, Ended::GatewayClosed);
    assert_eq!(outcome.decision.cause, Cause::CredentialExpired);
    assert_eq!(outcome.response_bytes, got.len() as u64);
    let recorded = text_of(&data(&bed).await, Channel::Error);
    assert!(recorded.contains("expired"), "{recorded}");
}
