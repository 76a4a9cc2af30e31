//! The executable as people run it.

#[path = "it/check.rs"]
mod check;
#[path = "it/demo.rs"]
mod demo;
#[path = "it/process.rs"]
mod process;
#[path = "it/up.rs"]
mod up;
