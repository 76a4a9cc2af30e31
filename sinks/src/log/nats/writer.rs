//! The appending end.

use std::future::ready;
use std::sync::Arc;

use async_nats::{Client, HeaderMap, Message, PublishErrorKind, Subscriber};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use hoop_schema::{Class, Shard, SourceId};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, MissedTickBehavior};

use super::ack::{self, Reason};
use super::connect::{self, Connection};
use super::error::{OpenError, Refusal, Shared};
use super::flight::{Answer, Fate, Flight, Limits, Ticket};
use super::metrics::{Metrics, WriterMetrics};
use super::options::{Options, PUBLISHES_MAX};
use super::queue::{EndOnDrop, Queue, Taken};
use super::stream::{self, Names};
use crate::log::cloudevents::{Binding, Origin};
use crate::log::{AppendError, Appending, EventWriter, Outgoing};

/// How often overdue answers are looked for: a fraction of any sensible time-out.
const TICK: Duration = Duration::from_millis(50);

/// The first pause before an event is sent again, and between attempts to connect.
const BACKOFF: Duration = Duration::from_millis(50);

/// The header that JetStream knows an event by when it comes again.
const MSG_ID: &str = "Nats-Msg-Id";

/// The writer of one class's log.
#[derive(Debug)]
pub struct Writer {
    class: Class,
    options: Arc<Options>,
    names: Names,
    queue: Arc<Queue>,
    /// The connection of the moment.
    client: watch::Receiver<Option<Client>>,
    /// Turns true when the task has ended.
    ended: watch::Receiver<bool>,
}

impl Writer {
    /// Connects, finds or creates the stream of `class`, and checks it.
    ///
    /// # Errors
    /// When no server lets us in, an option cannot work, or the server or the stream is not fit for an event log; the
    /// error says what to do.
    pub async fn open(class: Class, options: Options) -> Result<Self, OpenError> {
        Self::open_measured(class, options, &Metrics::default()).await
    }

    /// As [`Writer::open`], counted in `metrics`.
    ///
    /// # Errors
    /// As there.
    pub async fn open_measured(
        class: Class,
        options: Options,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let options = Arc::new(options);
        let names = Names::new(&options.cluster, &class);
        let metrics = metrics.of(&class);
        let link = Link::make(&options, &names).await?;
        metrics.connections.inc();
        let queue = Arc::new(Queue::new(
            options.shards.get(),
            options.queue_bytes_max,
            options.record_bytes_max,
        ));
        let limits = Limits {
            bytes_max: options.inflight_bytes_max,
            publishes_max: PUBLISHES_MAX,
            ack_timeout: options.ack_timeout,
            append_timeout: options.append_timeout,
            backoff: BACKOFF,
        };
        let (end, ended) = watch::channel(false);
        let (show_client, client) = watch::channel(Some(link.client.clone()));
        let task = Task {
            _end: EndOnDrop(Arc::clone(&queue)),
            flight: Flight::new(options.shards.get(), limits),
            origin: Origin::new(Binding::Nats, &options.cluster, class.clone()),
            options: Arc::clone(&options),
            names: names.clone(),
            queue: Arc::clone(&queue),
            metrics,
            show_client,
            source: link.source,
            heard: Instant::now(),
            is_overdue: false,
        };
        tokio::spawn(async move {
            task.run(link).await;
            end.send_replace(true);
        });
        Ok(Self {
            class,
            options,
            names,
            queue,
            client,
            ended,
        })
    }
}

impl Drop for Writer {
    /// What was taken is still sent, as long as the runtime lives.
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[async_trait]
impl EventWriter for Writer {
    fn class(&self) -> &Class {
        &self.class
    }

