//! The shell around one core: reads the log, lets time pass, answers requests to flush.
//!
//! `commit` puts what the core hands out, `count` says how it goes.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hoop_schema::{Class, Shard, Timestamp};
use hoop_sinks::log::{EventReader, LogRecord, Position, ReadError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::back_off::BackOff;
use crate::core::{Action, Core, Counts};
use crate::metrics::ShardLabels;
use crate::resume::newest_file;
use crate::shared::Shared;

mod commit;
mod count;

/// Bytes of events read at once: so few that the work on them does not hold up others on the same thread.
const READ_BYTES: usize = 512 * 1024;

/// How long a read waits for records; the core's clock ticks as often.
const READ_WAIT: Duration = Duration::from_secs(1);

/// A request to commit what the log holds, and whom to tell.
pub(crate) type FlushRequest = oneshot::Sender<()>;

/// One shard of one class.
pub(crate) struct ShardTask {
    shared: Arc<Shared>,
    reader: Arc<dyn EventReader>,
    class: Class,
    shard: Shard,
    labels: ShardLabels,
    core: Core,
    /// What of the core is in the shared count.
    buffered: usize,
    counted: Counts,
    requests: mpsc::Receiver<FlushRequest>,
    flushing: Vec<(Position, FlushRequest)>,
    newest_log_ts: Option<Timestamp>,
}

impl ShardTask {
    /// Finds out where the shard goes on, however long the store takes to answer.
    pub(crate) async fn resume(
        shared: Arc<Shared>,
        reader: Arc<dyn EventReader>,
        shard: Shard,
        requests: mpsc::Receiver<FlushRequest>,
    ) -> Self {
        let class = reader.class().clone();
        let labels = ShardLabels::new(&class, shard);
        let mut pause = BackOff::default();
        let newest = loop {
            match newest_file(
                &*shared.store,
                reader.source(),
                &class,
                shard,
                shared.clock.now(),
            )
            .await
            {
                Ok(newest) => break newest,
                Err(e) => {
                    shared.metrics.stalled.get_or_create(&labels).set(1);
                    pause
                        .wait("cannot find out where a shard goes on", &e, &class, shard)
                        .await;
                }
            }
        };
        shared.metrics.stalled.get_or_create(&labels).set(0);
        let core = Core::new(
            &shared.config,
            shared.epoch,
            reader.source(),
            &class,
            shard,
            newest,
        );
        reader.committed(shard, core.position()).await;
        tracing::info!(%class, %shard, position = %core.position(), "recording a shard");
        Self {
            shared,
            reader,
            class,
            shard,
            labels,
            core,
            buffered: 0,
            counted: Counts::default(),
            requests,
            flushing: Vec::new(),
            newest_log_ts: None,
        }
    }

    /// Records until `stop` says so, then commits what it holds.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = BackOff::default();
        loop {
            let (position, wait) = (self.core.position(), self.wait());
            let read = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                request = next_request(&mut self.requests) => {
                    self.flush_requested(request).await;
                    continue;
                }
                read = self.reader.read(self.shard, position, READ_BYTES, wait) => read,
            };
            let stalled = match read {
                Ok(records) => {
                    self.take(records).await;
                    pause = BackOff::default();
                    false
                }
                Err(ReadError::Expired { wanted, first }) => {
                    tracing::error!(class = %self.class, shard = %self.shard, %wanted, %first, "the log dropped records before they were recorded");
                    self.core.expired(first);
                    false
                }
                Err(e) => {
                    self.let_time_pass(false).await;
                    tokio::select! {
                        () = stopped(&mut stop) => break,
                        () = pause.wait("cannot read the log", &e, &self.class, self.shard) => true,
                    }
                }
            };
            self.shared
                .metrics
                .stalled
                .get_or_create(&self.labels)
                .set(i64::from(stalled));
        }
        self.flush().await;
        tracing::info!(class = %self.class, shard = %self.shard, position = %self.core.position(), "a shard is committed");
    }

    /// A flush that is asked for need not wait for records that may never come.
    fn wait(&self) -> Duration {
        if self.flushing.is_empty() {
            READ_WAIT
        } else {
            Duration::ZERO
        }
    }

    async fn flush_requested(&mut self, done: FlushRequest) {
        match self.reader.bounds(self.shard).await {
            Ok(bounds) => self.flushing.push((bounds.next, done)),
            // Without bounds, everything until the log is read to its end.
            Err(_) => self.flushing.push((Position(u64::MAX), done)),
        }
    }

    /// Takes what was read; nothing means that the log is read to its end.
    async fn take(&mut self, records: Vec<LogRecord>) {
        let caught_up = records.is_empty();
        for record in records {
            self.newest_log_ts = Some(record.log_ts);
            let actions = self.core.apply(record, self.shared.clock.now());
            self.act(actions).await;
        }
        self.let_time_pass(caught_up).await;
        let position = self.core.position();
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flushing)
            .into_iter()
            .partition(|(wanted, _)| caught_up || position >= *wanted);
        self.flushing = waiting;
        if !done.is_empty() || self.crowded() {
            self.flush().await;
        }
        // A rival's file may have put the shard back; then there is more to commit before the answer.
        if self.core.position() < position {
            self.flushing.extend(done);
            return;
        }
        for (_, done) in done {
            if done.send(()).is_err() {
                tracing::debug!("whoever asked for a flush has gone");
            }
        }
    }

    async fn let_time_pass(&mut self, caught_up: bool) {
        for tail in self.shared.tails.take(&self.class, self.shard) {
            self.core.tail(&tail);
        }
        let actions = self.core.tick(self.shared.clock.now(), caught_up);
        self.act(actions).await;
        self.count();
    }

    async fn flush(&mut self) {
        if let Some(action) = self.core.flush() {
            self.act(vec![action]).await;
        }
        self.count();
    }

    async fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Commit(batch) => self.commit(*batch).await,
                Action::Tail(tail) => self.shared.tails.put(tail),
            }
        }
    }

    /// Whether all shards together hold more than one and a half flushes, and this one its share of it.
    fn crowded(&self) -> bool {
        let total = self.shared.buffered.load(Ordering::Relaxed);
        total > self.shared.config.flush.bytes.saturating_mul(3) / 2
            && self.buffered.saturating_mul(self.shared.shards) >= total
    }
}

/// Resolves when recording has to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// The next flush request; never, once nobody can ask any more.
async fn next_request(requests: &mut mpsc::Receiver<FlushRequest>) -> FlushRequest {
    match requests.recv().await {
        Some(request) => request,
        None => pending().await,
    }
}
