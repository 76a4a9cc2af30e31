//! Content of classes that can be erased: never in the clear, always with a key that is kept before.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use bytes::Bytes;
use futures_util::FutureExt;
use hoop_schema::body::BodyEncoding;
use hoop_schema::encryption::{KEYS_PREFIX, encrypted_content};
use hoop_schema::kinds::stream::Channel;
use hoop_sinks::keys::{FileMasterKey, KeyMaker, KeyRing, MasterKey};
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::faulty::{Faulty, PutFault};
use hoop_sinks::store::memory::Memory;

use super::*;

const CANARY: &str = "canary-4711";

/// A key store, and a journal's way to it.
struct Keys {
    inner: Arc<Memory>,
    store: Arc<Faulty>,
    master: Arc<dyn MasterKey>,
    _folder: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let master = FileMasterKey::make(&folder.path().join("master.key")).unwrap();
        let inner = Arc::new(Memory::new());
        Self {
            store: Arc::new(Faulty::new(inner.clone())),
            inner,
            master: Arc::new(master),
            _folder: folder,
        }
    }

    fn start(&self, logs: Vec<Arc<dyn EventWriter>>, classes: &[&str]) -> Arc<Journal> {
        let config = Config {
            encryption: Some(ContentEncryption {
                classes: classes.iter().map(|c| Class::new(c).unwrap()).collect(),
                keys: KeyMaker::new(self.store.clone(), Arc::clone(&self.master)),
            }),
            ..config(Limits::default())
        };
        Journal::start(config, logs, system_clock(), &mut Registry::default()).unwrap()
    }

    fn kept(&self) -> usize {
        let listed = self.inner.list(KEYS_PREFIX, None).now_or_never();
        listed.expect("memory does not wait").unwrap().len()
    }

    /// The events with their content, as whoever has the keys reads them.
    async fn read(&self, events: &[Found]) -> Vec<Event> {
        let ring = KeyRing::new(self.inner.clone(), vec![Arc::clone(&self.master)]);
        let mut read = Vec::new();
        for found in events {
            let mut event = found.event.clone();
            let session = event.envelope.session_id;
            if let Some(content) = encrypted_content(&mut event) {
                let key_id = content.key_id().unwrap();
                let key = ring.read(session, key_id).await.unwrap().unwrap();
                content.decrypt(&key).unwrap();
            }
            read.push(event);
        }
        read
    }
}

fn sent(text: &str) -> NewIntent {
    NewIntent {
        body: Some(MaskedBody {
            recorded: Some(Bytes::copy_from_slice(text.as_bytes())),
            bytes: text.len() as u64,
            media_type: Some("application/json".into()),
        }),
        ..allow("standard")
    }
}

/// A request and its answer, with the canary in both; then a command with it in its output.
async fn work(journal: &Journal, connection: &Connection, new: NewIntent) {
    let body_class = new.placement.body_class.clone();
    let mut exchange = journal.open(connection, request_of("alice"), None);
    exchange.intent(new).await.unwrap();
    let mut answer = exchange.answer(head(200));
    answer.push(format!("{{\"data\":\"{CANARY}\"}}").as_bytes());
    answer.finish(End::complete(Masked::default()));
    let mut exec = allow("standard");
    exec.placement.body_class = body_class;
    let mut exchange = journal.open(connection, request_of("alice"), None);
    exchange.intent(exec).await.unwrap();
    let mut stream = exchange.stream(head(101), Channel::Stdout);
    assert_eq!(stream.push(CANARY.as_bytes()), Flow::Recorded);
    stream.finish(End::complete(Masked::default()));
}

fn canaries(events: &[Found]) -> usize {
    let shows = |found: &&Found| String::from_utf8_lossy(&found.bytes).contains(CANARY);
    events.iter().filter(shows).count()
}

