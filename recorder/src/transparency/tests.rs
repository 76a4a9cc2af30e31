//! Writers of one log: rivals, crashes between any two puts, and people who may write to the store but have no key.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use bytes::Bytes;
use hoop_schema::evidence::{RETENTION_PREFIX, SessionFileName, end_of_term};
use hoop_schema::kinds::recorder::RecorderExpired;
use hoop_schema::own::OwnEvents;
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::leaf::Leaf;
use hoop_schema::transparency::note::{Note, Signed};
use hoop_schema::transparency::tiles::{RightEdge, entries};
use hoop_schema::{ProducerId, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};
use hoop_sinks::store::faulty::{Faulty, PutFault};
use hoop_sinks::store::memory::Memory;
use hoop_sinks::store::{CreateOptions, EvidenceStore};
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::config::Config;
use crate::core::{Action, Core};
use crate::generator::Generator;
use crate::metrics::Metrics;
use crate::tails::Tails;
use crate::time::Clock;

mod beside_files;
mod of_others;

/// A moment in the day on which everything here is recorded.
const NOW: i64 = 1_795_000_000_000_000;

const DAY: Duration = Duration::from_secs(86_400);

/// A store, and the chain of session files that was committed to it.
struct Bed {
    store: Arc<Faulty>,
    core: Core,
    generator: Generator,
    position: u64,
    files: Vec<String>,
    /// What whoever commits session files signs them with.
    signing: Option<Signing>,
}

impl Bed {
    fn new() -> Self {
        let config = config();
        let core = Core::new(
            &config,
            1,
            SourceId::from_bytes([7; 4]),
            &Class::standard(),
            Shard(0),
            None,
        );
        Self {
            store: Arc::new(Faulty::new(Arc::new(Memory::new()))),
            core,
            generator: Generator::new("standard", 5),
            position: 1,
            files: Vec::new(),
            signing: Some(signing(1, None)),
        }
    }

    /// Makes the next session file of the chain, without putting it.
    fn next_file(&mut self) -> (String, Bytes) {
        let log_ts = Timestamp::from_micros(NOW);
        let (_, _, bytes) = self.generator.event();
        let record = LogRecord {
            position: Position(self.position),
            log_ts,
            bytes,
        };
        self.position += 1;
        self.core.apply(record, log_ts);
        let Some(Action::Commit(batch)) = self.core.flush() else {
            panic!("there is a record to commit");
        };
        let previous = self.core.previous().cloned();
        let encoded = batch
            .encode(previous, log_ts, self.signing.as_ref())
            .unwrap();
        let key = batch.name().to_string();
        self.core.committed(hoop_schema::evidence::PreviousFile {
            key: key.clone(),
            sha256: encoded.sha256,
        });
        (key, encoded.file)
    }

    async fn commit(&mut self, files: usize) {
        for _ in 0..files {
            let (key, file) = self.next_file();
            self.put(&key, file).await;
            self.files.push(key);
        }
    }

