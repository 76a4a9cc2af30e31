//! Encrypted content: read with the keys, told without them, gone once they are destroyed, and proven throughout.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoop_schema::SessionId;
use hoop_schema::body::{Body, BodyEncoding, Part, TextEncoding};
use hoop_schema::encryption::{ContentKey, Place};
use hoop_schema::kinds::request::{BodyChunk, BodyOf};
use hoop_schema::kinds::stream::{Channel, StreamData};
use hoop_sinks::keys::{FileMasterKey, KeyMaker, MasterKey};
use hoop_sinks::store::dir::Dir;
use serde_json::json;

use crate::fixture::{ALICE, Asked, BOB, Gateway};
use crate::recorded::record;
use crate::run::{Said, command};
use crate::writer::json;

const CANARY: &str = "canary-0815";

/// Evidence with encrypted content, and the keys of it.
struct Bed {
    folder: tempfile::TempDir,
    names: Vec<String>,
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Dir::open(&folder.path().join("keys")).unwrap());
        let file = folder.path().join("master.key");
        let master: Arc<dyn MasterKey> = Arc::new(FileMasterKey::make(&file).unwrap());
        let maker = KeyMaker::new(store, master);
        let mut gateway = Gateway::new();
        for (session, name) in [(ALICE, "alice"), (BOB, "bob")] {
            let key = maker.make(SessionId::from_bytes(session)).await.unwrap();
            gateway.start(session, name, "kubectl exec", "kubectl/v1.36.3");
            encrypted_work(&mut gateway, session, name, &key);
            gateway.end(session);
        }
        let evidence = folder.path().join("evidence");
        std::fs::create_dir(&evidence).unwrap();
        let names = record(&evidence, &gateway.events, 100).await;
        Self { folder, names }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn replay(&self, args: &[&str]) -> Said {
        let mut command = command(&self.path("evidence"), 200);
        let output = command.env("USER", "carol").args(args).output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn with_keys(&self, args: &[&str]) -> Said {
        self.with("master.key", args)
    }

    fn with(&self, master: &str, args: &[&str]) -> Said {
        let (keys, master) = (self.path("keys"), self.path(master));
        let named = [
            "--keys",
            keys.to_str().unwrap(),
            "--master-key",
            master.to_str().unwrap(),
        ];
        self.replay(&[args, &named[..]].concat())
    }

    /// The only file of the keys of a session.
    fn key_file(&self, session: &str) -> PathBuf {
        let folder = self.path("keys/keys/v1").join(session.repeat(16));
        let mut files = std::fs::read_dir(folder).unwrap();
        files.next().unwrap().unwrap().path()
    }
}

/// A request with encrypted bodies, one of them in chunks, and a command.
fn encrypted_work(
    gateway: &mut Gateway,
    session: [u8; 16],
    username: &'static str,
    key: &ContentKey,
) {
    let mut number = 0;
    let mut encrypt = |audit_id: &str, place, bytes: &[u8]| {
        number += 1;
        key.encrypt(number, audit_id, place, bytes)
    };
    let asked = Asked {
        username,
        verb: "patch",
        resource: "configmaps",
        name: "settings",
        command: "kubectl exec",
        sent: Some(json!({})),
        got: Some(json!({})),
        ..Asked::default()
    };
    let (mut intent, mut outcome) = asked.events(gateway);
    let audit_id = intent.request.audit_id.clone();
    let sent = json!({"data": {"pin": CANARY}}).to_string();
    let mut body = |of, apart, text: &str| {
        let media_type = Some("application/json".to_owned());
        let (bytes, total) = (text.as_bytes(), text.len() as u64);
        Body::record_encrypted(
            bytes,
            total,
            media_type,
            apart,
            key.encryption(),
            |part, piece| {
                let place = match part {
                    Part::Whole => Place::Body(of),
                    Part::Piece { index, offset } => Place::Chunk { of, index, offset },
                };
                encrypt(&audit_id, place, piece)
            },
        )
    };
    intent.body = Some(body(BodyOf::Request, false, &sent).0);
    let (apart, pieces) = body(BodyOf::Response, true, &sent);
    assert_eq!(apart.encoding, BodyEncoding::Chunks);
    outcome.body = Some(apart);
    gateway.emit(session, intent);
    for (piece, index) in pieces.into_iter().zip(0..) {
        gateway.emit(
            session,
            BodyChunk {
                audit_id: audit_id.clone(),
                of: BodyOf::Response,
                index,
                offset: piece.offset,
                encoding: piece.encoding,
                content: piece.content,
                encryption: Some(key.encryption()),
            },
        );
    }
    gateway.wait(100);
    gateway.emit(session, outcome);
    encrypted_command(gateway, session, username, key);
}

