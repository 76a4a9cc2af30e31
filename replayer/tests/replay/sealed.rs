//! Evidence of which days are sealed: whatever is asked, the answers are those of before.

use std::path::Path;

use hoop_recorder::seal::seal_day;
use hoop_schema::bytes::encode;
use hoop_schema::evidence::seal::{Seal, SealName, SealedObject};
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::{Class, Envelope, EventId, ProducerId, SessionId, Timestamp};
use hoop_sinks::store::dir::Dir;
use serde_json::Value;

use crate::fixture::scene;
use crate::recorded::record_days;
use crate::run::replay;

/// The days that the scene is recorded on.
const DAYS: [&str; 3] = ["2026-11-22", "2026-11-23", "2026-11-24"];

/// Records the scene over three days of several files each.
async fn three_days(folder: &Path) {
    let events = scene();
    let day = events.len().div_ceil(3);
    let files = record_days(folder, &events, 4, day).await;
    for day in DAYS {
        let of_day = files.iter().filter(|key| key.contains(day)).count();
        assert!(of_day > 1, "{day}: {of_day} files");
    }
}

async fn seal(folder: &Path, day: &str) {
    let store = Dir::open(folder).unwrap();
    let name = SealName {
        class: Class::standard(),
        day: day.to_owned(),
    };
    let now = Timestamp::from_micros(1_796_000_000_000_000);
    let sealed = seal_day(&store, &name, "recorder-1", now).await.unwrap();
    assert!(sealed.is_some());
}

/// The small files of a day leave, with their indexes.
fn expire(folder: &Path, day: &str) {
    for prefix in ["events", "sessions"] {
        let shard = folder.join(format!("{prefix}/v1/class=standard/dt={day}/shard=000"));
        for file in std::fs::read_dir(shard).unwrap() {
            let file = file.unwrap().path();
            // That of a sealed object has two positions in its name.
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.matches('-').count() == 1 {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
}

/// What is asked, and what the answers depend on beside how many files there are.
fn answers(folder: &Path) -> Vec<String> {
    let questions: [&[&str]; 6] = [
        &["list", "--all", "-o", "json"],
        &["show", "b0b0", "--bodies"],
        &["show", "a1a1", "-o", "json"],
        &["grep", "secret", "-o", "jsonl"],
        &["export"],
        &[
            "list",
            "--since",
            "2026-11-24T00:00:00Z",
            "--all",
            "-o",
            "json",
        ],
    ];
    questions
        .iter()
        .map(|question| {
            let said = replay(folder, 200, question);
            assert_eq!(said.code, 0, "{question:?}: {}", said.err);
            // Events come file by file.
            let mut lines: Vec<&str> = said.out.lines().collect();
            if matches!(question[0], "export" | "grep") {
                lines.sort_unstable();
            }
            lines.join("\n")
        })
        .collect()
}

fn same(before: &[String], after: &[String]) {
    for (before, after) in before.iter().zip(after) {
        assert!(before == after, "{before}\n--- and now\n{after}");
    }
}

fn verified(folder: &Path) -> (i32, Value) {
    let said = replay(folder, 80, &["verify", "-o", "json"]);
    let report = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.err));
    (said.code, report)
}

#[tokio::test]
async fn answers_are_the_same_before_and_after_days_are_sealed_and_small_files_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    three_days(folder).await;
    let before = answers(folder);
    let (code, report) = verified(folder);
    assert_eq!(code, 0, "{report:#}");
    let events = report["events"].clone();
    for (i, day) in DAYS.iter().enumerate() {
        seal(folder, day).await;
        same(&before, &answers(folder));
        if i < 2 {
            expire(folder, day);
            same(&before, &answers(folder));
        }
        let (code, report) = verified(folder);
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(report["events"], events);
        let shards = report["shards"].as_array().unwrap();
        assert_eq!(shards.len(), 1);
        assert_eq!(shards[0]["pos_from"], 0);
    }
    let (_, report) = verified(folder);
    assert_eq!(report["files"], 3);
    let session = replay(folder, 80, &["verify", "--session", "b0"]);
    assert_eq!(session.code, 0, "{}", session.out);
}

#[tokio::test]
async fn a_sealing_that_broke_off_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    three_days(folder).await;
    let before = answers(folder);
    seal(folder, DAYS[0]).await;
    std::fs::remove_dir_all(folder.join("seals")).unwrap();
    same(&before, &answers(folder));
    assert_eq!(verified(folder).0, 0);
}

