//! Step 8: a request that asks for an upgrade.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;

use super::Peer;
use crate::answer::{Answering, ClientBody};
use crate::request_info::RequestInfo;
use crate::tunnel::{self, Asked, Ends};

/// A request that asks for an upgrade, about to be sent.
pub(super) struct Upgrading<'a> {
    asked: Asked,
    /// The client's headers.
    handshake: &'a HeaderMap,
    request: Request<Full<Bytes>>,
    client: OnUpgrade,
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
        answering.switch(&asked, &handshake, audit_id, response, ends, &peer.tunnel)
    }
}