    fn shards(&self) -> u32 {
        self.options.shards.get()
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        match self.queue.append(shard, event) {
            Ok(fate) => Box::pin(fate.map(|fate| {
                // The task was dropped with its runtime: the event may have been sent.
                fate.unwrap_or_else(|_| Err(AppendError::Unknown(Refusal::Ended.into())))
            })),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    async fn ready(&self) -> Result<(), AppendError> {
        self.queue.ready()?;
        let retryable = |refusal: Refusal| AppendError::Retryable(refusal.into());
        let client = self.client.borrow().clone();
        let client = client.ok_or_else(|| retryable(Refusal::Disconnected))?;
        let stream = Arc::clone(&self.names.stream);
        let context = stream::context(client, &self.options);
        let found = match context.get_stream(&*stream).await {
            Ok(found) => found,
            Err(error) => {
                let source = Shared::new(error);
                return Err(retryable(Refusal::Unanswered { stream, source }));
            }
        };
        let info = found.cached_info();
        let (bytes, bytes_max) = (info.state.bytes, info.config.max_bytes);
        match u64::try_from(bytes_max) {
            Ok(bytes_max) if bytes_max > 0 && bytes >= bytes_max => {
                Err(retryable(Refusal::NoRoom {
                    stream,
                    bytes,
                    bytes_max,
                }))
            }
            _ => Ok(()),
        }
    }

    async fn close(&self) {
        self.queue.close();
        let mut ended = self.ended.clone();
        if ended.wait_for(|ended| *ended).await.is_err() {
            tracing::error!(class = %self.class, "the writer of the log has ended early");
        }
    }
}

/// A connection, and the subscription that all answers come on.
#[derive(Debug)]
struct Link {
    client: Client,
    lost: watch::Receiver<bool>,
    inbox: String,
    answers: Subscriber,
    source: SourceId,
}

impl Link {
    async fn make(options: &Options, names: &Names) -> Result<Self, OpenError> {
        let Connection { client, lost } = connect::once(options).await?;
        let source = stream::open(&client, names, options).await?;
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.>")).await;
        let answers = answers.map_err(|error| OpenError::Request {
            what: "listen to the answers of",
            stream: names.stream.to_string(),
            source: error.into(),
        })?;
        Ok(Self {
            client,
            lost,
            inbox,
            answers,
            source,
        })
    }

    /// The next answers, at least one; `None` when the connection is lost.
    async fn answers(&mut self) -> Option<Vec<Message>> {
        let first = tokio::select! {
            message = self.answers.next() => message?,
            _ = self.lost.wait_for(|lost| *lost) => return None,
        };
        let mut messages = vec![first];
        while messages.len() < PUBLISHES_MAX
            && let Some(Some(message)) = self.answers.next().now_or_never()
        {
            messages.push(message);
        }
        Some(messages)
    }
}

/// The one task that sends.
struct Task {
    options: Arc<Options>,
    names: Names,
    origin: Origin,
    queue: Arc<Queue>,
    flight: Flight<Taken, Reason>,
    metrics: WriterMetrics,
    show_client: watch::Sender<Option<Client>>,
    source: SourceId,
    /// When the server last said something, or was first asked after a pause.
    heard: Instant,
    /// Whether an answer has stayed away since then.
    is_overdue: bool,
    _end: EndOnDrop,
}

impl Task {
    async fn run(mut self, link: Link) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut link = Some(link);
        loop {
            if link.is_none() {
                link = self.reconnect(&mut ticks).await;
            }
            let Some(live) = &mut link else { return };
            self.step();
            let is_sent = self.send(live).await;
            if self.is_over() {
                return;
            }
            let is_alive = is_sent
                && tokio::select! {
                    answers = live.answers() => self.hear(answers),
                    () = self.queue.filled.notified() => true,
                    _ = ticks.tick() => true,
                };
            if !is_alive || self.is_silent() {
                tracing::warn!(
                    stream = &*self.names.stream,
                    "the connection to NATS is lost"
                );
                link = None;
                self.show_client.send_replace(None);
                self.flight.disconnected(Instant::now());
            }
        }
    }

    /// Takes what is there to take, lets time pass, and tells fates.
    fn step(&mut self) {
        let now = Instant::now();
        for (shard, taken) in self.queue.take() {
            let cost = taken.cost();
            self.flight.push(shard.0, taken, cost, now);
        }
        self.is_overdue |= self.flight.tick(now);
        self.tell();
    }

    fn is_over(&self) -> bool {
        self.queue.is_over() && self.flight.is_empty()
    }

    /// Whether the server owes answers and has said nothing for so long that another one should be tried.
    fn is_silent(&self) -> bool {
        self.is_overdue && self.heard.elapsed() >= self.options.ack_timeout
    }

    /// Sends all that may be sent. Says whether the connection still takes it.
    async fn send(&mut self, link: &Link) -> bool {
        while let Some(ticket) = self.flight.next_send(Instant::now()) {
            if self.flight.publishes() == 1 {
                self.heard = Instant::now();
            }
            let Some(taken) = self.flight.event(ticket) else {
                continue;
            };
            let event = &taken.event;
            let subject = self.names.of_event(ticket.shard, event.kind);
            let reply = ack::reply_subject(&link.inbox, ticket);
            let (headers, bytes) = (self.headers(event), event.bytes.clone());
            self.metrics.sent.inc();
            let publish = link
                .client
                .publish_with_reply_and_headers(subject, reply, headers, bytes);
            match tokio::time::timeout(self.options.ack_timeout, publish).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() != PublishErrorKind::Send => {
                    self.refuse(ticket, &error);
                }
                // It was not handed over, and nothing that follows will be.
                Ok(Err(_)) | Err(_) => {
                    self.flight.answered(ticket, Answer::Busy, Instant::now());
                    return false;
                }
            }
        }
        let inflight = i64::try_from(self.flight.publishes()).unwrap_or(i64::MAX);
        self.metrics.inflight.set(inflight);
        true
    }

