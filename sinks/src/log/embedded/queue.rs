//! Between the callers of `append` and the writer's thread: batches of events, and the answer that all appends of a
//! batch wait for.
//!
//! The hot path of an append is one short lock, one push and one allocation (the future); the answer of a batch is
//! one object for all its appends.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoop_schema::Shard;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::Refusal;
use super::frame::RECORD_HEAD;
use crate::log::{AppendError, AppendResult, Position};

/// How long events that nobody waits for are kept back, so that they share the sync of one that somebody waits for:
/// an outcome with the intent of the next request. Far below the second after which an event has to be visible.
const LINGER_MAX: Duration = Duration::from_millis(5);

/// Events that wait for the writer, bounded by bytes.
#[derive(Debug)]
pub(crate) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    filled: Condvar,
}

/// What bounds a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) shards: u32,
    pub(crate) queue_bytes_max: usize,
    pub(crate) batch_bytes_max: usize,
    pub(crate) record_bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    /// An emptied batch, kept for its memory.
    spare: Option<Vec<(Shard, Bytes)>>,
    /// Bytes in `batches` and in the batch that the writer works on.
    bytes: usize,
    writer: WriterState,
    closing: bool,
    failed: Option<Refusal>,
}

/// What the writer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WriterState {
    #[default]
    Works,
    /// There is nothing to write: it sleeps until there is.
    Idle,
    /// It lets the events that are there, or come now, linger.
    Lingers,
}

/// Events that get one sync.
#[derive(Debug)]
pub(crate) struct Batch {
    opened: Instant,
    /// Whether somebody waits for one of them.
    pressing: bool,
    pub(crate) events: Vec<(Shard, Bytes)>,
    answer: Arc<Answer>,
    /// Events of each shard so far.
    counts: Vec<u32>,
    bytes: usize,
}

/// The fate of a batch, shard by shard.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    state: Mutex<AnswerState>,
}

#[derive(Debug, Default)]
struct AnswerState {
    fates: Option<Vec<Fate>>,
    waiting: Vec<Waker>,
}

/// The fate of a batch's events in one shard.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Durable; the first of them has this position.
    Written(u64),
    /// Nothing was written.
    Refused(Refusal),
    /// Nothing was written, and nothing will be.
    Terminal(Refusal),
    /// May be on disk.
    Unknown(Refusal),
}

/// What an append waits for.
pub(crate) struct Waiting {
    answer: Arc<Answer>,
    shard: u32,
    /// How many events of this shard come before it in its batch.
    index: u32,
    slot: Option<usize>,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    /// Takes an event, or says why not. The future resolves when the batch has its answer.
    pub(crate) fn append(
        &self,
        shard: Shard,
        bytes: Bytes,
        linger: bool,
    ) -> Result<Waiting, AppendError> {
        let terminal = |refusal: Refusal| AppendError::Terminal(refusal.into());
        let size = bytes.len();
        if shard.0 >= self.limits.shards {
            return Err(terminal(Refusal::NoSuchShard(shard)));
        }
        if size > self.limits.record_bytes_max {
            return Err(terminal(Refusal::TooLarge {
                bytes: size,
                bytes_max: self.limits.record_bytes_max,
            }));
        }
        let mut state = self.state.lock();
        if let Some(failed) = &state.failed {
            return Err(terminal(failed.clone()));
        }
        if state.closing {
            return Err(terminal(Refusal::Closed));
        }
        let cost = size + RECORD_HEAD;
        if state.bytes + cost > self.limits.queue_bytes_max {
            return Err(AppendError::Retryable(self.full().into()));
        }
        state.bytes += cost;
        let batch = state.open_batch(cost, &self.limits);
        let count = &mut batch.counts[shard.0 as usize];
        let waiting = Waiting {
            answer: Arc::clone(&batch.answer),
            shard: shard.0,
            index: *count,
            slot: None,
        };
        *count += 1;
        batch.bytes += cost;
        batch.pressing |= !linger;
        batch.events.push((shard, bytes));
        let wake = match state.writer {
            WriterState::Works => false,
            WriterState::Idle => true,
            WriterState::Lingers => state.is_due(&self.limits),
        };
        if wake {
            state.writer = WriterState::Works;
        }
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(waiting)
    }

    /// Whether an append made now would be taken.
    pub(crate) fn ready(&self) -> Result<(), AppendError> {
        let state = self.state.lock();
        if let Some(failed) = &state.failed {
            return Err(AppendError::Terminal(failed.clone().into()));
        }
        if state.closing {
            return Err(AppendError::Terminal(Refusal::Closed.into()));
        }
        if state.bytes >= self.limits.queue_bytes_max {
            return Err(AppendError::Retryable(self.full().into()));
        }
        Ok(())
    }

