//! A log on a broker, with an embedded log before it: what the broker cannot take now is durable here, and shipped in
//! order once it can.
//!
//! Every event goes into the spool first, and from there to the broker: one way, whether the broker is up or down, so
//! that the order of calls is the order on the broker and no switch can go wrong. What differs is the answer. An event
//! for which the spool is good enough ([`Outgoing::spool`]) has it when the spool is synced; any other when the broker
//! has acknowledged it.
//!
//! - **The broker is down**: events for which the spool is good enough go on being taken, until the spool is full; the
//!   others wait, and whoever waits for them gives up. Both are shipped later: an intent that nobody acted upon is then
//!   an intent without an effect, as after any lost answer.
//! - **This process dies**: the next one ships from what the broker had acknowledged, by the file `committed` of the
//!   spool. What was acknowledged and not yet noted there is sent twice under the same id.
//! - **The broker refuses one of a batch**: the others may be there. All from the first refused on are sent again, so
//!   each is there behind those before it; the copies have the same ids.
//!
//! The positions that appends answer with are those of the spool. All shards share one sequence in the spool: a batch is
//! one sync, however many shards the broker has.

mod metrics;
mod record;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use hoop_schema::{Class, Shard};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use metrics::Metrics;

use self::metrics::LogMetrics;
use self::record::read_back;
use super::embedded::EmbeddedLog;
use super::{
    AppendError, Appending, EventReader, EventWriter, LogRecord, Outgoing, Position, ReadError,
};

/// The one shard of a spool.
const SPOOL: Shard = Shard(0);

/// Bytes of events that are read back and sent at once: what a fast network carries in the time of a replicated write.
const BATCH_BYTES: usize = 4 << 20;

/// How long one look for new events lasts.
const READ_WAIT: Duration = Duration::from_secs(1);

/// Waiting times between attempts, doubling: a broker that is back is noticed soon, one that is away is not pressed.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long closing waits for the broker to take what is left. The rest stays in the spool for the next start.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Why an event of a closed log has no answer from the broker.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(
        "the log was closed before the broker acknowledged the event; it is shipped from the spool at the next start"
    )]
    InSpool,
    #[error("there is no shard {0}; the log has {1}")]
    NoSuchShard(Shard, u32),
}

/// The appending end of a log with a spool.
#[derive(Debug)]
pub struct SpooledWriter {
    spool: Arc<EmbeddedLog>,
    broker: Arc<dyn EventWriter>,
    /// Everything before this position of the spool has been acknowledged by the broker; the sender goes with the task.
    shipped: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl SpooledWriter {
    /// Puts `spool`, a log of one shard and the same class, before `broker`, and begins to ship what is in it. Has to be
    /// called on a runtime.
    ///
    /// # Panics
    /// When the spool has more than one shard: it could not be shipped in order.
    pub fn new(spool: Arc<EmbeddedLog>, broker: Arc<dyn EventWriter>, metrics: &Metrics) -> Self {
        assert_eq!(EventWriter::shards(&*spool), 1, "a spool has one shard");
        let metrics = metrics.of(broker.class());
        let from = spool.committed_before(SPOOL);
        let (ship, shipped) = watch::channel(from);
        let (stop, stopping) = watch::channel(false);
        let shipper = Shipper {
            spool: Arc::clone(&spool),
            broker: Arc::clone(&broker),
            from,
            shipped: ship,
            stopping,
            metrics,
        };
        Self {
            spool,
            broker,
            shipped,
            stop,
            task: Mutex::new(Some(tokio::spawn(shipper.run()))),
        }
    }
}

#[async_trait]
impl EventWriter for SpooledWriter {
    fn class(&self) -> &Class {
        self.broker.class()
    }

    fn shards(&self) -> u32 {
        self.broker.shards()
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        let shards = self.broker.shards();
        if shard.0 >= shards {
            let error = AppendError::Terminal(Left::NoSuchShard(shard, shards).into());
            return Box::pin(std::future::ready(Err(error)));
        }
        let is_enough = event.spool;
        let appending = self.spool.append(SPOOL, event);
        let mut shipped = self.shipped.clone();
        Box::pin(async move {
            let position = appending.await?;
            if is_enough {
                return Ok(position);
            }
            match shipped.wait_for(|before| *before > position.0).await {
                Ok(_) => Ok(position),
                Err(_) => Err(AppendError::Unknown(Left::InSpool.into())),
            }
        })
    }

