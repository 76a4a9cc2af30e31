//! What does not end: bounded, and counted where it is not recorded one by one.

use hoop_proxy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, HEADERS, PING, RST_STREAM, SETTINGS, answers,
    block, frame, preface,
};
use super::{bed, exchange};
use crate::harness::{Bed, PATIENCE, eventually};

/// Of HTTP/2: too much of it (RFC 9113 §7).
const ENHANCE_YOUR_CALM: &str = "goaway 11";

/// Failures of an address that are recorded before it is limited, in these tests.
const FAILURES_AT_ONCE: u32 = 5;

fn limits() -> Limits {
    Limits {
        failures_at_once: FAILURES_AT_ONCE,
        failure_interval: std::time::Duration::from_secs(3600),
        ..Limits::default()
    }
}

async fn http2(bed: &Bed) -> TlsStream<TcpStream> {
    bed.connect(None, b"h2").await
}

fn is_given_up(got: &[u8]) -> bool {
    answers(got)
        .iter()
        .any(|answer| answer.starts_with("goaway"))
}

/// Somebody else is served as if nothing were.
async fn is_well(bed: &Bed) {
    let answer = bed.client().await.get("alice", "/version").await;
    assert_eq!(answer.status, 200);
}

async fn unread(bed: &Bed, requests: usize) {
    let line = format!("hoop_gateway_requests_unread_total {requests}");
    eventually(&line, async || {
        bed.metrics().lines().any(|l| l == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let (bed, _tape) = bed(limits()).await;
    let mut sent = preface();
    sent.extend(frame(HEADERS, END_STREAM, 1, &block(&GET)));
    for _ in 0..2000 {
        let field = block(&[("x", &"y".repeat(8000))]);
        sent.extend(frame(CONTINUATION, 0, 1, &field));
    }
    let got = exchange(&mut http2(&bed).await, &sent, is_given_up).await;
    assert_eq!(answers(&got), [ENHANCE_YOUR_CALM]);
    is_well(&bed).await;
    unread(&bed, 1).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_recorded() {
    let (bed, tape) = bed(limits()).await;
    let mut sent = preface();
    sent.extend(frame(HEADERS, END_STREAM, 1, &block(&GET)));
    for i in 0..37 {
        let flags = if i == 36 { END_HEADERS } else { 0 };
        let field = block(&[(&format!("x-{i}"), &"y".repeat(16_000))]);
        sent.extend(frame(CONTINUATION, flags, 1, &field));
    }
    let enough = |got: &[u8]| !answers(got).is_empty();
    let mut stream = http2(&bed).await;
    let got = exchange(&mut stream, &sent, enough).await;
    assert_eq!(answers(&got)[0], "431");
    let (intent, outcome) = bed.only().await;
    assert_eq!(intent.decision.cause.as_str(), "too_large");
    assert_eq!(outcome.status, 431);
    assert!(tape.seen().is_empty());
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let (bed, tape) = bed(limits()).await;
    let mut sent = preface();
    let mut streams = 0;
    for stream in (1..4000).step_by(2) {
        sent.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block(&GET),
        ));
        sent.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        streams += 1;
    }
    let got = exchange(&mut http2(&bed).await, &sent, is_given_up).await;
    assert_eq!(
        answers(&got).last().map(String::as_str),
        Some(ENHANCE_YOUR_CALM)
    );
    is_well(&bed).await;
    // What became a request has its record; few did, and none of them is without an end.
    eventually("an outcome for each intent", async || {
        (bed.intents().await.len() == bed.outcomes().await.len()).then_some(())
    })
    .await;
    let recorded = bed.intents().await.len();
    assert!(recorded < streams / 4, "{recorded}");
    assert!(tape.seen().len() <= recorded);
}

#[tokio::test]
async fn malformed_requests_without_end_are_counted_and_end_the_connection() {
    let (bed, tape) = bed(limits()).await;
    let mut sent = preface();
    for stream in (1..8000).step_by(2) {
        let head = block(&[(":method", "GET")]);
        sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &head));
    }
    let got = exchange(&mut http2(&bed).await, &sent, is_given_up).await;
    assert_eq!(
        answers(&got).last().map(String::as_str),
        Some(ENHANCE_YOUR_CALM)
    );
    let resets = answers(&got).len() - 1;
    is_well(&bed).await;
    let counted = async || {
        let metrics = bed.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("hoop_gateway_requests_unread_total "))?;
        line.parse::<usize>().ok().filter(|count| *count >= resets)
    };
    eventually("all of them counted", counted).await;
    let limited = usize::try_from(FAILURES_AT_ONCE).unwrap();
    let recorded = bed.intents().await.len();
    // The one that was well, too.
    assert!((2..=limited + 1).contains(&recorded), "{recorded}");
    assert_eq!(tape.seen().len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_http_fill_no_log() {
    let (bed, _tape) = bed(limits()).await;
    let connections = 20;
    for _ in 0..connections {
        let mut stream = bed.connect(None, b"http/1.1").await;
        let got = exchange(&mut stream, b"\x01\x02\r\n\r\n", |_| false).await;
        assert!(got.starts_with(b"HTTP/1.1 400"));
    }
    unread(&bed, connections).await;
    is_well(&bed).await;
    let recorded = bed.intents().await.len();
    assert_eq!(recorded, usize::try_from(FAILURES_AT_ONCE).unwrap() + 1);
    bed.assert_metric("hoop_gateway_authentication_limited_total 15");
}

/// Frames that ask for an answer, of somebody who reads none.
#[tokio::test]
async fn frames_that_cost_nothing_harm_nobody() {
    let (bed, _tape) = bed(limits()).await;
    for one in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
        frame(8, 0, 0, &1_u32.to_be_bytes()),
        frame(2, 0, 1, &[0, 0, 0, 0, 1]),
        frame(0xfa, 0, 1, &[0; 100]),
    ] {
        let mut stream = http2(&bed).await;
        stream.write_all(&preface()).await.unwrap();
        let many = one.repeat(1000);
        // The gateway stops reading when nobody takes its answers, or gives the connection up.
        let flood = async {
            for _ in 0..200 {
                if stream.write_all(&many).await.is_err() {
                    return;
                }
            }
        };
        drop(tokio::time::timeout(std::time::Duration::from_secs(1), flood).await);
        is_well(&bed).await;
    }
}

