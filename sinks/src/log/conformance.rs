//! What every event log owes its callers: one test per sentence of the traits.
//!
//! A backend implements [`Backend`] and calls [`log_conformance!`](crate::log_conformance) in a test module, with an
//! expression that makes a new, empty one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hoop_schema::{EventId, SessionId, Shard};

use super::{
    AppendError, Bounds, EventReader, EventWriter, LogRecord, Outgoing, Position, ReadError,
};

/// Shards of the logs that the suite runs on.
pub const SHARDS: u32 = 2;
/// The most bytes that a small log may hold, on its way and written.
pub const SMALL_BYTES_MAX: usize = 4 << 20;
/// Longer than any backend takes for one step.
const PATIENCE: Duration = Duration::from_secs(30);
const NO_WAIT: Duration = Duration::ZERO;
const ALL: usize = usize::MAX;

/// Both ends of one log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The appending end.
    pub writer: Arc<dyn EventWriter>,
    /// The reading end.
    pub reader: Arc<dyn EventReader>,
}

/// Makes logs of one kind, each with [`SHARDS`] shards.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens the log: a new, empty one at first, the same one later. Those opened before were closed and dropped.
    async fn open(&self) -> Log;

    /// Opens another log, which holds at most [`SMALL_BYTES_MAX`] bytes, drops what is committed before it passes
    /// that, and refuses appends when nothing is.
    async fn open_small(&self) -> Log;

    /// Lets the small log drop what it holds of a shard, all of which is committed. Nothing to do for a log that does
    /// so by itself; a broker drops by age, which has to be brought about.
    async fn make_room(&self, _log: &Log, _shard: Shard) {}
}

/// One test of the suite, for test programs that list their tests.
pub type Test<B> = for<'a> fn(&'a B) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs the suite on a backend: one test per sentence.
///
/// `log_conformance!(expression)` makes a `#[tokio::test]` of each; `log_conformance!(list of Backend)` is an array of
/// their names with functions of type [`Test`](crate::log::conformance::Test), for a program that has its own `main`.
#[macro_export]
macro_rules! log_conformance {
    (list of $backend:ty) => {
        $crate::log_conformance! { @names @list $backend; }
    };
    (@list $backend:ty; $($name:ident)+) => {
        [$({
            fn run(
                backend: &$backend,
            ) -> ::std::pin::Pin<Box<dyn ::std::future::Future<Output = ()> + Send + '_>> {
                Box::pin($crate::log::conformance::$name(backend))
            }
            (
                stringify!($name),
                run as $crate::log::conformance::Test<$backend>,
            )
        }),+]
    };
    (@tests $backend:expr; $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::log::conformance::$name(&$backend).await;
            }
        )+
    };
    (@names $($what:tt)+) => {
        $crate::log_conformance! { $($what)+
            the_number_of_shards_stays
            order_of_calls_is_order_in_the_shard
            an_append_that_lingers_needs_no_company
            a_position_means_readable
            a_position_means_durable
            a_dropped_future_does_not_undo_the_append
            a_full_log_refuses_and_takes_again_in_order
            a_shard_that_does_not_exist_is_an_error
            an_open_log_is_ready
            close_waits_for_every_answer
            close_stops_taking_more_and_is_idempotent
            the_source_stays
            bounds_of_an_empty_log_are_equal
            bounds_hold_every_record
            log_time_does_not_go_back
            reading_gives_exact_bytes_from_any_position
            reading_gives_at_least_one_record
            reading_stops_when_the_bytes_pass
            reading_at_the_end_waits_and_is_empty
            reading_at_the_end_wakes_for_a_record
            a_position_no_longer_held_is_expired
            what_is_not_committed_is_kept
        }
    };
    ($backend:expr) => {
        $crate::log_conformance! { @names @tests $backend; }
    };
}

