//! The appending end.
//!
//! ```text
//! append ──admit──▶ lingering (events nobody waits for) ──▶ librdkafka ──▶ brokers
//!                   a few milliseconds, or until one that    │
//!                   somebody waits for takes them along      └─ acknowledgement ─▶ position
//! ```
//! One lock is held from admission to the hand-over, which does not block; so the order of calls is the order in
//! librdkafka's queue of the shard.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{Class, Shard};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rdkafka::config::ClientConfig;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::client;
use super::error::{OpenError, Refusal, not_taken};
use super::in_flight::InFlight;
use super::metrics::{LogMetrics, Metrics};
use super::options::Options;
use super::producer::{Fates, Producer, StartError, Waiting};
use super::topic::Topic;
use crate::log::cloudevents::{Binding, Origin};
use crate::log::{AppendError, AppendResult, Appending, EventWriter, Outgoing};

/// Writes the log of one class to its topic.
pub struct KafkaWriter {
    inner: Arc<Inner>,
}

struct Inner {
    class: Class,
    topic: Topic,
    origin: Origin,
    options: Options,
    config: ClientConfig,
    metrics: LogMetrics,
    state: Mutex<State>,
    /// Somebody lingers, or it is over.
    lingers: Condvar,
    /// Whether the log is closed and all has its answer.
    idle: watch::Sender<bool>,
}

struct State {
    /// Nothing before the log is open, and after it is closed.
    producer: Option<Arc<Producer>>,
    in_flight: InFlight,
    closed: bool,
    /// Events that wait for company, in order.
    lingering: Vec<Event>,
}

/// An event that was taken.
struct Event {
    outgoing: Outgoing,
    waiting: Box<Waiting>,
}

impl fmt::Debug for KafkaWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaWriter")
            .field("topic", &self.inner.topic.name)
            .finish_non_exhaustive()
    }
}

impl KafkaWriter {
    /// Finds or creates the topic of `class`, checks it, and opens it for appends.
    ///
    /// # Errors
    /// When an option cannot work, the brokers cannot be reached, or the topic is not as it must be.
    pub async fn open(class: Class, options: Options) -> Result<Self, OpenError> {
        Self::open_measured(class, options, &Metrics::default()).await
    }

    /// As [`KafkaWriter::open`], counted in `metrics`.
    ///
    /// # Errors
    /// As there.
    pub async fn open_measured(
        class: Class,
        options: Options,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let topic = Topic::open(&options, &class).await?;
        let config = client::producing(&options);
        Self::start(class, topic, options, config, metrics)
    }

    /// Opens a topic for appends that is as it must be.
    pub(super) fn start(
        class: Class,
        topic: Topic,
        options: Options,
        config: ClientConfig,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let in_flight = InFlight::new(
            options.shards.get(),
            options.in_flight_bytes_max,
            options.stalled_after,
            Instant::now(),
        );
        let inner = Arc::new(Inner {
            origin: Origin::new(Binding::Kafka, &options.cluster, class.clone()),
            metrics: metrics.of(&class),
            class,
            topic,
            options,
            config,
            state: Mutex::new(State {
                producer: None,
                in_flight,
                closed: false,
                lingering: Vec::new(),
            }),
            lingers: Condvar::new(),
            idle: watch::Sender::new(false),
        });
        let producer = inner.new_producer().map_err(|error| match error {
            StartError::Client(error) => OpenError::Client(error),
            StartError::Thread(error) => OpenError::Thread(error),
        })?;
        inner.state.lock().producer = Some(producer);
        // Dropped on the way out of here, it ends the producer.
        let writer = Self { inner };
        let lingering = Arc::clone(&writer.inner);
        thread::Builder::new()
            .name("kafka-linger".to_owned())
            .spawn(move || lingering.linger())
            .map_err(OpenError::Thread)?;
        Ok(writer)
    }
}

impl Inner {
    fn new_producer(self: &Arc<Self>) -> Result<Arc<Producer>, StartError> {
        let inner: Arc<dyn Fates> = Arc::<Self>::clone(self);
        let fates = Arc::downgrade(&inner);
        Producer::start(
            &self.config,
            &self.topic.shared,
            fates,
            self.options.close_within,
        )
    }

