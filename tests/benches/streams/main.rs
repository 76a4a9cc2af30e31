//! What streams cost on a real node, through `hoop up` and past it, in turns: a gigabyte through `kubectl exec`, the
//! echo of a keystroke on a terminal, and the memory of a thousand watches and a hundred shells in which nobody types.
//!
//! `cargo bench --workspace --bench streams [gigabyte] [keystrokes] [idle]`; all of them if none is named. It needs what
//! the end-to-end tests with pods need: root on Linux, containerd, Go.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

mod bed;
mod gigabyte;
mod idle;
mod keystrokes;
mod process;

use anyhow::{Result, ensure};
use hoop_tests::testbed::Need;

use bed::Bed;

fn main() -> Result<()> {
    for need in [Need::Kubernetes, Need::Node] {
        let lacking = need.lacking();
        ensure!(lacking.is_none(), "{}", lacking.unwrap_or_default());
    }
    let named: Vec<String> = std::env::args().skip(1).collect();
    // cargo adds an option of its own.
    let named: Vec<_> = named.iter().filter(|name| !name.starts_with('-')).collect();
    let bed = Bed::start()?;
    for (name, measure) in [
        ("gigabyte", gigabyte::measure as fn(&Bed) -> Result<()>),
        ("keystrokes", keystrokes::measure),
        ("idle", idle::measure),
    ] {
        if named.is_empty() || named.iter().any(|wanted| *wanted == name) {
            measure(&bed)?;
        }
    }
    Ok(())
}

/// Says that a figure keeps to its target, or by how much it does not.
fn verdict(what: &str, figure: f64, keeps: bool, target: &str) {
    let verdict = if keeps { "met" } else { "MISSED" };
    println!("{what:<58} {figure:>8.2}   target {target:<8} {verdict}");
}
