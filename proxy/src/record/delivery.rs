//! From a numbered event to the log's answer, whatever becomes of the client.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hoop_schema::kinds::integrity::GapCause;
use hoop_sinks::log::{AppendError, AppendResult};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::budget::Held;
use super::gaps;
use super::lane::{Lane, Numbered};
use super::lanes::Lanes;
use super::metrics::DropReason;

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
    /// It is kept until the log takes it or refuses it for good.
    Long,
    /// It is kept for as long as the process lives: the event that tells of losses.
    Endless,
}

/// What the log said in the end.
pub(super) type Verdict = Result<(), Arc<AppendError>>;

/// An event on its way.
pub(super) enum Delivery {
    /// The log has it.
    Done,
    /// A task waits for the log.
    Pending(JoinHandle<Verdict>),
    /// It will not be in the log; a gap will tell.
    Dropped,
}

impl Delivery {
    /// Waits for the verdict. Dropping this future does not stop the delivery.
    pub(super) async fn verdict(self) -> Result<(), Option<Arc<AppendError>>> {
        match self {
            Self::Done => Ok(()),
            Self::Dropped => Err(None),
            // A delivery ends early only with the runtime.
            Self::Pending(task) => task.await.unwrap_or(Ok(())).map_err(Some),
        }
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
    let (Some(mut appending), Some(held)) = (event.appending.take(), held) else {
        metrics.drop_event(DropReason::Overflow);
        lose(lanes, lane, &event, GapCause::Overflow);
        return Delivery::Dropped;
    };
    // Most logs answer later, but one that answers at once needs no task.
    let first = (&mut appending).now_or_never();
    if let Some(Ok(_)) = first {
        metrics.acknowledged.inc();
        metrics.append_seconds.observe(0.0);
        return Delivery::Done;
    }
    let under_way = lanes.under_way();
    let (lanes_owned, lane) = (Arc::clone(lanes), Arc::clone(lane));
    let task = async move {
        let _under_way = under_way;
        let _held = held;
        let began = Instant::now();
        let first = match first {
            Some(answer) => answer,
            None => appending.await,
        };
        settle(&lanes_owned, &lane, event, first, patience, began).await
    };
    Delivery::Pending(lanes.runtime().spawn(task))
}

async fn settle(
    lanes: &Arc<Lanes>,
    lane: &Arc<Lane>,
    event: Numbered,
    mut answer: AppendResult,
    patience: Patience,
    began: Instant,
) -> Verdict {
    let metrics = lanes.metrics();
    let mut maybe_written = false;
    let mut backoff = BACKOFF_MIN;
    for attempt in 1u32.. {
        let error = match answer {
            Ok(_) => {
                metrics.acknowledged.inc();
                metrics
                    .append_seconds
                    .observe(began.elapsed().as_secs_f64());
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
                maybe_written || patience != Patience::Short || attempt < INTENT_ATTEMPTS_MAX
            }
            AppendError::Terminal(_) => {
                metrics.refused.inc();
                patience == Patience::Endless
            }
        };
        if !again {
            metrics.drop_event(DropReason::Refused);
            lose(lanes, lane, &event, GapCause::Refused);
            return Err(Arc::new(error));
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        answer = lane.append_again(&event.outgoing).await;
    }
    unreachable!("the attempts of a lifetime fit into 32 bits")
}

fn lose(lanes: &Arc<Lanes>, lane: &Arc<Lane>, event: &Numbered, cause: GapCause) {
    if lane.lock().lose(&event.place, cause) {
        gaps::spawn(lanes, lane);
    }
}
