//! Webhooks that rules ask: who they are, what they are asked, and what their answers mean.
//!
//! The words are Kubernetes' own for webhook authorizers: a webhook is sent a SubjectAccessReview of
//! `authorization.k8s.io/v1`, and says in its `status` that it allows, that it denies, or neither. So a webhook that
//! serves an API server serves a gateway. See [`Webhook::review`] for what is sent: what the request is, never its body
//! nor a credential.
//!
//! Pure: how they are asked is in [`crate::webhooks`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoop_schema::kinds::request::{Cause, Effect};
use serde::Serialize;
use url::Url;

use super::decide::policy_verb;
use super::facts::Facts;
use super::rule::EXEC;
use super::{AUTHENTICATED, Policy};

/// The keys of `extra` that are the gateway's to say: who acts for the user, the client they come by, and from where.
const ACTOR_EXTRA: &str = "gateway.hoop/actor";
const CLIENT_EXTRA: &str = "gateway.hoop/client";
const SOURCE_IP_EXTRA: &str = "gateway.hoop/source-ip";

/// A webhook of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name in the policy; the only one that messages and metrics have.
    pub name: String,
    /// Where it is: `https://`, or `http://` on this machine.
    pub url: Url,
    /// Who certifies it (PEM file); those of the machine where there is none.
    pub certificate_authority: Option<PathBuf>,
    /// The gateway's own certificate and key for it (PEM files).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The bearer token to send it (file).
    pub token_file: Option<PathBuf>,
    /// It answers within this time, connection and waiting for its turn included, or has failed.
    pub timeout: Duration,
    /// What it means when it fails.
    pub failure_policy: FailurePolicy,
    /// How long an answer that allows is good for the same question; zero to ask every time.
    pub authorized_ttl: Duration,
    /// How long any other answer is.
    pub unauthorized_ttl: Duration,
    pub(super) line: u64,
}

/// What it means when a webhook fails; the words of the API server's `AuthorizationConfiguration`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The request is refused.
    #[default]
    Deny,
    /// As if it had no opinion: the next rule is tried.
    NoOpinion,
}

/// What a webhook said. The texts are its reasons, cleaned and cut; empty where it gave none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `allowed: true`.
    Allowed(String),
    /// `denied: true`.
    Denied(String),
    /// Neither.
    NoOpinion(String),
    /// It could not be asked, or said nothing that can be understood; in words that name no address.
    Failed(String),
}

/// What is known of a webhook's answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    /// It is not asked yet; it will be, if a rule wants to know.
    Unasked,
    /// It is not asked at all: the question is what a policy would say.
    Open,
    Answered(&'a Answer),
}

/// What a rule whose words and conditions match does, given its webhook's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruled {
    /// The rule's own effect, and why.
    Decides(String),
    /// The request is refused, whatever the rule's effect.
    Refuses(Cause, String),
    /// The next rule is tried; with why.
    Passes(String),
    Unasked,
}

