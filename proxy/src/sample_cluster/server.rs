//! The TLS listener, and what happens to a request before and after it is handled: kept, delayed, failed, broken off.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::identity::{self, Caller, Identity};
use super::status::Failure;
use super::{SEEN_MAX, SeenRequest, State, discovery, handle};

/// The longest request body that is read, as in a real API server.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A body of an answer.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// An answer.
pub(super) type Answer = Response<AnswerBody>;

/// Serves until the returned task is aborted; its connections go with it.
pub(super) fn serve(state: Arc<State>, listener: TcpListener) -> io::Result<JoinHandle<()>> {
    let acceptor = TlsAcceptor::from(Arc::new(state.authority.server_config()?));
    Ok(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(state.clone(), acceptor.clone(), stream));
                    }
                    Err(error) => tracing::warn!(%error, "sample cluster cannot accept"),
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }))
}

async fn connection(state: Arc<State>, acceptor: TlsAcceptor, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "sample cluster: TLS handshake failed");
            return;
        }
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| identity::of_certificate(chain.first()?))
        .map(Arc::new);
    let service = service_fn(|request| {
        let (state, certificate) = (state.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(&state, certificate.as_deref(), request).await) }
    });
    let served = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "sample cluster: connection ended");
    }
}

async fn answer(
    state: &Arc<State>,
    certificate: Option<&Identity>,
    request: Request<Incoming>,
) -> Answer {
    let audit_id = request.headers().get("audit-id").cloned();
    let is_discovery = discovery::is_discovery(request.uri().path());
    let (latency, failure, broken) = {
        let mut faults = state.faults.lock();
        let failure = if is_discovery {
            None
        } else {
            faults.fail_next.pop_front()
        };
        let broken = !is_discovery && failure.is_none() && faults.break_next > 0;
        if broken {
            faults.break_next -= 1;
        }
        (faults.latency, failure, broken)
    };
    let result = received(state, certificate, request).await;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let mut answer = match (result, failure) {
        (_, Some(code)) => refuse(&Failure::injected(code)),
        (Ok((parts, body, caller)), None) => {
            handle::handle(state, &parts, &body, &caller).unwrap_or_else(|failure| refuse(&failure))
        }
        (Err(failure), None) => refuse(&failure),
    };
    if let Some(audit_id) = audit_id {
        answer
            .headers_mut()
            .insert(HeaderName::from_static("audit-id"), audit_id);
    }
    if broken {
        answer = answer.map(break_off);
    }
    answer
}

/// Reads the body, authenticates, and keeps the request for the test to see.
async fn received(
    state: &State,
    certificate: Option<&Identity>,
    request: Request<Incoming>,
) -> Result<(http::request::Parts, Bytes, Caller), Failure> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let refused = state.faults.lock().impersonation_refused;
    let caller = identity::authenticate(&parts.headers, certificate, &state.tokens, refused);
    let mut seen = state.seen.lock();
    if seen.len() == SEEN_MAX {
        seen.pop_front();
    }
    let acting = caller.as_ref().ok().map(|caller| &caller.acting);
    seen.push_back(SeenRequest {
        version: parts.version,
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        headers: parts.headers.clone(),
        body: body.as_ref().cloned().unwrap_or_default(),
        user: acting.map(|identity| identity.username.clone()),
        groups: acting
            .map(|identity| identity.groups.clone())
            .unwrap_or_default(),
        impersonated_by: caller.as_ref().ok().and_then(|c| c.impersonated_by.clone()),
    });
    drop(seen);
    let body = body.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            Failure::too_large()
        } else {
            Failure::bad_request("the request body broke off")
        }
    })?;
    Ok((parts, body, caller?))
}

fn refuse(failure: &Failure) -> Answer {
    let mut answer = json(failure.code, &failure.body());
    if failure.code == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(
            ALLOW,
            HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"),
        );
    }
    answer
}

/// An answer in JSON.
pub(super) fn json(code: StatusCode, value: &Value) -> Answer {
    let bytes = serde_json::to_vec(value).expect("a JSON value has JSON");
    respond(code, "application/json", whole(bytes.into()))
}

/// An answer with a body of a media type.
pub(super) fn respond(code: StatusCode, media_type: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// A body that is there already.
pub(super) fn whole(bytes: Bytes) -> AnswerBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that comes in pieces; it ends when the stream does.
pub(super) fn pieces<S>(stream: S) -> AnswerBody
where
    S: stream::Stream<Item = Bytes> + Send + 'static,
{
    use futures_util::StreamExt;
    StreamBody::new(stream.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// The first half of the first piece of a body, then an error.
fn break_off(body: AnswerBody) -> AnswerBody {
    let first = stream::unfold((body, false), async |(mut body, broken)| {
        if broken {
            return None;
        }
        let piece = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            _ => Bytes::new(),
        };
        let half = piece.slice(..piece.len() / 2);
        Some((Ok(Frame::data(half)), (body, true)))
    });
    let error = stream::once(async {
        // Give the first half time to leave: an error at once would take it along.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Err(io::Error::other("the test asked to break off here"))
    });
    use futures_util::StreamExt;
    let broken = StreamBody::new(first.chain(error));
    debug_assert!(!broken.is_end_stream());
    broken.boxed_unsync()
}
