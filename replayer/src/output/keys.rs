//! Keys of whoever watches, one at a time: the terminal hands them over without a line break and does not show them.

use std::io::{IsTerminal, Read, stdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Keys that wait for the next look; more are forgotten.
const KEYS_MAX: usize = 16;

/// The terminal's keys, until this is dropped.
#[derive(Debug)]
pub struct Keys {
    pressed: Receiver<u8>,
    before: Termios,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Stop here, or go on.
    Pause,
    /// The next moment, and stop there.
    Step,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// Some seconds ahead.
    Jump,
    /// No more of it.
    Quit,
}

impl Keys {
    /// Listens, if standard input is a terminal.
    pub fn listen() -> Option<Self> {
        if !stdin().is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut after = before.clone();
        // Interrupts come as keys, so that the terminal is given back as it was.
        after
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(stdin(), OptionalActions::Flush, &after).ok()?;
        let (press, pressed) = sync_channel(KEYS_MAX);
        // It ends with the process, or when nobody listens any more: nothing else reads from there.
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(stdin().read(&mut byte), Ok(1)) {
                if press.send(byte[0]).is_err() {
                    return;
                }
            }
        });
        Some(Self { pressed, before })
    }

    /// The next key that means something, within so much time.
    pub fn next(&self, within: Duration) -> Option<Key> {
        let byte = match self.pressed.recv_timeout(within) {
            Ok(byte) => byte,
            Err(RecvTimeoutError::Timeout) => return None,
            // The terminal is gone.
            Err(RecvTimeoutError::Disconnected) => return Some(Key::Quit),
        };
        key(byte)
    }
}

/// Control and C, D, or backslash end like q does.
fn key(byte: u8) -> Option<Key> {
    match byte {
        b' ' => Some(Key::Pause),
        b'.' => Some(Key::Step),
        b'+' | b'=' => Some(Key::Faster),
        b'-' => Some(Key::Slower),
        b'>' => Some(Key::Jump),
        b'q' | 3 | 4 | 28 => Some(Key::Quit),
        _ => None,
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if tcsetattr(stdin(), OptionalActions::Flush, &self.before).is_err() {
            super::notice("the terminal could not be given back as it was; `stty sane` mends it");
        }
    }
}
