//! `hoop policy`: check a policy, and ask what it would decide.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hoop_proxy::policy::Policy;
use hoop_proxy::request_info;
use hoop_schema::kinds::request::{Effect, User};

use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say everything that is wrong with a policy
    Check {
        /// The policy
        file: PathBuf,
    },
    /// Say what a policy decides about one request, and by which rule
    Explain(ExplainArgs),
}

/// Arguments of `policy explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The policy
    pub file: PathBuf,
    /// Name of the user
    #[arg(long)]
    pub user: String,
    /// Group of the user; once for each
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// HTTP method
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// Path and query, such as /api/v1/namespaces/shop/secrets
    #[arg(long)]
    pub target: String,
}

/// Does it.
///
/// # Errors
/// When the output cannot be written.
pub fn run(command: PolicyCommand, printer: &mut Printer) -> io::Result<ExitCode> {
    match command {
        PolicyCommand::Check { file } => check(&file, printer),
        PolicyCommand::Explain(args) => explain(&args, printer),
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
        let lines: Vec<_> = errors
            .0
            .iter()
            .map(|error| match error.line {
                0 => format!("{name}: {}", error.message),
                line => format!("{name}:{line}: {}", error.message),
            })
            .collect();
        lines.join("\n")
    })
}

fn check(file: &Path, printer: &mut Printer) -> io::Result<ExitCode> {
    match load(file) {
        Ok(policy) => {
            let text = format!(
                "{}: {} profiles, {} rules, revision {}",
                file.display(),
                policy.profiles(),
                policy.rules(),
                policy.revision()
            );
            printer.line(&Line::plain(text))?;
            Ok(ExitCode::Success)
        }
        Err(mistakes) => {
            output::notice(&mistakes);
            Ok(ExitCode::Usage)
        }
    }
}

fn explain(args: &ExplainArgs, printer: &mut Printer) -> io::Result<ExitCode> {
    let policy = match load(&args.file) {
        Ok(policy) => policy,
        Err(mistakes) => {
            output::notice(&mistakes);
            return Ok(ExitCode::Usage);
        }
    };
    let info = match request_info::parse(&args.method, &args.target) {
        Ok(info) => info,
        Err(malformed) => {
            let text = format!("refused before any rule: {}", malformed.reason());
            printer.line(&Line::styled(Look::Bad, text))?;
            return Ok(ExitCode::Failure);
        }
    };
    let user = User {
        username: args.user.clone(),
        groups: args.groups.clone(),
        ..User::default()
    };
    let decision = policy.decide(&user, &info).decision;
    let (look, code) = match decision.effect {
        Effect::Allow => (Look::Good, ExitCode::Success),
        Effect::Deny => (Look::Bad, ExitCode::Failure),
        Effect::Hold => (Look::Warn, ExitCode::Failure),
    };
    let why = match (&decision.profile, &decision.rule) {
        (Some(profile), Some(rule)) => format!("by rule {rule} of profile {profile}"),
        (Some(profile), None) => format!("by a rule without a name in profile {profile}"),
        _ => "since no rule matches".to_owned(),
    };
    let request = match info.is_resource {
        true => format!("{} {}", info.verb, info.resource()),
        false => format!("{} {}", info.verb, info.path),
    };
    let line = Line::styled(look, decision.effect.as_str())
        .with(Look::Plain, format!("  {request}  {why}"));
    printer.line(&line)?;
    Ok(code)
}
