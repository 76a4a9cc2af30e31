//! Producers' sequences: dense per producer, epoch, class and shard, or a gap says why not.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;

use hoop_schema::kinds::integrity::{Gap, GapState, Heartbeat};
use hoop_schema::row::Row;
use hoop_schema::{Class, Envelope, ProducerId, Shard};

use super::{Finding, Report, Verdict};
use crate::when::counted;

/// Holes of one sequence that are told apart.
const HOLES_MAX: usize = 10_000;

/// Whose sequence: producer, epoch, class, shard.
type Key = (String, u64, Class, Shard);

/// One event of a sequence.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    key: Rc<Key>,
    pub(crate) seq: u64,
}

/// All sequences.
#[derive(Default)]
pub(crate) struct Sequences {
    keys: HashMap<(String, u64, String, u32), Rc<Key>>,
    /// The key of the event before: nearly always that of the next one, too.
    last: Option<Rc<Key>>,
    known: BTreeMap<Rc<Key>, Sequence>,
    /// What gaps declare, first and last sequence, and whether it came after all.
    gaps: BTreeMap<Key, Vec<(u64, u64, GapState)>>,
    /// What heartbeats say of the ends of sequences.
    announced: BTreeMap<Key, u64>,
}

#[derive(Default)]
struct Sequence {
    first: u64,
    last: u64,
    /// Holes, by their first sequence: the last, and the object in which it was seen.
    holes: BTreeMap<u64, (u64, String)>,
}

impl Sequences {
    /// What a row is in its sequence.
    pub(crate) fn arrival(&mut self, row: &Row<'_>) -> Arrival {
        let same = |key: &&Rc<Key>| {
            key.0 == *row.producer_id
                && key.1 == row.producer_epoch
                && key.2.as_str() == &*row.class
                && key.3 == row.shard
        };
        if let Some(key) = self.last.as_ref().filter(same) {
            return Arrival {
                key: Rc::clone(key),
                seq: row.producer_seq,
            };
        }
        let name = (
            row.producer_id.to_string(),
            row.producer_epoch,
            row.class.to_string(),
            row.shard.0,
        );
        let key = self.keys.entry(name).or_insert_with_key(|name| {
            let class = Class::new(&name.2).unwrap_or(Class::standard());
            Rc::new((name.0.clone(), name.1, class, row.shard))
        });
        self.last = Some(Rc::clone(key));
        Arrival {
            key: Rc::clone(key),
            seq: row.producer_seq,
        }
    }

    /// Takes an event as it is read.
    pub(crate) fn arrive(&mut self, row: &Row<'_>, object: &str, report: &mut Report) {
        let arrival = self.arrival(row);
        self.take(&arrival, object, report);
    }

    /// Takes an event; those of one file in the order of the log.
    pub(crate) fn take(&mut self, arrival: &Arrival, object: &str, report: &mut Report) {
        let Some(sequence) = self.known.get_mut(&arrival.key) else {
            let sequence = Sequence {
                first: arrival.seq,
                last: arrival.seq,
                holes: BTreeMap::new(),
            };
            self.known.insert(Rc::clone(&arrival.key), sequence);
            return;
        };
        let seq = arrival.seq;
        if seq == sequence.last + 1 {
            sequence.last = seq;
        } else if seq > sequence.last {
            if sequence.holes.len() < HOLES_MAX {
                let hole = (seq - 1, object.to_owned());
                sequence.holes.insert(sequence.last + 1, hole);
            }
            sequence.last = seq;
        } else if seq < sequence.first {
            // What came before the first one seen arrived late.
            if seq + 1 < sequence.first {
                let hole = (sequence.first - 1, object.to_owned());
                sequence.holes.insert(seq + 1, hole);
            }
            sequence.first = seq;
        } else if !sequence.fill(seq) {
            let what = format!(
                "event {seq} of the sequence of {} is there twice",
                arrival.key.0
            );
            report.found(Finding::new(Verdict::Altered, object, what));
        }
    }

