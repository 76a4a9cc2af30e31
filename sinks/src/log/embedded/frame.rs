//! One frame: the records that one sync made durable in one shard. Pure bytes; the layout is in the parent's doc.

use bytes::Bytes;
use hoop_schema::Timestamp;

/// Frames and the segment's head begin at multiples of this, so that a block with acknowledged records is never
/// written again, and a write never has to read the rest of a block first.
pub(crate) const BLOCK: usize = 4096;
/// Bytes before the first record of a frame.
pub(crate) const FRAME_HEAD: usize = 32;
/// Bytes before each record: its length.
pub(crate) const RECORD_HEAD: usize = 4;
/// The most bytes that one event may have. Brokers take up to 1 MiB, events stay under 192 KiB.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 20;
/// Records are taken into a frame until they pass this. A frame is read whole, so this bounds a reader's memory too.
pub(crate) const FRAME_BYTES_AIM: usize = 2 << 20;
/// No frame is longer; anything that says so is no frame.
pub(crate) const FRAME_BYTES_MAX: usize = FRAME_BYTES_AIM + RECORD_BYTES_MAX + BLOCK;

const MAGIC: [u8; 4] = *b"hfr1";

/// A frame under construction. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
    /// The blocks of the finished frame, in bytes.
    span: usize,
}

/// What a frame says of itself before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    crc: u32,
    pub(crate) first: u64,
    pub(crate) log_ts: Timestamp,
    pub(crate) count: u32,
    /// Bytes of head and records, without the padding.
    pub(crate) len: usize,
}

/// A verified frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u64,
    pub(crate) log_ts: Timestamp,
    pub(crate) records: Vec<Bytes>,
    /// The blocks it takes, in bytes.
    pub(crate) span: u64,
}

impl FrameBuilder {
    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.resize(FRAME_HEAD, 0);
        self.count = 0;
        self.span = 0;
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        let len =
            u32::try_from(record.len()).expect("the queue refuses what passes RECORD_BYTES_MAX");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the blocks that the frame takes, before and after it is finished.
    pub(crate) fn span(&self) -> usize {
        match self.span {
            0 => self.bytes.len().next_multiple_of(BLOCK),
            finished => finished,
        }
    }

    /// The frame, followed by a block of zeros when `fence` is set: in a recycled segment that block tells "nothing
    /// was written here" from the remains of the segment's former life.
    pub(crate) fn finish(
        &mut self,
        seed: u32,
        first: u64,
        log_ts: Timestamp,
        fence: bool,
    ) -> &[u8] {
        let len = u32::try_from(self.bytes.len()).expect("bounded by FRAME_BYTES_MAX");
        let span = self.bytes.len().next_multiple_of(BLOCK);
        self.span = span;
        self.bytes.resize(span, 0);
        self.bytes[8..16].copy_from_slice(&first.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&log_ts.as_micros().to_le_bytes());
        self.bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        self.bytes[28..32].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &self.bytes[8..]);
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(span + if fence { BLOCK } else { 0 }, 0);
        &self.bytes
    }
}

impl FrameHead {
    /// Reads a head off the first bytes of a block; `None` when no frame begins like this.
    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        let head: &[u8; FRAME_HEAD] = block.get(..FRAME_HEAD)?.try_into().ok()?;
        let u32_at =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let len = usize::try_from(u32_at(28)).ok()?;
        let (first, count) = (u64_at(8), u32_at(24));
        let plausible = head[..4] == MAGIC
            && (FRAME_HEAD..=FRAME_BYTES_MAX).contains(&len)
            && count > 0
            && first.checked_add(u64::from(count)).is_some();
        plausible.then(|| Self {
            crc: u32_at(4),
            first,
            log_ts: Timestamp::from_micros(i64::from_le_bytes(u64_at(16).to_le_bytes())),
            count,
            len,
        })
    }

    /// The blocks the frame takes, in bytes.
    pub(crate) fn span(&self) -> usize {
        self.len.next_multiple_of(BLOCK)
    }

    /// Whether `blocks` (all of the frame's blocks) are what was written.
    pub(crate) fn verifies(&self, blocks: &[u8], seed: u32) -> bool {
        blocks.len() == self.span() && crc32c::crc32c_append(seed, &blocks[8..]) == self.crc
    }

    /// Verifies the frame's blocks and cuts them into records. `None` when anything is not as it was written.
    pub(crate) fn decode(&self, blocks: &Bytes, seed: u32) -> Option<Frame> {
        if !self.verifies(blocks, seed) {
            return None;
        }
        let count = usize::try_from(self.count).ok()?;
        // Each record takes at least its length: a count that passes the bytes is refused before memory is asked for.
        if count > self.len / RECORD_HEAD {
            return None;
        }
        let mut records = Vec::with_capacity(count);
        let mut at = FRAME_HEAD;
        for _ in 0..count {
            let head: [u8; RECORD_HEAD] = blocks.get(at..at + RECORD_HEAD)?.try_into().ok()?;
            let start = at + RECORD_HEAD;
            let end = start.checked_add(usize::try_from(u32::from_le_bytes(head)).ok()?)?;
            if end > self.len {
                return None;
            }
            records.push(blocks.slice(start..end));
            at = end;
        }
        (at == self.len).then_some(Frame {
            first: self.first,
            log_ts: self.log_ts,
            records,
            span: self.span() as u64,
        })
    }
}

impl Frame {
    /// The position after its last record.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(seed: u32) -> Vec<u8> {
        let mut builder = FrameBuilder::default();
        builder.begin();
        builder.push(b"one");
        builder.push(b"");
        builder.push(&[7; 5000]);
        builder
            .finish(seed, 42, Timestamp::from_micros(-3), false)
            .to_vec()
    }

    fn decode(bytes: Vec<u8>, seed: u32) -> Option<Frame> {
        FrameHead::parse(&bytes)?.decode(&Bytes::from(bytes), seed)
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let frame = decode(built(9), 9).expect("is valid");
        assert_eq!((frame.first, frame.next()), (42, 45));
        assert_eq!(frame.log_ts, Timestamp::from_micros(-3));
        assert_eq!(frame.records, [&b"one"[..], b"", &[7; 5000]]);
        assert_eq!(frame.span, 8192);
    }

    #[test]
    fn a_frame_of_another_life_of_the_segment_is_none() {
        for bit in 0..32 {
            assert_eq!(decode(built(9), 9 ^ (1 << bit)), None);
        }
    }

    #[test]
    fn no_flipped_bit_passes() {
        let good = built(9);
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(bad, 9), None, "bit {at}");
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_records_under_a_right_crc_is_none() {
        for (at, value) in [
            (24, 2u32),
            (24, 4),
            (24, u32::MAX),
            (32, 4),
            (28, 40),
            (28, 8000),
        ] {
            let mut bytes = built(9);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32c::crc32c_append(9, &bytes[8..]);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(decode(bytes, 9), None, "{value} at {at}");
        }
    }
}
