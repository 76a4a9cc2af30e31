//! A sign of life on every shard, so that a reader notices a missing tail.

use std::sync::{Arc, Weak};
use std::time::Duration;

use hoop_schema::Kind;
use hoop_schema::bytes::encode_fields;
use hoop_schema::kinds::integrity::{Heartbeat, LastSequence};
use hoop_schema::kinds::session::SessionEndCause;
use hoop_schema::session::SESSION_OPEN_MICROS;

use super::lane::Lane;
use super::lanes::Lanes;

/// Time between two heartbeats.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// The most sequences that one heartbeat names, 100 bytes each at most: it stays below the longest event. With more
/// lanes than that, a heartbeat names those around its own.
const SEQUENCES_MAX: usize = 1024;

pub(super) async fn run(lanes: Weak<Lanes>) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(lanes) = lanes.upgrade() else { return };
        beat(&lanes);
    }
}

/// Writes one heartbeat onto every lane of the standard class, and onto every other one that had events.
pub(super) fn beat(lanes: &Arc<Lanes>) {
    let all = lanes.all();
    let last: Vec<LastSequence> = all
        .iter()
        .map(|lane| LastSequence {
            class: lane.class.clone(),
            shard: lane.shard,
            seq: lane.lock().last_seq(),
        })
        .collect();
    for (neighbours, last) in all.chunks(SEQUENCES_MAX).zip(last.chunks(SEQUENCES_MAX)) {
        let last = last.iter().filter(|l| l.seq > 0).cloned().collect();
        let heartbeat = Kind::from(Heartbeat {
            last,
            interval_s: INTERVAL.as_secs() as u32,
        });
        let fields = match encode_fields(&heartbeat) {
            Ok(fields) => fields,
            Err(error) => {
                tracing::error!(%error, "heartbeat could not be encoded");
                continue;
            }
        };
        for lane in neighbours {
            roll_over(lanes, lane);
            let always = lane.class == *lanes.standard();
            let written = {
                let mut state = lane.lock();
                if !state.take_active() && !always {
                    continue;
                }
                let written = lane.number_own(&mut state, lanes.now(), &fields);
                // A heartbeat alone is no reason for the next one.
                state.take_active();
                written
            };
            match written {
                Ok((start, event)) => lanes.send_own(lane, start.into_iter().chain([event])),
                Err(error) => tracing::error!(%error, "heartbeat could not be encoded"),
            }
        }
    }
}

/// The producer's session on a lane rolls over like every other.
fn roll_over(lanes: &Arc<Lanes>, lane: &Arc<Lane>) {
    let old = {
        let state = lane.lock();
        Lane::own_since(&state)
            .is_some_and(|since| since.elapsed().as_micros() >= SESSION_OPEN_MICROS as u128)
    };
    if old {
        lanes.end_own(lane, SessionEndCause::Rollover);
    }
}
