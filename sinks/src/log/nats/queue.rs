//! Between the callers of `append` and the writer's task: events in the order of the calls, bounded by bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use hoop_schema::Shard;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::error::Refusal;
use crate::log::{AppendError, AppendResult, Outgoing, Position};

/// What an event costs in memory beside its bytes, roughly.
const COST: usize = 512;

/// Events on their way to the writer's task, and all that it has under way.
#[derive(Debug)]
pub(crate) struct Queue {
    shards: u32,
    queue_bytes_max: usize,
    record_bytes_max: usize,
    state: Mutex<State>,
    /// Something was taken, or the queue is closed.
    pub(crate) filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: VecDeque<(Shard, Taken)>,
    bytes: usize,
    closed: bool,
    /// Whether the writer's task is gone.
    ended: bool,
}

/// An event that was taken, and whoever waits for its fate.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) event: Outgoing,
    pub(crate) since: Instant,
    answer: oneshot::Sender<AppendResult>,
}

impl Taken {
    /// Bytes that it counts for.
    pub(crate) fn cost(&self) -> usize {
        self.event.bytes.len() + COST
    }
}

impl Queue {
    pub(crate) fn new(shards: u32, queue_bytes_max: usize, record_bytes_max: usize) -> Self {
        Self {
            shards,
            queue_bytes_max,
            record_bytes_max,
            state: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Takes an event, or says why not. The receiver gets its fate.
    pub(crate) fn append(
        &self,
        shard: Shard,
        event: Outgoing,
    ) -> Result<oneshot::Receiver<AppendResult>, AppendError> {
        let terminal = |refusal: Refusal| Err(AppendError::Terminal(refusal.into()));
        if shard.0 >= self.shards {
            return terminal(Refusal::NoSuchShard(shard));
        }
        let (bytes, bytes_max) = (event.bytes.len(), self.record_bytes_max);
        if bytes > bytes_max {
            return terminal(Refusal::TooLarge { bytes, bytes_max });
        }
        let (answer, receiver) = oneshot::channel();
        let taken = Taken {
            event,
            since: Instant::now(),
            answer,
        };
        let mut state = self.state.lock();
        self.open(&state)?;
        if state.bytes + taken.cost() > self.queue_bytes_max {
            return Err(AppendError::Retryable(self.full().into()));
        }
        state.bytes += taken.cost();
        state.taken.push_back((shard, taken));
        let wake = state.taken.len() == 1;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(receiver)
    }

    /// Whether an append made now would be taken.
    pub(crate) fn ready(&self) -> Result<(), AppendError> {
        let state = self.state.lock();
        self.open(&state)?;
        if state.bytes >= self.queue_bytes_max {
            return Err(AppendError::Retryable(self.full().into()));
        }
        Ok(())
    }

    fn open(&self, state: &State) -> Result<(), AppendError> {
        let refusal = match state {
            State { closed: true, .. } => Refusal::Closed,
            State { ended: true, .. } => Refusal::Ended,
            _ => return Ok(()),
        };
        Err(AppendError::Terminal(refusal.into()))
    }

    fn full(&self) -> Refusal {
        Refusal::QueueFull {
            bytes_max: self.queue_bytes_max,
        }
    }

    /// All that was taken since the last call, in order. For the one task.
    pub(crate) fn take(&self) -> VecDeque<(Shard, Taken)> {
        std::mem::take(&mut self.state.lock().taken)
    }

    /// Tells the fate of an event. Its memory counts as free before anybody wakes.
    pub(crate) fn answer(&self, taken: Taken, fate: Result<u64, AppendError>) {
        self.state.lock().bytes -= taken.cost();
        // Whoever dropped the future does not want to know.
        taken.answer.send(fate.map(Position)).ok();
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Whether it takes no more, and nothing waits in it.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.taken.is_empty()
    }

    /// The task is gone: what still waits in here is told so by its dropped senders.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.taken.clear();
    }
}

/// Ends a queue when the task that empties it ends, however that comes.
#[derive(Debug)]
pub(crate) struct EndOnDrop(pub(crate) Arc<Queue>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}
