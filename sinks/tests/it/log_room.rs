//! Room of the embedded log: retention by size and age, and a full disk.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hoop_sinks::log::conformance::event;
use hoop_sinks::log::embedded::{EmbeddedLog, Options};
use hoop_sinks::log::{AppendError, EventReader, EventWriter, Position};
use tempfile::TempDir;

use crate::log_files::{BLOCK, SHARD, append, contents, fast_dir, files, open, small};

/// Appends events until one is refused, and says how many were taken and why the last was not.
async fn fill(log: &EmbeddedLog) -> (u64, AppendError) {
    for taken in 0.. {
        if let Err(error) = log.append(SHARD, event(vec![b'x'; 1000])).await {
            return (taken, error);
        }
    }
    unreachable!("the range has no end");
}

async fn append_when_there_is_room(log: &EmbeddedLog) -> Position {
    let begun = Instant::now();
    loop {
        match log.append(SHARD, event("again")).await {
            Ok(position) => return position,
            Err(AppendError::Retryable(_)) if begun.elapsed() < Duration::from_secs(30) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_log_at_its_size_refuses_until_something_is_committed() {
    let dir = fast_dir();
    let options = Options {
        size_max: 4 * 4 * BLOCK,
        ..small(4)
    };
    let log = open(dir.path(), options);
    let (taken, error) = fill(&log).await;
    assert_eq!(taken, 4 * 3, "four segments of three frames");
    assert!(matches!(error, AppendError::Retryable(_)), "{error:?}");
    assert!(matches!(log.ready().await, Err(AppendError::Retryable(_))));
    assert_eq!(contents(&log, SHARD).await.len(), 12);

    // Not quite a segment is committed, then one.
    log.committed(SHARD, Position(3)).await;
    assert!(log.append(SHARD, event("no room")).await.is_err());
    log.committed(SHARD, Position(4)).await;
    assert_eq!(append_when_there_is_room(&log).await, Position(13));
    log.ready().await.expect("there is room");
    let found = contents(&log, SHARD).await;
    assert_eq!((found[0].0, found.len()), (4, 10));
    assert_eq!(files(dir.path(), "0").len(), 4);
}

#[tokio::test]
async fn readiness_comes_back_without_an_append() {
    let dir = fast_dir();
    let options = Options {
        size_max: 2 * 4 * BLOCK,
        ..small(4)
    };
    let log = open(dir.path(), options);
    fill(&log).await;
    log.ready().await.expect_err("is full");
    log.committed(SHARD, Position(7)).await;
    let begun = Instant::now();
    while log.ready().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    append(&log, "taken").await;
}

#[tokio::test]
async fn committed_segments_leave_by_age_and_others_stay() {
    let dir = fast_dir();
    let options = Options {
        age_max: Duration::ZERO,
        ..small(4)
    };
    let log = open(dir.path(), options.clone());
    for _ in 0..10 {
        append(&log, "old").await;
    }
    log.committed(SHARD, Position(6)).await;
    log.close().await;
    drop(log);
    // Looked at when the log is opened, and from then on every few seconds.
    let log = open(dir.path(), options);
    let begun = Instant::now();
    while log.bounds(SHARD).await.expect("can be asked").first == Position(1) {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing leaves");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let found = contents(&log, SHARD).await;
    assert_eq!(
        (found[0].0, found.len()),
        (4, 7),
        "the segment with position 6 and all later ones stay"
    );
}

#[tokio::test]
async fn what_is_committed_is_known_after_opening_again() {
    let dir = fast_dir();
    let options = Options {
        size_max: 2 * 4 * BLOCK,
        ..small(4)
    };
    {
        let log = open(dir.path(), options.clone());
        fill(&log).await;
        log.committed(SHARD, Position(4)).await;
        log.close().await;
    }
    let log = open(dir.path(), options);
    assert_eq!(append_when_there_is_room(&log).await, Position(7));
}

#[tokio::test]
async fn nobody_can_commit_what_is_not_there() {
    let dir = fast_dir();
    let log = open(dir.path(), small(4));
    append(&log, "one").await;
    log.committed(SHARD, Position(1000)).await;
    log.close().await;
    drop(log);
    assert_eq!(contents(&open(dir.path(), small(4)), SHARD).await.len(), 1);
}

/// A file system of its own, of a given size, unmounted when dropped.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(bytes: u64) -> Option<Self> {
        let dir = TempDir::new().expect("there is room for a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.dir.path())
            .status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "cannot unmount"
        );
    }
}

#[tokio::test]
async fn a_full_disk_refuses_appends_loses_nothing_and_work_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(1 << 20) else {
        let required = std::env::var_os("CI").is_some()
            || std::env::var("HOOP_TEST_BED").is_ok_and(|value| value == "required");
        assert!(
            !required,
            "a small file system cannot be mounted: run as root"
        );
        println!("skipped: a small file system cannot be mounted without root");
        return;
    };
    let options = small(32);
    let log = open(disk.path(), options.clone());
    let (taken, error) = fill(&log).await;
    assert!(
        taken >= 5 * 31,
        "most of the disk was used, not only {taken} frames"
    );
    let AppendError::Retryable(cause) = &error else {
        panic!("{error:?}");
    };
    let cause = cause
        .source()
        .expect("the answer of the file system")
        .to_string();
    assert!(cause.contains("No space left"), "{cause}");
    assert!(log.ready().await.is_err());
    assert_eq!(contents(&log, SHARD).await.len() as u64, taken);

    // Full as it is, it opens again, and has everything.
    drop(log);
    let log = open(disk.path(), options.clone());
    assert_eq!(contents(&log, SHARD).await.len() as u64, taken);
    log.append(SHARD, event(vec![b'x'; 1000]))
        .await
        .expect_err("is still full");

    let resized = Command::new("mount")
        .args(["-o", "remount,size=2097152"])
        .arg(disk.path())
        .status();
    assert!(
        resized.is_ok_and(|status| status.success()),
        "cannot grow the disk"
    );
    assert_eq!(append_when_there_is_room(&log).await.0, taken + 1);
    log.ready().await.expect("there is room");
    let found = contents(&log, SHARD).await;
    assert_eq!(found.len() as u64, taken + 1);
    assert_eq!(found.last().expect("is there").1, b"again");
    drop(log);
    assert_eq!(contents(&open(disk.path(), options), SHARD).await, found);
}

#[tokio::test]
async fn a_full_disk_gives_its_committed_segments_to_new_records() {
    let Some(disk) = SmallDisk::mount(1 << 20) else {
        println!("skipped: a small file system cannot be mounted without root");
        return;
    };
    let log = open(disk.path(), small(32));
    let (taken, _) = fill(&log).await;
    log.committed(SHARD, Position(taken)).await;
    assert_eq!(append_when_there_is_room(&log).await.0, taken + 1);
    for _ in 0..500 {
        let position = append_when_there_is_room(&log).await;
        log.committed(SHARD, position).await;
    }
    assert!(fs::read_dir(disk.path()).is_ok());
}
