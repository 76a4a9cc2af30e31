//! Step 8: a request that asks for an upgrade.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;

use super::Peer;
use crate::answer::{Answering, ClientBody};
use crate::request_info::RequestInfo;
use crate::tunnel::{self, Asked, Ends, MessageStream, Messages, Tunnel};

/// A request that asks for an upgrade, about to be sent.
pub(super) struct Upgrading<'a> {
    asked: Asked,
    /// The client's headers.
    handshake: &'a HeaderMap,
    request: Request<Full<Bytes>>,
    client: OnUpgrade,
}

/// What a connection turns into, after its 101.
#[derive(Debug)]
pub(crate) enum Switched {
    Tunnel(Box<Tunnel>),
    Messages(Box<MessageStream>),
}

/// A watch or a log that is answered in messages.
struct Messaging {
    messages: Messages,
    client: OnUpgrade,
}

impl Switched {
    /// Serves the connection to its end.
    pub(crate) async fn run(self) {
        match self {
            Self::Tunnel(tunnel) => tunnel.run().await,
            Self::Messages(stream) => stream.run().await,
        }
    }
}

impl<'a> Upgrading<'a> {
    pub(super) fn new(
        asked: Asked,
        head: &'a Parts,
        request: Request<Full<Bytes>>,
        client: OnUpgrade,
    ) -> Self {
        Self {
            asked,
            handshake: &head.headers,
            request,
            client,
        }
    }

    /// Sends it: a stream from here on, if the API server switches; else its answer is one like any other.
    pub(super) async fn send(
        self,
        answering: Answering<'_>,
        info: &RequestInfo,
        audit_id: &HeaderValue,
        peer: &Peer,
    ) -> Response<ClientBody> {
        let Self {
            asked,
            handshake,
            mut request,
            client,
        } = self;
        if let Asked::Messages(messages) = asked {
            let messaging = Messaging { messages, client };
            return messaging
                .send(request, answering, info, audit_id, peer)
                .await;
        }
        tunnel::add_handshake(handshake, request.headers_mut());
        let handshake = request.headers().clone();
        let upstream = &answering.handler.upstream;
        let answer = upstream.upgrade(request, info.is_proxy_subresource());
        let (response, slot) = match answer.await {
            Ok(answer) => answer,
            Err(error) => return answering.unreachable(&error),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return answering.relay(info, audit_id, response).await;
        }
        let ends = Ends { client, slot };
        answering.switch(&asked, &handshake, audit_id, response, ends, &peer.switched)
    }
}

impl Messaging {
    /// Sends the request as one over HTTP, with the steps that follow from it; an answer that is a stream goes out in
    /// messages, any other as it is.
    async fn send(
        self,
        request: Request<Full<Bytes>>,
        answering: Answering<'_>,
        info: &RequestInfo,
        audit_id: &HeaderValue,
        peer: &Peer,
    ) -> Response<ClientBody> {
        let response = match answering.handler.upstream.send(request, false).await {
            Ok(response) => response,
            Err(error) => return answering.unreachable(&error),
        };
        let (head, body) = answering.relay(info, audit_id, response).await.into_parts();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Response::from_parts(head, body);
        }
        let mut answer = Response::new(ClientBody::none());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = self.messages.handshake(audit_id);
        *peer.switched.lock() = Some(Switched::Messages(Box::new(MessageStream {
            client: self.client,
            form: self.messages.form,
            body,
        })));
        answer
    }
}
