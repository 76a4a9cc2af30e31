//! The writer's thread: takes a batch, writes one frame per shard, syncs, answers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Whether the last batch was refused.
    has_refused: bool,
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
            has_refused: false,
        }
    }

    /// Works until the queue is closed and empty, or a sync fails.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.queue.take() {
            let began = Instant::now();
            let (fates, failure) = self.write(&batch);
            self.count(&batch, &fates, began.elapsed());
            let refuses = fates.iter().any(|fate| matches!(fate, Fate::Refused(_)));
            if self.has_refused && !refuses && failure.is_none() {
                self.room.accepts_again();
            }
            self.has_refused = refuses;
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

    fn count(&self, batch: &Batch, fates: &[Fate], took: Duration) {
        let (mut records, mut refused, mut bytes) = (0, 0, 0);
        for (shard, event) in &batch.events {
            if matches!(fates[shard.0 as usize], Fate::Written(_)) {
                records += 1;
                bytes += event.len() as u64;
            } else {
                refused += 1;
            }
        }
        self.room.metrics.synced(records, refused, bytes, took);
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
        room.count_segments();
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

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use hoop_schema::{Class, SourceId};

    use super::super::layout::SegmentMap;
    use super::super::metrics::Metrics;
    use super::super::options::Options;
    use super::super::queue::{Limits, Waiting};
    use super::super::room::ShardRoom;
    use super::*;
    use crate::log::{AppendError, AppendResult};

    /// A writer whose segment is a device that answers as a broken disk does.
    fn writer_on(device: &str) -> (Arc<Queue>, Arc<Room>, Writer) {
        let options = Options::default();
        let limits = Limits {
            shards: 1,
            queue_bytes_max: 1 << 20,
            batch_bytes_max: 100,
            record_bytes_max: 100,
        };
        let queue = Arc::new(Queue::new(limits));
        let source = SourceId::from_bytes([0; 4]);
        let shard = ShardRoom::new(Shard(0), device.into(), SegmentMap::new(), 1, 0);
        let head = SegmentHead {
            source,
            shard: Shard(0),
            seed: 0,
            first: 1,
            created: Timestamp::default(),
            len: options.segment_bytes,
            recycled: false,
        };
        let metrics = Metrics::default().of(&Class::standard());
        let room = Room::new(
            metrics,
            Class::standard(),
            source,
            options,
            vec![shard],
            [].into(),
        );
        let active = Active {
            file: OpenOptions::new()
                .write(true)
                .open(device)
                .expect("every Linux has it"),
            path: Path::new(device).into(),
            head,
            offset: BLOCK as u64,
            next: 1,
            last_ts: Timestamp::default(),
            frame: FrameBuilder::default(),
        };
        let room = Arc::new(room);
        let writer = Writer::new(Arc::clone(&queue), Arc::clone(&room), vec![active]);
        (queue, room, writer)
    }

    fn append(queue: &Queue) -> Waiting {
        queue
            .append(Shard(0), Bytes::from(vec![0; 60]), false)
            .expect("is taken")
    }

    fn answer(waiting: Waiting) -> AppendResult {
        let mut waiting = std::pin::pin!(waiting);
        match waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("has no answer"),
        }
    }

    #[test]
    fn a_failed_sync_is_unknown_for_its_batch_and_the_end_for_all_others() {
        // Takes any write, but cannot be synced.
        let (queue, room, writer) = writer_on("/dev/null");
        let (first, second) = (append(&queue), append(&queue));
        writer.run();
        assert!(matches!(answer(first), Err(AppendError::Unknown(_))));
        assert!(
            matches!(answer(second), Err(AppendError::Terminal(_))),
            "it was never written"
        );
        let later = queue.append(Shard(0), Bytes::new(), false);
        assert!(matches!(later, Err(AppendError::Terminal(_))));
        assert!(matches!(queue.ready(), Err(AppendError::Terminal(_))));
        assert_eq!(
            *room.shards[0].durable.borrow(),
            1,
            "readers see nothing of it"
        );
    }

    #[test]
    fn a_failed_write_is_refused_and_the_next_one_is_tried() {
        // Has no space for any write.
        let (queue, _room, writer) = writer_on("/dev/full");
        let (first, second) = (append(&queue), append(&queue));
        queue.close();
        writer.run();
        assert!(matches!(answer(first), Err(AppendError::Retryable(_))));
        assert!(matches!(answer(second), Err(AppendError::Retryable(_))));
    }

    #[test]
    fn a_forgotten_batch_may_have_been_written() {
        let (queue, _room, _writer) = writer_on("/dev/null");
        let waiting = append(&queue);
        drop(queue.take());
        assert!(matches!(answer(waiting), Err(AppendError::Unknown(_))));
    }
}
