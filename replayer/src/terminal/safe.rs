//! What a recorded terminal may tell the terminal of whoever watches: text, colours, and the moves of a cursor.
//!
//! What ran was somebody else's, and it knew that it was recorded. Left out is whatever makes a terminal answer as if
//! its owner typed, reach outside its window, or stay changed afterwards: reports and queries, window operations, titles,
//! clipboard and other operating system commands, device control strings, printing, mouse and paste modes, and the
//! 8-bit forms of all these. Sources: ECMA-48; xterm's "Control Sequences".

/// The longest sequence that is passed on. Colours of both layers with all attributes take half of it.
const SEQUENCE_BYTES_MAX: usize = 64;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Filters what is fed piece by piece; what comes out does not depend on where the pieces are cut.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// The sequence so far.
    sequence: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After `ESC`.
    Escape,
    /// After `ESC` and an intermediate byte, such as the choice of a character set.
    Intermediate,
    /// In a control sequence.
    Control,
    /// In a string that ends with `ST`, which may follow `ESC`.
    String,
    StringEscape,
    /// After the first byte of a two-byte character that may be an 8-bit control.
    Latin,
}

impl Filter {
    /// Appends to `out` what may be shown of the next bytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            self.byte(byte, out);
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = match (self.state, byte) {
            (State::String, BELL) | (State::StringEscape, b'\\') => State::Text,
            (State::String | State::StringEscape, ESCAPE) => State::StringEscape,
            (State::String | State::StringEscape, _) => State::String,
            (
                State::Text | State::Latin | State::Escape | State::Intermediate | State::Control,
                ESCAPE,
            ) => {
                self.sequence.clear();
                State::Escape
            }
            (State::Text, 0xc2) => State::Latin,
            (State::Latin, 0x80..=0x9f) => eight_bit(byte),
            (State::Latin, _) => {
                out.push(0xc2);
                self.state = State::Text;
                return self.byte(byte, out);
            }
            (State::Text, _) => {
                if is_harmless(byte) {
                    out.push(byte);
                }
                State::Text
            }
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            (State::Escape, 0x20..=0x2f) => {
                self.sequence.push(byte);
                State::Intermediate
            }
            (State::Escape, _) => {
                if matches!(byte, b'7' | b'8' | b'D' | b'E' | b'H' | b'M' | b'=' | b'>') {
                    out.extend_from_slice(&[ESCAPE, byte]);
                }
                State::Text
            }
            (State::Intermediate, 0x20..=0x2f) => State::Intermediate,
            (State::Intermediate, _) => {
                // Character sets, of which line drawing is one.
                if let [set @ b'('..=b'+'] = self.sequence[..] {
                    out.extend_from_slice(&[ESCAPE, set, byte]);
                }
                State::Text
            }
            (State::Control, 0x20..=0x3f) => {
                if self.sequence.len() <= SEQUENCE_BYTES_MAX {
                    self.sequence.push(byte);
                }
                State::Control
            }
            (State::Control, 0x40..=0x7e) => {
                if self.sequence.len() <= SEQUENCE_BYTES_MAX && may_pass(&self.sequence, byte) {
                    out.extend_from_slice(&[ESCAPE, b'[']);
                    out.extend_from_slice(&self.sequence);
                    out.push(byte);
                }
                State::Text
            }
            // A control character inside of a sequence: terminals differ, so nothing of it is passed on.
            (State::Control, _) => State::Control,
        };
    }
}

/// Printable, or a move that any text may make.
fn is_harmless(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || matches!(byte, BELL | 0x08 | b'\t' | b'\n' | b'\r')
}

/// What an 8-bit control begins.
fn eight_bit(byte: u8) -> State {
    match byte {
        0x9b => State::Control,
        0x90 | 0x98 | 0x9d | 0x9e | 0x9f => State::String,
        _ => State::Text,
    }
}

/// Whether a control sequence only draws.
fn may_pass(parameters: &[u8], last: u8) -> bool {
    let plain = parameters
        .iter()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
    match last {
        b'A'..=b'H'
        | b'J'..=b'M'
        | b'P'
        | b'S'
        | b'T'
        | b'X'
        | b'`'
        | b'a'
        | b'b'
        | b'd'
        | b'e'
        | b'f'
        | b'g'
        | b'm'
        | b'r'
        | b's'
        | b'u'
        | b'@'
        | b'I'
        | b'Z' => plain,
        // Modes: the cursor's keys and looks, wrapping, origin, the other screen.
        b'h' | b'l' => {
            let mode = parameters.strip_prefix(b"?");
            mode.is_some_and(|mode| {
                matches!(
                    mode,
                    b"1" | b"6" | b"7" | b"12" | b"25" | b"47" | b"1047" | b"1048" | b"1049"
                )
            }) || parameters == b"4"
        }
        _ => false,
    }
}
