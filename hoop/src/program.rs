//! The program from its command line to its exit code: logs, runtime, the command.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{self, Cli, Command};
use crate::config::Environment;
use crate::{exit, output};

/// Runs the program with this command line, its own name first, and the environment of this process.
pub fn run(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(command_line) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() {
                exit::ExitCode::Usage
            } else {
                exit::ExitCode::Success
            };
            // Nothing can be said when the pipe it would be said to is closed.
            drop(error.print());
            return ExitCode::from(code as u8);
        }
    };
    let environment: Environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .chain(host_name().map(|name| ("HOSTNAME".to_owned(), name)))
        .collect();
    start_logs(&cli.command, &environment);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::notice(&format!("cannot start: {error}"));
            return ExitCode::from(exit::ExitCode::Failure as u8);
        }
    };
    if let Command::Replay(args) = cli.command {
        return runtime.block_on(replay(args.arguments, &environment));
    }
    ExitCode::from(runtime.block_on(cli::run(cli, environment)) as u8)
}

/// Runs the replayer in this process, as the program `hoop-replay` does.
async fn replay(arguments: Vec<String>, environment: &Environment) -> ExitCode {
    use hoop_replayer::cli::{Cli, Surroundings};
    let arguments = std::iter::once("hoop-replay".to_owned()).chain(arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let surroundings = Surroundings {
        data: environment.get("HOOP_DATA").map(Into::into),
        user: environment.get("USER").cloned(),
        output: hoop_replayer::output::OutputEnvironment {
            no_color: environment.get("NO_COLOR").cloned(),
            columns: environment.get("COLUMNS").cloned(),
        },
        cache: hoop_replayer::evidence::cache::CacheEnvironment::of_process(),
        now: hoop_schema::Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()),
    };
    ExitCode::from(hoop_replayer::cli::run(cli, surroundings).await as u8)
}

/// Logs go to standard error: lifecycle for a server, only what is wrong for the rest. `HOOP_LOG` says otherwise, in
/// the words of `RUST_LOG`; `HOOP_LOG_FORMAT=json` makes them JSON.
fn start_logs(command: &Command, environment: &Environment) {
    let default = match command {
        Command::Up(_) | Command::Proxy(_) | Command::Recorder(_) => "info",
        _ => "error",
    };
    let wanted = environment.get("HOOP_LOG").map_or(default, String::as_str);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| {
        output::notice(
            "HOOP_LOG is no log filter, such as info or hoop_proxy=debug; logging what is usual",
        );
        EnvFilter::new(default)
    });
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    if environment
        .get("HOOP_LOG_FORMAT")
        .is_some_and(|f| f == "json")
    {
        logs.json().init();
    } else {
        logs.init();
    }
}

/// The name of this machine, where the system tells it in a file.
fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}
