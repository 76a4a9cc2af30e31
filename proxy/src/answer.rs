//! Step 7: from the API server's answer, or the gateway's own, to what the client gets and the record keeps.
//!
//! What becomes of an answer depends on what it is:
//!
//! | answer | client | record |
//! |---|---|---|
//! | of a resource, JSON | masked as the rule says | masked, never weaker |
//! | of a resource, not JSON | an error | the error |
//! | a log, or why there is no exec | as it came, but for what masking rules find | the same, never weaker |
//! | of a proxied pod, service or node | as it came | its length only: nothing there has a kind to be masked by |
//! | of a bare path | as a log | as a log |
//!
//! Watches and followed logs are recorded while they run, anything else with its outcome.

use std::sync::Arc;

use bytes::Bytes;
use hoop_schema::kinds::request::{
    AnsweredBy, Cause, Decision, Effect, Ended, Level, Masked, RequestAttributes,
};
use hoop_schema::kinds::stream::Channel;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::authenticate::Identity;
use crate::gateway::{Handler, Switched};
use crate::lifetime::{Holder, Lifetime};
use crate::mask::{MaskMode, TextRules};
use crate::metrics::{InFlight, VerbClass};
use crate::policy::Verdict;
use crate::record::{AnswerHead, End, Exchange};
use crate::request_info::RequestInfo;
use crate::status::{self, Refusal};
use crate::tunnel::channels::Decoder;
use crate::tunnel::negotiate::{Purpose, negotiate};
use crate::tunnel::{self, Asked, Ends, Form, Rewriter, Tap, Tunnel};
use crate::upstream::{self, SendError, UpstreamBody};

mod body;
mod view;

pub(crate) use body::ClientBody;
use body::{Parting, Recorder};
use view::View;

/// An answer of known length up to this is read whole before it goes on, so that it keeps a known length after
/// masking, and a failure of the API server becomes an error the client can read. Four TLS records.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// A request that is about to be answered.
#[derive(Debug)]
pub(crate) struct Answering<'a> {
    pub(crate) handler: &'a Handler,
    pub(crate) exchange: Exchange,
    pub(crate) in_flight: InFlight,
    pub(crate) attributes: Arc<RequestAttributes>,
    pub(crate) verdict: Verdict,
    pub(crate) verb_class: VerbClass,
    /// Whose credential and session a stream lasts as long as.
    pub(crate) who: Option<&'a Identity>,
    /// How a stream goes out in WebSocket messages, where the client asks for them.
    pub(crate) in_messages: Option<Form>,
}

/// Whether answers to this are searched for secrets, so have to be JSON.
pub(crate) fn is_inspected(info: &RequestInfo, verdict: &Verdict) -> bool {
    let seen = is_masked_for_client(verdict) || verdict.level == Level::RequestResponse;
    let has_kind = !info.is_proxy_subresource() && !info.is_log() && !info.is_exec_like();
    seen && info.is_resource && has_kind
}

/// Whether the client may see something else than what comes.
fn is_masked_for_client(verdict: &Verdict) -> bool {
    let masking = verdict.masking.as_deref();
    verdict.mask != MaskMode::None || masking.is_some_and(|masking| masking.client().is_some())
}