/// An event of these bytes, with an id of its own.
pub fn event(bytes: impl Into<Bytes>) -> Outgoing {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Outgoing {
        event_id: EventId::new(NEXT.fetch_add(1, Ordering::Relaxed), &[0; 10]),
        session_id: SessionId::from_bytes([0; 16]),
        kind: "heartbeat",
        bytes: bytes.into(),
        linger: false,
        spool: false,
    }
}

/// Reads a shard from `from` to its end.
pub async fn read_all(reader: &dyn EventReader, shard: Shard, from: Position) -> Vec<LogRecord> {
    let mut records: Vec<LogRecord> = Vec::new();
    loop {
        let from = records
            .last()
            .map_or(from, |last| Position(last.position.0 + 1));
        let batch = reader
            .read(shard, from, 1 << 20, NO_WAIT)
            .await
            .expect("can be read");
        if batch.is_empty() {
            return records;
        }
        records.extend(batch);
    }
}

async fn append(log: &Log, shard: u32, bytes: &str) -> Position {
    let appended = log.writer.append(Shard(shard), event(bytes.to_owned()));
    appended.await.expect("is taken")
}

async fn bounds(log: &Log, shard: u32) -> Bounds {
    log.reader.bounds(Shard(shard)).await.expect("can be asked")
}

fn texts(records: &[LogRecord]) -> Vec<&str> {
    let bodies = records
        .iter()
        .map(|record| std::str::from_utf8(&record.bytes));
    bodies.map(|text| text.expect("was text")).collect()
}

/// Writer and reader say the same number of shards, before and after opening again.
pub async fn the_number_of_shards_stays(backend: &dyn Backend) {
    for _ in 0..2 {
        let log = backend.open().await;
        assert_eq!((log.writer.shards(), log.reader.shards()), (SHARDS, SHARDS));
        assert_eq!(log.writer.class(), log.reader.class());
        log.writer.close().await;
    }
}

/// The order of calls for one shard is the order in that shard, whoever waits for what.
pub async fn order_of_calls_is_order_in_the_shard(backend: &dyn Backend) {
    let log = backend.open().await;
    let appends: Vec<_> = (0..500u32)
        .map(|n| {
            let mut event = event(format!("{n}"));
            event.linger = n % 3 == 0;
            log.writer.append(Shard(n % SHARDS), event)
        })
        .collect();
    let mut positions = [Position(0); 2];
    for (n, append) in appends.into_iter().enumerate().rev() {
        let position = append.await.expect("is taken");
        let before = &mut positions[n % 2];
        assert!(*before == Position(0) || position < *before, "append {n}");
        *before = position;
    }
    for shard in 0..SHARDS {
        let records = read_all(&*log.reader, Shard(shard), Position(0)).await;
        let expected: Vec<_> = (0..500)
            .filter(|n| n % SHARDS == shard)
            .map(|n| n.to_string())
            .collect();
        assert_eq!(texts(&records), expected);
        assert!(records.is_sorted_by(|a, b| a.position < b.position));
    }
}

/// An event that may wait for company is soon written without.
pub async fn an_append_that_lingers_needs_no_company(backend: &dyn Backend) {
    let log = backend.open().await;
    let mut alone = event("alone");
    alone.linger = true;
    let appending = log.writer.append(Shard(0), alone);
    let taken = tokio::time::timeout(Duration::from_secs(1), appending).await;
    taken.expect("within a second").expect("is taken");
    let records = read_all(&*log.reader, Shard(0), Position(0)).await;
    assert_eq!(texts(&records), ["alone"]);
}

/// When an append resolves to a position, the event is readable there.
pub async fn a_position_means_readable(backend: &dyn Backend) {
    let log = backend.open().await;
    for n in 0..50 {
        let position = append(&log, 1, &format!("{n}")).await;
        let records = log
            .reader
            .read(Shard(1), position, 0, NO_WAIT)
            .await
            .expect("can be read");
        assert_eq!(records[0].position, position);
        assert_eq!(texts(&records), [n.to_string()]);
    }
}

