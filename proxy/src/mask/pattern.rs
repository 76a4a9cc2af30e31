//! A regular expression in the form in which a stream is searched for it: byte by byte, without looking back.
//!
//! Patterns are about bytes: `\w`, `\d`, `\s`, `\b` are those of ASCII, `.` is any byte but a line break. Each becomes
//! two automata, one that finds where a match ends and one that walks back to where it begins, in constant time per
//! byte whatever the pattern.

use std::fmt;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::prefilter::Prefilter;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

/// The largest automaton of a pattern, in bytes: a policy of a hundred patterns stays within some hundred MiB at worst,
/// and within a few MiB with patterns as people write them.
const AUTOMATON_BYTES_MAX: usize = 2 << 20;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// A pattern, ready to be searched for.
pub struct Pattern {
    hir: Hir,
    forward: dense::DFA<Vec<u32>>,
    backward: dense::DFA<Vec<u32>>,
    prefilter: Option<Prefilter>,
    bytes_max: Option<usize>,
}

/// Where a search is in the automaton.
pub(super) type State = StateID;

/// What a byte did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing has begun that could become a match.
    Idle,
    /// Something has begun, or goes on after a match.
    Begun,
    /// A match ends before this byte; it may become longer.
    Ended,
    /// The last match that ended is the match; when none did, there will be none.
    Over,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("it is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let hir = regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .build()
            .parse(text)
            .map_err(|error| first_reason(&error))?;
        match hir.properties().minimum_len() {
            None => return Err("nothing can match it".to_owned()),
            Some(0) => return Err("it matches the empty text".to_owned()),
            Some(_) => {}
        }
        let too_large = |_| {
            "it is too large to be searched for in streams: begin it with \\b or a word that cannot come again inside it, \
             and give repetitions smaller bounds or no upper one ({8,})"
                .to_owned()
        };
        let nfa = |reverse| {
            let config = thompson::Config::new()
                .utf8(false)
                .reverse(reverse)
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
            thompson::Compiler::new()
                .configure(config)
                .build_from_hir(&hir)
                .map_err(|_| "it is too large to be searched for in streams".to_owned())
        };
        let limited = dense::Config::new()
            .accelerate(false)
            .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(AUTOMATON_BYTES_MAX));
        let forward = limited
            .clone()
            .start_kind(StartKind::Unanchored)
            .match_kind(MatchKind::LeftmostFirst)
            .specialize_start_states(true);
        let backward = limited
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All);
        let build = |config, nfa: &thompson::NFA| {
            dense::Builder::new()
                .configure(config)
                .build_from_nfa(nfa)
                .map_err(too_large)
        };
        Ok(Self {
            forward: build(forward, &nfa(false)?)?,
            backward: build(backward, &nfa(true)?)?,
            prefilter: Prefilter::from_hir_prefix(MatchKind::LeftmostFirst, &hir)
                .filter(Prefilter::is_fast),
            bytes_max: hir.properties().maximum_len(),
            hir,
        })
    }

    pub(super) fn hir(&self) -> &Hir {
        &self.hir
    }

    /// The longest text it matches, if there is one.
    pub(super) fn bytes_max(&self) -> Option<usize> {
        self.bytes_max
    }

    /// The state of a search that begins after `before`.
    pub(super) fn start(&self, before: Option<u8>) -> State {
        let config = start::Config::new()
            .anchored(Anchored::No)
            .look_behind(before);
        self.forward
            .start_state(&config)
            .expect("an unanchored search is supported, and no byte makes it give up")
    }

    /// Takes one byte.
    #[inline]
    pub(super) fn step(&self, state: &mut State, byte: u8) -> Step {
        *state = self.forward.next_state(*state, byte);
        self.meaning(*state)
    }

    /// Takes the end of the text.
    pub(super) fn step_end(&self, state: &mut State) -> Step {
        *state = self.forward.next_eoi_state(*state);
        self.meaning(*state)
    }

    #[inline]
    fn meaning(&self, state: State) -> Step {
        if !self.forward.is_special_state(state) {
            Step::Begun
        } else if self.forward.is_match_state(state) {
            Step::Ended
        } else if self.forward.is_start_state(state) {
            Step::Idle
        } else {
            Step::Over
        }
    }

    /// Where the match that ends at `end` begins, at or after `from`; nothing when it began before.
    pub(super) fn begin_of(&self, text: &[u8], from: usize, end: usize) -> Option<usize> {
        let input = Input::new(text).range(from..end).anchored(Anchored::Yes);
        let found = self.backward.try_search_rev(&input).ok().flatten();
        found.map(|half| half.offset())
    }

    /// The place from `at` on before which no match begins. The bytes after it must be stepped through.
    pub(super) fn skip(&self, text: &[u8], at: usize) -> usize {
        let Some(prefilter) = &self.prefilter else {
            return at;
        };
        let span = regex_automata::Span {
            start: at,
            end: text.len(),
        };
        match prefilter.find(text, span) {
            Some(found) => found.start,
            // The beginning of what is looked for may stand at the end.
            None => at.max(
                text.len()
                    .saturating_sub(prefilter.max_needle_len().saturating_sub(1)),
            ),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.hir)
    }
}

/// The last line of an error of the parser says what is wrong; the ones before draw the place.
fn first_reason(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it is no regular expression");
    line.trim().trim_start_matches("error: ").to_owned()
}
