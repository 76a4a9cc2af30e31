//! The clients of librdkafka: their properties, and what they have to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::in_flight::EVENT_OVERHEAD;
use super::options::Options;
use super::security::OAuthTokens;
use super::topic_id::TopicIds;

/// How long librdkafka itself gathers a batch. The waiting that is worth something is done before it gets an event, by
/// kind of event; this only keeps a burst from going out one by one.
const BATCH_LINGER: &str = "0.5";

/// How soon a topic that was created anew under its name is noticed by a client that meets no error.
const METADATA_EVERY_MS: &str = "30000";

/// librdkafka's own limits are beyond ours, which push back first.
const QUEUE_SLACK: usize = 2;

/// What all clients of one topic share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) ids: Arc<TopicIds>,
    tokens: Option<Arc<dyn OAuthTokens>>,
    /// What librdkafka said last about its connections.
    said: Arc<Mutex<String>>,
}

/// The context of one client.
#[derive(Debug)]
pub(crate) struct Context {
    shared: Shared,
    fatal: AtomicBool,
    /// What this client has said so far.
    heard: AtomicU64,
}

impl Shared {
    pub(crate) fn new(options: &Options, topic: &str) -> Self {
        Self {
            ids: Arc::new(TopicIds::new(topic)),
            tokens: options.security.tokens().cloned(),
            said: Arc::default(),
        }
    }

    /// Whether we say who we are by tokens.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().clone()
    }
}

impl Context {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            shared: shared.clone(),
            fatal: AtomicBool::new(false),
            heard: AtomicU64::new(0),
        }
    }

    /// How many lines and errors this client has said so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Notes that this client can do nothing more: an answer has said so.
    pub(crate) fn has_failed(&self) {
        self.fatal.store(true, Ordering::Release);
    }

    /// Whether this client can do nothing more.
    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        if self.shared.ids.observe(message) {
            tracing::error!(
                message,
                "a topic was deleted and created again: it is another log"
            );
        }
        // Debug lines are asked for only because of the ids of topics.
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::trace!(facility, message, "librdkafka");
            }
            // What it calls an error is a connection that failed and is tried again.
            _ => tracing::warn!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if fatal {
            // It is said twice.
            if !self.fatal.swap(true, Ordering::AcqRel) {
                tracing::error!(reason, "a client of Kafka has failed for good");
            }
            return;
        }
        tracing::debug!(%error, reason, "a client of Kafka has met an error");
        let mut said = self.shared.said.lock();
        // That all brokers are away follows from what each of them said before, and explains nothing.
        if said.is_empty() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            reason.clone_into(&mut said);
        }
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let tokens = self.shared.tokens.as_ref();
        let found = match tokens.ok_or("no source of tokens")?.token() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "no token for the brokers"
                );
                return Err(error);
            }
        };
        let since = found.expires.duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(OAuthToken {
            token: found.token.expose().to_owned(),
            principal_name: found.principal,
            lifetime_ms: i64::try_from(since.as_millis())?,
        })
    }
}

impl ConsumerContext for Context {}

/// Properties of every client.
fn client(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", options.brokers.join(","))
        .set("client.id", "hoop")
        .set("socket.keepalive.enable", "true")
        .set("socket.timeout.ms", "30000")
        .set("socket.connection.setup.timeout.ms", "10000")
        // Its own 10 s would be most of the time that a broker needs to start.
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", METADATA_EVERY_MS)
        .set("debug", "metadata")
        .set_log_level(RDKafkaLogLevel::Debug);
    for (name, value) in options.security.properties() {
        config.set(name, value);
    }
    config
}

/// Adds the properties that the user chose and that mean something to this kind of client.
fn chosen(config: &mut ClientConfig, options: &Options, other_kind: &[&str]) {
    for (name, value) in &options.properties {
        if !other_kind.iter().any(|prefix| name.starts_with(prefix)) {
            config.set(name, value);
        }
    }
}

/// A client that asks questions. Of the consuming kind, since one that produces would have topics created by asking.
pub(crate) fn asking(options: &Options) -> ClientConfig {
    let mut config = client(options);
    config.set("allow.auto.create.topics", "false");
    config.set("isolation.level", "read_committed");
    chosen(
        &mut config,
        options,
        &[
            "batch.",
            "compression.",
            "request.",
            "fetch.",
            "max.",
            "queued.",
        ],
    );
    config
}

/// A client for administrators.
pub(crate) fn administrating(options: &Options) -> ClientConfig {
    let mut config = client(options);
    // Nobody reads its log.
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config.remove("debug");
    chosen(
        &mut config,
        options,
        &[
            "batch.",
            "compression.",
            "request.",
            "fetch.",
            "max.",
            "queued.",
        ],
    );
    config
}

/// A client that produces: idempotent, acknowledged by all copies in sync, for as long as it takes.
pub(crate) fn producing(options: &Options) -> ClientConfig {
    let in_flight = options.in_flight_bytes_max;
    let mut config = client(options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("compression.type", "zstd")
        .set("linger.ms", BATCH_LINGER)
        .set("message.max.bytes", options.message_bytes_max().to_string())
        .set(
            "queue.buffering.max.messages",
            (in_flight / EVENT_OVERHEAD * QUEUE_SLACK).to_string(),
        )
        .set(
            "queue.buffering.max.kbytes",
            (in_flight / 1024 * QUEUE_SLACK).to_string(),
        );
    chosen(&mut config, options, &["fetch.", "max.", "queued."]);
    config
}

/// A client that reads one shard from a position of ours.
pub(crate) fn consuming(options: &Options) -> ClientConfig {
    let mut config = client(options);
    config
        .set("group.id", &options.lag_group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        // A new position waits for a fetch that is under way, so that one must not wait long for records.
        .set("fetch.wait.max.ms", "100")
        // Its own second of rest after a full queue would be most of the time.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set(
            "queued.max.messages.kbytes",
            (options.prefetch_bytes / 1024).max(1).to_string(),
        );
    chosen(
        &mut config,
        options,
        &["batch.", "compression.", "request."],
    );
    config
}
