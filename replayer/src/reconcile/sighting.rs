//! One line about one request, of either side.

use hoop_schema::Timestamp;
use serde::{Deserialize, Serialize};

/// The most bytes of any text of a sighting: what it is compared and grouped by fits, whatever somebody sends.
pub const TEXT_BYTES_MAX: usize = 512;

/// Where a request was seen. The record sorts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// In an event of the gateway.
    Record,
    /// In a line of the API server's log.
    Log,
}

/// Whether a recorded request went upstream, as far as one event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sent {
    /// It was denied.
    No,
    /// It was let through; whether it arrived is not recorded.
    Perhaps,
    /// The API server answered it.
    Yes,
}

/// One line about one request. Sorted by its fields in this order, the record comes before the log, and the stages of one
/// request beside each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sighting {
    /// `auditID`.
    pub id: String,
    /// Who wrote the line.
    pub side: Side,
    /// The user that asked: of the record the person, of the log whoever opened the connection.
    pub user: String,
    /// When the request was received; the same in all its stages.
    pub at: Timestamp,
    /// Kubernetes verb.
    pub verb: String,
    /// Resource, with the subresource after a slash, or the path of a request that is about none.
    pub what: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// HTTP status; 0 in a stage that does not know it yet, which so comes first.
    pub code: u16,
    /// The user it was done as; empty where that is the same, and in a stage that does not know it yet.
    pub acting: String,
    /// Name of the object; empty for none, and in a stage that does not know it yet.
    pub name: String,
    /// Whether it went upstream; [`Sent::Yes`] for what the log has.
    pub sent: Sent,
}

impl Sighting {
    /// Whether both are stages of the same request in the API server's log; the later one knows more.
    pub fn is_same_request(&self, other: &Self) -> bool {
        self.side == other.side
            && self.at == other.at
            && self.id == other.id
            && self.user == other.user
            && self.verb == other.verb
            && self.what == other.what
            && self.namespace == other.namespace
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.id,
            &self.user,
            &self.acting,
            &self.verb,
            &self.what,
            &self.namespace,
            &self.name,
        ];
        size_of::<Self>() + texts.iter().map(|text| text.capacity()).sum::<usize>()
    }
}

/// A text of at most [`TEXT_BYTES_MAX`] bytes.
pub(crate) fn clipped(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Resource and subresource in one text.
pub(crate) fn resource(resource: &str, subresource: &str) -> String {
    if subresource.is_empty() {
        clipped(resource)
    } else {
        clipped(&format!("{resource}/{subresource}"))
    }
}

/// The path of a request target.
pub(crate) fn path(target: &str) -> String {
    clipped(target.split('?').next().unwrap_or_default())
}
