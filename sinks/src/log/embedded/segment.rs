//! One segment file: its head, and reading frames out of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use hoop_schema::{Shard, SourceId, Timestamp};

use super::frame::{BLOCK, Frame, FrameHead};

const MAGIC: [u8; 8] = *b"hoopseg1";
const HEAD_BYTES: usize = 56;

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) source: SourceId,
    pub(crate) shard: Shard,
    /// Start of the checksum of every frame in this life of the file.
    pub(crate) seed: u32,
    /// Position of the first record.
    pub(crate) first: u64,
    /// Not before any `log_ts` of an earlier segment, not after any of this one.
    pub(crate) created: Timestamp,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// Whether the blocks after the last frame may hold remains of a former life instead of zeros.
    pub(crate) recycled: bool,
}

/// What lies at a place where a frame is expected.
#[derive(Debug)]
pub(crate) enum Found {
    /// The frame that was expected.
    Frame(Frame),
    /// A block of zeros, or the end of the file: nothing was written here.
    Nothing,
    /// Something else, and what is wrong with it.
    Invalid(&'static str),
}

/// Bytes that can be read at any place: a file, or a slice in tests and under the fuzzer.
pub(crate) trait ReadAt {
    /// Fills as much of `buffer` as there are bytes from `offset` on, and says how much that was.
    fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl ReadAt for [u8] {
    fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

impl SegmentHead {
    /// The block as it lies in the file.
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&MAGIC);
        block[8..16].copy_from_slice(self.source.to_string().as_bytes());
        block[16..20].copy_from_slice(&self.shard.0.to_le_bytes());
        block[20..24].copy_from_slice(&self.seed.to_le_bytes());
        block[24..32].copy_from_slice(&self.first.to_le_bytes());
        block[32..40].copy_from_slice(&self.created.as_micros().to_le_bytes());
        block[40..48].copy_from_slice(&self.len.to_le_bytes());
        block[48] = u8::from(self.recycled);
        let crc = block_crc(&block);
        block[52..56].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the block back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, &'static str> {
        let block: &[u8; BLOCK] = block.try_into().map_err(|_| "the file has no whole head")?;
        if block[..8] != MAGIC {
            return Err("the file does not begin like a segment of format version 1");
        }
        let u32_at = |at: usize| u32::from_le_bytes(array(block, at));
        if u32_at(52) != block_crc(block) {
            return Err("the checksum of the segment's head does not match");
        }
        let source = std::str::from_utf8(&block[8..16])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or("the segment's source id is not one")?;
        let head = Self {
            source,
            shard: Shard(u32_at(16)),
            seed: u32_at(20),
            first: u64::from_le_bytes(array(block, 24)),
            created: Timestamp::from_micros(i64::from_le_bytes(array(block, 32))),
            len: u64::from_le_bytes(array(block, 40)),
            recycled: block[48] != 0,
        };
        if head.first == 0 || head.len < 2 * BLOCK as u64 || !head.len.is_multiple_of(BLOCK as u64)
        {
            return Err("the segment's head has impossible values");
        }
        Ok(head)
    }

    /// Reads the head of a segment.
    ///
    /// # Errors
    /// When the file cannot be read; the inner error says what is wrong with its bytes.
    pub(crate) fn read(file: &(impl ReadAt + ?Sized)) -> io::Result<Result<Self, &'static str>> {
        let mut block = vec![0; BLOCK];
        let read = file.read_up_to(&mut block, 0)?;
        Ok(Self::decode(&block[..read]))
    }
}

/// Reads the frame at `offset` whose first record has the position `expected`. Everything about the frame is verified;
/// bytes beyond the end of the file count as zeros.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read_frame(
    file: &(impl ReadAt + ?Sized),
    segment: &SegmentHead,
    offset: u64,
    expected: u64,
) -> io::Result<Found> {
    if offset >= segment.len {
        return Ok(Found::Nothing);
    }
    let mut blocks = vec![0; BLOCK];
    file.read_up_to(&mut blocks, offset)?;
    let Some(head) = FrameHead::parse(&blocks) else {
        return Ok(if blocks.iter().all(|byte| *byte == 0) {
            Found::Nothing
        } else {
            Found::Invalid("no frame begins here")
        });
    };
    if head.first != expected {
        return Ok(Found::Invalid("the frame has another position"));
    }
    if offset + head.span() as u64 > segment.len {
        return Ok(Found::Invalid("the frame passes the end of the segment"));
    }
    blocks.resize(head.span(), 0);
    file.read_up_to(&mut blocks[BLOCK..], offset + BLOCK as u64)?;
    Ok(match head.decode(&Bytes::from(blocks), segment.seed) {
        Some(frame) if frame.log_ts >= segment.created => Found::Frame(frame),
        Some(_) => Found::Invalid("the frame is older than its segment"),
        None => Found::Invalid("the checksum of the frame does not match"),
    })
}

/// Looks for a valid frame of this life of the segment after `offset`, where the frame of position `expected` is not
/// to be had. Since a frame is only written after the one before it was synced, a valid one proves that acknowledged
/// records are damaged. Looks at `within` bytes, and returns the frame's offset and first position.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn find_later_frame(
    file: &(impl ReadAt + ?Sized),
    segment: &SegmentHead,
    offset: u64,
    expected: u64,
    within: u64,
) -> io::Result<Option<(u64, u64)>> {
    /// Read at a time: large enough to be quick, small enough to be nothing.
    const WINDOW: usize = 64 * BLOCK;
    let mut window = vec![0; WINDOW];
    let mut at = offset + BLOCK as u64;
    let end = segment.len.min(offset.saturating_add(within));
    while at < end {
        let read = file.read_up_to(&mut window, at)?;
        if read == 0 {
            break;
        }
        for (index, block) in window[..read].chunks(BLOCK).enumerate() {
            let place = at + (index * BLOCK) as u64;
            // Frames of a former life have lower positions: they are passed over without a look at their bytes.
            if let Some(head) = FrameHead::parse(block)
                && head.first > expected
                && let Found::Frame(_) = read_frame(file, segment, place, head.first)?
            {
                return Ok(Some((place, head.first)));
            }
        }
        at += WINDOW as u64;
    }
    Ok(None)
}

/// All records of a segment, up to the first place without a valid frame.
#[cfg(feature = "test-util")]
pub(crate) fn read_records(bytes: &[u8]) -> Vec<crate::log::LogRecord> {
    let mut records = Vec::new();
    let Ok(Ok(head)) = SegmentHead::read(bytes) else {
        return records;
    };
    let (mut offset, mut expected) = (BLOCK as u64, head.first);
    while let Ok(Found::Frame(frame)) = read_frame(bytes, &head, offset, expected) {
        offset += frame.span;
        let positions = (expected..).map(crate::log::Position);
        records.extend(positions.zip(&frame.records).map(|(position, bytes)| {
            crate::log::LogRecord {
                position,
                log_ts: frame.log_ts,
                bytes: bytes.clone(),
            }
        }));
        expected = frame.next();
    }
    records
}

fn block_crc(block: &[u8; BLOCK]) -> u32 {
    let crc = crc32c::crc32c(&block[..HEAD_BYTES - 4]);
    crc32c::crc32c_append(crc, &block[HEAD_BYTES..])
}

fn array<const N: usize>(block: &[u8; BLOCK], at: usize) -> [u8; N] {
    block[at..at + N]
        .try_into()
        .expect("a constant range inside the block")
}
