//! What the client sees of a command's output where masking rules hold for it: the server's frames, written anew with
//! secrets replaced.
//!
//! # Promises
//! - Every frame that comes out is whole. Frames that carry no output come out as they were, and after the output that
//!   came before them.
//! - Output comes out as it comes, but for what may be the beginning of a secret; who holds a [`Rewriter`] flushes that
//!   in time.
//!
//! Feed it what the [`Decoder`](super::channels::Decoder) has taken without an error: what that refuses is not looked
//! for here again. Frame sizes change, and so does what SPDY counts for flow control; `moby/spdystream`, which is at both
//! ends, counts nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Direction;
use super::channels::DecodeError;
use super::negotiate::{Encoding, Protocol};
use super::websocket::{Event, FRAME_BYTES_MAX, FrameDecoder, FrameError};
use crate::mask::{MaskKey, Scanner, TextRules};

/// Channels of a command that carry output.
const OUTPUT: [u8; 2] = [1, 2];

/// First bytes of whole WebSocket frames (RFC 6455 §5.2).
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Word and length of a SPDY frame.
const SPDY_HEAD_BYTES: usize = 8;

/// The most of a SPDY data frame that is written at once: what fits its length, by far.
const SPDY_DATA_BYTES_MAX: usize = 1 << 20;

const FLAG_FIN: u8 = 1;

/// SPDY control frames after which a stream, or all of them, are over.
const RST_STREAM: u8 = 3;
const GO_AWAY: u8 = 7;

/// Writes the server's side of a command's stream anew.
#[derive(Debug)]
pub(crate) struct Rewriter {
    framing: Framing,
    outputs: Outputs,
}

#[derive(Debug)]
enum Framing {
    /// WebSocket messages: a channel and its bytes.
    Messages(FrameDecoder, Message),
    /// SPDY frames.
    Streams(Spdy),
}

/// The message that is being read.
#[derive(Debug, Default)]
struct Message {
    channel: Option<u8>,
    /// Of any other channel: all of it, at most [`FRAME_BYTES_MAX`].
    other: Vec<u8>,
    /// Whether anything came after the channel.
    has_data: bool,
}

/// The SPDY frame that is being read.
#[derive(Debug, Default)]
struct Spdy {
    head: Vec<u8>,
    /// Payload that has not come.
    left: usize,
    /// Payload of a control frame.
    control: Vec<u8>,
}

/// The texts of a stream, by channel or SPDY stream.
#[derive(Debug)]
struct Outputs {
    rules: Arc<TextRules>,
    key: Arc<MaskKey>,
    scanners: BTreeMap<u32, Scanner>,
}

impl Rewriter {
    /// For a command of this protocol; nothing for what is not written anew.
    pub(crate) fn new(
        protocol: &Protocol,
        rules: &Arc<TextRules>,
        key: &Arc<MaskKey>,
    ) -> Option<Self> {
        let framing = match protocol {
            Protocol::CommandMessages {
                encoding: Encoding::Binary,
                ..
            } => {
                let decoder = FrameDecoder::new(Direction::FromServer);
                Framing::Messages(decoder, Message::default())
            }
            Protocol::CommandStreams { .. } => Framing::Streams(Spdy::default()),
            _ => return None,
        };
        let outputs = Outputs {
            rules: Arc::clone(rules),
            key: Arc::clone(key),
            scanners: BTreeMap::new(),
        };
        Some(Self { framing, outputs })
    }

    /// Takes the next bytes of the server and appends what the client gets.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let outputs = &mut self.outputs;
        match &mut self.framing {
            Framing::Messages(decoder, message) => {
                decoder.push(bytes, &mut |event| message.take(event, outputs, out))
            }
            Framing::Streams(spdy) => {
                spdy.take(bytes, outputs, out);
                Ok(())
            }
        }
    }

    /// Whether output is held back.
    pub(super) fn holds_back(&self) -> bool {
        self.outputs.scanners.values().any(|s| s.held() > 0)
    }

    /// Passes on what is held back.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        for (id, text) in self.outputs.each(Scanner::flush) {
            self.framing.write(id, &text, out);
        }
    }

    /// The server is done.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        for (id, text) in self.outputs.each(Scanner::finish) {
            self.framing.write(id, &text, out);
        }
    }
}

impl Framing {
    fn write(&self, id: u32, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Messages(..) => write_output(id, text, out),
            Self::Streams(_) => write_data(id, 0, text, out),
        }
    }
}

impl Outputs {
    fn push(&mut self, id: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let scanner = self
            .scanners
            .entry(id)
            .or_insert_with(|| Scanner::new(Arc::clone(&self.rules), Arc::clone(&self.key)));
        scanner.push(bytes, &mut out);
        out
    }

    /// What is left of one of them, which is over.
    fn end(&mut self, id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(mut scanner) = self.scanners.remove(&id) {
            scanner.finish(&mut out);
        }
        out
    }

    /// What `give` makes each of them hand out.
    fn each(&mut self, give: impl Fn(&mut Scanner, &mut Vec<u8>)) -> Vec<(u32, Vec<u8>)> {
        let give = |(id, scanner): (&u32, &mut Scanner)| {
            let mut out = Vec::new();
            give(scanner, &mut out);
            (*id, out)
        };
        self.scanners.iter_mut().map(give).collect()
    }

    /// Ends all of them.
    fn end_all(&mut self) -> Vec<(u32, Vec<u8>)> {
        let rest = self.each(Scanner::finish);
        self.scanners.clear();
        rest
    }
}

