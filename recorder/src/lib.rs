//! From the event log to session files.
//!
//! The commit point is one sentence: **the create-only put of a session file, whose name any rival recorder would
//! compute too, is the commit.** Everything before it can be done again from the log, everything after it can be
//! rebuilt from the file.

pub mod config;
mod recorder;

pub use config::{Config, FlushLimits, HoleLimits};
pub use recorder::{FlushError, Handle, Recorder, RecorderError};
