//! Both sides of a command's stream, the server's written anew for the client.
//!
//! The input is a choice of protocol (one byte) and of the length of pieces (one byte, whose first bit flushes after
//! every piece), then pieces: side and length (two bytes, the first bit is the side), then the bytes.

use hoop_schema::kinds::stream::Channel;

use super::*;
use crate::mask::{HELD_BYTES_MAX, MaskMode, Pattern, SENTINEL, Sought};
use crate::tunnel::channels::{Decoder, Item};
use crate::tunnel::negotiate::Encoding;

/// What is looked for: short, so that it is found, and one with an edge, which is held back at every end.
const PATTERNS: [&str; 2] = ["secret-[a-z]{4}", r"\bk[0-9]{2,}\b"];

/// A stream as one of its ends reads it.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    /// Output by channel.
    outputs: BTreeMap<String, Vec<u8>>,
    /// Everything else by side, data of one channel together.
    others: [Vec<(String, Vec<u8>)>; 2],
    /// Output came after something had ended; what is looked for may be cut in two there.
    is_cut: bool,
    ended: bool,
}

/// See the module. Returns whether the stream ended in order.
pub(crate) fn check(input: &[u8]) -> bool {
    let [choice, size, pieces @ ..] = input else {
        return false;
    };
    let mut pieces = pieces;
    let version = (choice & 7).clamp(1, 5);
    let protocol = match choice & 8 {
        0 => Protocol::CommandMessages {
            encoding: Encoding::Binary,
            version,
        },
        _ => Protocol::CommandStreams { version },
    };
    let (size, flushed) = (usize::from(size & 0x7f).max(1), size & 0x80 != 0);
    let (rules, key) = rules();
    let mut rewriter = Rewriter::new(&protocol, &rules, &key).expect("a command has output");
    let mut server = Decoder::new(&protocol);
    let mut client = Decoder::new(&protocol);
    let (mut sent, mut seen) = (Reading::default(), Reading::default());
    let mut taken = 0;
    while let [high, low, rest @ ..] = pieces {
        let from = Direction::BOTH[usize::from(high >> 7)];
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low]));
        let (piece, rest) = rest.split_at(length.min(rest.len()));
        pieces = rest;
        for cut in piece.chunks(size) {
            if server
                .push(from, cut, |item| sent.keep(from, &item))
                .is_err()
            {
                return false;
            }
            let mut out = Vec::new();
            if from == Direction::FromClient {
                out.extend_from_slice(cut);
            } else {
                taken += cut.len();
                rewriter.push(cut, &mut out).expect("it was decoded");
                assert!(rewriter.kept() <= taken, "no more is kept than came");
                if flushed {
                    rewriter.flush(&mut out);
                    assert!(!rewriter.holds_back());
                }
            }
            let read = client.push(from, &out, |item| seen.keep(from, &item));
            read.expect("what the client gets can be read");
        }
    }
    let from = Direction::FromServer;
    if server.finish(from, |item| sent.keep(from, &item)).is_err() {
        return false;
    }
    let mut out = Vec::new();
    rewriter.finish(&mut out);
    assert!(!rewriter.holds_back());
    client
        .push(from, &out, |item| seen.keep(from, &item))
        .and_then(|()| client.finish(from, |item| seen.keep(from, &item)))
        .expect("what the client gets can be read to its end");
    compare(&sent, &seen, flushed, &rules, &key);
    true
}

fn rules() -> (Arc<TextRules>, Arc<MaskKey>) {
    let sought = PATTERNS.map(|text| {
        let pattern = Arc::new(Pattern::parse(text).expect("it is a literal"));
        Sought::pattern(pattern, MaskMode::Redact)
    });
    let rules = TextRules::new(sought.into()).expect("they are small");
    (Arc::new(rules), Arc::new(MaskKey::from_bytes([7; 32])))
}

/// The client sees what was sent, with its output masked.
fn compare(
    sent: &Reading,
    seen: &Reading,
    flushed: bool,
    rules: &Arc<TextRules>,
    key: &Arc<MaskKey>,
) {
    assert_eq!(sent.others, seen.others);
    assert!(sent.outputs.keys().eq(seen.outputs.keys()));
    for (channel, text) in &sent.outputs {
        let out = &seen.outputs[channel];
        if flushed || sent.is_cut {
            let mut rest = &text[..];
            let out = String::from_utf8_lossy(out);
            if out.contains('\u{fffd}') {
                continue;
            }
            for plain in out.split(SENTINEL) {
                let at = memchr::memmem::find(rest, plain.as_bytes());
                rest = &rest[at.expect("it was sent") + plain.len()..];
            }
        } else {
            let (masked, _) = rules.mask(text, key);
            assert_eq!(*out, masked, "{channel}");
        }
    }
}

impl Reading {
    fn keep(&mut self, from: Direction, item: &Item<'_>) {
        let Item::Data { channel, bytes, .. } = item else {
            if from == Direction::FromServer {
                self.ended = true;
            }
            self.others[from.index()].push((format!("{item:?}"), Vec::new()));
            return;
        };
        let name = format!("{channel:?}");
        if matches!(channel, Channel::Stdout | Channel::Stderr) {
            self.is_cut |= self.ended;
            self.outputs
                .entry(name)
                .or_default()
                .extend_from_slice(bytes);
            return;
        }
        if *channel == Channel::Error {
            self.ended = true;
        }
        let others = &mut self.others[from.index()];
        match others.last_mut() {
            Some((last, kept)) if *last == name => kept.extend_from_slice(bytes),
            _ => others.push((name, bytes.to_vec())),
        }
    }
}

impl Rewriter {
    /// How many bytes it keeps of what it took.
    fn kept(&self) -> usize {
        let framing = match &self.framing {
            Framing::Messages(_, message) => message.kept(),
            Framing::Streams(spdy) => spdy.kept(),
        };
        let held = self.outputs.scanners.values().map(Scanner::held);
        assert!(held.clone().all(|held| held <= 2 * HELD_BYTES_MAX));
        framing + held.sum::<usize>()
    }
}