    fn refuse(&mut self, ticket: Ticket, error: &async_nats::PublishError) {
        let reason = Reason::Never(Refusal::Broker {
            stream: Arc::clone(&self.names.stream),
            said: error.to_string(),
        });
        let now = Instant::now();
        self.flight.answered(ticket, Answer::Refused(reason), now);
    }

    fn headers(&self, event: &Outgoing) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.origin.headers(event) {
            if name == "ce-id" {
                headers.insert(MSG_ID, &*value);
            }
            headers.insert(name, &*value);
        }
        headers
    }

    /// Takes answers. Says whether the connection is still there.
    fn hear(&mut self, answers: Option<Vec<Message>>) -> bool {
        let Some(answers) = answers else {
            return false;
        };
        let now = Instant::now();
        self.heard = now;
        self.is_overdue = false;
        for message in answers {
            if let Some(ticket) = ack::ticket_of(&message.subject) {
                let answer = ack::read(&message, &self.names.stream);
                self.flight.answered(ticket, answer, now);
            }
        }
        self.tell();
        true
    }

    /// Tells callers what became of their events.
    fn tell(&mut self) {
        while let Some((taken, fate)) = self.flight.next_resolved() {
            let stream = || Arc::clone(&self.names.stream);
            let answer = match fate {
                Fate::Written(sequence) => {
                    self.metrics
                        .written(taken.event.bytes.len(), taken.since.elapsed());
                    Ok(sequence)
                }
                Fate::Refused(Reason::Never(refusal)) => Err(AppendError::Terminal(refusal.into())),
                Fate::Refused(Reason::Full(refusal)) => Err(AppendError::Retryable(refusal.into())),
                Fate::Late => {
                    let refusal = Refusal::Late { stream: stream() };
                    Err(AppendError::Retryable(refusal.into()))
                }
                Fate::Unknown => {
                    let refusal = Refusal::Unacknowledged { stream: stream() };
                    Err(AppendError::Unknown(refusal.into()))
                }
            };
            match &answer {
                Ok(_) => {}
                Err(AppendError::Unknown(_)) => {
                    self.metrics.unknown.inc();
                }
                Err(_) => {
                    self.metrics.refused.inc();
                }
            }
            self.queue.answer(taken, answer);
        }
    }

    /// Connects again, for as long as it takes, while events are taken and given up in time. `None` when there is
    /// nothing left to do.
    async fn reconnect(&mut self, ticks: &mut tokio::time::Interval) -> Option<Link> {
        let (options, names) = (Arc::clone(&self.options), self.names.clone());
        let mut connecting = Box::pin(async move {
            let mut backoff = BACKOFF;
            loop {
                match Link::make(&options, &names).await {
                    Ok(link) => return link,
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(stream = &*names.stream, %error, cause, "cannot reach the event log");
                    }
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(options.request_timeout);
            }
        });
        loop {
            self.step();
            if self.is_over() {
                return None;
            }
            tokio::select! {
                link = &mut connecting => {
                    self.connected(&link);
                    return Some(link);
                }
                () = self.queue.filled.notified() => {}
                _ = ticks.tick() => {}
            }
        }
    }

    fn connected(&mut self, link: &Link) {
        tracing::info!(
            stream = &*self.names.stream,
            "connected to the event log again"
        );
        self.metrics.connections.inc();
        self.heard = Instant::now();
        self.is_overdue = false;
        if link.source != self.source {
            tracing::error!(
                stream = &*self.names.stream,
                was = %self.source,
                is = %link.source,
                "the stream was created anew: what nobody had recorded of the old one is lost"
            );
            self.source = link.source;
        }
        self.show_client.send_replace(Some(link.client.clone()));
    }
}