impl Message {
    fn take(
        &mut self,
        event: Event<'_>,
        outputs: &mut Outputs,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        match event {
            Event::Frame { .. } => {}
            Event::Data(bytes) => self.take_data(bytes, outputs, out)?,
            Event::MessageEnd => {
                let channel = self.channel.take();
                let payload = std::mem::take(&mut self.other);
                let is_output = channel.is_some_and(|channel| OUTPUT.contains(&channel));
                // An empty message says that its channel is there.
                if !is_output || !std::mem::take(&mut self.has_data) {
                    if channel.is_some() && !payload.is_empty() {
                        end_outputs(outputs, out);
                    }
                    let whole: Vec<u8> = channel.into_iter().chain(payload).collect();
                    write_frame(BINARY, &whole, out);
                }
                self.has_data = false;
            }
            Event::Ping(payload) => write_frame(PING, payload, out),
            Event::Pong(payload) => write_frame(PONG, payload, out),
            Event::Close { code, reason } => {
                end_outputs(outputs, out);
                let code = code.map(u16::to_be_bytes);
                let mut payload = code.map(Vec::from).unwrap_or_default();
                payload.extend_from_slice(reason.as_bytes());
                write_frame(CLOSE, &payload, out);
            }
        }
        Ok(())
    }

    fn take_data(
        &mut self,
        mut bytes: &[u8],
        outputs: &mut Outputs,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let channel = match (self.channel, bytes.split_first()) {
            (Some(channel), _) => channel,
            (None, Some((first, rest))) => {
                self.channel = Some(*first);
                bytes = rest;
                *first
            }
            (None, None) => return Ok(()),
        };
        if bytes.is_empty() {
            return Ok(());
        }
        self.has_data = true;
        if OUTPUT.contains(&channel) {
            let text = outputs.push(channel.into(), bytes);
            write_output(channel.into(), &text, out);
        } else {
            // A message may come in any number of frames, and this is kept until its end.
            let length = (self.other.len() + bytes.len()) as u64;
            if length > FRAME_BYTES_MAX {
                return Err(FrameError::TooLong(length).into());
            }
            self.other.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl Spdy {
    fn take(&mut self, mut bytes: &[u8], outputs: &mut Outputs, out: &mut Vec<u8>) {
        while !bytes.is_empty() || self.is_whole() {
            if self.head.len() < SPDY_HEAD_BYTES {
                let missing = SPDY_HEAD_BYTES - self.head.len();
                let (head, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                if let [.., high, middle, low] = self.head[..]
                    && self.head.len() == SPDY_HEAD_BYTES
                {
                    let length = u32::from_be_bytes([0, high, middle, low]);
                    self.left = usize::try_from(length).unwrap_or(usize::MAX);
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            self.left -= payload.len();
            match self.stream() {
                None => self.control.extend_from_slice(payload),
                Some(stream) => {
                    let text = outputs.push(stream, payload);
                    write_data(stream, 0, &text, out);
                }
            }
            if self.left == 0 {
                self.end_frame(outputs, out);
            }
        }
    }

    /// Whether the head is whole and nothing follows it.
    fn is_whole(&self) -> bool {
        self.head.len() == SPDY_HEAD_BYTES && self.left == 0
    }

    /// The stream of a data frame.
    fn stream(&self) -> Option<u32> {
        let word = self
            .head
            .first_chunk()
            .map(|word| u32::from_be_bytes(*word));
        word.filter(|word| word >> 31 == 0)
    }

    fn end_frame(&mut self, outputs: &mut Outputs, out: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.head);
        let flags = head.get(4).copied().unwrap_or_default();
        let word = head.first_chunk().map(|word| u32::from_be_bytes(*word));
        let Some(stream) = word.filter(|word| word >> 31 == 0) else {
            let kind = head.get(3).copied().unwrap_or_default();
            if matches!(kind, RST_STREAM | GO_AWAY) {
                for (stream, text) in outputs.end_all() {
                    write_data(stream, 0, &text, out);
                }
            }
            out.extend_from_slice(&head);
            out.append(&mut self.control);
            return;
        };
        if flags & FLAG_FIN != 0 {
            let text = outputs.end(stream);
            write_data(stream, 0, &text, out);
            write_data_frame(stream, FLAG_FIN, &[], out);
        }
    }
}

/// What is left of all outputs goes before what follows them.
fn end_outputs(outputs: &mut Outputs, out: &mut Vec<u8>) {
    for (channel, text) in outputs.end_all() {
        write_output(channel, &text, out);
    }
}

/// A message of output, if there is any.
fn write_output(channel: u32, text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() {
        let channel = u8::try_from(channel).unwrap_or_default();
        let payload: Vec<u8> = std::iter::once(channel)
            .chain(text.iter().copied())
            .collect();
        write_frame(BINARY, &payload, out);
    }
}

/// A whole frame; those of servers are not masked (RFC 6455 §5.1).
fn write_frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => out.push(short),
        (_, Ok(middle)) => {
            out.push(126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Data frames of a SPDY stream, if there is data.
fn write_data(stream: u32, flags: u8, text: &[u8], out: &mut Vec<u8>) {
    for piece in text.chunks(SPDY_DATA_BYTES_MAX) {
        write_data_frame(stream, flags, piece, out);
    }
}

fn write_data_frame(stream: u32, flags: u8, piece: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&stream.to_be_bytes());
    out.push(flags);
    let length = u32::try_from(piece.len()).expect("a piece is at most a mebibyte");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(piece);
}

#[cfg(test)]
mod tests;
