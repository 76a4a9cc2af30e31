//! `hoop policy test`: the tests in files beside policies.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use hoop_proxy::policy::cases::{CaseResult, Cases};

use super::{at, load};
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};

/// How the name of a file of tests ends.
const SUFFIX: &str = ".test.yaml";

/// Arguments of `policy test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Policies, their tests, or directories of both
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

pub(super) fn run(args: &TestArgs, printer: &mut Printer) -> io::Result<ExitCode> {
    let mut tests = Vec::new();
    for path in &args.files {
        match tests_of(path) {
            Ok(found) => tests.extend(found),
            Err(message) => {
                output::notice(&message);
                return Ok(ExitCode::Usage);
            }
        }
    }
    tests.sort();
    tests.dedup();
    let (mut passed, mut failed) = (0, 0);
    for file in &tests {
        let results = match results(file) {
            Ok(results) => results,
            Err(message) => {
                output::notice(&message);
                return Ok(ExitCode::Usage);
            }
        };
        for result in results {
            let Some(failure) = result.failure else {
                passed += 1;
                continue;
            };
            failed += 1;
            let mut what = result.request;
            if !result.name.is_empty() {
                what = format!("{}: {what}", result.name);
            }
            let text = at(file, result.line, &format!("{what}: {failure}"));
            printer.line(&Line::styled(Look::Bad, "failed  ").with(Look::Plain, text))?;
        }
    }
    let look = if failed == 0 { Look::Good } else { Look::Bad };
    let text = format!("{passed} passed, {failed} failed, in {} files", tests.len());
    printer.line(&Line::styled(look, text))?;
    Ok(if failed == 0 {
        ExitCode::Success
    } else {
        ExitCode::Failure
    })
}

/// The files of tests that a path stands for.
fn tests_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    let name = path.display();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| format!("{name}: {error}"))?;
        let tests: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_test(path))
            .collect();
        return if tests.is_empty() {
            Err(format!(
                "{name}: there is no file whose name ends in {SUFFIX}"
            ))
        } else {
            Ok(tests)
        };
    }
    let test = if is_test(path) {
        path.to_owned()
    } else {
        path.with_extension("test.yaml")
    };
    if test.exists() {
        Ok(vec![test])
    } else {
        Err(format!(
            "{name}: its tests are not there: {}",
            test.display()
        ))
    }
}

fn is_test(path: &Path) -> bool {
    path.to_str().is_some_and(|name| name.ends_with(SUFFIX))
}

fn results(file: &Path) -> Result<Vec<CaseResult>, String> {
    let policy = file.with_extension("").with_extension("yaml");
    let policy = load(&policy)?;
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{}: cannot read the tests: {error}", file.display()))?;
    let cases = Cases::parse(&text).map_err(|errors| {
        let lines = errors.0.iter();
        let lines: Vec<_> = lines.map(|e| at(file, e.line, &e.message)).collect();
        lines.join("\n")
    })?;
    Ok(cases.run(&policy))
}
