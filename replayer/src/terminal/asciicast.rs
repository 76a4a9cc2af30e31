//! The recording as asciicast, version 2, for players such as asciinema's.
//!
//! Source: <https://docs.asciinema.org/manual/asciicast/v2/>: a header object on the first line, then one
//! `[seconds, code, data]` a line, with the codes `o` (output), `i` (input), `r` (resize, `80x24`) and `m` (marker).

use serde_json::json;

use super::{Recording, What};

/// Its lines. `input` says whether what was typed is in it: that may be passwords.
pub fn lines(recording: &Recording, input: bool) -> Vec<String> {
    let (width, height) = recording.size;
    let header = json!({
        "version": 2,
        "width": width,
        "height": height,
        "timestamp": recording.began.as_micros() / 1_000_000,
        "title": recording.title(),
        "env": {"TERM": "xterm-256color"},
    });
    let mut lines = vec![header.to_string()];
    let mut output = Characters::default();
    let mut typed = Characters::default();
    for moment in &recording.moments {
        let seconds = moment.at.as_secs_f64();
        let (code, data) = match &moment.what {
            What::Output(bytes) => ("o", output.take(bytes, recording.tty)),
            What::Input(bytes) if input => ("i", typed.take(bytes, true)),
            What::Input(_) => continue,
            What::Resize(width, height) => ("r", format!("{width}x{height}")),
            What::Missing(bytes) => ("m", format!("{bytes} bytes are missing")),
        };
        if !data.is_empty() {
            lines.push(json!([seconds, code, data]).to_string());
        }
    }
    lines
}

/// Text out of bytes that may be cut within a character.
#[derive(Debug, Default)]
struct Characters(Vec<u8>);

impl Characters {
    /// The text so far; bytes that are none become replacement characters.
    fn take(&mut self, bytes: &[u8], tty: bool) -> String {
        self.0.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.0.len(),
        };
        let text = String::from_utf8_lossy(&self.0[..whole]).into_owned();
        self.0.drain(..whole);
        // Without a terminal nothing has added the carriage returns that a player needs.
        if tty {
            text
        } else {
            text.replace('\n', "\r\n")
        }
    }
}
