//! The executable as people run it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and shows what it saw"
)]

mod check;
mod demo;
mod issuer;
mod login;
mod policy;
mod policy_replay;
mod process;
mod sessions;
mod store;
mod up;
