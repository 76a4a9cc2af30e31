//! Damaged files of the embedded log: a torn end, a flipped bit anywhere, remains of a former life.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use hoop_schema::Class;
use hoop_sinks::log::embedded::{EmbeddedLog, EmbeddedReader, OpenError};
use hoop_sinks::log::{EventReader, EventWriter, Position, ReadError};

use crate::log_files::{BLOCK, SHARD, append, contents, fast_dir, files, open, shard_dir, small};

const SEGMENT: &str = "00000000000000000001.segment";

/// A log of three batches, and the bytes of its one segment. The last batch has `last` bytes.
async fn three_batches(dir: &Path, blocks: u64, last: usize) -> Vec<u8> {
    let log = open(dir, small(blocks));
    append(&log, vec![b'1'; 100]).await;
    append(&log, vec![b'2'; 200]).await;
    append(&log, vec![b'3'; last]).await;
    log.close().await;
    fs::read(shard_dir(dir).join(SEGMENT)).expect("is there")
}

fn rewrite(dir: &Path, bytes: &[u8]) {
    fs::write(shard_dir(dir).join(SEGMENT), bytes).expect("can be written");
}

fn remove_torn(dir: &Path) -> Vec<Vec<u8>> {
    let mut saved = Vec::new();
    for file in files(dir, "torn-") {
        saved.push(fs::read(&file).expect("can be read"));
        fs::remove_file(file).expect("is there");
    }
    saved
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    &bytes[..end]
}

#[tokio::test]
async fn a_batch_torn_at_any_byte_is_saved_and_cut() {
    let dir = fast_dir();
    let good = three_batches(dir.path(), 8, 4200).await;
    let (start, len) = (3 * 4096, 32 + 4 + 4200);
    for written in 0..len {
        let mut torn = good.clone();
        torn[start + written..].fill(0);
        rewrite(dir.path(), &torn);
        {
            let log = open(dir.path(), small(8));
            let bounds = log.bounds(SHARD).await.expect("can be asked");
            assert_eq!(
                (bounds.first, bounds.next),
                (Position(1), Position(3)),
                "torn at {written}"
            );
            let position = append(&log, "new").await;
            assert_eq!(position, Position(3), "torn at {written}");
            let expected = [
                (1, vec![b'1'; 100]),
                (2, vec![b'2'; 200]),
                (3, b"new".to_vec()),
            ];
            assert!(contents(&log, SHARD).await == expected, "torn at {written}");
        }
        let tail = trimmed(&torn[start..]);
        let saved = remove_torn(dir.path());
        if tail.is_empty() {
            assert!(saved.is_empty(), "torn at {written}: nothing to save");
        } else {
            assert!(saved == [tail], "torn at {written}");
        }
    }
    rewrite(dir.path(), &good);
    let log = open(dir.path(), small(8));
    assert_eq!(
        contents(&log, SHARD).await.len(),
        3,
        "the whole batch is not torn"
    );
}

#[tokio::test]
async fn a_torn_batch_whose_later_blocks_came_first_is_saved_and_cut() {
    let dir = fast_dir();
    let mut torn = three_batches(dir.path(), 8, 9000).await;
    torn[3 * 4096..4 * 4096].fill(0);
    rewrite(dir.path(), &torn);
    let log = open(dir.path(), small(8));
    assert_eq!(append(&log, "new").await, Position(3));
    assert_eq!(contents(&log, SHARD).await.len(), 3);
    assert!(remove_torn(dir.path()) == [trimmed(&torn[3 * 4096..])]);
}

#[tokio::test]
async fn a_file_cut_short_inside_its_last_batch_gets_its_length_back() {
    let dir = fast_dir();
    let good = three_batches(dir.path(), 8, 4200).await;
    for len in [3 * 4096, 3 * 4096 + 1, 4 * 4096, 4 * 4096 + 139] {
        rewrite(dir.path(), &good[..len]);
        let log = open(dir.path(), small(8));
        assert_eq!(append(&log, "new").await, Position(3), "cut to {len}");
        drop(log);
        remove_torn(dir.path());
        assert_eq!(
            fs::read(shard_dir(dir.path()).join(SEGMENT))
                .expect("is there")
                .len(),
            good.len()
        );
    }
}

