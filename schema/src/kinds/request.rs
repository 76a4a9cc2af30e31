//! A request to the Kubernetes API: what was wanted, what was decided, what came of it.
//!
//! The words are those of `audit.k8s.io/v1`, in snake case.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::encryption::Encryption;
use crate::time::Timestamp;

/// Who asks, as authenticated; `user` of `audit.k8s.io/v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct User {
    /// Name of the user, or `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// Unique id of the user, where the authenticator has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Groups of the user, in the order of the authenticator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the authenticator says of the user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// Not at all: no credential, or one that was refused.
    None,
    /// A client certificate.
    ClientCertificate,
    /// A static token, stored as a hash.
    StaticToken,
    /// An OpenID Connect ID token.
    Oidc,
    /// A token that the upstream API server reviewed.
    TokenReview,
    /// The producer itself.
    Internal,
}

/// What a request is about; `objectRef` of `audit.k8s.io/v1`. Empty strings stand for "none", as there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ObjectRef {
    /// API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version, such as `v1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Plural resource, such as `pods`.
    pub resource: String,
    /// Subresource, such as `log`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Namespace; empty for cluster scope or all namespaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the object; empty for collections.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What both the intent and the outcome say of their request. Filled in by the gateway once, before the decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RequestAttributes {
    /// Name of the request; sent upstream as `Audit-ID`, so that the API server's audit log has it as `auditID`.
    pub audit_id: String,
    /// When the gateway had the request's head.
    pub received: Timestamp,
    /// Who asks; absent when the caller could not be identified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Whom the request is to be done as: the user that the caller asks for (`kubectl --as`), or the service account
    /// that policy pins them to; `impersonatedUser` of `audit.k8s.io/v1`. The decision says whether it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonated: Option<User>,
    /// How the caller proved it.
    pub auth_method: AuthMethod,
    /// What ties the sessions of one login together, as in `session.start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The client that the user's token was issued to: `azp` or `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Who acts for the user, as the token says in `act` (RFC 8693): the one that sends the request first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<String>,
    /// Whether the credential is one for emergencies only. Alert on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub break_glass: bool,
    /// Address of the client, without the port: the peer of the connection, not a header.
    pub source_ip: String,
    /// HTTP method, as sent.
    pub http_method: String,
    /// Request target: path and query, as sent; credentials in the query replaced. At most 8,192 bytes.
    pub request_uri: String,
    /// Kubernetes verb, such as `list`; the lower-case HTTP method for a non-resource request; empty when there is none.
    pub verb: String,
    /// What it is about; absent for a non-resource request and one that could not be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
    /// `User-Agent` as sent, at most 1,024 bytes. A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `Kubectl-Command` as sent, at most 1,024 bytes. A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The command that exec runs and its arguments, as asked for; of 8,192 bytes at most, with an ellipsis where it is
    /// cut. Empty for everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
}

/// `intent`: a request and the decision about it. Durable before the request has any effect. Filled in by the gateway.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Intent {
    /// The request.
    pub request: Arc<RequestAttributes>,
    /// What was decided, and why.
    pub decision: Decision,
    /// How much of this request is recorded.
    pub level: Level,
    /// How durable this event is before the request leaves.
    pub durability: Durability,
    /// Body of the request, masked. Absent when it has none or the level leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// What was masked in it.
    #[serde(default, skip_serializing_if = "Masked::is_empty")]
    pub masked: Masked,
    /// Identity headers that the client sent and that were not passed on, by lower-case name; values of
    /// credentials are never here. Claims.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// What was decided about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Decision {
    /// What happens to the request.
    pub effect: Effect,
    /// What led to it.
    pub cause: Cause,
    /// Profile that holds the matching rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Name of the matching rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// For people: why, in one sentence. Never holds a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Revision of the policy that decided: the first 16 hexadecimal digits of the SHA-256 of its bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy_revision: String,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It goes upstream.
    Allow,
    /// It is answered by the gateway with an error.
    Deny,
    /// It waits for an approval.
    Hold,
}

