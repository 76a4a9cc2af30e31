//! What is looked for in texts, and what stands in its place.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta;

use super::detect::{Detector, SecretPart};
use super::pattern::Pattern;
use super::scan::Scanner;
use super::value::{Form, Replacement};
use super::{MaskKey, MaskMode};

/// Patterns, each with how its matches are shown.
pub struct TextRules {
    sought: Vec<Sought>,
    /// Says of a whole text whether any of them is in it.
    any: meta::Regex,
}

/// One pattern.
#[derive(Debug, Clone)]
pub struct Sought {
    pub(super) pattern: Arc<Pattern>,
    pub(super) part: SecretPart,
    pub(super) mode: MaskMode,
}

impl Sought {
    /// A pattern whose matches are secret as a whole.
    pub fn pattern(pattern: Arc<Pattern>, mode: MaskMode) -> Self {
        Self {
            pattern,
            part: |text| Some(0..text.len()),
            mode,
        }
    }

    /// A detector.
    pub fn detector(detector: &'static Detector, mode: MaskMode) -> Self {
        Self {
            pattern: detector.pattern(),
            part: detector.part,
            mode,
        }
    }
}

impl TextRules {
    /// Of these patterns, whose modes show less than all.
    ///
    /// # Errors
    /// In words, when they are too large together.
    pub fn new(sought: Vec<Sought>) -> Result<Self, String> {
        let hirs: Vec<_> = sought.iter().map(|s| s.pattern.hir()).collect();
        let any = meta::Builder::new()
            .configure(meta::Config::new().utf8_empty(false))
            .build_many_from_hir(&hirs)
            .map_err(|_| "the patterns of a policy's rule are too large together".to_owned())?;
        Ok(Self { sought, any })
    }

    pub(super) fn sought(&self) -> &[Sought] {
        &self.sought
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.sought.is_empty()
    }

    /// Whether anything is in a whole text that is looked for.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        !self.is_empty() && self.any.is_match(text)
    }

    /// How often anything is in a whole text that is looked for.
    pub fn count_in(&self, text: &[u8]) -> usize {
        self.any.find_iter(text).count()
    }

    /// A whole text with the matches replaced, and how many those are.
    pub fn mask(self: &Arc<Self>, text: &[u8], key: &Arc<MaskKey>) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(text.len());
        let mut scanner = Scanner::new(Arc::clone(self), Arc::clone(key));
        scanner.push(text, &mut out);
        scanner.finish(&mut out);
        (out, scanner.masked())
    }
}

impl fmt::Debug for TextRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sought).finish()
    }
}

/// What stands in the place of a value.
pub(super) fn placeholder(value: &[u8], mode: MaskMode, key: &MaskKey) -> String {
    let mut replacement = Replacement::new(Form::Plain, mode, key);
    replacement.take(value);
    replacement.text()
}
