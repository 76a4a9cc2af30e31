//! Against a broker that can be switched off: a log in memory with a switch, which a real broker does not have between
//! two appends of one batch.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hoop_schema::{EventId, SessionId, SourceId};
use tempfile::tempdir;

use super::super::embedded::Options;
use super::super::memory::MemoryLog;
use tokio::time::timeout;

use super::*;

const SHARDS: u32 = 2;

/// A log that refuses while it is down, and one event in `refuse_every` when it is up, but none of them twice: a batch
/// of that many would never get anywhere.
#[derive(Debug)]
struct Broker {
    log: MemoryLog,
    down: AtomicBool,
    refuse_every: u64,
    appends: AtomicU64,
    refused: Mutex<BTreeSet<EventId>>,
}

impl Broker {
    fn new(refuse_every: u64) -> Arc<Self> {
        let class = Class::new("standard").expect("a name");
        Arc::new(Self {
            log: MemoryLog::new(class, SourceId::from_bytes([1; 4]), SHARDS, 64 << 20),
            down: AtomicBool::new(false),
            refuse_every,
            appends: AtomicU64::new(0),
            refused: Mutex::default(),
        })
    }

    fn switch(&self, up: bool) {
        self.down.store(!up, Ordering::SeqCst);
    }

    /// The events of a shard, in order, each where it was first.
    async fn events(&self, shard: Shard) -> Vec<EventId> {
        let records = self
            .log
            .read(shard, Position(0), usize::MAX, Duration::ZERO)
            .await
            .expect("memory can be read");
        let ids = records.into_iter().map(|record| {
            let (found, event) = read_back(record.bytes).expect("an event");
            assert_eq!(found, shard, "events come to their own shard");
            event.event_id
        });
        let mut seen = BTreeSet::new();
        ids.filter(|id| seen.insert(*id)).collect()
    }
}

#[async_trait]
impl EventWriter for Broker {
    fn class(&self) -> &Class {
        EventWriter::class(&self.log)
    }

    fn shards(&self) -> u32 {
        SHARDS
    }

    fn append(&self, shard: Shard, event: Outgoing) -> Appending {
        let count = self.appends.fetch_add(1, Ordering::SeqCst);
        let its_turn = self.refuse_every > 0 && count.is_multiple_of(self.refuse_every);
        if self.down.load(Ordering::SeqCst)
            || (its_turn && self.refused.lock().insert(event.event_id))
        {
            let error = AppendError::Retryable("switched off".into());
            return Box::pin(std::future::ready(Err(error)));
        }
        self.log.append(shard, event)
    }

