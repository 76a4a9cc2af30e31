//! Which client can do what through the gateway: noted by the tests that see it, and held against the table in the
//! README.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// The README, where the table is between two markers.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
const BEGIN: &str = "<!-- compatibility: written by the end-to-end tests -->\n";
const END: &str = "<!-- end of compatibility -->\n";

/// What a cell says when the tests see it work.
const WORKS: &str = "✓";

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    KubectlWebSocket,
    KubectlSpdy,
    KubectlOldest,
    Helm,
    Python,
    Kube,
    Golang,
}

impl Client {
    const ALL: [(Self, &str); 7] = [
        (Self::KubectlWebSocket, "kubectl 1.36"),
        (Self::KubectlSpdy, "kubectl 1.36, SPDY"),
        (Self::KubectlOldest, "kubectl 1.27"),
        (Self::Helm, "Helm 3.22"),
        (Self::Python, "Python client 36.0"),
        (Self::Kube, "kube 5.0 (Rust)"),
        (Self::Golang, "client-go 0.36"),
    ];
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    Objects,
    Watch,
    Informer,
    Releases,
    Exec,
    ExecInput,
    Terminal,
    Attach,
    Copy,
    PortForward,
    Logs,
    Debug,
    Proxy,
}

impl Feature {
    /// What it is called, and what the record has of it beside request and decision.
    const ALL: [(Self, &str, &str); 13] = [
        (Self::Objects, "read and change objects", "bodies, masked"),
        (Self::Watch, "watch", "every frame, masked"),
        (Self::Informer, "informer", "every frame, masked"),
        (
            Self::Releases,
            "install, upgrade, roll back",
            "bodies, masked",
        ),
        (
            Self::Exec,
            "exec: output, errors, exit code",
            "output, errors, exit code",
        ),
        (Self::ExecInput, "exec: input", "input"),
        (
            Self::Terminal,
            "exec: terminal, resized",
            "input, output, sizes",
        ),
        (Self::Attach, "attach", "input, output"),
        (Self::Copy, "copy files both ways", "the files' bytes"),
        (
            Self::PortForward,
            "port-forward",
            "connections and their bytes",
        ),
        (Self::Logs, "logs, followed too", "what was read"),
        (Self::Debug, "debug containers", "input, output"),
        (Self::Proxy, "proxy to the API and to pods", "requests"),
    ];
}

static SEEN: Mutex<BTreeSet<(Feature, Client)>> = Mutex::new(BTreeSet::new());

/// Notes what a test has just seen work.
pub(crate) fn works(client: Client, features: &[Feature]) {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.extend(features.iter().map(|feature| (*feature, client)));
}

/// Holds the README's table against what was seen: all of it must be there, and if every test ran and passed, nothing
/// else. With `UPDATE_REFERENCE` set, the table is written anew; a run of only some tests takes nothing out of it.
pub(crate) fn check(everything_ran: bool) -> Result<()> {
    let text = std::fs::read_to_string(README)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("the README has lost its marker")?;
    let (listed, after) = rest
        .split_once(END)
        .context("the README has lost its marker")?;
    let mut shown = seen();
    if !everything_ran {
        shown.extend(cells(listed));
    }
    let wanted = table(&shown);
    if listed == wanted {
        return Ok(());
    }
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        let updated = format!("{before}{BEGIN}{wanted}{END}{after}");
        std::fs::write(Path::new(README), updated)?;
        return Ok(());
    }
    bail!(
        "the table of clients in the README is not what the tests saw; run the end-to-end tests with \
         UPDATE_REFERENCE=1. It should be:\n{wanted}"
    )
}

/// The cells that this run has seen work: name of the feature, name of the client.
fn seen() -> BTreeSet<(String, String)> {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cells = BTreeSet::new();
    for (feature, name, _) in Feature::ALL {
        for (client, client_name) in Client::ALL {
            if seen.contains(&(feature, client)) {
                cells.insert((name.to_owned(), client_name.to_owned()));
            }
        }
    }
    cells
}

fn table(shown: &BTreeSet<(String, String)>) -> String {
    let mut rows = Vec::new();
    let heads = Client::ALL.map(|(_, name)| name).join(" | ");
    rows.push(format!("| through the gateway | {heads} | recorded |"));
    rows.push(format!("|---|{}---|", ":-:|".repeat(Client::ALL.len())));
    for (_, name, recorded) in Feature::ALL {
        let cells = Client::ALL.map(|(_, client)| {
            let works = shown.contains(&(name.to_owned(), client.to_owned()));
            if works { WORKS } else { "" }
        });
        rows.push(format!("| {name} | {} | {recorded} |", cells.join(" | ")));
    }
    rows.join("\n") + "\n"
}

/// The cells of a table that say that something works: name of the feature, name of the client.
fn cells(table: &str) -> BTreeSet<(String, String)> {
    let mut lines = table.lines();
    let split =
        |line: &str| -> Vec<String> { line.split('|').map(|c| c.trim().to_owned()).collect() };
    let clients = lines.next().map(split).unwrap_or_default();
    let mut cells = BTreeSet::new();
    for row in lines.map(split) {
        for (cell, client) in row.iter().zip(&clients) {
            if cell == WORKS {
                cells.insert((row[1].clone(), client.clone()));
            }
        }
    }
    cells
}
