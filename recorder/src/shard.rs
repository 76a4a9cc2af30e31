//! The shell around one core: reads the log, commits session files, waits.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoop_schema::evidence::PreviousFile;
use hoop_schema::{Class, Shard, Timestamp};
use hoop_sinks::log::{EventReader, LogRecord, Position, ReadError};
use hoop_sinks::store::{Created, EvidenceStore, Metadata, StoreError};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::batch::{Batch, Encoded};
use crate::commit::{Commit, HeadAnswer, PutAnswer, Step};
use crate::config::Config;
use crate::core::{Action, Core, Counts};
use crate::metrics::{Metrics, ShardLabels};
use crate::resume::{newest_file, read};
use crate::tails::Tails;
use crate::time::Clock;

/// Bytes of events read at once: so few that the work on them does not hold up others on the same thread.
const READ_BYTES: usize = 512 * 1024;

/// How long a read waits for records; the core's clock ticks as often.
const READ_WAIT: Duration = Duration::from_secs(1);

/// First and longest pause between tries while the log or the store is away.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// How long one put may take before its answer counts as lost.
const PUT_TIMEOUT: Duration = Duration::from_secs(120);

/// Tries to put an index of sessions; what fails is made again at the next start.
const INDEX_TRIES: u32 = 3;

/// A request to commit what the log holds, and whom to tell.
pub(crate) type FlushRequest = oneshot::Sender<()>;

