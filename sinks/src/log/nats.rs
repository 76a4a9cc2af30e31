//! The event log on NATS JetStream: a stream per class, on servers that others run.
//!
//! Promise: a returned position was acknowledged by the stream's leader, which for a replicated stream means that a
//! majority has stored it. Whether *stored* means synced is a setting of the servers (`sync_interval: always`), which
//! no client can see: three replicas in three places survive what a single server without it does not.
//!
//! # On the servers
//! ```text
//! stream    audit_<cluster>_<class>            metadata hoop-source, hoop-shards: written when it is created
//! subjects  audit.<cluster>.<class>.<shard, three digits>.<kind>
//! message   Nats-Msg-Id: <event id>, the headers of CloudEvents, and the exact bytes of the event
//! consumer  hoop-recorder-<shard>              begins where the recorder is; nobody reads from it
//! ```
//! A stream is created on first use: file storage, limits retention, `discard: new` (a full stream refuses, it never
//! drops), no deletes, no purges, ids remembered for ten minutes. One that is there is checked, and refused with the
//! command that mends it. It drops records by age alone; the term has to be longer than any outage of the recorder.
//!
//! Positions are sequences of the stream: they grow within a shard, and not by one.
//!
//! # Order
//! Publishes of a shard follow each other without waiting, up to a limit in bytes. That keeps their order because
//! they travel on **one connection that is never made again behind the writer's back**: what a broken one had not
//! sent is not sent later, after something that was lost before it. When an acknowledgement stays away, is an error,
//! or the connection is gone, the shard stops, waits until the fate of all it has in the air is known or given up, and
//! goes on in order under the same ids (`flight` says how). An event that another one has overtaken is never sent
//! again by the log: its append fails as not written, or as maybe written, and what then is the caller's choice.
//!
//! What remains: if an earlier event is not taken (a leader changes, or the stream is full), *and* the connection is lost
//! before that and the acknowledgement of a later one are here, then sending both again puts the earlier one behind the
//! later. Both are there, each once; events
//! have sequences of their own, by which the recorder orders them.
//!
//! # Reading
//! By direct gets in batches, checked for holes, and by the leader's word where a replica has no more. No state is
//! kept on a server: consumers have lost, skipped and repeated messages after power cuts and pauses. Every read asks
//! afterwards who the stream is and what it holds, so a stream that was created anew under the old name is an error,
//! and so is a position whose records may have expired. A shard that was silent for the whole term of the stream
//! cannot be told from one whose records expired, and is reported as expired to a reader that was not there.
//!
//! `log_ts` is the time at which the leader took the record. A leader with a slow clock cannot turn it back within one
//! reader's sight; two readers that begin at different positions may disagree by the difference of the clocks.
//!
//! # Failure
//! - No leader, no connection, a server that is paused: events are kept and sent again until their time is up, then
//!   their appends fail; new ones are taken up to a limit in bytes.
//! - The stream is full: appends are refused, and taken again when records have expired or the limit was raised.
//! - The stream was created anew: readers fail; a writer says so in the log of the process and goes on, if the new one
//!   has the right settings.
//! - Messages that somebody else publishes on the subjects are read as records; the accounts of the servers are what
//!   keeps them out.

mod ack;
mod connect;
mod error;
mod fetch;
mod flight;
mod metrics;
mod options;
mod queue;
mod reader;
mod stream;
mod writer;

pub use error::OpenError;
pub use metrics::Metrics;
pub use options::{Auth, Options, Tls};
pub use reader::Reader;
pub use writer::Writer;