    fn take(
        &self,
        shard: Shard,
        outgoing: Outgoing,
    ) -> Result<oneshot::Receiver<AppendResult>, AppendError> {
        let (bytes, bytes_max) = (outgoing.bytes.len(), self.options.record_bytes_max);
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed.terminal());
        }
        self.topic
            .shared
            .ids
            .check()
            .map_err(|e| Refusal::from(e).terminal())?;
        if bytes > bytes_max {
            return Err(Refusal::TooLarge { bytes, bytes_max }.terminal());
        }
        state
            .in_flight
            .admit(shard, bytes, now)
            .map_err(|refusal| match refusal {
                Refusal::NoSuchShard(_) => refusal.terminal(),
                _ => refusal.retryable(),
            })?;
        self.count_in_flight(&state);
        let (answer, receiver) = oneshot::channel();
        let linger = outgoing.linger && !self.options.linger.is_zero();
        state.lingering.push(Event {
            outgoing,
            waiting: Box::new(Waiting {
                shard,
                bytes,
                begun: now,
                answer,
            }),
        });
        if !linger {
            self.send_all(&mut state);
        } else if state.lingering.len() == 1 {
            self.lingers.notify_one();
        }
        Ok(receiver)
    }

    /// Hands over what waits, in order.
    fn send_all(&self, state: &mut MutexGuard<'_, State>) {
        for event in std::mem::take(&mut state.lingering) {
            self.send(state, event);
        }
    }

    fn send(&self, state: &mut MutexGuard<'_, State>, event: Event) {
        let Event { outgoing, waiting } = event;
        let Some(producer) = &state.producer else {
            self.answer(state, *waiting, Err(Refusal::Ended.retryable()));
            return;
        };
        let attributes = self.origin.headers(&outgoing);
        let key = outgoing.session_id.to_string();
        let value: &Bytes = &outgoing.bytes;
        if let Err((error, waiting)) =
            producer.send(&self.topic.name, &key, &attributes, value, waiting)
        {
            let refused = not_taken(error.rdkafka_error_code());
            self.answer(state, *waiting, Err(refused));
        }
    }

    fn answer(&self, state: &mut MutexGuard<'_, State>, waiting: Waiting, answer: AppendResult) {
        let now = Instant::now();
        state.in_flight.answered(waiting.shard, waiting.bytes, now);
        self.count_in_flight(state);
        match &answer {
            Ok(_) => {
                self.metrics.records.inc();
                self.metrics.bytes.inc_by(waiting.bytes as u64);
                let took = now.saturating_duration_since(waiting.begun);
                self.metrics.acknowledge_seconds.observe(took.as_secs_f64());
            }
            Err(AppendError::Unknown(_)) => {
                self.metrics.unknown.inc();
            }
            Err(_) => {
                self.metrics.refused.inc();
            }
        }
        // Whoever dropped the receiver does not want to know.
        drop(waiting.answer.send(answer));
        if state.closed && state.in_flight.is_empty() {
            self.idle.send_replace(true);
        }
    }

    fn count_in_flight(&self, state: &State) {
        let bytes = i64::try_from(state.in_flight.bytes()).unwrap_or(i64::MAX);
        self.metrics.in_flight_bytes.set(bytes);
    }

    /// Sends what has waited long enough, until the log is closed.
    fn linger(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.lingering.is_empty() {
                self.lingers.wait(&mut state);
                continue;
            }
            let first = state.lingering.first().map(|event| event.waiting.begun);
            let due = first.map_or_else(Instant::now, |begun| begun + self.options.linger);
            let now = Instant::now();
            if due <= now {
                self.send_all(&mut state);
            } else {
                self.lingers.wait_for(&mut state, due - now);
            }
        }
    }

    /// Takes no more events, and lets those that linger go.
    fn shut(&self) {
        let mut state = self.state.lock();
        self.send_all(&mut state);
        state.closed = true;
        if state.in_flight.is_empty() {
            self.idle.send_replace(true);
        }
        self.lingers.notify_one();
    }

    fn producer(&self) -> Option<Arc<Producer>> {
        self.state.lock().producer.clone()
    }

    /// What can be said about readiness without asking anybody.
    fn check(&self) -> Result<(), AppendError> {
        let state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed.terminal());
        }
        self.topic
            .shared
            .ids
            .check()
            .map_err(|e| Refusal::from(e).terminal())?;
        state
            .in_flight
            .check_all(Instant::now())
            .map_err(Refusal::retryable)
    }
}

