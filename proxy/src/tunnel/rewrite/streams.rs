//! Output in SPDY streams.

use super::Outputs;

/// Word and length of a SPDY frame.
const SPDY_HEAD_BYTES: usize = 8;

/// The most of a SPDY data frame that is written at once: what fits its length, by far.
const SPDY_DATA_BYTES_MAX: usize = 1 << 20;

const FLAG_FIN: u8 = 1;

/// SPDY control frames after which a stream, or all of them, are over.
const RST_STREAM: u8 = 3;
const GO_AWAY: u8 = 7;

/// The SPDY frame that is being read.
#[derive(Debug, Default)]
pub(super) struct Streams {
    head: Vec<u8>,
    /// Payload that has not come.
    left: usize,
    /// Payload of a control frame.
    control: Vec<u8>,
}

impl Streams {
    /// How many bytes it keeps of what it took.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn kept(&self) -> usize {
        self.head.len() + self.control.len()
    }

    /// Takes the next bytes of the server.
    pub(super) fn take(&mut self, mut bytes: &[u8], outputs: &mut Outputs, out: &mut Vec<u8>) {
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

/// Data frames of a SPDY stream, if there is data.
pub(super) fn write_data(stream: u32, flags: u8, text: &[u8], out: &mut Vec<u8>) {
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
