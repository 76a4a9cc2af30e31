//! Room for segments: the next one is made ready before it is needed, old ones leave by size and age.
//!
//! One thread per log does what would hold up the writer: filling files with zeros, dropping segments, writing down
//! what is committed. The writer only ever waits for it when a segment fills faster than a file can be filled.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hoop_schema::{Class, Shard, SourceId, Timestamp};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::error::Refusal;
use super::layout::{self, SegmentMap};
use super::metrics::LogMetrics;
use super::options::Options;
use super::spare::{Spare, create_spare, open_spare};

/// How often segments are looked at for their age.
const AGE_INTERVAL: Duration = Duration::from_secs(10);
/// Warnings about the same trouble come at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What the writer, the readers and the helper thread share about a log.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) class: Class,
    pub(crate) source: SourceId,
    pub(crate) options: Options,
    pub(crate) metrics: LogMetrics,
    pub(crate) shards: Vec<ShardRoom>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What they share about a shard.
#[derive(Debug)]
pub(crate) struct ShardRoom {
    pub(crate) shard: Shard,
    pub(crate) dir: PathBuf,
    /// The segments that can be read.
    pub(crate) segments: Mutex<SegmentMap>,
    /// The position after the last durable record.
    pub(crate) durable: watch::Sender<u64>,
    committed: AtomicU64,
}

#[derive(Debug)]
struct State {
    spares: Vec<SpareState>,
    /// What the last refused batch was refused for.
    blocked: Option<Refusal>,
    stopping: bool,
    warned: Option<Instant>,
}

#[derive(Debug)]
enum SpareState {
    None,
    Wanted,
    Preparing,
    Ready(Spare),
    Failed(Refusal),
}

impl ShardRoom {
    pub(crate) fn new(
        shard: Shard,
        dir: PathBuf,
        segments: SegmentMap,
        next: u64,
        committed: u64,
    ) -> Self {
        Self {
            shard,
            dir,
            segments: Mutex::new(segments),
            durable: watch::Sender::new(next),
            committed: AtomicU64::new(committed),
        }
    }

    /// Takes the oldest segment away from the readers, if all of it is committed and it is not the one written to.
    /// With `before`, only if it was full by then.
    fn retire(&self, before: Option<Timestamp>) -> Option<u64> {
        let committed = self.committed.load(Ordering::Acquire);
        let mut segments = self.segments.lock();
        let mut oldest_two = segments.iter();
        let (&first, _) = oldest_two.next()?;
        let (&next, &full_at) = oldest_two.next()?;
        if next > committed || before.is_some_and(|before| full_at >= before) {
            return None;
        }
        segments.remove(&first);
        Some(first)
    }
}

impl Room {
    /// `spares` are files left over by an earlier process.
    pub(crate) fn new(
        metrics: LogMetrics,
        class: Class,
        source: SourceId,
        options: Options,
        shards: Vec<ShardRoom>,
        spares: BTreeMap<u32, Spare>,
    ) -> Self {
        let mut states: Vec<_> = shards.iter().map(|_| SpareState::None).collect();
        for (shard, spare) in spares {
            states[shard as usize] = SpareState::Ready(spare);
        }
        let room = Self {
            class,
            source,
            options,
            metrics,
            shards,
            state: Mutex::new(State {
                spares: states,
                blocked: None,
                stopping: false,
                warned: None,
            }),
            changed: Condvar::new(),
        };
        room.count_segments();
        room
    }

