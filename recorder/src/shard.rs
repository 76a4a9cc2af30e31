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
use crate::rival::Rivals;
use crate::shared::Shared;
use crate::standby::until_neglected;

mod commit;
mod count;

/// Bytes of events read at once: so few that the work on them does not hold up others on the same thread.
const READ_BYTES: usize = 512 * 1024;

/// How long a read waits for records; the core's clock ticks as often.
const READ_WAIT: Duration = Duration::from_secs(1);

/// A request to commit what the log holds, and whom to tell.
pub(crate) type FlushRequest = oneshot::Sender<()>;

/// How much later files are committed of a shard that was taken over: when its own recorder is back, that one is first,
/// and this one sees it.
const TAKEN_OVER_LATER: u32 = 2;

/// Records a shard until `stop` says so; one of another recorder's share only while nobody else does.
pub(crate) async fn look_after(
    shared: Arc<Shared>,
    reader: Arc<dyn EventReader>,
    shard: Shard,
    mut requests: mpsc::Receiver<FlushRequest>,
    mut stop: watch::Receiver<bool>,
) {
    let own = shared.config.share.owns(shard);
    let labels = ShardLabels::new(reader.class(), shard);
    let taken_over = |taken: bool| {
        let gauge = shared.metrics.taken_over.get_or_create(&labels);
        gauge.set(i64::from(taken));
    };
    loop {
        if !own {
            taken_over(false);
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = until_neglected(&shared, &reader, shard, &mut requests) => taken_over(true),
            }
        }
        let resuming = ShardTask::resume(
            Arc::clone(&shared),
            Arc::clone(&reader),
            shard,
            requests,
            own,
        );
        let task = tokio::select! {
            () = stopped(&mut stop) => return,
            task = resuming => task,
        };
        match task.run(stop.clone()).await {
            Some(still_asked) => requests = still_asked,
            None => return,
        }
    }
}

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
    /// Whether it belongs to this recorder's share.
    own: bool,
    /// How often another recorder's file was gone on after.
    gave_way: u64,
}

impl ShardTask {
    /// Finds out where the shard goes on, however long the store takes to answer.
    pub(crate) async fn resume(
        shared: Arc<Shared>,
        reader: Arc<dyn EventReader>,
        shard: Shard,
        requests: mpsc::Receiver<FlushRequest>,
        own: bool,
    ) -> Self {
        let class = reader.class().clone();
        let labels = ShardLabels::new(&class, shard);
        let mut pause = BackOff::default();
        let rivals = Rivals {
            shared: &shared,
            reader: &*reader,
            shard,
        };
        let newest = loop {
            match rivals.newest().await {
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
        for refused in &newest.refused {
            tracing::error!(%class, %shard, error = %refused, "a session file is not what the log holds; passing over it");
        }
        let mut config = shared.config.clone();
        // One that is taken over again must not make events of the same identity.
        let epoch = match own {
            true => shared.epoch,
            false => {
                config.flush.age *= TAKEN_OVER_LATER;
                shared.next_epoch()
            }
        };
        let core = Core::new(&config, epoch, reader.source(), &class, shard, newest.file);
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
            own,
            gave_way: 0,
        }
    }

    /// Records until `stop` says so, then commits what it holds; or until another recorder is back at a shard that is
    /// that one's, which gives the requests back.
    pub(crate) async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
    ) -> Option<mpsc::Receiver<FlushRequest>> {
        let mut pause = BackOff::default();
        loop {
            if self.gave_way > 0 && !self.own {
                tracing::info!(class = %self.class, shard = %self.shard, "another recorder is back at its shard");
                return Some(self.leave());
            }
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
        None
    }

    /// Gives up the shard: what is buffered is in the log, and another's to commit.
    fn leave(mut self) -> mpsc::Receiver<FlushRequest> {
        // How far behind it is, is that one's to say.
        let metrics = &self.shared.metrics;
        metrics.lag_positions.get_or_create(&self.labels).set(0);
        metrics.lag_seconds.get_or_create(&self.labels).set(0.0);
        let uncommitted = metrics.uncommitted_seconds.get_or_create(&self.labels);
        uncommitted.set(0.0);
        for (_, done) in self.flushing.drain(..) {
            // Whoever asked and has gone does not want to know.
            done.send(()).ok();
        }
        std::mem::replace(&mut self.requests, mpsc::channel(1).1)
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
        let gave_way = self.gave_way;
        let is_end = records.is_empty();
        for record in records {
            self.newest_log_ts = Some(record.log_ts);
            let actions = self.core.apply(record, self.shared.clock.now());
            self.act(actions).await;
            // A rival's file that ends earlier than ours would have puts the shard back. What is between has to be read
            // again, and with it all that follows.
            if self.gave_way > gave_way {
                break;
            }
        }
        self.let_time_pass(is_end).await;
        let caught_up = is_end && self.gave_way == gave_way;
        let position = self.core.position();
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flushing)
            .into_iter()
            .partition(|(wanted, _)| caught_up || position >= *wanted);
        self.flushing = waiting;
        let gave_way = self.gave_way;
        if !done.is_empty() || self.crowded() {
            self.flush().await;
        }
        // Then there is more to commit before the answer.
        if self.gave_way > gave_way {
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
                Action::Commit(batch) => {
                    if !self.commit(*batch).await {
                        // Whatever else came of these records comes of them again, after the other's file.
                        return;
                    }
                }
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
