//! Session files that somebody puts who may write to the store and has no key.

use hoop_schema::evidence::PreviousFile;
use hoop_schema::transparency::note::SigningKey;
use hoop_sinks::log::{LogRecord, Position};

use super::*;
use crate::batch::Batch;
use crate::core::{Action, Core};
use crate::transparency::Signing;

/// What the log holds after the newest file, a little late so that nothing is due.
async fn waiting(bed: &Bed) -> Vec<LogRecord> {
    let from = bed.files().await.pop();
    let from = Position(from.map_or(0, |(_, footer)| footer.pos_to));
    let read = bed.log.read(Shard(0), from, usize::MAX, Duration::ZERO);
    read.await.unwrap()
}

/// The file that a recorder without a key of this one would put next, of these records.
async fn forge(
    bed: &Bed,
    records: Vec<LogRecord>,
    alter: impl FnOnce(&mut Batch),
) -> SessionFileName {
    let (class, shard, source) = (Class::standard(), Shard(0), SourceId::from_bytes([9; 4]));
    let mut previous = None;
    if let Some((name, footer)) = bed.files().await.pop() {
        let key = name.to_string();
        let (_, sha256) = read_footer(&*bed.memory, &key).await.unwrap();
        previous = Some((footer, PreviousFile { key, sha256 }));
    }
    let now = Clock::system().now();
    let mut core = Core::new(&bed.config, 7, source, &class, shard, previous);
    for record in records {
        assert!(core.apply(record, now).is_empty());
    }
    let Some(Action::Commit(mut batch)) = core.flush() else {
        panic!("there are records");
    };
    alter(&mut batch);
    let name = batch.name().clone();
    let encoded = batch.encode(core.previous().cloned(), now, None).unwrap();
    let options = CreateOptions::default();
    for (key, bytes) in [
        (name.index_key(), encoded.index),
        (name.to_string(), encoded.file),
    ] {
        bed.memory.create(&key, bytes, &options).await.unwrap();
    }
    name
}

/// A bed that has recorded something, all of it signed, and has more in its log.
async fn begun() -> Bed {
    let mut bed = Bed::new();
    signing(&mut bed);
    bed.append(60).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    bed.append(20).await;
    bed
}

/// Whether everything in the log gets committed without anybody's help.
async fn goes_on(bed: &Bed) -> bool {
    let recorder = bed.start();
    let flushed = tokio::time::timeout(Duration::from_secs(120), recorder.handle.flush()).await;
    recorder.kill().await;
    flushed.is_ok()
}

async fn take_away(bed: &Bed, name: &SessionFileName) {
    for key in [name.to_string(), name.index_key()] {
        bed.memory.delete(&key).await.unwrap();
    }
}

type Forgery = fn(Vec<LogRecord>) -> Vec<LogRecord>;

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_log_is_not_followed() {
    let forgeries: [(&str, Forgery); 3] = [
        ("an event is left out", |mut records| {
            records.remove(3);
            records
        }),
        ("an event is another one", |mut records| {
            let other = String::from_utf8(records[3].bytes.to_vec()).unwrap();
            records[3].bytes = other.replace("user-", "nobody-").into();
            records
        }),
        ("an event is at another time", |mut records| {
            records[3].log_ts = records[3].log_ts.plus_micros(1);
            records
        }),
    ];
    for (what, forgery) in forgeries {
        let bed = begun().await;
        let name = forge(&bed, forgery(waiting(&bed).await), |_| {}).await;
        assert!(!goes_on(&bed).await, "{what}");
        let recorder = bed.start();
        tokio::time::sleep(Duration::from_secs(60)).await;
        take_away(&bed, &name).await;
        recorder.handle.flush().await.unwrap();
        recorder.stop().await;
        bed.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_file_of_a_shard_may_be_forged_as_well() {
    let mut bed = Bed::new();
    signing(&mut bed);
    bed.append(20).await;
    let mut records = waiting(&bed).await;
    records.remove(3);
    let name = forge(&bed, records, |_| {}).await;
    assert!(!goes_on(&bed).await);
    take_away(&bed, &name).await;
    assert!(goes_on(&bed).await);
    bed.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_ahead_of_the_log_is_passed_over() {
    let mut bed = begun().await;
    let mut records = waiting(&bed).await;
    records.truncate(1);
    let name = forge(&bed, records, |batch| batch.pos_to = 1_000_000).await;
    // It lies where the next one belongs.
    assert!(!goes_on(&bed).await);
    take_away(&bed, &name).await;
    // Elsewhere, it is in nobody's way.
    let records = waiting(&bed).await;
    let far = forge(&bed, records, |batch| {
        batch.name.pos_from = 2_000_000;
        batch.pos_to = 2_000_020;
    });
    let far = far.await;
    assert!(goes_on(&bed).await);
    bed.append(20).await;
    assert!(goes_on(&bed).await);
    take_away(&bed, &far).await;
    bed.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_forged_file_says_of_producers_is_not_believed() {
    let mut bed = begun().await;
    let records = waiting(&bed).await;
    let copies = |batch: &mut Batch| {
        for producer in &mut batch.producers {
            producer.last_seq += 1_000;
        }
    };
    forge(&bed, records, copies).await;
    assert!(goes_on(&bed).await, "its rows are what the log holds");
    bed.append(30).await;
    assert!(goes_on(&bed).await);
    bed.check().await;
}

#[tokio::test(start_paused = true)]
async fn recorders_with_different_keys_still_record_everything_once() {
    let mut bed = Bed::new();
    signing(&mut bed);
    let mine = bed.config.signing.clone();
    let theirs = SigningKey::new("hoop/sample", [7; 32]).unwrap();
    let theirs = Arc::new(Signing {
        key: theirs,
        previous: None,
    });
    for round in 0..6 {
        bed.append(90).await;
        let keys = [&mine, &Some(Arc::clone(&theirs))];
        bed.config.signing = keys[round % 2].clone();
        let one = bed.start_as("recorder-1");
        bed.config.signing = keys[(round + 1) % 2].clone();
        let other = bed.start_as("recorder-2");
        let (a, b) = tokio::join!(one.handle.flush(), other.handle.flush());
        a.unwrap();
        b.unwrap();
        one.stop().await;
        other.stop().await;
        bed.check().await;
    }
}
