//! The executable as people run it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod check;
mod demo;
mod process;
mod up;
