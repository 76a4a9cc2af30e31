//! Writes frames, well-formed and not.

use flate2::{Compress, Compression, FlushCompress};

use crate::tunnel::Direction;

const MASK: [u8; 4] = [0xa5, 0x00, 0xff, 0x17];

/// A frame with any first byte (FIN, reserved bits, opcode), masked as its sender must.
pub(crate) fn frame(from: Direction, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if from == Direction::FromClient {
        0x80
    } else {
        0
    };
    let mut out = vec![first];
    match payload.len() {
        short @ ..=125 => out.push(mask_bit | short as u8),
        middle @ ..=0xffff => {
            out.push(mask_bit | 126);
            out.extend((middle as u16).to_be_bytes());
        }
        long => {
            out.push(mask_bit | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    if mask_bit == 0 {
        out.extend(payload);
    } else {
        out.extend(MASK);
        out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    }
    out
}

/// A binary message in one frame.
pub(crate) fn message(from: Direction, payload: &[u8]) -> Vec<u8> {
    frame(from, 0x82, payload)
}

/// One side of a SPDY connection.
pub(crate) struct SpdyWriter(Compress);

impl SpdyWriter {
    pub(crate) fn new() -> Self {
        let mut zlib = Compress::new(Compression::best(), true);
        let dictionary = include_bytes!("../spdy/header-dictionary.bin");
        zlib.set_dictionary(dictionary).unwrap();
        Self(zlib)
    }

    /// Compresses a header block of any content.
    pub(crate) fn deflate(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() + 1024);
        self.0
            .compress_vec(block, &mut out, FlushCompress::Sync)
            .unwrap();
        out
    }

    pub(crate) fn syn_stream(&mut self, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let block = self.deflate(&header_block(headers));
        syn_stream_of(id, 0, &block)
    }

    pub(crate) fn syn_reply(&mut self, id: u32) -> Vec<u8> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend(self.deflate(&header_block(&[])));
        control(2, 0, &body)
    }
}

pub(crate) fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = (headers.len() as u32).to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.extend((text.len() as u32).to_be_bytes());
        block.extend(text.as_bytes());
    }
    block
}

/// SYN_STREAM with a block that is compressed already, or no block at all.
pub(crate) fn syn_stream_of(id: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend([0; 6]);
    body.extend(block);
    control(1, flags, &body)
}

/// A control frame of any type.
pub(crate) fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 3];
    out.extend(kind.to_be_bytes());
    out.push(flags);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend(body);
    out
}

pub(crate) fn rst_stream(id: u32) -> Vec<u8> {
    control(3, 0, &[id.to_be_bytes(), 5_u32.to_be_bytes()].concat())
}

/// A data frame.
pub(crate) fn data(id: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.push(flags);
    out.extend(&(bytes.len() as u32).to_be_bytes()[1..]);
    out.extend(bytes);
    out
}