impl Webhook {
    /// What a rule of `effect` does. An answer that allows lets a rule that allows or holds decide, and one that denies
    /// pass: such a rule is a veto.
    pub(super) fn ruled(&self, effect: Effect, known: Known<'_>) -> Ruled {
        let name = &self.name;
        let because = |reason: &str| match reason {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let vetoes = effect == Effect::Deny;
        match known {
            Known::Unasked => Ruled::Unasked,
            Known::Open if vetoes => Ruled::Passes(format!(
                "it would ask webhook \"{name}\", and only refuse if that does"
            )),
            Known::Open => {
                Ruled::Decides(format!("it depends on the answer of webhook \"{name}\""))
            }
            Known::Answered(Answer::Allowed(reason)) if vetoes => {
                Ruled::Passes(format!("webhook \"{name}\" allows it{}", because(reason)))
            }
            Known::Answered(Answer::Allowed(reason)) => {
                Ruled::Decides(format!("webhook \"{name}\" allows it{}", because(reason)))
            }
            Known::Answered(Answer::Denied(reason)) => Ruled::Refuses(
                Cause::Webhook,
                format!("webhook \"{name}\" denies it{}", because(reason)),
            ),
            Known::Answered(Answer::NoOpinion(reason)) => Ruled::Passes(format!(
                "webhook \"{name}\" has no opinion{}",
                because(reason)
            )),
            Known::Answered(Answer::Failed(why)) => match self.failure_policy {
                FailurePolicy::Deny => {
                    Ruled::Refuses(Cause::WebhookFailed, format!("webhook \"{name}\" {why}"))
                }
                FailurePolicy::NoOpinion => Ruled::Passes(self.failed_open(why)),
            },
        }
    }

    /// That it failed, and that this counts for nothing.
    pub(super) fn failed_open(&self, why: &str) -> String {
        let name = &self.name;
        format!("webhook \"{name}\" {why}, which counts as no opinion")
    }

    /// What it is asked about a request: a SubjectAccessReview in JSON.
    ///
    /// Exec, attach and port-forward are `create` on their subresource, whatever the HTTP method, as they are to policy.
    /// Selectors are sent as they came (`rawSelector`).
    pub(crate) fn review(facts: &Facts<'_>) -> Bytes {
        let (user, info) = (facts.user, facts.info);
        let mut groups: Vec<&str> = user.groups.iter().map(String::as_str).collect();
        if !groups.contains(&AUTHENTICATED) {
            groups.push(AUTHENTICATED);
        }
        let mut extra: BTreeMap<&str, Vec<String>> = user
            .extra
            .iter()
            .map(|(key, values)| (key.as_str(), values.clone()))
            .collect();
        for (key, value) in [
            (ACTOR_EXTRA, facts.through.actor.map(str::to_owned)),
            (CLIENT_EXTRA, facts.through.client.map(str::to_owned)),
            (
                SOURCE_IP_EXTRA,
                Some(facts.source_ip.to_canonical().to_string()),
            ),
        ] {
            // A claim of the user's token that has such a name is none of the gateway's.
            extra.remove(key);
            extra.extend(value.map(|value| (key, vec![value])));
        }
        let verb = match policy_verb(info) {
            EXEC => "create",
            verb => verb,
        };
        let selector = |raw: &'_ str| {
            (!raw.is_empty()).then(|| Selector {
                raw_selector: raw.to_owned(),
            })
        };
        let resource = info.object.as_ref().map(|object| ResourceAttributes {
            namespace: &object.namespace,
            verb,
            group: &object.api_group,
            version: &object.api_version,
            resource: &object.resource,
            subresource: &object.subresource,
            name: &object.name,
            field_selector: selector(&info.field_selector),
            label_selector: selector(&info.label_selector),
        });
        let path = info.object.is_none().then(|| PathAttributes {
            path: &info.path,
            verb,
        });
        let review = Review {
            api_version: "authorization.k8s.io/v1",
            kind: "SubjectAccessReview",
            spec: Spec {
                resource_attributes: resource,
                non_resource_attributes: path,
                user: &user.username,
                groups,
                extra,
                uid: user.uid.as_deref().unwrap_or_default(),
            },
        };
        serde_json::to_vec(&review)
            .expect("texts have a JSON form")
            .into()
    }
}

impl Answer {
    /// The words of tests of policies and of `policy explain --webhook`.
    pub const WORDS: [&str; 4] = ["allowed", "denied", "noOpinion", "failed"];

    /// The answer that one of [`Answer::WORDS`] stands for, without a reason.
    pub fn stated(word: &str) -> Option<Self> {
        match word {
            "allowed" => Some(Self::Allowed(String::new())),
            "denied" => Some(Self::Denied(String::new())),
            "noOpinion" => Some(Self::NoOpinion(String::new())),
            "failed" => Some(Self::Failed("does not answer".to_owned())),
            _ => None,
        }
    }
}

impl Policy {
    /// The webhooks, in file order.
    pub fn webhooks(&self) -> &[Arc<Webhook>] {
        &self.webhooks
    }

    /// The webhook of a name.
    pub fn webhook(&self, name: &str) -> Option<&Arc<Webhook>> {
        self.webhooks.iter().find(|webhook| webhook.name == name)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<ResourceAttributes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<PathAttributes<'a>>,
    user: &'a str,
    groups: Vec<&'a str>,
    extra: BTreeMap<&'a str, Vec<String>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceAttributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    verb: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field_selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_selector: Option<Selector>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    raw_selector: String,
}

#[derive(Serialize)]
struct PathAttributes<'a> {
    path: &'a str,
    verb: &'a str,
}
