//! HTTP/2 on a client's connection. hyper resets a stream whose head it cannot read, and tells nobody; so the frames
//! are counted as they pass: every stream that a client opens becomes a request, or is recorded as one that could not
//! be read.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::server::TlsStream;

use super::wire::{Watch, Wire};
use super::{HEAD_BUFFER_BYTES, PING_INTERVAL};
use crate::answer::ClientBody;
use crate::config::Limits;
use crate::gateway::{Handler, Peer, Unread};

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream of a frame (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// `:status`, however it is written. What the gateway answers has at least a date besides.
const STATUS_BYTES_MAX: usize = 5;

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Errors that say nothing about how a request was written: none, one of the server, one that the client asked for.
const INNOCENT: [u32; 3] = [0, 2, 8];

/// What is known of a connection below HTTP.
#[derive(Debug, Default)]
struct Seen {
    /// Streams that the client has opened.
    opened: AtomicU64,
    /// Those of them that became requests.
    served: AtomicU64,
    /// Those that were recorded because they did not.
    recorded: AtomicU64,
    /// Streams that were reset since the last record.
    reset: AtomicU64,
    /// Streams whose head was too large, since the last record.
    too_large: AtomicU64,
    /// Whether the connection was given up because of what the client sent.
    is_given_up: AtomicBool,
    /// A stream was refused.
    changed: Notify,
}

/// Looks at the frames of both sides.
struct Watcher {
    seen: Arc<Seen>,
    /// How much of the preface has come.
    greeted: usize,
    from_client: Frames,
    to_client: Frames,
    newest: u32,
}

/// The heads of one side's frames.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes before the next head.
    skip: usize,
    head: [u8; HEAD_BYTES + 8],
    have: usize,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    stream: u32,
    /// Of a frame that has one.
    error: Option<u32>,
    /// Whether it is an answer that is over at once and holds a status only: HTTP's own to a head that is too large.
    is_bare: bool,
}

pub(super) async fn serve(
    stream: TlsStream<TcpStream>,
    handler: &Arc<Handler>,
    peer: Arc<Peer>,
    mut stopped: watch::Receiver<bool>,
    limits: &Limits,
) {
    let seen = Arc::<Seen>::default();
    // Each open request has one.
    let open = Arc::new(());
    let service = service_fn(|request: Request<Incoming>| {
        let (handler, peer, open) = (Arc::clone(handler), Arc::clone(&peer), Arc::clone(&open));
        seen.served.fetch_add(1, Ordering::Relaxed);
        async move {
            let answer = handler.serve(peer, request).await;
            let body = |body: ClientBody| {
                body.map_err(move |error| {
                    let _until_it_is_sent = &open;
                    error
                })
            };
            Ok::<_, Infallible>(answer.map(body))
        }
    });
    let watcher = Watcher::new(&seen);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(
            u32::try_from(HEAD_BUFFER_BYTES).expect("half a megabyte fits into 32 bits"),
        )
        .serve_connection(TokioIo::new(Wire::new(stream, watcher)), service);
    let mut connection = pin!(connection);
    let record = seen.record_resets(handler, &peer);
    let served = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            // An error means that the listener itself is gone: the same as being told.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = seen.idle(&open, limits.head_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            result = connection.as_mut() => result,
            // It does not say goodbye.
            () = seen.idle(&open, limits.head_timeout) => Ok(()),
        }
    };
    let result = tokio::select! {
        result = served => result,
        () = record => Ok(()),
    };
    let requests = seen.take_rest();
    if requests > 0 {
        handler.unreadable(&peer, Unread::Reset { requests }).await;
    }
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

impl Seen {
    /// Records requests that were reset unread. Never returns.
    async fn record_resets(&self, handler: &Handler, peer: &Peer) {
        loop {
            self.changed.notified().await;
            let too_large = self.too_large.swap(0, Ordering::Relaxed);
            self.recorded.fetch_add(too_large, Ordering::Relaxed);
            for _ in 0..too_large {
                let unread = Unread::TooLarge { status: 431 };
                handler.unreadable(peer, unread).await;
            }
            let requests = self.take_reset();
            if requests > 0 {
                handler.unreadable(peer, Unread::Reset { requests }).await;
            }
        }
    }

