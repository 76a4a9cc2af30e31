//! What the client sees of a command's output where masking rules hold for it: the server's frames, written anew with
//! secrets replaced.
//!
//! # Promises
//! - Every frame that comes out is whole. Frames that carry no output come out as they were, and after the output that
//!   came before them.
//! - Output in base64 is searched as what it stands for, and each message that comes out is in base64 of its own.
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
use super::negotiate::Protocol;
use super::websocket::FrameDecoder;
use crate::mask::{MaskKey, Scanner, TextRules};

#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod messages;
mod streams;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::check as check_rewriter;

use messages::Message;
use streams::{Streams, write_data};

/// Writes the server's side of a command's stream anew.
#[derive(Debug)]
pub(crate) struct Rewriter {
    framing: Framing,
    outputs: Outputs,
}

#[derive(Debug)]
enum Framing {
    /// WebSocket messages: a channel and its bytes.
    Messages(FrameDecoder, Box<Message>),
    /// SPDY frames.
    Streams(Streams),
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
            Protocol::CommandMessages { encoding, .. } => {
                let decoder = FrameDecoder::new(Direction::FromServer);
                Framing::Messages(decoder, Box::new(Message::new(*encoding)))
            }
            Protocol::CommandStreams { .. } => Framing::Streams(Streams::default()),
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
            Framing::Streams(streams) => {
                streams.take(bytes, outputs, out);
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
            Self::Messages(_, message) => message.write_output(id, text, out),
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

#[cfg(test)]
mod tests;