#[tokio::test]
async fn content_is_on_the_log_as_ciphertext_and_is_read_with_the_key() {
    let (keys, log) = (Keys::new(), memory_log("standard", 1));
    let journal = keys.start(vec![log.clone()], &["standard"]);
    let long = format!("{{\"sent\":\"{CANARY}{}\"}}", "é".repeat(100_000));
    for new in [sent(&format!("{{\"sent\":\"{CANARY}\"}}")), sent(&long)] {
        work(&journal, &journal.connection(PEER), new).await;
    }
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    prove(&events);
    assert_eq!(canaries(&events), 0);
    let text = |found: &Found| String::from_utf8_lossy(&found.bytes).into_owned();
    assert!(events.iter().all(|e| !text(e).contains("\"sha256\"")));
    let read = keys.read(&events).await;
    let shown = |event: &Event| {
        let json = match &event.kind {
            Kind::Intent(intent) => serde_json::to_string(intent),
            Kind::Outcome(outcome) => serde_json::to_string(outcome),
            Kind::BodyChunk(chunk) => serde_json::to_string(chunk),
            Kind::StreamData(data) => serde_json::to_string(data),
            _ => return false,
        };
        json.unwrap().contains(CANARY)
    };
    // Two bodies of requests, one of them in its first chunk, two of answers, two pieces of output.
    assert_eq!(read.iter().filter(|event| shown(event)).count(), 6);
    let Some(Kind::Intent(intent)) = read
        .iter()
        .map(|event| &event.kind)
        .find(|kind| matches!(kind, Kind::Intent(_)))
    else {
        panic!("{read:?}");
    };
    assert_eq!(
        intent.body.as_ref().unwrap().encoding,
        BodyEncoding::Json,
        "in the form that it would have been recorded in"
    );
}

#[tokio::test]
async fn only_the_class_that_says_so_is_encrypted() {
    let keys = Keys::new();
    let (standard, short) = (memory_log("standard", 1), memory_log("short", 1));
    let journal = keys.start(vec![standard.clone(), short.clone()], &["short"]);
    work(&journal, &journal.connection(PEER), sent(CANARY)).await;
    assert_eq!(keys.kept(), 0, "a session without such content has no key");
    let mut apart = sent(CANARY);
    apart.placement.body_class = Class::new("short").unwrap();
    work(&journal, &journal.connection(PEER), apart).await;
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let (decisions, bodies) = (events(&standard).await, events(&short).await);
    assert_eq!(canaries(&bodies), 0);
    assert_eq!(canaries(&decisions), 3, "those of the first session");
    let hashes = decisions
        .iter()
        .filter(|e| String::from_utf8_lossy(&e.bytes).contains("\"sha256\""));
    assert_eq!(hashes.count(), 2, "none of a body that is encrypted");
    keys.read(&bodies).await;
}

