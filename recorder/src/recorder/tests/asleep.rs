//! A recorder that slept with a batch in memory until the log had dropped its records, and a rival had gone on.

use hoop_schema::DAY_MICROS;
use hoop_schema::evidence::PreviousFile;
use hoop_sinks::log::{LogRecord, Position};

use super::*;
use crate::core::{Action, Core};

/// What a rival commits who came a day later, when only the last `left` of the records were there.
async fn rival(bed: &Bed, left: usize, tomorrow: Timestamp) -> SessionFileName {
    let (class, shard, source) = (Class::standard(), Shard(0), SourceId::from_bytes([9; 4]));
    let key = bed.memory.list(EVENTS_PREFIX, None).await.unwrap();
    let key = key.last().unwrap().key.clone();
    let (footer, sha256) = read_footer(&*bed.memory, &key).await.unwrap();
    let previous = Some((footer, PreviousFile { key, sha256 }));
    let mut core = Core::new(&bed.config, 7, source, &class, shard, previous);
    let dropped = bed.sent.len() - left;
    for (at, bytes) in bed.sent.iter().enumerate().skip(dropped) {
        let record = LogRecord {
            position: Position(at as u64 + 1),
            log_ts: tomorrow,
            bytes: bytes.clone(),
        };
        assert!(core.apply(record, tomorrow).is_empty());
    }
    let Some(Action::Commit(batch)) = core.flush() else {
        panic!("there are records");
    };
    let name = batch.name().clone();
    let encoded = batch
        .encode(core.previous().cloned(), tomorrow, None)
        .unwrap();
    let options = CreateOptions::default();
    for (key, bytes) in [
        (name.index_key(), encoded.index),
        (name.to_string(), encoded.file),
    ] {
        bed.memory.create(&key, bytes, &options).await.unwrap();
    }
    name
}

#[tokio::test(start_paused = true)]
async fn it_commits_nothing_beside_who_went_on_on_a_later_day() {
    let mut bed = Bed::new();
    let clock = Clocked::default();
    let today = Clock::system().now();
    clock.set(today);
    bed.clock = clock.clock();
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    bed.append(30).await;
    let sleeper = bed.start_as("recorder-2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    bed.store.set_away(true);
    let handle = sleeper.handle.clone();
    let flush = tokio::spawn(async move { handle.flush().await });
    tokio::time::sleep(Duration::from_secs(60)).await;

    let tomorrow = today.plus_micros(DAY_MICROS);
    clock.set(tomorrow);
    let rivals = rival(&bed, 5, tomorrow).await;
    bed.store.set_away(false);
    flush.await.unwrap().unwrap();
    bed.append(3).await;
    sleeper.handle.flush().await.unwrap();
    sleeper.stop().await;

    let files = bed.files().await;
    let at_its_position: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.pos_from == rivals.pos_from)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(at_its_position, [&rivals]);
    let (name, footer) = files.last().unwrap();
    assert_eq!(name.pos_from, 231, "and goes on after it");
    assert_eq!(footer.previous.as_ref().unwrap().key, rivals.to_string());
}
