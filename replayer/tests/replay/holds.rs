//! Legal holds and the auditor's report, over evidence that the real recorder wrote.

use std::path::Path;

use hoop_schema::evidence::SessionFileName;
use hoop_schema::kinds::recorder::{RecorderExpired, RecorderTerms, RetentionMode};
use hoop_schema::own::OwnEvents;
use hoop_schema::{Class, EventHash, Kind, ProducerId, Shard, Timestamp};

use crate::fixture::scene;
use crate::recorded::record;
use crate::run::{Said, command, replay};
use crate::writer::json;

fn as_carol(folder: &Path, args: &[&str]) -> Said {
    let output = command(folder, 100)
        .env("USER", "carol")
        .args(args)
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn done(said: &Said) -> &str {
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    &said.out
}

#[tokio::test]
async fn a_hold_is_set_listed_completed_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let files = record(folder.path(), &scene(), 3).await;
    let add = ["hold", "add", "--session", "b0", "--reason", "court"];
    let said = as_carol(folder.path(), &add);
    let text = done(&said);
    assert!(
        text.contains("session-b0b0b0b0b0b0b0b0 is in force"),
        "{text}"
    );
    assert!(text.contains("cannot lock objects"), "{text}");
    let listed = as_carol(folder.path(), &["hold", "list"]);
    for part in ["session b0b0b0b0", "in force", "carol", "court"] {
        assert!(done(&listed).contains(part), "{}", listed.out);
    }
    let again = as_carol(folder.path(), &[&add[..], &["-o", "json"]].concat());
    let again = json(done(&again).as_bytes());
    assert_eq!(again[0]["written"], false);
    assert_eq!(again[0]["held_session"], "b0".repeat(16));
    let kept = again[0]["files"].as_u64().unwrap();
    assert!(kept > 0 && kept < files.len() as u64, "{kept} of {files:?}");
    let released = as_carol(folder.path(), &["hold", "release", "--session", "b0b0"]);
    assert!(done(&released).contains("is released"), "{}", released.out);
    let listed = as_carol(folder.path(), &["hold", "list"]);
    assert_eq!(done(&listed), "nothing is held\n");
    let all = as_carol(folder.path(), &["hold", "list", "--all"]);
    assert!(done(&all).contains("released"), "{}", all.out);
    let events = folder.path().join("holds/v1/session-b0b0b0b0b0b0b0b0");
    assert_eq!(std::fs::read_dir(events).unwrap().count(), 2);
}

#[tokio::test]
async fn a_case_holds_sessions_and_people_and_is_released_as_one() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &scene(), 6).await;
    let add = [
        "hold",
        "add",
        "--case",
        "court-7",
        "--session",
        "a1",
        "--user",
        "bob",
    ];
    let said = as_carol(folder.path(), &[&add[..], &["-o", "json"]].concat());
    let set = json(done(&said).as_bytes());
    let names: Vec<_> = (0..2)
        .map(|i| set[i]["hold_id"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], "court-7-a1a1a1a1a1a1a1a1");
    assert!(names[1].starts_with("court-7-bob-"), "{names:?}");
    // By session or by user, both see the same files of the same person.
    let by_session = ["hold", "add", "--session", "b0", "-o", "json"];
    let by_session = as_carol(folder.path(), &by_session);
    let by_session = json(done(&by_session).as_bytes());
    assert_eq!(by_session[0]["files"], set[1]["files"]);
    let complete = as_carol(folder.path(), &["hold", "add", "--case", "court-7"]);
    let completed = done(&complete).matches("was in force already").count();
    assert_eq!(completed, 2, "{}", complete.out);
    let released = as_carol(folder.path(), &["hold", "release", "--case", "court-7"]);
    assert_eq!(done(&released).matches("is released").count(), 2);
    assert!(
        released.out.contains("other holds keep"),
        "{}",
        released.out
    );
    let left = as_carol(folder.path(), &["hold", "list", "-o", "json"]);
    assert_eq!(
        json(done(&left).as_bytes())[0]["hold_id"],
        by_session[0]["hold_id"]
    );
}

