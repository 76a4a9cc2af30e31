//! The protocol as a model: two recorders, a store, a log, and everything that can happen, in every order.
//!
//! The state space is explored exhaustively and breadth first. The decisions are those of [`Commit`] itself.

use super::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Positions in the log.
const LOG: u8 = 3;
/// Crashes, lost answers and refusals that may happen in one run.
const FAULTS: u8 = 2;

/// A file: it covers `from..to`; `made` tells the bytes of two makers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct File {
    from: u8,
    to: u8,
    made: u8,
}

impl File {
    fn hash(self) -> EventHash {
        EventHash::of(&[self.from, self.to, self.made])
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Recorder {
    /// Crashed, or about to look for the newest file.
    Down,
    /// Reads from this position.
    Reading(u8),
    /// Commits.
    Committing(File, u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct World {
    recorders: [Recorder; 2],
    /// The store: the name is the first position.
    store: BTreeMap<u8, File>,
    /// Puts that will land at some time, or never.
    under_way: BTreeSet<File>,
    faults: u8,
    /// Every start makes other bytes.
    made: u8,
}

/// The step of a commit as a number, so that worlds are ordered and small.
fn commit_of(file: File, step: u8) -> Commit {
    let mut commit = Commit::new(file.hash());
    if step == 1 {
        commit.put_answered(PutAnswer::Unknown);
        assert_eq!(commit.step(), Step::Head);
    }
    commit
}

impl World {
    fn put(&mut self, file: File) -> PutAnswer {
        if self.store.contains_key(&file.from) {
            return PutAnswer::Exists;
        }
        self.store.insert(file.from, file);
        PutAnswer::Created
    }

    fn newest(&self) -> u8 {
        self.store
            .values()
            .map(|f| (f.from, f.to))
            .max()
            .map_or(0, |(_, to)| to)
    }

    /// A recorder after an answer: goes on where the decision says.
    fn after(&mut self, who: usize, file: File, commit: Commit) {
        self.recorders[who] = match commit.step() {
            Step::Put => Recorder::Committing(file, 0),
            Step::Head => Recorder::Committing(file, 1),
            Step::Committed => {
                assert_eq!(
                    self.store.get(&file.from),
                    Some(&file),
                    "what is said to be committed is there"
                );
                Recorder::Reading(file.to)
            }
            Step::Lost => Recorder::Reading(self.store[&file.from].to),
        };
    }

    /// All that can happen next.
    fn successors(&self) -> Vec<World> {
        let mut next = Vec::new();
        for file in &self.under_way {
            let mut landed = self.clone();
            landed.under_way.remove(file);
            landed.put(*file);
            next.push(landed);
            let mut lost = self.clone();
            lost.under_way.remove(file);
            next.push(lost);
        }
        for who in 0..2 {
            self.steps_of(who, &mut next);
            if self.faults > 0 && self.recorders[who] != Recorder::Down {
                let mut crashed = self.clone();
                crashed.faults -= 1;
                if let Recorder::Committing(file, 0) = crashed.recorders[who] {
                    // It may have sent its put just before.
                    let mut sent = crashed.clone();
                    sent.under_way.insert(file);
                    sent.recorders[who] = Recorder::Down;
                    next.push(sent);
                }
                crashed.recorders[who] = Recorder::Down;
                next.push(crashed);
            }
        }
        next
    }

    fn steps_of(&self, who: usize, next: &mut Vec<World>) {
        match self.recorders[who].clone() {
            Recorder::Down => {
                let mut up = self.clone();
                up.recorders[who] = Recorder::Reading(self.newest());
                next.push(up);
            }
            Recorder::Reading(from) => {
                for to in from + 1..=LOG {
                    let mut sealed = self.clone();
                    sealed.made += 1;
                    sealed.recorders[who] = Recorder::Committing(
                        File {
                            from,
                            to,
                            made: sealed.made % 4,
                        },
                        0,
                    );
                    next.push(sealed);
                }
            }
            Recorder::Committing(file, step) => {
                let commit = commit_of(file, step);
                match commit.step() {
                    Step::Put => self.puts(who, file, commit, next),
                    Step::Head => self.heads(who, file, commit, next),
                    Step::Committed | Step::Lost => unreachable!("these steps are left at once"),
                }
            }
        }
    }

    fn puts(&self, who: usize, file: File, commit: Commit, next: &mut Vec<World>) {
        let mut answered = self.clone();
        let answer = answered.put(file);
        let mut decided = commit;
        decided.put_answered(answer);
        answered.after(who, file, decided);
        next.push(answered);
        if self.faults == 0 {
            return;
        }
        for (answer, landing) in [
            (PutAnswer::Refused, 0),
            (PutAnswer::Unknown, 0),
            (PutAnswer::Unknown, 1),
            (PutAnswer::Unknown, 2),
        ] {
            let mut faulty = self.clone();
            faulty.faults -= 1;
            match landing {
                0 => {}
                1 => drop(faulty.put(file)),
                _ => drop(faulty.under_way.insert(file)),
            }
            let mut decided = commit;
            decided.put_answered(answer);
            faulty.after(who, file, decided);
            next.push(faulty);
        }
    }

    fn heads(&self, who: usize, file: File, commit: Commit, next: &mut Vec<World>) {
        let truth = self
            .store
            .get(&file.from)
            .map_or(HeadAnswer::None, |f| HeadAnswer::Object(f.hash()));
        for (answer, cost) in [(truth, 0), (HeadAnswer::Unknown, 1)] {
            if self.faults >= cost {
                let mut world = self.clone();
                world.faults -= cost;
                let mut decided = commit;
                decided.head_answered(answer);
                world.after(who, file, decided);
                next.push(world);
            }
        }
    }

    /// Every position up to the newest file's end is covered exactly once.
    fn check(&self) {
        let mut covered = 0;
        for file in self.store.values() {
            assert_eq!(file.from, covered, "covered twice or not at all: {self:?}");
            covered = file.to;
        }
    }
}

#[test]
fn every_position_is_covered_exactly_once_whatever_happens() {
    let start = World {
        recorders: [Recorder::Down, Recorder::Down],
        store: BTreeMap::new(),
        under_way: BTreeSet::new(),
        faults: FAULTS,
        made: 0,
    };
    let mut seen = BTreeSet::from([start.clone()]);
    let mut todo = VecDeque::from([start]);
    let (mut complete, mut rivals) = (0u64, 0u64);
    while let Some(world) = todo.pop_front() {
        world.check();
        complete += u64::from(world.newest() == LOG);
        rivals += u64::from(
            matches!(&world.recorders, [Recorder::Committing(a, _), Recorder::Committing(b, _)] if a.from == b.from),
        );
        for next in world.successors() {
            // Nothing committed is ever lost or changed.
            assert!(
                world
                    .store
                    .iter()
                    .all(|(name, file)| next.store.get(name) == Some(file))
            );
            let mut next = next;
            next.made %= 4;
            if seen.insert(next.clone()) {
                todo.push_back(next);
            }
        }
    }
    assert!(
        seen.len() > 10_000,
        "the model is not trivial: {}",
        seen.len()
    );
    assert!(complete > 0 && rivals > 0);
}

#[test]
fn without_further_faults_every_commit_ends() {
    let mine = EventHash::of(b"mine");
    for first in [
        PutAnswer::Created,
        PutAnswer::Exists,
        PutAnswer::Refused,
        PutAnswer::Unknown,
    ] {
        for there in [None, Some(mine), Some(EventHash::of(b"other"))] {
            let mut commit = Commit::new(mine);
            commit.put_answered(first);
            let mut there = there;
            for _ in 0..4 {
                match commit.step() {
                    Step::Put => commit.put_answered(match there {
                        None => {
                            there = Some(mine);
                            PutAnswer::Created
                        }
                        Some(_) => PutAnswer::Exists,
                    }),
                    Step::Head => {
                        commit.head_answered(there.map_or(HeadAnswer::None, HeadAnswer::Object))
                    }
                    Step::Committed | Step::Lost => break,
                }
            }
            let expected = if first == PutAnswer::Created || there == Some(mine) {
                Step::Committed
            } else {
                Step::Lost
            };
            assert_eq!(commit.step(), expected, "{first:?} {there:?}");
        }
    }
}
