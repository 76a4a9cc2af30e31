//! From a numbered event to the log's answer, whatever becomes of the client.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hoop_schema::kinds::integrity::GapCause;
use hoop_sinks::log::{AppendError, AppendResult, Appending};
use tokio::time::Instant;

use super::budget::Held;
use super::gaps;
use super::lane::{Lane, Numbered};
use super::lanes::{Lanes, UnderWay};
use super::metrics::{DropReason, Metrics};

/// How often an intent that is refused for the moment is sent: a log whose own queue is full takes it a moment later.
const INTENT_ATTEMPTS_MAX: u32 = 3;

/// Waiting times between attempts, doubling from the first to the last: a short burst passes in the first, and once
/// a log is back everything has been sent within the last.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What an event is worth when the log does not take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Somebody waits and will refuse the request: a few attempts.
    Short,
    /// The same, and the local spool is good enough.
    Spool,
    /// It is kept until the log takes it or refuses it for good.
    Long,
    /// It is kept for as long as the process lives: the event that tells of losses.
    Endless,
}

impl Patience {
    /// Whether somebody waits and will refuse the request.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Self::Short | Self::Spool)
    }
}

/// What the log said in the end.
pub(super) type Verdict = Result<(), Arc<AppendError>>;

/// An event on its way.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is that of every request, which should not take an allocation more"
)]
pub(super) enum Delivery {
    /// Whoever has this may wait for the log.
    Waited(Waited),
    /// The lane's follower waits for the log.
    Followed,
    /// It will not be in the log; a gap will tell.
    Dropped,
}

/// An event that is waited for. Dropped before the log's answer, it is followed like any other.
pub(super) struct Waited {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    /// Taken by the answer.
    pending: Option<Pending>,
}

/// An event without an answer.
pub(super) struct Pending {
    event: Numbered,
    appending: Appending,
    patience: Patience,
    began: Instant,
    _held: Held,
    _under_way: UnderWay,
}

/// Events of a lane that nobody else waits for, in the order of their appends, which is that of the log's answers:
/// one task sees to all of them, so that a sync of fifty events wakes one task and not fifty.
#[derive(Default)]
pub(super) struct Followed {
    pending: VecDeque<Pending>,
    /// Whether there is a task.
    running: bool,
}

impl Delivery {
    /// Waits for the verdict. Dropping this future does not stop the delivery.
    pub(super) async fn verdict(self) -> Result<(), Option<Arc<AppendError>>> {
        match self {
            Self::Followed => Ok(()),
            Self::Dropped => Err(None),
            Self::Waited(waited) => waited.verdict().await.map_err(Some),
        }
    }
}

impl Waited {
    async fn verdict(mut self) -> Verdict {
        let answer = match &mut self.pending {
            Some(pending) => (&mut pending.appending).await,
            None => return Ok(()),
        };
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        if answer.is_ok() {
            pending.acknowledged(self.lanes.metrics());
            return Ok(());
        }
        let task = settle(
            Arc::clone(&self.lanes),
            Arc::clone(&self.lane),
            pending,
            answer,
        );
        // A delivery ends early only with the runtime.
        self.lanes.runtime().spawn(task).await.unwrap_or(Ok(()))
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            follow(&self.lanes, &self.lane, pending);
        }
    }
}

impl Pending {
    fn acknowledged(&self, metrics: &Metrics) {
        metrics.acknowledged.inc();
        metrics
            .append_seconds
            .observe(self.began.elapsed().as_secs_f64());
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("pending", &self.pending.len())
            .field("running", &self.running)
            .finish()
    }
}

impl Followed {
    /// The next event; nothing when the task may go.
    fn next(&mut self) -> Option<Pending> {
        let next = self.pending.pop_front();
        self.running = next.is_some();
        next
    }
}

/// Sees a numbered event to its end. `held` is nothing for an event that was not handed to the log.
pub(super) fn send(
    lanes: &Arc<Lanes>,
    lane: &Arc<Lane>,
    mut event: Numbered,
    held: Option<Held>,
    patience: Patience,
) -> Delivery {
    let metrics = lanes.metrics();
    metrics.accepted.inc();
    let (Some(appending), Some(held)) = (event.appending.take(), held) else {
        metrics.drop_event(DropReason::Overflow);
        lose(lanes, lane, &event, GapCause::Overflow);
        return Delivery::Dropped;
    };
    let pending = Pending {
        event,
        appending,
        patience,
        began: Instant::now(),
        _held: held,
        _under_way: lanes.under_way(),
    };
    if patience == Patience::Long {
        follow(lanes, lane, pending);
        return Delivery::Followed;
    }
    Delivery::Waited(Waited {
        lanes: Arc::clone(lanes),
        lane: Arc::clone(lane),
        pending: Some(pending),
    })
}

fn follow(lanes: &Arc<Lanes>, lane: &Arc<Lane>, pending: Pending) {
    let mut followed = lane.followed.lock();
    followed.pending.push_back(pending);
    if std::mem::replace(&mut followed.running, true) {
        return;
    }
    drop(followed);
    let (lanes_owned, lane) = (Arc::clone(lanes), Arc::clone(lane));
    lanes.runtime().spawn(async move {
        loop {
            let next = lane.followed.lock().next();
            let Some(mut pending) = next else { return };
            let answer = (&mut pending.appending).await;
            if answer.is_ok() {
                pending.acknowledged(lanes_owned.metrics());
            } else {
                // It may take long, and those behind it may have their answers.
                let (lanes, lane) = (Arc::clone(&lanes_owned), Arc::clone(&lane));
                lanes_owned
                    .runtime()
                    .spawn(settle(lanes, lane, pending, answer));
            }
        }
    });
}

/// Goes on after the log's first answer.
async fn settle(
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    pending: Pending,
    mut answer: AppendResult,
) -> Verdict {
    let metrics = lanes.metrics();
    let mut maybe_written = false;
    let mut backoff = BACKOFF_MIN;
    for attempt in 1u32.. {
        let error = match answer {
            Ok(_) => {
                pending.acknowledged(metrics);
                return Ok(());
            }
            Err(error) => error,
        };
        let again = match &error {
            AppendError::Unknown(_) => {
                // From here on only an acknowledgement gives certainty: the copy that may be there stays there.
                metrics.unknown.inc();
                maybe_written = true;
                true
            }
            AppendError::Retryable(_) => {
                metrics.refused.inc();
                maybe_written || !pending.patience.is_short() || attempt < INTENT_ATTEMPTS_MAX
            }
            AppendError::Terminal(_) => {
                metrics.refused.inc();
                pending.patience == Patience::Endless
            }
        };
        if !again {
            metrics.drop_event(DropReason::Refused);
            lose(&lanes, &lane, &pending.event, GapCause::Refused);
            return Err(Arc::new(error));
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        answer = lane.append_again(&pending.event.outgoing).await;
    }
    unreachable!("the attempts of a lifetime fit into 32 bits")
}

fn lose(lanes: &Arc<Lanes>, lane: &Arc<Lane>, event: &Numbered, cause: GapCause) {
    if lane.lock().lose(&event.place, cause) {
        gaps::spawn(lanes, lane);
    }
}