/// The event that records why an object is gone.
fn expired(object: &SealedObject) -> Vec<u8> {
    let due: Timestamp = "2026-11-23T00:00:00.000000Z".parse().unwrap();
    let expired = RecorderExpired {
        key: object.key.clone(),
        sha256: object.sha256.to_string(),
        of_class: Class::standard(),
        of_shard: object.shard,
        pos_from: object.pos_from,
        pos_to: object.pos_to,
        rows: object.rows,
        term_s: 0,
        due,
    };
    let envelope = Envelope {
        v: 1,
        event_id: EventId::new(1, &[1; 10]),
        ts: due,
        cluster: "sample".into(),
        producer_id: ProducerId::new("recorder-1").unwrap(),
        producer_epoch: 2,
        producer_seq: 1,
        class: Class::standard(),
        shard: object.shard,
        session_id: SessionId::from_bytes([0xee; 16]),
        session_seq: 1,
        prev_hash: None,
    };
    encode(&envelope, &expired.into()).unwrap().bytes
}

#[tokio::test]
async fn a_sealed_day_that_left_by_its_term_is_explained_and_not_missing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    three_days(folder).await;
    seal(folder, DAYS[0]).await;
    expire(folder, DAYS[0]);
    let path = folder.join(format!("seals/v1/class=standard/dt={}.json", DAYS[0]));
    let text: Seal = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    std::fs::remove_dir_all(folder.join("sealed")).unwrap();
    assert_eq!(verified(folder).0, 2, "without a record it is missing");
    let record = folder.join(format!("retention/v1/class=standard/dt={}/x.json", DAYS[0]));
    std::fs::create_dir_all(record.parent().unwrap()).unwrap();
    std::fs::write(record, expired(&text.objects[0])).unwrap();
    let (code, report) = verified(folder);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["files_expired"], 1);
}

/// Verifies what `tamper` left of evidence whose first two days are sealed.
async fn tampered(tamper: impl FnOnce(&Path)) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    three_days(folder.path()).await;
    for day in &DAYS[..2] {
        seal(folder.path(), day).await;
        expire(folder.path(), day);
    }
    tamper(folder.path());
    let (code, report) = verified(folder.path());
    (code, report["findings"].to_string())
}

/// The sealed object of a day.
fn object(folder: &Path, day: &str) -> std::path::PathBuf {
    let shard = folder.join(format!("sealed/v1/class=standard/dt={day}/shard=000"));
    std::fs::read_dir(shard)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
}

#[tokio::test]
async fn what_was_done_to_sealed_days_is_found() {
    let seal_of =
        |folder: &Path, day: &str| folder.join(format!("seals/v1/class=standard/dt={day}.json"));
    let (code, found) =
        tampered(|folder| std::fs::remove_file(object(folder, DAYS[0])).unwrap()).await;
    assert_eq!(code, 2, "{found}");
    assert!(found.contains("the seal of its day names it"), "{found}");

    let (code, found) = tampered(|folder| {
        let object = object(folder, DAYS[1]);
        let mut bytes = std::fs::read(&object).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        std::fs::write(object, bytes).unwrap();
    })
    .await;
    assert_eq!(code, 1, "{found}");

    // The object of the second day in the place of that of the first.
    let (code, found) = tampered(|folder| {
        std::fs::copy(object(folder, DAYS[1]), object(folder, DAYS[0]))
            .map(drop)
            .unwrap();
    })
    .await;
    assert_eq!(code, 1, "{found}");
    assert!(found.contains("another file under this name"), "{found}");

    // A seal that leaves a file out does not hang together.
    let (code, found) = tampered(|folder| {
        let path = seal_of(folder, DAYS[0]);
        let mut seal: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        seal["objects"][0]["replaces"]
            .as_array_mut()
            .unwrap()
            .remove(0);
        std::fs::write(path, seal.to_string()).unwrap();
    })
    .await;
    assert_eq!(code, 1, "{found}");

    // Nor does one that names another hash for the last file fit the file after it.
    let (code, found) = tampered(|folder| {
        let path = seal_of(folder, DAYS[0]);
        let mut seal: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let files = seal["objects"][0]["replaces"].as_array_mut().unwrap();
        let other = files[0]["sha256"].clone();
        files.last_mut().unwrap()["sha256"] = other;
        std::fs::write(path, seal.to_string()).unwrap();
    })
    .await;
    assert_eq!(code, 1, "{found}");
    assert!(found.contains("linked to"), "{found}");

    // Without its seal a day whose small files are gone is not there.
    let (code, found) =
        tampered(|folder| std::fs::remove_file(seal_of(folder, DAYS[0])).unwrap()).await;
    assert_eq!(code, 2, "{found}");
}
