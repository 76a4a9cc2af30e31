//! Runs the executable.

use std::path::Path;
use std::process::Command;

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `hoop-replay` over the evidence in `folder`, on so many columns.
pub(crate) fn replay(folder: &Path, columns: usize, args: &[&str]) -> Said {
    let output = command(folder, columns).args(args).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The executable with a fixed environment.
pub(crate) fn command(folder: &Path, columns: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoop-replay"));
    command
        .env_clear()
        .env("COLUMNS", columns.to_string())
        .arg("--utc")
        .arg("--evidence")
        .arg(folder);
    command
}
