use super::*;
use std::time::Duration;

const LIMITS: HoleLimits = HoleLimits {
    time: Duration::from_secs(10),
    positions: 100,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn id() -> ProducerId {
    ProducerId::new("gateway-1").unwrap()
}

fn fed(seqs: &[u64]) -> Sequences {
    let mut sequences = Sequences::new(Vec::new(), LIMITS);
    for (position, seq) in seqs.iter().enumerate() {
        sequences.see(&id(), 1, *seq, position as u64, at(0));
    }
    sequences
}

#[test]
fn numbers_seen_before_are_copies() {
    let mut sequences = fed(&[1, 2, 3]);
    assert_eq!(sequences.see(&id(), 1, 2, 9, at(0)), Seen::Copy);
    assert_eq!(
        sequences.see(&id(), 2, 2, 9, at(0)),
        Seen::New,
        "another epoch is another sequence"
    );
}

#[test]
fn a_hole_filled_in_time_is_no_gap() {
    let mut sequences = fed(&[1, 4]);
    assert_eq!(sequences.see(&id(), 1, 3, 9, at(0)), Seen::New);
    assert_eq!(sequences.see(&id(), 1, 2, 9, at(0)), Seen::New);
    assert_eq!(sequences.see(&id(), 1, 3, 9, at(0)), Seen::Copy);
    assert_eq!(sequences.open(), 0);
    assert_eq!(sequences.due(9999, at(9999)), []);
}

#[test]
fn a_hole_is_due_by_time_or_by_positions_and_only_once() {
    for (position, seconds, due) in [(50, 9, 0), (50, 10, 1), (101, 9, 1)] {
        let mut sequences = fed(&[1, 4]);
        let found = sequences.due(position, at(seconds));
        assert_eq!(found.len(), due, "{position} {seconds}");
        if let [hole] = &found[..] {
            assert_eq!(
                (hole.first, hole.last, hole.cause),
                (2, 3, GapCause::Missing)
            );
        }
        sequences.due(9999, at(9999));
        assert_eq!(sequences.due(99999, at(99999)), []);
    }
}

#[test]
fn what_comes_after_the_gap_was_declared_is_late_once() {
    let mut sequences = fed(&[1, 5]);
    sequences.due(9999, at(9999));
    assert_eq!(sequences.see(&id(), 1, 3, 9, at(0)), Seen::Late);
    assert_eq!(sequences.see(&id(), 1, 3, 9, at(0)), Seen::Copy);
    assert_eq!(sequences.see(&id(), 1, 2, 9, at(0)), Seen::Late);
    assert_eq!(sequences.see(&id(), 1, 4, 9, at(0)), Seen::Late);
}

#[test]
fn a_sequence_that_does_not_begin_at_one_has_a_hole() {
    let mut sequences = fed(&[3]);
    assert_eq!(sequences.due(9999, at(0))[0].first, 1);
}

#[test]
fn a_heartbeat_reveals_a_missing_tail() {
    let mut sequences = fed(&[1, 2]);
    sequences.tail(&id(), 1, 2, 9, at(0));
    assert_eq!(sequences.open(), 0, "nothing is missing");
    sequences.tail(&id(), 1, 4, 9, at(0));
    let due = sequences.due(9999, at(0));
    assert_eq!(
        (due[0].first, due[0].last, due[0].cause),
        (3, 4, GapCause::Tail)
    );
}

#[test]
fn a_tail_that_was_only_slow_is_no_gap() {
    let mut sequences = fed(&[1]);
    sequences.tail(&id(), 1, 3, 1, at(0));
    assert_eq!(sequences.see(&id(), 1, 2, 2, at(1)), Seen::New);
    assert_eq!(sequences.see(&id(), 1, 3, 3, at(1)), Seen::New);
    assert_eq!(sequences.due(9999, at(9999)), []);
}

#[test]
fn holes_after_a_loss_of_the_log_are_due_at_once() {
    let mut sequences = fed(&[1]);
    sequences.log_lost_records();
    sequences.tail(&id(), 1, 4, 1, at(0));
    assert_eq!(sequences.due(0, at(0))[0].cause, GapCause::Expired);
}

#[test]
fn states_survive_a_restart() {
    let mut sequences = fed(&[1, 4, 9]);
    sequences.due(9999, at(9999));
    sequences.see(&id(), 1, 12, 9999, at(9999));
    let mut again = Sequences::new(sequences.states(), LIMITS);
    assert_eq!(again.see(&id(), 1, 4, 0, at(0)), Seen::Copy);
    assert_eq!(again.see(&id(), 1, 3, 0, at(0)), Seen::Late);
    assert_eq!(again.see(&id(), 1, 11, 0, at(0)), Seen::New);
    assert_eq!(again.open(), 1);
}

#[test]
fn holes_are_bounded_and_nothing_that_comes_late_is_dropped() {
    let odd: Vec<u64> = (0..HOLES_MAX as u64 * 2).map(|i| i * 2 + 1).collect();
    let mut sequences = fed(&odd);
    assert!(sequences.states()[0].holes.len() <= HOLES_MAX);
    for even in odd.iter().skip(1).map(|seq| seq - 1) {
        assert_ne!(
            sequences.see(&id(), 1, even, 0, at(0)),
            Seen::Copy,
            "{even}"
        );
    }
}

#[test]
fn silent_producers_are_forgotten_unless_they_have_a_hole() {
    let mut sequences = fed(&[1, 2]);
    sequences.see(&id(), 2, 2, 0, at(0));
    sequences.forget(at(31 * 24 * 3600));
    assert_eq!(sequences.states().len(), 1);
    assert_eq!(sequences.states()[0].producer_epoch, 2);
}
