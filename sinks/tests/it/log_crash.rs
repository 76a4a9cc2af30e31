//! The embedded log under SIGKILL: a child process appends, and is killed at random points.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hoop_schema::Class;
use hoop_sinks::log::conformance::{event, read_all};
use hoop_sinks::log::embedded::{EmbeddedReader, Options};
use hoop_sinks::log::{EventReader, EventWriter, Position};

use crate::log_files::{BLOCK, SHARD, fast_dir, open};

const DIR: &str = "HOOP_LOG_CRASH_DIR";
const ROUND: &str = "HOOP_LOG_CRASH_ROUND";
const ROUNDS: u64 = 200;
/// Appends under way at a time.
const TASKS: u64 = 8;
/// What says that a round's child has acknowledged something.
const ACKS: &str = "acks";
/// The position up to which the parent has checked, so that the child may commit it.
const CHECKED: &str = "checked";

fn options() -> Options {
    Options {
        segment_bytes: 16 * BLOCK,
        size_max: 64 * 16 * BLOCK,
        ..Options::default()
    }
}

/// The child: appends events of many sizes from several tasks, and notes each acknowledgement in a file before it
/// appends the next. Segments that the parent has checked are committed, so that they are used again under fire.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let round: u64 = std::env::var(ROUND)
        .expect("is set with the folder")
        .parse()
        .expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let log = Arc::new(open(&dir, options()));
        let checked = fs::read_to_string(dir.join(CHECKED)).unwrap_or_default();
        log.committed(SHARD, Position(checked.parse().unwrap_or(0)))
            .await;
        let acks = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join(ACKS))
            .expect("can be opened");
        let acks = Arc::new(acks);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                tokio::spawn(append_for_ever(
                    Arc::clone(&log),
                    Arc::clone(&acks),
                    round,
                    task,
                ))
            })
            .collect();
        for task in tasks {
            task.await.expect("runs until it is killed");
        }
    });
}

async fn append_for_ever(
    log: Arc<hoop_sinks::log::embedded::EmbeddedLog>,
    acks: Arc<File>,
    round: u64,
    task: u64,
) {
    for n in 0u64.. {
        let size = usize::try_from((n * 977 + task * 331) % 6000).expect("is small");
        let name = format!("{round} {task} {n}");
        let mut body = name.clone().into_bytes();
        body.resize(body.len() + size, b' ');
        // Full when the parent has not checked for long: the next round goes on.
        let Ok(position) = log.append(SHARD, event(body)).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let line = format!("{position} {name}\n");
        (&*acks).write_all(line.as_bytes()).expect("can be noted");
    }
}

fn start_child(dir: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().expect("is known"))
        .args([
            "--exact",
            "log_crash::child_that_appends_until_it_is_killed",
            "--nocapture",
        ])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test binary can be run")
}

/// The lines that were written whole.
fn acknowledged(dir: &Path) -> BTreeMap<u64, String> {
    let text = fs::read_to_string(dir.join(ACKS)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut found = BTreeMap::new();
    for line in whole.lines() {
        let (position, name) = line.split_once(' ').expect("position and name");
        let before = found.insert(position.parse().expect("a number"), name.to_owned());
        assert_eq!(before, None, "position {position} was given twice");
    }
    found
}

/// What is read, checked as it comes: positions dense, events of one task in order and once.
#[derive(Default)]
struct Seen {
    names: BTreeMap<u64, String>,
    last_of_task: BTreeMap<(u64, u64), u64>,
}

impl Seen {
    fn next(&self) -> u64 {
        self.names
            .last_key_value()
            .map_or(1, |(position, _)| position + 1)
    }

    fn take(&mut self, position: u64, body: &[u8]) {
        assert_eq!(position, self.next());
        let name = std::str::from_utf8(body)
            .expect("was text")
            .trim_end()
            .to_owned();
        let numbers: Vec<u64> = name
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [round, task, n] = numbers[..] else {
            panic!("{name:?} was never appended");
        };
        let before = self.last_of_task.insert((round, task), n);
        assert!(
            before.is_none_or(|before| before < n),
            "{name} comes after {before:?}"
        );
        self.names.insert(position, name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_survives_200_kills_in_order_and_once() {
    let dir = fast_dir();
    let mut seen = Seen::default();
    let mut acknowledged_before = 0;
    let mut killed_while_appending = 0;
    for round in 0..ROUNDS {
        fs::write(dir.path().join(CHECKED), seen.next().to_string()).expect("can be written");
        let mut child = start_child(dir.path(), round);
        let acks = dir.path().join(ACKS);
        let begun = Instant::now();
        // Most are killed at some point after their first acknowledgement, some while they open the log.
        while round % 8 != 0
            && fs::metadata(&acks).map_or(0, |acks| acks.len()) == acknowledged_before
            && begun.elapsed() < Duration::from_secs(20)
        {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(round * 7919 % 30_000));
        child.kill().expect("is a child of ours");
        child.wait().expect("is a child of ours");
        let acknowledged_now = fs::metadata(&acks).map_or(0, |acks| acks.len());
        killed_while_appending += u64::from(acknowledged_now > acknowledged_before);
        acknowledged_before = acknowledged_now;

        let Ok(reader) = EmbeddedReader::open(dir.path(), &Class::standard()) else {
            assert_eq!(
                acknowledged_now, 0,
                "only a log that was never opened has no description"
            );
            continue;
        };
        for record in read_all(&reader, SHARD, Position(seen.next())).await {
            seen.take(record.position.0, &record.bytes);
        }
    }
    let acknowledged = acknowledged(dir.path());
    assert!(
        killed_while_appending > ROUNDS / 2,
        "only {killed_while_appending} rounds appended"
    );
    for (position, name) in &acknowledged {
        assert_eq!(seen.names.get(position), Some(name), "position {position}");
    }
    // And the log is as good as ever.
    let log = open(dir.path(), options());
    let position = log.append(SHARD, event("0 0 0")).await.expect("is taken");
    assert_eq!(position.0, seen.next());
}
