//! The embedded event log: segment files in a folder, written by one process.
//!
//! Promise: a returned position is on the disk. Records are read back exactly, in order, each once, or an error says
//! which file is damaged where. Nothing that was acknowledged is ever dropped before it is committed, and nothing at
//! all is cut away without being saved first.
//!
//! # Files
//! ```text
//! <dir>/<class>/log.json                      {"format_version":1,"class":"standard","source":"9f86d081","shards":1}
//! <dir>/<class>/lock                          locked (flock) by the one process that writes
//! <dir>/<class>/shard=000/<position>.segment  name: position of its first record, 20 digits
//! <dir>/<class>/shard=000/spare               becomes the next segment
//! <dir>/<class>/shard=000/committed           "<position> <crc32c of its digits>": everything before it is evidence
//! <dir>/<class>/shard=000/torn-<position>     what was cut from the end after a crash, as it was
//! ```
//! Positions are dense per shard, from 1. A segment ends where the next one begins.
//!
//! A **segment** has a fixed length. It is allocated and written full of zeros beforehand, or was a segment before
//! and is used again; frames are written in place, so that a sync has no metadata to write. All integers are
//! little-endian; head and frames begin at multiples of 4096 bytes (blocks), so that no block with acknowledged
//! records is ever written again. The first block is the head:
//! ```text
//!  0  8  "hoopseg1"                     32  8  not before any log_ts of an earlier segment, µs since 1970
//!  8  8  source id, hexadecimal         40  8  bytes of the file
//! 16  4  shard                          48  1  1 if the file was a segment before
//! 20  4  seed, random                   52  4  crc32c of the block without these four bytes
//! 24  8  position of the first record   56     zeros
//! ```
//! A **frame** is what one sync made durable:
//! ```text
//!  0  4  "hfr1"                         16  8  log_ts of all its records, µs since 1970; never goes back
//!  4  4  crc32c, begun with the seed,   24  4  number of records, at least 1
//!        of all its blocks from byte 8  28  4  bytes of head and records
//!  8  8  position of the first record   32     records: length (4), bytes; then zeros up to a full block
//! ```
//! Remains of a former life of the file can never pass for a frame: their positions are lower than any that is
//! expected, and their checksum began with another seed. In such a file a block of zeros follows the last frame.
//!
//! # Damage
//! A frame is written only after the one before it was synced. So a place where no valid frame is, but a later one
//! is valid, or a later segment exists, is damage of acknowledged records: an error, on opening the last segment and
//! on reading any. With nothing valid behind it, it is a write that a crash interrupted: on opening, its bytes are
//! saved, then cut, with a warning. (A last batch that rots on the disk looks the same; its bytes are in that file.
//! When `committed` shows that it had been read, opening is an error instead.)
//!
//! # Failure
//! - No room for the next segment (disk full, or `size_max` reached and nothing committed): appends are refused, and
//!   accepted again when there is room. The next segment is made ready when the current one is half full.
//! - A write fails: the batch is refused; the next one takes its place.
//! - A sync fails: its batch may or may not be on the disk and nobody can find out, since the system then takes the
//!   pages for clean. The log takes no more events until it is opened again; opening writes the last frame again and
//!   syncs it before it counts as there.
//! - The disk loses what it called synced: not within our power; `committed` and the producers' sequences show it.
//!
//! Not here: what events are (`hoop_schema`), which shard an event belongs to (its session says so).

mod cursor;
mod error;
mod frame;
mod layout;
mod metrics;
mod options;
mod queue;
mod read_only;
mod reader;
mod recover;
mod room;
mod segment;
mod spare;
mod writer;

pub use error::OpenError;
pub use metrics::Metrics;
pub use options::Options;
pub use read_only::EmbeddedReader;

use std::collections::BTreeMap;
use std::fs;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hoop_schema::{Class, Shard, SourceId, Timestamp};
use tokio::sync::watch;

