//! Slow clients. Handshakes that stall, and bodies that stop, are in [`crate::listener`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoop_proxy::Limits;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http2::{END_STREAM, GET, HEADERS, answers, block, frame, preface};
use super::{bed, recorded};
use crate::harness::{Bed, Fake, PATIENCE, Setup, eventually, whole};

const SHORT: Duration = Duration::from_millis(300);

fn impatient() -> Limits {
    Limits {
        head_timeout: SHORT,
        body_timeout: SHORT,
        ..Limits::default()
    }
}

/// Writes byte by byte until the other side has had enough; what it has said by then.
async fn drip(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), bytes: &[u8]) -> Vec<u8> {
    let begun = Instant::now();
    let mut got = Vec::new();
    for byte in bytes.iter().cycle() {
        assert!(begun.elapsed() < PATIENCE, "it is patient without end");
        let _gone = stream.write_all(&[*byte]).await;
        let read = tokio::time::timeout(Duration::from_millis(10), stream.read_buf(&mut got));
        match read.await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) if got.ends_with(b"}\n") => break,
            _ => {}
        }
    }
    got
}

async fn closed(bed: &Bed) {
    eventually("no connection", async || {
        let metrics = bed.metrics();
        metrics
            .contains("hoop_gateway_connections 0\n")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_head_byte_by_byte_is_cut_off_and_recorded() {
    let (bed, _tape) = bed(impatient()).await;
    let mut stream = bed.connect(None, b"http/1.1").await;
    let got = drip(&mut stream, b"GET /version HTTP/1.1\r\nX: y\r\n").await;
    assert!(got.is_empty());
    let (intent, outcome) = bed.only().await;
    assert_eq!(recorded(&bed).await, ["malformed 0"]);
    assert!(
        intent
            .decision
            .message
            .ends_with("its head did not come to its end")
    );
    assert_eq!(outcome.response_bytes, 0);
    closed(&bed).await;
}

#[tokio::test]
async fn half_a_head_is_recorded_whoever_gives_up_and_wherever_it_comes() {
    for first in [
        "",
        "GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-alice\r\n\r\n",
    ] {
        for gives_up in [true, false] {
            let (bed, _tape) = bed(impatient()).await;
            let mut stream = bed.connect(None, b"http/1.1").await;
            stream.write_all(first.as_bytes()).await.unwrap();
            if !first.is_empty() {
                eventually("an outcome", async || bed.outcomes().await.pop()).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stream.write_all(b"GET /api HTTP/1.1\r\nHo").await.unwrap();
            stream.flush().await.unwrap();
            if gives_up {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(stream);
            }
            let mut expected = vec!["rule 200", "malformed 0"];
            if first.is_empty() {
                expected.remove(0);
            }
            let count = expected.len();
            eventually("all outcomes", async || {
                (bed.outcomes().await.len() == count).then_some(())
            })
            .await;
            assert_eq!(recorded(&bed).await, expected);
            closed(&bed).await;
        }
    }
}

#[tokio::test]
async fn a_body_byte_by_byte_is_cut_off_and_recorded() {
    let (bed, tape) = bed(impatient()).await;
    let mut stream = bed.connect(None, b"http/1.1").await;
    stream
        .write_all(b"POST /api/v1/namespaces/a/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-alice\r\nContent-Length: 100000\r\n\r\n")
        .await
        .unwrap();
    let got = drip(&mut stream, b" ").await;
    assert!(got.starts_with(b"HTTP/1.1 408"), "{got:?}");
    assert_eq!(recorded(&bed).await, ["malformed 408"]);
    assert!(tape.seen().is_empty());
}

#[tokio::test]
async fn who_says_nothing_is_shown_out_without_a_record() {
    for protocol in ["http/1.1", "h2"] {
        let (bed, _tape) = bed(impatient()).await;
        let mut stream = bed.connect(None, protocol.as_bytes()).await;
        if protocol == "h2" {
            stream.write_all(&preface()).await.unwrap();
        }
        let mut got = Vec::new();
        drop(
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
                .await
                .expect("the connection is closed"),
        );
        closed(&bed).await;
        assert!(bed.intents().await.is_empty(), "{protocol}");
    }
}

#[tokio::test]
async fn half_a_head_of_http_2_is_cut_off_and_recorded() {
    let (bed, _tape) = bed(impatient()).await;
    let mut stream = bed.connect(None, b"h2").await;
    stream.write_all(&preface()).await.unwrap();
    let half = frame(HEADERS, END_STREAM, 1, &block(&GET));
    stream.write_all(&half).await.unwrap();
    let mut got = Vec::new();
    drop(
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
            .await
            .expect("the connection is closed"),
    );
    assert!(!answers(&got).contains(&"200".to_owned()));
    bed.only().await;
    assert_eq!(recorded(&bed).await, ["malformed 0"]);
    closed(&bed).await;
}

#[tokio::test]
async fn an_http_2_connection_lasts_as_long_as_its_requests() {
    let fake = Fake::start(async |_| {
        tokio::time::sleep(4 * SHORT).await;
        whole(200, "application/json", "{}")
    })
    .await;
    let mut setup = Setup::before(&fake);
    setup.limits.head_timeout = SHORT;
    let bed = setup.start().await;
    let mut sender = bed.http2().await;
    let request = crate::harness::request("GET", "alice", "/version");
    let request = request.body(http_body_util::Full::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
    closed(&bed).await;
}

/// Of an answer without end, the gateway takes no more than fits between it and a client that does not read.
#[tokio::test]
async fn who_does_not_read_holds_up_nobody_and_fills_no_memory() {
    const PIECE: usize = 64 * 1024;
    let taken = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&taken);
    let fake = Fake::start(move |request| {
        let counter = Arc::clone(&counter);
        async move {
            let mut answer = whole(200, "text/plain", "");
            if request.uri().path().ends_with("/log") {
                let pieces = std::iter::repeat_with(move || {
                    counter.fetch_add(PIECE, Ordering::Relaxed);
                    Ok(Frame::data(Bytes::from_static(&[b'\n'; PIECE])))
                });
                let body = StreamBody::new(futures_util::stream::iter(pieces));
                *answer.body_mut() = BodyExt::boxed(body);
            }
            answer
        }
    })
    .await;
    let bed = Setup::before(&fake).start().await;
    let mut stream = bed.connect(None, b"http/1.1").await;
    stream
        .write_all(b"GET /api/v1/namespaces/a/pods/p/log HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-alice\r\n\r\n")
        .await
        .unwrap();
    let settled = eventually("an end of reading", async || {
        let before = taken.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = taken.load(Ordering::Relaxed);
        (before > 0 && before == after).then_some(after)
    })
    .await;
    // The buffers of the kernel on two connections; none of the gateway's own worth the name.
    assert!(settled < 32 << 20, "{settled}");
    assert_eq!(bed.get("/version").await.status, 200);
    drop(stream);
    eventually("the end of the answer", async || {
        (bed.outcomes().await.len() == 2).then_some(())
    })
    .await;
    eventually("no connection to the API server", async || {
        (fake.open() <= 1).then_some(())
    })
    .await;
}
