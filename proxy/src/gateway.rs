//! What happens to a request, step by step. Read [`Handler::serve`] from top to bottom:
//!
//! ```text
//! 1 connection    listener          TLS, HTTP/1.1 or HTTP/2, perhaps a client certificate
//! 2 who asks      authenticate      certificate, ID token, static token or review -> Identity
//! 3 for what      request_info      method and target, read as the API server reads them
//! 4 may they      policy            allow, deny or hold; how to mask and to record
//! 5 record it     record            the intent is durable before anything leaves
//! 6 forward       upstream          the gateway's own credential, acting as the person
//! 7 answer        answer, mask      masked while it streams; what the client saw is recorded
//! 8 tunnel        tunnel            exec and other upgrades: copied, decoded for the record, masked where rules say so
//! ```
//!
//! # Promises
//! - Nothing reaches the API server that is not recorded before; what cannot be recorded is refused.
//! - Every request leaves an intent and an outcome, whatever it was and however it ended. Where an address sends more
//!   without identity than its limit, those beyond it leave a number (see [`FailureLimiter`]).
//! - A client never sees a secret value that its rule masks, and the record never holds one at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Effect, RequestAttributes};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::answer::{self, Answering, ClientBody};
use crate::authenticate::{
    self, Admission, Authenticator, FailureLimiter, Identity, Presented, Unauthenticated,
};
use crate::config::Limits;
use crate::endings::{Endings, SessionNames};
use crate::mask::MaskKey;
use crate::metrics::{InFlight, Metrics, VerbClass};
use crate::policy::{Facts, Verdict};
use crate::policy_in_force::PolicyInForce;
use crate::record::{Clock, Connection, Exchange, Journal, RecordError};
use crate::request_body::{self, RequestBody};
use crate::request_info::{self, Malformed, RequestInfo};
use crate::status::Refusal;
use crate::tunnel::{self, Asked, Form, NotTunnelled};
use crate::upstream::{self, Forwarded, Upstream};

mod attributes;
mod judging;
mod ruling;
mod self_review;
mod switching;
mod unread;

use judging::Sent;
use ruling::Ruling;
pub(crate) use switching::Switched;
use switching::Upgrading;
pub(crate) use unread::Unread;

/// Answers requests. One per gateway.
pub(crate) struct Handler {
    pub(crate) journal: Arc<Journal>,
    pub(crate) policy: PolicyInForce,
    pub(crate) authenticator: Authenticator,
    pub(crate) endings: Arc<Endings>,
    pub(crate) failures: FailureLimiter,
    pub(crate) upstream: Upstream,
    pub(crate) mask_key: Arc<MaskKey>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) authentication_metrics: authenticate::Metrics,
    pub(crate) clock: Clock,
}

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    connection: Connection,
    presented: Presented,
    /// What the connection turns into after the answer that is under way.
    switched: Mutex<Option<Switched>>,
}

/// The head of a request, understood as far as it can be.
#[derive(Debug)]
struct Call {
    identity: Result<Identity, Unauthenticated>,
    info: Result<RequestInfo, Malformed>,
}

/// Too many requests of an address came without identity.
struct TooOften {
    retry_after: Duration,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handler")
    }
}

