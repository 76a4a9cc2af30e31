//! Evidence as an installation has it some time later: sealed days of many shards, and the newest session file of each.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hoop_recorder::Config;
use hoop_recorder::core::{Action, Core};
use hoop_recorder::generator::Generator;
use hoop_recorder::seal::seal_day;
use hoop_schema::evidence::PreviousFile;
use hoop_schema::evidence::seal::SealName;
use hoop_schema::{Class, ProducerId, SessionId, Shard, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};
use hoop_sinks::store::memory::Memory;
use hoop_sinks::store::{CreateOptions, EvidenceStore};

/// 2026-11-16T00:00:00Z.
const FIRST_DAY: i64 = 1_794_787_200_000_000;

const DAY_MICROS: i64 = 86_400_000_000;

/// How much there is of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Events, over all shards and days.
    pub(crate) events: u64,
    /// Shards of the log.
    pub(crate) shards: u32,
    /// Days, all of them sealed.
    pub(crate) days: u32,
    /// Session files of a shard and day, before they were sealed.
    pub(crate) files: u64,
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// A session of each day, from its middle, each of another shard.
    pub(crate) sessions: Vec<SessionId>,
    /// Objects in the store.
    pub(crate) objects: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// One shard under way.
struct Lane {
    generator: Generator,
    core: Core,
    position: u64,
    /// The newest file and its index.
    newest: Option<[String; 2]>,
}

/// Makes it in `store`.
pub(crate) async fn make(store: &dyn EvidenceStore, shape: &Shape) -> Result<Made> {
    let small = Memory::new();
    let mut lanes: Vec<Lane> = (0..shape.shards)
        .map(|n| Lane::new(n, shape.shards))
        .collect();
    let mut made = Made::default();
    let class = Class::standard();
    for day in 0..shape.days {
        let begin = Timestamp::from_micros(FIRST_DAY + i64::from(day) * DAY_MICROS);
        for (number, lane) in lanes.iter_mut().enumerate() {
            let middle = lane.day(&small, begin, shape).await?;
            if number == (day % shape.shards) as usize {
                made.sessions.extend(middle);
            }
        }
        let name = SealName {
            class: class.clone(),
            day: begin.day(),
        };
        let sealed = seal_day(&small, &name, "recorder-1", begin).await?;
        sealed.context("there is something to seal")?;
        for object in small.list("", None).await? {
            let of_seal = object.key.starts_with("seal");
            // The index of a sealed object has two positions in its name.
            let index = object
                .key
                .rsplit('/')
                .next()
                .is_some_and(|n| n.matches('-').count() == 2);
            if of_seal || index {
                made.copy(&small, store, &object.key).await?;
            }
            let newest = lanes.iter().filter_map(|lane| lane.newest.as_ref());
            if !newest.flatten().any(|key| *key == object.key) {
                small.delete(&object.key).await?;
            }
        }
    }
    for key in lanes
        .iter()
        .filter_map(|lane| lane.newest.as_ref())
        .flatten()
    {
        made.copy(&small, store, key).await?;
    }
    Ok(made)
}

impl Made {
    async fn copy(&mut self, from: &Memory, to: &dyn EvidenceStore, key: &str) -> Result<()> {
        let bytes = from.get(key, 0..u64::MAX).await?;
        self.objects += 1;
        self.bytes += bytes.len() as u64;
        to.create(key, bytes, &CreateOptions::default()).await?;
        Ok(())
    }
}

impl Lane {
    fn new(shard: u32, shards: u32) -> Self {
        let class = Class::standard();
        let id = ProducerId::new("recorder-1").expect("a name");
        let config = Config::new("production", id);
        let source = SourceId::from_bytes([7; 4]);
        Self {
            generator: Generator::of_shard("standard", u64::from(shard) + 1, Shard(shard), shards),
            core: Core::new(&config, 1, source, &class, Shard(shard), None),
            position: 0,
            newest: None,
        }
    }

    /// One day of this shard; returns the session of the event in its middle.
    async fn day(
        &mut self,
        store: &Memory,
        begin: Timestamp,
        shape: &Shape,
    ) -> Result<Option<SessionId>> {
        let events = shape.events / u64::from(shape.shards) / u64::from(shape.days);
        let file = events.div_ceil(shape.files.max(1));
        let mut middle = None;
        for number in 0..events {
            let at = i64::try_from(number)? * (DAY_MICROS / i64::try_from(events.max(1))?);
            let log_ts = begin.plus_micros(at);
            let (session, _, bytes) = self.generator.event();
            if number == events / 2 {
                middle = Some(session);
            }
            self.position += 1;
            let record = LogRecord {
                position: Position(self.position),
                log_ts,
                bytes,
            };
            let mut actions = self.core.apply(record, log_ts);
            if (number + 1) % file == 0 || number + 1 == events {
                actions.extend(self.core.flush());
            }
            for action in actions {
                self.commit(store, action, log_ts).await?;
            }
        }
        Ok(middle)
    }

    async fn commit(&mut self, store: &Memory, action: Action, now: Timestamp) -> Result<()> {
        let Action::Commit(batch) = action else {
            return Ok(());
        };
        let encoded = batch.encode(self.core.previous().cloned(), now, None)?;
        let (key, index) = (batch.name().to_string(), batch.name().index_key());
        let options = CreateOptions::from(BTreeMap::new());
        store.create(&key, encoded.file, &options).await?;
        store.create(&index, encoded.index, &options).await?;
        self.newest = Some([key.clone(), index]);
        let sha256 = encoded.sha256;
        self.core.committed(PreviousFile { key, sha256 });
        Ok(())
    }
}
