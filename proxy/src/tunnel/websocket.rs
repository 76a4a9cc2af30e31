//! WebSocket frames (RFC 6455 §5), decoded from a copy of what one side sends.
//!
//! Promises: payloads are handed on as they come, however the bytes are cut; memory is one frame head, one control
//! frame and one unmasking buffer. What endpoints could read in two ways is an error: the server's library ignores
//! reserved bits, unknown opcodes and the top bit of a 64-bit length, and takes a continuation for a message of its own.
//! Not here: what messages mean (see [`channels`](super::channels)).

use super::Direction;

/// The longest frame. The API server gives up on longer ones, so nobody sends them.
pub const FRAME_BYTES_MAX: u64 = 32 << 20;

/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: usize = 125;

/// Masked payload is unmasked in pieces of this size: one copy that stays in the first-level cache.
const UNMASK_BYTES: usize = 16 * 1024;

/// Two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

/// What a message says that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8; not checked here.
    Text,
    /// Bytes.
    Binary,
}

/// What was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame of a message begins.
    Frame {
        /// Of the message, also on its later frames.
        kind: MessageKind,
        /// Whether the message begins with it.
        is_first: bool,
        /// How long its payload is.
        bytes: u64,
    },
    /// The next piece of its payload, unmasked, never empty.
    Data(&'a [u8]),
    /// The message is whole.
    MessageEnd,
    /// A ping with its payload.
    Ping(&'a [u8]),
    /// A pong with its payload.
    Pong(&'a [u8]),
    /// The last frame of this side.
    Close {
        /// Why, by RFC 6455 §7.4.
        code: Option<u16>,
        /// Why, in words.
        reason: &'a str,
    },
}

/// Why bytes are no WebSocket frames that both ends read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Extensions are not negotiated, so nothing gives these bits a meaning.
    #[error("a WebSocket frame has reserved bits set")]
    ReservedBits,
    /// Opcodes 3–7 and 11–15.
    #[error("a WebSocket frame has the reserved opcode {0}")]
    ReservedOpcode(u8),
    /// RFC 6455 §5.1.
    #[error("a WebSocket frame of the client is not masked")]
    NotMasked,
    /// RFC 6455 §5.1.
    #[error("a WebSocket frame of the server is masked")]
    Masked,
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a WebSocket frame says that it is {0} bytes long")]
    TooLong(u64),
    /// Longer than 125 bytes.
    #[error("a WebSocket control frame is longer than 125 bytes")]
    ControlTooLong,
    /// RFC 6455 §5.5.
    #[error("a WebSocket control frame is fragmented")]
    ControlFragmented,
    /// Nothing to continue.
    #[error("a WebSocket continuation frame continues nothing")]
    Continuation,
    /// A message begins inside another one.
    #[error("a WebSocket message begins before the one before it ended")]
    Interleaved,
    /// One byte, or a reason that is no UTF-8.
    #[error("a WebSocket close frame is malformed")]
    Close,
    /// RFC 6455 §5.5.1: nothing follows a close frame.
    #[error("bytes follow a WebSocket close frame")]
    AfterClose,
    /// The side ended inside a frame or a message.
    #[error("the connection ended inside a WebSocket message")]
    Truncated,
}

/// Decodes what one side of a WebSocket connection sends. After an error it must not be fed again.
#[derive(Debug)]
pub struct FrameDecoder {
    sender: Direction,
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    frame: Option<Frame>,
    /// The message of which more frames will come.
    message: Option<MessageKind>,
    is_closed: bool,
    control: Vec<u8>,
    unmasked: Vec<u8>,
}

/// The frame whose payload is being read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    content: Content,
    is_final: bool,
    /// Payload still to come.
    left: u64,
    /// Turned so that its first byte is for the next byte of payload.
    mask: [u8; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Message,
    Close,
    Ping,
    Pong,
}

impl FrameDecoder {
    /// For the bytes of one side, from the first one after the handshake.
    pub fn new(sender: Direction) -> Self {
        Self {
            sender,
            head: [0; HEAD_BYTES_MAX],
            head_bytes: 0,
            frame: None,
            message: None,
            is_closed: false,
            control: Vec::new(),
            unmasked: Vec::new(),
        }
    }

    /// Takes the next bytes, hands on what they complete. `emit` may refuse, which ends decoding with its error.
    pub fn push<E: From<FrameError>>(
        &mut self,
        mut bytes: &[u8],
        emit: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.is_closed {
                return Err(FrameError::AfterClose.into());
            }
            bytes = match self.frame {
                None => self.take_head(bytes, emit)?,
                Some(frame) => self.take_payload(frame, bytes, emit)?,
            };
        }
        Ok(())
    }

    /// Says whether the side could end here: not inside a frame or a message.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.head_bytes > 0 || self.frame.is_some() || self.message.is_some() {
            return Err(FrameError::Truncated);
        }
        Ok(())
    }

    fn take_head<'a, E: From<FrameError>>(
        &mut self,
        bytes: &'a [u8],
        emit: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let missing = self.head_length() - self.head_bytes;
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.head[self.head_bytes..self.head_bytes + taken.len()].copy_from_slice(taken);
        self.head_bytes += taken.len();
        if self.head_bytes == 2 {
            self.check_first_bytes()?;
        }
        if self.head_bytes < self.head_length() {
            return Ok(rest);
        }
        let frame = self.begin_frame(emit)?;
        self.head_bytes = 0;
        if frame.left == 0 {
            self.end_frame(frame, emit)?;
        } else {
            self.frame = Some(frame);
        }
        Ok(rest)
    }

    /// How long the head is, as far as its first two bytes are there to say so.
    fn head_length(&self) -> usize {
        if self.head_bytes < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.sender == Direction::FromClient {
            4
        } else {
            0
        };
        2 + length + mask
    }

    fn check_first_bytes(&self) -> Result<(), FrameError> {
        let [first, second, ..] = self.head;
        let is_final = first & 0x80 != 0;
        let opcode = first & 0x0f;
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        match (self.sender, second & 0x80 != 0) {
            (Direction::FromClient, false) => return Err(FrameError::NotMasked),
            (Direction::FromServer, true) => return Err(FrameError::Masked),
            _ => {}
        }
        match (opcode, self.message) {
            (0, None) => Err(FrameError::Continuation),
            (1 | 2, Some(_)) => Err(FrameError::Interleaved),
            (0..=2, _) => Ok(()),
            (8..=10, _) if !is_final => Err(FrameError::ControlFragmented),
            (8..=10, _) if usize::from(second & 0x7f) > CONTROL_BYTES_MAX => {
                Err(FrameError::ControlTooLong)
            }
            (8..=10, _) => Ok(()),
            _ => Err(FrameError::ReservedOpcode(opcode)),
        }
    }

    /// The head is whole.
    fn begin_frame<E: From<FrameError>>(
        &mut self,
        emit: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Frame, E> {
        let head = &self.head[..self.head_bytes];
        let (length, mask) = head[2..].split_at(match head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        });
        let left = match length {
            [] => u64::from(head[1] & 0x7f),
            length => length.iter().fold(0, |sum, b| sum << 8 | u64::from(*b)),
        };
        if left > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(left).into());
        }
        let content = match head[0] & 0x0f {
            8 => Content::Close,
            9 => Content::Ping,
            10 => Content::Pong,
            _ => Content::Message,
        };
        let frame = Frame {
            content,
            is_final: head[0] & 0x80 != 0,
            left,
            mask: mask.try_into().unwrap_or_default(),
        };
        if content == Content::Message {
            let is_first = self.message.is_none();
            let kind = match (self.message, head[0] & 0x0f) {
                (Some(kind), _) => kind,
                (None, 1) => MessageKind::Text,
                (None, _) => MessageKind::Binary,
            };
            self.message = Some(kind);
            emit(Event::Frame {
                kind,
                is_first,
                bytes: left,
            })?;
        } else {
            self.control.clear();
        }
        Ok(frame)
    }

    fn take_payload<'a, E: From<FrameError>>(
        &mut self,
        mut frame: Frame,
        bytes: &'a [u8],
        emit: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let is_masked = self.sender == Direction::FromClient;
        let mut taken =
            usize::try_from(frame.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if is_masked {
            taken = taken.min(UNMASK_BYTES);
        }
        let (masked, rest) = bytes.split_at(taken);
        let payload = if is_masked {
            unmask(masked, frame.mask, &mut self.unmasked);
            frame.mask.rotate_left(taken % 4);
            &self.unmasked
        } else {
            masked
        };
        if frame.content == Content::Message {
            emit(Event::Data(payload))?;
        } else {
            self.control.extend_from_slice(payload);
        }
        frame.left -= taken as u64;
        if frame.left == 0 {
            self.frame = None;
            self.end_frame(frame, emit)?;
        } else {
            self.frame = Some(frame);
        }
        Ok(rest)
    }

    fn end_frame<E: From<FrameError>>(
        &mut self,
        frame: Frame,
        emit: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match frame.content {
            Content::Message if frame.is_final => {
                self.message = None;
                emit(Event::MessageEnd)
            }
            Content::Message => Ok(()),
            Content::Ping => emit(Event::Ping(&self.control)),
            Content::Pong => emit(Event::Pong(&self.control)),
            Content::Close => {
                self.is_closed = true;
                self.message = None;
                let (code, reason) = match self.control.as_slice() {
                    [] => (None, ""),
                    [_] => return Err(FrameError::Close.into()),
                    [high, low, reason @ ..] => (
                        Some(u16::from_be_bytes([*high, *low])),
                        std::str::from_utf8(reason).map_err(|_| FrameError::Close)?,
                    ),
                };
                emit(Event::Close { code, reason })
            }
        }
    }
}

/// `masked` without its mask, in `unmasked`. Eight bytes at a time, which compiles to vector instructions.
fn unmask(masked: &[u8], mask: [u8; 4], unmasked: &mut Vec<u8>) {
    unmasked.clear();
    unmasked.extend_from_slice(masked);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = unmasked.chunks_exact_mut(8);
    for word in &mut words {
        let bytes: &mut [u8; 8] = word.try_into().expect("chunks are of eight bytes");
        *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