impl Handler {
    /// Answers one request of a connection (step 1, see [`crate::listener`]).
    pub(crate) async fn serve(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Response<ClientBody> {
        let in_flight = InFlight::new(&self.metrics);
        let (mut head, body) = request.into_parts();
        let received = (self.clock)();

        // Steps 2 and 3: who asks, and for what?
        let identity = match self.identify(&peer, &head, received).await {
            Ok(identity) => identity,
            Err(TooOften { retry_after }) => {
                return answer::too_many_failures(&head.method, retry_after);
            }
        };
        let call = Call {
            identity,
            info: request_info::parse(head.method.as_str(), target(&head)),
        };
        let attributes = Arc::new(attributes::of(&head, &peer, &call, received));
        let mut exchange =
            self.journal
                .open(&peer.connection, Arc::clone(&attributes), session(&head));

        // Step 4: may they? The body of what is allowed so far is read and looked at, and earlier where a rule
        // asks for it.
        let (mut ruling, mut body) = self
            .judge(&call, &head, &attributes, &peer, &exchange.session(), body)
            .await;
        let attributes = self.recorded_as(&mut exchange, &head, &call, &ruling);

        // Step 5: from here on there is a record, or there is no effect.
        if let Err(error) = exchange.intent(ruling.intent(&head, &mut body)).await {
            ruling.refuse(not_recorded(&error));
        }
        let mut answering = Answering {
            handler: &self,
            exchange,
            in_flight,
            attributes,
            verdict: ruling.verdict,
            verb_class: call.verb_class(),
            who: call.identity.as_ref().ok(),
            in_messages: ruling.asked.as_ref().and_then(Asked::form),
        };
        let (identity, info) = match (&call.identity, &call.info, ruling.refusal) {
            (Ok(identity), Ok(info), None) => (identity, info),
            // Who is not known and what is not understood was refused in step 4.
            (_, info, refusal) => {
                let discovery = info.as_ref().is_ok_and(RequestInfo::is_discovery);
                let refusal = refusal.unwrap_or_else(|| Refusal::broken("it was not understood"));
                return answering.refuse(&refusal, discovery);
            }
        };

        // Step 6: forward, acting as the person.
        answering.exchange.sent_upstream(body.bytes.len() as u64);
        let audit_id = audit_id(&answering.attributes);
        let forwarded = Forwarded {
            identity,
            acting_as: ruling.acting_as.as_ref(),
            source_ip: peer.connection.source_ip(),
            audit_id: &audit_id,
            inspected: answering.in_messages == Some(Form::Events)
                || answer::is_inspected(info, &answering.verdict),
        };
        let question = info.is_self_review().then(|| body.bytes.clone());
        let request = forward(&head, body.bytes, &forwarded);
        if let (Some(asked), Some(client)) = (ruling.asked, head.extensions.remove()) {
            // Step 8, if the API server agrees.
            let upgrade = Upgrading::new(asked, &head, request, client);
            return upgrade.send(answering, info, &audit_id, &peer).await;
        }
        let proxied = info.is_proxy_subresource();
        let mut response = match self.upstream.send(request, proxied).await {
            Ok(response) => response,
            Err(error) => return answering.unreachable(&error),
        };

        // Step 7: mask the answer while it streams, and record what the client saw. Whoever asks what they may do hears
        // what the cluster and the policy both allow.
        if let Some(question) = question {
            let facts = self.facts(identity, info, &answering.attributes, &peer);
            self_review::join(&self.policy, &facts, &question, &mut response).await;
        }
        answering.relay(info, &audit_id, response).await
    }

    /// Step 2. Whoever cannot be identified is recorded as such, but not without end.
    async fn identify(
        &self,
        peer: &Peer,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Result<Identity, Unauthenticated>, TooOften> {
        let identity = self
            .authenticator
            .authenticate(&peer.presented, &head.headers, &self.upstream, now)
            .await;
        if identity.as_ref().is_ok_and(|identity| identity.break_glass) {
            self.authentication_metrics.break_glass.inc();
        }
        let Err(Unauthenticated(mut why)) = identity else {
            return Ok(identity);
        };
        match self.failures.admit(peer.connection.source_ip(), now) {
            Admission::Recorded { unrecorded: 0 } => {}
            Admission::Recorded { unrecorded } => {
                why.push_str(&unread::unrecorded_before(unrecorded));
            }
            Admission::Limited { retry_after } => {
                self.authentication_metrics.limited.inc();
                return Err(TooOften { retry_after });
            }
        }
        Ok(Err(Unauthenticated(why)))
    }

    /// Step 4 begins with this: whose access was ended has none.
    fn ended(&self, call: &Call, session: &SessionNames, now: Timestamp) -> Option<Refusal> {
        let identity = call.identity.as_ref().ok()?;
        let ending = self.endings.find(identity, session, now)?;
        Some(Refusal::ended(ending.message()))
    }

    /// The other end of a new connection.
    pub(crate) fn peer(&self, source_ip: IpAddr, presented: Presented) -> Peer {
        Peer {
            connection: self.journal.connection(source_ip),
            presented,
            switched: Mutex::default(),
        }
    }

    /// Step 4, and the body of what it leaves.
    async fn judge(
        &self,
        call: &Call,
        head: &Parts,
        attributes: &RequestAttributes,
        peer: &Peer,
        session: &SessionNames,
        body: Incoming,
    ) -> (Ruling, RequestBody) {
        if let Some(refusal) = self.ended(call, session, attributes.received) {
            let ruling = Ruling::refused(refusal, self.policy.current().policy.revision());
            return (ruling, RequestBody::default());
        }
        let mut sent = Sent::Waiting(body);
        let mut ruling = self.rule(call, head, attributes, peer, &mut sent).await;
        let body = match &ruling.refusal {
            None => self.read_body(call, &ruling.verdict, head, sent).await,
            Some(_) => Ok(RequestBody::default()),
        };
        let body = body.unwrap_or_else(|refusal| {
            ruling.refuse(refusal);
            RequestBody::default()
        });
        (ruling, body)
    }

    /// Step 4, but for what is in the body of every request.
    async fn rule(
        &self,
        call: &Call,
        head: &Parts,
        attributes: &RequestAttributes,
        peer: &Peer,
        sent: &mut Sent,
    ) -> Ruling {
        let in_force = Arc::clone(&self.policy.current());
        let policy = &in_force.policy;
        let refused = |refusal| Ruling::refused(refusal, policy.revision());
        if self.headers_are_too_large(head) {
            return refused(Refusal::headers_too_large(
                self.limits.header_bytes_max,
                self.limits.headers_max,
            ));
        }
        if let Err(why) = request_body::framing(&head.headers) {
            return refused(Refusal::broken(why));
        }
        let identity = match &call.identity {
            Ok(identity) => identity,
            Err(Unauthenticated(why)) => return refused(Refusal::unauthenticated(why)),
        };
        let info = match &call.info {
            Ok(info) => info,
            Err(malformed) => return refused(Refusal::malformed(*malformed)),
        };
        let facts = self.facts(identity, info, attributes, peer);
        let asked = match judging::acting_as(policy, &facts, &head.headers) {
            Ok(asked) => asked,
            Err(decision) => return Ruling::decided(decision, &attributes.audit_id),
        };
        let verdict = match judging::verdict(&in_force, facts, sent, &self.limits).await {
            Ok(verdict) => verdict,
            Err(refusal) => return refused(refusal),
        };
        let (upgrade, refusal) = match verdict.decision.effect {
            Effect::Allow => match tunnel::asked(head, info) {
                Ok(upgrade) => (upgrade, None),
                Err(NotTunnelled(why)) => (None, Some(Refusal::upgrade(why))),
            },
            Effect::Deny => (None, Some(Refusal::denied(&verdict.decision))),
            Effect::Hold => {
                let audit_id = &attributes.audit_id;
                let refusal = Refusal::approval_required(&verdict.decision, audit_id);
                (None, Some(refusal))
            }
        };
        let pinned = verdict.act_as.as_deref().map(judging::service_account);
        let mut ruling = Ruling {
            verdict,
            refusal: None,
            acting_as: asked.or(pinned),
            asked: upgrade,
        };
        if let Some(refusal) = refusal {
            ruling.refuse(refusal);
        }
        ruling
    }

    /// The rest of step 4: the body has a size, arrives in time, and holds nothing that was masked.
    async fn read_body(
        &self,
        call: &Call,
        verdict: &Verdict,
        head: &Parts,
        sent: Sent,
    ) -> Result<RequestBody, Refusal> {
        let bytes = sent.bytes(&self.limits).await?;
        let Ok(info) = &call.info else {
            return Ok(RequestBody::default());
        };
        let headers = &head.headers;
        let plain = request_body::unpacked(&bytes, headers, info, &self.limits)?;
        if let Some(field) = request_body::masked_field(&plain) {
            return Err(Refusal::masked_write(&field));
        }
        let key = &self.mask_key;
        Ok(request_body::for_record(
            bytes, &plain, headers, info, verdict, key,
        ))
    }

    /// What the events say of the request now that it is decided about: whom it is done as, and its target and its
    /// command without what masking rules find in texts.
    fn recorded_as(
        &self,
        exchange: &mut Exchange,
        head: &Parts,
        call: &Call,
        ruling: &Ruling,
    ) -> Arc<RequestAttributes> {
        if let (Some(user), None) = (&ruling.acting_as, &exchange.request().impersonated) {
            exchange.done_as(user.clone());
        }
        if let (Some(rules), Ok(info)) = (ruling.looks_into_texts(), &call.info) {
            let (target, argv) = attributes::masked(head, info, rules, &self.mask_key);
            exchange.shown_as(target, argv);
        }
        Arc::clone(exchange.request())
    }

    fn facts<'a>(
        &self,
        identity: &'a Identity,
        info: &'a RequestInfo,
        attributes: &RequestAttributes,
        peer: &Peer,
    ) -> Facts<'a> {
        let source_ip = peer.connection.source_ip();
        Facts::new(&identity.user, info, source_ip, attributes.received).through(identity.through())
    }

