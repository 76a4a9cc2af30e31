//! Output in WebSocket messages: a channel and its bytes, or a digit and their base64.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Outputs;
use crate::tunnel::channels::DecodeError;
use crate::tunnel::channels::base64_text::Base64Text;
use crate::tunnel::negotiate::Encoding;
use crate::tunnel::websocket::{Event, FRAME_BYTES_MAX, FrameError, MessageKind};

/// Channels of a command that carry output.
const OUTPUT: [u8; 2] = [1, 2];

/// First bytes of whole WebSocket frames (RFC 6455 §5.2).
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The message that is being read.
#[derive(Debug)]
pub(super) struct Message {
    encoding: Encoding,
    /// What it says that it holds.
    kind: MessageKind,
    /// As it came: a digit in base64.
    channel: Option<u8>,
    /// Of output in base64: what was not decoded.
    text: Base64Text,
    /// Of any other channel: all of it, at most [`FRAME_BYTES_MAX`].
    other: Vec<u8>,
    /// Whether anything came after the channel.
    has_data: bool,
}

impl Message {
    /// How many bytes it keeps of what it took.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn kept(&self) -> usize {
        self.other.len()
    }

    pub(super) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            kind: MessageKind::Binary,
            channel: None,
            text: Base64Text::default(),
            other: Vec::new(),
            has_data: false,
        }
    }

    /// Takes the next event of the server.
    pub(super) fn take(
        &mut self,
        event: Event<'_>,
        outputs: &mut Outputs,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        match event {
            Event::Frame { kind, .. } => self.kind = kind,
            Event::Data(bytes) => self.take_data(bytes, outputs, out)?,
            Event::MessageEnd => {
                let channel = self.channel.take();
                let payload = std::mem::take(&mut self.other);
                let is_output = channel.is_some_and(|channel| self.output(channel).is_some());
                self.text.end()?;
                // An empty message says that its channel is there.
                if !is_output || !std::mem::take(&mut self.has_data) {
                    if channel.is_some() && !payload.is_empty() {
                        self.end_outputs(outputs, out);
                    }
                    let whole: Vec<u8> = channel.into_iter().chain(payload).collect();
                    let first = match self.kind {
                        MessageKind::Text => TEXT,
                        MessageKind::Binary => BINARY,
                    };
                    write_frame(first, &whole, out);
                }
                self.has_data = false;
            }
            Event::Ping(payload) => write_frame(PING, payload, out),
            Event::Pong(payload) => write_frame(PONG, payload, out),
            Event::Close { code, reason } => {
                self.end_outputs(outputs, out);
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
        if let Some(id) = self.output(channel) {
            let mut text = Vec::new();
            match self.encoding {
                Encoding::Binary => text = outputs.push(id, bytes),
                Encoding::Base64 => self.text.push(bytes, &mut |bytes| {
                    text.extend(outputs.push(id, bytes));
                    Ok(())
                })?,
            }
            self.write_output(id, &text, out);
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

    /// Which output a channel is.
    fn output(&self, channel: u8) -> Option<u32> {
        let number = match self.encoding {
            Encoding::Binary => channel,
            Encoding::Base64 => channel.wrapping_sub(b'0'),
        };
        OUTPUT.contains(&number).then(|| number.into())
    }

    /// What is left of all outputs goes before what follows them.
    fn end_outputs(&self, outputs: &mut Outputs, out: &mut Vec<u8>) {
        for (id, text) in outputs.end_all() {
            self.write_output(id, &text, out);
        }
    }

    /// A message of output, if there is any.
    pub(super) fn write_output(&self, id: u32, text: &[u8], out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let number = u8::try_from(id).unwrap_or_default();
        let mut payload = Vec::with_capacity(1 + text.len());
        match self.encoding {
            Encoding::Binary => {
                payload.push(number);
                payload.extend_from_slice(text);
                write_frame(BINARY, &payload, out);
            }
            Encoding::Base64 => {
                payload.push(b'0' + number);
                payload.extend_from_slice(BASE64_STANDARD.encode(text).as_bytes());
                write_frame(TEXT, &payload, out);
            }
        }
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
