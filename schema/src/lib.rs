//! Audit events: what they say, their exact bytes, and how they hang together.
//!
//! This package is pure: no clock, no randomness, no I/O. Whoever needs the time or an id passes it in.
//!
//! # Vocabulary
//! One word, one meaning, in every package of this workspace:
//!
//! - **event**: what happened; one fact, encoded once as one line of JSON. The bytes *are* the event.
//! - **record**: an event in the log.
//! - **position**: an opaque place in one shard of a log, growing with every record.
//! - **sequence**: `producer_seq`, dense (1, 2, 3 …) per producer, epoch, class and shard.
//! - **gap**: a hole in a sequence, itself recorded as an event.
//! - **session**: what a person would call one piece of work: one `kubectl` invocation, or one connection.
//! - **strand**: the events of one session that one producer wrote into one class, linked by hashes.
//! - **session file**: one committed Parquet object; many sessions, rows clustered by session.
//! - **class**: a retention class. Every class is a log of its own.
//! - **profile**: what a group of people may do.
//! - **content**: what was sent and shown, that is, bodies and streams; all else an event says is about it.
//!
//! # Where to look
//! [`event`] has the envelope every event shares, [`kinds`] what each kind adds, [`bytes`] the one encoding,
//! [`chain`] the hash chain, [`session`] the derivation of session ids, [`row`] the flat columns that the
//! evidence files carry, [`evidence`] the names and footers of those files, `transparency` (a feature) the signed log of
//! them, [`own`] makes events beside the log, [`encryption`] has content that can be made unreadable for ever.

pub mod body;
pub mod bytes;
pub mod chain;
pub mod encryption;
pub mod event;
pub mod evidence;
pub mod ids;
pub mod json_schema;
pub mod kinds;
pub mod own;
pub mod row;
pub mod session;
pub mod time;
#[cfg(feature = "transparency")]
pub mod transparency;

pub use bytes::{DecodeError, EncodeError, EncodedEvent};
pub use event::{Envelope, Event, FORMAT_VERSION, Kind};
pub use ids::{
    Class, EventHash, EventId, InvalidName, KeyId, ProducerId, SessionId, Shard, SourceId,
};
pub use time::{DAY_MICROS, Timestamp};
