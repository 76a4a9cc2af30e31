use super::*;
use crate::generator::Generator;
use crate::held::sessions_of;
use crate::{FlushLimits, Share, read_footer};
use bytes::Bytes;
use hoop_schema::evidence::{EVENTS_PREFIX, Footer, SESSIONS_PREFIX, SessionFileName};
use hoop_schema::kinds::recorder::{RecorderHold, RetentionMode};
use hoop_schema::row::Row;
use hoop_schema::{ProducerId, SessionId, SourceId, Timestamp};
use hoop_sinks::log::memory::MemoryLog;
use hoop_sinks::log::{EventWriter, Outgoing};
use hoop_sinks::store::faulty::{Faulty, PutFault};
use hoop_sinks::store::holds::Holds;
use hoop_sinks::store::memory::Memory;
use hoop_sinks::store::{CreateOptions, LockMode, terms};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use set_clock::Clocked;
use std::collections::BTreeMap;
use std::time::Duration;

mod asleep;
mod forged;
mod leaving;
mod sealing;
mod sharing;

/// A clock that a test sets.
mod set_clock {
    use super::{Clock, Timestamp};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Clone, Default)]
    pub(super) struct Clocked(Arc<AtomicI64>);

    impl Clocked {
        pub(super) fn set(&self, time: Timestamp) {
            self.0.store(time.as_micros(), Ordering::Relaxed);
        }

        pub(super) fn clock(&self) -> Clock {
            let now = Arc::clone(&self.0);
            Clock::new(move || Timestamp::from_micros(now.load(Ordering::Relaxed)))
        }
    }
}

struct Bed {
    log: Arc<MemoryLog>,
    store: Arc<Faulty>,
    memory: Arc<Memory>,
    generator: Generator,
    sent: Vec<Bytes>,
    config: Config,
    clock: Clock,
}

/// A recorder under way.
struct Running {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), RecorderError>>,
}