/// A command with encrypted output.
fn encrypted_command(
    gateway: &mut Gateway,
    session: [u8; 16],
    username: &'static str,
    key: &ContentKey,
) {
    let exec = Asked {
        username,
        verb: "create",
        resource: "pods",
        name: "shell",
        command: "kubectl exec",
        ..Asked::default()
    };
    let (mut intent, mut outcome) = exec.events(gateway);
    let mut request = (*intent.request).clone();
    request.argv = vec!["cat".into()];
    request.object_ref.as_mut().unwrap().subresource = "exec".into();
    let request = Arc::new(request);
    intent.request = Arc::clone(&request);
    outcome.request = request;
    let audit_id = intent.request.audit_id.clone();
    gateway.emit(session, intent);
    let place = Place::Stream {
        channel: Channel::Stdout,
        connection: None,
        offset: 0,
    };
    gateway.emit(
        session,
        StreamData {
            audit_id: audit_id.clone(),
            channel: Channel::Stdout,
            connection: None,
            offset: 0,
            at_us: 1,
            encoding: TextEncoding::Encrypted,
            content: key.encrypt(
                100,
                &audit_id,
                place,
                format!("{CANARY} shown\r\n").as_bytes(),
            ),
            encryption: Some(key.encryption()),
        },
    );
    gateway.emit(session, outcome);
}

#[track_caller]
fn done(said: &Said) -> &str {
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    &said.out
}

#[tokio::test]
async fn content_is_read_with_the_keys_and_told_without() {
    let bed = Bed::new().await;
    let show = ["show", "a1", "--bodies"];
    let without = bed.replay(&show);
    let hint = "give --keys and --master-key]";
    // Two bodies and a stream.
    assert_eq!(done(&without).matches(hint).count(), 3, "{}", without.out);
    assert!(!without.out.contains(CANARY));
    let with = bed.with_keys(&show);
    assert_eq!(done(&with).matches(CANARY).count(), 3, "{}", with.out);
    assert!(!with.out.contains("encrypted"), "{}", with.out);
    let played = bed.with_keys(&["play", "a1"]);
    assert!(
        done(&played).contains("canary-0815 shown"),
        "{}",
        played.out
    );
    let not_played = bed.replay(&["play", "a1"]);
    assert_eq!(not_played.code, 66);
    assert!(
        not_played.err.contains(hint.trim_end_matches(']')),
        "{}",
        not_played.err
    );
    assert_eq!(bed.replay(&["grep", CANARY]).code, 66);
    let found = bed.with_keys(&["grep", CANARY, "--session", "b0"]);
    assert_eq!(done(&found).matches(CANARY).count(), 3, "{}", found.out);
    let audit = bed.with_keys(&["export", "--format", "audit"]);
    assert!(
        done(&audit).contains("\"pin\":\"canary-0815\""),
        "{}",
        audit.out
    );
    let exact = bed.with_keys(&["export", "-o", "jsonl"]);
    assert_eq!(done(&exact), done(&bed.replay(&["export"])));
    let readable = bed.with_keys(&["export", "--format", "readable"]);
    assert_eq!(done(&readable).matches(CANARY).count(), 6);
    done(&bed.replay(&["verify"]));
}

#[tokio::test]
async fn a_wrong_key_and_altered_content_are_named() {
    let bed = Bed::new().await;
    FileMasterKey::make(&bed.path("other.key")).unwrap();
    let show = ["show", "a1", "--bodies"];
    let said = bed.with("other.key", &show);
    assert_eq!(said.code, 65);
    assert!(
        said.err.contains("wrapped by the master key file:"),
        "{}",
        said.err
    );
    // The key of another session in the place of this one's.
    let (own, other) = (bed.key_file("a1"), bed.key_file("b0"));
    let kept = std::fs::read(&own).unwrap();
    std::fs::remove_file(&own).unwrap();
    std::fs::copy(&other, &own).unwrap();
    let said = bed.with_keys(&show);
    assert_eq!(said.code, 65);
    assert!(
        said.err
            .contains("is not the wrapped key that its name says"),
        "{}",
        said.err
    );
    // Gone, though nobody erased it.
    std::fs::remove_file(&own).unwrap();
    let said = bed.with_keys(&show);
    assert_eq!(said.code, 65);
    assert!(
        said.err.contains("no erasure of session a1a1"),
        "{}",
        said.err
    );
    std::fs::write(&own, kept).unwrap();
    done(&bed.with_keys(&show));
}

