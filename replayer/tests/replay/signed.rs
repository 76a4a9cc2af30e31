//! Tampering with signed evidence: by somebody who may do anything to the store, but has not the key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hoop_recorder::config::Config;
use hoop_recorder::core::{Action, Core};
use hoop_recorder::generator::Generator;
use hoop_recorder::{Recorder, Signing};
use hoop_schema::evidence::PreviousFile;
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::leaf::{DeleteLeaf, Leaf};
use hoop_schema::transparency::note::{KeyUse, Note, SigningKey, Verifier};
use hoop_schema::transparency::tiles::{RightEdge, bundle, entries};
use hoop_schema::{Class, EventHash, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::memory::MemoryLog;
use hoop_sinks::log::{EventReader, LogRecord, Position};
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::dir::Dir;
use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::run::{Said, replay};

mod deletions;
mod others;

/// The day on which the log took everything: long ago, so that terms can be over.
const TAKEN: i64 = 1_735_700_000_000_000;

/// Session files of each class.
const FILES: usize = 6;

/// The log that most tests tamper with.
const LOG: &str = "tlog/sample/standard/000";

fn key(seed: u8) -> SigningKey {
    SigningKey::new("hoop/sample", [seed; 32]).unwrap()
}

fn vkey(seed: u8) -> String {
    key(seed).verifier().to_string()
}

fn class(name: &str) -> Class {
    Class::new(name).unwrap()
}

fn source(name: &str) -> SourceId {
    SourceId::from_bytes([name.len() as u8; 4])
}

/// Commits `files` session files of a class, signed with this key, `from` having been committed before.
async fn commit(folder: &Path, name: &str, seed: u8, from: usize, files: usize) {
    let store = Dir::open(folder).unwrap();
    let config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
    let class = class(name);
    let by = |seed| Signing {
        key: key(seed),
        previous: None,
    };
    // What was committed before was signed with the first key.
    let (before, signing) = (by(1), by(seed));
    let mut core = Core::new(&config, 1, source(name), &class, Shard(0), None);
    let mut generator = Generator::new(name, 5);
    for i in 0..from + files {
        let log_ts = Timestamp::from_micros(TAKEN);
        let (_, _, bytes) = generator.event();
        let record = LogRecord {
            position: Position(i as u64 + 1),
            log_ts,
            bytes,
        };
        core.apply(record, log_ts);
        let Some(Action::Commit(batch)) = core.flush() else {
            panic!("there is a record to commit");
        };
        let previous = core.previous().cloned();
        let signing = if i < from { &before } else { &signing };
        let encoded = batch.encode(previous, log_ts, Some(signing)).unwrap();
        let (key, index) = (batch.name().to_string(), batch.name().index_key());
        let sha256 = encoded.sha256;
        if i >= from {
            let none = Default::default();
            store.create(&key, encoded.file, &none).await.unwrap();
            store.create(&index, encoded.index, &none).await.unwrap();
        }
        core.committed(PreviousFile { key, sha256 });
    }
}

/// Runs a recorder that finds nothing new in its logs, until `done`: it writes the transparency logs, and deletes what is
/// due.
async fn record(
    folder: &Path,
    seeds: (u8, Option<u8>),
    term: Option<Duration>,
    done: impl Fn() -> bool + Send + Sync,
) {
    let mut config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
    let (seed, previous) = seeds;
    config.signing = Some(Arc::new(Signing {
        key: key(seed),
        previous: previous.map(key),
    }));
    config.retention_interval = Duration::from_millis(20);
    config.seal.enabled = false;
    config.terms = term
        .map(|term| (class("standard"), term))
        .into_iter()
        .collect();
    let reader = |name: &str| {
        Arc::new(MemoryLog::new(class(name), source(name), 1, 1 << 20)) as Arc<dyn EventReader>
    };
    let store = Arc::new(Dir::open(folder).unwrap());
    let readers = vec![reader("standard"), reader("long")];
    let recorder = Recorder::new(config, readers, store, &mut Registry::default()).unwrap();
    let stop = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    recorder.run(stop).await.unwrap();
}

/// Two logs of six files each, with a checkpoint at four and one at six.
fn evidence() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        block_on(async move {
            for (from, files) in [(0, 4), (4, FILES - 4)] {
                commit(&path, "standard", 1, from, files).await;
                commit(&path, "long", 1, from, files).await;
                record(&path, (1, None), None, || true).await;
            }
        });
        folder
    });
    folder.path()
}

