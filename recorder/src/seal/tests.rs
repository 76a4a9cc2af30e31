use super::*;
use crate::config::{Config, FlushLimits};
use crate::core::{Action, Core};
use crate::generator::Generator;
use crate::index::rebuild;
use crate::session_file::columns::Columns;
use crate::session_file::footer::parse_footer;
use crate::session_file::writer::write;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use hoop_schema::evidence::seal::SealedFileName;
use hoop_schema::evidence::{EVENTS_PREFIX, Footer};
use hoop_schema::row::Row;
use hoop_schema::{EventHash, ProducerId, SourceId};
use hoop_sinks::log::{LogRecord, Position};
use hoop_sinks::store::CreateOptions;
use hoop_sinks::store::faulty::{Faulty, PutFault};
use hoop_sinks::store::memory::Memory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::time::Duration;

mod finished;

/// The first day of the tests, and the one after it.
const DAYS: [&str; 2] = ["2026-11-20", "2026-11-21"];

fn source() -> SourceId {
    SourceId::from_bytes([9; 4])
}

fn day(text: &str) -> SealName {
    SealName {
        class: Class::standard(),
        day: text.to_owned(),
    }
}

fn time(text: &str) -> Timestamp {
    format!("{text}Z").parse().unwrap()
}

/// Records that day's events, some seconds apart.
fn records(generator: &mut Generator, day: &str, from: u64, count: u64) -> Vec<LogRecord> {
    let begin = time(&format!("{day}T08:00:00.000000"));
    (from..from + count)
        .map(|position| LogRecord {
            position: Position(position),
            log_ts: begin.plus_micros(i64::try_from(position).unwrap() * 1_000_000),
            bytes: generator.event().2,
        })
        .collect()
}

/// Two days as a recorder leaves them: several small files each.
async fn record(store: &dyn EvidenceStore, events_per_day: u64) -> Vec<LogRecord> {
    let mut generator = Generator::new("standard", 3);
    let mut all = records(&mut generator, DAYS[0], 1, events_per_day);
    all.extend(records(
        &mut generator,
        DAYS[1],
        1 + events_per_day,
        events_per_day,
    ));
    let mut config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
    config.flush = FlushLimits {
        bytes: 48 * 1024,
        ..config.flush
    };
    let mut core = Core::new(&config, 1, source(), &Class::standard(), Shard(0), None);
    for record in &all {
        let now = record.log_ts;
        let actions = core.apply(record.clone(), now);
        for action in actions {
            commit(store, &mut core, action, now).await;
        }
    }
    if let Some(last) = core.flush() {
        commit(store, &mut core, last, all[all.len() - 1].log_ts).await;
    }
    all
}

async fn commit(store: &dyn EvidenceStore, core: &mut Core, action: Action, now: Timestamp) {
    let Action::Commit(batch) = action else {
        return;
    };
    let encoded = batch.encode(core.previous().cloned(), now, None).unwrap();
    let name = batch.name().clone();
    let options = CreateOptions::default();
    for (key, bytes) in [
        (name.to_string(), encoded.file),
        (name.index_key(), encoded.index),
    ] {
        store.create(&key, bytes, &options).await.unwrap();
    }
    core.committed(PreviousFile {
        key: name.to_string(),
        sha256: encoded.sha256,
    });
}

fn batches(file: Bytes) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// Every row with all of its columns, as text.
fn rows(file: Bytes) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches(file) {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| {
                match column.as_primitive_opt::<TimestampMicrosecondType>() {
                    Some(times) => times.value(row).to_string(),
                    None => array_value_to_string(column, row).unwrap(),
                }
            });
            rows.push(values.collect::<Vec<_>>().join("\u{1f}"));
        }
    }
    rows
}

/// What views show: a sealed day from `sealed/v1` alone, any other from `events/v1` alone. By listing, as they do.
async fn shown(store: &dyn EvidenceStore) -> BTreeMap<String, u64> {
    let sealed = sealed_days(store, &Class::standard()).await.unwrap();
    let mut shown: BTreeMap<String, u64> = BTreeMap::new();
    for prefix in [EVENTS_PREFIX, hoop_schema::evidence::seal::SEALED_PREFIX] {
        for object in store.list(prefix, None).await.unwrap() {
            let day = object.key.split("/dt=").nth(1).unwrap()[..10].to_owned();
            if sealed.contains(&day) != (prefix == EVENTS_PREFIX) {
                let file = store.get(&object.key, 0..u64::MAX).await.unwrap();
                rows(file)
                    .into_iter()
                    .for_each(|row| *shown.entry(row).or_default() += 1);
            }
        }
    }
    shown
}