/// When an append resolves to a position, the event is still there after opening again, in its place.
pub async fn a_position_means_durable(backend: &dyn Backend) {
    let mut expected = Vec::new();
    for round in 0..3 {
        let log = backend.open().await;
        for n in 0..20 {
            let text = format!("{round}.{n}");
            expected.push((append(&log, 0, &text).await, text));
        }
        let records = read_all(&*log.reader, Shard(0), Position(0)).await;
        let found: Vec<_> = records
            .iter()
            .map(|record| record.position)
            .zip(texts(&records))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(position, text)| (*position, text.as_str()))
            .collect();
        assert_eq!(found, expected);
        log.writer.close().await;
    }
}

/// An event whose future is dropped at once is appended all the same.
pub async fn a_dropped_future_does_not_undo_the_append(backend: &dyn Backend) {
    let log = backend.open().await;
    drop(log.writer.append(Shard(0), event("dropped")));
    append(&log, 0, "kept").await;
    let records = read_all(&*log.reader, Shard(0), Position(0)).await;
    assert_eq!(texts(&records), ["dropped", "kept"]);
}

/// A full log refuses, loses and re-orders nothing that it took, and takes more when there is room again.
pub async fn a_full_log_refuses_and_takes_again_in_order(backend: &dyn Backend) {
    let log = backend.open_small().await;
    let mut taken = Vec::new();
    let mut refused = 0;
    let appends: Vec<_> = (0..2 * SMALL_BYTES_MAX / 4096)
        .map(|n| (n, log.writer.append(Shard(0), event(format!("{n:04096}")))))
        .collect();
    for (n, append) in appends {
        match append.await {
            Ok(position) => taken.push((position, n)),
            Err(AppendError::Retryable(_)) => refused += 1,
            Err(other) => panic!("a full log answered {other:?}"),
        }
    }
    assert!(refused > 0, "twice the size of the log was taken");
    let found: Vec<_> = read_all(&*log.reader, Shard(0), Position(0))
        .await
        .iter()
        .map(|record| (record.position, number(record)))
        .collect();
    assert_eq!(found, taken);

    log.reader
        .committed(Shard(0), bounds(&log, 0).await.next)
        .await;
    backend.make_room(&log, Shard(0)).await;
    let begun = Instant::now();
    let position = loop {
        match log.writer.append(Shard(0), event("again")).await {
            Ok(position) => break position,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "still full: {error:?}"),
        }
    };
    assert!(position > taken.last().expect("some were taken").0);
    log.writer.ready().await.expect("there is room");
}

fn number(record: &LogRecord) -> usize {
    std::str::from_utf8(&record.bytes)
        .expect("digits")
        .parse()
        .expect("a number")
}

/// Neither end invents a shard.
pub async fn a_shard_that_does_not_exist_is_an_error(backend: &dyn Backend) {
    let log = backend.open().await;
    let appended = log.writer.append(Shard(SHARDS), event("nowhere")).await;
    assert!(
        matches!(appended, Err(AppendError::Terminal(_))),
        "{appended:?}"
    );
    assert!(log.reader.bounds(Shard(SHARDS)).await.is_err());
    assert!(
        log.reader
            .read(Shard(SHARDS), Position(0), ALL, NO_WAIT)
            .await
            .is_err()
    );
}

/// A log that takes appends says so.
pub async fn an_open_log_is_ready(backend: &dyn Backend) {
    let log = backend.open().await;
    log.writer.ready().await.expect("is ready");
    append(&log, 0, "one").await;
    log.writer.ready().await.expect("is ready");
}

/// After `close` every append made before has its answer, at once.
pub async fn close_waits_for_every_answer(backend: &dyn Backend) {
    let log = backend.open().await;
    let appends: Vec<_> = (0..100)
        .map(|n| log.writer.append(Shard(0), event(format!("{n}"))))
        .collect();
    log.writer.close().await;
    for append in appends {
        let answer = tokio::time::timeout(NO_WAIT, append).await;
        answer.expect("is answered").expect("is taken");
    }
}