impl Effect {
    /// As written in events and in the column `decision`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}

/// What led to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The named rule.
    Rule,
    /// No rule matched, so it is denied.
    NoMatch,
    /// A webhook that the named rule asks, which denies it.
    Webhook,
    /// A webhook that the named rule asks, which failed to answer.
    WebhookFailed,
    /// The caller could not be identified.
    Unauthenticated,
    /// The request is not one that the API server would understand without doubt.
    Malformed,
    /// The body or a header is larger than the limit.
    TooLarge,
    /// The request asks for an upgrade that is not served.
    UpgradeRefused,
    /// The caller asks to act as somebody else, and no rule allows it.
    ImpersonationRefused,
    /// The body holds a value that was masked when it was read.
    MaskedWrite,
    /// The response could not be inspected, so it was not passed on.
    Uninspectable,
    /// The log does not take events at the moment.
    LogUnavailable,
    /// The credential that opened the stream has expired meanwhile.
    CredentialExpired,
    /// The session, the login or the person's access was ended before its time, or the client certificate revoked.
    AccessEnded,
}

impl Cause {
    /// As written in events and in the column `decision_cause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NoMatch => "no_match",
            Self::Webhook => "webhook",
            Self::WebhookFailed => "webhook_failed",
            Self::Unauthenticated => "unauthenticated",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::UpgradeRefused => "upgrade_refused",
            Self::ImpersonationRefused => "impersonation_refused",
            Self::MaskedWrite => "masked_write",
            Self::Uninspectable => "uninspectable",
            Self::LogUnavailable => "log_unavailable",
            Self::CredentialExpired => "credential_expired",
            Self::AccessEnded => "access_ended",
        }
    }
}

/// How much of a request is recorded; the levels of `audit.k8s.io/v1` that record anything.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Level {
    /// No bodies.
    Metadata,
    /// The request body.
    Request,
    /// The request and the response body.
    #[default]
    RequestResponse,
}

/// How durable an intent is before its request leaves.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The log acknowledged it.
    #[default]
    Log,
    /// Synced to the local spool, shipped after.
    Spool,
    /// Handed to the writer.
    BestEffort,
}

/// What masking replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Masked {
    /// Number of values replaced.
    pub count: u64,
    /// Where, such as `items[].data.password`; each path once, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl Masked {
    /// Whether nothing was replaced.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// `outcome`: what came of a request. Exactly one per intent, unless the producer died. Filled in by the gateway.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Outcome {
    /// The request, as in its intent.
    pub request: Arc<RequestAttributes>,
    /// What was decided; for an allowed request that could not be answered, what went wrong after.
    pub decision: Decision,
    /// HTTP status that the client got; 0 when it was gone before there was one.
    pub status: u16,
    /// `reason` of the Kubernetes Status, where the gateway answered itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who answered.
    pub answered_by: AnsweredBy,
    /// How the response ended.
    pub ended: Ended,
    /// Bytes of request body that were sent upstream.
    pub request_bytes: u64,
    /// Bytes of response body that the client got.
    pub response_bytes: u64,
    /// Microseconds from the request's head to the first byte of the answer.
    pub first_byte_us: u64,
    /// Microseconds from the request's head to the end of the answer.
    pub duration_us: u64,
    /// Body of the response, masked; absent when it went into `stream.data`, is empty, or the level leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// What was masked in the response.
    #[serde(default, skip_serializing_if = "Masked::is_empty")]
    pub masked: Masked,
    /// Number of `stream.data` events of this request.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stream_events: u64,
    /// Exit code of the command, of an exec or attach whose end was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

fn is_false(truth: &bool) -> bool {
    !truth
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// The API server.
    Upstream,
    /// The gateway, instead of it.
    Gateway,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// To its end.
    Complete,
    /// The client went away.
    ClientClosed,
    /// The API server broke off.
    UpstreamClosed,
    /// The API server could not be reached.
    UpstreamUnreachable,
    /// The gateway broke off, as the decision says.
    GatewayClosed,
}

/// `body.chunk`: a further piece of a body. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BodyChunk {
    /// The request whose body this is.
    pub audit_id: String,
    /// Which of its two bodies.
    pub of: BodyOf,
    /// Counts from 0; the body says how many there are.
    pub index: u32,
    /// Where in the recorded body this piece begins, in bytes.
    pub offset: u64,
    /// How `content` is written.
    pub encoding: crate::body::TextEncoding,
    /// The piece.
    pub content: String,
    /// With which key it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// Which body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyOf {
    /// What the client sent.
    Request,
    /// What the client got.
    Response,
}

impl BodyOf {
    /// As written in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}
