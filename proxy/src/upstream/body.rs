//! The body of an answer, which drives its connection and gives it back at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Link;
use super::pool::Pool;

/// The body of an answer of the API server. Dropped before its end, it closes the connection.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    /// The connection, until the body is over.
    held: Option<Held>,
    /// What stands in its place, once it was read.
    replaced: Option<Bytes>,
}

#[derive(Debug)]
struct Held {
    link: Link,
    pool: Arc<Pool>,
    _slot: OwnedSemaphorePermit,
}

impl UpstreamBody {
    /// The body of an answer whose connection is of this request alone, and driven elsewhere.
    pub(super) fn alone(response: Response<Incoming>) -> Response<Self> {
        response.map(|incoming| Self {
            incoming,
            held: None,
            replaced: None,
        })
    }

    pub(super) fn attach(
        response: Response<Incoming>,
        link: Link,
        slot: OwnedSemaphorePermit,
        pool: &Arc<Pool>,
    ) -> Response<Self> {
        response.map(|incoming| Self {
            incoming,
            held: Some(Held {
                link,
                pool: Arc::clone(pool),
                _slot: slot,
            }),
            replaced: None,
        })
    }

    /// Puts another body in its place. Call it after this one was read to its end.
    pub(crate) fn replace(&mut self, bytes: Bytes) {
        self.replaced = Some(bytes);
    }

    /// The body is over: keeps the connection for the next request, if it is good for one.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut held) = self.held.take()
            && held.link.poll_usable(cx)
        {
            held.pool.put(held.link);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(bytes) = this.replaced.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(held) = &mut this.held
        {
            held.link.drive(cx);
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(_)) if !this.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => this.give_back(cx),
            Some(Err(_)) => this.held = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // A body that nobody polled still holds its connection: it has to be polled once to give it back.
        self.replaced.is_none() && self.held.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.replaced {
            Some(bytes) => SizeHint::with_exact(bytes.len() as u64),
            None => self.incoming.size_hint(),
        }
    }
}
