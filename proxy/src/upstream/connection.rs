//! One HTTP/1.1 connection to the API server, driven by the request that uses it.
//!
//! An unused connection is driven by nobody; that it was closed meanwhile shows when it is next looked at.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::connector::Stream;

/// The largest head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 512 * 1024;

/// A connection with no request on it, or with one.
pub(crate) struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    closed: bool,
    pub(super) idle_since: Instant,
}

/// Why there is no answer.
pub(crate) enum SendFailure {
    /// Nothing of the request left; here it is again.
    Unsent(Box<Request<Full<Bytes>>>),
    /// It may have been received.
    Broken(hyper::Error),
}

impl Link {
    pub(super) async fn new(stream: Stream) -> std::io::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self {
            sender,
            connection,
            closed: false,
            idle_since: Instant::now(),
        })
    }

    /// Lets the connection read and write as far as it can.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.closed && Pin::new(&mut self.connection).poll(cx).is_ready() {
            self.closed = true;
        }
    }

    /// Whether another request can be sent, after the last one is over.
    pub(super) fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.closed && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendFailure> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (connection, closed) = (&mut self.connection, &mut self.closed);
        poll_fn(|cx| {
            if !*closed && Pin::new(&mut *connection).poll(cx).is_ready() {
                *closed = true;
            }
            answer.as_mut().poll(cx)
        })
        .await
        .map_err(|mut failure| match failure.take_message() {
            Some(request) => SendFailure::Unsent(Box::new(request)),
            None => SendFailure::Broken(failure.into_error()),
        })
    }
}

/// Sends one request that may turn its connection into a stream: then the answer is a 101, and hyper's `upgrade` gives
/// the stream. The connection is of this request alone.
pub(super) async fn upgrade(
    stream: Stream,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(ANSWER_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with the stream, or with the body of an answer that is none.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the API server broke off");
        }
    });
    sender.send_request(request).await
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
