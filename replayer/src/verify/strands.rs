//! Strands over all files: the hash chain, and what `session.end` says of it.

use std::collections::{BTreeMap, HashMap};

use hoop_schema::chain::{ChainError, Strand};
use hoop_schema::kinds::integrity::Gap;
use hoop_schema::kinds::session::SessionEnd;
use hoop_schema::row::Row;
use hoop_schema::{Class, Envelope, EventHash, SessionId, Shard};

use super::{Finding, Place, Report, Verdict};

/// Holes in strands that are remembered until the end, where a gap may explain them.
const HOLES_MAX: usize = 10_000;

/// Who wrote a strand: numbered, since there are few and strands are many.
type Writer = u32;

/// One strand: session, writer (producer, epoch, class).
type Key = (SessionId, Writer);

/// What is known of all strands.
pub(crate) struct Strands {
    only: Option<SessionId>,
    writers: HashMap<(String, u64, String), Writer>,
    /// The writer of the event before: nearly always that of the next one, too.
    last_writer: Option<((String, u64, String), Writer)>,
    open: HashMap<Key, Open>,
    /// What a session's end in one class says of its strands in other classes: length and head.
    claims: HashMap<Key, (u64, EventHash, String)>,
    /// Strands that ended and of which another class may still say something.
    ended: HashMap<Key, (u64, Option<EventHash>)>,
    holes: Vec<Hole>,
    /// Events that a gap says are lost.
    lost: HashMap<(SessionId, u64), EventHash>,
    /// Strands whose first event is not the first: how many per shard, and an example.
    begun_late: BTreeMap<(Class, Shard), (u64, Finding)>,
}

#[derive(Default)]
struct Open {
    strand: Strand,
}

/// Events missing inside a strand.
struct Hole {
    key: Key,
    first: u64,
    last: u64,
    /// Head before the hole, and what the event after it names.
    before: Option<EventHash>,
    after: Option<EventHash>,
    finding: Finding,
}

impl Strands {
    pub(crate) fn new(only: Option<SessionId>) -> Self {
        Self {
            only,
            writers: HashMap::new(),
            last_writer: None,
            open: HashMap::new(),
            claims: HashMap::new(),
            ended: HashMap::new(),
            holes: Vec::new(),
            lost: HashMap::new(),
            begun_late: BTreeMap::new(),
        }
    }

    fn key(&mut self, session: SessionId, producer: &str, epoch: u64, class: &str) -> Key {
        if let Some(((last, last_epoch, last_class), writer)) = &self.last_writer
            && (last.as_str(), *last_epoch, last_class.as_str()) == (producer, epoch, class)
        {
            return (session, *writer);
        }
        let next = Writer::try_from(self.writers.len()).unwrap_or(Writer::MAX);
        let name = (producer.to_owned(), epoch, class.to_owned());
        let writer = *self.writers.entry(name.clone()).or_insert(next);
        self.last_writer = Some((name, writer));
        (session, writer)
    }

    /// Takes the next event of its strand.
    pub(crate) fn follow(
        &mut self,
        row: &Row<'_>,
        hash: EventHash,
        place: &Place<'_>,
        report: &mut Report,
    ) {
        if self.only.is_some_and(|only| only != row.session_id) {
            return;
        }
        let key = self.key(
            row.session_id,
            &row.producer_id,
            row.producer_epoch,
            &row.class,
        );
        let fresh = !self.open.contains_key(&key);
        if fresh && self.ended.contains_key(&key) {
            let what = "it comes after the end of its strand";
            report.found(place.finding(Verdict::Altered, what));
            return;
        }
        let open = self.open.entry(key).or_insert_with(|| {
            report.strands += 1;
            Open::default()
        });
        let was = open.strand;
        let followed = open.strand.follow(row.session_seq, row.prev_hash, hash);
        let Err(error) = followed else { return };
        let finding = place.finding(
            Verdict::Incomplete,
            format!("{error} (session {})", row.session_id),
        );
        match error {
            ChainError::Missing { first, .. } if fresh && first == 1 => {
                let shard = (
                    Class::new(&row.class).unwrap_or(Class::standard()),
                    row.shard,
                );
                let late = self.begun_late.entry(shard).or_insert((0, finding));
                late.0 += 1;
            }
            ChainError::Missing { first, last } => {
                let hole = Hole {
                    key,
                    first,
                    last,
                    before: was.head(),
                    after: row.prev_hash,
                    finding,
                };
                if self.holes.len() < HOLES_MAX {
                    self.holes.push(hole);
                } else {
                    report.found(hole.finding);
                }
            }
            ChainError::OutOfOrder { seq, .. } => {
                // A late arrival: the strand goes on from where it was.
                open.strand = was;
                self.fill(key, seq, row.prev_hash, hash, finding, report);
            }
            ChainError::WrongHash { .. } => {
                report.found(Finding {
                    verdict: Verdict::Altered,
                    what: format!("{}: one of the two was altered", finding.what),
                    ..finding
                });
            }
        }
    }

