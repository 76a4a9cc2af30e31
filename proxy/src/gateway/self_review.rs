//! Answers to "may I?" (`kubectl auth can-i`): the cluster's own, joined with the policy. Both have to allow.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::judging;
use crate::policy::{Facts, Policy, ReviewedRules, hypothetical};
use crate::policy_in_force::{InForce, PolicyInForce};
use crate::request_info::RequestInfo;
use crate::upstream::UpstreamBody;
use hoop_schema::kinds::request::Effect;

/// The largest answer that is looked at, in bytes: rules of a person who has very many are some hundred KiB.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts the joined answer in the place of the cluster's. What is no such answer stays as it is; one that cannot be
/// joined says no.
pub(super) async fn join(
    policy: &PolicyInForce,
    facts: &Facts<'_>,
    question: &[u8],
    response: &mut Response<UpstreamBody>,
) {
    let in_force = Arc::clone(&policy.current());
    let resource = facts.info.resource();
    if !response.status().is_success() || resource == "selfsubjectreviews" {
        return;
    }
    let Some(answer) = read(response.body_mut()).await else {
        // Cut short, so that nobody takes it for an answer.
        response.body_mut().replace(Bytes::new());
        return;
    };
    let joined = match serde_json::from_slice::<Value>(&answer) {
        Ok(mut review) if review.get("status").is_some_and(Value::is_object) => {
            if resource == "selfsubjectaccessreviews" {
                // The answer repeats the question, in JSON, as the API server understood it; kubectl asks in protobuf.
                let asked = hypothetical(&answer).or_else(|| hypothetical(question));
                join_access(&in_force, facts, asked, &mut review["status"]).await;
            } else {
                join_rules(&in_force.policy, facts, question, &mut review["status"]);
            }
            Bytes::from(review.to_string())
        }
        // An error of the API server, or nothing that says yes.
        _ => answer,
    };
    response.body_mut().replace(joined);
}

/// Reads an answer to its end; nothing when it is too long or broken off.
async fn read(body: &mut UpstreamBody) -> Option<Bytes> {
    let mut answer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return None;
            }
            answer.extend_from_slice(&data);
        }
    }
    Some(answer.freeze())
}

async fn join_access(
    in_force: &InForce,
    facts: &Facts<'_>,
    asked: Option<RequestInfo>,
    status: &mut Value,
) {
    let decision = match &asked {
        Some(asked) => judging::would_be(in_force, facts.about(asked)).await,
        None => None,
    };
    let why = match decision {
        Some(decision) if decision.effect == Effect::Allow => {
            if !decision.message.is_empty() && status["allowed"] == true {
                status["reason"] = json!(format!("gateway: {}", decision.message));
            }
            return;
        }
        Some(decision) => decision.message,
        None => "the question cannot be read".to_owned(),
    };
    status["allowed"] = json!(false);
    status["reason"] = json!(format!("gateway: {why}"));
}

fn join_rules(policy: &Policy, facts: &Facts<'_>, question: &[u8], status: &mut Value) {
    let namespace = serde_json::from_slice::<Value>(question)
        .ok()
        .and_then(|review| Some(review["spec"]["namespace"].as_str()?.to_owned()));
    let cluster: ReviewedRules = serde_json::from_value(status.take()).unwrap_or(ReviewedRules {
        incomplete: true,
        ..ReviewedRules::default()
    });
    let mut joined = policy.review_rules(
        facts.user,
        facts.through,
        namespace.as_deref().unwrap_or_default(),
        cluster,
    );
    if namespace.is_none() {
        // kubectl asks in protobuf, and this answer does not repeat its question: rules of single namespaces are left out.
        joined.incomplete = true;
    }
    *status = serde_json::to_value(joined).expect("lists of texts have a JSON form");
}
