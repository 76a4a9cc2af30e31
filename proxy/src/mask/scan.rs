//! Masking in text that streams: logs, what commands print, long strings of an object.
//!
//! # Promises
//! - What comes out does not depend on how the text is cut, unless [`Scanner::flush`] is called.
//! - It is the text with the matches of each pattern replaced: those that a search of the whole text for that pattern
//!   would find from left to right. Where matches of two patterns overlap, the later gives up what the earlier covers.
//! - At most [`HELD_BYTES_MAX`] bytes per pattern are looked back at. A match that is longer becomes several in a row; a
//!   text of which only its end tells that it is one is replaced from that many bytes before its end on.
//! - Held back is only what may be the beginning of a match.

use std::sync::Arc;

use super::detect::SecretPart;
use super::pattern::{Pattern, State, Step};
use super::text::{TextRules, placeholder};
use super::{MaskKey, MaskMode};

#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::check as check_scanner;

/// The most that a search looks back: four times the longest private key that people use (RSA with 4096 bits).
pub const HELD_BYTES_MAX: usize = 16 * 1024;

/// The longest match for which every beginning is kept open until the match is over; looking for its beginning costs
/// this much per byte.
const EXACT_WINDOW_MAX: usize = 256;

/// Replaces secrets in one text.
#[derive(Debug)]
pub struct Scanner {
    rules: Arc<TextRules>,
    key: Arc<MaskKey>,
    /// What has not come out, after at most one byte that has.
    text: Vec<u8>,
    /// How many bytes at the beginning of `text` came out: 0 or 1.
    lead: usize,
    searches: Vec<Search>,
    /// By their beginnings, the stronger first.
    found: Vec<Found>,
    masked: u64,
    held_bytes_max: usize,
}

/// A search for one pattern. Places are indices into the text.
#[derive(Debug, Clone, Copy)]
struct Search {
    state: State,
    /// The first byte that was not looked at.
    next: usize,
    /// Where the earliest match that may still be found begins; `next` when nothing has begun.
    from: usize,
    /// Where the last match ended, while it may become longer.
    ended: Option<usize>,
    phase: Phase,
}

/// What is known of the match that a search is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has begun.
    Idle,
    /// Something has.
    Begun,
    /// The match begins at `from`; all of it is held if `is_whole`.
    Fixed { is_whole: bool },
    /// A part of the match was taken, which ended at `from`.
    GoesOn,
}

/// A match.
#[derive(Debug, Clone, Copy)]
struct Found {
    begin: usize,
    end: usize,
    mode: MaskMode,
}

impl Scanner {
    /// For one text.
    pub fn new(rules: Arc<TextRules>, key: Arc<MaskKey>) -> Self {
        let start = |pattern: &Pattern| Search {
            state: pattern.start(None),
            next: 0,
            from: 0,
            ended: None,
            phase: Phase::Idle,
        };
        let searches = rules.sought().iter().map(|s| start(&s.pattern)).collect();
        Self {
            rules,
            key,
            text: Vec::new(),
            lead: 0,
            searches,
            found: Vec::new(),
            masked: 0,
            held_bytes_max: HELD_BYTES_MAX,
        }
    }