impl Answering<'_> {
    /// Answers with the gateway's own error. `discovery` requests get plain text, which is what kubectl shows.
    pub(crate) fn refuse(self, refusal: &Refusal, discovery: bool) -> Response<ClientBody> {
        let object = self.attributes.object_ref.clone();
        let (media_type, body) = if discovery {
            (
                "text/plain; charset=utf-8",
                Bytes::from(format!("{}\n", refusal.message)),
            )
        } else {
            ("application/json", refusal.body(object.as_ref()))
        };
        // When the intent itself could not be written, this is not what it would have said.
        let end = End {
            decision: Some(self.verdict.decision.clone()),
            ..End::complete(Masked::default())
        };
        self.own(refusal.code, refusal.reason, media_type, body, end)
    }

    /// Records an error that HTTP itself has sent, or that it broke off without one.
    pub(crate) fn answered_below(self, code: Option<StatusCode>) {
        self.count();
        let ended = match code {
            Some(_) => Ended::Complete,
            None => Ended::GatewayClosed,
        };
        self.exchange
            .answer(AnswerHead {
                status: code.map_or(0, |code| code.as_u16()),
                reason: None,
                answered_by: AnsweredBy::Gateway,
                media_type: None,
            })
            .finish(End {
                ended,
                ..End::complete(Masked::default())
            });
    }

    /// Answers that there is no answer.
    pub(crate) fn unreachable(self, error: &SendError) -> Response<ClientBody> {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the API server gave no answer"
        );
        self.handler.metrics.upstream_failed(error.operation());
        let (code, reason, message, ended) = match error {
            SendError::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "Timeout",
                "the API server did not answer in time; whether the request had an effect is not known",
                Ended::UpstreamClosed,
            ),
            SendError::Broken(_) => (
                StatusCode::BAD_GATEWAY,
                "BadGateway",
                "the API server broke off before it answered; whether the request had an effect is not known",
                Ended::UpstreamClosed,
            ),
            SendError::Credential(_) | SendError::Refused => (
                StatusCode::BAD_GATEWAY,
                "BadGateway",
                "the gateway could not log in to the API server; this is not about your own credential",
                Ended::UpstreamUnreachable,
            ),
            SendError::Connect(_) | SendError::Exhausted => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "the gateway cannot reach the API server at the moment; nothing was done",
                Ended::UpstreamUnreachable,
            ),
        };
        let end = End {
            ended,
            masked: Masked::default(),
            decision: None,
        };
        self.own_status(code, reason, message, end)
    }

    /// Passes the API server's answer on. What goes out in WebSocket messages has the status 101.
    pub(crate) async fn relay(
        self,
        info: &RequestInfo,
        audit_id: &HeaderValue,
        response: Response<UpstreamBody>,
    ) -> Response<ClientBody> {
        let (mut head, body) = response.into_parts();
        let empty = body.size_hint().exact() == Some(0);
        let Some(view) = self.view(info, &head.headers, empty) else {
            return self.withhold(head.status);
        };
        let rewritten = view.rewrites();
        let switches = self.goes_in_messages(&head);
        let length = body.size_hint().exact();
        upstream::for_client(
            &mut head.headers,
            self.handler.upstream.host(),
            audit_id,
            rewritten,
        );
        if rewritten {
            // It names the body as it came.
            head.headers.remove(ETAG);
        }
        self.count();
        let channel = match self.attributes.http_method.as_str() {
            // Its answer has no body that could be a stream.
            "HEAD" => None,
            _ => stream_channel(info, head.status),
        };
        if switches {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
        }
        let record = AnswerHead {
            status: head.status.as_u16(),
            reason: None,
            answered_by: AnsweredBy::Upstream,
            media_type: content_type(&head.headers),
        };
        if channel.is_none() && length.is_some_and(|length| length <= WHOLE_BYTES_MAX) {
            return self.relay_whole(head, record, body, view).await;
        }
        let strict = self.verdict.durability != hoop_schema::kinds::request::Durability::BestEffort;
        let lifetime = channel.map(|_| self.lifetime());
        let decision = self.verdict.decision;
        let recorder = match channel.zip(lifetime) {
            Some((channel, lifetime)) => Recorder::Stream {
                parting: Parting::of(channel, &head.headers),
                lifetime,
                recorder: self.exchange.stream(record, channel),
            },
            None => Recorder::Answer(self.exchange.answer(record)),
        };
        let metrics = self.handler.metrics.clone();
        let body = ClientBody::streamed(
            body,
            view,
            recorder,
            decision,
            strict,
            self.in_flight,
            metrics,
        );
        Response::from_parts(head, body)
    }

    /// Passes a 101 on: when it is sent, the connection is `switched` to a tunnel.
    pub(crate) fn switch(
        self,
        asked: &Asked,
        handshake: &HeaderMap,
        audit_id: &HeaderValue,
        mut response: Response<UpstreamBody>,
        ends: Ends,
        switched: &Mutex<Option<Switched>>,
    ) -> Response<ClientBody> {
        let masks_output =
            *asked == Asked::Stream(Purpose::Command) && self.client_text().is_some();
        let protocol = match asked {
            Asked::Opaque | Asked::Messages(_) => None,
            Asked::Stream(purpose) => match negotiate(purpose, handshake, response.headers()) {
                Ok(protocol) => Some(protocol),
                Err(_) if self.verdict.level == Level::Metadata && !masks_output => None,
                Err(error) => {
                    return self.refuse_stream(format!("the stream cannot be recorded: {error}"));
                }
            },
        };
        let rewriter = match (&protocol, self.client_text()) {
            (Some(protocol), Some(rules)) if masks_output => {
                let rewriter = Rewriter::new(protocol, rules, &self.handler.mask_key);
                if rewriter.is_none() {
                    let why = "the output cannot be masked in this protocol";
                    return self.refuse_stream(why.to_owned());
                }
                rewriter
            }
            _ => None,
        };
        let decoder = protocol.as_ref().map(Decoder::new);
        self.count();
        let mut answer = Response::new(ClientBody::none());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = tunnel::handshake_for_client(response.headers(), audit_id);
        let head = AnswerHead {
            status: StatusCode::SWITCHING_PROTOCOLS.as_u16(),
            reason: None,
            answered_by: AnsweredBy::Upstream,
            media_type: None,
        };
        let lifetime = self.lifetime();
        let recorder = self.exchange.stream(head, Channel::Opaque);
        let tunnel = Tunnel {
            ends,
            lifetime,
            server: hyper::upgrade::on(&mut response),
            tap: Mutex::new(Tap::new(
                decoder,
                &self.verdict,
                &self.handler.mask_key,
                recorder,
            )),
            rewriter,
            verdict: self.verdict,
            in_flight: self.in_flight,
        };
        *switched.lock() = Some(Switched::Tunnel(Box::new(tunnel)));
        answer
    }

    /// How client and record see an answer; nothing, where it cannot be searched for what has to be masked.
    fn view(&self, info: &RequestInfo, headers: &HeaderMap, is_empty: bool) -> Option<View> {
        let inspected = is_inspected(info, &self.verdict) && !is_empty;
        let encoded = upstream::is_encoded(headers);
        let key = &self.handler.mask_key;
        if !inspected && !info.is_proxy_subresource() {
            View::of_text(&self.verdict, key, encoded)
        } else if inspected && is_json(headers) && !encoded {
            Some(View::of_json(info, &self.verdict, key))
        } else if inspected && is_masked_for_client(&self.verdict) {
            None
        } else {
            Some(View::Unrecorded)
        }
    }

    /// Whether this goes out in messages. An error does not, nor what cannot be cut into them.
    fn goes_in_messages(&self, head: &http::response::Parts) -> bool {
        let is_cut = match self.in_messages {
            None => false,
            Some(Form::Events) => is_json(&head.headers),
            Some(Form::Binary | Form::Base64) => true,
        };
        is_cut && head.status == StatusCode::OK && !upstream::is_encoded(&head.headers)
    }

    /// What the client must not see of texts.
    fn client_text(&self) -> Option<&Arc<TextRules>> {
        let masking = self.verdict.masking.as_deref()?;
        masking.client()?.text()
    }

    /// Answers instead of a 101 whose stream must not begin.
    fn refuse_stream(self, message: String) -> Response<ClientBody> {
        let decision = Decision {
            effect: Effect::Deny,
            cause: Cause::Uninspectable,
            message: message.clone(),
            ..self.verdict.decision.clone()
        };
        let end = End {
            ended: Ended::GatewayClosed,
            masked: Masked::default(),
            decision: Some(decision),
        };
        self.own_status(StatusCode::BAD_GATEWAY, "BadGateway", &message, end)
    }

    /// Reads a small answer before it goes on.
    async fn relay_whole(
        self,
        mut head: http::response::Parts,
        record: AnswerHead,
        body: UpstreamBody,
        mut view: View,
    ) -> Response<ClientBody> {
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                tracing::warn!(%error, "the API server broke off in the middle of an answer");
                self.handler.metrics.upstream_failed("body");
                let end = End {
                    ended: Ended::UpstreamClosed,
                    masked: Masked::default(),
                    decision: None,
                };
                let message = "the API server broke off in the middle of its answer";
                return self.own_status(StatusCode::BAD_GATEWAY, "BadGateway", message, end);
            }
        };
        let Ok(seen) = view.whole(bytes) else {
            return self.withhold(StatusCode::OK);
        };
        if view.rewrites() && !seen.client.is_empty() {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(seen.client.len()));
        }
        let mut recorder = self.exchange.answer(record);
        seen.record(&mut recorder, seen.client.len() as u64);
        let end = End::complete(view.masked());
        let body = ClientBody::whole(seen.client, recorder, end, self.in_flight);
        Response::from_parts(head, body)
    }

    /// Answers instead of the API server, whose answer cannot be searched for secrets. An error stays an error.
    fn withhold(self, code: StatusCode) -> Response<ClientBody> {
        if code.is_client_error() || code.is_server_error() {
            let message = format!(
                "the API server answered {code} without saying more in a form that could be inspected"
            );
            return self.own_status(code, "", &message, End::complete(Masked::default()));
        }
        self.handler.metrics.upstream_failed("uninspectable");
        let refusal = Refusal::uninspectable();
        let decision = Decision {
            effect: Effect::Deny,
            cause: refusal.cause,
            message: refusal.message.clone(),
            ..self.verdict.decision.clone()
        };
        let end = End {
            ended: Ended::GatewayClosed,
            masked: Masked::default(),
            decision: Some(decision),
        };
        self.own_status(refusal.code, refusal.reason, &refusal.message, end)
    }

    fn own_status(
        self,
        code: StatusCode,
        reason: &'static str,
        message: &str,
        end: End,
    ) -> Response<ClientBody> {
        let object = self.attributes.object_ref.clone();
        let body = status::status_body(code, reason, message, object.as_ref());
        self.own(code, reason, "application/json", body, end)
    }

    fn own(
        self,
        code: StatusCode,
        reason: &'static str,
        media_type: &'static str,
        body: Bytes,
        end: End,
    ) -> Response<ClientBody> {
        self.count();
        let mut recorder = self.exchange.answer(AnswerHead {
            status: code.as_u16(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            answered_by: AnsweredBy::Gateway,
            media_type: Some(media_type.to_owned()),
        });
        recorder.push(&body);
        let mut headers = status::headers(media_type);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Ok(audit_id) = HeaderValue::from_str(&self.attributes.audit_id) {
            headers.insert("audit-id", audit_id);
        }
        // HTTP takes no body for HEAD, and would drop it as if the client were gone.
        let body = if self.attributes.http_method == "HEAD" {
            recorder.sent(0);
            Bytes::new()
        } else {
            body
        };
        let mut response = Response::new(ClientBody::whole(body, recorder, end, self.in_flight));
        *response.status_mut() = code;
        *response.headers_mut() = headers;
        response
    }

    fn lifetime(&self) -> Lifetime {
        let holder = self.who.map(|identity| Holder {
            identity: identity.clone(),
            session: self.exchange.session(),
        });
        Lifetime::new(holder, &self.handler.endings, &self.handler.clock)
    }

    fn count(&self) {
        let decision = &self.verdict.decision;
        let seconds = self.in_flight.seconds();
        self.handler
            .metrics
            .answered(decision.effect, decision.cause, self.verb_class, seconds);
    }
}

