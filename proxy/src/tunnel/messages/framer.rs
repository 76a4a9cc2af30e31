//! Messages of a server (RFC 6455 §5), written as their content comes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Form;

/// Content of a message of a log: as much as the API server puts into one.
const LOG_MESSAGE_BYTES: usize = 2048;

/// An event up to this is sent in one frame, as the API server sends it: there are clients that take a frame for a
/// message. etcd stores no larger object; the rest is room for the JSON around it. Longer ones have several frames.
const EVENT_BYTES_MAX: usize = 2 << 20;

/// The longest reason of an end: a control frame without its code.
const REASON_BYTES_MAX: usize = 125 - 2;

const FINAL: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// Cuts a stream into messages. Of a log nothing is kept back, of an event what has come, until it is whole.
#[derive(Debug)]
pub(crate) struct Framer {
    form: Form,
    /// The beginning of an event.
    event: Vec<u8>,
    /// Whether frames of that event were sent.
    is_open: bool,
}

impl Framer {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            event: Vec::new(),
            is_open: false,
        }
    }

    /// What comes before anything else: with it a client of a log knows at once that it is open.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::Events => {}
            Form::Binary => frame(FINAL | BINARY, b"", out),
            Form::Base64 => frame(FINAL | TEXT, b"", out),
        }
    }

    /// Writes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.form {
            // No line ends inside an event: JSON escapes them.
            Form::Events => {
                for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                    self.push_event(line, out);
                }
            }
            Form::Binary => {
                for piece in bytes.chunks(LOG_MESSAGE_BYTES) {
                    frame(FINAL | BINARY, piece, out);
                }
            }
            Form::Base64 => {
                for piece in bytes.chunks(LOG_MESSAGE_BYTES) {
                    let text = BASE64_STANDARD.encode(piece);
                    frame(FINAL | TEXT, text.as_bytes(), out);
                }
            }
        }
    }

    /// Writes what has come of an event, if that is the whole of it, or too long to keep.
    fn push_event(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let is_whole = piece.ends_with(b"\n");
        if is_whole && self.event.is_empty() {
            self.event_frame(is_whole, piece, out);
            return;
        }
        self.event.extend_from_slice(piece);
        if is_whole || self.event.len() >= EVENT_BYTES_MAX {
            let event = std::mem::take(&mut self.event);
            self.event_frame(is_whole, &event, out);
        }
    }

    fn event_frame(&mut self, is_last: bool, payload: &[u8], out: &mut Vec<u8>) {
        let opcode = if self.is_open { CONTINUATION } else { TEXT };
        frame(opcode | if is_last { FINAL } else { 0 }, payload, out);
        self.is_open = !is_last;
    }

    /// Ends the message that is open, with what has come of it, and the stream: code and reason say why (RFC 6455
    /// §7.4). A reason too long for its frame is cut.
    pub(crate) fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) {
        if self.is_open || !self.event.is_empty() {
            let event = std::mem::take(&mut self.event);
            self.event_frame(true, &event, out);
        }
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        frame(FINAL | CLOSE, &payload, out);
    }

    /// Answers a ping. May come between the frames of a message.
    pub(crate) fn pong(payload: &[u8], out: &mut Vec<u8>) {
        frame(FINAL | PONG, payload, out);
    }
}

fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        length @ 0..126 => out.push(u8::try_from(length).expect("less than 126")),
        length => match u16::try_from(length) {
            Ok(length) => {
                out.push(126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::super::super::Direction;
    use super::super::super::websocket::{Event, FrameDecoder, FrameError};
    use super::*;

    /// Messages as a client reads them, and the code of the end.
    fn messages(bytes: &[u8]) -> (Vec<String>, Option<u16>) {
        let (messages, _, end) = frames(bytes);
        (messages, end)
    }

    /// Messages, the number of their frames, and the code of the end.
    fn frames(bytes: &[u8]) -> (Vec<String>, usize, Option<u16>) {
        let mut frames = 0;
        let (mut messages, mut end) = (Vec::new(), None);
        let mut decoder = FrameDecoder::new(Direction::FromServer);
        decoder
            .push::<FrameError>(bytes, &mut |event| {
                match event {
                    Event::Frame { is_first, .. } => {
                        frames += 1;
                        if is_first {
                            messages.push(String::new());
                        }
                    }
                    Event::Data(data) => {
                        let last = messages.last_mut().unwrap();
                        last.push_str(std::str::from_utf8(data).unwrap());
                    }
                    Event::Close { code, .. } => end = code,
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
        decoder.finish().unwrap();
        (messages, frames, end)
    }

    #[test]
    fn an_event_is_a_message_of_one_frame_however_it_comes() {
        let events = format!("{{\"a\":1}}\n{{\"b\":\"{}\"}}\n{{}}\n", "x".repeat(70_000));
        let expected: Vec<_> = events.split_inclusive('\n').collect();
        for size in [1, 7, 125, 126, 4000, 65_536, events.len()] {
            let (mut framer, mut out) = (Framer::new(Form::Events), Vec::new());
            framer.begin(&mut out);
            for piece in events.as_bytes().chunks(size) {
                framer.push(piece, &mut out);
                Framer::pong(b"p", &mut out);
            }
            framer.close(1000, "", &mut out);
            let (messages, frames, end) = frames(&out);
            assert_eq!(messages, expected);
            assert_eq!((frames, end), (expected.len(), Some(1000)));
        }
    }

    #[test]
    fn an_event_too_long_to_keep_is_one_message_of_several_frames() {
        let event = format!("{{\"a\":\"{}\"}}\n", "x".repeat(2 * EVENT_BYTES_MAX));
        let (mut framer, mut out) = (Framer::new(Form::Events), Vec::new());
        for piece in event.as_bytes().chunks(65_536) {
            framer.push(piece, &mut out);
            assert!(framer.event.len() < EVENT_BYTES_MAX);
        }
        let (messages, frames, _) = frames(&out);
        assert!(messages == [event]);
        assert_eq!(frames, 3);
    }

    #[test]
    fn a_reason_is_cut_where_a_character_ends() {
        let (mut framer, mut out) = (Framer::new(Form::Binary), Vec::new());
        framer.close(1008, &"é".repeat(100), &mut out);
        assert_eq!(out[..4], [FINAL | CLOSE, 124, 0x03, 0xf0]);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    }

    #[test]
    fn an_event_that_breaks_off_ends_its_message() {
        let (mut framer, mut out) = (Framer::new(Form::Events), Vec::new());
        framer.push(b"{\"a\"", &mut out);
        framer.close(1011, "", &mut out);
        assert_eq!(messages(&out), (vec!["{\"a\"".to_owned()], Some(1011)));
    }

    #[test]
    fn a_log_begins_with_an_empty_message_and_has_short_ones() {
        let log = "line\n".repeat(1000);
        let (mut framer, mut out) = (Framer::new(Form::Binary), Vec::new());
        framer.begin(&mut out);
        framer.push(log.as_bytes(), &mut out);
        framer.close(1000, "", &mut out);
        let (read, _) = messages(&out);
        assert_eq!(read[0], "");
        assert!(
            read.iter()
                .all(|message| message.len() <= LOG_MESSAGE_BYTES)
        );
        assert_eq!(read.concat(), log);

        let (mut framer, mut out) = (Framer::new(Form::Base64), Vec::new());
        framer.begin(&mut out);
        framer.push(log.as_bytes(), &mut out);
        framer.close(1000, "", &mut out);
        let (read, _) = messages(&out);
        let decoded: Vec<u8> = read
            .iter()
            .flat_map(|m| BASE64_STANDARD.decode(m).unwrap())
            .collect();
        assert_eq!(decoded, log.as_bytes());
    }
}
