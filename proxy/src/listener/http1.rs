//! HTTP/1.1 on a client's connection. A head that hyper cannot read, or that never comes to its end, is recorded.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::wire::{Watch, Wire};
use super::{HEAD_BUFFER_BYTES, HEADERS_READ_MAX};
use crate::config::Limits;
use crate::gateway::{Handler, Peer, Unread};

/// How an answer begins.
const ANSWER: &[u8] = b"HTTP/1.1 ";

/// While a request is being answered, what comes is its body.
const BUSY: u64 = u64::MAX;

/// What is known of a connection below HTTP.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes of the client.
    read: AtomicU64,
    /// Those of requests that were answered, or [`BUSY`].
    answered: AtomicU64,
    /// Status of the last answer.
    status: AtomicU16,
}

struct Watcher(Arc<Seen>);

pub(super) async fn serve(
    stream: TlsStream<TcpStream>,
    handler: &Arc<Handler>,
    peer: Arc<Peer>,
    stopped: watch::Receiver<bool>,
    limits: &Limits,
) {
    let seen = Arc::<Seen>::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (handler, peer, seen) = (Arc::clone(handler), Arc::clone(&peer), Arc::clone(&seen));
        async move {
            seen.answered.store(BUSY, Ordering::Relaxed);
            let answer = handler.serve(peer, request).await;
            let read = seen.read.load(Ordering::Relaxed);
            seen.answered.store(read, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let stream = Wire::new(stream, Watcher(Arc::clone(&seen)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(HEADERS_READ_MAX)
        .max_buf_size(HEAD_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = connection.with_upgrades();
    let ask_to_end = http1::UpgradeableConnection::graceful_shutdown;
    let result = until_stopped(connection, stopped, ask_to_end).await;
    if let Some(switched) = peer.take_switched() {
        switched.run().await;
    } else if let Err(error) = result {
        if let Some(unread) = seen.unread(&error) {
            handler.unreadable(&peer, unread).await;
        }
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Drives a connection to its end; told to stop, asks it to end after the requests in flight.
async fn until_stopped<C: Future>(
    connection: C,
    mut stopped: watch::Receiver<bool>,
    ask_to_end: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        // An error means that the listener itself is gone: the same as being told.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    ask_to_end(connection.as_mut());
    connection.await
}

impl Seen {
    /// Why the connection broke off, where it was in the middle of a head.
    fn unread(&self, error: &hyper::Error) -> Option<Unread> {
        let status = self.status.load(Ordering::Relaxed);
        if error.is_parse_too_large() {
            return Some(Unread::TooLarge { status });
        }
        if error.is_parse() {
            let is_answered = status == 400;
            return Some(Unread::NotHttp { is_answered });
        }
        // Out of time, or the client is gone.
        let begun = self.read.load(Ordering::Relaxed) > self.answered.load(Ordering::Relaxed);
        begun.then_some(Unread::Unfinished)
    }
}

impl Watch for Watcher {
    fn read(&mut self, bytes: &[u8]) {
        self.0.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    fn written(&mut self, bytes: &[u8]) {
        let status = bytes.strip_prefix(ANSWER).and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        if let Some(status) = status {
            self.0.status.store(status, Ordering::Relaxed);
        }
    }
}
