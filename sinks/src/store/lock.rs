//! What keeps an object from being deleted: a retention term, a legal hold, or both.

use hoop_schema::Timestamp;

/// Who may end a retention term early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// Nobody but those with a permission of their own for it, which no role of ours has.
    Governance,
    /// Nobody at all, the owner of the place included. The term can only grow.
    Compliance,
}

/// A retention term of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Who may end it early.
    pub mode: LockMode,
    /// When it ends. A store may round it up to the next second.
    pub until: Timestamp,
}

/// What keeps an object from being deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Its retention term, which may be over.
    pub retention: Option<Retention>,
    /// Whether a legal hold is in force, which has no end of its own.
    pub held: bool,
}

impl Protection {
    /// Whether the object cannot be deleted at `now`.
    pub fn locks_at(&self, now: Timestamp) -> bool {
        self.held || self.retention.is_some_and(|r| r.until > now)
    }
}
