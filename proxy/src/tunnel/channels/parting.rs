//! The last words of a command's stream: its status, written by the gateway in the place of the server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::lane::Role;
use super::messages::Messages;
use super::streams::Streams;
use crate::tunnel::negotiate::Encoding;

/// The first version whose error channel carries a `Status` object.
const STATUS_VERSION_MIN: u8 = 4;

/// RFC 6455 §5.2: the last frame of a text or a binary message, and a close frame; those of a server are not masked.
const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;
const FINAL_CLOSE: u8 = 0x88;

/// RFC 6455 §7.4.1: the stream was ended in order.
const NORMAL_CLOSURE: u16 = 1000;

/// SPDY/3.1 §2.2.2: nothing follows on this stream.
const FLAG_FIN: u8 = 1;

impl Messages {
    /// A message on the error channel, and a close frame.
    pub(super) fn parting(&self, status: &[u8]) -> Option<Vec<u8>> {
        if self.version() < STATUS_VERSION_MIN {
            return None;
        }
        let roles = self.lanes().iter().map(|lane| lane.role());
        let channel = u8::try_from(roles.into_iter().position(|role| role == Role::Error)?).ok()?;
        let (head, payload) = match self.encoding() {
            Encoding::Binary => (FINAL_BINARY, [&[channel], status].concat()),
            Encoding::Base64 => {
                let text = STANDARD.encode(status);
                (FINAL_TEXT, [&[b'0' + channel], text.as_bytes()].concat())
            }
        };
        let mut bytes = vec![head];
        match u16::try_from(payload.len()).ok()? {
            short @ ..126 => bytes.push(u8::try_from(short).ok()?),
            long => {
                bytes.push(126);
                bytes.extend_from_slice(&long.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&[FINAL_CLOSE, 2]);
        bytes.extend_from_slice(&NORMAL_CLOSURE.to_be_bytes());
        Some(bytes)
    }
}

impl Streams {
    /// The last data of the error stream.
    pub(super) fn parting(&self, status: &[u8]) -> Option<Vec<u8>> {
        if self.version()? < STATUS_VERSION_MIN {
            return None;
        }
        let stream_id = self.stream_of(Role::Error)?;
        let length = u32::try_from(status.len()).ok().filter(|n| n >> 24 == 0)?;
        let mut bytes = stream_id.to_be_bytes().to_vec();
        bytes.push(FLAG_FIN);
        bytes.extend_from_slice(&length.to_be_bytes()[1..]);
        bytes.extend_from_slice(status);
        Some(bytes)
    }
}