/// After `close` nothing is taken or ready; what was taken can still be read; closing again does nothing.
pub async fn close_stops_taking_more_and_is_idempotent(backend: &dyn Backend) {
    let log = backend.open().await;
    append(&log, 0, "before").await;
    log.writer.close().await;
    log.writer.close().await;
    let appended = log.writer.append(Shard(0), event("after")).await;
    assert!(
        matches!(appended, Err(AppendError::Terminal(_))),
        "{appended:?}"
    );
    assert!(log.writer.ready().await.is_err());
    assert_eq!(
        texts(&read_all(&*log.reader, Shard(0), Position(0)).await),
        ["before"]
    );
}

/// The name of a log is the same for ever, and no other log has it.
pub async fn the_source_stays(backend: &dyn Backend) {
    let log = backend.open().await;
    let source = log.reader.source();
    log.writer.close().await;
    drop(log);
    assert_eq!(backend.open().await.reader.source(), source);
    assert_ne!(backend.open_small().await.reader.source(), source);
}

/// Where there is no record, `first` is `next`.
pub async fn bounds_of_an_empty_log_are_equal(backend: &dyn Backend) {
    let log = backend.open().await;
    let found = bounds(&log, 0).await;
    assert_eq!(found.first, found.next);
}

/// Every record lies within the bounds, and `first` is one.
pub async fn bounds_hold_every_record(backend: &dyn Backend) {
    let log = backend.open().await;
    let first = append(&log, 0, "first").await;
    let last = append(&log, 0, "last").await;
    let found = bounds(&log, 0).await;
    assert_eq!(found.first, first);
    assert!(found.next > last);
    assert!(
        append(&log, 0, "next").await >= found.next,
        "`next` is a lower bound"
    );
    let empty = bounds(&log, 1).await;
    assert_eq!(empty.first, empty.next, "the other shard is empty");
}

/// `log_ts` never goes back within a shard, also over opening again.
pub async fn log_time_does_not_go_back(backend: &dyn Backend) {
    for _ in 0..3 {
        let log = backend.open().await;
        for _ in 0..20 {
            append(&log, 0, "tick").await;
        }
        let records = read_all(&*log.reader, Shard(0), Position(0)).await;
        assert!(records.is_sorted_by_key(|record| record.log_ts));
        log.writer.close().await;
    }
}

/// Reading from any position gives that record and all later ones, with their exact bytes.
pub async fn reading_gives_exact_bytes_from_any_position(backend: &dyn Backend) {
    let log = backend.open().await;
    let sizes = [1, 2, 4095, 4096, 4097, 100_000, 7];
    let bodies: Vec<Vec<u8>> = (0u8..).zip(sizes).map(|(n, size)| vec![n; size]).collect();
    let appends: Vec<_> = bodies
        .iter()
        .map(|body| log.writer.append(Shard(0), event(body.clone())))
        .collect();
    let mut positions = Vec::new();
    for append in appends {
        positions.push(append.await.expect("is taken"));
    }
    for (n, position) in positions.iter().enumerate() {
        let found: Vec<_> = read_all(&*log.reader, Shard(0), *position)
            .await
            .into_iter()
            .map(|record| (record.position, record.bytes.to_vec()))
            .collect();
        let expected: Vec<_> = positions
            .iter()
            .copied()
            .zip(bodies.iter().cloned())
            .skip(n)
            .collect();
        assert!(found == expected, "from {position}");
    }
}

/// At least one record is returned, however few bytes were asked for.
pub async fn reading_gives_at_least_one_record(backend: &dyn Backend) {
    let log = backend.open().await;
    append(&log, 0, "long enough").await;
    let records = log
        .reader
        .read(Shard(0), Position(0), 0, NO_WAIT)
        .await
        .expect("can be read");
    assert_eq!(texts(&records), ["long enough"]);
}