/// Answers somebody who fails too often to say who they are. It leaves no record but a number.
pub(crate) fn too_many_failures(
    method: &http::Method,
    retry_after: std::time::Duration,
) -> Response<ClientBody> {
    let refusal = Refusal::too_many_failures();
    let body = refusal.body(None);
    let mut headers = status::headers("application/json");
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    let body = match *method {
        http::Method::HEAD => ClientBody::unrecorded(Bytes::new()),
        _ => ClientBody::unrecorded(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = refusal.code;
    *response.headers_mut() = headers;
    response
}

fn stream_channel(info: &RequestInfo, status: StatusCode) -> Option<Channel> {
    if status != StatusCode::OK {
        None
    } else if info.is_watch() {
        Some(Channel::Watch)
    } else if info.is_log_follow() {
        Some(Channel::Log)
    } else {
        None
    }
}

impl Parting {
    /// How a stream says that it is over before its time.
    fn of(channel: Channel, headers: &HeaderMap) -> Self {
        match channel {
            Channel::Watch if is_json(headers) && !upstream::is_encoded(headers) => Self::Watch,
            Channel::Log if !upstream::is_encoded(headers) => Self::Log,
            _ => Self::Silent,
        }
    }

    /// Its last words.
    fn words(&self, message: &str) -> Bytes {
        match self {
            Self::Watch => status::watch_error(message),
            Self::Log => Bytes::from(format!("hoop: {message}\n")),
            Self::Silent => Bytes::new(),
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let media_type = value
            .as_bytes()
            .split(|b| *b == b';')
            .next()
            .unwrap_or_default();
        media_type
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}
