//! What a proof comes to.

use hoop_schema::{Class, Shard, SourceId, Timestamp};
use serde::Serialize;

use crate::exit::ExitCode;

/// Faults that are kept for the report; more are only counted.
const FINDINGS_MAX: usize = 100;

/// What the evidence proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is missing and nothing was altered.
    Proven,
    /// Something is missing; what is there is unaltered.
    Incomplete,
    /// A key that is not known signed it, so nobody can tell whose word it is.
    UnknownKey,
    /// Something was altered.
    Altered,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// The object, or the shard of the log, that it is in.
    pub object: String,
    /// Number of the row in the file, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Position in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Column of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What of the object can still be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readable: Option<String>,
}

/// What was covered of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// The class.
    pub class: Class,
    /// The shard.
    pub shard: Shard,
    /// The log.
    pub source: SourceId,
    /// First position covered by a file.
    pub pos_from: u64,
    /// Position after the last one covered by a file.
    pub pos_to: u64,
    /// Number of files.
    pub files: u64,
}

/// What was proven of one transparency log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Which log.
    pub origin: String,
    /// Number of leaves.
    pub leaves: u64,
    /// Number of checkpoints; any two of them are consistent unless a finding says otherwise.
    pub checkpoints: u64,
    /// Session files that it names.
    pub files: u64,
    /// Those of them that left by their term.
    pub files_deleted: u64,
    /// Those of them whose rows are in a sealed object now.
    pub files_sealed: u64,
    /// The known keys that signed its newest checkpoint, as verifier keys; none when no key was given.
    pub signed_by: Vec<String>,
    /// Leaves of the largest checkpoint that was kept elsewhere and given; none when there was none of this log.
    pub kept_leaves: Option<u64>,
    /// The latest cosignature of every witness that was asked for.
    pub cosigned: Vec<Cosigned>,
}

/// A witness's word on a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cosigned {
    /// Name of the witness.
    pub witness: String,
    /// Number of leaves that it saw.
    pub leaves: u64,
    /// When.
    pub at: Timestamp,
}

impl LogReport {
    pub(super) fn new(origin: String) -> Self {
        Self {
            origin,
            leaves: 0,
            checkpoints: 0,
            files: 0,
            files_deleted: 0,
            files_sealed: 0,
            signed_by: Vec::new(),
            kept_leaves: None,
            cosigned: Vec::new(),
        }
    }
}

/// What was found. The fields are the stable form of `-o json`; fields are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What it comes to.
    pub verdict: Verdict,
    /// Number of session files.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Number of events in files.
    pub events: u64,
    /// Number of events that are only in the log yet.
    pub tail_events: u64,
    /// Number of sessions.
    pub sessions: u64,
    /// Number of strands followed.
    pub strands: u64,
    /// Strands that have a `session.end` which states their length and head.
    pub strands_ended: u64,
    /// What was covered of each shard.
    pub shards: Vec<ShardReport>,
    /// Holes in sequences that a `gap` event declares.
    pub gaps_declared: u64,
    /// Holes that were filled by late arrivals.
    pub gaps_closed: u64,
    /// Session files that left by their retention term, by `recorder.expired`.
    pub files_expired: u64,
    /// What was proven of each transparency log.
    pub logs: Vec<LogReport>,
    /// Objects among the evidence that are none of ours.
    pub foreign: Vec<String>,
    /// What this run could not tell, each a sentence.
    pub notes: Vec<String>,
    /// Faults, the first one found first, at most 100.
    pub findings: Vec<Finding>,
    /// Faults beyond those.
    pub findings_left_out: u64,
}

impl Report {
    /// What the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self.verdict {
            Verdict::Proven => ExitCode::Success,
            Verdict::Altered => ExitCode::Altered,
            Verdict::Incomplete => ExitCode::Incomplete,
            Verdict::UnknownKey => ExitCode::UnknownKey,
        }
    }

    pub(super) fn new() -> Self {
        Self {
            verdict: Verdict::Proven,
            files: 0,
            bytes: 0,
            events: 0,
            tail_events: 0,
            sessions: 0,
            strands: 0,
            strands_ended: 0,
            shards: Vec::new(),
            gaps_declared: 0,
            gaps_closed: 0,
            files_expired: 0,
            logs: Vec::new(),
            foreign: Vec::new(),
            notes: Vec::new(),
            findings: Vec::new(),
            findings_left_out: 0,
        }
    }

    pub(crate) fn found(&mut self, finding: Finding) {
        self.verdict = self.verdict.max(finding.verdict);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, object: impl ToString, what: impl ToString) -> Self {
        Self {
            verdict,
            object: object.to_string(),
            row: None,
            position: None,
            column: None,
            what: what.to_string(),
            readable: None,
        }
    }
}
