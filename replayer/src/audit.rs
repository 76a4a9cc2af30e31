//! Events in the words of `audit.k8s.io/v1`, for tools that read the API server's own audit log.
//!
//! An outcome becomes a `ResponseComplete`, before it a `ResponseStarted` for a request that was streamed; an intent
//! becomes a `RequestReceived` where asked for, and always where it has no outcome. One `auditID` ties them together,
//! the one that the API server has too. The decision stands in the annotations that the API server's authorizer uses.

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{
    AnsweredBy, Decision, Effect, Intent, Level, Outcome, RequestAttributes, User,
};
use serde_json::{Map, Value, json};

use crate::content::{Content, content};

/// The requests whose intent waits for an outcome; older ones are written without it.
pub const PENDING_MAX: usize = 10_000;

/// Which stage of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
}

/// The event of a request that came, at the time `ts` of its intent.
pub fn request_received(intent: &Intent, ts: Timestamp) -> Value {
    let mut event = event(
        &intent.request,
        &intent.decision,
        intent.level,
        Stage::RequestReceived,
        ts,
    );
    put_request_object(&mut event, intent);
    Value::Object(event)
}

/// The events of a request that was answered, in order.
pub fn answered(outcome: &Outcome, intent: Option<&Intent>) -> Vec<Value> {
    let level = intent.map(|i| i.level).unwrap_or_default();
    let mut events = Vec::new();
    let after = |micros: u64| {
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        outcome.request.received.plus_micros(micros)
    };
    let of_stage = |stage, ts| {
        let mut event = event(&outcome.request, &outcome.decision, level, stage, ts);
        if let Some(intent) = intent {
            put_request_object(&mut event, intent);
        }
        event.insert("responseStatus".into(), status(outcome));
        event
    };
    if outcome.stream_events > 0 || outcome.request.verb == "watch" {
        let started = of_stage(Stage::ResponseStarted, after(outcome.first_byte_us));
        events.push(Value::Object(started));
    }
    let mut complete = of_stage(Stage::ResponseComplete, after(outcome.duration_us));
    if let Some(body) = &outcome.body
        && let Content::Json(value) = content(body, &[])
    {
        complete.insert("responseObject".into(), value);
    }
    events.push(Value::Object(complete));
    events
}

fn event(
    request: &RequestAttributes,
    decision: &Decision,
    level: Level,
    stage: Stage,
    ts: Timestamp,
) -> Map<String, Value> {
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| drop(event.insert(name.to_owned(), value));
    put("kind", json!("Event"));
    put("apiVersion", json!("audit.k8s.io/v1"));
    put(
        "level",
        json!(match level {
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }),
    );
    put("auditID", json!(request.audit_id));
    put(
        "stage",
        json!(match stage {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
        }),
    );
    put("requestURI", json!(request.request_uri));
    put("verb", json!(request.verb));
    put("user", user(request.user.as_ref()));
    if request.impersonated.is_some() && decision.effect == Effect::Allow {
        put("impersonatedUser", user(request.impersonated.as_ref()));
    }
    put("sourceIPs", json!([request.source_ip]));
    if let Some(agent) = &request.user_agent {
        put("userAgent", json!(agent));
    }
    if let Some(object) = &request.object_ref {
        let fields = [
            ("resource", &object.resource),
            ("namespace", &object.namespace),
            ("name", &object.name),
            ("apiGroup", &object.api_group),
            ("apiVersion", &object.api_version),
            ("subresource", &object.subresource),
        ];
        let there = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let object: Map<String, Value> = there.map(|(n, v)| (n.to_owned(), json!(v))).collect();
        put("objectRef", Value::Object(object));
    }
    put("requestReceivedTimestamp", json!(request.received));
    put("stageTimestamp", json!(ts));
    put("annotations", annotations(decision));
    event
}

fn user(user: Option<&User>) -> Value {
    let Some(user) = user else { return json!({}) };
    let mut fields = Map::new();
    fields.insert("username".into(), json!(user.username));
    if let Some(uid) = &user.uid {
        fields.insert("uid".into(), json!(uid));
    }
    if !user.groups.is_empty() {
        fields.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        fields.insert("extra".into(), json!(user.extra));
    }
    Value::Object(fields)
}

fn annotations(decision: &Decision) -> Value {
    let forbid = decision.effect != Effect::Allow;
    let rule = match (&decision.profile, &decision.rule) {
        (Some(profile), Some(rule)) => format!("profile {profile}, rule {rule}"),
        (Some(profile), None) => format!("profile {profile}"),
        (None, Some(rule)) => format!("rule {rule}"),
        (None, None) => decision.cause.as_str().to_owned(),
    };
    let reason = if decision.message.is_empty() {
        rule
    } else {
        format!("{rule}: {}", decision.message)
    };
    json!({
        "authorization.k8s.io/decision": if forbid { "forbid" } else { "allow" },
        "authorization.k8s.io/reason": reason,
    })
}

fn status(outcome: &Outcome) -> Value {
    // What the API server writes when there was no answer at all.
    if outcome.status == 0 {
        return json!({"metadata": {}, "message": "Connection closed early", "code": 200});
    }
    let mut status = Map::new();
    status.insert("metadata".into(), json!({}));
    if outcome.status >= 400 {
        status.insert("status".into(), json!("Failure"));
        if outcome.answered_by == AnsweredBy::Gateway && !outcome.decision.message.is_empty() {
            status.insert("message".into(), json!(outcome.decision.message));
        }
    }
    if let Some(reason) = &outcome.reason {
        status.insert("reason".into(), json!(reason));
    }
    status.insert("code".into(), json!(outcome.status));
    Value::Object(status)
}

fn put_request_object(event: &mut Map<String, Value>, intent: &Intent) {
    if let Some(body) = &intent.body
        && let Content::Json(value) = content(body, &[])
    {
        event.insert("requestObject".into(), value);
    }
}
