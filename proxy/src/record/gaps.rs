//! Telling of losses.
//!
//! As soon as a lane has lost an event, a task writes `gap` events onto the same lane until it has told of all. The
//! gap itself is sent again and again until the log takes it, so it comes first when the log is back. One gap is
//! under way per lane at a time; what is lost meanwhile gathers for the next.

use std::sync::Arc;
use std::time::Duration;

use hoop_schema::Kind;
use hoop_schema::bytes::encode_fields;

use super::delivery::{Patience, send};
use super::lane::Lane;
use super::lanes::Lanes;

/// How long losses gather before the first gap: a burst becomes one event instead of hundreds.
const GATHER: Duration = Duration::from_millis(10);

pub(super) fn spawn(lanes: &Arc<Lanes>, lane: &Arc<Lane>) {
    let (lanes_owned, lane) = (Arc::clone(lanes), Arc::clone(lane));
    lanes.runtime().spawn(async move {
        tokio::time::sleep(GATHER).await;
        while tell(&lanes_owned, &lane).await {}
    });
}

/// Writes one gap and waits until the log has it. Returns whether there may be more to tell.
async fn tell(lanes: &Arc<Lanes>, lane: &Arc<Lane>) -> bool {
    let written = {
        let mut state = lane.lock();
        let Some(gap) = lane.take_gap(&mut state) else {
            state.reported();
            return false;
        };
        let fields = encode_fields(&Kind::from(gap));
        fields.and_then(|fields| lane.number_own(&mut state, lanes.now(), &fields))
    };
    let (start, gap) = match written {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "gap could not be encoded");
            return true;
        }
    };
    lanes.metrics().gaps.inc();
    tracing::warn!(class = %lane.class, shard = lane.shard.0, "events were lost; a gap tells of them");
    if let Some(start) = start {
        let held = lanes.budget().take(start.outgoing.bytes.len());
        send(lanes, lane, start, Some(held), Patience::Endless);
    }
    let held = lanes.budget().take(gap.outgoing.bytes.len());
    // Endless patience has only one verdict.
    send(lanes, lane, gap, Some(held), Patience::Endless)
        .verdict()
        .await
        .is_ok()
}
