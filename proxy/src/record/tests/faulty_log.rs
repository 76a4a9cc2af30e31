//! A log with faults that no real log shows on demand.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::{AppendError, Appending, EventWriter, Outgoing, Position};
use parking_lot::Mutex;

/// What becomes of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is written and acknowledged.
    None,
    /// It is written; the acknowledgement comes later.
    Slow(Duration),
    /// It is refused for the moment.
    Refuse,
    /// It is refused for good.
    RefuseForGood,
    /// It is written, and nobody knows.
    UnknownLanded,
    /// It is not written, and nobody knows.
    UnknownLost,
    /// There is never an answer.
    Silent,
}

type Script = Box<dyn FnMut(&Outgoing) -> Fault + Send>;

/// A log whose script says what becomes of each append.
pub(super) struct FaultyLog {
    class: Class,
    shards: u32,
    script: Mutex<Script>,
    landed: Mutex<Vec<(Shard, Outgoing)>>,
}

impl std::fmt::Debug for FaultyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyLog")
    }
}

impl FaultyLog {
    pub(super) fn new(
        class: &str,
        shards: u32,
        script: impl FnMut(&Outgoing) -> Fault + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            class: Class::new(class).unwrap(),
            shards,
            script: Mutex::new(Box::new(script)),
            landed: Mutex::default(),
        })
    }

    /// From now on, another script.
    pub(super) fn mend(&self, script: impl FnMut(&Outgoing) -> Fault + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    /// What was written, in order, copies included.
    pub(super) fn landed(&self) -> Vec<(Shard, Outgoing)> {
        self.landed.lock().clone()
    }
}

#[async_trait]
impl EventWriter for FaultyLog {
    fn class(&self) -> &Class {
        &self.class
    }

    fn shards(&self) -> u32 {
        self.shards
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        let fault = (self.script.lock())(&event);
        let mut landed = self.landed.lock();
        if matches!(fault, Fault::None | Fault::Slow(_) | Fault::UnknownLanded) {
            landed.push((shard, event));
        }
        let position = Position(landed.len() as u64);
        Box::pin(async move {
            match fault {
                Fault::None => Ok(position),
                Fault::Slow(time) => {
                    tokio::time::sleep(time).await;
                    Ok(position)
                }
                Fault::Refuse => Err(AppendError::Retryable("full".into())),
                Fault::RefuseForGood => Err(AppendError::Terminal("broken".into())),
                Fault::UnknownLanded | Fault::UnknownLost => {
                    Err(AppendError::Unknown("connection lost".into()))
                }
                Fault::Silent => std::future::pending().await,
            }
        })
    }

    async fn ready(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn close(&self) {}
}
