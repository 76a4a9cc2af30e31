//! What can be chosen about a log on Kafka.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use hoop_schema::Class;

use super::error::OpenError;
use super::security::Security;

/// What a record needs beside the bytes of its event: key, headers, and the frame of a batch with nothing else in it.
pub(crate) const RECORD_OVERHEAD: usize = 48_588;

/// The most characters of a topic's name.
const TOPIC_CHARACTERS_MAX: usize = 249;

/// More shards than this are a mistake: each costs every broker files, and every recorder a consumer.
const SHARDS_MAX: u32 = 256;

/// Properties of librdkafka that may be set: those of the network, of memory and of batches. None of the others can be
/// changed without breaking a promise (`acks`, idempotence, time-outs of messages, offsets, who we are).
const PROPERTIES: [&str; 29] = [
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.level",
    "connections.max.idle.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "max.partition.fetch.bytes",
    "metadata.recovery.rebootstrap.trigger.ms",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
];

/// Options of the log of one class on Kafka, for writer and reader alike.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers to begin with, `host:port` each. The others are found through them.
    pub brokers: Vec<String>,
    /// Name of the Kubernetes cluster: part of the topic's name, and `ce_source` of its events.
    pub cluster: String,
    /// What topics are named after: `<topic_prefix>.<cluster>.<class>`. `audit` by default.
    pub topic_prefix: String,
    /// TLS, and who we are.
    pub security: Security,
    /// Number of shards, that is, of partitions; fixed when the topic is created. 8 by default: as many recorders can
    /// share the work, and a partition takes more than one gateway can write.
    pub shards: NonZeroU32,
    /// Copies of each record, on as many brokers. 3 by default.
    pub replicas: NonZeroU32,
    /// Copies that must be there before a record counts as durable (`min.insync.replicas`). 2 by default: with three
    /// copies, one broker may be gone and appends still work.
    pub in_sync_replicas_min: NonZeroU32,
    /// Whether to create the topic when it does not exist. True by default.
    pub create_topic: bool,
    /// How long the topic keeps records. 7 days by default: much longer than recorders may be down.
    pub retention: Duration,
    /// The most bytes that one shard keeps, if there is a limit. None by default: what is not recorded yet must not go
    /// because others wrote much.
    pub retention_bytes: Option<u64>,
    /// Bytes of a segment of the topic when it is created; the broker's own choice by default. Retention drops whole
    /// segments.
    pub segment_bytes: Option<u64>,
    /// The most bytes of one event. 1,000,000 by default, which fits into what brokers take when nobody told them
    /// otherwise (`max.message.bytes` = 1,048,588); events of the gateway stay under 192 KiB.
    pub record_bytes_max: usize,
    /// The most bytes of events on their way to the brokers. 64 MiB by default: half a second of a very busy gateway.
    pub in_flight_bytes_max: usize,
    /// How long an event that may linger waits for company. 5 ms by default.
    pub linger: Duration,
    /// For how long a shard may go without an acknowledgement before it takes no more events. 10 seconds by default:
    /// a new leader is found sooner than that, usually.
    pub stalled_after: Duration,
    /// After how long an append that has no answer is answered with "may have been written". It is sent all the same.
    /// 30 seconds by default: longer than any change of a leader.
    pub answer_within: Duration,
    /// How long closing waits for the brokers before it gives up on what has no answer. 10 seconds by default.
    pub close_within: Duration,
    /// Bytes that a reader fetches in advance, per shard. 8 MiB by default: a fifteenth of a second of a recorder at
    /// full speed, longer than a round trip to any broker.
    pub prefetch_bytes: usize,
    /// Consumer group under which a reader shows how far it has come. Nothing else is done with it.
    pub lag_group: String,
    /// Further properties of librdkafka, of a list of those that cannot break a promise.
    pub properties: BTreeMap<String, String>,
}

