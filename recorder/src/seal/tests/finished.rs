//! When a day is finished, and what comes after it was sealed all the same.

use super::*;
use async_trait::async_trait;
use fence::Fence;
use hoop_sinks::log::Bounds;

/// A log whose records a test made.
#[derive(Debug)]
struct Scripted {
    class: Class,
    shards: Vec<Vec<LogRecord>>,
}

#[async_trait]
impl EventReader for Scripted {
    fn class(&self) -> &Class {
        &self.class
    }

    fn shards(&self) -> u32 {
        u32::try_from(self.shards.len()).unwrap()
    }

    fn source(&self) -> SourceId {
        source()
    }

    async fn bounds(&self, _: Shard) -> Result<Bounds, ReadError> {
        unreachable!("reading tells all")
    }

    async fn read(
        &self,
        shard: Shard,
        from: Position,
        _: usize,
        _: Duration,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let records = &self.shards[shard.0 as usize];
        let first = records.first().map_or(Position(1), |r| r.position);
        if from < first && from.0 > 0 {
            return Err(ReadError::Expired {
                wanted: from,
                first,
            });
        }
        let held = records.iter().filter(|r| r.position >= from);
        Ok(held.take(1).cloned().collect())
    }

    async fn committed(&self, _: Shard, _: Position) {}
}

async fn finished(store: &dyn EvidenceStore, shards: Vec<Vec<LogRecord>>, day: &str) -> bool {
    let reader = Scripted {
        class: Class::standard(),
        shards,
    };
    let files = session_files(store, &Class::standard()).await.unwrap();
    finish::is_finished(store, &reader, &files, day)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_day_is_finished_when_every_shard_is_done_with_it() {
    let store = Memory::new();
    let mut all = record(&store, 60).await;
    assert!(
        finished(&store, vec![vec![]], DAYS[0]).await,
        "there is a file of the next day"
    );
    assert!(
        finished(&store, vec![all.clone()], DAYS[1]).await,
        "the log is read to its end"
    );
    let mut generator = Generator::new("standard", 4);
    let late = records(&mut generator, DAYS[1], 121, 1);
    all.extend(late.clone());
    assert!(
        !finished(&store, vec![all], DAYS[1]).await,
        "one record is not committed yet"
    );
    let next = records(&mut generator, "2026-11-22", 130, 1);
    assert!(
        finished(&store, vec![next.clone()], DAYS[1]).await,
        "what comes is of another day"
    );
    // A shard without a file: what it holds decides.
    assert!(finished(&store, vec![vec![], vec![]], DAYS[0]).await);
    assert!(!finished(&store, vec![vec![], late.clone()], DAYS[1]).await);
    assert!(finished(&store, vec![vec![], late], DAYS[0]).await);
}

#[tokio::test]
async fn a_day_whose_last_file_is_missing_is_not_finished() {
    let store = Memory::new();
    record(&store, 60).await;
    let files = session_files(&store, &Class::standard()).await.unwrap();
    let last = files.iter().rfind(|f| f.name.day == DAYS[0]).unwrap();
    store.delete(&last.name.to_string()).await.unwrap();
    let files = session_files(&store, &Class::standard()).await.unwrap();
    let reader = Scripted {
        class: Class::standard(),
        shards: vec![vec![]],
    };
    let finished = finish::is_finished(&store, &reader, &files, DAYS[0]).await;
    assert!(matches!(finished, Err(SealError::Chain { .. })));
}

#[tokio::test]
async fn the_fence_knows_own_files_from_late_and_from_overtaken_ones() {
    let store = Memory::new();
    record(&store, 60).await;
    let files = session_files(&store, &Class::standard()).await.unwrap();
    let name = files[1].name.clone();
    assert_eq!(fence::look(&store, &name).await.unwrap(), Fence::Open);
    seal(&store).await.unwrap();
    let head = store.head(&name.to_string()).await.unwrap().unwrap();
    assert_eq!(
        fence::look(&store, &name).await.unwrap(),
        Fence::Holds(head.sha256)
    );
    let at = |pos_from| SessionFileName {
        pos_from,
        ..name.clone()
    };
    let overtaken = at(name.pos_from + 1);
    assert_eq!(
        fence::look(&store, &overtaken).await.unwrap(),
        Fence::Passed
    );
    let late = Fence::Late(DAYS[1].to_owned());
    assert_eq!(fence::look(&store, &at(1_000)).await.unwrap(), late);
    let other_shard = SessionFileName {
        shard: Shard(5),
        ..name.clone()
    };
    assert_eq!(fence::look(&store, &other_shard).await.unwrap(), late);
    replace(&store, &day(DAYS[0]).to_string(), Bytes::from_static(b"{}")).await;
    assert!(matches!(
        fence::look(&store, &name).await,
        Err(SealError::Damaged { .. })
    ));
}
