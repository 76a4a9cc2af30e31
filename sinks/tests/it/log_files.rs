//! Helpers of the embedded log's tests, and the tests of its folder: lock, description, a reader in another process.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::event;
use hoop_sinks::log::embedded::{EmbeddedLog, EmbeddedReader, OpenError, Options};
use hoop_sinks::log::{EventReader, EventWriter, LogRecord, Position, ReadError};
use tempfile::TempDir;

pub(crate) const BLOCK: u64 = 4096;
pub(crate) const SHARD: Shard = Shard(0);

/// A folder in memory if there is such a file system: these tests sync thousands of times.
pub(crate) fn fast_dir() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("there is room for a folder")
}

/// Options of a log with small segments.
pub(crate) fn small(segment_blocks: u64) -> Options {
    Options {
        segment_bytes: segment_blocks * BLOCK,
        size_max: 1000 * segment_blocks * BLOCK,
        ..Options::default()
    }
}

pub(crate) fn open(dir: &Path, options: Options) -> EmbeddedLog {
    EmbeddedLog::open(dir, Class::standard(), options).expect("can be opened")
}

/// The folder of the first shard.
pub(crate) fn shard_dir(dir: &Path) -> PathBuf {
    dir.join("standard/shard=000")
}

/// Files of the shard whose name begins like this, sorted.
pub(crate) fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(shard_dir(dir)).expect("the shard has a folder");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("can be listed").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    found.sort();
    found
}

pub(crate) async fn append(log: &EmbeddedLog, bytes: impl Into<bytes::Bytes>) -> Position {
    log.append(SHARD, event(bytes)).await.expect("is taken")
}