#[tokio::test]
async fn a_body_of_empty_frames_ends_the_connection_or_is_too_slow() {
    let limits = Limits {
        body_timeout: std::time::Duration::from_millis(500),
        ..limits()
    };
    let (bed, tape) = bed(limits).await;
    let post = [
        (":method", "POST"),
        GET[1],
        GET[2],
        (":path", "/api/v1/namespaces/a/configmaps"),
        GET[4],
    ];
    let mut sent = preface();
    sent.extend(frame(HEADERS, END_HEADERS, 1, &block(&post)));
    sent.extend(frame(DATA, 0, 1, b"").repeat(100_000));
    let enough = |got: &[u8]| !answers(got).is_empty();
    let got = exchange(&mut http2(&bed).await, &sent, enough).await;
    let ends = [&["408".to_owned()][..], &[ENHANCE_YOUR_CALM.to_owned()]];
    assert!(ends.contains(&&answers(&got)[..1]), "{:?}", answers(&got));
    eventually("an outcome", async || bed.outcomes().await.pop()).await;
    assert!(tape.seen().is_empty());
}

/// Unread answers of many requests at once wait in the windows that HTTP/2 gives, not in memory.
#[tokio::test]
async fn a_client_without_a_window_gets_nothing() {
    let (bed, tape) = bed(limits()).await;
    let mut sent = preface();
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    sent.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for stream in (1..400).step_by(2) {
        sent.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block(&GET),
        ));
    }
    let mut stream = http2(&bed).await;
    let got = exchange(&mut stream, &sent, |got| answers(got).len() >= 200).await;
    let data = |got: &[u8]| got.windows(4).filter(|w| w == &[0, 0, 2, DATA]).count();
    assert_eq!(data(&got), 0);
    is_well(&bed).await;
    stream
        .write_all(&frame(8, 0, 1, &100_u32.to_be_bytes()))
        .await
        .unwrap();
    let mut more = got;
    while data(&more) == 0 {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut more)).await;
        assert!(read.unwrap().unwrap() > 0);
    }
    assert_eq!(tape.seen().len(), 201);
}