#[tokio::test]
async fn what_cannot_be_held_is_said() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &scene(), 6).await;
    for (args, code, said) in [
        (&["hold", "add"][..], 64, "say what to hold"),
        (&["hold", "add", "--session", "xyz"], 64, "no session id"),
        (
            &["hold", "add", "--session", "0123"],
            66,
            "no session begins",
        ),
        (
            &["hold", "add", "--case", "court-7"],
            66,
            "has no hold in force",
        ),
        (
            &["hold", "add", "--case", "Court 7", "--user", "bob"],
            64,
            "a-z 0-9 -",
        ),
        (&["hold", "release", "never"], 66, "there is no hold never"),
        (&["hold", "release"], 64, "required"),
    ] {
        let answer = as_carol(folder.path(), args);
        assert_eq!(answer.code, code, "{args:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{args:?}: {}", answer.err);
    }
    let nobody = replay(folder.path(), 80, &["hold", "add", "--user", "bob"]);
    assert!(nobody.err.contains("--by NAME"), "{}", nobody.err);
    assert!(!folder.path().join("holds").exists(), "nothing was written");
}

/// Writes an event beside the log.
fn say(folder: &Path, key: &str, kind: &Kind) {
    let id = ProducerId::new("gateway-1.recorder").unwrap();
    let mut own = OwnEvents::new("sample", &id, 1, &Class::standard(), Shard(0));
    let now: Timestamp = "2026-11-25T00:00:07.000000Z".parse().unwrap();
    let path = folder.join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, own.make(now, kind)).unwrap();
}

fn expired(folder: &Path, key: &str, next: &str) -> Kind {
    let (name, next): (SessionFileName, SessionFileName) =
        (key.parse().unwrap(), next.parse().unwrap());
    let expired = RecorderExpired {
        key: key.into(),
        sha256: EventHash::of(&std::fs::read(folder.join(key)).unwrap()).to_string(),
        of_class: name.class,
        of_shard: name.shard,
        pos_from: name.pos_from,
        pos_to: next.pos_from,
        rows: next.pos_from - name.pos_from,
        term_s: 86_400,
        due: "2026-11-24T00:00:00.000000Z".parse().unwrap(),
    };
    expired.into()
}

#[tokio::test]
async fn a_report_tells_what_was_deleted_with_a_record_from_what_vanished() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let files = record(at, &scene(), 4).await;
    assert!(files.len() >= 4, "{files:?}");
    let terms = RecorderTerms {
        of_class: Class::standard(),
        term_s: Some(86_400),
        mode: RetentionMode::None,
    };
    say(at, "terms/v1/class=standard/0000000000.json", &terms.into());
    let record_key = "retention/v1/class=standard/dt=2026-11-22/x.json";
    say(at, record_key, &expired(at, &files[0], &files[1]));
    let report = |code: i32| {
        let said = as_carol(at, &["retention", "report", "-o", "json"]);
        assert_eq!(said.code, code, "{}", said.err);
        json(said.out.as_bytes())
    };
    let before = report(0);
    assert_eq!(before["deleted"][0]["gone"], false);
    std::fs::remove_file(at.join(&files[0])).unwrap();
    let after = report(0);
    assert_eq!(after["deleted"][0]["gone"], true);
    assert_eq!(after["classes"][0]["deleted"], 1);
    assert_eq!(after["classes"][0]["term_s"], 86_400);
    assert_eq!(
        after["classes"][0]["oldest_until"],
        "2026-11-24T00:00:00.000000Z"
    );
    assert_eq!(
        (&after["store_locks"], &after["may_delete"]),
        (&false.into(), &true.into())
    );
    let hold = as_carol(at, &["hold", "add", "--user", "bob", "--reason", "court"]);
    done(&hold);
    let text = as_carol(at, &["retention", "report"]);
    for line in text.out.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    // The time of the hold is now, which no snapshot has.
    let today = hoop_schema::Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()).day();
    let place = at.display().to_string();
    let shown = text
        .out
        .replace(&today, "TODAY-TODAY")
        .replace(&place, "/evidence");
    for part in [
        "standard",
        "1 day",
        "court",
        "1 session file with ",
        "2026-11-25 00:00:07",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    std::fs::remove_file(at.join(&files[2])).unwrap();
    let vanished = report(2);
    assert_eq!(vanished["unexplained"][0]["missing"], files[2]);
    let text = as_carol(at, &["retention", "report"]);
    assert!(
        text.out.contains("1 hole that no record explains"),
        "{}",
        text.out
    );
}
