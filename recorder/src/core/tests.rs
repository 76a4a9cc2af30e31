use super::*;
use crate::config::HoleLimits;
use crate::generator::Generator;
use hoop_schema::chain::MerkleTree;
use hoop_schema::kinds::integrity::{Heartbeat, LastSequence};
use hoop_schema::{Envelope, EventHash, EventId, FORMAT_VERSION, SessionId};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const DAY: i64 = 86_400_000_000;

fn class() -> Class {
    Class::standard()
}

fn config() -> Config {
    let mut config = Config::new("sample", ProducerId::new("recorder-1").unwrap());
    config.flush = FlushLimits {
        bytes: 1 << 20,
        age: Duration::from_secs(300),
        idle_age: Duration::from_secs(3600),
    };
    config.holes = HoleLimits {
        time: Duration::from_secs(60),
        positions: 1000,
    };
    config
}

fn core() -> Core {
    Core::new(
        &config(),
        7,
        SourceId::from_bytes([1; 4]),
        &class(),
        Shard(0),
        None,
    )
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(20_000 * DAY + seconds * 1_000_000)
}

/// An event of a kind that needs no fields.
fn event(session: u8, seq: u64, kind: &str) -> Bytes {
    let envelope = Envelope {
        v: FORMAT_VERSION,
        event_id: EventId::new(seq, &[session; 10]),
        ts: at(0),
        cluster: "sample".into(),
        producer_id: ProducerId::new("gateway-1").unwrap(),
        producer_epoch: 1,
        producer_seq: seq,
        class: class(),
        shard: Shard(0),
        session_id: SessionId::from_bytes([session; 16]),
        session_seq: seq,
        prev_hash: None,
    };
    let text = serde_json::to_string(&envelope).unwrap();
    format!("{},\"kind\":\"{kind}\"}}", text.trim_end_matches('}')).into()
}

fn record(position: u64, log_ts: Timestamp, bytes: Bytes) -> LogRecord {
    LogRecord {
        position: Position(position),
        log_ts,
        bytes,
    }
}

fn batch(action: Option<Action>) -> Batch {
    match action {
        Some(Action::Commit(batch)) => *batch,
        other => panic!("no commit but {other:?}"),
    }
}

/// The kinds of a batch's rows, in the order they came.
fn kinds(batch: &Batch) -> Vec<String> {
    let (_, bytes) = batch.rows.parts();
    bytes
        .iter()
        .map(|b| Row::read(b).unwrap().kind.to_string())
        .collect()
}

fn commit(core: &mut Core, batch: &Batch) {
    core.committed(PreviousFile {
        key: batch.name().to_string(),
        sha256: EventHash::of(b"file"),
    });
}

#[test]
fn a_file_covers_what_was_read_and_the_next_one_goes_on() {
    let mut core = core();
    for seq in 1..=3 {
        assert!(
            core.apply(record(seq + 9, at(0), event(1, seq, "x")), at(0))
                .is_empty()
        );
    }
    let first = batch(core.flush());
    assert_eq!(
        (first.name().pos_from, first.pos_to(), first.rows()),
        (0, 13, 4)
    );
    assert_eq!(kinds(&first), ["recorder.started", "x", "x", "x"]);
    commit(&mut core, &first);
    assert!(core.flush().is_none(), "there is nothing left");
    core.apply(record(13, at(0), event(1, 4, "x")), at(0));
    let second = batch(core.flush());
    assert_eq!(
        (second.name().pos_from, second.pos_to(), second.rows()),
        (13, 14, 1)
    );
}

#[test]
fn copies_are_left_out_and_counted() {
    let mut core = core();
    for (position, seq) in [(1, 1), (2, 2), (3, 1), (4, 2), (5, 3)] {
        core.apply(record(position, at(0), event(1, seq, "x")), at(0));
    }
    let batch = batch(core.flush());
    assert_eq!(
        (batch.rows(), batch.copies, core.counts().copies),
        (4, 2, 2)
    );
}