    /// Brings the number of bytes on the disk up to date.
    pub(crate) fn count_segments(&self) {
        let bytes = self.segments() as u64 * self.options.segment_bytes;
        self.metrics
            .disk_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn segments(&self) -> usize {
        let count = |shard: &ShardRoom| shard.segments.lock().len();
        self.shards.iter().map(count).sum()
    }

    /// Asks for the next segment of a shard ahead of need.
    pub(crate) fn want(&self, shard: Shard) {
        let mut state = self.state.lock();
        let spare = &mut state.spares[shard.0 as usize];
        if matches!(spare, SpareState::None) {
            *spare = SpareState::Wanted;
            self.changed.notify_all();
        }
    }

    /// The next segment of a shard; waits until it is ready, or cannot be had.
    pub(crate) fn take(&self, shard: Shard) -> Result<Spare, Refusal> {
        let index = shard.0 as usize;
        let mut state = self.state.lock();
        let mut asked = false;
        loop {
            let spare = &mut state.spares[index];
            match std::mem::replace(spare, SpareState::None) {
                SpareState::Ready(spare) => {
                    state.blocked = None;
                    return Ok(spare);
                }
                SpareState::Failed(refusal) if asked => {
                    state.blocked = Some(refusal.clone());
                    return Err(refusal);
                }
                SpareState::None | SpareState::Failed(_) => {
                    *spare = SpareState::Wanted;
                    asked = true;
                    self.changed.notify_all();
                }
                under_way => *spare = under_way,
            }
            self.changed.wait(&mut state);
        }
    }

    /// Whether there is room, or the last batch was refused for want of it. Asks again then, so that a later call
    /// knows whether it has come.
    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let Some(refusal) = state.blocked.clone() else {
            return Ok(());
        };
        let mut has_room = true;
        for spare in &mut state.spares {
            has_room &= matches!(spare, SpareState::Ready(_));
            if matches!(spare, SpareState::None | SpareState::Failed(_)) {
                *spare = SpareState::Wanted;
            }
        }
        self.changed.notify_all();
        if !has_room {
            return Err(refusal);
        }
        state.blocked = None;
        Ok(())
    }

    /// A batch was taken after one that was refused.
    pub(crate) fn accepts_again(&self) {
        self.state.lock().blocked = None;
    }