    async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let options = CreateOptions::default();
        let put = self.store.create(key, bytes.into(), &options).await;
        assert_eq!(put.unwrap(), hoop_sinks::store::Created::Created);
    }

    /// Somebody who may write to the store replaces an object.
    async fn replace(&self, key: &str, bytes: impl Into<Bytes>) {
        self.store.delete(key).await.unwrap();
        self.put(key, bytes).await;
    }

    fn recorder(&self) -> OneRecorder {
        self.recorder_with(signing(1, None), config())
    }

    fn recorder_with(&self, signing: Signing, config: Config) -> OneRecorder {
        OneRecorder {
            shared: Shared {
                config,
                store: Arc::clone(&self.store) as Arc<dyn EvidenceStore>,
                metrics: Metrics::new(&mut Registry::default()),
                clock: Clock::new(|| Timestamp::from_micros(NOW)),
                epoch: 1,
                last_epoch: AtomicU64::new(0),
                shards: 1,
                buffered: AtomicUsize::new(0),
                encoding: Semaphore::new(1),
                tails: Tails::default(),
                locks: std::sync::OnceLock::new(),
                proofs: Proofs::default(),
            },
            signing,
            logs: ClassLogs::default(),
        }
    }

    /// What the newest checkpoint covers, after a look at everything that it needs: the leaves, in order.
    async fn proven(&self, key: &SigningKey) -> Vec<Leaf> {
        let place = place();
        let prefix = format!("{}checkpoints/", place.prefix());
        let Some(newest) = self.store.list(&prefix, None).await.unwrap().pop() else {
            return Vec::new();
        };
        let note = self.get(&newest.key).await;
        let note: Note = std::str::from_utf8(&note).unwrap().parse().unwrap();
        assert_eq!(note.signed_by(key.verifier()), Signed::Yes(None));
        let checkpoint = Checkpoint::parse(&note.text).unwrap();
        assert_eq!(checkpoint.origin, place.origin());
        let mut edge = RightEdge::default();
        let mut leaves = Vec::new();
        while edge.size() < checkpoint.size {
            let (index, width) = (edge.size() / 256, (checkpoint.size - edge.size()).min(256));
            let path = hoop_schema::transparency::tiles::tile_path(
                hoop_schema::transparency::tiles::Level::Entries,
                index,
                width,
            );
            let bundle = self.get(&format!("{}{path}", place.prefix())).await;
            for entry in entries(&bundle).unwrap() {
                for tile in edge.push(entry) {
                    assert_eq!(
                        self.get(&format!("{}{}", place.prefix(), tile.path)).await,
                        tile.bytes
                    );
                }
                leaves.push(Leaf::parse(entry).unwrap());
            }
        }
        for tile in edge.partial() {
            assert_eq!(
                self.get(&format!("{}{}", place.prefix(), tile.path)).await,
                tile.bytes
            );
        }
        assert_eq!(edge.root(), checkpoint.root);
        leaves
    }

    async fn get(&self, key: &str) -> Bytes {
        self.store.get(key, 0..u64::MAX).await.unwrap()
    }

    /// The names of the files that the log has, in order.
    async fn proven_files(&self) -> Vec<String> {
        let leaves = self.proven(&signing(1, None).key).await;
        let files = leaves.iter().filter(|leaf| matches!(leaf, Leaf::File(_)));
        files
            .map(|leaf| leaf.object().unwrap().to_owned())
            .collect()
    }
}

/// One recorder's side of the logs.
struct OneRecorder {
    shared: Shared,
    signing: Signing,
    logs: ClassLogs,
}

impl OneRecorder {
    async fn look(&mut self) -> Result<(), ProofError> {
        self.look_for(true).await
    }

    async fn look_for(&mut self, acts: bool) -> Result<(), ProofError> {
        let class = Class::standard();
        let looker = Looker {
            shared: &self.shared,
            signing: &self.signing,
            class: &class,
        };
        looker.look(&mut self.logs, acts).await
    }

    /// What it said last of what is wrong with the log.
    fn said(&self) -> &str {
        let log = self.logs.logs.get(&Shard(0));
        log.and_then(|log| log.said.as_deref()).unwrap_or_default()
    }
}

fn config() -> Config {
    let mut config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
    config.terms.insert(Class::standard(), DAY);
    config
}

fn key(seed: u8) -> SigningKey {
    SigningKey::new("hoop/sample", [seed; 32]).unwrap()
}

fn signing(seed: u8, previous: Option<u8>) -> Signing {
    Signing {
        key: key(seed),
        previous: previous.map(key),
    }
}

fn place() -> LogPlace {
    LogPlace::new("sample", &Class::standard(), Shard(0))
}

/// The record of the deletion of a file as a recorder makes it, with its name.
fn deletion(file: &str, sha256: EventHash, term: Duration, due: Timestamp) -> (String, Bytes) {
    let name: hoop_schema::evidence::SessionFileName = file.parse().unwrap();
    let expired = RecorderExpired {
        key: file.to_owned(),
        sha256: sha256.to_string(),
        of_class: name.class.clone(),
        of_shard: name.shard,
        pos_from: name.pos_from,
        pos_to: name.pos_from + 1,
        rows: 1,
        term_s: term.as_secs(),
        due,
    };
    let id = ProducerId::new("recorder-1").unwrap();
    let mut own = OwnEvents::new("sample", &id, 7, &name.class, name.shard);
    let record = Bytes::from(own.make(due, &expired.into()));
    let key = format!("{RETENTION_PREFIX}class=standard/dt={}/x.json", name.day);
    (key, record)
}

#[tokio::test]
async fn every_session_file_is_in_the_log_in_the_order_of_its_chain() {
    let mut bed = Bed::new();
    bed.commit(3).await;
    let mut recorder = bed.recorder();
    recorder.look().await.unwrap();
    assert_eq!(bed.proven_files().await, bed.files);
    bed.commit(2).await;
    recorder.look().await.unwrap();
    assert_eq!(bed.proven_files().await, bed.files);
    let checkpoints = bed
        .store
        .list("tlog/sample/standard/000/checkpoints/", None)
        .await
        .unwrap();
    assert_eq!(checkpoints.len(), 2, "one for each size that was signed");
    // Nothing new, nothing written.
    let puts = bed.store.puts();
    recorder.look().await.unwrap();
    assert_eq!(bed.store.puts(), puts);
}