    /// An event that arrived late goes into its hole.
    fn fill(
        &mut self,
        key: Key,
        seq: u64,
        prev_hash: Option<EventHash>,
        hash: EventHash,
        finding: Finding,
        report: &mut Report,
    ) {
        let inside = |h: &Hole| h.key == key && (h.first..=h.last).contains(&seq);
        let Some(at) = self.holes.iter().position(inside) else {
            report.found(Finding {
                verdict: Verdict::Altered,
                ..finding
            });
            return;
        };
        let hole = self.holes.swap_remove(at);
        let fits = (seq != hole.first || prev_hash == hole.before)
            && (seq != hole.last || Some(hash) == hole.after);
        if !fits {
            report.found(Finding {
                verdict: Verdict::Altered,
                what: format!("{}, and the hashes around it do not fit", finding.what),
                ..finding
            });
        }
        for (first, last, before, after) in [
            (hole.first, seq - 1, hole.before, prev_hash),
            (seq + 1, hole.last, Some(hash), hole.after),
        ] {
            if first <= last {
                self.holes.push(Hole {
                    key,
                    first,
                    last,
                    before,
                    after,
                    finding: hole.finding.clone(),
                });
            }
        }
    }

    /// A `session.end`: the last event of its strand, which states length and head of this and of the session's
    /// strands in other classes.
    pub(crate) fn end(
        &mut self,
        envelope: &Envelope,
        end: &SessionEnd,
        place: &Place<'_>,
        report: &mut Report,
    ) {
        if self.only.is_some_and(|only| only != envelope.session_id) {
            return;
        }
        let producer = envelope.producer_id.as_str();
        let own = envelope.class.as_str();
        for state in &end.strands {
            let class = state.class.as_str();
            let key = self.key(
                envelope.session_id,
                producer,
                envelope.producer_epoch,
                class,
            );
            let said = (state.count, state.head);
            if class != own {
                match self.ended.remove(&key) {
                    Some(known) => check(known, said, class, place, report),
                    None => {
                        let object = place.object.to_owned();
                        self.claims.insert(key, (said.0, said.1, object));
                    }
                }
                continue;
            }
            // The strand has taken the `session.end` itself, so what it states is one event back.
            let known = (envelope.session_seq - 1, envelope.prev_hash);
            check(known, said, class, place, report);
            report.strands_ended += 1;
            self.open.remove(&key);
            if let Some((count, head, _)) = self.claims.remove(&key) {
                check(known, (count, head), class, place, report);
            } else if end.strands.len() > 1 {
                self.ended.insert(key, known);
            }
        }
    }

    /// A gap that still knew what was lost.
    pub(crate) fn lost(&mut self, gap: &Gap) {
        for lost in &gap.lost {
            let event = (lost.session_id, lost.session_seq);
            self.lost.insert(event, lost.hash);
        }
    }

    /// What is still open at the end.
    pub(crate) fn finish(
        &mut self,
        begins_late: &impl Fn(&Class, Shard) -> bool,
        report: &mut Report,
    ) {
        for hole in std::mem::take(&mut self.holes) {
            let named = |seq| self.lost.get(&(hole.key.0, seq)).copied();
            let all_named = (hole.first..=hole.last).all(|seq| named(seq).is_some());
            // The gap event itself is reported; here only what it does not explain.
            if all_named && named(hole.last) == hole.after {
                continue;
            }
            report.found(hole.finding);
        }
        for ((class, shard), (count, mut finding)) in std::mem::take(&mut self.begun_late) {
            if begins_late(&class, shard) {
                report.notes.push(format!(
                    "{} of class {class}, shard {shard} began before the files at hand",
                    crate::when::counted(count, "strand")
                ));
                continue;
            }
            if count > 1 {
                finding.what = format!(
                    "{}; {} more strands lack their beginning",
                    finding.what,
                    count - 1
                );
            }
            report.found(finding);
        }
        self.claims_left(begins_late, report);
    }

    fn claims_left(&mut self, begins_late: &impl Fn(&Class, Shard) -> bool, report: &mut Report) {
        let names: HashMap<Writer, String> = self
            .writers
            .iter()
            .map(|((_, _, class), writer)| (*writer, class.clone()))
            .collect();
        let mut claims: Vec<_> = std::mem::take(&mut self.claims).into_iter().collect();
        claims.sort_by_key(|(key, _)| *key);
        for (key, (count, head, object)) in claims {
            let known = self.open.get(&key);
            if known.is_some_and(|o| (o.strand.count(), o.strand.head()) == (count, Some(head))) {
                continue;
            }
            let class = names.get(&key.1).cloned().unwrap_or_default();
            let expired = Class::new(&class).is_ok_and(|c| {
                (0..=report.shards.iter().map(|s| s.shard.0).max().unwrap_or(0))
                    .any(|shard| begins_late(&c, Shard(shard)))
            });
            if expired {
                continue;
            }
            let what = format!(
                "session {} ended with {count} events in class {class}, of which {} are there",
                key.0,
                known.map_or(0, |o| o.strand.count())
            );
            report.found(Finding::new(Verdict::Incomplete, object, what));
        }
    }
}

fn check(
    known: (u64, Option<EventHash>),
    said: (u64, EventHash),
    class: &str,
    place: &Place<'_>,
    report: &mut Report,
) {
    if known == (said.0, Some(said.1)) {
        return;
    }
    let what = format!(
        "the end of its session states {} events in class {class}, there are {}, or another head",
        said.0, known.0
    );
    report.found(place.finding(Verdict::Altered, what));
}