impl Fates for Inner {
    fn decided(&self, waiting: Waiting, answer: AppendResult) {
        let mut state = self.state.lock();
        self.answer(&mut state, waiting, answer);
    }

    fn replace(self: Arc<Self>, failed: &Arc<Producer>) -> bool {
        let producer = match self.new_producer() {
            Ok(producer) => producer,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no new producer");
                return false;
            }
        };
        self.metrics.rebuilt.inc();
        let mut state = self.state.lock();
        let is_current = state
            .producer
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, failed));
        if is_current {
            tracing::warn!(
                topic = &*self.topic.name,
                "a new producer takes the place of one that failed"
            );
            state.producer = Some(producer);
        } else {
            producer.end();
        }
        true
    }
}

impl Drop for KafkaWriter {
    /// What was taken is still sent, for as long as closing would wait, by a thread that ends then.
    fn drop(&mut self) {
        self.inner.shut();
        let producer = self.inner.state.lock().producer.take();
        if let Some(producer) = producer {
            producer.end();
        }
    }
}

#[async_trait]
impl EventWriter for KafkaWriter {
    fn class(&self) -> &Class {
        &self.inner.class
    }

    fn shards(&self) -> u32 {
        self.inner.options.shards.get()
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        let receiver = match self.inner.take(shard, event) {
            Ok(receiver) => receiver,
            Err(error) => {
                self.inner.metrics.refused.inc();
                return Box::pin(ready(Err(error)));
            }
        };
        let within = self.inner.options.answer_within;
        let until = Instant::now() + within;
        Box::pin(async move {
            match timeout_at(until, receiver).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(AppendError::Unknown(Refusal::Ended.into())),
                Err(_) => Err(AppendError::Unknown(Refusal::NoAnswer(within).into())),
            }
        })
    }

    async fn ready(&self) -> Result<(), AppendError> {
        self.inner.check()?;
        let asker = Arc::clone(&self.inner.topic.asker);
        let described = spawn_blocking(move || asker.describe()).await;
        let described = described.map_err(|e| AppendError::Retryable(e.into()))?;
        let described = described.map_err(|e| Refusal::Unreachable(e).retryable())?;
        self.inner.check()?;
        let partitions = described.unwrap_or_default().partitions;
        let wanted = self.inner.options.in_sync_replicas_min.get();
        for shard in 0..self.shards() {
            let partition = partitions.get(shard as usize);
            let shard = Shard(shard);
            let partition = partition.filter(|partition| partition.leader.is_some());
            let partition = partition.ok_or_else(|| Refusal::NoLeader { shard }.retryable())?;
            let found = partition.in_sync.len();
            if found < wanted as usize {
                return Err(Refusal::OutOfSync {
                    shard,
                    found,
                    wanted,
                }
                .retryable());
            }
        }
        Ok(())
    }

    async fn close(&self) {
        self.inner.shut();
        let mut idle = self.inner.idle.subscribe();
        if timeout(self.inner.options.close_within, idle.wait_for(|idle| *idle))
            .await
            .is_err()
        {
            tracing::warn!(
                topic = &*self.inner.topic.name,
                "the brokers did not acknowledge everything before the end"
            );
            if let Some(producer) = self.inner.producer() {
                producer.purge();
            }
            // The thread of the producer gives these answers at once.
            drop(idle.wait_for(|idle| *idle).await);
        }
        let producer = self.inner.state.lock().producer.take();
        if let Some(producer) = producer {
            producer.end();
        }
    }
}