impl Options {
    /// Defaults for the topics of a cluster.
    pub fn new(brokers: Vec<String>, cluster: impl Into<String>) -> Self {
        let count = |n| NonZeroU32::new(n).expect("the number is not zero");
        Self {
            brokers,
            cluster: cluster.into(),
            topic_prefix: "audit".to_owned(),
            security: Security::default(),
            shards: count(8),
            replicas: count(3),
            in_sync_replicas_min: count(2),
            create_topic: true,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            retention_bytes: None,
            segment_bytes: None,
            record_bytes_max: 1_000_000,
            in_flight_bytes_max: 64 << 20,
            linger: Duration::from_millis(5),
            stalled_after: Duration::from_secs(10),
            answer_within: Duration::from_secs(30),
            close_within: Duration::from_secs(10),
            prefetch_bytes: 8 << 20,
            lag_group: "hoop-recorder".to_owned(),
            properties: BTreeMap::new(),
        }
    }

    /// Name of the topic of a class.
    pub fn topic(&self, class: &Class) -> String {
        format!("{}.{}.{class}", self.topic_prefix, self.cluster)
    }

    /// Bytes that the topic must take in one batch.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.record_bytes_max.saturating_add(RECORD_OVERHEAD)
    }

    pub(crate) fn check(&self, class: &Class) -> Result<(), OpenError> {
        let wrong = |name, what| Err(OpenError::Option { name, what });
        if self.brokers.is_empty() || self.brokers.iter().any(|b| b.is_empty() || b.contains(',')) {
            return wrong("brokers", "must name at least one broker as host:port");
        }
        let topic = self.topic(class);
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if !self.cluster.bytes().all(fits) || !self.topic_prefix.bytes().all(fits) {
            return wrong(
                "cluster",
                "and topic_prefix may have only A-Z a-z 0-9 . _ - since they name topics",
            );
        }
        if topic.len() > TOPIC_CHARACTERS_MAX {
            return wrong("cluster", "makes a topic name of more than 249 characters");
        }
        if self.shards.get() > SHARDS_MAX {
            return wrong("shards", "must be at most 256");
        }
        if self.in_sync_replicas_min > self.replicas {
            return wrong("in_sync_replicas_min", "must be at most the replicas");
        }
        if !(1024..=100 << 20).contains(&self.record_bytes_max) {
            return wrong("record_bytes_max", "must be between 1 KiB and 100 MiB");
        }
        if self.in_flight_bytes_max < self.message_bytes_max() {
            return wrong(
                "in_flight_bytes_max",
                "must have room for the largest event and 48,588 bytes",
            );
        }
        if let Err(what) = self.security.check() {
            return wrong("security", what);
        }
        let refused = |name: &&String| !PROPERTIES.contains(&name.as_str());
        if let Some(name) = self.properties.keys().find(refused) {
            let name = name.clone();
            return Err(OpenError::Property { name });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new(vec!["localhost:9092".to_owned()], "prod")
    }

    fn refused(options: &Options) -> String {
        let error = options.check(&Class::standard()).unwrap_err();
        error.to_string()
    }

    #[test]
    fn the_defaults_are_taken() {
        options().check(&Class::standard()).unwrap();
        assert_eq!(options().topic(&Class::standard()), "audit.prod.standard");
    }

    #[test]
    fn no_property_can_undo_a_promise() {
        for name in [
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "delivery.timeout.ms",
            "message.timeout.ms",
            "queue.buffering.max.kbytes",
            "security.protocol",
            "ssl.endpoint.identification.algorithm",
            "auto.offset.reset",
            "bootstrap.servers",
            "debug",
        ] {
            let mut options = options();
            options.properties.insert(name.to_owned(), "0".to_owned());
            assert!(refused(&options).contains(name), "{name}");
        }
        let mut options = options();
        let rack = ("client.rack".to_owned(), "a".to_owned());
        options.properties.extend([rack]);
        options.check(&Class::standard()).unwrap();
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let mut none = options();
        none.brokers.clear();
        assert!(refused(&none).contains("brokers"));
        let mut arn = options();
        arn.cluster = "arn:aws:eks/x".to_owned();
        assert!(refused(&arn).contains("cluster"));
        let mut long = options();
        long.cluster = "x".repeat(250);
        assert!(refused(&long).contains("249"));
        let mut more = options();
        more.in_sync_replicas_min = NonZeroU32::new(4).unwrap();
        assert!(refused(&more).contains("in_sync_replicas_min"));
        let mut narrow = options();
        narrow.in_flight_bytes_max = 1_000_000;
        assert!(refused(&narrow).contains("in_flight_bytes_max"));
    }
}
