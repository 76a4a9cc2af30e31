//! Resources that answer at once and keep nothing: who am I, may I, and tokens.

use serde_json::{Value, json};

use super::State;
use super::identity::{Caller, Identity};
use super::objects::now;
use super::resource_types::ResourceType;

/// The answer to a created review.
pub(super) fn answer(state: &State, kind: &ResourceType, caller: &Caller, body: &Value) -> Value {
    let (spec, status) = match kind.kind {
        "SelfSubjectReview" => (Value::Null, json!({"userInfo": user_info(&caller.acting)})),
        "TokenReview" => {
            let token = body["spec"]["token"].as_str().unwrap_or("");
            let status = match state.tokens.holder(token) {
                Some(holder) => json!({"authenticated": true, "user": user_info(&holder)}),
                None => json!({"authenticated": false, "error": "unknown token"}),
            };
            (body["spec"].clone(), status)
        }
        _ => {
            let impersonate = body["spec"]["resourceAttributes"]["verb"] == "impersonate";
            let refused = impersonate && state.faults.lock().impersonation_refused;
            (body["spec"].clone(), json!({"allowed": !refused}))
        }
    };
    let mut review = json!({
        "kind": kind.kind,
        "apiVersion": kind.api_version(),
        "metadata": {"creationTimestamp": now()},
        "status": status,
    });
    if !spec.is_null() {
        review["spec"] = spec;
    }
    review
}

/// A TokenRequest, answered with a token that the cluster accepts from then on.
pub(super) fn token(state: &State, namespace: &str, name: &str, body: &Value) -> Value {
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    let token = state
        .tokens
        .issue(&user, &groups.each_ref().map(String::as_str));
    let mut spec = body["spec"].clone();
    if spec.is_null() {
        spec = json!({});
    }
    spec["expirationSeconds"] = json!(3600);
    json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now()},
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": in_an_hour()},
    })
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({"username": identity.username, "groups": identity.groups});
    if let Some(uid) = &identity.uid {
        info["uid"] = json!(uid);
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

fn in_an_hour() -> String {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    later.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