#[test]
fn a_hole_becomes_a_gap_row_and_a_late_arrival_closes_it() {
    let mut core = core();
    core.apply(record(1, at(0), event(1, 1, "x")), at(0));
    core.apply(record(2, at(0), event(1, 3, "x")), at(0));
    assert!(core.tick(at(59), true).is_empty());
    core.tick(at(60), true);
    core.apply(record(3, at(61), event(1, 2, "x")), at(61));
    let batch = batch(core.flush());
    assert_eq!(
        kinds(&batch),
        ["recorder.started", "x", "x", "gap", "x", "gap"]
    );
    let gaps: Vec<Gap> = batch
        .rows
        .parts()
        .1
        .iter()
        .filter_map(|b| match decode(b).unwrap().kind {
            Kind::Gap(gap) => Some(gap),
            _ => None,
        })
        .collect();
    assert_eq!(
        (gaps[0].state, gaps[0].first_seq, gaps[0].last_seq),
        (GapState::Open, 2, 2)
    );
    assert_eq!(
        (gaps[1].state, gaps[1].first_seq, gaps[1].last_seq),
        (GapState::Closed, 2, 2)
    );
    assert_eq!(batch.recorder_rows, 3);
}

#[test]
fn records_that_are_no_events_keep_their_place_and_bytes() {
    let mut core = core();
    let foreign = String::from_utf8(event(1, 1, "x").to_vec())
        .unwrap()
        .replace("\"shard\":0", "\"shard\":5");
    let huge = String::from_utf8(event(1, 1, "x").to_vec())
        .unwrap()
        .replace(
            "\"producer_seq\":1",
            "\"producer_seq\":18446744073709551615",
        );
    let poison: [Bytes; 7] = [
        Bytes::new(),
        Bytes::from_static(b"{"),
        Bytes::from_static(b"\xff\xfe"),
        vec![b'x'; 300_000].into(),
        event(1, 0, "x"),
        foreign.into(),
        huge.into(),
    ];
    for (position, bytes) in poison.iter().enumerate() {
        core.apply(record(position as u64, at(0), bytes.clone()), at(0));
    }
    core.apply(record(7, at(0), event(1, 1, "x")), at(0));
    let batch = batch(core.flush());
    assert_eq!((batch.rows(), core.counts().unparsed), (9, 7));
    let unparsed: Vec<_> = batch
        .rows
        .parts()
        .1
        .iter()
        .filter_map(|b| match decode(b).unwrap().kind {
            Kind::RecorderUnparsed(unparsed) => Some(unparsed),
            _ => None,
        })
        .collect();
    assert_eq!(unparsed[3].bytes, 300_000);
    assert!(
        unparsed[5].error.contains("shard 005"),
        "{}",
        unparsed[5].error
    );
    assert_eq!(unparsed[1].raw_base64, "ew==");
    assert_eq!(
        batch
            .rows
            .parts()
            .0
            .number(crate::session_file::columns::place("position"), 3),
        Some(2)
    );
}

#[test]
fn a_file_holds_one_day_of_the_log() {
    let mut core = core();
    core.apply(record(1, at(86_399), event(1, 1, "x")), at(0));
    let actions = core.apply(record(2, at(86_400), event(1, 2, "x")), at(0));
    let first = batch(actions.into_iter().next());
    assert_eq!(
        (first.name().day.as_str(), first.pos_to()),
        (at(0).day().as_str(), 2)
    );
    let second = batch(core.flush());
    assert_eq!(
        (second.name().day.clone(), second.name().pos_from),
        (at(86_400).day(), 2)
    );
}

#[test]
fn files_are_flushed_by_bytes_by_age_and_later_when_there_are_only_heartbeats() {
    let mut core = core();
    let mut sealed = 0;
    let mut generator = Generator::new("standard", 1);
    for position in 0..2000 {
        sealed += core
            .apply(record(position, at(0), generator.event().2), at(0))
            .len();
    }
    assert!((2..=4).contains(&sealed), "{sealed} files of 1 MiB");
    batch(core.flush());
    core.apply(record(5000, at(1), event(1, 1, "heartbeat")), at(1));
    assert!(core.tick(at(3600), false).is_empty());
    assert_eq!(core.tick(at(3601), false).len(), 1);
    core.apply(record(5001, at(3601), event(1, 2, "x")), at(3601));
    assert!(core.tick(at(3900), false).is_empty());
    assert_eq!(core.tick(at(3901), false).len(), 1);
}

