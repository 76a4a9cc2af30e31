//! Heartbeats' words on other shards, on their way from the core that read them to the core that they are about.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hoop_schema::{Class, Shard};

use crate::core::Tail;

/// Words that wait for one shard at most: one per producer, and more producers than that are not remembered anyway.
const WAITING_MAX: usize = 4096;

/// One place for all shards of a recorder.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    waiting: Mutex<HashMap<(Class, Shard), Vec<Tail>>>,
}

impl Tails {
    /// Leaves a word for its shard. A later word of the same producer replaces the one before.
    pub(crate) fn put(&self, tail: Tail) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_shard = waiting.entry((tail.class.clone(), tail.shard)).or_default();
        let same = |t: &&mut Tail| t.producer_id == tail.producer_id && t.epoch == tail.epoch;
        if let Some(before) = of_shard.iter_mut().find(same) {
            *before = tail;
        } else if of_shard.len() < WAITING_MAX {
            of_shard.push(tail);
        }
    }

    /// Takes all words for a shard.
    pub(crate) fn take(&self, class: &Class, shard: Shard) -> Vec<Tail> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&(class.clone(), shard)).unwrap_or_default()
    }
}
