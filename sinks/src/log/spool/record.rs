//! From the bytes of a record back to what a broker is given.

use bytes::Bytes;
use hoop_schema::{EventId, Kind, SessionId, Shard};
use serde::Deserialize;

use crate::log::Outgoing;

/// What of an event a broker wants to know.
#[derive(Deserialize)]
struct Attributes {
    event_id: EventId,
    session_id: SessionId,
    shard: Shard,
    kind: String,
}

/// Its shard, and the event as it was once given to the spool.
///
/// # Errors
/// When the bytes are no event.
pub(super) fn read_back(bytes: Bytes) -> Result<(Shard, Outgoing), serde_json::Error> {
    let Attributes {
        event_id,
        session_id,
        shard,
        kind,
    } = serde_json::from_slice(&bytes)?;
    let known = Kind::NAMES.iter().find(|name| **name == kind);
    let event = Outgoing {
        event_id,
        session_id,
        // One of an older or newer build, which is only shipped.
        kind: known.copied().unwrap_or("unknown"),
        bytes,
        linger: false,
        spool: false,
    };
    Ok((shard, event))
}