/// What must happen when a bit of this byte flips.
#[derive(Debug, PartialEq)]
enum Answer {
    /// An error that names this position; the records before it can be read.
    Damaged(u64),
    /// The end of the log is here: its bytes are saved, the records before it can be read.
    Torn(u64),
}

fn expected_answer(byte: u64) -> Answer {
    match byte / BLOCK {
        0 => Answer::Damaged(1),
        1 => Answer::Damaged(1),
        2 => Answer::Damaged(2),
        3 => Answer::Torn(3),
        _ => Answer::Torn(4),
    }
}

fn readable(answer: &Answer) -> usize {
    let (Answer::Damaged(position) | Answer::Torn(position)) = answer;
    usize::try_from(position - 1).expect("is small")
}

/// Reads the log from outside, record by record, to its end or an error.
async fn read_from_outside(dir: &Path) -> (Vec<(u64, Vec<u8>)>, Option<ReadError>) {
    let reader = EmbeddedReader::open(dir, &Class::standard()).expect("its description is whole");
    let mut found = Vec::new();
    loop {
        let from = Position(found.len() as u64 + 1);
        match reader.read(SHARD, from, 0, Duration::ZERO).await {
            Ok(records) if records.is_empty() => return (found, None),
            Ok(records) => found.extend(
                records
                    .into_iter()
                    .map(|r| (r.position.0, r.bytes.to_vec())),
            ),
            Err(error) => return (found, Some(error)),
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_at_any_byte_is_never_silent_and_never_a_wrong_record() {
    let dir = fast_dir();
    let good = three_batches(dir.path(), 5, 300).await;
    let whole = [
        (1, vec![b'1'; 100]),
        (2, vec![b'2'; 200]),
        (3, vec![b'3'; 300]),
    ];
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        rewrite(dir.path(), &bad);
        let expected = expected_answer(byte as u64);
        let whole = &whole[..readable(&expected)];

        let (found, error) = read_from_outside(dir.path()).await;
        assert!(found == whole, "byte {byte}");
        match (&expected, error) {
            (Answer::Damaged(at), Some(ReadError::Damaged { position, .. })) => {
                assert_eq!(position, Position(*at), "byte {byte}");
            }
            (Answer::Torn(_), None) => {}
            (_, error) => panic!("byte {byte}: reading gave {error:?}, not {expected:?}"),
        }

        match (
            expected,
            EmbeddedLog::open(dir.path(), Class::standard(), small(5)),
        ) {
            (
                Answer::Damaged(at),
                Err(OpenError::Damaged(ReadError::Damaged {
                    position, place, ..
                })),
            ) => {
                assert_eq!(position, Position(at), "byte {byte}");
                assert!(
                    place.contains(SEGMENT) && place.contains("offset"),
                    "{place}"
                );
                let after = fs::read(shard_dir(dir.path()).join(SEGMENT)).expect("is there");
                assert!(after == bad, "byte {byte}: a damaged file is left as it is");
            }
            (Answer::Torn(at), Ok(log)) => {
                let next = log.bounds(SHARD).await.expect("can be asked").next;
                assert_eq!(next, Position(at), "byte {byte}");
                assert!(contents(&log, SHARD).await == whole, "byte {byte}");
                drop(log);
                let start = (byte / 4096).min(4) * 4096;
                assert!(
                    remove_torn(dir.path()) == [trimmed(&bad[start..])],
                    "byte {byte}"
                );
            }
            (expected, opened) => panic!("byte {byte}: opening gave {opened:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn damage_in_an_earlier_segment_is_an_error_of_reading() {
    let dir = fast_dir();
    let log = open(dir.path(), small(3));
    for n in 0..6 {
        append(&log, vec![n; 1000]).await;
    }
    log.close().await;
    let segments = files(dir.path(), "0");
    assert_eq!(segments.len(), 3);
    let damage = |offset| {
        let file = OpenOptions::new()
            .write(true)
            .open(&segments[1])
            .expect("is there");
        file.write_all_at(b"!", offset).expect("can be written");
    };
    damage(2 * BLOCK + 500);
    for _ in 0..2 {
        let log = open(dir.path(), small(3));
        let before = log
            .read(SHARD, Position(1), usize::MAX, Duration::ZERO)
            .await
            .expect("can be read");
        assert_eq!(before.len(), 3, "everything before the damage");
        let error = log
            .read(SHARD, Position(4), usize::MAX, Duration::ZERO)
            .await
            .expect_err("is damaged");
        let ReadError::Damaged {
            place, position, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(*position, Position(4));
        assert!(
            place.contains("00000000000000000003.segment at offset 8192"),
            "{place}"
        );
        let after = log
            .read(SHARD, Position(5), usize::MAX, Duration::ZERO)
            .await
            .expect("can be read");
        assert_eq!(after[0].position, Position(5));
    }
    // A whole segment that is missing is no less an error.
    fs::remove_file(&segments[1]).expect("is there");
    let log = open(dir.path(), small(3));
    let error = log
        .read(SHARD, Position(3), usize::MAX, Duration::ZERO)
        .await
        .expect_err("is missing");
    assert!(
        matches!(
            error,
            ReadError::Damaged {
                position: Position(3),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_committed_is_damaged() {
    let dir = fast_dir();
    let good = three_batches(dir.path(), 5, 300).await;
    {
        let log = open(dir.path(), small(5));
        log.committed(SHARD, Position(4)).await;
        log.close().await;
    }
    let mut bad = good.clone();
    bad[3 * 4096 + 40] ^= 1;
    rewrite(dir.path(), &bad);
    let error = EmbeddedLog::open(dir.path(), Class::standard(), small(5))
        .expect_err("lost a committed record");
    assert!(
        matches!(
            error,
            OpenError::Damaged(ReadError::Damaged {
                position: Position(3),
                ..
            })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn remains_of_a_former_life_are_never_read() {
    let dir = fast_dir();
    let mut options = small(4);
    options.size_max = 2 * options.segment_bytes;
    // Every life of a segment ends at another place, with frames of one and of two blocks.
    let mut next = 1;
    for round in 0..60usize {
        let log = open(dir.path(), options.clone());
        for n in 0..=round % 3 {
            let size = if (round + n).is_multiple_of(2) {
                4500
            } else {
                50
            };
            let position = append(&log, vec![u8::try_from(next % 251).expect("fits"); size]).await;
            assert_eq!(position, Position(next));
            next += 1;
            log.committed(SHARD, position).await;
        }
        let found = contents(&log, SHARD).await;
        assert_eq!(
            found.last().map(|last| last.0),
            Some(next - 1),
            "round {round}"
        );
        for (position, bytes) in found {
            let expected = u8::try_from(position % 251).expect("fits");
            assert!(
                bytes.iter().all(|byte| *byte == expected),
                "position {position}"
            );
        }
        drop(log);
        assert!(
            remove_torn(dir.path()).is_empty(),
            "round {round}: nothing was torn"
        );
    }
}

#[tokio::test]
async fn a_torn_batch_in_a_recycled_segment_is_saved_and_cut() {
    let dir = fast_dir();
    let mut options = small(6);
    options.size_max = 2 * options.segment_bytes;
    let last = {
        let log = open(dir.path(), options.clone());
        let mut last = Position(0);
        // Twelve full segments, then two frames in the next.
        for n in 0..12 * 5 + 2 {
            last = append(&log, vec![7; 1000 + n]).await;
            log.committed(SHARD, last).await;
        }
        last
    };
    let segment = files(dir.path(), "0").pop().expect("is there");
    let bytes = fs::read(&segment).expect("can be read");
    assert!(
        bytes[3 * 4096..4 * 4096].iter().all(|byte| *byte == 0),
        "a block of zeros ends the log"
    );
    assert!(
        bytes[4 * 4096..].iter().any(|byte| *byte != 0),
        "remains lie behind it"
    );

    let mut torn = bytes.clone();
    // A write of three blocks of which the first and the last arrived.
    torn[3 * 4096..4 * 4096].copy_from_slice(&bytes[4096..2 * 4096]);
    torn[3 * 4096 + 8..3 * 4096 + 16].copy_from_slice(&(last.0 + 1).to_le_bytes());
    fs::write(&segment, &torn).expect("can be written");
    let log = open(dir.path(), options);
    assert_eq!(append(&log, "new").await, Position(last.0 + 1));
    let found = contents(&log, SHARD).await;
    assert_eq!(found.last(), Some(&(last.0 + 1, b"new".to_vec())));
    let saved = remove_torn(dir.path());
    assert_eq!(saved.len(), 1);
    assert!(saved[0].starts_with(&torn[3 * 4096..4 * 4096][..1000]));
}
