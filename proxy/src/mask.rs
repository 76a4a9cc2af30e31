//! Masking: secret values are replaced while a JSON body streams through.
//!
//! One pass over the bytes, in whatever pieces they arrive. No tree is built; memory is one small frame for each open
//! container, so it does not grow with the length of a list. The body may be one JSON value or several, one after the
//! other, as a watch sends them.
//!
//! Pure: no I/O, no clock, no randomness. Not here: what to mask for whom (see [`crate::policy`]).

mod accept;
mod detect;
mod fields;
mod look;
mod machine;
mod pattern;
mod place;
mod rules;
mod scan;
mod sentinel;
mod skip;
mod string;
mod text;
mod token;
mod value;

use std::fmt;
use std::sync::Arc;

use hoop_schema::kinds::request::Masked;

pub use accept::accept_for_inspection;
pub use detect::{DETECTORS, Detector};
pub use fields::FieldPath;
pub use pattern::Pattern;
pub use rules::{Fields, LooksFor, Masking, MaskingRule, RuleView};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use scan::check_scanner;
pub use scan::{HELD_BYTES_MAX, Scanner};
pub use sentinel::{MaskedForm, SENTINEL, contains_masked_value};
pub use text::{Sought, TextRules};

use crate::request_info::RequestInfo;

/// How secret values are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MaskMode {
    /// As they are. Only ever for the client: the record is never weaker than [`MaskMode::Redact`].
    None,
    /// Replaced by [`SENTINEL`].
    #[default]
    Redact,
    /// Replaced by [`SENTINEL`] and a keyed hash of the value, so that equal secrets can be seen to be equal.
    Hmac,
    /// Replaced by [`SENTINEL`] and the last four characters, where the value is a text of at least sixteen.
    Partial,
}

/// What the request says of its response. The kind of the objects in it counts for more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MaskHint {
    /// Nothing: mask on doubt.
    #[default]
    Unknown,
    /// The resource is `secrets`, in any group.
    Secrets,
    /// The resource is `serviceaccounts/token`.
    TokenRequest,
    /// The resource is `tokenreviews`.
    TokenReview,
    /// Some other resource.
    Other,
}

/// The key of [`MaskMode::Hmac`]. Never printed.
pub struct MaskKey([u8; 32]);

/// A body that cannot be masked, so must not be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot mask the body: {what} at byte {offset}")]
pub struct MaskError {
    /// Where, counted in bytes from the beginning of the body.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// Masks one body, or one stream of watch frames, as it passes.
///
/// What is masked, in single objects, lists, Tables and watch frames alike:
/// - `data` and `stringData` of Secrets, all values at any depth except `null`; `data` stays valid base64;
/// - the annotations that hold a Secret as it was applied: its values where it is JSON, the whole where it is packed;
/// - `status.token` of a TokenRequest, `spec.token` of a TokenReview;
/// - every `value` of a JSON patch of Secrets.
///
/// An object is a Secret when its `kind` says so, or its list's, or the request; while nothing says what it is, it is
/// taken for one. What is not masked comes out byte for byte, except that escapes inside those annotations are written
/// anew. Bytes are not checked to be UTF-8.
#[derive(Debug)]
pub struct Masker {
    mode: MaskMode,
    machine: machine::Machine,
}

impl MaskMode {
    /// How the record shows what the client sees in this mode: never weaker.
    #[must_use]
    pub fn for_record(self) -> Self {
        match self {
            Self::None => Self::Redact,
            other => other,
        }
    }

    /// As policies call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Redact => "redact",
            Self::Hmac => "hmac",
            Self::Partial => "partial",
        }
    }

    /// How little it shows: a mode of greater strength shows no character that one of less does not.
    pub fn strength(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Partial => 1,
            Self::Hmac => 2,
            Self::Redact => 3,
        }
    }
}

impl MaskHint {
    /// What a request says of its bodies.
    pub fn of(info: &RequestInfo) -> Self {
        match (info.resource(), info.subresource()) {
            ("", _) => Self::Unknown,
            ("secrets", _) => Self::Secrets,
            ("serviceaccounts", "token") => Self::TokenRequest,
            ("tokenreviews", _) => Self::TokenReview,
            _ => Self::Other,
        }
    }

    /// Whether bodies of such a request must be inspected: `Accept` is rewritten and what is no JSON is refused.
    pub fn needs_inspection(self) -> bool {
        matches!(self, Self::Secrets | Self::TokenRequest | Self::TokenReview)
    }
}

impl MaskKey {
    /// From 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(****)")
    }
}

impl Drop for MaskKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl Masker {
    /// For one body. The key is used in [`MaskMode::Hmac`] only; in [`MaskMode::None`] the body is passed on unread.
    pub fn new(hint: MaskHint, mode: MaskMode, key: Arc<MaskKey>) -> Self {
        Self {
            mode,
            machine: machine::Machine::new(hint, mode, key),
        }
    }

    /// Follows a policy's masking rules as well. `resource` is the request's; it says what an object is that does not
    /// do so itself, and is empty where nothing is known.
    #[must_use]
    pub fn with_rules(mut self, rules: Option<&Arc<RuleView>>, resource: &str) -> Self {
        self.machine.looking = rules.map(|view| look::Looking::new(Arc::clone(view), resource));
        self
    }

    /// Says of which API group the request's resource is: Tables of custom resources may show in their cells what the
    /// rules mask in the objects, so all but the names are masked there.
    #[must_use]
    pub fn of_group(mut self, group: &str, resource: &str) -> Self {
        if let Some(looking) = &mut self.machine.looking {
            looking.of_group(group, resource);
        }
        self
    }

    fn passes_unread(&self) -> bool {
        self.mode == MaskMode::None && self.machine.looking.is_none()
    }

    /// Takes the next bytes of the body and appends what may be passed on to `out`. Bytes that are not masked come
    /// out at once.
    ///
    /// # Errors
    /// When the body is not JSON, or nests deeper than the limit. What was appended may be passed on, nothing else,
    /// and the masker is of no further use.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.passes_unread() {
            out.extend_from_slice(chunk);
            return Ok(());
        }
        self.machine.push(chunk, out)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When it ends in the middle of a JSON value.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.passes_unread() {
            return Ok(());
        }
        self.machine.finish(out)
    }

    /// What was masked so far.
    pub fn masked(&self) -> &Masked {
        self.machine.masked()
    }
}

#[cfg(test)]
mod tests;