/// Reading stops soon after the bytes pass the limit, and reading on leaves nothing out.
pub async fn reading_stops_when_the_bytes_pass(backend: &dyn Backend) {
    let log = backend.open().await;
    let appends: Vec<_> = (0..100)
        .map(|n| log.writer.append(Shard(0), event(format!("{n:0100}"))))
        .collect();
    for append in appends {
        append.await.expect("is taken");
    }
    let mut from = Position(0);
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let records = log
            .reader
            .read(Shard(0), from, 950, NO_WAIT)
            .await
            .expect("can be read");
        assert!(
            (1..=10).contains(&records.len()),
            "{} records for 950 bytes",
            records.len()
        );
        from = Position(records.last().expect("at least one").position.0 + 1);
        seen.extend(records.iter().map(number));
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

/// At the end of the log reading waits as long as it may, and returns nothing.
pub async fn reading_at_the_end_waits_and_is_empty(backend: &dyn Backend) {
    let log = backend.open().await;
    let last = append(&log, 0, "last").await;
    let wait = Duration::from_millis(200);
    let begun = Instant::now();
    let records = log
        .reader
        .read(Shard(0), Position(last.0 + 1), ALL, wait)
        .await
        .expect("can be read");
    assert!(records.is_empty());
    assert!(begun.elapsed() >= wait, "waited only {:?}", begun.elapsed());
}

/// A reader that waits gets a record as soon as there is one.
pub async fn reading_at_the_end_wakes_for_a_record(backend: &dyn Backend) {
    let log = backend.open().await;
    let reader = Arc::clone(&log.reader);
    let waiting =
        tokio::spawn(async move { reader.read(Shard(0), Position(0), ALL, PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    append(&log, 1, "of another shard").await;
    let position = append(&log, 0, "awaited").await;
    let begun = Instant::now();
    let records = waiting.await.expect("does not panic").expect("can be read");
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_eq!(
        (records[0].position, texts(&records)),
        (position, vec!["awaited"])
    );
}

/// Reading what the log has dropped says so, and where reading can go on.
pub async fn a_position_no_longer_held_is_expired(backend: &dyn Backend) {
    let log = backend.open_small().await;
    let dropped = append(&log, 0, "soon dropped").await;
    let body = vec![b'x'; 32 << 10];
    let begun = Instant::now();
    while bounds(&log, 0).await.first <= dropped {
        assert!(
            begun.elapsed() < PATIENCE,
            "a small log never drops anything"
        );
        if let Ok(position) = log.writer.append(Shard(0), event(body.clone())).await {
            log.reader.committed(Shard(0), position).await;
        }
        backend.make_room(&log, Shard(0)).await;
    }
    while log
        .writer
        .append(Shard(0), event("still held"))
        .await
        .is_err()
    {
        assert!(begun.elapsed() < PATIENCE, "a small log stays full");
    }
    let read = log.reader.read(Shard(0), dropped, ALL, NO_WAIT).await;
    let Err(ReadError::Expired { wanted, first }) = read else {
        panic!("reading what is gone gave {read:?}");
    };
    assert_eq!(wanted, dropped);
    assert!(!read_all(&*log.reader, Shard(0), first).await.is_empty());
}

/// Records at or after the last committed position are never dropped: the log refuses instead.
pub async fn what_is_not_committed_is_kept(backend: &dyn Backend) {
    let log = backend.open_small().await;
    append(&log, 0, "committed").await;
    let kept = append(&log, 0, "not committed").await;
    log.reader.committed(Shard(0), kept).await;
    let body = vec![b'x'; 32 << 10];
    for _ in 0..4 * SMALL_BYTES_MAX / body.len() {
        if log
            .writer
            .append(Shard(0), event(body.clone()))
            .await
            .is_err()
        {
            break;
        }
    }
    assert!(
        log.writer.append(Shard(0), event(body)).await.is_err(),
        "the log must be full"
    );
    let records = log
        .reader
        .read(Shard(0), kept, 0, NO_WAIT)
        .await
        .expect("can be read");
    assert_eq!(texts(&records), ["not committed"]);
}
