//! The embedded log against a model of a few lines: random appends, commits, closings, re-openings, readings.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::event;
use hoop_sinks::log::embedded::{EmbeddedLog, EmbeddedReader, Options};
use hoop_sinks::log::{AppendError, EventReader, EventWriter, Position, ReadError};
use proptest::prelude::*;

use crate::log_files::{BLOCK, fast_dir, held};

const SHARDS: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    /// Appends so many events of this size, all at once.
    Append {
        shard: u32,
        count: usize,
        size: usize,
    },
    /// Commits all but the last so many records.
    Commit { shard: u32, keep: u64 },
    /// Reads from so many records before the end.
    Read {
        shard: u32,
        back: u64,
        bytes_max: usize,
    },
    /// Closes the log or just drops it, and opens it again.
    Reopen { close: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..SHARDS, 1..20usize, 0..6000usize)
            .prop_map(|(shard, count, size)| Step::Append { shard, count, size }),
        2 => (0..SHARDS, 0..30u64).prop_map(|(shard, keep)| Step::Commit { shard, keep }),
        2 => (0..SHARDS, 0..60u64, 0..20_000usize)
            .prop_map(|(shard, back, bytes_max)| Step::Read { shard, back, bytes_max }),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
    ]
}

/// What a shard must hold.
#[derive(Default)]
struct Model {
    /// Bodies of all records ever, position 1 first.
    bodies: Vec<Vec<u8>>,
    committed: u64,
}

impl Model {
    fn next(&self) -> u64 {
        self.bodies.len() as u64 + 1
    }

    fn from(&self, position: u64) -> &[Vec<u8>] {
        &self.bodies[usize::try_from(position - 1).expect("is small")..]
    }
}

fn open(dir: &Path) -> EmbeddedLog {
    let options = Options {
        shards: NonZeroU32::new(SHARDS).expect("is not zero"),
        segment_bytes: 4 * BLOCK,
        size_max: 24 * 4 * BLOCK,
        ..Options::default()
    };
    EmbeddedLog::open(dir, Class::standard(), options).expect("can be opened")
}

async fn append(log: &EmbeddedLog, model: &mut Model, shard: u32, count: usize, size: usize) {
    let bodies: Vec<_> = (0..count)
        .map(|n| vec![u8::try_from(n).expect("is small"); size])
        .collect();
    let appends: Vec<_> = bodies
        .iter()
        .map(|body| log.append(Shard(shard), event(body.clone())))
        .collect();
    for (append, body) in appends.into_iter().zip(bodies) {
        match append.await {
            Ok(position) => {
                assert_eq!(position.0, model.next());
                model.bodies.push(body);
            }
            Err(AppendError::Retryable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn check(reader: &dyn EventReader, models: &[Model]) {
    for (shard, model) in (0..).map(Shard).zip(models) {
        let bounds = reader.bounds(shard).await.expect("can be asked");
        assert_eq!(bounds.next.0, model.next());
        assert!(
            bounds.first.0 <= model.committed.max(1),
            "dropped before it was committed"
        );
        let records = held(reader, shard).await;
        let first = records
            .first()
            .map_or(model.next(), |record| record.position.0);
        assert!(
            first <= model.committed.max(1),
            "dropped before it was committed"
        );
        assert!(records.is_sorted_by_key(|record| record.log_ts));
        let positions: Vec<_> = records.iter().map(|record| record.position.0).collect();
        assert_eq!(positions, (first..model.next()).collect::<Vec<_>>());
        assert!(
            records
                .iter()
                .map(|record| &record.bytes)
                .eq(model.from(first))
        );
    }
}

async fn read(log: &EmbeddedLog, model: &Model, shard: u32, back: u64, bytes_max: usize) {
    let from = model.next().saturating_sub(back).max(1);
    match log
        .read(Shard(shard), Position(from), bytes_max, Duration::ZERO)
        .await
    {
        Ok(records) => {
            assert_eq!(records.is_empty(), from == model.next());
            let all_but_last = records.iter().rev().skip(1);
            assert!(all_but_last.map(|record| record.bytes.len()).sum::<usize>() <= bytes_max);
            assert!(
                records
                    .iter()
                    .zip(from..)
                    .all(|(record, position)| record.position.0 == position)
            );
            assert!(
                records
                    .iter()
                    .zip(model.from(from))
                    .all(|(record, body)| record.bytes == *body)
            );
        }
        Err(ReadError::Expired { wanted, first }) => {
            assert_eq!(wanted.0, from);
            assert!(from < first.0 && first.0 <= model.committed);
        }
        Err(other) => panic!("{other:?}"),
    }
}

async fn run(steps: Vec<Step>) {
    let dir = fast_dir();
    let mut models = [Model::default(), Model::default()];
    let mut log = open(dir.path());
    for step in steps {
        match step {
            Step::Append { shard, count, size } => {
                append(&log, &mut models[shard as usize], shard, count, size).await;
            }
            Step::Commit { shard, keep } => {
                let model = &mut models[shard as usize];
                let position = model.next().saturating_sub(keep);
                model.committed = model.committed.max(position);
                log.committed(Shard(shard), Position(position)).await;
            }
            Step::Read {
                shard,
                back,
                bytes_max,
            } => {
                read(&log, &models[shard as usize], shard, back, bytes_max).await;
            }
            Step::Reopen { close } => {
                if close {
                    log.close().await;
                }
                drop(log);
                log = open(dir.path());
                check(&log, &models).await;
            }
        }
    }
    check(&log, &models).await;
    log.close().await;
    let outside = EmbeddedReader::open(dir.path(), &Class::standard()).expect("is there");
    check(&outside, &models).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