#[test]
fn a_day_that_is_over_is_flushed_once_everything_is_read() {
    let mut core = core();
    core.apply(record(1, at(86_390), event(1, 1, "heartbeat")), at(86_390));
    assert!(
        core.tick(at(86_401), false).is_empty(),
        "there may be more of yesterday"
    );
    assert_eq!(core.tick(at(86_401), true).len(), 1);
}

#[test]
fn a_clock_that_goes_back_delays_a_file_by_no_more_than_its_age() {
    let mut core = core();
    core.apply(record(1, at(5000), event(1, 1, "x")), at(5000));
    assert!(core.tick(at(100), true).is_empty());
    assert!(core.tick(at(399), true).is_empty());
    assert_eq!(core.tick(at(400), true).len(), 1);
}

#[test]
fn a_heartbeat_tells_other_shards_how_far_they_go() {
    let mut core = core();
    let last = vec![
        LastSequence {
            class: class(),
            shard: Shard(0),
            seq: 0,
        },
        LastSequence {
            class: Class::new("long").unwrap(),
            shard: Shard(3),
            seq: 9,
        },
    ];
    let fields = serde_json::to_string(&Heartbeat {
        last,
        interval_s: 60,
    })
    .unwrap();
    let text = String::from_utf8(event(1, 1, "heartbeat").to_vec()).unwrap();
    let text = format!("{},{}", text.trim_end_matches('}'), &fields[1..]);
    let actions = core.apply(record(1, at(0), text.into()), at(0));
    let [Action::Tail(tail)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (tail.class.as_str(), tail.shard, tail.seq),
        ("long", Shard(3), 9)
    );
    let mut other = Core::new(
        &config(),
        7,
        SourceId::from_bytes([1; 4]),
        &tail.class,
        tail.shard,
        None,
    );
    other.tail(tail);
    other.tick(at(61), true);
    assert_eq!(other.counts().gaps, 1);
    assert!(
        other.flush().is_none(),
        "a file begins with a record; the gap waits for one"
    );
}

#[test]
fn a_batch_that_lost_is_dropped_and_its_numbers_are_used_again() {
    let mut core = core();
    core.apply(record(1, at(0), event(1, 1, "x")), at(0));
    core.apply(record(2, at(0), event(1, 2, "x")), at(0));
    let mine = batch(core.flush());
    let encoded = mine.encode(None, at(0), None).unwrap();
    let rival = Footer {
        pos_to: 2,
        ..encoded.footer
    };
    core.lost(
        rival,
        PreviousFile {
            key: mine.name().to_string(),
            sha256: EventHash::of(b"rival"),
        },
        &config(),
    );
    assert_eq!(core.position(), Position(2));
    core.apply(record(2, at(0), event(1, 2, "x")), at(0));
    let next = batch(core.flush());
    assert_eq!(next.name().pos_from, 2);
    let own = Row::read(&next.rows.parts().1[0]).unwrap().producer_seq;
    assert_eq!(own, 1, "the recorder's own sequence stays dense");
}

#[test]
fn a_restart_knows_copies_and_holes() {
    let mut first = core();
    for (position, seq) in [(1, 1), (2, 2), (3, 5)] {
        first.apply(record(position, at(0), event(1, seq, "x")), at(0));
    }
    let sealed = batch(first.flush());
    let footer = sealed.encode(None, at(0), None).unwrap().footer;
    let file = PreviousFile {
        key: sealed.name().to_string(),
        sha256: EventHash::of(b"f"),
    };
    let mut again = Core::new(
        &config(),
        8,
        SourceId::from_bytes([1; 4]),
        &class(),
        Shard(0),
        Some((footer, file)),
    );
    for (position, seq) in [(4, 2), (5, 3), (6, 6)] {
        again.apply(record(position, at(0), event(1, seq, "x")), at(0));
    }
    again.tick(at(60), true);
    let next = batch(again.flush());
    assert_eq!(
        (next.copies, again.counts().gaps),
        (1, 1),
        "2 was a copy, 3 filled the hole, 4 is missing"
    );
}

