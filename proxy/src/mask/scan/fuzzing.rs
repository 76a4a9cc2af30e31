//! Any text under any patterns, in any pieces.
//!
//! The input is a choice, the length of the pieces, and a window (three bytes), then a text. The lower two bits of the
//! choice say what is looked for: what all detectors know, a few patterns that overlap, a pattern that is the first
//! line of the text, or that and a few others. `0x04` looks back no further than the window, `0x08` flushes after every
//! piece. The upper three bits say how often the text is repeated.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use regex_automata::meta;

use super::super::detect::{DETECTORS, Detector};
use super::super::sentinel::SENTINEL;
use super::super::text::Sought;
use super::*;

/// The longest pattern of an input; longer ones take their time, which says nothing.
const PATTERN_BYTES_MAX: usize = 40;

/// Patterns that are kept ready.
const KEPT_MAX: usize = 200;

/// Bounded and not, with words' edges, with alternatives of which the first wins, overlapping.
const PATTERNS: [&str; 7] = [
    r"\bab{2,}\b",
    r"a[a-c]{3}",
    r"abc|a",
    r"c.*a",
    r"(?:ab)+c?",
    r"(?m)^key: \S+$",
    r"(?i)pass(?:word)?=[^;\s]{4,}",
];

/// What is looked for, with a search of whole texts for each.
#[derive(Clone)]
struct Looking {
    rules: Arc<TextRules>,
    models: Arc<[(meta::Regex, SecretPart)]>,
}

/// What was looked for before, by choice and pattern.
type Kept = HashMap<(u8, Vec<u8>), Option<Looking>>;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// See the module. Returns whether anything was looked for.
pub(crate) fn check(input: &[u8]) -> bool {
    let [choice, size, window, text @ ..] = input else {
        return false;
    };
    let (pattern, text) = match choice & 2 {
        0 => (&[][..], text),
        _ => {
            let mut parts = text.splitn(2, |byte| *byte == b'\n');
            (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            )
        }
    };
    let Some(looking) = kept(choice & 3, pattern) else {
        return false;
    };
    let text = text.repeat(1 << (choice >> 5));
    let size = usize::from(*size).max(1);
    let window = match choice & 4 {
        0 => HELD_BYTES_MAX,
        _ => usize::from(*window).max(1),
    };
    let whole = looking.scan(&text, usize::MAX, window, false);
    nothing_is_lost(&text, &whole);
    for size in [1, size] {
        assert!(
            looking.scan(&text, size, window, false) == whole,
            "in pieces of {size}"
        );
    }
    if window == HELD_BYTES_MAX && text.len() <= HELD_BYTES_MAX {
        assert!(
            whole == looking.model(&text),
            "{:?}",
            String::from_utf8_lossy(&whole)
        );
        let (masked, _) = looking.rules.mask(&text, &key());
        assert!(masked == whole);
    }
    if choice & 8 != 0 {
        nothing_is_lost(&text, &looking.scan(&text, size, window, true));
    }
    true
}

fn key() -> Arc<MaskKey> {
    Arc::new(MaskKey::from_bytes([7; 32]))
}

/// What these bits of the choice look for; nothing when the pattern is none.
fn kept(choice: u8, pattern: &[u8]) -> Option<Looking> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return None;
    }
    KEPT.with_borrow_mut(|kept| {
        if kept.len() == KEPT_MAX {
            kept.clear();
        }
        let entry = kept.entry((choice, pattern.to_vec()));
        entry
            .or_insert_with(|| Looking::new(choice, pattern))
            .clone()
    })
}

/// What is not masked comes out once, in its order.
fn nothing_is_lost(text: &[u8], out: &[u8]) {
    let mut rest = text;
    let mut plain = out;
    loop {
        let end = memchr::memmem::find(plain, SENTINEL.as_bytes());
        let part = &plain[..end.unwrap_or(plain.len())];
        let at = memchr::memmem::find(rest, part).expect("it is of the text");
        rest = &rest[at + part.len()..];
        match end {
            Some(end) => plain = &plain[end + SENTINEL.len()..],
            None => return,
        }
    }
}

impl Looking {
    fn new(choice: u8, pattern: &[u8]) -> Option<Self> {
        let of = |text: &str| {
            let pattern = Arc::new(Pattern::parse(text).ok()?);
            Some(Sought::pattern(pattern, MaskMode::Redact))
        };
        let detector = |detector: &'static Detector| Sought::detector(detector, MaskMode::Redact);
        let mut sought: Vec<Sought> = match choice {
            0 => DETECTORS.iter().map(detector).collect(),
            2 => Vec::new(),
            _ => PATTERNS.iter().copied().filter_map(of).collect(),
        };
        if choice & 2 != 0 {
            sought.push(of(std::str::from_utf8(pattern).ok()?)?);
        }
        let models = sought.iter().map(|sought| {
            let config = meta::Config::new().utf8_empty(false);
            let regex = meta::Builder::new()
                .configure(config)
                .build_from_hir(sought.pattern.hir())
                .expect("the automata of the pattern are larger");
            (regex, sought.part)
        });
        Some(Self {
            models: models.collect(),
            rules: Arc::new(TextRules::new(sought).ok()?),
        })
    }

    fn scan(&self, text: &[u8], size: usize, window: usize, flushed: bool) -> Vec<u8> {
        let mut scanner = Scanner::new(Arc::clone(&self.rules), key());
        scanner.held_bytes_max = window;
        let mut out = Vec::new();
        for piece in text.chunks(size) {
            scanner.push(piece, &mut out);
            // What has begun, and a match before it that overlaps with that.
            assert!(
                scanner.held() <= 2 * (window + 1),
                "{} are held",
                scanner.held()
            );
            if flushed {
                scanner.flush(&mut out);
                assert_eq!(scanner.held(), 0);
            }
        }
        scanner.finish(&mut out);
        assert_eq!(scanner.held(), 0);
        out
    }

    /// All matches of every pattern over the whole text; later ones give way.
    fn model(&self, text: &[u8]) -> Vec<u8> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for (regex, part) in self.models.iter() {
            found.extend(regex.find_iter(text).filter_map(|found| {
                let part = part(&text[found.range()])?;
                Some(found.start() + part.start..found.start() + part.end)
            }));
        }
        found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        let (mut out, mut at) = (Vec::new(), 0);
        for Range { start, end } in found {
            let start = start.max(at);
            if start < end {
                out.extend_from_slice(&text[at..start]);
                out.extend_from_slice(SENTINEL.as_bytes());
                at = end;
            }
        }
        out.extend_from_slice(&text[at..]);
        out
    }
}
