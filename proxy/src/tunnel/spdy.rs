//! SPDY/3.1 frames (draft 3.1 §2), as `moby/spdystream` writes and reads them, decoded from a copy of what one side
//! sends.
//!
//! Promises: data is handed on as it comes, however the bytes are cut; memory is one control frame, one header block
//! and the zlib window. Lengths are checked exactly: the server's library reads RST_STREAM, PING and SETTINGS without
//! looking at their length, so a wrong one would put the two of us out of step.
//! Not here: which streams exist and what they mean (see [`channels`](super::channels)).

mod headers;

pub use headers::{HEADER_BLOCK_BYTES_MAX, HEADERS_MAX, Headers};

use headers::Inflater;

/// The longest control frame. One that opens a stream of Kubernetes is some 60 bytes long.
pub const CONTROL_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Word and length.
const HEAD_BYTES: usize = 8;

/// SPDY/3 and SPDY/3.1 alike.
const VERSION: u32 = 3;

const FLAG_FIN: u8 = 0x01;

/// What was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// SYN_STREAM: a stream is opened.
    SynStream {
        /// Odd from the client.
        stream_id: u32,
        /// Whether this side sends nothing on it.
        is_fin: bool,
        /// What it is for.
        headers: Headers<'a>,
    },
    /// SYN_REPLY: a stream is accepted.
    SynReply {
        /// Which.
        stream_id: u32,
        /// Whether this side sends nothing on it.
        is_fin: bool,
        /// Usually none.
        headers: Headers<'a>,
    },
    /// RST_STREAM: a stream is over in both directions.
    RstStream {
        /// Which.
        stream_id: u32,
        /// Why; 5 is the usual end.
        status: u32,
    },
    /// HEADERS: more headers of a stream.
    Headers {
        /// Which.
        stream_id: u32,
        /// Whether this side sends no more on it.
        is_fin: bool,
        /// What it adds.
        headers: Headers<'a>,
    },
    /// SETTINGS or WINDOW_UPDATE, which the endpoints ignore.
    Ignored,
    /// PING, and its answer.
    Ping {
        /// Odd when the client asked.
        id: u32,
    },
    /// GOAWAY: this side ends the connection.
    GoAway {
        /// The last stream that it took.
        last_stream_id: u32,
        /// Why; 0 is the usual end.
        status: u32,
    },
    /// A data frame begins.
    DataHead {
        /// Its stream.
        stream_id: u32,
        /// How long it is.
        bytes: u32,
    },
    /// The next piece of it, never empty.
    Data {
        /// Its stream.
        stream_id: u32,
        /// The piece.
        bytes: &'a [u8],
    },
    /// It is whole.
    DataEnd {
        /// Its stream.
        stream_id: u32,
        /// Whether this side sends no more on the stream.
        is_fin: bool,
    },
}

/// Why bytes are no SPDY frames that both ends read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Only 3 is.
    #[error("a SPDY frame has version {0}")]
    Version(u16),
    /// Types 5 and from 10 on.
    #[error("a SPDY frame has the unknown type {0}")]
    Type(u16),
    /// Flags that the type of frame does not have.
    #[error("a SPDY frame has unknown flags")]
    Flags,
    /// Not what the type of frame must have.
    #[error("a SPDY control frame has a wrong length")]
    Length,
    /// Longer than [`CONTROL_FRAME_BYTES_MAX`].
    #[error("a SPDY control frame says that it is {0} bytes long")]
    ControlTooLong(u32),
    /// Streams and pings count from 1.
    #[error("a SPDY frame names stream or ping 0")]
    ZeroId,
    /// No zlib, another dictionary, or the stream ended.
    #[error("a SPDY header block cannot be inflated")]
    Inflate,
    /// Longer than [`HEADER_BLOCK_BYTES_MAX`] when inflated.
    #[error("a SPDY header block inflates to more than 16 KiB")]
    HeaderBlockTooLong,
    /// Cut short, bytes left over, too many, repeated, not lower-case, or several values where one belongs.
    #[error("the headers of a SPDY stream are malformed")]
    Headers,
    /// The side ended inside a frame.
    #[error("the connection ended inside a SPDY frame")]
    Truncated,
}

/// Decodes what one side of a SPDY connection sends. After an error it must not be fed again.
#[derive(Debug)]
pub struct FrameDecoder {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    body: Body,
    control: Vec<u8>,
    inflater: Inflater,
}