    /// Takes the next piece and appends what may be passed on.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.text.extend_from_slice(piece);
        self.search();
        let known = self.searches.iter().map(|search| search.from).min();
        self.emit(known.unwrap_or(self.text.len()), out);
    }

    /// Passes everything on: what would be a match if the text ended here is masked, what has only begun is not,
    /// though it may be the beginning of one. What then completes it is masked.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.searches.len() {
            let pattern = &self.rules.sought()[index].pattern;
            let search = &mut self.searches[index];
            let mut at_end = search.state;
            if pattern.step_end(&mut at_end) == Step::Ended {
                search.ended = Some(search.next);
            }
            self.take_ended(index);
            let search = &mut self.searches[index];
            search.from = search.next;
        }
        self.emit(self.text.len(), out);
    }

    /// Ends the text.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.searches.len() {
            loop {
                let pattern = &self.rules.sought()[index].pattern;
                let search = &mut self.searches[index];
                if pattern.step_end(&mut search.state) == Step::Ended {
                    search.ended = Some(search.next);
                }
                let Some(end) = search.ended else {
                    search.from = search.next;
                    break;
                };
                self.take_ended(index);
                self.restart(index, end);
                self.search_one(index);
            }
        }
        self.emit(self.text.len(), out);
    }

    /// Number of bytes that are held back.
    pub fn held(&self) -> usize {
        self.text.len() - self.lead
    }

    /// Number of matches that were replaced.
    pub fn masked(&self) -> u64 {
        self.masked
    }

    fn search(&mut self) {
        for index in 0..self.searches.len() {
            self.search_one(index);
        }
    }

    fn search_one(&mut self, index: usize) {
        let rules = Arc::clone(&self.rules);
        let pattern = &*rules.sought()[index].pattern;
        let window = pattern
            .bytes_max()
            .map_or(self.held_bytes_max, |max| max.min(self.held_bytes_max));
        while self.searches[index].next < self.text.len() {
            let search = &mut self.searches[index];
            if search.phase == Phase::Idle {
                let at = pattern.skip(&self.text, search.next);
                if at > search.next {
                    search.state = pattern.start(self.text.get(at - 1).copied());
                    (search.next, search.from) = (at, at);
                    continue;
                }
            }
            let step = pattern.step(&mut search.state, self.text[search.next]);
            match step {
                Step::Idle => {
                    search.from = search.next + 1;
                    (search.ended, search.phase) = (None, Phase::Idle);
                }
                Step::Begun | Step::Ended if search.phase == Phase::Idle => {
                    search.phase = Phase::Begun;
                }
                Step::Begun | Step::Ended => {}
                Step::Over => {
                    let Some(end) = search.ended else {
                        // The pattern is bound to the beginning of the text: nothing can begin any more.
                        search.next += 1;
                        (search.from, search.phase) = (search.next, Phase::Idle);
                        continue;
                    };
                    self.take_ended(index);
                    self.restart(index, end);
                    continue;
                }
            }
            if step == Step::Ended {
                search.ended = Some(search.next);
            }
            search.next += 1;
            // At once, so that it does not matter how early the beginning was noticed.
            while self.searches[index].next - self.searches[index].from > window {
                self.overflow(index, window);
            }
        }
    }

    /// More than the window has begun.
    fn overflow(&mut self, index: usize, window: usize) {
        let Search {
            from,
            next,
            ended,
            phase,
            ..
        } = self.searches[index];
        let floor = next - window;
        let Some(end) = ended else {
            self.searches[index].from = floor;
            return;
        };
        if phase == Phase::Begun {
            let begin = self.rules.sought()[index]
                .pattern
                .begin_of(&self.text, from, end);
            let search = &mut self.searches[index];
            match begin {
                // What began before the match may still become one itself, and would go before it.
                Some(begin) if begin > floor && window <= EXACT_WINDOW_MAX => search.from = floor,
                _ => {
                    search.from = begin.unwrap_or(from);
                    search.phase = Phase::Fixed {
                        is_whole: begin.is_some(),
                    };
                }
            }
        } else if end > from {
            self.take_ended(index);
        } else {
            // The match has not become longer for a whole window: it is the match.
            self.restart(index, end);
        }
    }

    /// Takes the match as far as it has come. Whatever makes it longer is another one right after it.
    fn take_ended(&mut self, index: usize) {
        let rules = Arc::clone(&self.rules);
        let sought = &rules.sought()[index];
        let search = &mut self.searches[index];
        let Some(end) = search.ended.filter(|end| *end > search.from) else {
            return;
        };
        let begin = match search.phase {
            Phase::Idle | Phase::Begun => sought.pattern.begin_of(&self.text, search.from, end),
            Phase::Fixed { is_whole } => is_whole.then_some(search.from),
            Phase::GoesOn => None,
        };
        let part = match begin {
            Some(begin) => {
                let part: SecretPart = sought.part;
                part(&self.text[begin..end]).map(|p| (begin + p.start, begin + p.end))
            }
            // It began before what is held.
            None => Some((search.from, end)),
        };
        (search.from, search.phase) = (end, Phase::GoesOn);
        let Some((begin, end)) = part.filter(|(begin, end)| begin < end) else {
            return;
        };
        let found = Found {
            begin,
            end,
            mode: sought.mode,
        };
        let order = |f: &Found| (f.begin, std::cmp::Reverse((f.mode.strength(), f.end)));
        let at = self.found.partition_point(|f| order(f) <= order(&found));
        self.found.insert(at, found);
    }

    /// Begins a new search at `at`.
    fn restart(&mut self, index: usize, at: usize) {
        let at = at.max(self.lead);
        let before = at.checked_sub(1).and_then(|i| self.text.get(i).copied());
        self.searches[index] = Search {
            state: self.rules.sought()[index].pattern.start(before),
            next: at,
            from: at,
            ended: None,
            phase: Phase::Idle,
        };
    }

    /// Passes on what lies before `known`, up to which all matches are known.
    fn emit(&mut self, known: usize, out: &mut Vec<u8>) {
        let mut at = self.lead;
        let mut done = 0;
        while let Some(found) = self.found.get(done).copied() {
            if found.end > known {
                break;
            }
            done += 1;
            let begin = found.begin.max(at);
            if begin >= found.end {
                continue;
            }
            out.extend_from_slice(&self.text[at..begin]);
            // What another match covers as well is not shown in part.
            let is_covered = self.found[done..]
                .iter()
                .any(|other| other.begin < found.end);
            let mode = match found.mode {
                MaskMode::Partial if is_covered || begin > found.begin => MaskMode::Redact,
                mode => mode,
            };
            let value = &self.text[begin..found.end];
            out.extend_from_slice(placeholder(value, mode, &self.key).as_bytes());
            self.masked += 1;
            at = found.end;
        }
        self.found.drain(..done);
        let until = self.found.first().map_or(known, |f| f.begin.min(known));
        if until > at {
            out.extend_from_slice(&self.text[at..until]);
            at = until;
        }
        self.forget(at);
    }

    /// Drops what came out, but for one byte, which patterns may look back at.
    fn forget(&mut self, at: usize) {
        let gone = at.saturating_sub(1);
        self.lead = at - gone;
        if gone == 0 {
            return;
        }
        self.text.drain(..gone);
        for search in &mut self.searches {
            search.next -= gone;
            search.from -= gone;
            // What ended may have come out, when everything was passed on.
            search.ended = search.ended.map(|end| end.saturating_sub(gone));
        }
        for found in &mut self.found {
            found.begin = found.begin.saturating_sub(gone);
            found.end -= gone;
        }
    }
}

#[cfg(test)]
mod tests;
