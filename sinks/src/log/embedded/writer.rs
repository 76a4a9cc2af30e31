//! The writer's thread: takes a batch, writes one frame per shard, syncs, answers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use hoop_schema::{Shard, Timestamp};

use super::error::Refusal;
use super::frame::{BLOCK, FrameBuilder};
use super::layout;
use super::queue::{Batch, Fate, Queue};
use super::room::Room;
use super::segment::SegmentHead;

/// The one writer of a log.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<Queue>,
    room: Arc<Room>,
    shards: Vec<Active>,
}

/// The segment of a shard that is written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: File,
    pub(crate) path: Arc<Path>,
    pub(crate) head: SegmentHead,
    /// Where the next frame goes.
    pub(crate) offset: u64,
    /// Position of the next record.
    pub(crate) next: u64,
    pub(crate) last_ts: Timestamp,
    pub(crate) frame: FrameBuilder,
}

impl Writer {
    pub(crate) fn new(queue: Arc<Queue>, room: Arc<Room>, shards: Vec<Active>) -> Self {
        Self {
            queue,
            room,
            shards,
        }
    }

    /// Works until the queue is closed and empty, or a sync fails.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.queue.take() {
            let (fates, failure) = self.write(&batch);
            // First of all nobody may be told that a later append works.
            if let Some(failure) = &failure {
                self.queue.fail(failure);
            }
            self.queue.answer(batch, fates);
            if failure.is_some() {
                return;
            }
        }
    }

    /// Writes and syncs a batch. Returns the fate of each shard's events, and why the log is at its end if it is.
    fn write(&mut self, batch: &Batch) -> (Vec<Fate>, Option<Refusal>) {
        for active in &mut self.shards {
            active.frame.begin();
        }
        for (shard, bytes) in &batch.events {
            self.shards[shard.0 as usize].frame.push(bytes);
        }
        let now = super::now();
        let mut fates = Vec::with_capacity(self.shards.len());
        for active in &mut self.shards {
            fates.push(match active.write_frame(&self.room, now) {
                Ok(()) => Fate::Written(active.next),
                Err(refusal) => Fate::Refused(refusal),
            });
        }
        let mut failure = None;
        for (active, fate) in self.shards.iter_mut().zip(&mut fates) {
            if active.frame.count() == 0 || !matches!(fate, Fate::Written(_)) {
                continue;
            }
            match rustix::fs::fdatasync(&active.file) {
                Ok(()) => active.advance(&self.room),
                Err(error) => {
                    let refusal = active.sync_failed(&self.room, error.into());
                    *fate = Fate::Unknown(refusal.clone());
                    failure = Some(refusal);
                }
            }
        }
        (fates, failure)
    }
}

impl Active {
    /// Writes the frame that was built, into the next segment if this one is full. Does nothing when it is empty.
    fn write_frame(&mut self, room: &Room, now: Timestamp) -> Result<(), Refusal> {
        if self.frame.count() == 0 {
            return Ok(());
        }
        let span = self.frame.span() as u64;
        if self.offset + span > self.head.len {
            self.rotate(room, now)?;
        }
        self.last_ts = self.last_ts.max(now);
        let fence = self.head.recycled && self.offset + span < self.head.len;
        let frame = self
            .frame
            .finish(self.head.seed, self.next, self.last_ts, fence);
        self.file.write_all_at(frame, self.offset).map_err(|error| {
            // What was written of it is no frame, and the next one takes its place. Its rest may stay behind.
            self.head.recycled = true;
            Refusal::Write {
                file: Arc::clone(&self.path),
                source: Arc::new(error),
            }
        })
    }

    /// The frame is durable: readers may see it.
    fn advance(&mut self, room: &Room) {
        let half = self.head.len / 2;
        let was_before_half = self.offset < half;
        self.offset += self.frame.span() as u64;
        self.next += u64::from(self.frame.count());
        if was_before_half && self.offset >= half {
            room.want(self.head.shard);
        }
        room.shards[self.head.shard.0 as usize]
            .durable
            .send_replace(self.next);
    }

    fn sync_failed(&self, room: &Room, error: std::io::Error) -> Refusal {
        tracing::error!(
            class = room.class.as_str(),
            shard = self.head.shard.0,
            position = self.next,
            %error,
            "a sync failed: the log takes no more events until it is opened again"
        );
        Refusal::Sync {
            file: Arc::clone(&self.path),
            source: Arc::new(error),
        }
    }

    fn rotate(&mut self, room: &Room, now: Timestamp) -> Result<(), Refusal> {
        let shard = &room.shards[self.head.shard.0 as usize];
        let spare = room.take(self.head.shard)?;
        let head = new_head(
            room,
            self.head.shard,
            self.next,
            self.last_ts.max(now),
            spare.recycled,
        )
        .map_err(|error| self.no_room(&shard.dir, error))?;
        self.file = spare
            .activate(&shard.dir, &head)
            .map_err(|error| self.no_room(&shard.dir, error))?;
        self.path = layout::segment_path(&shard.dir, head.first).into();
        self.head = head;
        self.offset = BLOCK as u64;
        shard.segments.lock().insert(head.first, head.created);
        Ok(())
    }

    fn no_room(&self, dir: &Path, error: std::io::Error) -> Refusal {
        Refusal::NoRoom {
            dir: dir.into(),
            source: Arc::new(error),
        }
    }
}

fn new_head(
    room: &Room,
    shard: Shard,
    first: u64,
    created: Timestamp,
    recycled: bool,
) -> std::io::Result<SegmentHead> {
    Ok(SegmentHead {
        source: room.source,
        shard,
        seed: u32::from_le_bytes(layout::random()?),
        first,
        created,
        len: room.options.segment_bytes,
        recycled,
    })
}
