//! The commit: one create-only put, and what to do when its answer is not clear.
//!
//! **A successful put of the session file's name is the commit.** [`Commit`] decides the next step from the answers so
//! far; it is pure, and the tests drive this very code through every order of rivals, lost answers, late landings and
//! crashes.
//!
//! ```text
//! put ── created ──────────────────────────────▶ committed
//!  │ ╲── refused ──▶ put again, after a while
//!  ╰── exists, unknown ──▶ head ── my hash ────▶ committed
//!                           │ ╲─── other hash ─▶ lost: a rival's file is the truth; go on after it
//!                           │ ╲─── none ───────▶ put again: the same bytes, so a late landing does no harm
//!                           ╰───── no answer ──▶ head again, after a while
//! ```

use hoop_schema::EventHash;
use hoop_sinks::store::{Created, StoreError};

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Put the file, create-only.
    Put,
    /// Ask for the hash of what is there.
    Head,
    /// Done: the file is committed.
    Committed,
    /// Done: a rival's file is in its place.
    Lost,
}

/// The answer to a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutAnswer {
    /// This put made the object.
    Created,
    /// There is an object of this name.
    Exists,
    /// Nothing was written.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl From<&Result<Created, StoreError>> for PutAnswer {
    fn from(answer: &Result<Created, StoreError>) -> Self {
        match answer {
            Ok(Created::Created) => Self::Created,
            Ok(Created::Exists) => Self::Exists,
            Err(
                StoreError::Refused { .. }
                | StoreError::CannotLock { .. }
                | StoreError::Unfit { .. },
            ) => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }
}

/// The answer to a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadAnswer {
    /// There is an object with this hash.
    Object(EventHash),
    /// There is none.
    None,
    /// Nobody knows.
    Unknown,
}

/// One commit under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commit {
    sha256: EventHash,
    step: Step,
}

impl Commit {
    /// Begins the commit of a file with this hash.
    pub fn new(sha256: EventHash) -> Self {
        Self {
            sha256,
            step: Step::Put,
        }
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Takes the answer to [`Step::Put`].
    pub fn put_answered(&mut self, answer: PutAnswer) {
        self.step = match answer {
            PutAnswer::Created => Step::Committed,
            PutAnswer::Refused => Step::Put,
            PutAnswer::Exists | PutAnswer::Unknown => Step::Head,
        };
    }

    /// Takes the answer to [`Step::Head`].
    pub fn head_answered(&mut self, answer: HeadAnswer) {
        self.step = match answer {
            HeadAnswer::Object(sha256) if sha256 == self.sha256 => Step::Committed,
            HeadAnswer::Object(_) => Step::Lost,
            HeadAnswer::None => Step::Put,
            HeadAnswer::Unknown => Step::Head,
        };
    }
}

#[cfg(test)]
mod tests;