async fn sealed_objects(store: &dyn EvidenceStore) -> Vec<SealedFileName> {
    let listed = store
        .list(hoop_schema::evidence::seal::SEALED_PREFIX, None)
        .await
        .unwrap();
    listed.iter().map(|o| o.key.parse().unwrap()).collect()
}

async fn footer(store: &dyn EvidenceStore, key: &str) -> Footer {
    parse_footer(&store.get(key, 0..u64::MAX).await.unwrap()).unwrap()
}

fn now() -> Timestamp {
    time("2026-11-24T05:00:00.000000")
}

async fn seal(store: &dyn EvidenceStore) -> Result<Option<Sealed>, SealError> {
    let done = seal_day(store, &day(DAYS[0]), "recorder-1", now()).await?;
    Ok(done.map(|(done, _)| done))
}

#[tokio::test]
async fn the_seal_of_somebody_else_is_proven_by_making_it_again() {
    let name = day(DAYS[0]);
    let store = Memory::new();
    record(&store, 100).await;
    let (_, sha256) = seal_day(&store, &name, "recorder-2", now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(prove::prove(&store, &name).await.unwrap(), sha256);

    // An object that hangs together, and a seal that names it, but not of the files that were recorded.
    let object = sealed_objects(&store).await.remove(0).to_string();
    let bytes = store.get(&object, 0..u64::MAX).await.unwrap();
    let mut footer = parse_footer(&bytes).unwrap();
    let mut events = events_of(bytes);
    let text = String::from_utf8(events[3].to_vec()).unwrap();
    events[3] = text.replace("user-", "nobody-").into();
    footer.events_root = {
        let mut tree = hoop_schema::chain::MerkleTree::default();
        events.iter().for_each(|e| tree.push(EventHash::of(e)));
        tree.root()
    };
    let forged = file_of(&events, &events, &footer);
    let key = name.to_string();
    let seal = store.get(&key, 0..u64::MAX).await.unwrap();
    let mut seal: Seal = serde_json::from_slice(&seal).unwrap();
    seal.objects[0].sha256 = EventHash::of(&forged);
    seal.objects[0].bytes = forged.len() as u64;
    seal.objects[0].events_root = footer.events_root;
    replace(&store, &object, forged).await;
    let bytes = serde_json::to_vec(&seal).unwrap();
    replace(&store, &key, bytes.into()).await;
    assert!(prove::prove(&store, &name).await.is_err());

    // A seal that leaves the last file out.
    let store = Memory::new();
    record(&store, 100).await;
    let files = session_files(&store, &Class::standard()).await.unwrap();
    let last = files.iter().rfind(|f| f.name.day == DAYS[0]).unwrap();
    let last = last.name.to_string();
    let bytes = store.get(&last, 0..u64::MAX).await.unwrap();
    store.delete(&last).await.unwrap();
    seal_day(&store, &name, "recorder-2", now()).await.unwrap();
    prove::prove(&store, &name).await.unwrap();
    let options = CreateOptions::default();
    store.create(&last, bytes, &options).await.unwrap();
    let error = prove::prove(&store, &name).await.unwrap_err().to_string();
    assert!(error.contains("leaves out"), "{error}");
}

#[tokio::test]
async fn a_sealed_day_holds_every_row_once_in_the_order_of_sessions() {
    let store = Memory::new();
    record(&store, 300).await;
    let before = shown(&store).await;
    let files = session_files(&store, &Class::standard()).await.unwrap();
    let of_day: Vec<_> = files.iter().filter(|f| f.name.day == DAYS[0]).collect();
    assert!(of_day.len() > 5, "{} files", of_day.len());
    let done = seal(&store).await.unwrap().unwrap();
    assert_eq!((done.files, done.objects), (of_day.len() as u64, 1));
    assert_eq!(shown(&store).await, before);
    assert!(before.values().all(|count| *count == 1));

    let name = sealed_objects(&store).await.remove(0);
    let file = store.get(&name.to_string(), 0..u64::MAX).await.unwrap();
    let mut keys = Vec::new();
    for batch in batches(file.clone()) {
        let sessions = batch
            .column_by_name("session_id")
            .unwrap()
            .as_string::<i32>();
        let seqs = batch.column_by_name("session_seq").unwrap();
        let seqs = seqs.as_primitive::<Int64Type>();
        keys.extend((0..batch.num_rows()).map(|i| (sessions.value(i).to_owned(), seqs.value(i))));
    }
    assert!(keys.is_sorted());
    let index = store.get(&name.index_key(), 0..u64::MAX).await.unwrap();
    assert_eq!(rows(index), rows(rebuild(file).unwrap().into()));

    // What a restart and the next file need is that of the last file.
    let last = footer(&store, &of_day.last().unwrap().name.to_string()).await;
    let first = footer(&store, &of_day[0].name.to_string()).await;
    let sealed = footer(&store, &name.to_string()).await;
    assert_eq!(
        (sealed.pos_from, sealed.pos_to),
        (first.pos_from, last.pos_to)
    );
    assert_eq!(sealed.producers, last.producers);
    assert_eq!(sealed.previous, first.previous);
    let seal = fence::read_seal(&store, &day(DAYS[0]))
        .await
        .unwrap()
        .unwrap();
    let replaced: Vec<&str> = seal.replaced().map(|f| f.key.as_str()).collect();
    let expected: Vec<String> = of_day.iter().map(|f| f.name.to_string()).collect();
    assert_eq!(replaced, expected);
}

#[tokio::test]
async fn a_day_is_sealed_once() {
    let store = Memory::new();
    record(&store, 100).await;
    assert!(seal(&store).await.unwrap().is_some());
    let seal_before = store.get(&day(DAYS[0]).to_string(), 0..u64::MAX).await;
    assert!(seal(&store).await.unwrap().is_none());
    let seal_after = store.get(&day(DAYS[0]).to_string(), 0..u64::MAX).await;
    assert_eq!(seal_before.unwrap(), seal_after.unwrap());
    let nothing = seal_day(&store, &day("2026-11-19"), "recorder-1", now()).await;
    assert!(nothing.unwrap().is_none(), "there is nothing of that day");
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_off_at_whichever_put_no_row_is_lost_or_seen_twice() {
    // The object, its index, the seal.
    for step in 0..3u64 {
        for fault in [
            PutFault::Refused,
            PutFault::LostBefore,
            PutFault::LostAfter,
            PutFault::LandsLater,
            PutFault::HangsBefore,
            PutFault::HangsAfter,
        ] {
            for killed in [false, true] {
                let what = format!("put {step}, {fault:?}, killed: {killed}");
                let memory = Arc::new(Memory::new());
                record(&*memory, 60).await;
                let before = shown(&*memory).await;
                let store = Faulty::new(memory);
                store.fail_puts((0..step).map(|_| PutFault::None).chain([fault]));
                if killed {
                    // Dies while it waits for the answer, or before it tries again.
                    let sealing = async {
                        let waits = seal(&store);
                        tokio::pin!(waits);
                        loop {
                            tokio::select! {
                                biased;
                                _ = &mut waits => break,
                                () = tokio::time::sleep(Duration::from_millis(1)) => {}
                            }
                            if store.puts() > step {
                                break;
                            }
                        }
                    };
                    sealing.await;
                } else {
                    seal(&store).await.unwrap();
                }
                assert_eq!(shown(&store).await, before, "{what}");
                seal(&store).await.unwrap();
                let sealed = sealed_days(&store, &Class::standard()).await.unwrap();
                assert_eq!(sealed.len(), 1, "{what}");
                assert_eq!(shown(&store).await, before, "{what}");
                // What was under way arrives only now.
                store.land().await.unwrap();
                assert_eq!(shown(&store).await, before, "{what}");
                assert_eq!(sealed_objects(&store).await.len(), 1, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn rivals_seal_a_day_once() {
    let store = Memory::new();
    record(&store, 100).await;
    let before = shown(&store).await;
    let name = day(DAYS[0]);
    let (one, other) = tokio::join!(
        seal_day(&store, &name, "recorder-1", now()),
        seal_day(&store, &name, "recorder-2", now().plus_micros(7)),
    );
    let done = [one.unwrap(), other.unwrap()].into_iter().flatten();
    assert_eq!(done.count(), 1);
    assert_eq!(shown(&store).await, before);
    assert_eq!(sealed_objects(&store).await.len(), 1);
}

/// Puts other bytes in the place of an object.
async fn replace(store: &dyn EvidenceStore, key: &str, bytes: Bytes) {
    store.delete(key).await.unwrap();
    let options = CreateOptions::default();
    store.create(key, bytes, &options).await.unwrap();
}

/// A file of these events in this order, with this footer. `columns_of` are the events that its columns come from.
fn file_of(columns_of: &[Bytes], events: &[Bytes], footer: &Footer) -> Bytes {
    let mut columns = Columns::default();
    for (number, event) in columns_of.iter().enumerate() {
        let position = footer.pos_from.max(1) + number as u64;
        let row = Row::read(event).unwrap();
        columns.push(&row, Some(position), Timestamp::from_micros(7));
    }
    let order: Vec<u32> = (0..u32::try_from(events.len()).unwrap()).collect();
    let written = write(&columns, events, &order).unwrap();
    let text = serde_json::to_string(footer).unwrap();
    written.finish(text, None).unwrap().into()
}

fn events_of(file: Bytes) -> Vec<Bytes> {
    let mut events = Vec::new();
    for batch in batches(file) {
        let texts = batch
            .column_by_name("event_json")
            .unwrap()
            .as_string::<i32>();
        events.extend(
            texts
                .iter()
                .map(|t| Bytes::copy_from_slice(t.unwrap().as_bytes())),
        );
    }
    events
}

#[tokio::test]
async fn what_is_not_as_it_was_recorded_stops_the_sealing_and_is_named() {
    let cut = |bytes: &Bytes, _: &Footer| bytes.slice(..bytes.len() / 2);
    let edited = |bytes: &Bytes, footer: &Footer| {
        let mut events = events_of(bytes.clone());
        let text = String::from_utf8(events[3].to_vec()).unwrap();
        events[3] = text.replace("\"allow\"", "\"alloW\"").into();
        file_of(&events.clone(), &events, footer)
    };
    let dropped = |bytes: &Bytes, footer: &Footer| {
        let mut events = events_of(bytes.clone());
        events.remove(3);
        file_of(&events.clone(), &events, footer)
    };
    let moved = |bytes: &Bytes, footer: &Footer| {
        let columns_of = events_of(bytes.clone());
        let mut events = columns_of.clone();
        events.swap(3, 9);
        file_of(&columns_of, &events, footer)
    };
    let unsorted = |bytes: &Bytes, footer: &Footer| {
        let mut events = events_of(bytes.clone());
        events.reverse();
        file_of(&events.clone(), &events, footer)
    };
    type Alter<'a> = &'a dyn Fn(&Bytes, &Footer) -> Bytes;
    let faults: [(Alter<'_>, &str); 5] = [
        (&cut, ""),
        (&edited, "altered"),
        (&dropped, "rows"),
        (&moved, "row 3"),
        (&unsorted, "sorted"),
    ];
    for (alter, word) in faults {
        let store = Memory::new();
        record(&store, 100).await;
        let files = session_files(&store, &Class::standard()).await.unwrap();
        let key = files[1].name.to_string();
        let bytes = store.get(&key, 0..u64::MAX).await.unwrap();
        let footer = parse_footer(&bytes).unwrap();
        replace(&store, &key, alter(&bytes, &footer)).await;
        let error = seal(&store).await.unwrap_err().to_string();
        assert!(error.contains(&key) && error.contains(word), "{error}");
        assert!(sealed_objects(&store).await.is_empty());
        let listed = session_files(&store, &Class::standard()).await.unwrap();
        assert_eq!(listed.len(), files.len());
    }
}

#[tokio::test]
async fn a_file_whose_hash_the_next_one_does_not_name_stops_the_sealing() {
    let store = Memory::new();
    record(&store, 100).await;
    let files = session_files(&store, &Class::standard()).await.unwrap();
    let key = files[1].name.to_string();
    let bytes = store.get(&key, 0..u64::MAX).await.unwrap();
    let mut footer = parse_footer(&bytes).unwrap();
    footer.writer = "somebody".into();
    let events = events_of(bytes);
    // Whole in itself, but for its rows' positions, and not what was recorded.
    footer.recorder_rows = 0;
    replace(&store, &key, file_of(&events, &events, &footer)).await;
    let error = seal(&store).await.unwrap_err().to_string();
    assert!(error.contains("hash"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_missing_stops_the_sealing() {
    for missing in [0, 2] {
        let store = Memory::new();
        record(&store, 100).await;
        // The second day begins after a file that names the one before it.
        let files = session_files(&store, &Class::standard()).await.unwrap();
        let of_day: Vec<_> = files.iter().filter(|f| f.name.day == DAYS[1]).collect();
        store
            .delete(&of_day[missing].name.to_string())
            .await
            .unwrap();
        let sealing = seal_day(&store, &day(DAYS[1]), "recorder-1", now()).await;
        assert!(sealing.is_err(), "{missing}");
    }
}

#[tokio::test]
async fn what_another_version_left_is_taken_over_if_it_holds_the_same_rows() {
    let store = Memory::new();
    record(&store, 100).await;
    let before = shown(&store).await;
    let trial = Memory::new();
    record(&trial, 100).await;
    seal(&trial).await.unwrap();
    let name = sealed_objects(&trial).await.remove(0);
    let ours = trial.get(&name.to_string(), 0..u64::MAX).await.unwrap();
    // The same rows, written as another version would: only its name for itself is another.
    let batches = batches(ours.clone());
    let mut footer = parse_footer(&ours).unwrap();
    footer.writer = "hoop-recorder 9".into();
    let mut columns = Columns::default();
    let mut events = Vec::new();
    for batch in &batches {
        let texts = batch
            .column_by_name("event_json")
            .unwrap()
            .as_string::<i32>();
        let positions = batch.column_by_name("position").unwrap();
        let positions = positions.as_primitive::<Int64Type>();
        let log_ts = batch.column_by_name("log_ts").unwrap();
        let log_ts = log_ts.as_primitive::<TimestampMicrosecondType>();
        for (i, text) in texts.iter().flatten().enumerate() {
            let position = arrow::array::Array::is_valid(positions, i).then(|| positions.value(i));
            let position = position.map(|p| u64::try_from(p).unwrap());
            let row = Row::read(text.as_bytes()).unwrap();
            columns.push(&row, position, Timestamp::from_micros(log_ts.value(i)));
            events.push(Bytes::copy_from_slice(text.as_bytes()));
        }
    }
    let order: Vec<u32> = (0..u32::try_from(events.len()).unwrap()).collect();
    let text = serde_json::to_string(&footer).unwrap();
    let other: Bytes = write(&columns, &events, &order)
        .unwrap()
        .finish(text, None)
        .unwrap()
        .into();
    assert_ne!(other, ours);
    let options = CreateOptions::default();
    store
        .create(&name.to_string(), other.clone(), &options)
        .await
        .unwrap();
    assert!(seal(&store).await.unwrap().is_some());
    assert_eq!(shown(&store).await, before);
    let seal_there = fence::read_seal(&store, &day(DAYS[0]))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seal_there.objects[0].sha256, EventHash::of(&other));

    // Another row's worth of difference is no other version.
    let store = Memory::new();
    record(&store, 100).await;
    let wrong = file_of(&events, &events, &footer);
    store
        .create(&name.to_string(), wrong, &options)
        .await
        .unwrap();
    let error = seal(&store).await.unwrap_err().to_string();
    assert!(error.contains(&name.to_string()), "{error}");
    assert!(
        sealed_days(&store, &Class::standard())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn something_strange_among_the_objects_of_a_day_stops_its_seal() {
    let store = Memory::new();
    record(&store, 60).await;
    let key = format!("{}shard=000/x.parquet", day(DAYS[0]).sealed_prefix());
    let options = CreateOptions::default();
    store
        .create(&key, Bytes::from_static(b"x"), &options)
        .await
        .unwrap();
    assert!(matches!(seal(&store).await, Err(SealError::Stranger { key: named }) if named == key));
    assert!(
        sealed_days(&store, &Class::standard())
            .await
            .unwrap()
            .is_empty()
    );
}
