//! The live tail: what the log holds after the newest session file of each shard.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hoop_schema::evidence::Footer;
use hoop_schema::row::Row;
use hoop_schema::{Class, EventId, Shard};
use hoop_sinks::log::{EventReader, LogRecord, Position, ReadError};

use super::file::SessionFile;
use super::{Catalog, Entry, Error, Evidence};

/// Read from the log at once.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Shards that are read at a time: each waits for a broker, not for this machine.
const SHARDS_AT_ONCE: usize = 16;

/// How often files are looked for again because the log dropped what they were about to cover meanwhile.
const LISTINGS_MAX: usize = 3;

/// The records of one shard after its newest file.
#[derive(Debug, Default)]
pub struct ShardTail {
    /// The events, in log order, each once.
    pub entries: Vec<Entry>,
    /// Records that are not events; the recorder will keep their bytes.
    pub unparsed: u64,
    /// Copies of events that were already there, left out.
    pub copies: u64,
    /// Damage that ended the reading, if any.
    pub damage: Option<ReadError>,
    /// Why the log could not be read to its end, if it does not answer; what it holds is not known.
    pub away: Option<ReadError>,
    /// Positions that are neither in a file nor in the log any more: first, and the one after the last.
    pub lost: Option<(u64, u64)>,
    /// The shard.
    pub shard: Shard,
    /// The class.
    pub class: Option<Class>,
}

impl Evidence {
    /// Everything that the logs hold after the newest files of `catalog`, and the catalog it goes with: when a log
    /// dropped records that a file has taken over meanwhile, files are listed again.
    ///
    /// # Errors
    /// When the store does not answer. Damage of a log is not an error here, nor that a log does not answer: it is in the
    /// tail, after what could be read.
    pub async fn tail(
        &self,
        catalog: &mut Catalog,
        days: &super::Days,
    ) -> Result<Vec<ShardTail>, Error> {
        let mut listings = 0;
        'again: loop {
            let give_up = listings == LISTINGS_MAX;
            let shards = self
                .logs
                .iter()
                .flat_map(|log| (0..log.shards()).map(move |shard| (log, Shard(shard))));
            let known = &*catalog;
            let read = |(log, shard): (&Arc<dyn EventReader>, Shard)| {
                let log = Arc::clone(log);
                async move { self.shard_tail(&*log, shard, known, give_up).await }
            };
            let mut read = stream::iter(shards).map(read).buffered(SHARDS_AT_ONCE);
            let mut tails = Vec::new();
            while let Some(tail) = read.next().await {
                match tail {
                    Ok(tail) => tails.push(tail),
                    Err(Error::Log {
                        source: ReadError::Expired { .. },
                        ..
                    }) if !give_up => {
                        drop(read);
                        listings += 1;
                        *catalog = self.catalog(days).await?;
                        continue 'again;
                    }
                    Err(e) => return Err(e),
                }
            }
            drop(read);
            return Ok(tails);
        }
    }

    async fn shard_tail(
        &self,
        log: &dyn EventReader,
        shard: Shard,
        catalog: &Catalog,
        give_up: bool,
    ) -> Result<ShardTail, Error> {
        let failed = |source| Error::Log {
            class: log.class().clone(),
            shard,
            source,
        };
        let mut tail = ShardTail {
            shard,
            class: Some(log.class().clone()),
            ..ShardTail::default()
        };
        let bounds = match log.bounds(shard).await {
            Ok(bounds) => bounds,
            Err(e @ ReadError::Unavailable(_)) => {
                tail.away = Some(e);
                return Ok(tail);
            }
            Err(e) => return Err(failed(e)),
        };
        let series = (log.class().clone(), shard, log.source());
        // Of a newest file that cannot be read, the log may still hold what it covers.
        let (mut at, newest) = match catalog.newest().get(&series) {
            Some(stored) => match SessionFile::open(self, stored).await {
                Ok(file) => (Position(file.footer.pos_to), Some(file.footer)),
                Err(Error::Damaged { .. }) => {
                    (Position(stored.name.pos_from).max(bounds.first), None)
                }
                Err(e) => return Err(e),
            },
            None => (bounds.first, None),
        };
        let mut seen = Seen::new(newest.as_ref());
        if give_up && at < bounds.first {
            tail.lost = Some((at.0, bounds.first.0));
            at = bounds.first;
        }
        while at < bounds.next {
            let records = match log.read(shard, at, READ_BYTES_MAX, Duration::ZERO).await {
                Ok(records) => records,
                Err(e @ ReadError::Damaged { .. }) => {
                    tail.damage = Some(e);
                    break;
                }
                Err(e @ ReadError::Unavailable(_)) => {
                    tail.away = Some(e);
                    break;
                }
                Err(e) => return Err(failed(e)),
            };
            let Some(last) = records.last() else { break };
            at = Position(last.position.0 + 1);
            for record in records {
                seen.take(record, log, shard, &mut tail);
            }
        }
        Ok(tail)
    }
}