#[test]
fn what_the_log_dropped_is_a_gap() {
    let mut core = core();
    core.apply(record(1, at(0), event(1, 1, "x")), at(0));
    core.expired(Position(10));
    core.apply(record(10, at(0), event(1, 8, "x")), at(0));
    assert_eq!(core.counts().gaps, 1);
    assert_eq!(batch(core.flush()).pos_to(), 11);
}

#[test]
fn equal_rows_give_equal_files_sorted_by_session() {
    let encode = || {
        let mut core = core();
        let mut generator = Generator::new("standard", 3);
        for position in 0..500 {
            core.apply(record(position, at(0), generator.event().2), at(0));
        }
        let batch = batch(core.flush());
        let order = batch.rows.order();
        let (_, bytes) = batch.rows.parts();
        let keys: Vec<_> = order
            .iter()
            .map(|i| {
                Row::read(&bytes[*i as usize])
                    .map(|r| (r.session_id, r.session_seq))
                    .unwrap()
            })
            .collect();
        assert!(keys.is_sorted());
        let mut tree = MerkleTree::default();
        order
            .iter()
            .for_each(|i| tree.push(EventHash::of(&bytes[*i as usize])));
        let encoded = batch.encode(None, at(0), None).unwrap();
        assert_eq!(encoded.footer.events_root, tree.root());
        encoded
    };
    let (one, other) = (encode(), encode());
    assert_eq!(one.sha256, other.sha256);
    assert_eq!(one.index, other.index);
    assert_eq!(
        crate::index::rebuild(one.file).unwrap(),
        one.index,
        "the index can be made again from the file"
    );
}

/// What may come from the log: a sequence number of one of two producers, or poison; and whether time passes.
fn arrivals() -> impl Strategy<Value = Vec<(bool, u64, bool, i64)>> {
    prop::collection::vec(
        (any::<bool>(), 1u64..30, prop::bool::weighted(0.1), 0i64..20),
        1..80,
    )
}

proptest! {
    #[test]
    fn rows_agree_with_the_model(arrivals in arrivals(), flushes in prop::collection::btree_set(0usize..80, 0..6)) {
        // The model, in ten lines: a row for every number that was not here before and for every poison record, each
        // position in exactly one file; nothing else matters to what is kept.
        let mut seen = BTreeSet::new();
        let (mut events, mut copies, mut unparsed) = (0u64, 0u64, 0u64);
        for (producer, seq, poison, _) in &arrivals {
            if *poison { unparsed += 1 } else if seen.insert((*producer, *seq)) { events += 1 } else { copies += 1 }
        }
        let mut core = core();
        let (mut batches, mut clock) = (Vec::new(), at(0));
        for (i, (producer, seq, poison, seconds)) in arrivals.iter().enumerate() {
            clock = clock.plus_micros(seconds * 60_000_000);
            let text = String::from_utf8(event(u8::from(*producer), *seq, "x").to_vec()).unwrap();
            let text = if *producer { text } else { text.replace("gateway-1", "gateway-2") };
            let bytes = if *poison { Bytes::from_static(b"poison") } else { text.into() };
            let actions = core.apply(record(i as u64, clock, bytes), clock);
            batches.extend(actions.into_iter().map(|a| batch(Some(a))));
            if flushes.contains(&i) {
                batches.extend(core.flush().map(|a| batch(Some(a))));
            }
        }
        batches.extend(core.flush().map(|a| batch(Some(a))));
        let rows: Vec<String> = batches.iter().flat_map(kinds).collect();
        let count = |kind: &str| rows.iter().filter(|k| *k == kind).count() as u64;
        prop_assert_eq!((count("x"), count("recorder.unparsed")), (events, unparsed));
        prop_assert_eq!(batches.iter().map(|b| b.copies).sum::<u64>(), copies);
        let mut covered = 0;
        for batch in &batches {
            prop_assert_eq!(batch.name().pos_from, covered);
            covered = batch.pos_to();
            let days: BTreeSet<_> = (0..batch.rows() as u32).map(|i| batch.rows.parts().0.number(9, i).unwrap() / DAY).collect();
            prop_assert!(days.len() <= 1, "one day in one file; a file of nothing but copies has no rows");
        }
        prop_assert_eq!(covered, arrivals.len() as u64);
    }
}