/// What a shard holds. Begins again when its oldest records leave meanwhile.
pub(crate) async fn held(reader: &dyn EventReader, shard: Shard) -> Vec<LogRecord> {
    let mut records: Vec<LogRecord> = Vec::new();
    let mut from = Position(1);
    loop {
        match reader.read(shard, from, 1 << 20, Duration::ZERO).await {
            Ok(batch) if batch.is_empty() => return records,
            Ok(batch) => {
                records.extend(batch);
                from = Position(records.last().map_or(0, |last| last.position.0) + 1);
            }
            Err(ReadError::Expired { first, .. }) => {
                records.clear();
                from = first;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// What a shard holds, as positions and bytes.
pub(crate) async fn contents(reader: &dyn EventReader, shard: Shard) -> Vec<(u64, Vec<u8>)> {
    let records = held(reader, shard).await;
    records
        .into_iter()
        .map(|record| (record.position.0, record.bytes.to_vec()))
        .collect()
}

#[tokio::test]
async fn a_second_writer_is_refused_and_told_where() {
    let dir = fast_dir();
    let log = open(dir.path(), small(4));
    let second = EmbeddedLog::open(dir.path(), Class::standard(), small(4)).expect_err("is locked");
    assert!(matches!(second, OpenError::Locked { .. }), "{second:?}");
    let folder = dir.path().join("standard");
    assert!(
        second.to_string().contains(&*folder.to_string_lossy()),
        "{second}"
    );
    log.close().await;
    drop(open(dir.path(), small(4)));
}

#[tokio::test]
async fn classes_are_logs_of_their_own() {
    let dir = fast_dir();
    let standard = open(dir.path(), small(4));
    let long = Class::new("long").expect("is a class");
    let long = EmbeddedLog::open(dir.path(), long, small(4)).expect("has its own lock");
    append(&standard, "short-lived").await;
    assert_ne!(standard.source(), long.source());
    assert!(contents(&long, SHARD).await.is_empty());
}

#[test]
fn another_number_of_shards_is_refused() {
    let dir = fast_dir();
    drop(open(dir.path(), small(4)));
    let three = Options {
        shards: NonZeroU32::new(3).expect("is not zero"),
        ..small(4)
    };
    let error = EmbeddedLog::open(dir.path(), Class::standard(), three).expect_err("has one shard");
    assert!(
        matches!(
            error,
            OpenError::Shards {
                found: 1,
                wanted: 3,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_lost_or_unknown_description_is_not_replaced() {
    let dir = fast_dir();
    drop(open(dir.path(), small(4)));
    let description = dir.path().join("standard/log.json");
    let text = fs::read_to_string(&description).expect("is there");
    for bad in [
        "",
        "{}",
        &text.replace(": 1,", ": 2,"),
        &text.replace("standard", "long"),
    ] {
        fs::write(&description, bad).expect("can be written");
        let error =
            EmbeddedLog::open(dir.path(), Class::standard(), small(4)).expect_err("is wrong");
        assert!(
            matches!(error, OpenError::Description { .. }),
            "{bad:?}: {error:?}"
        );
        assert!(EmbeddedReader::open(dir.path(), &Class::standard()).is_err());
    }
    fs::remove_file(&description).expect("is there");
    let error = EmbeddedLog::open(dir.path(), Class::standard(), small(4)).expect_err("is gone");
    assert!(matches!(error, OpenError::Description { .. }), "{error:?}");
    let missing = EmbeddedReader::open(dir.path(), &Class::standard()).expect_err("is gone");
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing:?}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let dir = fast_dir();
    let unaligned = Options {
        segment_bytes: 3 * BLOCK + 1,
        ..small(4)
    };
    let tiny = Options {
        segment_bytes: 2 * BLOCK,
        ..small(4)
    };
    let no_room = Options {
        size_max: 4 * BLOCK,
        ..small(4)
    };
    for options in [unaligned, tiny, no_room] {
        let error =
            EmbeddedLog::open(dir.path(), Class::standard(), options).expect_err("cannot work");
        assert!(matches!(error, OpenError::Option { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_event_that_fits_no_segment_is_refused_for_good() {
    let dir = fast_dir();
    let log = open(dir.path(), small(3));
    let refused = log.append(SHARD, event(vec![0; 2 * 4096])).await;
    assert!(
        matches!(refused, Err(hoop_sinks::log::AppendError::Terminal(_))),
        "{refused:?}"
    );
    append(&log, vec![1; 2 * 4096 - 36]).await;
    append(&log, "small").await;
    assert_eq!(contents(&log, SHARD).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_the_lock_follows_rotation_and_retirement() {
    let dir = fast_dir();
    let options = Options {
        size_max: 8 * 4 * BLOCK,
        ..small(4)
    };
    let log = Arc::new(open(dir.path(), options));
    let reader = EmbeddedReader::open(dir.path(), &Class::standard()).expect("is there");
    let writing = Arc::clone(&log);
    let writer = tokio::spawn(async move {
        for n in 1..=2000u64 {
            let position = append(&writing, n.to_string()).await;
            assert_eq!(position, Position(n));
            writing.committed(SHARD, position).await;
        }
    });
    let (mut from, mut seen, mut expired) = (Position(1), 0, 0);
    while from <= Position(2000) {
        match reader
            .read(SHARD, from, 1 << 20, Duration::from_secs(10))
            .await
        {
            Ok(records) => {
                assert!(!records.is_empty(), "stuck at {from}");
                for record in records {
                    assert_eq!(record.position, from);
                    assert_eq!(record.bytes, from.to_string());
                    from.0 += 1;
                    seen += 1;
                }
            }
            Err(ReadError::Expired { first, .. }) => {
                assert!(first > from);
                from = first;
                expired += 1;
            }
            Err(other) => panic!("{other:?} at {from}"),
        }
    }
    writer.await.expect("does not panic");
    assert!(seen > 0, "{expired} times too late");
    let bounds = reader.bounds(SHARD).await.expect("can be asked");
    assert_eq!(bounds, log.bounds(SHARD).await.expect("can be asked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_the_lock_sees_a_record_soon() {
    let dir = fast_dir();
    let log = open(dir.path(), small(16));
    let reader = Arc::new(EmbeddedReader::open(dir.path(), &Class::standard()).expect("is there"));
    let mut delays = Vec::new();
    for n in 1..=10 {
        let tail = Arc::clone(&reader);
        let waiting = tokio::spawn(async move {
            tail.read(SHARD, Position(n), 1, Duration::from_secs(10))
                .await
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        append(&log, "seen").await;
        let begun = Instant::now();
        assert_eq!(
            waiting.await.expect("no panic").expect("can be read").len(),
            1
        );
        delays.push(begun.elapsed());
    }
    // The median: on a busy machine one of them may have been held up by others.
    delays.sort();
    assert!(delays[5] <= Duration::from_millis(200), "{delays:?}");
}