    async fn ready(&self) -> Result<(), AppendError> {
        self.spool.ready().await
    }

    async fn close(&self) {
        EventWriter::close(&*self.spool).await;
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(class = self.class().as_str(), %error, "shipping from the spool broke off");
        }
        self.broker.close().await;
    }
}

/// The task that sends what is in the spool.
struct Shipper {
    spool: Arc<EmbeddedLog>,
    broker: Arc<dyn EventWriter>,
    /// The first position that the broker has not acknowledged.
    from: u64,
    shipped: watch::Sender<u64>,
    stopping: watch::Receiver<bool>,
    metrics: LogMetrics,
}

impl Shipper {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut until: Option<Instant> = None;
        loop {
            if *self.stopping.borrow() {
                let until = *until.get_or_insert_with(|| Instant::now() + CLOSE_WAIT);
                if Instant::now() >= until {
                    tracing::warn!(
                        class = self.broker.class().as_str(),
                        from = self.from,
                        "the broker did not take all in time; the rest is shipped at the next start"
                    );
                    return;
                }
            }
            let wait = if until.is_some() {
                Duration::ZERO
            } else {
                READ_WAIT
            };
            let read = tokio::select! {
                read = self.spool.read(SPOOL, Position(self.from), BATCH_BYTES, wait) => read,
                _ = self.stopping.changed(), if until.is_none() => continue,
            };
            let before = self.from;
            let sent = match read {
                Ok(records) if records.is_empty() && until.is_some() => return,
                Ok(records) => self.ship(records).await,
                Err(error) => Err(Trouble::Read(error)),
            };
            match sent {
                Ok(()) => pause = PAUSE_MIN,
                Err(trouble) => {
                    self.metrics.failures.inc();
                    if self.from > before {
                        pause = PAUSE_MIN;
                    }
                    tracing::warn!(class = self.broker.class().as_str(), from = self.from, %trouble, "cannot ship from the spool; trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            self.count().await;
        }
    }

    /// Sends records, all of them at once, and notes how far the broker has them without a hole.
    async fn ship(&mut self, records: Vec<LogRecord>) -> Result<(), Trouble> {
        let mut sent = Vec::with_capacity(records.len());
        for record in records {
            let next = record.position.0 + 1;
            match read_back(record.bytes) {
                Ok((shard, event)) => {
                    let appending = self.broker.append(shard, event);
                    sent.push((next, Some(appending)));
                }
                Err(error) => {
                    tracing::error!(class = self.broker.class().as_str(), position = next - 1, %error, "a record of the spool is no event and cannot be shipped; it is left out");
                    sent.push((next, None));
                }
            }
        }
        // Everything has its answer before anything is sent again: nothing may overtake from behind.
        let answers = join_all(sent.into_iter().map(async |(next, appending)| {
            let answer = match appending {
                Some(appending) => appending.await.map(|_| ()),
                None => Ok(()),
            };
            (next, answer)
        }))
        .await;
        let before = self.from;
        let mut result = Ok(());
        for (next, answer) in answers {
            match answer {
                Ok(()) => self.from = next,
                Err(error) => {
                    result = Err(Trouble::Append(error));
                    break;
                }
            }
        }
        if self.from > before {
            self.metrics.shipped.inc_by(self.from - before);
            self.spool.committed(SPOOL, Position(self.from)).await;
            self.shipped.send_replace(self.from);
        }
        result
    }

    async fn count(&self) {
        if let Ok(bounds) = self.spool.bounds(SPOOL).await {
            let waiting = bounds.next.0.saturating_sub(self.from.max(1));
            self.metrics
                .waiting
                .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }
}

/// Why nothing could be shipped.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the spool cannot be read: {0}")]
    Read(ReadError),
    #[error("{0}: {cause}", cause = std::error::Error::source(.0).map(ToString::to_string).unwrap_or_default())]
    Append(AppendError),
}

#[cfg(test)]
mod tests;
