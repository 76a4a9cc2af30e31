//! The life of an approval. All filled in by the gateway that took part.

use serde::{Deserialize, Serialize};

use super::request::User;
use crate::ids::EventHash;
use crate::time::Timestamp;

/// `approval.requested`: a request that a rule wants approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalRequested {
    /// Name of the approval; the client sees it.
    pub approval_id: String,
    /// The request that asked for it.
    pub audit_id: String,
    /// SHA-256 of what is asked for: what is approved is what runs.
    pub digest: EventHash,
    /// Approvals needed.
    pub quorum: u32,
    /// When it expires.
    pub expires: Timestamp,
}

/// `approval.decided`: one voice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalDecided {
    /// Which approval.
    pub approval_id: String,
    /// Who decided; never the requester.
    pub by: User,
    /// Whether for or against.
    pub approved: bool,
    /// Why, in the approver's words.
    pub reason: String,
}

/// `approval.consumed`: an approval was used; the first in log order wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalConsumed {
    /// Which approval.
    pub approval_id: String,
    /// The request that ran.
    pub audit_id: String,
}

/// `approval.expired`: nobody decided, or nobody used it, in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalExpired {
    /// Which approval.
    pub approval_id: String,
}