    /// A gap, as its event says it.
    pub(crate) fn gap(&mut self, gap: &Gap) {
        let key = (
            gap.of_producer.as_str().to_owned(),
            gap.of_epoch,
            gap.of_class.clone(),
            gap.of_shard,
        );
        let range = (gap.first_seq, gap.last_seq, gap.state);
        self.gaps.entry(key).or_default().push(range);
    }

    /// What a producer says of its sequences.
    pub(crate) fn heartbeat(&mut self, envelope: &Envelope, heartbeat: &Heartbeat) {
        let producer: &ProducerId = &envelope.producer_id;
        for last in &heartbeat.last {
            let key = (
                producer.as_str().to_owned(),
                envelope.producer_epoch,
                last.class.clone(),
                last.shard,
            );
            let announced = self.announced.entry(key).or_insert(0);
            *announced = last.seq.max(*announced);
        }
    }

    /// What is missing in the end.
    pub(crate) fn finish(
        &mut self,
        begins_late: &impl Fn(&Class, Shard) -> bool,
        with_tail: bool,
        report: &mut Report,
    ) {
        for (key, sequence) in &self.known {
            let gaps = self.gaps.get(key.as_ref()).map_or(&[][..], |gaps| gaps);
            let closed = gaps.iter().filter(|g| g.2 == GapState::Closed).count();
            report.gaps_closed += closed as u64;
            if sequence.first > 1 && !begins_late(&key.2, key.3) {
                let before = sequence.first - 1;
                missing(report, key, (1, before), "the evidence", gaps);
            }
            for (first, (last, object)) in &sequence.holes {
                missing(report, key, (*first, *last), object, gaps);
            }
        }
        for (key, announced) in &self.announced {
            let last = self.known.get(key).map_or(0, |sequence| sequence.last);
            if *announced <= last || begins_late(&key.2, key.3) && last == 0 {
                continue;
            }
            let gaps = self.gaps.get(key).map_or(&[][..], |gaps| gaps);
            if with_tail {
                let object = "the newest file and the log";
                missing(report, key, (last + 1, *announced), object, gaps);
            } else {
                report.notes.push(format!(
                    "{} announced {} more in class {}, shard {} than the files have; they may be in the log still",
                    key.0,
                    counted(announced - last, "event"),
                    key.2,
                    key.3
                ));
            }
        }
    }
}

impl Sequence {
    /// Takes `seq` out of the hole it is in. `false` if it is in none.
    fn fill(&mut self, seq: u64) -> bool {
        let Some((first, (last, object))) = self.holes.range(..=seq).next_back() else {
            return self.holes.len() >= HOLES_MAX;
        };
        let (first, last, object) = (*first, *last, object.clone());
        if seq > last {
            return self.holes.len() >= HOLES_MAX;
        }
        self.holes.remove(&first);
        if first < seq {
            self.holes.insert(first, (seq - 1, object.clone()));
        }
        if seq < last {
            self.holes.insert(seq + 1, (last, object));
        }
        true
    }
}

fn missing(
    report: &mut Report,
    key: &Key,
    (first, last): (u64, u64),
    object: &str,
    gaps: &[(u64, u64, GapState)],
) {
    let (producer, epoch, class, shard) = key;
    let covered = |seq: u64| {
        gaps.iter()
            .filter(|g| g.2 == GapState::Open && g.0 <= seq && seq <= g.1)
            .map(|g| g.1)
            .max()
    };
    let mut at = first;
    while let Some(end) = covered(at).filter(|_| at <= last) {
        at = end.saturating_add(1);
    }
    let declared = if at > last {
        report.gaps_declared += 1;
        "a gap event declares it"
    } else {
        "no gap event declares it"
    };
    let what = format!(
        "events {first} to {last} of {producer} (epoch {epoch}, class {class}, shard {shard}) are missing; {declared}"
    );
    report.found(Finding::new(Verdict::Incomplete, object, what));
}