impl Running {
    async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` does: nothing further runs.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl Bed {
    fn new() -> Self {
        let mut config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
        config.flush = FlushLimits {
            bytes: 64 * 1024,
            age: Duration::from_secs(300),
            idle_age: Duration::from_secs(3600),
        };
        let memory = Arc::new(Memory::new());
        Self {
            log: Arc::new(MemoryLog::new(
                Class::standard(),
                SourceId::from_bytes([9; 4]),
                1,
                1 << 30,
            )),
            store: Arc::new(Faulty::new(Arc::clone(&memory) as Arc<dyn EvidenceStore>)),
            memory,
            generator: Generator::new("standard", 5),
            sent: Vec::new(),
            config,
            clock: Clock::system(),
        }
    }

    async fn append(&mut self, events: usize) {
        for _ in 0..events {
            let (session_id, event_id, bytes) = self.generator.event();
            self.sent.push(bytes.clone());
            let event = Outgoing {
                event_id,
                session_id,
                kind: "intent",
                bytes,
                linger: false,
                spool: false,
            };
            self.log.append(Shard(0), event).await.unwrap();
        }
    }

    fn start(&self) -> Running {
        self.start_as("recorder-1")
    }

    fn start_as(&self, name: &str) -> Running {
        let mut config = self.config.clone();
        config.recorder_id = ProducerId::new(name).unwrap();
        let readers: Vec<Arc<dyn EventReader>> =
            vec![Arc::clone(&self.log) as Arc<dyn EventReader>];
        let store = Arc::clone(&self.store) as Arc<dyn EvidenceStore>;
        let recorder = Recorder::with_clock(
            config,
            readers,
            store,
            &mut Registry::default(),
            self.clock.clone(),
        )
        .unwrap();
        let handle = recorder.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(recorder.run(async move {
            assert!(stopped.await.is_err(), "stopped by being dropped");
        }));
        Running {
            handle,
            stop: Some(stop),
            task,
        }
    }

    async fn files(&self) -> Vec<(SessionFileName, Footer)> {
        let mut files = Vec::new();
        for object in self.store.list(EVENTS_PREFIX, None).await.unwrap() {
            let (footer, _) = read_footer(&*self.store, &object.key).await.unwrap();
            files.push((object.key.parse().unwrap(), footer));
        }
        files
    }

    /// Every file follows the one before, and together they hold every event that was appended, once.
    async fn check(&self) {
        let mut recorded: BTreeMap<Bytes, u64> = BTreeMap::new();
        let (mut covered, mut before) = (0, None);
        for (name, footer) in self.files().await {
            assert_eq!((name.pos_from, footer.pos_from), (covered, covered));
            assert_eq!(footer.previous.as_ref().map(|p| p.key.clone()), before);
            (covered, before) = (footer.pos_to, Some(name.to_string()));
            let index = self.store.head(&name.index_key()).await.unwrap();
            assert!(index.is_some(), "there is an index");
            for event in events(
                &self
                    .store
                    .get(&name.to_string(), 0..u64::MAX)
                    .await
                    .unwrap(),
            ) {
                *recorded.entry(event).or_default() += 1;
            }
        }
        for event in &self.sent {
            assert_eq!(recorded.get(event), Some(&1));
        }
        let own = recorded
            .keys()
            .filter(|e| &*Row::read(e).unwrap().kind == "recorder.started")
            .count();
        assert_eq!(
            recorded.len(),
            self.sent.len() + own,
            "nothing else was recorded"
        );
    }
}

fn events(file: &Bytes) -> Vec<Bytes> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone())
        .unwrap()
        .build()
        .unwrap();
    let mut events = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let texts = batch
            .column_by_name("event_json")
            .unwrap()
            .as_any()
            .downcast_ref::<arrow::array::StringArray>()
            .unwrap()
            .clone();
        events.extend(
            texts
                .iter()
                .map(|t| Bytes::copy_from_slice(t.unwrap().as_bytes())),
        );
    }
    events
}

#[tokio::test(start_paused = true)]
async fn what_the_log_holds_is_in_files_after_a_flush() {
    let mut bed = Bed::new();
    bed.append(300).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    bed.check().await;
    assert!(bed.files().await.len() > 3, "the flush size is small");
    bed.append(10).await;
    recorder.handle.flush().await.unwrap();
    bed.check().await;
    recorder.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_stops_commits_what_it_read() {
    let mut bed = Bed::new();
    bed.append(20).await;
    let recorder = bed.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bed.files().await.len(), 0);
    let handle = recorder.handle.clone();
    recorder.stop().await;
    bed.check().await;
    assert_eq!(handle.flush().await, Err(FlushError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_after_the_newest_file() {
    let mut bed = Bed::new();
    for _ in 0..3 {
        bed.append(70).await;
        let recorder = bed.start();
        recorder.handle.flush().await.unwrap();
        recorder.stop().await;
        bed.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_unclear_answer_is_cleared_up() {
    for fault in [
        PutFault::Refused,
        PutFault::LostBefore,
        PutFault::LostAfter,
        PutFault::LandsLater,
        PutFault::HangsBefore,
        PutFault::HangsAfter,
    ] {
        let mut bed = Bed::new();
        bed.append(20).await;
        // The first put is the session file's, once more after a restart; indexes come after it.
        bed.store.fail_puts([fault]);
        let recorder = bed.start();
        recorder.handle.flush().await.unwrap();
        bed.store.land().await.unwrap();
        bed.append(20).await;
        recorder.handle.flush().await.unwrap();
        bed.check().await;
        recorder.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_on_either_side_of_the_commit_loses_and_doubles_nothing() {
    for fault in [
        PutFault::HangsBefore,
        PutFault::HangsAfter,
        PutFault::LandsLater,
    ] {
        let mut bed = Bed::new();
        bed.append(30).await;
        bed.store.fail_puts([fault]);
        let recorder = bed.start();
        let handle = recorder.handle.clone();
        let flush = tokio::spawn(async move { handle.flush().await });
        while bed.store.puts() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        recorder.kill().await;
        assert_eq!(flush.await.unwrap(), Err(FlushError::Stopped));
        bed.append(10).await;
        let again = bed.start();
        tokio::time::sleep(Duration::from_secs(3)).await;
        // What the dead one sent arrives only now.
        bed.store.land().await.unwrap();
        again.handle.flush().await.unwrap();
        again.stop().await;
        // The index of a file whose recorder died is made at a start.
        let last = bed.start();
        tokio::time::sleep(Duration::from_secs(3)).await;
        last.stop().await;
        bed.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_rivals_record_everything_once() {
    let mut bed = Bed::new();
    bed.append(400).await;
    let (one, other) = (bed.start_as("recorder-1"), bed.start_as("recorder-2"));
    let (a, b) = tokio::join!(one.handle.flush(), other.handle.flush());
    a.unwrap();
    b.unwrap();
    bed.append(50).await;
    let (a, b) = tokio::join!(one.handle.flush(), other.handle.flush());
    a.unwrap();
    b.unwrap();
    one.stop().await;
    other.stop().await;
    bed.check().await;
}

#[tokio::test(start_paused = true)]
async fn rivals_whose_files_end_elsewhere_record_everything_once() {
    for (one, other) in [(64, 24), (24, 64), (40, 64)] {
        let mut bed = Bed::new();
        bed.append(400).await;
        // Whoever has the smaller files is behind after each that it wins.
        bed.config.flush.bytes = one * 1024;
        let one = bed.start_as("recorder-1");
        bed.config.flush.bytes = other * 1024;
        let other = bed.start_as("recorder-2");
        let (a, b) = tokio::join!(one.handle.flush(), other.handle.flush());
        a.unwrap();
        b.unwrap();
        one.stop().await;
        other.stop().await;
        bed.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for() {
    let mut bed = Bed::new();
    let recorder = bed.start();
    bed.append(30).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bed.store.set_away(true);
    let handle = recorder.handle.clone();
    let flush = tokio::spawn(async move { handle.flush().await });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!flush.is_finished());
    bed.store.set_away(false);
    flush.await.unwrap().unwrap();
    bed.check().await;
    recorder.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_index_is_made_again_at_the_start() {
    let mut bed = Bed::new();
    bed.append(30).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    let index = bed
        .store
        .list(SESSIONS_PREFIX, None)
        .await
        .unwrap()
        .remove(0)
        .key;
    let before = bed.store.get(&index, 0..u64::MAX).await.unwrap();
    bed.store.delete(&index).await.unwrap();
    let recorder = bed.start();
    while bed.store.head(&index).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bed.store.get(&index, 0..u64::MAX).await.unwrap(), before);
    recorder.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_index_that_goes_missing_is_made_again_while_recording() {
    let mut bed = Bed::new();
    bed.append(30).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    // The first look finds nothing missing.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (name, _) = bed.files().await.remove(0);
    bed.store.delete(&name.index_key()).await.unwrap();
    tokio::time::sleep(bed.config.retention_interval).await;
    while bed.store.head(&name.index_key()).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bed.check().await;
    recorder.stop().await;
}

/// What names an event without its id: nobody else may have it.
fn identity(event: &Bytes) -> (String, u64, String, Shard, u64) {
    let row = Row::read(event).unwrap();
    (
        row.producer_id.to_string(),
        row.producer_epoch,
        row.class.to_string(),
        row.shard,
        row.producer_seq,
    )
}

#[tokio::test(start_paused = true)]
async fn no_two_events_of_files_and_deletions_share_an_identity() {
    let mut bed = Bed::new();
    let term = Duration::from_secs(10 * 86_400);
    bed.config.terms.insert(Class::standard(), term);
    let clock = Clocked::default();
    let today = Clock::system().now();
    clock.set(today);
    bed.clock = clock.clock();
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let files = bed.files().await;
    for (name, _) in &files {
        let file = bed.store.get(&name.to_string(), 0..u64::MAX).await;
        for event in events(&file.unwrap()) {
            assert!(seen.insert(identity(&event)));
        }
    }
    // The clock stands still while all files but the newest are deleted.
    clock.set(today.plus_micros(20 * 86_400_000_000));
    tokio::time::sleep(Duration::from_secs(4000)).await;
    let records = bed.store.list("retention/v1/", None).await.unwrap();
    assert_eq!(records.len(), files.len() - 1);
    for record in &records {
        let event = bed.store.get(&record.key, 0..u64::MAX).await.unwrap();
        assert!(seen.insert(identity(&event)), "{}", record.key);
    }
    recorder.stop().await;
}

#[tokio::test(start_paused = true)]
async fn files_past_their_term_are_deleted_with_a_record_unless_they_are_held() {
    let mut bed = Bed::new();
    let term = Duration::from_secs(10 * 86_400);
    bed.config.terms.insert(Class::standard(), term);
    let clock = Clocked::default();
    let today = Clock::system().now();
    clock.set(today);
    bed.clock = clock.clock();
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    let files = bed.files().await;
    assert!(files.len() >= 3);
    let held = bed
        .store
        .get(&files[0].0.to_string(), 0..u64::MAX)
        .await
        .unwrap();
    let session = Row::read(&events(&held)[1]).unwrap().session_id;
    let id = ProducerId::new("legal").unwrap();
    let holds = Holds::new(&*bed.store, "sample", &id);
    let hold = hold("case-7", Some(session), None);
    holds.set(hold, today).await.unwrap();
    // A clock in the past deletes nothing.
    clock.set(Timestamp::from_micros(0));
    tokio::time::sleep(Duration::from_secs(4000)).await;
    assert_eq!(bed.files().await.len(), files.len());
    clock.set(today.plus_micros(20 * 86_400_000_000));
    tokio::time::sleep(Duration::from_secs(4000)).await;
    let left: Vec<_> = bed
        .files()
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let newest = &files.last().unwrap().0;
    assert!(left.contains(&files[0].0) && left.contains(newest));
    let records = bed.store.list("retention/v1/", None).await.unwrap();
    assert_eq!(records.len(), files.len() - left.len());
    holds
        .release("case-7", "carol", "settled", today)
        .await
        .unwrap();
    // Whoever releases it unlocks what it kept: no recorder may.
    for file in &left {
        for key in [file.to_string(), file.index_key()] {
            bed.store.hold(&key, false).await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(4000)).await;
    assert_eq!(
        bed.files().await.len(),
        1,
        "the newest stays, since a restart goes on after it"
    );
    assert_eq!(
        bed.store.list(SESSIONS_PREFIX, None).await.unwrap().len(),
        1
    );
    assert_eq!(
        bed.store.list("retention/v1/", None).await.unwrap().len(),
        files.len() - 1
    );
    recorder.stop().await;
}

/// The bed's recorders sign, and this is what they sign with.
fn signing(bed: &mut Bed) -> Arc<crate::Signing> {
    let key = hoop_schema::transparency::note::SigningKey::new("hoop/sample", [1; 32]).unwrap();
    let signing = Arc::new(crate::Signing {
        key,
        previous: None,
    });
    bed.config.signing = Some(Arc::clone(&signing));
    signing
}

/// Number of leaves that the newest checkpoint covers.
async fn leaves_signed(bed: &Bed) -> u64 {
    let prefix = "tlog/sample/standard/000/checkpoints/";
    let newest = bed.store.list(prefix, None).await.unwrap().pop();
    newest.map_or(0, |object| object.key[prefix.len()..].parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_stops_has_signed_what_it_committed() {
    let mut bed = Bed::new();
    signing(&mut bed);
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    bed.append(20).await;
    recorder.stop().await;
    bed.check().await;
    assert_eq!(leaves_signed(&bed).await, bed.files().await.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_written_holds_nothing_up() {
    let mut bed = Bed::new();
    signing(&mut bed);
    let forged = Bytes::from_static(b"forged");
    let key = "tlog/sample/standard/000/leaves/00000000000000000000";
    bed.store
        .create(key, forged, &CreateOptions::default())
        .await
        .unwrap();
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    bed.check().await;
    recorder.stop().await;
    assert_eq!(leaves_signed(&bed).await, 0);
}

fn hold(hold_id: &str, session: Option<SessionId>, user: Option<&str>) -> RecorderHold {
    RecorderHold {
        hold_id: hold_id.into(),
        held: true,
        held_session: session,
        held_user: user.map(str::to_owned),
        case: None,
        by: "carol".into(),
        reason: "court".into(),
    }
}

#[test]
fn one_class_is_read_from_one_log() {
    let bed = Bed::new();
    let reader = || Arc::clone(&bed.log) as Arc<dyn EventReader>;
    let store = Arc::clone(&bed.store) as Arc<dyn EvidenceStore>;
    let twice = Recorder::new(
        bed.config.clone(),
        vec![reader(), reader()],
        store,
        &mut Registry::default(),
    );
    assert!(matches!(twice, Err(RecorderError::ClassTwice(_))));
}