    /// Notes that everything before `position` is committed.
    pub(crate) fn commit(&self, shard: &ShardRoom, position: u64) {
        // Nobody can have committed what is not durable.
        let position = position.min(*shard.durable.borrow());
        shard.committed.fetch_max(position, Ordering::AcqRel);
        // The lock orders this with the helper's look at what is committed.
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    /// Lets the helper end; [`Room::run`] then returns.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// The helper thread. `persisted` is what the files say is committed: what is noted before the thread gets to
    /// run must not pass for it.
    pub(crate) fn run(&self, mut persisted: Vec<u64>) {
        let mut aged: Option<Instant> = None;
        let mut state = self.state.lock();
        loop {
            if self.committed() != persisted {
                drop(state);
                self.persist_committed(&mut persisted);
                state = self.state.lock();
                continue;
            }
            if state.stopping {
                return;
            }
            let wanted = state
                .spares
                .iter()
                .position(|spare| matches!(spare, SpareState::Wanted));
            if let Some(index) = wanted {
                state.spares[index] = SpareState::Preparing;
                drop(state);
                let prepared = self.prepare(&self.shards[index]);
                state = self.state.lock();
                if let Err(refusal) = &prepared {
                    self.warn(&mut state, refusal);
                }
                state.spares[index] = prepared.map_or_else(SpareState::Failed, SpareState::Ready);
                self.changed.notify_all();
                continue;
            }
            if aged.is_none_or(|at| at.elapsed() >= AGE_INTERVAL) {
                aged = Some(Instant::now());
                drop(state);
                self.retire_by_age();
                self.count_segments();
                state = self.state.lock();
                continue;
            }
            // Woken or not, the loop looks at everything.
            let _ = self.changed.wait_for(&mut state, AGE_INTERVAL);
        }
    }

    /// What is committed in each shard.
    pub(crate) fn committed(&self) -> Vec<u64> {
        let committed = |shard: &ShardRoom| shard.committed.load(Ordering::Acquire);
        self.shards.iter().map(committed).collect()
    }

    fn persist_committed(&self, persisted: &mut [u64]) {
        for (shard, persisted) in self.shards.iter().zip(persisted) {
            let committed = shard.committed.load(Ordering::Acquire);
            if committed == *persisted {
                continue;
            }
            *persisted = committed;
            if let Err(error) = layout::write_committed(&shard.dir, committed) {
                tracing::warn!(
                    class = self.class.as_str(),
                    shard = shard.shard.0,
                    %error,
                    "cannot write down what is committed; it is kept in memory"
                );
            }
        }
    }

    fn warn(&self, state: &mut State, refusal: &Refusal) {
        if state
            .warned
            .is_some_and(|at| at.elapsed() < WARNING_INTERVAL)
        {
            return;
        }
        state.warned = Some(Instant::now());
        let cause = std::error::Error::source(refusal).map(ToString::to_string);
        tracing::warn!(
            class = self.class.as_str(),
            error = %refusal,
            cause,
            "no room for the next segment; appends are refused when the current one is full"
        );
    }

    /// Makes the next segment of a shard ready: a new file while the log may grow, else the oldest one that is
    /// committed, else a new file in the place of another shard's oldest one.
    fn prepare(&self, shard: &ShardRoom) -> Result<Spare, Refusal> {
        let mut made = Err(Refusal::Full {
            class: self.class.clone(),
            size_max: self.options.size_max,
        });
        if self.bytes_with_one_more() <= self.options.size_max {
            made = self.create(shard);
        }
        if made.is_err()
            && let Some(first) = shard.retire(None)
        {
            return self.recycle(shard, first);
        }
        if made.is_err()
            && self
                .shards
                .iter()
                .any(|other| self.drop_oldest(other, None))
        {
            made = self.create(shard);
        }
        made
    }

    fn bytes_with_one_more(&self) -> u64 {
        let segments = self.segments();
        let state = self.state.lock();
        let ready =
            |spare: &&SpareState| matches!(spare, SpareState::Ready(_) | SpareState::Preparing);
        let spares = state.spares.iter().filter(ready).count();
        (segments + spares) as u64 * self.options.segment_bytes
    }

    fn create(&self, shard: &ShardRoom) -> Result<Spare, Refusal> {
        create_spare(&shard.dir, self.options.segment_bytes).map_err(no_room(&shard.dir))
    }

    fn recycle(&self, shard: &ShardRoom, first: u64) -> Result<Spare, Refusal> {
        let path = layout::spare_path(&shard.dir);
        tracing::debug!(
            class = self.class.as_str(),
            shard = shard.shard.0,
            first,
            "segment is used again"
        );
        let renamed = fs::rename(layout::segment_path(&shard.dir, first), &path)
            .and_then(|()| layout::sync_dir(&shard.dir))
            .and_then(|()| open_spare(&path, self.options.segment_bytes));
        match renamed {
            Ok(Some(spare)) => Ok(spare),
            // Of another length: segments were smaller or larger when it was made.
            Ok(None) => self.create(shard),
            Err(error) => Err(no_room(&shard.dir)(error)),
        }
    }

    fn retire_by_age(&self) {
        let age_max = i64::try_from(self.options.age_max.as_micros()).unwrap_or(i64::MAX);
        let before = super::now().plus_micros(age_max.saturating_neg());
        for shard in &self.shards {
            while self.drop_oldest(shard, Some(before)) {}
        }
    }

    /// Removes a shard's oldest segment if that is allowed. Says whether it was.
    fn drop_oldest(&self, shard: &ShardRoom, before: Option<Timestamp>) -> bool {
        let Some(first) = shard.retire(before) else {
            return false;
        };
        tracing::debug!(
            class = self.class.as_str(),
            shard = shard.shard.0,
            first,
            "segment is dropped"
        );
        let path = layout::segment_path(&shard.dir, first);
        if let Err(error) = fs::remove_file(&path).and_then(|()| layout::sync_dir(&shard.dir)) {
            // Readers do not see it any more; the next start finds it again.
            tracing::warn!(path = %path.display(), %error, "cannot remove a segment");
        }
        true
    }
}

fn no_room(dir: &Path) -> impl FnOnce(io::Error) -> Refusal + use<> {
    let dir: Arc<Path> = dir.into();
    move |source| Refusal::NoRoom {
        dir,
        source: Arc::new(source),
    }
}