    /// The next batch, as soon as it is due; `None` when the queue is closed and empty. For the one writer.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        let (mut has_lingered, mut has_yielded) = (false, false);
        loop {
            let Some(front) = state.batches.front() else {
                if state.closing {
                    return None;
                }
                if has_lingered {
                    state.writer = WriterState::Idle;
                    self.filled.wait(&mut state);
                } else {
                    // After a batch there are outcomes to come, and they need not wake it.
                    has_lingered = true;
                    state.writer = WriterState::Lingers;
                    self.filled.wait_for(&mut state, LINGER_MAX);
                }
                continue;
            };
            let until = front.opened + LINGER_MAX;
            if !state.is_due(&self.limits) && Instant::now() < until {
                state.writer = WriterState::Lingers;
                self.filled.wait_until(&mut state, until);
                continue;
            }
            if !has_yielded {
                // On a processor that is shared with those who append, they first append what they have: a sync costs
                // the same for one event and for fifty. Otherwise this costs a fraction of a microsecond.
                has_yielded = true;
                MutexGuard::unlocked(&mut state, thread::yield_now);
                continue;
            }
            state.writer = WriterState::Works;
            return state.batches.pop_front();
        }
    }

    /// Gives every append of a batch its answer. The memory of its events counts as free before anybody wakes.
    pub(crate) fn answer(&self, mut batch: Batch, fates: Vec<Fate>) {
        let mut events = std::mem::take(&mut batch.events);
        events.clear();
        {
            let mut state = self.state.lock();
            state.bytes -= batch.bytes;
            state.spare.get_or_insert(events);
        }
        batch.answer.give(fates);
    }

    /// Takes no more appends; what was taken is still written.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.filled.notify_one();
    }

    /// Takes no more appends, and tells those that wait that nothing will be written.
    pub(crate) fn fail(&self, refusal: &Refusal) {
        let batches = {
            let mut state = self.state.lock();
            state.failed = Some(refusal.clone());
            std::mem::take(&mut state.batches)
        };
        for batch in batches {
            let fates = vec![Fate::Terminal(refusal.clone()); batch.counts.len()];
            self.answer(batch, fates);
        }
    }

    fn full(&self) -> Refusal {
        Refusal::QueueFull {
            bytes_max: self.limits.queue_bytes_max,
        }
    }
}

impl State {
    /// Whether the first batch is not to linger any longer.
    fn is_due(&self, limits: &Limits) -> bool {
        let pressing = self.batches.front().is_some_and(|batch| batch.pressing);
        pressing
            || self.closing
            || self.batches.len() > 1
            || self.bytes > limits.queue_bytes_max / 2
    }

    /// The batch that takes an event of `cost` bytes: the last one, unless it is full.
    fn open_batch(&mut self, cost: usize, limits: &Limits) -> &mut Batch {
        let fits = self
            .batches
            .back()
            .is_some_and(|batch| batch.bytes + cost <= limits.batch_bytes_max);
        if !fits {
            self.batches.push_back(Batch {
                opened: Instant::now(),
                pressing: false,
                events: self.spare.take().unwrap_or_default(),
                answer: Arc::default(),
                counts: vec![0; limits.shards as usize],
                bytes: 0,
            });
        }
        self.batches
            .back_mut()
            .expect("one was just pushed, or fits")
    }
}

impl Drop for Batch {
    /// A batch that was forgotten, which only a panic can do, may have been written.
    fn drop(&mut self) {
        if !self.answer.is_given() {
            self.answer
                .give(vec![Fate::Unknown(Refusal::Panicked); self.counts.len()]);
        }
    }
}

impl Answer {
    fn is_given(&self) -> bool {
        self.state.lock().fates.is_some()
    }

    fn give(&self, fates: Vec<Fate>) {
        let waiting = {
            let mut state = self.state.lock();
            state.fates = Some(fates);
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

impl Future for Waiting {
    type Output = AppendResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<AppendResult> {
        let this = &mut *self;
        let mut state = this.answer.state.lock();
        let Some(fates) = &state.fates else {
            match this.slot {
                Some(slot) => state.waiting[slot].clone_from(context.waker()),
                None => {
                    this.slot = Some(state.waiting.len());
                    state.waiting.push(context.waker().clone());
                }
            }
            return Poll::Pending;
        };
        Poll::Ready(match &fates[this.shard as usize] {
            Fate::Written(first) => Ok(Position(first + u64::from(this.index))),
            Fate::Refused(refusal) => Err(AppendError::Retryable(refusal.clone().into())),
            Fate::Terminal(refusal) => Err(AppendError::Terminal(refusal.clone().into())),
            Fate::Unknown(refusal) => Err(AppendError::Unknown(refusal.clone().into())),
        })
    }
}