/// Runs on a thread of its own, whatever the caller runs on.
fn block_on(work: impl Future<Output = ()> + Send + 'static) {
    let run = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(work);
    };
    std::thread::spawn(run).join().unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of the evidence that a test may do anything to.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(evidence(), folder.path());
        Self(folder)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.path().join(key)
    }

    fn read(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.path(key)).unwrap()
    }

    fn write(&self, key: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(key).parent().unwrap()).unwrap();
        std::fs::write(self.path(key), bytes).unwrap();
    }

    fn remove(&self, key: &str) {
        std::fs::remove_file(self.path(key)).unwrap();
    }

    /// The session files of the class `standard`, in order.
    fn files(&self) -> Vec<String> {
        self.files_under("events/v1/class=standard/")
    }

    fn files_under(&self, prefix: &str) -> Vec<String> {
        let prefix = prefix.to_owned();
        let store = Dir::read_only(self.0.path()).unwrap();
        let (send, names) = std::sync::mpsc::sync_channel(1);
        block_on(async move {
            let listed = store.list(&prefix, None).await.unwrap();
            let keys = listed.into_iter().map(|object| object.key);
            send.send(keys.collect::<Vec<_>>()).unwrap();
        });
        names.recv().unwrap()
    }

    fn verify(&self, arguments: &[&str]) -> Said {
        let key = vkey(1);
        self.verify_by(&[&["--key", &key], arguments].concat())
    }

    fn verify_by(&self, arguments: &[&str]) -> Said {
        replay(
            self.0.path(),
            100,
            &[&["verify", "-o", "json"], arguments].concat(),
        )
    }

    /// Verifies with the key, and expects this exit code and a finding of this object that says so, before all others.
    fn expect(&self, arguments: &[&str], code: i32, object: &str, what: &str) {
        let first = self.expect_among(arguments, code, object, what);
        assert!(first.contains(object), "{first} is named first");
    }

    /// The same, with other findings before it; returns the object of the first one.
    fn expect_among(&self, arguments: &[&str], code: i32, object: &str, what: &str) -> String {
        let said = self.verify(arguments);
        assert_eq!(said.code, code, "{} {}", said.out, said.err);
        let report: Value = serde_json::from_str(&said.out).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().any(|f| {
            f["object"].as_str().unwrap().contains(object)
                && f["what"].as_str().unwrap().contains(what)
        });
        assert!(
            found,
            "no finding in {object:?} says {what:?}: {findings:#?}"
        );
        findings[0]["object"].as_str().unwrap().to_owned()
    }

    /// The entries of the log.
    fn entries(&self) -> Vec<Vec<u8>> {
        let bundle = self.read(&format!("{LOG}/tile/entries/000.p/{FILES}"));
        entries(&bundle)
            .unwrap()
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Writes a whole log of these entries as its only checkpoint, signed with this key, as somebody would who has read how.
    fn rewrite(&self, entries: &[Vec<u8>], key: &SigningKey) {
        std::fs::remove_dir_all(self.path(LOG)).unwrap();
        let mut edge = RightEdge::default();
        entries.iter().for_each(|entry| drop(edge.push(entry)));
        let size = entries.len();
        for tile in edge.partial() {
            self.write(&format!("{LOG}/{}", tile.path), tile.bytes);
        }
        self.write(&format!("{LOG}/tile/entries/000.p/{size}"), bundle(entries));
        let checkpoint = Checkpoint {
            origin: "hoop/sample/standard/000".into(),
            size: size as u64,
            root: edge.root(),
        };
        let note = Note::sign(checkpoint.text(), [key]).to_string();
        self.write(&format!("{LOG}/checkpoints/{size:020}"), note);
    }

    /// The entries of the log as it was recorded, whatever was done to it since.
    fn entries_before(&self) -> Vec<Vec<u8>> {
        let bundle = std::fs::read(evidence().join(format!("{LOG}/tile/entries/000.p/{FILES}")));
        let bundle = bundle.unwrap();
        entries(&bundle)
            .unwrap()
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn checkpoint(&self, size: usize) -> String {
        format!("{LOG}/checkpoints/{size:020}")
    }
}

#[test]
fn what_was_signed_is_proven() {
    let copy = Copy::new();
    let said = copy.verify(&[]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said.code, 0, "{}", said.out);
    let logs = report["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 2);
    for log in logs {
        assert_eq!(
            (&log["leaves"], &log["checkpoints"]),
            (&6.into(), &2.into())
        );
        assert_eq!(log["signed_by"][0], vkey(1));
    }
    let text = replay(copy.0.path(), 200, &["verify", "--key", &vkey(1)]);
    assert!(text.out.contains("signed by hoop/sample+"), "{}", text.out);
}

#[test]
fn without_a_key_it_is_said_that_signatures_were_not_checked() {
    let copy = Copy::new();
    let said = copy.verify_by(&[]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(
        said.out.contains("signatures were not checked"),
        "{}",
        said.out
    );
}

#[test]
fn a_key_in_a_file_is_a_key_and_nonsense_is_none() {
    let copy = Copy::new();
    copy.write("key", format!("# of the auditor\n{}\n", vkey(1)));
    let file = copy.path("key").display().to_string();
    assert_eq!(copy.verify_by(&["--key", &file]).code, 0);
    for wrong in ["no+such+key", "/no/such/file"] {
        assert_eq!(copy.verify_by(&["--key", wrong]).code, 64, "{wrong}");
    }
    assert_eq!(copy.verify_by(&["--witness", &vkey(1)]).code, 64);
}

#[test]
fn a_changed_file_is_found() {
    let copy = Copy::new();
    let file = &copy.files()[FILES - 1];
    // The newest file, which no other one is linked to; written anew with other content but the same name.
    let other = copy.files()[1].clone();
    copy.write(file, copy.read(&other));
    copy.expect(&[], 1, file, "its bytes are not those that were logged");
}

#[test]
fn a_removed_file_is_found() {
    let copy = Copy::new();
    let file = &copy.files()[2];
    copy.remove(file);
    copy.expect(
        &[],
        2,
        file,
        "the transparency log has it and no deletion of it",
    );
}

#[test]
fn the_newest_file_cannot_leave_with_its_leaf() {
    let copy = Copy::new();
    let kept = copy.path("kept");
    std::fs::write(&kept, replay(copy.0.path(), 80, &["checkpoint"]).out).unwrap();
    copy.remove(&copy.files()[5].clone());
    copy.remove(&copy.files()[4].clone());
    copy.remove(&copy.checkpoint(6));
    copy.remove(&format!("{LOG}/tile/entries/000.p/6"));
    copy.remove(&format!("{LOG}/tile/0/000.p/6"));
    copy.remove(&format!("{LOG}/leaves/00000000000000000005"));
    copy.remove(&format!("{LOG}/leaves/00000000000000000004"));
    // The older checkpoint is a true one, so it takes one that was kept elsewhere.
    assert_eq!(copy.verify(&[]).code, 0);
    let kept = kept.display().to_string();
    copy.expect(
        &["--since-checkpoint", &kept],
        2,
        "hoop/sample/standard/000",
        "the newest were cut off",
    );
}

#[test]
fn an_old_checkpoint_in_the_place_of_the_newest_is_found() {
    let copy = Copy::new();
    // Cut back to the older checkpoint; the files it does not have are still there.
    copy.remove(&copy.checkpoint(6));
    copy.expect(
        &[],
        2,
        &copy.files()[4],
        "it is not in the transparency log",
    );
    // Under the name of the newest one.
    copy.write(&copy.checkpoint(6), copy.read(&copy.checkpoint(4)));
    copy.expect(
        &[],
        1,
        &copy.checkpoint(6),
        "it is a checkpoint of 4 leaves under this name",
    );
}

#[test]
fn a_fork_is_found() {
    let copy = Copy::new();
    let kept = copy.path("kept");
    std::fs::write(&kept, replay(copy.0.path(), 80, &["checkpoint"]).out).unwrap();
    // Somebody got hold of the key and wrote another past of the same size.
    let mut other = copy.entries();
    let leaf = String::from_utf8(other[5].clone()).unwrap();
    other[5] = leaf.replace("\"gaps\":0", "\"gaps\":1").into_bytes();
    copy.rewrite(&other, &key(1));
    let kept = kept.display().to_string();
    copy.expect(
        &["--since-checkpoint", &kept],
        1,
        "hoop/sample/standard/000",
        "it has two pasts",
    );
}

#[test]
fn two_checkpoints_that_do_not_agree_are_found() {
    let copy = Copy::new();
    let fork = Checkpoint {
        origin: "hoop/sample/standard/000".into(),
        size: 3,
        root: [1; 32],
    };
    copy.write(
        &copy.checkpoint(3),
        Note::sign(fork.text(), [&key(1)]).to_string(),
    );
    copy.expect(&[], 1, &copy.checkpoint(3), "or the log has two pasts");
}

#[test]
fn a_replaced_tile_is_found() {
    for tile in ["tile/0/000.p/6", "tile/0/000.p/4", "tile/entries/000.p/4"] {
        let copy = Copy::new();
        let tile = format!("{LOG}/{tile}");
        let mut bytes = copy.read(&tile);
        bytes[40] ^= 1;
        copy.write(&tile, bytes);
        copy.expect(&[], 1, &tile, "it is not what the entries of the log make");
    }
    let copy = Copy::new();
    copy.remove(&format!("{LOG}/tile/0/000.p/6"));
    copy.expect(
        &[],
        2,
        "tile/0/000.p/6",
        "this part of the log is not there",
    );
}

#[test]
fn files_that_changed_places_are_found() {
    // With a file of another class and log, and with another one of the same.
    for (at, other) in [
        (1, "events/v1/class=long/"),
        (1, "events/v1/class=standard/"),
    ] {
        let copy = Copy::new();
        let file = copy.files()[at].clone();
        let other = copy.files_under(other)[4].clone();
        let (mine, theirs) = (copy.read(&file), copy.read(&other));
        copy.write(&file, theirs);
        copy.write(&other, mine);
        let report = copy.verify(&[]);
        assert_eq!(report.code, 1, "{}", report.out);
        let report: Value = serde_json::from_str(&report.out).unwrap();
        for changed in [&file, &other] {
            let findings = report["findings"].as_array().unwrap();
            let found = findings.iter().any(|f| {
                f["object"] == changed.as_str()
                    && f["what"].as_str().unwrap().contains("were logged")
            });
            assert!(found, "{changed}: {findings:#?}");
        }
        // The files are walked in their order, so the first that is bad comes first.
        let first = report["findings"][0]["object"].as_str().unwrap();
        assert!([&file, &other].contains(&&first.to_owned()), "{first}");
    }
}

#[test]
fn reordered_leaves_are_found() {
    let copy = Copy::new();
    let mut entries = copy.entries();
    entries.swap(1, 2);
    copy.write(&format!("{LOG}/tile/entries/000.p/6"), bundle(&entries));
    // The leaves that do not follow each other come first.
    let first = copy.expect_among(&[], 1, &copy.checkpoint(6), "they were altered");
    assert_eq!(first, "hoop/sample/standard/000");
}

#[test]
fn a_leaf_that_is_gone_is_found() {
    let copy = Copy::new();
    let mut entries = copy.entries();
    entries.remove(2);
    copy.write(&format!("{LOG}/tile/entries/000.p/6"), bundle(&entries));
    copy.expect(&[], 1, "tile/entries/000.p/6", "it does not hold 6 entries");
    copy.remove(&format!("{LOG}/tile/entries/000.p/6"));
    copy.expect(&[], 2, "tile/entries/000.p/6", "are not there");
}

#[test]
fn a_log_signed_with_another_key_is_of_an_unknown_key() {
    let copy = Copy::new();
    copy.rewrite(&copy.entries(), &key(9));
    copy.expect(&[], 3, &copy.checkpoint(6), "none of these keys is known");
    // Under the id of the right key, it is a wrong signature.
    let theirs = String::from_utf8(copy.read(&copy.checkpoint(6))).unwrap();
    let ours =
        String::from_utf8(std::fs::read(evidence().join(copy.checkpoint(6))).unwrap()).unwrap();
    let forged = ours.replace(
        &ours[ours.len() - 20..ours.len() - 10],
        &theirs[theirs.len() - 20..theirs.len() - 10],
    );
    copy.write(&copy.checkpoint(6), forged);
    copy.expect(
        &[],
        1,
        &copy.checkpoint(6),
        "is not one of the key that it names",
    );
}

#[test]
fn the_logs_of_two_classes_cannot_change_places() {
    let copy = Copy::new();
    let (standard, long) = (
        copy.path("tlog/sample/standard"),
        copy.path("tlog/sample/long"),
    );
    let aside = copy.path("aside");
    std::fs::rename(&standard, &aside).unwrap();
    std::fs::rename(&long, &standard).unwrap();
    std::fs::rename(&aside, &long).unwrap();
    let first = copy.expect_among(
        &[],
        1,
        &copy.checkpoint(6),
        "it is a checkpoint of another log",
    );
    assert!(first.starts_with("tlog/sample/long/"), "{first}");
}

#[test]
fn evidence_without_its_log_is_incomplete_to_who_has_a_key() {
    let copy = Copy::new();
    std::fs::remove_dir_all(copy.path("tlog")).unwrap();
    let first = copy.expect_among(
        &[],
        2,
        "class standard, shard 0",
        "there is no transparency log",
    );
    assert_eq!(first, "class long, shard 0");
    assert_eq!(copy.verify_by(&[]).code, 0);
}

#[test]
fn a_planted_file_is_found() {
    let copy = Copy::new();
    let newest = copy.files()[5].clone();
    let planted = newest.replace(
        "00000000000000000006.parquet",
        "00000000000000000099.parquet",
    );
    assert_ne!(planted, newest);
    copy.write(&planted, copy.read(&newest));
    copy.expect(&[], 1, &planted, "it is not in the transparency log");
}
