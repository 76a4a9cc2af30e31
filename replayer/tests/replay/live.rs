//! Files and the live log together.

use std::path::Path;

use hoop_schema::{Class, Shard, SourceId};
use hoop_sinks::log::embedded::{EmbeddedLog, Options};
use hoop_sinks::log::{EventReader, EventWriter, Outgoing};

use crate::fixture::scene;
use crate::run::Said;
use crate::writer::{TestFile, files, json, write_all};

/// A log below `data` that holds `events` and is still being written to.
async fn log_of(data: &Path, events: &[Vec<u8>]) -> EmbeddedLog {
    let options = Options {
        segment_bytes: 1 << 20,
        ..Options::default()
    };
    let log = EmbeddedLog::open(&data.join("log"), Class::standard(), options).unwrap();
    append(&log, events).await;
    log
}

async fn append(log: &EmbeddedLog, events: &[Vec<u8>]) {
    for event in events {
        let value = json(event);
        let outgoing = Outgoing {
            event_id: value["event_id"].as_str().unwrap().parse().unwrap(),
            session_id: value["session_id"].as_str().unwrap().parse().unwrap(),
            kind: "test",
            bytes: event.clone().into(),
            linger: false,
            spool: false,
        };
        log.append(Shard(0), outgoing).await.unwrap();
    }
}

fn files_of(source: SourceId, events: &[Vec<u8>]) -> Vec<TestFile> {
    let mut all = files(events, 6);
    all.iter_mut().for_each(|file| file.name.source = source);
    all
}

fn replay(data: &Path, args: &[&str]) -> Said {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hoop-replay"))
        .env_clear()
        .env("HOOP_DATA", data)
        .arg("--utc")
        .args(args)
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn exported(data: &Path) -> Vec<Vec<u8>> {
    let said = replay(data, &["export"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    said.out.lines().map(|l| l.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn what_is_in_files_and_log_is_shown_once() {
    let data = tempfile::tempdir().unwrap();
    let events = scene();
    let log = log_of(data.path(), &events).await;
    for covered in [0, 6, 12] {
        let written = files_of(log.source(), &events[..covered]);
        write_all(&data.path().join("evidence"), &written);
        assert_eq!(exported(data.path()), events, "{covered} in files");
        let proof = replay(data.path(), &["verify"]);
        assert_eq!(proof.code, 0, "{covered} in files: {}", proof.out);
    }
}

#[tokio::test]
async fn an_event_is_visible_as_soon_as_the_log_has_it() {
    let data = tempfile::tempdir().unwrap();
    let events = scene();
    let log = log_of(data.path(), &events[..4]).await;
    assert!(!replay(data.path(), &["list"]).out.contains("bob"));
    append(&log, &events[4..5]).await;
    assert!(replay(data.path(), &["list"]).out.contains("bob"));
}

#[tokio::test]
async fn an_event_that_was_sent_again_is_shown_once() {
    let data = tempfile::tempdir().unwrap();
    let events = scene();
    let log = log_of(data.path(), &events).await;
    append(&log, &events[15..]).await;
    assert_eq!(exported(data.path()), events);
}

#[tokio::test]
async fn a_newest_file_that_cannot_be_read_is_read_from_the_log() {
    let data = tempfile::tempdir().unwrap();
    let events = scene();
    let log = log_of(data.path(), &events).await;
    let written = files_of(log.source(), &events[..12]);
    write_all(&data.path().join("evidence"), &written);
    let newest = data
        .path()
        .join("evidence")
        .join(written[1].name.to_string());
    std::fs::write(newest, b"PAR1PAR1").unwrap();
    let said = replay(data.path(), &["export"]);
    assert_eq!(said.code, 65);
    assert_eq!(said.out.lines().count(), events.len());
    assert_eq!(replay(data.path(), &["verify"]).code, 1);
}

#[test]
fn a_folder_without_evidence_or_log_says_what_is_expected() {
    let data = tempfile::tempdir().unwrap();
    let said = replay(data.path(), &["list"]);
    assert_eq!(said.code, 66);
    assert!(
        said.err.contains("is it the --data of `hoop up`?"),
        "{}",
        said.err
    );
}