/// What all shards of one recorder share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn EvidenceStore>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) epoch: u64,
    pub(crate) shards: usize,
    /// Bytes of events buffered by all shards.
    pub(crate) buffered: AtomicUsize,
    /// One session file is encoded at a time, so that memory stays bounded however many shards there are.
    pub(crate) encoding: Semaphore,
    pub(crate) tails: Tails,
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

    /// Commits a batch, or gives way to a rival's file. Tries for as long as it takes: the log keeps everything.
    async fn commit(&mut self, batch: Batch) {
        let name = batch.name().clone();
        let Some(encoded) = self.encode(batch).await else {
            return self.give_way(&name.to_string(), &name).await;
        };
        let file = PreviousFile {
            key: name.to_string(),
            sha256: encoded.sha256,
        };
        let mut commit = Commit::new(encoded.sha256);
        let mut pause = BackOff::default();
        let metadata = Metadata::from([
            ("pos-to", encoded.footer.pos_to.to_string()),
            ("sha256", encoded.sha256.to_string()),
            ("rows", encoded.footer.rows.to_string()),
        ]);
        loop {
            let before = commit.step();
            match before {
                Step::Put => {
                    commit.put_answered(self.put(&file.key, &encoded, &metadata, &mut pause).await)
                }
                Step::Head => commit.head_answered(self.head(&file.key, &mut pause).await),
                Step::Committed => return self.committed(file, encoded, &name.index_key()).await,
                Step::Lost => return self.give_way(&file.key, &name).await,
            }
        }
    }

    /// Encodes a batch on a thread of its own. `None` only when that thread died.
    async fn encode(&self, batch: Batch) -> Option<Encoded> {
        let permit = self.shared.encoding.acquire().await.ok()?;
        let (previous, now) = (self.core.previous().cloned(), self.shared.clock.now());
        let encoded = tokio::task::spawn_blocking(move || batch.encode(previous, now)).await;
        drop(permit);
        match encoded {
            Ok(Ok(encoded)) => Some(encoded),
            Ok(Err(e)) => {
                tracing::error!(class = %self.class, shard = %self.shard, error = %e, "cannot encode a session file");
                None
            }
            Err(e) => {
                tracing::error!(class = %self.class, shard = %self.shard, error = %e, "encoding a session file broke off");
                None
            }
        }
    }

    async fn put(
        &self,
        key: &str,
        encoded: &Encoded,
        metadata: &Metadata,
        pause: &mut BackOff,
    ) -> PutAnswer {
        let started = Instant::now();
        let put = self
            .shared
            .store
            .create(key, encoded.file.clone(), metadata);
        let answer = timeout(PUT_TIMEOUT, put).await;
        self.shared
            .metrics
            .put_seconds
            .observe(started.elapsed().as_secs_f64());
        let (answer, error): (_, &(dyn std::error::Error + Send + Sync)) = match &answer {
            Ok(Ok(Created::Created)) => return PutAnswer::Created,
            Ok(Ok(Created::Exists)) => return PutAnswer::Exists,
            Ok(Err(e @ (StoreError::Refused { .. } | StoreError::Unfit { .. }))) => {
                (PutAnswer::Refused, e)
            }
            Ok(Err(e)) => (PutAnswer::Unknown, e),
            Err(e) => (PutAnswer::Unknown, e),
        };
        if answer == PutAnswer::Unknown {
            self.shared
                .metrics
                .unclear_puts
                .get_or_create(&self.labels)
                .inc();
        }
        self.shared
            .metrics
            .stalled
            .get_or_create(&self.labels)
            .set(1);
        pause
            .wait(
                "cannot commit a session file",
                error,
                &self.class,
                self.shard,
            )
            .await;
        answer
    }

    async fn head(&self, key: &str, pause: &mut BackOff) -> HeadAnswer {
        match self.shared.store.head(key).await {
            Ok(Some(head)) => HeadAnswer::Object(head.sha256),
            Ok(None) => HeadAnswer::None,
            Err(e) => {
                pause
                    .wait(
                        "cannot tell whether a session file is committed",
                        &e,
                        &self.class,
                        self.shard,
                    )
                    .await;
                HeadAnswer::Unknown
            }
        }
    }

    async fn committed(&mut self, file: PreviousFile, encoded: Encoded, index_key: &str) {
        let footer = &encoded.footer;
        tracing::info!(class = %self.class, shard = %self.shard, rows = footer.rows, bytes = encoded.file.len(), "session file committed");
        self.core.committed(file);
        self.reader
            .committed(self.shard, Position(footer.pos_to))
            .await;
        let metrics = &self.shared.metrics;
        metrics.stalled.get_or_create(&self.labels).set(0);
        metrics.files.get_or_create(&self.labels).inc();
        metrics.rows.get_or_create(&self.labels).inc_by(footer.rows);
        metrics
            .file_bytes
            .get_or_create(&self.labels)
            .inc_by(encoded.file.len() as u64);
        self.put_index(index_key, &encoded).await;
    }

    async fn put_index(&self, key: &str, encoded: &Encoded) {
        let mut pause = BackOff::default();
        for _ in 0..INDEX_TRIES {
            match self
                .shared
                .store
                .create(key, encoded.index.clone(), &Metadata::new())
                .await
            {
                Ok(_) => return,
                Err(e) => {
                    pause
                        .wait(
                            "cannot write an index of sessions",
                            &e,
                            &self.class,
                            self.shard,
                        )
                        .await
                }
            }
        }
        tracing::warn!(class = %self.class, shard = %self.shard, "an index of sessions is missing until the next start");
    }

    /// Goes on after the file that is in the place of ours, or, when there is none, from the last commit.
    async fn give_way(&mut self, key: &str, name: &hoop_schema::evidence::SessionFileName) {
        self.shared
            .metrics
            .lost_files
            .get_or_create(&self.labels)
            .inc();
        tracing::warn!(class = %self.class, shard = %self.shard, key, "another recorder committed this file; going on after it");
        let mut pause = BackOff::default();
        loop {
            match read(&*self.shared.store, name).await {
                Ok((footer, file)) => {
                    self.reader
                        .committed(self.shard, Position(footer.pos_to))
                        .await;
                    return self.core.lost(footer, file, &self.shared.config);
                }
                Err(e) => {
                    self.shared
                        .metrics
                        .stalled
                        .get_or_create(&self.labels)
                        .set(1);
                    pause
                        .wait(
                            "cannot read the file to go on after",
                            &e,
                            &self.class,
                            self.shard,
                        )
                        .await;
                }
            }
        }
    }

    /// Brings metrics and the shared count of bytes up to date.
    fn count(&mut self) {
        let held = self.core.buffered_bytes();
        self.shared.buffered.fetch_add(held, Ordering::Relaxed);
        self.shared
            .buffered
            .fetch_sub(self.buffered, Ordering::Relaxed);
        self.buffered = held;
        let (metrics, labels, counts) = (&self.shared.metrics, &self.labels, self.core.counts());
        let before = std::mem::replace(&mut self.counted, counts);
        metrics
            .records
            .get_or_create(labels)
            .inc_by(counts.records - before.records);
        metrics
            .copies
            .get_or_create(labels)
            .inc_by(counts.copies - before.copies);
        metrics
            .unparsed
            .get_or_create(labels)
            .inc_by(counts.unparsed - before.unparsed);
        metrics
            .gaps
            .get_or_create(labels)
            .inc_by(counts.gaps - before.gaps);
        if counts.gaps > before.gaps {
            tracing::error!(class = %self.class, shard = %self.shard, gaps = counts.gaps - before.gaps, "events are missing; recorded as gaps");
        }
        if counts.unparsed > before.unparsed {
            tracing::warn!(class = %self.class, shard = %self.shard, records = counts.unparsed - before.unparsed, "records are no events; kept as they are");
        }
        let now = self.shared.clock.now();
        let age = |ts: Option<Timestamp>| ts.map_or(0.0, |ts| seconds_between(ts, now));
        metrics
            .uncommitted_seconds
            .get_or_create(labels)
            .set(age(self.core.waiting_since()));
        let behind = if self.core.waiting_since().is_some() {
            age(self.newest_log_ts)
        } else {
            0.0
        };
        metrics.lag_seconds.get_or_create(labels).set(behind);
        let waiting = self.core.position().0.saturating_sub(self.core.covered());
        metrics
            .lag_positions
            .get_or_create(labels)
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}

impl Drop for ShardTask {
    fn drop(&mut self) {
        self.shared
            .buffered
            .fetch_sub(self.buffered, Ordering::Relaxed);
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

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    Duration::from_micros(u64::try_from(to.as_micros() - from.as_micros()).unwrap_or_default())
        .as_secs_f64()
}

/// Pauses that double, and a warning at each power of two of them.
#[derive(Debug, Default)]
struct BackOff {
    tries: u32,
}

impl BackOff {
    async fn wait(
        &mut self,
        what: &'static str,
        error: &(dyn std::error::Error + Send + Sync),
        class: &Class,
        shard: Shard,
    ) {
        self.tries = self.tries.saturating_add(1);
        if self.tries.is_power_of_two() {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(e) = cause {
                text = format!("{text}: {e}");
                cause = e.source();
            }
            tracing::warn!(%class, %shard, tries = self.tries, error = text, what, "waiting to try again");
        }
        let factor = 1u32 << (self.tries - 1).min(16);
        sleep(BACK_OFF.0.saturating_mul(factor).min(BACK_OFF.1)).await;
    }
}