/// The highest sequence that the files cover, and the holes below it: first and last.
type Covered = (u64, Vec<(u64, u64)>);

/// What of a tail is known already: a producer that had no answer sends an event again.
struct Seen {
    /// Per producer and epoch.
    in_files: BTreeMap<(String, u64), Covered>,
    in_tail: HashSet<EventId>,
}

impl Seen {
    fn new(footer: Option<&Footer>) -> Self {
        let producers = footer.map_or(&[][..], |f| &f.producers);
        let state = |p: &hoop_schema::evidence::ProducerState| {
            let holes = p.holes.iter().map(|h| (h.first_seq, h.last_seq)).collect();
            let producer = (p.producer_id.as_str().to_owned(), p.producer_epoch);
            (producer, (p.last_seq, holes))
        };
        Self {
            in_files: producers.iter().map(state).collect(),
            in_tail: HashSet::new(),
        }
    }

    fn take(
        &mut self,
        record: LogRecord,
        log: &dyn EventReader,
        shard: Shard,
        tail: &mut ShardTail,
    ) {
        let Ok(row) = Row::read(&record.bytes) else {
            tail.unparsed += 1;
            return;
        };
        let producer = (row.producer_id.to_string(), row.producer_epoch);
        let in_file = self.in_files.get(&producer).is_some_and(|(last, holes)| {
            let seq = row.producer_seq;
            seq <= *last
                && !holes
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&seq))
        });
        if in_file || !self.in_tail.insert(row.event_id) {
            tail.copies += 1;
            return;
        }
        tail.entries.push(Entry {
            bytes: record.bytes,
            class: log.class().clone(),
            shard,
            position: Some(record.position.0),
            log_ts: record.log_ts,
            readable: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Days;
    use crate::output::Progress;
    use crate::sessions::View;
    use crate::verify::{Scope, Trust, Verdict, verify};
    use async_trait::async_trait;
    use hoop_schema::SourceId;
    use hoop_sinks::log::Bounds;
    use hoop_sinks::store::memory::Memory;

    /// A log whose brokers have gone away since it was opened.
    #[derive(Debug)]
    struct Away(Class);

    fn away() -> ReadError {
        ReadError::Unavailable("no broker answers".into())
    }

    #[async_trait]
    impl EventReader for Away {
        fn class(&self) -> &Class {
            &self.0
        }

        fn shards(&self) -> u32 {
            3
        }

        fn source(&self) -> SourceId {
            SourceId::from_bytes([1; 4])
        }

        async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
            // One of them goes away between two questions.
            match shard.0 {
                0 => Ok(Bounds {
                    first: Position(1),
                    next: Position(9),
                }),
                _ => Err(away()),
            }
        }

        async fn read(
            &self,
            _: Shard,
            _: Position,
            _: usize,
            _: Duration,
        ) -> Result<Vec<LogRecord>, ReadError> {
            Err(away())
        }

        async fn committed(&self, _: Shard, _: Position) {}
    }

    #[tokio::test]
    async fn a_log_that_goes_away_is_said_once_and_is_no_proof() {
        let store = Arc::new(Memory::new());
        let log = Arc::new(Away(Class::standard()));
        let evidence = Evidence::new(Some(store), vec![log]);
        let view = View::open(evidence, &Days::default()).await.unwrap();
        assert!(view.is_without_a_log());
        let said: Vec<String> = view.tail_damage().collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("3 shards") && said[0].contains("no broker answers"));
        let mut progress = Progress::hidden();
        let proof = verify(&view, Scope::default(), &Trust::default(), &mut progress).await;
        assert_eq!(proof.unwrap().verdict, Verdict::Incomplete);
    }
}
