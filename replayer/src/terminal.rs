//! A command's stream as it was seen in a terminal: from the events of a request to something that plays.
//!
//! Pure: whoever plays it keeps the time. The forms for programs and the filter for terminals are in [`asciicast`] and
//! [`safe`].

pub mod asciicast;
pub mod safe;

use std::time::Duration;

use hoop_schema::Timestamp;
use hoop_schema::kinds::stream::Channel;

use crate::content;
use crate::timeline::Request;

/// The size of a terminal that never said its own.
const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// What a command showed, and what was typed as far as that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// When its request came.
    pub began: Timestamp,
    /// The command and its arguments; nothing for attach.
    pub argv: Vec<String>,
    /// Whether it had a terminal; else line breaks are bare.
    pub tty: bool,
    /// Columns and rows in the beginning.
    pub size: (u16, u16),
    /// What happened, in order.
    pub moments: Vec<Moment>,
    /// How it ended, if it has and said so.
    pub exit_code: Option<u8>,
}

/// One thing that happened in a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Since the request.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened in a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It showed this.
    Output(Vec<u8>),
    /// This was typed.
    Input(Vec<u8>),
    /// It has this many columns and rows now.
    Resize(u16, u16),
    /// So many bytes of its output are not in the record.
    Missing(u64),
}

impl Recording {
    /// Of a request, if it is exec or attach and anything of its stream was recorded.
    pub fn of(request: &Request) -> Option<Self> {
        let attributes = request.attributes()?;
        let subresource = &attributes.object_ref.as_ref()?.subresource;
        if !matches!(subresource.as_str(), "exec" | "attach") {
            return None;
        }
        let mut moments = output_of(request);
        if moments.is_empty() {
            return None;
        }
        moments.extend(request.resizes.iter().map(|resize| Moment {
            at: Duration::from_micros(resize.at_us),
            what: What::Resize(resize.width, resize.height),
        }));
        // The sort is stable: a size is said before what is drawn for it, and pieces keep their order.
        moments.sort_by_key(|moment| (moment.at, !matches!(moment.what, What::Resize(..))));
        let first_size = moments.iter().find_map(|moment| match moment.what {
            What::Resize(width, height) => Some((width, height)),
            _ => None,
        });
        let (_, query) = attributes.request_uri.split_once('?').unwrap_or_default();
        Some(Self {
            began: attributes.received,
            argv: attributes.argv.clone(),
            tty: query.split('&').any(|parameter| parameter == "tty=true"),
            size: first_size.unwrap_or(SIZE_DEFAULT),
            moments,
            exit_code: request.outcome.as_ref().and_then(|o| o.exit_code),
        })
    }

    /// The command as one line.
    pub fn title(&self) -> String {
        if self.argv.is_empty() {
            "attach".to_owned()
        } else {
            self.argv.join(" ")
        }
    }

    /// From the request to the last moment.
    pub fn duration(&self) -> Duration {
        self.moments.last().map_or(Duration::ZERO, |last| last.at)
    }

    /// The same without waiting longer than `idle_max` for anything.
    #[must_use = "returns the recording"]
    pub fn without_idling(mut self, idle_max: Duration) -> Self {
        let (mut last, mut cut) = (Duration::ZERO, Duration::ZERO);
        for moment in &mut self.moments {
            let waited = moment.at - last;
            last = moment.at;
            cut += waited.saturating_sub(idle_max);
            moment.at -= cut;
        }
        self
    }
}

/// What was shown and typed, with a note where some of it is missing.
fn output_of(request: &Request) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut expected = [0_u64; 3];
    for data in &request.stream {
        let at = Duration::from_micros(data.at_us);
        let (channel, is_output) = match data.channel {
            Channel::Stdin => (0, false),
            Channel::Stdout => (1, true),
            Channel::Stderr => (2, true),
            _ => continue,
        };
        let Some(bytes) = content::piece(data.encoding, &data.content) else {
            continue;
        };
        let missing = data.offset.saturating_sub(expected[channel]);
        if missing > 0 && is_output {
            let what = What::Missing(missing);
            moments.push(Moment { at, what });
        }
        expected[channel] = data.offset + bytes.len() as u64;
        let what = if is_output {
            What::Output(bytes)
        } else {
            What::Input(bytes)
        };
        moments.push(Moment { at, what });
    }
    moments
}

#[cfg(test)]
mod tests;
