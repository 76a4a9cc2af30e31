//! The event log on Kafka: a topic per class, a partition per shard.
//!
//! Promise: a position that was returned is on `in_sync_replicas_min` brokers at least, and read back exactly, in
//! order. What the brokers lose all the same (an unclean election, a topic that was deleted) is noticed and named,
//! never skipped.
//!
//! # Topic
//! `<topic_prefix>.<cluster>.<class>`, `audit.prod.standard` for example. It is created on first use, or checked and
//! refused with the command that mends it: as many partitions as shards, `cleanup.policy=delete`,
//! `message.timestamp.type=LogAppendTime`, `unclean.leader.election.enable=false`, `min.insync.replicas`,
//! `max.message.bytes`, `retention.ms` and `retention.bytes` as the options say or better. The name of the log for
//! ever comes from the topic's id, so that a topic created anew under its old name is another log: readers then report
//! damage, and writers refuse for good, until they are opened again.
//!
//! The broker's retention goes by age and size and knows nothing of what is recorded: it must be much longer than
//! recorders may be down. Positions are the offsets of the partition, from 0.
//!
//! # Record
//! CloudEvents in binary mode ([`cloudevents`](super::cloudevents)): the value is the exact bytes, the attributes are
//! headers (`ce_id`, `ce_type`, …), the key is the session. Compressed with zstd in batches.
//!
//! # Writing
//! An idempotent producer with `acks=all` that never gives up on an event (`message.timeout.ms=0`; with a time-out,
//! librdkafka drops what is late and goes on behind it). So:
//! - Brokers that are gone or change their leader only delay. After `answer_within` an append is answered with
//!   [`AppendError::Unknown`](super::AppendError::Unknown) though it is still sent, and a shard that has been silent
//!   for `stalled_after` refuses further appends at once as retryable, until the first acknowledgement: nothing of
//!   those was sent, they may go elsewhere.
//! - Memory is bounded by `in_flight_bytes_max`, and an append beyond it is refused at once, never held up.
//! - What the brokers refuse by its size was not written and will not be. Every other failed delivery may have been
//!   written, in an attempt whose answer was lost.
//! - A fatal error of the producer (it no longer knows what the brokers have) is answered with "may have been written"
//!   for all events on their way, and a new producer takes its place.
//!   `enable.gapless.guarantee` stays off: it makes a single event that a broker refuses fatal for all others, again
//!   and again, and every event has its answer here anyway.
//! - No transactions: they protect consumers of groups, which readers here are not.
//!
//! # Reading
//! Consumers are assigned a partition at a position of ours; offsets of a group are stored to show the lag in the usual
//! tools, and never read. `auto.offset.reset` is off: a position that the topic no longer has is
//! [`Expired`](super::ReadError::Expired), one beyond its end is
//! [`Damaged`](super::ReadError::Damaged). An empty read has asked the brokers for the end of the shard first.
//! A leader whose clock is behind gives records of an earlier time than those before; a reader then gives them the time
//! of the one before.
//!
//! # Rights
//! Writers need Write, Describe and DescribeConfigs on the topic, readers Read instead of Write, and Read on the group
//! for the lag; Create on the topic where they are to create it; IdempotentWrite on the cluster before Kafka 3.0.
//! Each client keeps a few threads: librdkafka has one per broker.
//!
//! Not here: which shard an event belongs to (its session says so), and dropping copies (the recorder does).

mod client;
mod cursor;
mod error;
mod in_flight;
mod metrics;
mod options;
mod producer;
mod reader;
mod security;
mod settings;
#[cfg(test)]
mod tests;
mod topic;
mod topic_id;
mod writer;

pub use error::OpenError;
pub use metrics::Metrics;
pub use options::Options;
pub use reader::KafkaReader;
pub use security::{OAuthToken, OAuthTokens, Sasl, Secret, Security, Tls, TokenError, TokenFile};
pub use settings::Problem;
pub use writer::KafkaWriter;
