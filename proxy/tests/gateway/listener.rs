//! Connections: handshakes, limits, patience.

use std::time::Duration;

use hoop_schema::kinds::request::Cause;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::harness::{Bed, PATIENCE, Setup, eventually};

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_refused_with_a_reason() {
    let bed = Bed::start().await;
    let foreign = Authority::new().client("carol", "certified", false);
    let expired = bed.ca.client("carol", "certified", true);
    let reserved = bed.ca.client("carol", "system:masters", false);
    for (certificate, why) in [
        (
            foreign,
            "the client certificate is of an authority that is not trusted here",
        ),
        (expired, "the client certificate has expired"),
        (
            reserved,
            "groups that begin with \"system:\" are not accepted here",
        ),
    ] {
        let answer = bed
            .client_as(Some(certificate))
            .await
            .get("", "/api/v1/pods")
            .await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.message(),
            format!("the gateway does not know who you are: {why}")
        );
    }
    assert!(bed.cluster.seen().is_empty());
    assert_eq!(bed.intents().await.len(), 3);
}

#[tokio::test]
async fn a_client_without_alpn_speaks_http_1() {
    let bed = Bed::start().await;
    let mut stream = bed.connect(None, b"").await;
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-alice\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn what_is_no_http_is_answered_and_recorded() {
    for (bytes, status, cause) in [
        (
            b"GET /api/v1/pods\x01\x02 HTTP/1.1\r\n\r\n".to_vec(),
            "400",
            Cause::Malformed,
        ),
        (
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(600_000)).into_bytes(),
            "431",
            Cause::TooLarge,
        ),
    ] {
        let bed = Bed::start().await;
        let mut stream = bed.connect(None, b"").await;
        // The gateway may stop reading before all of it is sent.
        drop(stream.write_all(&bytes).await);
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").into_bytes());
        let (intent, outcome) = bed.only().await;
        assert_eq!(intent.decision.cause, cause);
        assert_eq!(outcome.status.to_string(), status);
    }
}

#[tokio::test]
async fn who_takes_too_long_is_shown_out() {
    let mut setup = Setup::default();
    setup.limits.handshake_timeout = Duration::from_millis(50);
    setup.limits.head_timeout = Duration::from_millis(50);
    let bed = setup.start().await;
    let mut silent = TcpStream::connect(bed.address).await.unwrap();
    let mut byte = [0];
    let closed = tokio::time::timeout(PATIENCE, silent.read(&mut byte))
        .await
        .expect("the connection is closed");
    assert!(matches!(closed, Ok(0) | Err(_)));
    eventually("the counted handshake", async || {
        bed.metrics()
            .contains("hoop_gateway_handshakes_failed_total 1")
            .then_some(())
    })
    .await;

    let mut slow = bed.connect(None, b"http/1.1").await;
    slow.write_all(b"GET /api HTTP/1.1\r\nHost: ")
        .await
        .unwrap();
    let mut rest = Vec::new();
    drop(
        tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest))
            .await
            .expect("the connection is closed"),
    );
    eventually("no connection", async || {
        bed.metrics()
            .contains("hoop_gateway_connections 0")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut setup = Setup::default();
    setup.limits.body_timeout = Duration::from_millis(50);
    let bed = setup.start().await;
    let mut slow = bed.connect(None, b"").await;
    slow.write_all(b"POST /api/v1/namespaces/shop/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-alice\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    assert!(bed.cluster.seen().is_empty());
    assert_eq!(bed.only().await.1.status, 408);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let mut setup = Setup::default();
    setup.limits.connections_max = 1;
    let bed = setup.start().await;
    let first = bed.client().await;
    let second = tokio::time::timeout(Duration::from_millis(200), bed.client()).await;
    assert!(second.is_err());
    drop(first);
    assert_eq!(
        bed.client().await.get("alice", "/version").await.status,
        200
    );
}
