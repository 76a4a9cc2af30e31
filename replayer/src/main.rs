//! `hoop-replay`: rebuilds and proves any session from the evidence.

use std::process::ExitCode;

use clap::Parser;
use hoop_replayer::cli::{self, Cli, Surroundings};
use hoop_replayer::evidence::cache::CacheEnvironment;
use hoop_replayer::exit;
use hoop_replayer::output::OutputEnvironment;
use hoop_schema::Timestamp;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() {
                exit::ExitCode::Usage
            } else {
                exit::ExitCode::Success
            };
            // Nothing can be said when the pipe it would be said to is closed.
            drop(e.print());
            return ExitCode::from(code as u8);
        }
    };
    let surroundings = Surroundings {
        data: std::env::var_os("HOOP_DATA").map(Into::into),
        user: std::env::var("USER").ok(),
        output: OutputEnvironment {
            no_color: std::env::var("NO_COLOR").ok(),
            columns: std::env::var("COLUMNS").ok(),
        },
        cache: CacheEnvironment::of_process(),
        now: Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(cli::run(cli, surroundings)),
        Err(e) => {
            hoop_replayer::output::notice(&format!("cannot start: {e}"));
            exit::ExitCode::Io
        }
    };
    ExitCode::from(code as u8)
}
