//! Evidence that the real recorder wrote.

use std::path::Path;

use hoop_recorder::config::Config;
use hoop_recorder::core::{Action, Core};
use hoop_schema::evidence::PreviousFile;
use hoop_schema::{Class, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::dir::Dir;

use crate::fixture::scene;
use crate::run::replay;
use crate::writer::json;

/// Records the scene into files of at most `size` events. Returns the names of the session files.
pub(crate) async fn record(folder: &Path, events: &[Vec<u8>], size: usize) -> Vec<String> {
    record_days(folder, events, size, events.len()).await
}

/// The same; the log takes a new day's first event after every `day` of them.
pub(crate) async fn record_days(
    folder: &Path,
    events: &[Vec<u8>],
    size: usize,
    day: usize,
) -> Vec<String> {
    let store = Dir::open(folder).unwrap();
    let class = Class::standard();
    let config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
    let source = SourceId::from_bytes([7; 4]);
    let mut core = Core::new(
        &config,
        1_795_000_000_000_000,
        source,
        &class,
        Shard(0),
        None,
    );
    let mut keys = Vec::new();
    for (i, event) in events.iter().enumerate() {
        let ts: Timestamp = json(event)["ts"].as_str().unwrap().parse().unwrap();
        let log_ts = ts.plus_micros((i / day) as i64 * 86_400_000_000);
        let record = LogRecord {
            position: Position(i as u64 + 1),
            log_ts,
            bytes: event.clone().into(),
        };
        let mut actions = core.apply(record, log_ts);
        if (i + 1) % size == 0 || i + 1 == events.len() {
            actions.extend(core.flush());
        }
        for action in actions {
            let Action::Commit(batch) = action else {
                continue;
            };
            let encoded = batch
                .encode(core.previous().cloned(), log_ts, None)
                .unwrap();
            let (key, index) = (batch.name().to_string(), batch.name().index_key());
            let metadata = Default::default();
            store.create(&key, encoded.file, &metadata).await.unwrap();
            store
                .create(&index, encoded.index, &metadata)
                .await
                .unwrap();
            keys.push(key.clone());
            let sha256 = encoded.sha256;
            core.committed(PreviousFile { key, sha256 });
        }
    }
    keys
}

#[tokio::test]
async fn what_the_recorder_wrote_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &scene(), 6).await;
    let said = replay(folder.path(), 80, &["verify"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    let one = replay(folder.path(), 80, &["verify", "--session", "b0"]);
    assert_eq!(one.code, 0, "{}", one.out);
}

#[tokio::test]
async fn the_index_says_what_the_events_say() {
    let folder = tempfile::tempdir().unwrap();
    let files = record(folder.path(), &scene(), 6).await.len();
    let by_index = replay(folder.path(), 200, &["list", "-o", "json"]);
    let shown = replay(folder.path(), 200, &["show", "b0b0", "--bodies"]);
    let read = replay(folder.path(), 200, &["list", "--stats"]);
    let only_indexes = format!(" of {files} objects ");
    assert!(read.err.contains(&only_indexes), "{files}: {}", read.err);
    std::fs::remove_dir_all(folder.path().join("sessions")).unwrap();
    let by_events = replay(folder.path(), 200, &["list", "-o", "json"]);
    assert_eq!(by_index.out, by_events.out);
    assert_eq!(
        shown.out,
        replay(folder.path(), 200, &["show", "b0b0", "--bodies"]).out
    );
}

#[tokio::test]
async fn a_dropped_event_becomes_a_gap_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = scene();
    events.remove(9);
    record(folder.path(), &events, 6).await;
    let said = replay(folder.path(), 80, &["verify"]);
    assert_eq!(said.code, 2, "{}", said.out);
    let shown = replay(folder.path(), 80, &["show", "b0"]);
    assert!(shown.out.contains("are missing"), "{}", shown.out);
}

#[tokio::test]
async fn a_record_that_is_no_event_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let events = scene();
    let poison = br#"{"ts":"2026-11-22T10:00:00.000000Z","not":"an event"}"#.to_vec();
    let all = [&events[..4], &[poison], &events[4..]].concat();
    record(folder.path(), &all, 100).await;
    let said = replay(folder.path(), 80, &["verify"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let found = replay(folder.path(), 80, &["grep", "recorder.unparsed"]);
    assert_eq!(found.code, 0, "{}", found.err);
}