    fn headers_are_too_large(&self, head: &Parts) -> bool {
        let bytes: usize = head
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        bytes > self.limits.header_bytes_max || head.headers.len() > self.limits.headers_max
    }
}

impl Peer {
    /// What the connection turned into, once HTTP is over on it.
    pub(crate) fn take_switched(&self) -> Option<Switched> {
        self.switched.lock().take()
    }
}

impl Call {
    fn verb_class(&self) -> VerbClass {
        self.info.as_ref().map_or(VerbClass::Other, |info| {
            VerbClass::of(&info.verb, info.subresource(), info.is_resource)
        })
    }
}

fn audit_id(attributes: &RequestAttributes) -> HeaderValue {
    HeaderValue::from_str(&attributes.audit_id)
        .expect("an audit id is hexadecimal digits and hyphens")
}

/// What ties the requests of one `kubectl` command together.
fn session(head: &Parts) -> Option<&str> {
    head.headers.get("kubectl-session")?.to_str().ok()
}

/// Path and query as sent; the empty string for targets that have none.
fn target(head: &Parts) -> &str {
    // The absolute form names a host, which the API server ignores.
    head.uri
        .path_and_query()
        .map_or("", http::uri::PathAndQuery::as_str)
}

fn not_recorded(error: &RecordError) -> Refusal {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "a request was refused because it could not be recorded"
    );
    match error {
        RecordError::TooLong(_) => Refusal::attributes_too_long(),
        _ => Refusal::log_unavailable(),
    }
}

/// The request as the API server gets it: the very target that was parsed.
fn forward(head: &Parts, body: Bytes, forwarded: &Forwarded<'_>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    if let Some(target) = head.uri.path_and_query() {
        *request.uri_mut() = target.clone().into();
    }
    *request.headers_mut() = upstream::for_upstream(&head.headers, forwarded);
    request
}
