//! One producer after another, and the thread that hears what became of the events.
//!
//! librdkafka's idempotent producer keeps the order of what it took and writes it once, over resends and changes of
//! leaders, until it meets an error after which it cannot know what the brokers have ("fatal"): it is then useless.
//! What it still had is answered with "may have been written", in order, and a new producer takes its place; the
//! brokers know it by another id, so copies are possible from there on, and the recorder drops them. Events appended
//! after the new producer is there are written after all that the old one had written, unless a request of the old
//! one was still under way in the network: that is a late copy of an event whose fate was not known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use hoop_schema::Shard;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{Message, client::OAuthToken};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::client::{Context, Shared};
use super::error::not_delivered;
use crate::log::cloudevents::{HEADERS, Header as Attribute};
use crate::log::{AppendError, AppendResult, Position};

/// How often a thread looks up from hearing what became of events.
const HEAR_FOR: Duration = Duration::from_millis(50);

/// Rest before a producer is tried to be made again that could not be.
const REBUILT_EVERY: Duration = Duration::from_secs(1);

/// What waits for the fate of one event.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) shard: Shard,
    pub(crate) bytes: usize,
    pub(crate) begun: Instant,
    pub(crate) answer: oneshot::Sender<AppendResult>,
}

/// Where the fates of events go.
pub(crate) trait Fates: Send + Sync + 'static {
    /// An event has its answer.
    fn decided(&self, waiting: Waiting, answer: AppendResult);

    /// The producer can do nothing more. Returns whether there is another one now.
    fn replace(self: Arc<Self>, reason: &Arc<Producer>) -> bool;
}

/// One producer.
pub(crate) struct Producer {
    inner: BaseProducer<Deliveries>,
    /// Nothing more is going to be sent, and what is under way may take until the end of this time.
    ending: AtomicBool,
}

/// The context of a producer.
pub(crate) struct Deliveries {
    context: Context,
    fates: Weak<dyn Fates>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    /// Makes one and its thread, which lets the events on their way go on for `end_within` once it is to end.
    pub(crate) fn start(
        config: &ClientConfig,
        shared: &Shared,
        fates: Weak<dyn Fates>,
        end_within: Duration,
    ) -> Result<Arc<Self>, StartError> {
        let deliveries = Deliveries {
            context: Context::new(shared),
            fates: Weak::clone(&fates),
        };
        let producer = Arc::new(Self {
            inner: config.create_with_context(deliveries)?,
            ending: AtomicBool::new(false),
        });
        let hearing = Arc::clone(&producer);
        thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || hearing.hear(&fates, end_within))?;
        Ok(producer)
    }

    /// Hands over an event. Does not block.
    pub(crate) fn send(
        &self,
        topic: &str,
        key: &str,
        attributes: &[Attribute<'_>; HEADERS],
        value: &[u8],
        waiting: Box<Waiting>,
    ) -> Result<(), (KafkaError, Box<Waiting>)> {
        let headers = attributes.iter().fold(
            OwnedHeaders::new_with_capacity(HEADERS),
            |headers, (key, value)| {
                let value = Some(value.as_bytes());
                headers.insert(Header { key, value })
            },
        );
        let shard = i32::try_from(waiting.shard.0).unwrap_or(i32::MAX);
        let record = BaseRecord::with_opaque_to(topic, waiting)
            .partition(shard)
            .key(key)
            .headers(headers)
            .payload(value);
        let sent = self.inner.send(record);
        sent.map_err(|(error, record)| {
            // The callback that tells of it may come later, or was lost.
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                self.inner.context().context.has_failed();
            }
            (error, record.delivery_opaque)
        })
    }

    /// Gives up on all that has no answer; the answers come from the thread.
    pub(crate) fn purge(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }

    /// Lets the thread end, and with it the producer.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    fn is_fatal(&self) -> bool {
        self.inner.context().context.is_fatal()
    }

    fn hear(self: Arc<Self>, fates: &Weak<dyn Fates>, end_within: Duration) {
        loop {
            self.inner.poll(HEAR_FOR);
            if self.is_fatal() {
                if let Some(fates) = fates.upgrade()
                    && !self.ending.load(Ordering::Acquire)
                    && !fates.replace(&self)
                {
                    thread::sleep(REBUILT_EVERY);
                    continue;
                }
                self.purge();
                break;
            }
            if self.ending.load(Ordering::Acquire) || fates.strong_count() == 0 {
                if let Err(error) = self.inner.flush(end_within) {
                    tracing::warn!(%error, "events were not acknowledged before the end");
                    self.purge();
                }
                break;
            }
        }
        // The answers of what was given up.
        self.inner.poll(HEAR_FOR);
    }
}

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the options make no producer")]
    Client(#[from] KafkaError),
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        let answer = match result {
            // Without an offset the brokers took it for a copy of one that they have and no longer know where.
            Ok(message) => u64::try_from(message.offset()).map(Position).map_err(|_| {
                AppendError::Unknown("the brokers do not say at which offset they have it".into())
            }),
            Err((error, _)) => Err(not_delivered(error.rdkafka_error_code())),
        };
        match self.fates.upgrade() {
            Some(fates) => fates.decided(*waiting, answer),
            // Whoever appended may still wait, though the log is gone.
            None => drop(waiting.answer.send(answer)),
        }
    }
}