use self::error::{Refusal, io_error};
use self::layout::{Description, Lock};
use self::queue::{Limits, Queue};
use self::reader::{ShardReader, View};
use self::room::{Room, ShardRoom};
use self::writer::Writer;
use super::{
    AppendError, Appending, Bounds, EventReader, EventWriter, LogRecord, Outgoing, Position,
    ReadError,
};

/// The log of one class, for the process that writes it: writer and reader in one.
#[derive(Debug)]
pub struct EmbeddedLog {
    room: Arc<Room>,
    queue: Arc<Queue>,
    readers: Arc<[ShardReader]>,
    /// Turns true when the writer has ended and the lock is free.
    ended: watch::Receiver<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Opens the log of `class` under `dir`, or creates it there. Blocks while files are read and allocated.
    ///
    /// # Errors
    /// When another process writes to it, it has another number of shards, an option cannot work, acknowledged
    /// records at its end are damaged, or the file system refuses.
    pub fn open(dir: &Path, class: Class, options: Options) -> Result<Self, OpenError> {
        Self::open_measured(dir, class, options, &Metrics::default())
    }

    /// As [`EmbeddedLog::open`], counted in `metrics`.
    ///
    /// # Errors
    /// As there.
    pub fn open_measured(
        dir: &Path,
        class: Class,
        options: Options,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let dir = layout::class_dir(dir, &class);
        fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let lock = layout::lock(&dir)?;
        let shards = options.shards.get();
        let source = Description::read_or_create(&dir, &class, shards)?.source;
        let mut actives = Vec::new();
        let mut rooms = Vec::new();
        let mut spares = BTreeMap::new();
        for shard in (0..shards).map(Shard) {
            let dir = layout::shard_dir(&dir, shard);
            let found = recover::recover(dir.clone(), shard, source, &options)?;
            let path = layout::spare_path(&dir);
            let spare =
                spare::open_spare(&path, options.segment_bytes).map_err(io_error("open", &path))?;
            spares.extend(spare.map(|spare| (shard.0, spare)));
            rooms.push(ShardRoom::new(
                shard,
                dir,
                found.segments,
                found.active.next,
                found.committed,
            ));
            actives.push(found.active);
        }
        let limits = Limits {
            shards,
            queue_bytes_max: options.queue_bytes_max,
            batch_bytes_max: options.batch_bytes_max(),
            record_bytes_max: options.record_bytes_max(),
        };
        let room = Arc::new(Room::new(
            metrics.of(&class),
            class,
            source,
            options,
            rooms,
            spares,
        ));
        Self::start(room, Arc::new(Queue::new(limits)), actives, lock, &dir)
    }

    fn start(
        room: Arc<Room>,
        queue: Arc<Queue>,
        actives: Vec<writer::Active>,
        lock: Lock,
        dir: &Path,
    ) -> Result<Self, OpenError> {
        let (end, ended) = watch::channel(false);
        let readers = shard_readers(room.source, room.shards.len(), dir);
        let helper = Arc::clone(&room);
        let persisted = room.committed();
        let helper = thread::Builder::new()
            .name("log-room".to_owned())
            .spawn(move || helper.run(persisted))
            .map_err(io_error("start a thread for", dir))?;
        let writer = Writer::new(Arc::clone(&queue), Arc::clone(&room), actives);
        let (ending, failing) = (Arc::clone(&room), Arc::clone(&queue));
        let spawned = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                // A panic would be a bug; even then no caller may wait for ever, and the files must be let go.
                if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                    failing.fail(&Refusal::Panicked);
                }
                ending.stop();
                if helper.join().is_err() {
                    tracing::error!(
                        class = ending.class.as_str(),
                        "the helper thread of the log has panicked"
                    );
                }
                // Only now does nothing of this process touch the files any more.
                drop(lock);
                end.send_replace(true);
            });
        match spawned {
            Ok(thread) => Ok(Self {
                room,
                queue,
                readers,
                ended,
                thread: Some(thread),
            }),
            Err(error) => {
                room.stop();
                Err(io_error("start a thread for", dir)(error))
            }
        }
    }

    /// Everything before this position of a shard is committed, as far as is known; 0 when nothing ever was.
    pub(crate) fn committed_before(&self, shard: Shard) -> u64 {
        let committed = self.room.committed();
        committed.get(shard.0 as usize).copied().unwrap_or(0)
    }

    fn shard(&self, shard: Shard) -> Result<usize, ReadError> {
        existing(&self.readers, shard)
    }
}