#[tokio::test]
async fn what_is_erased_stays_proven_and_says_why_it_is_gone() {
    let bed = Bed::new().await;
    let erase = [
        "erase",
        "content",
        "--session",
        "a1",
        "--reason",
        "asked for",
    ];
    let before = bed.path("before");
    std::fs::create_dir(&before).unwrap();
    let key = bed.key_file("a1");
    std::fs::copy(&key, before.join("key")).unwrap();
    let said = bed.with_keys(&erase);
    assert!(done(&said).contains("is erased, of alice"), "{}", said.out);
    assert!(!key.exists());
    for said in [
        bed.with_keys(&["show", "a1", "--bodies"]),
        bed.replay(&["show", "a1", "--bodies"]),
    ] {
        let text = done(&said);
        assert_eq!(text.matches(": asked for]").count(), 3, "{text}");
        assert!(text.contains("its content was erased on "), "{text}");
    }
    let bob = bed.with_keys(&["show", "b0", "--bodies"]);
    assert_eq!(done(&bob).matches(CANARY).count(), 3);
    done(&bed.replay(&["verify"]));

    // Broken off between the event and the key.
    std::fs::copy(before.join("key"), &key).unwrap();
    let listed = bed.with_keys(&["erase", "list"]);
    assert!(done(&listed).contains("1 left"), "{}", listed.out);
    let shown = bed.with_keys(&["show", "a1", "--bodies"]);
    assert!(!done(&shown).contains(CANARY), "erased is erased");
    let again = bed.with_keys(&[&erase[..], &["-o", "json"]].concat());
    let again = json(done(&again).as_bytes());
    assert_eq!(
        (&again[0]["written"], &again[0]["keys_destroyed"]),
        (&json!(false), &json!(1))
    );
    assert!(!key.exists());
    let nothing = bed.with_keys(&erase);
    assert!(
        done(&nothing).contains("was erased already"),
        "{}",
        nothing.out
    );
    let listed = bed.replay(&["erase", "list", "-o", "json"]);
    let listed = json(done(&listed).as_bytes());
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["by"], &listed[0]["reason"]),
        (&json!("carol"), &json!("asked for"))
    );
    let events = bed.path("evidence/erasures/v1").join("a1".repeat(16));
    assert_eq!(std::fs::read_dir(events).unwrap().count(), 1);
}

#[tokio::test]
async fn a_legal_hold_refuses_it_before_anything_is_written() {
    let bed = Bed::new().await;
    for hold in [
        &["--session", "b0"][..],
        &["--user", "bob", "--case", "court-7"],
    ] {
        let add = [&["hold", "add", "--reason", "subpoena"], hold].concat();
        done(&bed.replay(&add));
        let erase = [
            "erase",
            "content",
            "--user",
            "bob",
            "--session",
            "a1",
            "--reason",
            "x",
        ];
        let refused = bed.with_keys(&erase);
        assert_eq!(refused.code, 64);
        for part in ["session b0b0", "by carol: subpoena", "nothing was erased"] {
            assert!(refused.err.contains(part), "{part}: {}", refused.err);
        }
        assert!(!bed.path("evidence/erasures").exists());
        assert!(bed.key_file("a1").exists() && bed.key_file("b0").exists());
        let release = [&["hold", "release"], &hold[..2]].concat();
        done(&bed.replay(&release));
    }
    let erased = bed.with_keys(&["erase", "content", "--user", "bob", "--reason", "x"]);
    assert!(
        done(&erased).contains("is erased, of bob"),
        "{}",
        erased.out
    );
    assert!(bed.key_file("a1").exists());
}

#[tokio::test]
async fn what_cannot_be_erased_is_said() {
    let bed = Bed::new().await;
    let erase = |args: &[&'static str]| [&["erase", "content"], args].concat();
    let unknown = "00".repeat(16);
    let unknown: &'static str = unknown.leak();
    for (said, code, part) in [
        (
            bed.replay(&erase(&["--session", "a1", "--reason", "x"])),
            64,
            "say where the keys are",
        ),
        (
            bed.with_keys(&erase(&["--session", "a1", "--reason", " "])),
            64,
            "say why",
        ),
        (bed.with_keys(&erase(&["--session", "a1"])), 64, "--reason"),
        (bed.with_keys(&erase(&["--reason", "x"])), 64, "--session"),
        (
            bed.with_keys(&erase(&["--session", "xyz", "--reason", "x"])),
            64,
            "no session id",
        ),
        (
            bed.with_keys(&erase(&["--session", "ff", "--reason", "x"])),
            66,
            "no session begins",
        ),
        (
            bed.with_keys(&erase(&["--user", "eve", "--reason", "x"])),
            66,
            "no session is of user",
        ),
        (
            bed.with_keys(&erase(&["--session", unknown, "--reason", "x"])),
            66,
            "nothing to erase",
        ),
        (
            bed.with("none.key", &["show", "a1"]),
            64,
            "cannot read the master key",
        ),
    ] {
        assert_eq!(said.code, code, "{}{}", said.out, said.err);
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(!bed.path("evidence/erasures").exists());
    assert!(!bed.names.is_empty() && Path::new(&bed.path("keys")).exists());
}
