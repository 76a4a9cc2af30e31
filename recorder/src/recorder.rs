//! The recorder as a whole: one task per class and shard, and one that looks after the store.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use hoop_schema::{Class, Shard};
use hoop_sinks::log::EventReader;
use hoop_sinks::store::{EvidenceStore, StoreError};
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::shard::FlushRequest;
use crate::shared::Shared;
use crate::tails::Tails;
use crate::time::Clock;
use crate::transparency::Proofs;

/// Flush requests that wait for an answer per shard; more wait at the door.
const FLUSH_REQUESTS_MAX: usize = 16;

/// Why a recorder could not be made or does not run.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Two readers were given for one class.
    #[error("class {0} is read from two logs; give each class one")]
    ClassTwice(Class),
    /// The store does not keep what evidence needs.
    #[error("the evidence store cannot be recorded to")]
    Store(#[source] StoreError),
}

/// Why a flush did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// The recorder has stopped.
    #[error("the recorder has stopped; what it had not committed is still in the log")]
    Stopped,
}

/// From logs to session files: reads every shard of every class and commits what it reads.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    shards: Vec<(Arc<dyn EventReader>, Shard, mpsc::Receiver<FlushRequest>)>,
    readers: Vec<Arc<dyn EventReader>>,
    handle: Handle,
}

/// A way to speak to a recorder while it runs.
#[derive(Debug, Clone)]
pub struct Handle {
    shards: Vec<mpsc::Sender<FlushRequest>>,
}

impl Handle {
    /// Returns once everything that the logs held at the time of the call is committed, of the shards that this
    /// recorder records.
    ///
    /// # Errors
    /// When the recorder stops before.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let mut waiting = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (done, wait) = oneshot::channel();
            shard.send(done).await.map_err(|_| FlushError::Stopped)?;
            waiting.push(wait);
        }
        for wait in waiting {
            wait.await.map_err(|_| FlushError::Stopped)?;
        }
        Ok(())
    }
}

impl Recorder {
    /// A recorder for these logs and this store. Nothing is read or written before [`Recorder::run`].
    ///
    /// # Errors
    /// When two readers are of one class.
    pub fn new(
        config: Config,
        readers: Vec<Arc<dyn EventReader>>,
        store: Arc<dyn EvidenceStore>,
        registry: &mut Registry,
    ) -> Result<Self, RecorderError> {
        Self::with_clock(config, readers, store, registry, Clock::system())
    }

    /// The same with a clock of the caller's, for tests.
    ///
    /// # Errors
    /// When two readers are of one class.
    pub fn with_clock(
        config: Config,
        readers: Vec<Arc<dyn EventReader>>,
        store: Arc<dyn EvidenceStore>,
        registry: &mut Registry,
        clock: Clock,
    ) -> Result<Self, RecorderError> {
        let mut classes = BTreeSet::new();
        if let Some(twice) = readers.iter().find(|r| !classes.insert(r.class().clone())) {
            return Err(RecorderError::ClassTwice(twice.class().clone()));
        }
        let mut shards = Vec::new();
        let mut handle = Handle { shards: Vec::new() };
        for reader in &readers {
            for shard in 0..reader.shards() {
                let (sender, requests) = mpsc::channel(FLUSH_REQUESTS_MAX);
                handle.shards.push(sender);
                shards.push((Arc::clone(reader), Shard(shard), requests));
            }
        }
        let shared = Shared {
            config,
            store,
            metrics: Metrics::new(registry),
            epoch: u64::try_from(clock.now().as_micros()).unwrap_or_default(),
            last_epoch: AtomicU64::new(0),
            clock,
            shards: shards.len().max(1),
            buffered: AtomicUsize::new(0),
            encoding: Semaphore::new(1),
            tails: Tails::default(),
            proofs: Proofs::default(),
            locks: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            shards,
            readers,
            handle,
        })
    }

    /// A way to speak to the recorder while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Records until `shutdown` resolves, then commits what it holds and returns.
    ///
    /// # Errors
    /// When the store is unfit for evidence, cannot lock what is to be locked, or does not answer at the start.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RecorderError> {
        let Self {
            shared,
            shards,
            readers,
            handle,
        } = self;
        drop(handle);
        for odd in shared.store.probe().await.map_err(RecorderError::Store)? {
            tracing::warn!(odd, "the evidence store is not as it should be");
        }
        let classes = readers.iter().map(|reader| reader.class());
        crate::keep::prepare(&shared, classes)
            .await
            .map_err(RecorderError::Store)?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (reader, shard, requests) in shards {
            tasks.spawn(crate::shard::look_after(
                Arc::clone(&shared),
                reader,
                shard,
                requests,
                stopped.clone(),
            ));
        }
        let (last, is_last) = watch::channel(false);
        let classes = readers.iter().map(|r| r.class().clone()).collect();
        let mut proofs = JoinSet::new();
        proofs.spawn(crate::transparency::run(
            Arc::clone(&shared),
            classes,
            is_last,
        ));
        let mut care = JoinSet::new();
        care.spawn(crate::seal::run(Arc::clone(&shared), readers.clone()));
        care.spawn(crate::care::run(Arc::clone(&shared), readers));
        shutdown.await;
        stop.send_replace(true);
        care.abort_all();
        let all_done = async { while tasks.join_next().await.is_some() {} };
        if timeout(shared.config.shutdown_wait, all_done)
            .await
            .is_err()
        {
            tracing::warn!("not everything could be committed in time; the log keeps it");
            tasks.abort_all();
        }
        last.send_replace(true);
        if timeout(shared.config.shutdown_wait, proofs.join_next())
            .await
            .is_err()
        {
            tracing::warn!(
                "not everything could be put into the transparency log in time; the next start does it"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