#[tokio::test]
async fn a_log_of_several_hundred_files_has_full_tiles() {
    let mut bed = Bed::new();
    bed.commit(300).await;
    bed.recorder().look().await.unwrap();
    assert_eq!(bed.proven_files().await, bed.files);
    bed.commit(230).await;
    let mut next = bed.recorder();
    next.look().await.unwrap();
    assert_eq!(bed.proven_files().await, bed.files);
    assert_eq!(next.said(), "");
}

#[tokio::test]
async fn a_crash_between_any_two_puts_leaves_a_log_that_goes_on() {
    // Three leaves, a tile, a bundle and a checkpoint.
    for crash in 0..6 {
        for fault in [
            PutFault::Refused,
            PutFault::LostBefore,
            PutFault::LostAfter,
            PutFault::LandsLater,
        ] {
            let mut bed = Bed::new();
            bed.commit(3).await;
            bed.store
                .fail_puts(std::iter::repeat_n(PutFault::None, crash).chain([fault]));
            let mut dies = bed.recorder();
            dies.look().await.unwrap();
            drop(dies);
            bed.commit(1).await;
            bed.recorder().look().await.unwrap();
            bed.store.land().await.unwrap();
            let mut last = bed.recorder();
            last.look().await.unwrap();
            assert_eq!(
                (bed.proven_files().await, last.said()),
                (bed.files.clone(), ""),
                "{crash} {fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_was_lost_does_not_hold_up_those_after_it() {
    let mut bed = Bed::new();
    bed.commit(1).await;
    let _lost = bed.next_file();
    bed.commit(1).await;
    bed.recorder().look().await.unwrap();
    assert_eq!(bed.proven_files().await, bed.files);
}

#[tokio::test]
async fn a_file_that_is_listed_late_is_waited_for() {
    let mut bed = Bed::new();
    bed.commit(3).await;
    let mut recorder = bed.recorder();
    let class = Class::standard();
    let looker = Looker {
        shared: &recorder.shared,
        signing: &recorder.signing,
        class: &class,
    };
    // As a listing that began before the second file was put, and ended after the third.
    let mut files = looker.files(true).await.unwrap();
    files.remove(1);
    let found = Found {
        files,
        acts: Vec::new(),
    };
    let (shared, signing) = (&recorder.shared, &recorder.signing);
    let mut line = append::load(shared, signing, place()).await.unwrap();
    let whole = append::advance(shared, signing, &mut line, &found, &mut HashSet::new()).await;
    assert!(!whole.unwrap());
    assert_eq!(bed.proven_files().await, bed.files[..1]);
    recorder.look().await.unwrap();
    assert_eq!(bed.proven_files().await, bed.files);
}

#[tokio::test]
async fn a_leaf_that_no_key_signed_is_not_signed_over() {
    let mut bed = Bed::new();
    bed.commit(2).await;
    let mut recorder = bed.recorder();
    recorder.look().await.unwrap();
    let forged = Leaf::file(
        "events/forged",
        EventHash::of(b"x"),
        &forged_footer(&bed).await,
    );
    let text = format!(
        "{}\nleaf 2\n{}\n",
        place().origin(),
        String::from_utf8(forged.bytes()).unwrap()
    );
    let note = Note::sign(text, [&key(9)]);
    bed.put(&place().leaf_key(2), note.to_string()).await;
    bed.commit(1).await;
    recorder.look().await.unwrap();
    assert!(
        recorder.said().contains("is signed by no key of this log"),
        "{}",
        recorder.said()
    );
    assert_eq!(bed.proven_files().await, bed.files[..2]);
    // A leaf of ours is good at its own index alone.
    let ours = bed.get(&place().leaf_key(0)).await;
    bed.replace(&place().leaf_key(2), ours).await;
    let mut next = bed.recorder();
    next.look().await.unwrap();
    assert!(
        next.said().contains("is signed by no key of this log"),
        "{}",
        next.said()
    );
    assert_eq!(bed.proven_files().await, bed.files[..2]);
}

async fn forged_footer(bed: &Bed) -> hoop_schema::evidence::Footer {
    let (footer, _) = crate::read_footer(&*bed.store, &bed.files[0])
        .await
        .unwrap();
    footer
}

#[tokio::test]
async fn a_log_that_is_not_what_was_signed_is_not_signed_over() {
    let fork = Checkpoint {
        origin: place().origin(),
        size: 3,
        root: [1; 32],
    };
    let fork = Note::sign(fork.text(), [&key(1)]).to_string();
    for (object, forged, what) in [
        (
            "checkpoints/00000000000000000002",
            "forged",
            "is no checkpoint",
        ),
        (
            "checkpoints/00000000000000000003",
            fork.as_str(),
            "is missing or damaged",
        ),
        (
            "leaves/00000000000000000001",
            "forged",
            "is missing or damaged",
        ),
        ("tile/0/000.p/3", "forged", "holds other hashes"),
    ] {
        let mut bed = Bed::new();
        bed.commit(2).await;
        bed.recorder().look().await.unwrap();
        let object = format!("{}{object}", place().prefix());
        if bed.store.head(&object).await.unwrap().is_some() {
            bed.store.delete(&object).await.unwrap();
        }
        bed.put(&object, forged.to_owned()).await;
        bed.commit(1).await;
        let mut next = bed.recorder();
        next.look().await.unwrap();
        assert!(next.said().contains(what), "{object}: {}", next.said());
        if !object.contains("checkpoints/") {
            assert_eq!(bed.proven_files().await, bed.files[..2], "{object}");
        }
    }
}

#[tokio::test]
async fn a_fork_that_is_put_while_a_recorder_runs_is_not_signed_over() {
    let mut bed = Bed::new();
    bed.commit(2).await;
    let mut recorder = bed.recorder();
    recorder.look().await.unwrap();
    let fork = Checkpoint {
        origin: place().origin(),
        size: 3,
        root: [1; 32],
    };
    bed.put(
        &place().checkpoint_key(3),
        Note::sign(fork.text(), [&key(9)]).to_string(),
    )
    .await;
    bed.commit(1).await;
    recorder.look().await.unwrap();
    assert!(
        recorder.said().contains("is a checkpoint of another past"),
        "{}",
        recorder.said()
    );
}

#[tokio::test]
async fn a_file_that_was_replaced_after_its_commit_is_not_logged() {
    let mut bed = Bed::new();
    bed.commit(1).await;
    let mut recorder = bed.recorder();
    recorder
        .shared
        .proofs
        .committed(&bed.files[0], EventHash::of(b"what was committed"));
    recorder.look().await.unwrap();
    assert!(
        recorder
            .said()
            .contains("is not the file that this recorder committed"),
        "{}",
        recorder.said()
    );
    assert!(bed.proven_files().await.is_empty());
}

#[tokio::test]
async fn a_damaged_file_does_not_hold_up_those_after_it() {
    let mut bed = Bed::new();
    bed.commit(3).await;
    bed.replace(&bed.files[1].clone(), "damaged").await;
    let mut recorder = bed.recorder();
    recorder.look().await.unwrap();
    recorder.look().await.unwrap();
    assert_eq!(
        bed.proven_files().await,
        [bed.files[0].clone(), bed.files[2].clone()]
    );
}

#[derive(Debug, Clone, Copy)]
enum Happens {
    /// A session file is committed.
    Commit,
    /// A recorder looks.
    Look(usize),
    /// A recorder dies, and another one comes in its place.
    Restart(usize),
    /// A put meets a fault.
    Fault(PutFault),
    /// What was to land later lands.
    Land,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => Just(Happens::Commit),
        4 => (0..3usize).prop_map(Happens::Look),
        1 => (0..3usize).prop_map(Happens::Restart),
        2 => prop::sample::select(vec![PutFault::Refused, PutFault::LostBefore, PutFault::LostAfter, PutFault::LandsLater])
            .prop_map(Happens::Fault),
        1 => Just(Happens::Land),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rivals_write_one_line_whatever_happens(history in prop::collection::vec(happens(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bed = Bed::new();
            let mut rivals = vec![bed.recorder(), bed.recorder(), bed.recorder()];
            for step in history {
                match step {
                    Happens::Commit => {
                        // Faults are for the log alone.
                        let (key, file) = bed.next_file();
                        while bed.store.create(&key, file.clone(), &CreateOptions::default()).await.is_err() {}
                        bed.files.push(key);
                    }
                    Happens::Look(i) => rivals[i].look().await.unwrap(),
                    Happens::Restart(i) => rivals[i] = bed.recorder(),
                    Happens::Fault(fault) => bed.store.fail_puts([fault]),
                    Happens::Land => drop(bed.store.land().await.unwrap()),
                }
            }
            bed.store.land().await.unwrap();
            // Faults that are left meet the next puts, one each.
            for _ in 0..45 {
                for rival in &mut rivals {
                    rival.look().await.unwrap();
                }
            }
            for rival in &rivals {
                assert_eq!(rival.said(), "");
            }
            assert_eq!(bed.proven_files().await, bed.files);
        });
    }
}
