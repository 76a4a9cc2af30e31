//! `hoop policy`: check a policy, ask what it would decide or would have decided, test it, and write the rights that the
//! gateway needs for it.

mod cases;
mod explain;
mod replay;
mod rights;
mod stated;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hoop_proxy::policy::Policy;

pub use self::cases::TestArgs;
pub use self::explain::ExplainArgs;
pub use self::replay::{ReplayArgs, ReplayFormat};
pub use self::rights::RightsArgs;
use crate::config::Environment;
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say everything that is wrong with a policy, and what it allows but perhaps should not
    Check(CheckArgs),
    /// Say what a policy decides about one request or many, by which rule, and what was tried before
    Explain(ExplainArgs),
    /// Say what a policy would have decided otherwise about everything on record; exit 1 if anything
    Replay(Box<ReplayArgs>),
    /// Run the tests beside a policy (NAME.test.yaml for NAME.yaml)
    Test(TestArgs),
    /// Write the roles that the gateway itself needs in the cluster for this policy
    Rbac(RightsArgs),
}

/// Arguments of `policy check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The policy
    pub file: PathBuf,
    /// Warnings are failures
    #[arg(long)]
    pub strict: bool,
}

/// Does it.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(
    command: PolicyCommand,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    match command {
        PolicyCommand::Check(args) => check(&args, printer),
        PolicyCommand::Explain(args) => explain::run(&args, printer),
        PolicyCommand::Replay(args) => replay::run(&args, environment, printer).await,
        PolicyCommand::Test(args) => cases::run(&args, printer),
        PolicyCommand::Rbac(args) => rights::run(&args, printer),
    }
}

/// Reads a policy; the error is what to tell, one mistake a line.
///
/// # Errors
/// Everything that is wrong with it, each with file and line.
pub fn load(file: &Path) -> Result<Policy, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{name}: cannot read the policy: {error}"))?;
    Policy::parse(&text).map_err(|errors| {
        let lines = errors.0.iter();
        let lines: Vec<_> = lines
            .map(|error| at(file, error.line, &error.message))
            .collect();
        lines.join("\n")
    })
}

/// A message about a line of a file.
fn at(file: &Path, line: u64, message: &str) -> String {
    let name = file.display();
    match line {
        0 => format!("{name}: {message}"),
        line => format!("{name}:{line}: {message}"),
    }
}

fn check(args: &CheckArgs, printer: &mut Printer) -> io::Result<ExitCode> {
    let policy = match load(&args.file) {
        Ok(policy) => policy,
        Err(mistakes) => {
            output::notice(&mistakes);
            return Ok(ExitCode::Usage);
        }
    };
    let lints = policy.lints();
    for lint in &lints {
        let code = lint.code.as_str();
        let text = at(&args.file, lint.line, &lint.message);
        let line = Line::styled(Look::Warn, "warning  ")
            .with(Look::Plain, format!("{text}. Meant so? accept: [{code}]"));
        printer.line(&line)?;
    }
    let text = format!(
        "{}: {} profiles, {} rules, {} warnings, revision {}",
        args.file.display(),
        policy.profiles(),
        policy.rules(),
        lints.len(),
        policy.revision()
    );
    printer.line(&Line::plain(text))?;
    Ok(if args.strict && !lints.is_empty() {
        ExitCode::Failure
    } else {
        ExitCode::Success
    })
}
