//! `chaos`: two gateways, three recorders, a real broker, a store behind a bad line, and everything goes wrong. Says
//! afterwards which promises were kept, and exits with 1 when one was not.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use hoop_tests::chaos::{BrokerKind, Options, PlaceKind, Progress, Report, run};
use indicatif::{ProgressBar, ProgressStyle};

/// As in the program itself, which this one is too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The argument that makes this program `hoop`: gateways and recorders are processes of their own, and this way there
/// is one program to build.
const AS_HOOP: &str = "as-hoop";

/// Lets everything go wrong at once and compares what was promised with what is there.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// For how long things go wrong; starting and comparing come on top.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The broker that holds the log.
    #[arg(long, value_enum, default_value_t = BrokerKind::Nats)]
    log: BrokerKind,
    /// Where evidence is kept.
    #[arg(long, value_enum, default_value_t = PlaceKind::S3)]
    store: PlaceKind,
    /// Decides what is left to chance; by default another one each time.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut rest = arguments.peekable();
    if rest.next_if(|first| first == AS_HOOP).is_some() {
        return hoop::program::run(std::iter::once(OsString::from("hoop")).chain(rest));
    }
    let arguments = Arguments::parse_from(std::iter::once(name).chain(rest));
    match start(&arguments) {
        Ok(report) => {
            say(&report.to_string());
            ExitCode::from(u8::from(!report.is_good()))
        }
        Err(error) => {
            say(&format!("it could not be tried: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> Result<Report> {
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0)
        .context("--minutes is a positive number")?;
    let options = Options {
        time,
        log: arguments.log,
        store: arguments.store,
        seed: arguments.seed.unwrap_or_else(seed_of_now),
        hoop: (own_program()?, vec![AS_HOOP.to_owned()]),
    };
    let bar = ProgressBar::new(time.as_secs().max(1));
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {elapsed_precise} {msg}")
            .context("the template is one")?,
    );
    let line = |text: &str| match bar.is_hidden() {
        true => say(text),
        false => bar.println(text),
    };
    // Where there is no terminal for a bar, a line for each thing that happens.
    let tell = |progress: Progress<'_>| match progress {
        Progress::Phase(what) => line(what),
        Progress::Misfortune(what) => line(&format!("  {what}")),
        Progress::Goes { elapsed, answered } => {
            bar.set_position(elapsed.as_secs());
            bar.set_message(format!("{answered} requests answered"));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(run(&options, &tell));
    bar.finish_and_clear();
    report
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("this program does not know where it is")
}

fn seed_of_now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "this is the output of the program")]
fn say(text: &str) {
    println!("{text}");
}