    async fn ready(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

fn open(dir: &Path, broker: &Arc<Broker>, options: Options) -> SpooledWriter {
    let class = EventWriter::class(&**broker).clone();
    let spool = EmbeddedLog::open(dir, class, options).expect("an empty folder");
    SpooledWriter::new(
        Arc::new(spool),
        Arc::clone(broker) as Arc<dyn EventWriter>,
        &Metrics::default(),
    )
}

fn small() -> Options {
    Options {
        segment_bytes: 1 << 20,
        ..Options::default()
    }
}

fn event(number: u64, spool: bool) -> (Shard, Outgoing) {
    let shard = Shard(u32::try_from(number % u64::from(SHARDS)).expect("small"));
    let event_id = EventId::new(number, &[0; 10]);
    let session_id = SessionId::from_bytes([7; 16]);
    let bytes = format!(
        r#"{{"event_id":"{event_id}","session_id":"{session_id}","shard":{},"kind":"intent"}}"#,
        shard.0
    );
    let event = Outgoing {
        event_id,
        session_id,
        kind: "intent",
        bytes: Bytes::from(bytes),
        linger: false,
        spool,
    };
    (shard, event)
}

fn ids(numbers: std::ops::Range<u64>, shard: Shard) -> Vec<EventId> {
    let of_shard = |number: &u64| number % u64::from(SHARDS) == u64::from(shard.0);
    let id = |number| EventId::new(number, &[0; 10]);
    numbers.filter(of_shard).map(id).collect()
}

async fn all_arrive(broker: &Broker, count: u64) {
    let arrived = async {
        loop {
            let mut total = 0;
            for shard in 0..SHARDS {
                total += broker.events(Shard(shard)).await.len() as u64;
            }
            if total == count {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), arrived)
        .await
        .expect("everything arrives");
    for shard in (0..SHARDS).map(Shard) {
        assert_eq!(broker.events(shard).await, ids(0..count, shard), "in order");
    }
}

#[tokio::test]
async fn an_append_that_needs_the_broker_has_its_answer_when_the_broker_has_the_event() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::new(0);
    let log = open(dir.path(), &broker, small());
    let (shard, event) = event(0, false);
    log.append(shard, event).await.expect("the broker is up");
    assert_eq!(broker.events(shard).await.len(), 1);
    log.close().await;
}

#[tokio::test]
async fn while_the_broker_is_down_only_the_spool_answers_and_all_is_shipped_in_order_after() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::new(0);
    let log = open(dir.path(), &broker, small());
    broker.switch(false);
    let mut waiting = Vec::new();
    for number in 0..100 {
        let (shard, event) = event(number, number % 3 > 0);
        let appending = log.append(shard, event);
        if number % 3 > 0 {
            appending.await.expect("the spool is there");
        } else {
            waiting.push(appending);
        }
    }
    let early = timeout(Duration::from_millis(300), &mut waiting[0]).await;
    assert!(early.is_err(), "{early:?}");
    log.ready().await.expect("what may be spooled is taken");
    broker.switch(true);
    all_arrive(&broker, 100).await;
    for appending in waiting {
        appending.await.expect("the broker is back");
    }
    log.close().await;
}

#[tokio::test]
async fn what_the_broker_refuses_in_the_midst_of_a_batch_comes_behind_what_was_before_it() {
    let dir = tempdir().expect("a folder");
    // Every third append is refused, so each batch takes several attempts.
    let broker = Broker::new(3);
    let log = open(dir.path(), &broker, small());
    for number in 0..9 {
        let (shard, event) = event(number, true);
        log.append(shard, event).await.expect("the spool is there");
    }
    let arrived = async {
        while log.shipped.borrow().saturating_sub(1) < 9 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), arrived)
        .await
        .expect("each attempt gets further");
    // Each event's last copy stands behind the last copies of those before it.
    for shard in (0..SHARDS).map(Shard) {
        let records = broker
            .log
            .read(shard, Position(0), usize::MAX, Duration::ZERO)
            .await
            .expect("memory can be read");
        let all: Vec<EventId> = records
            .into_iter()
            .map(|record| read_back(record.bytes).expect("an event").1.event_id)
            .collect();
        let last = |id: &EventId| all.iter().rposition(|found| found == id);
        let places: Vec<_> = ids(0..9, shard).iter().map(last).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(places.is_sorted(), "{places:?}");
    }
    log.close().await;
}

#[tokio::test]
async fn what_was_not_shipped_is_shipped_by_the_next_process() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::new(0);
    let log = open(dir.path(), &broker, small());
    for number in 0..10 {
        let (shard, event) = event(number, true);
        log.append(shard, event).await.expect("the spool is there");
    }
    all_arrive(&broker, 10).await;
    broker.switch(false);
    for number in 10..20 {
        let (shard, event) = event(number, true);
        log.append(shard, event).await.expect("the spool is there");
    }
    let (shard, unanswered) = event(20, false);
    let unanswered = log.append(shard, unanswered);
    let task = log.task.lock().take().expect("it ships");
    task.abort();
    drop(log);
    let error = unanswered.await.expect_err("nobody ships any more");
    assert!(matches!(error, AppendError::Unknown(_)), "{error:?}");

    broker.switch(true);
    let reopened = async {
        loop {
            let class = EventWriter::class(&*broker).clone();
            match EmbeddedLog::open(dir.path(), class, small()) {
                Ok(spool) => return spool,
                // The aborted task lets go of the files a moment later.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let spool = timeout(Duration::from_secs(10), reopened)
        .await
        .expect("the lock is free");
    let log = SpooledWriter::new(
        Arc::new(spool),
        Arc::clone(&broker) as Arc<dyn EventWriter>,
        &Metrics::default(),
    );
    all_arrive(&broker, 21).await;
    log.close().await;
}

#[tokio::test]
async fn a_full_spool_refuses_and_takes_again_once_the_broker_is_back() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::new(0);
    let options = Options {
        segment_bytes: 64 << 10,
        size_max: 256 << 10,
        age_max: Duration::ZERO,
        ..Options::default()
    };
    let log = open(dir.path(), &broker, options);
    broker.switch(false);
    let mut taken = 0;
    let refused = loop {
        let (shard, event) = event(taken, true);
        match log.append(shard, event).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000, "there is a limit");
    };
    assert!(matches!(refused, AppendError::Retryable(_)), "{refused:?}");
    assert!(log.ready().await.is_err());
    broker.switch(true);
    all_arrive(&broker, taken).await;
    let again = async {
        loop {
            let (shard, event) = event(taken, true);
            if log.append(shard, event).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), again)
        .await
        .expect("there is room again");
    log.close().await;
}