impl Drop for EmbeddedLog {
    /// Writes what was taken, and frees the lock. Blocks for as long as that takes.
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                class = self.room.class.as_str(),
                "the writer thread of the log has panicked"
            );
        }
    }
}

#[async_trait]
impl EventWriter for EmbeddedLog {
    fn class(&self) -> &Class {
        &self.room.class
    }

    fn shards(&self) -> u32 {
        self.room.options.shards.get()
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        match self.queue.append(shard, event.bytes, event.linger) {
            Ok(waiting) => Box::pin(waiting),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    async fn ready(&self) -> Result<(), AppendError> {
        self.queue.ready()?;
        self.room
            .ready()
            .map_err(|refusal| AppendError::Retryable(refusal.into()))
    }

    async fn close(&self) {
        self.queue.close();
        let mut ended = self.ended.clone();
        if ended.wait_for(|ended| *ended).await.is_err() {
            tracing::error!(
                class = self.room.class.as_str(),
                "the writer of the log has panicked"
            );
        }
    }
}

#[async_trait]
impl EventReader for EmbeddedLog {
    fn class(&self) -> &Class {
        &self.room.class
    }

    fn shards(&self) -> u32 {
        self.room.options.shards.get()
    }

    fn source(&self) -> SourceId {
        self.room.source
    }

    async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
        // From memory: it does not block.
        self.readers[self.shard(shard)?].bounds(View::Own(&self.room))
    }

    async fn read(
        &self,
        shard: Shard,
        from: Position,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let index = self.shard(shard)?;
        let mut durable = self.room.shards[index].durable.subscribe();
        if *durable.borrow_and_update() <= from.0.max(1) {
            let waited =
                tokio::time::timeout(wait, durable.wait_for(|next| *next > from.0.max(1))).await;
            if waited.is_err() {
                return Ok(Vec::new());
            }
        }
        let (room, readers) = (Arc::clone(&self.room), Arc::clone(&self.readers));
        blocking(move || readers[index].read(View::Own(&room), from.0, bytes_max)).await
    }

    async fn committed(&self, shard: Shard, position: Position) {
        if let Some(shard) = self.room.shards.get(shard.0 as usize) {
            self.room.commit(shard, position.0);
        }
    }
}

fn shard_readers(source: SourceId, shards: usize, dir: &Path) -> Arc<[ShardReader]> {
    let reader = |shard| {
        let shard = Shard(u32::try_from(shard).expect("shards are counted in u32"));
        ShardReader::new(source, shard, layout::shard_dir(dir, shard))
    };
    (0..shards).map(reader).collect()
}

fn existing(readers: &[ShardReader], shard: Shard) -> Result<usize, ReadError> {
    let index = shard.0 as usize;
    if index < readers.len() {
        Ok(index)
    } else {
        Err(ReadError::Unavailable(Refusal::NoSuchShard(shard).into()))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is shutting down, or the work panicked: nobody can wait for it any more.
        Err(error) => Err(ReadError::Unavailable(error.into())),
    }
}

/// Reads the records of one segment from its bytes, up to the first place without a valid frame: for fuzzing.
#[cfg(feature = "test-util")]
pub fn read_segment(bytes: &[u8]) -> Vec<LogRecord> {
    segment::read_records(bytes)
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
