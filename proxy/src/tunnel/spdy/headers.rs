//! Header blocks of SPDY/3 (draft 3 §2.6.10): one zlib stream for all blocks of a side, flushed after each, begun with
//! a preset dictionary.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::FrameError;

/// The longest header block, decompressed. Streams of Kubernetes carry three headers of a few bytes; the server's
/// library would inflate a thousand headers of a megabyte.
pub const HEADER_BLOCK_BYTES_MAX: usize = 16 * 1024;

/// The most headers in a block.
pub const HEADERS_MAX: usize = 64;

/// SPDY/3's preset dictionary (draft 3 §2.6.10.1); Adler-32 `e3c6a7c2`.
const DICTIONARY: &[u8] = include_bytes!("header-dictionary.bin");

/// Inflates the header blocks of one side. Every block must pass through it, in order, also an unwanted one.
pub(super) struct Inflater {
    zlib: Decompress,
    has_dictionary: bool,
    block: Vec<u8>,
}

/// The headers of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    block: &'a [u8],
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
            has_dictionary: false,
            block: Vec::new(),
        }
    }

    /// Inflates the next block. It must be exactly one list of headers: the server's library would take what is left
    /// over for the beginning of the next block.
    pub(super) fn inflate(&mut self, mut compressed: &[u8]) -> Result<Headers<'_>, FrameError> {
        self.block.clear();
        // One byte more than allowed, so that too much can be told from just enough.
        self.block.reserve_exact(HEADER_BLOCK_BYTES_MAX + 1);
        loop {
            let consumed_before = self.zlib.total_in();
            let result =
                self.zlib
                    .decompress_vec(compressed, &mut self.block, FlushDecompress::Sync);
            let consumed = self.zlib.total_in() - consumed_before;
            compressed = usize::try_from(consumed)
                .ok()
                .and_then(|consumed| compressed.get(consumed..))
                .ok_or(FrameError::Inflate)?;
            match result {
                Err(error) if error.needs_dictionary().is_some() && !self.has_dictionary => {
                    self.zlib
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| FrameError::Inflate)?;
                    self.has_dictionary = true;
                    continue;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(FrameError::Inflate),
                Ok(Status::Ok | Status::BufError) => {}
            }
            if self.block.len() > HEADER_BLOCK_BYTES_MAX {
                return Err(FrameError::HeaderBlockTooLong);
            }
            if compressed.is_empty() {
                break;
            }
            if consumed == 0 {
                return Err(FrameError::Inflate);
            }
        }
        Headers::parse(&self.block)
    }
}

impl<'a> Headers<'a> {
    /// `count (u32), count × (length (u32), name, length (u32), value)`, big-endian, nothing after it.
    fn parse(block: &'a [u8]) -> Result<Self, FrameError> {
        let (count, mut rest) = take_u32(block).ok_or(FrameError::Headers)?;
        if count > HEADERS_MAX as u32 {
            return Err(FrameError::Headers);
        }
        for at in 0..count as usize {
            let (name, after) = take_text(rest).ok_or(FrameError::Headers)?;
            let (_, after) = take_text(after).ok_or(FrameError::Headers)?;
            let is_token = |c: &u8| c.is_ascii_graphic() && !c.is_ascii_uppercase();
            let is_repeated = Pairs { rest: &block[4..] }
                .take(at)
                .any(|(earlier, _)| earlier == name);
            if name.is_empty() || !name.iter().all(is_token) || is_repeated {
                return Err(FrameError::Headers);
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(FrameError::Headers);
        }
        Ok(Self { block })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        Pairs {
            rest: self.block.get(4..).unwrap_or_default(),
        }
    }

    /// The value of a header, which must be text of one line: several values (joined by NUL) are read in two ways.
    pub fn get(&self, name: &str) -> Result<Option<&'a str>, FrameError> {
        let Some((_, value)) = self.iter().find(|(n, _)| *n == name.as_bytes()) else {
            return Ok(None);
        };
        match std::str::from_utf8(value) {
            Ok(text) if !text.contains(char::is_control) => Ok(Some(text)),
            _ => Err(FrameError::Headers),
        }
    }
}

/// Pairs of a block, without its count.
struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, after) = take_text(self.rest)?;
        let (value, after) = take_text(after)?;
        self.rest = after;
        Some((name, value))
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes
        .split_first_chunk()
        .map(|(first, rest)| (u32::from_be_bytes(*first), rest))
}

fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_u32(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}