/// What follows the head that was read.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// The next head.
    None,
    /// The rest of a control frame.
    Control { left: usize },
    /// The rest of a data frame.
    Data {
        stream_id: u32,
        left: u32,
        is_fin: bool,
    },
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// For the bytes of one side, from the first one after the handshake.
    pub fn new() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            body: Body::None,
            control: Vec::new(),
            inflater: Inflater::new(),
        }
    }

    /// Takes the next bytes, hands on what they complete. `emit` may refuse, which ends decoding with its error.
    pub fn push<E: From<FrameError>>(
        &mut self,
        mut bytes: &[u8],
        emit: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            bytes = match self.body {
                Body::None => self.take_head(bytes, emit)?,
                Body::Control { left } => {
                    let (taken, rest) = bytes.split_at(left.min(bytes.len()));
                    self.control.extend_from_slice(taken);
                    if taken.len() == left {
                        self.body = Body::None;
                        self.end_control(emit)?;
                    } else {
                        self.body = Body::Control {
                            left: left - taken.len(),
                        };
                    }
                    rest
                }
                Body::Data {
                    stream_id,
                    left,
                    is_fin,
                } => self.take_data(stream_id, left, is_fin, bytes, emit)?,
            };
        }
        Ok(())
    }

    /// Says whether the side could end here: not inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.head_bytes > 0 || !matches!(self.body, Body::None) {
            return Err(FrameError::Truncated);
        }
        Ok(())
    }

    fn take_head<'a, E: From<FrameError>>(
        &mut self,
        bytes: &'a [u8],
        emit: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let missing = HEAD_BYTES - self.head_bytes;
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.head[self.head_bytes..self.head_bytes + taken.len()].copy_from_slice(taken);
        self.head_bytes += taken.len();
        if self.head_bytes < HEAD_BYTES {
            return Ok(rest);
        }
        self.head_bytes = 0;
        let (word, flags, length) = self.head_fields();
        if word & 0x8000_0000 != 0 {
            self.begin_control(word, flags, length)?;
            return Ok(rest);
        }
        if word == 0 {
            return Err(FrameError::ZeroId.into());
        }
        if flags & !FLAG_FIN != 0 {
            return Err(FrameError::Flags.into());
        }
        let is_fin = flags & FLAG_FIN != 0;
        emit(Frame::DataHead {
            stream_id: word,
            bytes: length,
        })?;
        if length == 0 {
            emit(Frame::DataEnd {
                stream_id: word,
                is_fin,
            })?;
        } else {
            self.body = Body::Data {
                stream_id: word,
                left: length,
                is_fin,
            };
        }
        Ok(rest)
    }

    /// First word, flags and length of the head.
    fn head_fields(&self) -> (u32, u8, u32) {
        let [a, b, c, d, flags, high, middle, low] = self.head;
        (
            u32::from_be_bytes([a, b, c, d]),
            flags,
            u32::from_be_bytes([0, high, middle, low]),
        )
    }

    /// Checks version, type, flags and length of a control frame before any of it is kept.
    fn begin_control(&mut self, word: u32, flags: u8, length: u32) -> Result<(), FrameError> {
        let version = word >> 16 & 0x7fff;
        if version != VERSION {
            return Err(FrameError::Version(version as u16));
        }
        let kind = word as u16;
        let (flags_allowed, length_ok) = match kind {
            1 => (FLAG_FIN, length > 10),
            2 | 8 => (FLAG_FIN, length > 4),
            3 | 7 | 9 => (0, length == 8),
            4 => (0x01, length >= 4 && (length - 4).is_multiple_of(8)),
            6 => (0, length == 4),
            _ => return Err(FrameError::Type(kind)),
        };
        if flags & !flags_allowed != 0 {
            return Err(FrameError::Flags);
        }
        if !length_ok {
            return Err(FrameError::Length);
        }
        if length as usize > CONTROL_FRAME_BYTES_MAX {
            return Err(FrameError::ControlTooLong(length));
        }
        self.control.clear();
        self.body = Body::Control {
            left: length as usize,
        };
        Ok(())
    }

    /// The control frame is whole, and as long as its type demands.
    fn end_control<E: From<FrameError>>(
        &mut self,
        emit: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (word, flags, _) = self.head_fields();
        let is_fin = flags & FLAG_FIN != 0;
        let at = |index: usize| {
            let field = self.control.get(index..index + 4);
            field
                .and_then(|field| field.try_into().ok())
                .map_or(0, u32::from_be_bytes)
        };
        // The first bit of an id is reserved; the endpoints do not mask it off.
        let stream_id = at(0);
        let has_id = !matches!(word as u16, 4 | 7);
        if has_id && stream_id == 0 {
            return Err(FrameError::ZeroId.into());
        }
        let frame = match word as u16 {
            1 => Frame::SynStream {
                stream_id,
                is_fin,
                headers: self.inflater.inflate(&self.control[10..])?,
            },
            2 => Frame::SynReply {
                stream_id,
                is_fin,
                headers: self.inflater.inflate(&self.control[4..])?,
            },
            8 => Frame::Headers {
                stream_id,
                is_fin,
                headers: self.inflater.inflate(&self.control[4..])?,
            },
            3 => Frame::RstStream {
                stream_id,
                status: at(4),
            },
            6 => Frame::Ping { id: stream_id },
            7 => Frame::GoAway {
                last_stream_id: stream_id,
                status: at(4),
            },
            4 if at(0) as usize != (self.control.len() - 4) / 8 => {
                return Err(FrameError::Length.into());
            }
            _ => Frame::Ignored,
        };
        emit(frame)
    }

    fn take_data<'a, E: From<FrameError>>(
        &mut self,
        stream_id: u32,
        left: u32,
        is_fin: bool,
        bytes: &'a [u8],
        emit: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let (taken, rest) = bytes.split_at(bytes.len().min(left as usize));
        emit(Frame::Data {
            stream_id,
            bytes: taken,
        })?;
        // No longer than `left`, which is a u32.
        let left = left - taken.len() as u32;
        if left == 0 {
            self.body = Body::None;
            emit(Frame::DataEnd { stream_id, is_fin })?;
        } else {
            self.body = Body::Data {
                stream_id,
                left,
                is_fin,
            };
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests;
