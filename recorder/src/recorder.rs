//! The recorder as a whole: one task per class and shard, and one that looks after retention.

use std::future::Future;
use std::sync::Arc;

use hoop_sinks::log::EventReader;
use hoop_sinks::store::EvidenceStore;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;

/// Why a recorder could not be made or does not run.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Two readers were given for one class.
    #[error("class {0} is read from two logs; give each class one")]
    ClassTwice(hoop_schema::Class),
    /// The store does not keep what evidence needs.
    #[error("the evidence store cannot be recorded to")]
    Store(#[source] hoop_sinks::store::StoreError),
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
    config: Config,
    readers: Vec<Arc<dyn EventReader>>,
    store: Arc<dyn EvidenceStore>,
    handle: Handle,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Flush requests that wait for an answer; more wait at the door.
const FLUSH_REQUESTS_MAX: usize = 16;

impl Recorder {
    /// A recorder for these logs and this store. Nothing is read or written before [`Recorder::run`].
    ///
    /// # Errors
    /// When two readers are of one class.
    pub fn new(
        config: Config,
        readers: Vec<Arc<dyn EventReader>>,
        store: Arc<dyn EvidenceStore>,
        _registry: &mut Registry,
    ) -> Result<Self, RecorderError> {
        let (sender, requests) = mpsc::channel(FLUSH_REQUESTS_MAX);
        Ok(Self {
            config,
            readers,
            store,
            handle: Handle { requests: sender },
            requests,
        })
    }

    /// A way to speak to the recorder while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Records until `shutdown` resolves, then commits what it holds and returns.
    ///
    /// # Errors
    /// When the store is unfit for evidence.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RecorderError> {
        self.store.probe().await.map_err(RecorderError::Store)?;
        tracing::info!(
            cluster = self.config.cluster,
            classes = self.readers.len(),
            "recorder runs"
        );
        drop(self.requests);
        shutdown.await;
        Ok(())
    }
}

/// A way to speak to a running recorder.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

impl Handle {
    /// Returns once everything that the logs held at the time of the call is committed.
    ///
    /// # Errors
    /// When the recorder stops before.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let (done, wait) = oneshot::channel();
        self.requests
            .send(done)
            .await
            .map_err(|_| FlushError::Stopped)?;
        wait.await.map_err(|_| FlushError::Stopped)
    }
}
