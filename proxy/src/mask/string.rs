//! Inside a JSON string: finding its end, and what its escapes stand for.

/// How many bytes at the beginning of `bytes` are plain: no quote, no backslash, no control character. Eight bytes at
/// a time: the highest bit of a byte in `special` is set where the byte is special; borrows can only set it wrongly
/// above the first that is.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut at = 0;
    while let Some(step) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*step);
        let quotes = zeros(word ^ (ONES * 0x22));
        let backslashes = zeros(word ^ (ONES * 0x5C));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let special = (quotes | backslashes | controls) & HIGHS;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest
        .iter()
        .position(|byte| is_special(*byte))
        .unwrap_or(rest.len())
}

#[inline]
fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Decodes escapes, byte by byte, over any cut.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Escape {
    state: State,
    /// The first half of a surrogate pair, until its second half or anything else comes.
    high: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Plain,
    Backslash,
    Hex {
        digits: u8,
        value: u16,
    },
}

impl Escape {
    /// Whether the next byte is outside an escape.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.state, State::Plain)
    }

    /// Takes a backslash.
    pub(super) fn begin(&mut self) {
        self.state = State::Backslash;
    }

    /// Takes a byte of an escape and appends what is complete, in UTF-8. Nothing when the escape is none.
    pub(super) fn step(&mut self, byte: u8, plain: &mut Vec<u8>) -> Option<()> {
        match self.state {
            State::Plain => {}
            State::Backslash if byte == b'u' => {
                self.state = State::Hex {
                    digits: 0,
                    value: 0,
                }
            }
            State::Backslash => {
                let decoded = match byte {
                    b'"' | b'\\' | b'/' => byte,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    _ => return None,
                };
                self.flush(plain);
                plain.push(decoded);
                self.state = State::Plain;
            }
            State::Hex { digits, value } => {
                let digit = char::from(byte).to_digit(16)?;
                let value = value << 4 | u16::try_from(digit).ok()?;
                if digits == 3 {
                    self.state = State::Plain;
                    self.unit(value, plain);
                } else {
                    self.state = State::Hex {
                        digits: digits + 1,
                        value,
                    };
                }
            }
        }
        Some(())
    }

    /// Whether the first half of a surrogate pair waits for its second.
    #[inline]
    pub(super) fn has_half(&self) -> bool {
        self.high.is_some()
    }

    /// Ends a half pair that nothing can complete any more.
    #[inline]
    pub(super) fn flush(&mut self, plain: &mut Vec<u8>) {
        if self.high.take().is_some() {
            push_char(char::REPLACEMENT_CHARACTER, plain);
        }
    }

    /// Takes a UTF-16 unit. Halves without a partner become U+FFFD, as in the API server.
    fn unit(&mut self, unit: u16, plain: &mut Vec<u8>) {
        if let (Some(high), 0xDC00..=0xDFFF) = (self.high, unit) {
            self.high = None;
            let pair = char::decode_utf16([high, unit]).next().and_then(Result::ok);
            push_char(pair.unwrap_or(char::REPLACEMENT_CHARACTER), plain);
            return;
        }
        self.flush(plain);
        match unit {
            0xD800..=0xDBFF => self.high = Some(unit),
            _ => push_char(
                char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER),
                plain,
            ),
        }
    }
}

/// Appends `plain` as the inside of a JSON string.
pub(super) fn escape_into(plain: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = plain;
    while !rest.is_empty() {
        let (run, after) = rest.split_at(plain_run(rest));
        out.extend_from_slice(run);
        let Some((special, after)) = after.split_first() else {
            return;
        };
        match special {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *special]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => {
                let (high, low) = (usize::from(special >> 4), usize::from(special & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', DIGITS[high], DIGITS[low]]);
            }
        }
        rest = after;
    }
}

fn push_char(c: char, plain: &mut Vec<u8>) {
    plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
