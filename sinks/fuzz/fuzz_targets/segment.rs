//! Reading a segment of arbitrary bytes never panics, and returns exactly the records of its valid frames.
//!
//! The first byte chooses what is put right before reading, since no mutation finds a checksum: bit 0 the one of the
//! head, bit 1 those of the frames.
#![no_main]

use hoop_sinks::log::embedded::read_segment;
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if mode & 1 != 0 {
        repair_head(&mut bytes);
    }
    if mode & 2 != 0 {
        repair_frames(&mut bytes);
    }
    let found: Vec<_> = read_segment(&bytes)
        .into_iter()
        .map(|record| {
            (
                record.position.0,
                record.log_ts.as_micros(),
                record.bytes.to_vec(),
            )
        })
        .collect();
    assert_eq!(found, valid_records(&bytes));
});

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn head_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..52]), &bytes[56..BLOCK])
}

fn repair_head(bytes: &mut [u8]) {
    if bytes.len() >= BLOCK {
        let crc = head_crc(bytes);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The blocks of the frame at `at`, if it has room for them.
fn frame(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let head = bytes.get(at..at + 32)?;
    let span = (u32_at(head, 28) as usize).next_multiple_of(BLOCK);
    (span > 0 && span <= 4 << 20).then_some(())?;
    bytes.get(at..at + span)
}

fn repair_frames(bytes: &mut [u8]) {
    let mut at = BLOCK;
    while let Some(blocks) = frame(bytes, at) {
        let crc = crc32c::crc32c_append(u32_at(bytes, 20), &blocks[8..]);
        let span = blocks.len();
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += span;
    }
}

/// The format once more, as its document says it, straight and slow.
fn valid_records(bytes: &[u8]) -> Vec<(u64, i64, Vec<u8>)> {
    let mut records = Vec::new();
    if bytes.len() < BLOCK || &bytes[..8] != b"hoopseg1" || u32_at(bytes, 52) != head_crc(bytes) {
        return records;
    }
    let hexadecimal = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let (seed, mut expected, created, len) = (
        u32_at(bytes, 20),
        u64_at(bytes, 24),
        u64_at(bytes, 32) as i64,
        u64_at(bytes, 40),
    );
    if !bytes[8..16].iter().all(hexadecimal) || expected == 0 || len < 8192 || len % 4096 != 0 {
        return records;
    }
    let mut at = BLOCK;
    while let Some(blocks) = frame_padded(bytes, at) {
        let (count, used) = (u32_at(&blocks, 24), u32_at(&blocks, 28) as usize);
        let log_ts = time(u64_at(&blocks, 16) as i64);
        let fits = &blocks[..4] == b"hfr1"
            && u32_at(&blocks, 4) == crc32c::crc32c_append(seed, &blocks[8..])
            && u64_at(&blocks, 8) == expected
            && log_ts >= time(created)
            && count > 0
            && expected.checked_add(u64::from(count)).is_some()
            && (at + blocks.len()) as u64 <= len;
        if !fits {
            return records;
        }
        let Some(bodies) = bodies(&blocks[32..used], count) else {
            return records;
        };
        for body in bodies {
            records.push((expected, log_ts, body));
            expected += 1;
        }
        at += blocks.len();
    }
    records
}

/// A time outside the years 0 to 9999 counts as the nearest inside.
fn time(micros: i64) -> i64 {
    micros.clamp(-62_167_219_200_000_000, 253_402_300_799_999_999)
}

/// Bytes beyond the end of a file that was cut short count as zeros.
fn frame_padded(bytes: &[u8], at: usize) -> Option<Vec<u8>> {
    let mut head = bytes.get(at..)?.to_vec();
    if head.is_empty() {
        return None;
    }
    head.resize(head.len().max(32), 0);
    let used = u32_at(&head, 28) as usize;
    if !(32..=(2 << 20) + (1 << 20) + BLOCK).contains(&used) {
        return None;
    }
    head.resize(used.next_multiple_of(BLOCK), 0);
    Some(head)
}

fn bodies(mut bytes: &[u8], count: u32) -> Option<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let (len, rest) = bytes.split_at_checked(4)?;
        let (body, rest) = rest.split_at_checked(u32_at(len, 0) as usize)?;
        bodies.push(body.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(bodies)
}
