//! How a command ended: what comes on its error channel.

use serde::Deserialize;

use super::{Emit, Item, Status};

/// The longest status that is read. Longer ones are handed on as data all the same.
pub const STATUS_BYTES_MAX: usize = 64 * 1024;

/// Puts the status together from its pieces.
#[derive(Debug)]
pub(super) struct StatusParser {
    /// From v4 on; plain text before.
    is_json: bool,
    buffer: Vec<u8>,
    is_done: bool,
}

/// The parts of a `meta/v1` Status that say how a command ended.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MetaStatus {
    status: String,
    message: String,
    reason: String,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Option<Vec<Cause>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

impl StatusParser {
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            is_json,
            buffer: Vec::new(),
            is_done: false,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.is_done {
            let room = STATUS_BYTES_MAX - self.buffer.len();
            self.buffer
                .extend_from_slice(&bytes[..room.min(bytes.len())]);
        }
    }

    /// A message is whole, and with it usually the status.
    pub(super) fn end_of_unit(&mut self, emit: &mut Emit<'_>) {
        if !self.is_json || self.is_done {
            return;
        }
        if let Ok(status) = serde_json::from_slice::<MetaStatus>(&self.buffer) {
            self.done(status.into(), emit);
        }
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, emit: &mut Emit<'_>) {
        if !self.is_done && !self.buffer.is_empty() {
            let status = Status {
                message: String::from_utf8_lossy(&self.buffer).into_owned(),
                ..Status::default()
            };
            self.done(status, emit);
        }
    }

    fn done(&mut self, status: Status, emit: &mut Emit<'_>) {
        self.is_done = true;
        self.buffer = Vec::new();
        emit(Item::Status(status));
    }
}

impl From<MetaStatus> for Status {
    fn from(status: MetaStatus) -> Self {
        let causes = status.details.and_then(|details| details.causes);
        let exit_code = match status.status.as_str() {
            "Success" => Some(0),
            _ if status.reason == "NonZeroExitCode" => causes
                .unwrap_or_default()
                .iter()
                .find(|cause| cause.reason == "ExitCode")
                .and_then(|cause| cause.message.parse().ok()),
            _ => None,
        };
        Self {
            exit_code,
            reason: status.reason,
            message: status.message,
        }
    }
}