#[tokio::test]
async fn the_key_is_kept_before_the_first_event_that_uses_it() {
    let keys = Arc::new(Keys::new());
    let (seen, watched) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&keys));
    let count = Arc::clone(&seen);
    let log = FaultyLog::new("standard", 1, move |event| {
        if String::from_utf8_lossy(&event.bytes).contains("\"encrypted\"") {
            assert_eq!(watched.kept(), 1);
            count.fetch_add(1, Ordering::Relaxed);
        }
        Fault::None
    });
    let journal = keys.start(vec![log.clone()], &["standard"]);
    work(&journal, &journal.connection(PEER), sent(CANARY)).await;
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    assert_eq!(seen.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn requests_of_one_session_share_one_put() {
    let (keys, log) = (Keys::new(), memory_log("standard", 1));
    let journal = keys.start(vec![log.clone()], &["standard"]);
    let connection = journal.connection(PEER);
    let requests = (0..50).map(|_| async {
        let mut exchange = journal.open(&connection, request_of("alice"), Some("one"));
        exchange.intent(sent(CANARY)).await.unwrap();
    });
    futures_util::future::join_all(requests).await;
    assert_eq!((keys.store.puts(), keys.kept()), (1, 1));
    work(&journal, &connection, sent(CANARY)).await;
    assert_eq!(keys.kept(), 2, "the connection is another session");
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    assert_eq!(canaries(&events(&log).await), 0);
}

#[tokio::test]
async fn whoever_hangs_up_leaves_the_key_to_the_next() {
    let (keys, log) = (Keys::new(), memory_log("standard", 1));
    let journal = keys.start(vec![log.clone()], &["standard"]);
    let connection = journal.connection(PEER);
    let mut gone = journal.open(&connection, request_of("alice"), Some("one"));
    // Polled once, then dropped.
    assert!(gone.intent(sent(CANARY)).now_or_never().is_none());
    drop(gone);
    let mut next = journal.open(&connection, request_of("alice"), Some("one"));
    next.intent(sent(CANARY)).await.unwrap();
    drop(next);
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    assert_eq!(keys.store.puts(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_request_is_refused_and_recorded_without_its_content() {
    let (keys, log) = (Keys::new(), memory_log("standard", 1));
    let journal = keys.start(vec![log.clone()], &["standard"]);
    keys.store.set_away(true);
    let connection = journal.connection(PEER);
    let asked = AtomicU64::new(0);
    let request = || async {
        asked.fetch_add(1, Ordering::Relaxed);
        let mut exchange = journal.open(&connection, request_of("alice"), Some("one"));
        let refused = exchange.intent(sent(CANARY)).await;
        assert!(matches!(refused, Err(RecordError::NoKey(_))), "{refused:?}");
        let mut answer = exchange.answer(head(503));
        answer.push(b"{}");
        answer.finish(End::complete(Masked::default()));
    };
    futures_util::future::join_all((0..20).map(|_| request())).await;
    assert_eq!(keys.store.puts(), 1, "one failure tells all who wait");
    // Best effort goes on, without content.
    let mut discovery = sent(CANARY);
    discovery.durability = Durability::BestEffort;
    work(&journal, &connection, {
        tokio::time::sleep(Duration::from_secs(2)).await;
        keys.store.set_away(false);
        discovery
    })
    .await;
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    prove(&events);
    assert_eq!(canaries(&events), 0);
    let omitted = events.iter().filter(|found| match &found.event.kind {
        Kind::Intent(intent) => intent
            .body
            .as_ref()
            .is_some_and(|body| body.encoding == BodyEncoding::Omitted),
        _ => false,
    });
    assert_eq!(omitted.count() as u64, asked.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn best_effort_goes_on_without_content_while_keys_cannot_be_kept() {
    let (keys, log) = (Keys::new(), memory_log("standard", 1));
    let journal = keys.start(vec![log.clone()], &["standard"]);
    keys.store.fail_puts([PutFault::HangsBefore; 4]);
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    let mut new = sent(CANARY);
    new.durability = Durability::BestEffort;
    exchange.intent(new).await.unwrap();
    let mut stream = exchange.stream(head(200), Channel::Watch);
    assert_eq!(stream.push(CANARY.as_bytes()), Flow::Recorded, "gathered");
    stream.finish(End::complete(Masked::default()));
    assert!(journal.shutdown(Duration::from_secs(100)).await);
    let events = events(&log).await;
    prove(&events);
    assert_eq!(canaries(&events), 0);
    let outcome = events.iter().find_map(|found| match &found.event.kind {
        Kind::Outcome(outcome) => outcome.body.as_ref(),
        _ => None,
    });
    let body = outcome.unwrap();
    let said = (body.encoding, body.bytes, body.truncated_at);
    assert_eq!(said, (BodyEncoding::Omitted, CANARY.len() as u64, Some(0)));
}

#[tokio::test]
async fn a_caller_without_identity_costs_no_key() {
    let (keys, log) = (Keys::new(), memory_log("standard", 1));
    let journal = keys.start(vec![log.clone()], &["standard"]);
    exchange(&journal, &journal.connection(PEER), "", None)
        .await
        .unwrap();
    let mut metadata = sent(CANARY);
    metadata.level = Level::Metadata;
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    exchange.intent(metadata).await.unwrap();
    drop(exchange);
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    assert_eq!(keys.store.puts(), 0);
}