    /// Waits until no request was open for a while, nor came.
    async fn idle(&self, open: &Arc<()>, patience: Duration) {
        loop {
            let served = self.served.load(Ordering::Relaxed);
            tokio::time::sleep(patience).await;
            if Arc::strong_count(open) == 1 && served == self.served.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Requests that were reset and never served, since the last call.
    fn take_reset(&self) -> u64 {
        let reset = self.reset.swap(0, Ordering::Relaxed);
        let requests = reset.min(self.missing());
        self.recorded.fetch_add(requests, Ordering::Relaxed);
        requests
    }

    /// At the end of the connection, all that were never served; and at least one where there were none, but the client
    /// sent what is no HTTP/2.
    fn take_rest(&self) -> u64 {
        let missing = self.missing();
        let is_new = self.opened.load(Ordering::Relaxed) == 0;
        let at_least = u64::from(is_new && self.is_given_up.load(Ordering::Relaxed));
        missing.max(at_least)
    }

    fn missing(&self) -> u64 {
        let served = self.served.load(Ordering::Relaxed) + self.recorded.load(Ordering::Relaxed);
        self.opened.load(Ordering::Relaxed).saturating_sub(served)
    }
}

impl Watcher {
    fn new(seen: &Arc<Seen>) -> Self {
        Self {
            seen: Arc::clone(seen),
            greeted: 0,
            from_client: Frames::default(),
            to_client: Frames::default(),
            newest: 0,
        }
    }
}

impl Watch for Watcher {
    fn read(&mut self, bytes: &[u8]) {
        let missing = &PREFACE[self.greeted..];
        let (greeting, bytes) = bytes.split_at(missing.len().min(bytes.len()));
        if missing[..greeting.len()] != *greeting {
            self.seen.is_given_up.store(true, Ordering::Relaxed);
        }
        self.greeted += greeting.len();
        let (newest, seen) = (&mut self.newest, &self.seen);
        self.from_client.push(bytes, |frame| {
            // A client's streams are odd, and each is newer than the one before.
            if frame.kind == HEADERS && frame.stream % 2 == 1 && frame.stream > *newest {
                *newest = frame.stream;
                seen.opened.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    fn written(&mut self, bytes: &[u8]) {
        let seen = &self.seen;
        self.to_client.push(bytes, |frame| match frame.error {
            Some(error) if INNOCENT.contains(&error) => {}
            Some(_) if frame.kind == GOAWAY => seen.is_given_up.store(true, Ordering::Relaxed),
            Some(_) => {
                seen.reset.fetch_add(1, Ordering::Relaxed);
                seen.changed.notify_one();
            }
            None if frame.is_bare => {
                seen.too_large.fetch_add(1, Ordering::Relaxed);
                seen.changed.notify_one();
            }
            None => {}
        });
    }
}

impl Frames {
    /// Takes the next bytes, however they are cut.
    fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (self.needed() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.needed() {
                emit(self.frame());
                self.skip = self.length() - (self.have - HEAD_BYTES);
                self.have = 0;
            }
        }
    }

    /// How much of the frame is looked at: with its error, where it has one.
    fn needed(&self) -> usize {
        if self.have < HEAD_BYTES {
            return HEAD_BYTES;
        }
        match self.head[3] {
            RST_STREAM if self.length() >= 4 => HEAD_BYTES + 4,
            GOAWAY if self.length() >= 8 => HEAD_BYTES + 8,
            _ => HEAD_BYTES,
        }
    }

    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    fn frame(&self) -> Frame {
        let number = |at: usize| {
            let bytes = self.head[at..at + 4].try_into();
            u32::from_be_bytes(bytes.expect("four bytes"))
        };
        Frame {
            kind: self.head[3],
            // Its first bit means nothing.
            stream: number(5) & (u32::MAX >> 1),
            error: (self.have > HEAD_BYTES).then(|| number(self.have - 4)),
            is_bare: self.head[3] == HEADERS
                && self.head[4] & END_STREAM != 0
                && self.length() <= STATUS_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, 0], &stream.to_be_bytes()].concat();
        [&head, payload].concat()
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [
            frame(HEADERS, 1, b"abc"),
            frame(0, 1, &[7; 300]),
            frame(RST_STREAM, 1, &1_u32.to_be_bytes()),
            frame(RST_STREAM, 3, b"x"),
            frame(GOAWAY, 0, b"\0\0\0\x01\0\0\0\x0bwords"),
            frame(HEADERS, 0x8000_0005, b""),
        ]
        .concat();
        let expected = [
            (HEADERS, 1, None),
            (0, 1, None),
            (RST_STREAM, 1, Some(1)),
            (RST_STREAM, 3, None),
            (GOAWAY, 0, Some(11)),
            (HEADERS, 5, None),
        ];
        for size in [1, 2, 5, 9, 10, 13, 64, bytes.len()] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.push(piece, |f| found.push((f.kind, f.stream, f.error)));
            }
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn streams_that_never_became_requests_are_missed() {
        let seen = Arc::<Seen>::default();
        let mut watcher = Watcher::new(&seen);
        watcher.read(PREFACE);
        for stream in [1, 3, 5, 3, 4, 7] {
            watcher.read(&frame(HEADERS, stream, b"x"));
        }
        seen.served.fetch_add(1, Ordering::Relaxed);
        // What the client gave up, and what failed here, is no fault of the request.
        for error in [8_u32, 2, 0, 1] {
            watcher.written(&frame(RST_STREAM, 3, &error.to_be_bytes()));
        }
        assert_eq!(seen.take_reset(), 1);
        assert_eq!(seen.take_reset(), 0);
        assert_eq!(seen.take_rest(), 2);
    }

    #[test]
    fn a_client_that_speaks_something_else_is_one_request() {
        let seen = Arc::<Seen>::default();
        let mut watcher = Watcher::new(&seen);
        watcher.read(&PREFACE[..5]);
        assert_eq!(seen.take_rest(), 0);
        watcher.read(b"GET / HTTP/1.1");
        assert_eq!(seen.take_rest(), 1);
    }
}
