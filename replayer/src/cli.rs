//! The command line: what a person can ask, and which evidence it is asked of.
//!
//! # `-o json`
//! Stable: fields are only ever added. `list` gives an array of [`crate::summary::SessionSummary`] with `duration_us`;
//! `show` an array of the session's exact events; `grep` an array of matches (`session_id`, `event_id`, `ts`, `kind`,
//! `audit_id`, `request`, `at` as a JSON pointer, `line`); `verify` one [`crate::verify::Report`]; `schema --columns`
//! an array of columns. `-o jsonl` gives the same items one a line, for `show` the exact bytes. `export` has formats of
//! its own. Nothing but the document is on standard output.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;

use crate::evidence::{Days, Evidence};
use crate::exit::{ExitCode, Failure};
use crate::filter::Filter;
use crate::output::{self, ColorChoice, Format, Output, OutputEnvironment};
use crate::sessions::View;
use crate::when::{self, Clock};

mod export;
mod grep;
mod list;
mod place;
mod play;
mod schema;
mod show;
mod verify;

/// Rebuilds and proves any session from the evidence.
///
/// Exit codes: 0 done, proven; verify: 1 altered, 2 incomplete, 3 unknown key; 64 wrong command line, 65 damaged
/// evidence or log, 66 nothing found, 74 cannot read or write.
#[derive(Debug, Parser)]
#[command(name = "hoop-replay", version)]
pub struct Cli {
    /// What to ask of which evidence.
    #[command(flatten)]
    pub place: Place,
    /// How to print it.
    #[command(flatten)]
    pub look: Look,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How output looks.
#[derive(Debug, Clone, Args)]
pub struct Look {
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// Colour
    #[arg(long, global = true, value_enum, default_value_t)]
    pub color: ColorChoice,
    /// Show times in UTC instead of local time
    #[arg(long, global = true)]
    pub utc: bool,
    /// Say on standard error what was read, and how long it took
    #[arg(long, global = true)]
    pub stats: bool,
}

/// Which sessions and events.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Only this user
    #[arg(long)]
    pub user: Option<String>,
    /// Not before: RFC 3339, a date, `today`, or how long ago, such as `1h`
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Not after; written like --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only this Kubernetes verb
    #[arg(long)]
    pub verb: Option<String>,
    /// Only this resource, such as `secrets` or `pods/log`
    #[arg(long)]
    pub resource: Option<String>,
    /// Only this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only what was decided so
    #[arg(long, value_parser = ["allow", "deny", "hold"])]
    pub decision: Option<String>,
    /// Only what mentions this text, in any case
    #[arg(long)]
    pub text: Option<String>,
}

pub use place::{Place, find as find_evidence};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List sessions: who, when, what, and how it went
    List(list::ListArgs),
    /// Show the timeline of one session
    Show(show::ShowArgs),
    /// Replay a command in the terminal, or write it as an asciicast
    Play(play::PlayArgs),
    /// Search bodies, streams and everything else that events say
    Grep(grep::GrepArgs),
    /// Write events out: their exact bytes, or as audit events of Kubernetes
    Export(export::ExportArgs),
    /// Prove that nothing was altered or is missing, or name what is
    Verify(verify::VerifyArgs),
    /// Print the JSON Schema of events, or the columns of session files
    Schema(schema::SchemaArgs),
}

/// What comes from outside besides the command line: the environment and the clock.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `HOOP_DATA`.
    pub data: Option<PathBuf>,
    /// What output depends on.
    pub output: OutputEnvironment,
    /// The time now.
    pub now: hoop_schema::Timestamp,
}

/// A command under way.
pub(crate) struct Run {
    pub(crate) evidence: Evidence,
    pub(crate) clock: Clock,
    pub(crate) output: Output,
}

/// Does what the command line says, and returns what the process exits with.
pub async fn run(cli: Cli, surroundings: Surroundings) -> ExitCode {
    let output = Output::new(cli.look.output, cli.look.color, &surroundings.output)
        .with_stats(cli.look.stats);
    match dispatch(cli, surroundings, output).await {
        Ok(code) => code,
        Err(failure) if is_closed_pipe(&failure) => ExitCode::Success,
        Err(failure) => {
            output::notice(&format!("{:#}", failure.error));
            failure.code
        }
    }
}

async fn dispatch(
    cli: Cli,
    surroundings: Surroundings,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    let zone = if cli.look.utc {
        TimeZone::UTC
    } else {
        TimeZone::system()
    };
    let clock = Clock {
        now: surroundings.now,
        zone,
    };
    if let Command::Schema(args) = &cli.command {
        let code = schema::run(&mut output, args)?;
        output.flush()?;
        return Ok(code);
    }
    let evidence = place::find(&cli.place, surroundings.data.as_deref())?;
    let mut run = Run {
        evidence,
        clock,
        output,
    };
    let started = std::time::Instant::now();
    let code = match cli.command {
        Command::List(args) => list::run(&mut run, &args).await?,
        Command::Show(args) => show::run(&mut run, &args).await?,
        Command::Play(args) => play::run(&mut run, &args).await?,
        Command::Grep(args) => grep::run(&mut run, &args).await?,
        Command::Export(args) => export::run(&mut run, &args).await?,
        Command::Verify(args) => verify::run(&mut run, &args).await?,
        Command::Schema(args) => schema::run(&mut run.output, &args)?,
    };
    run.output.flush()?;
    if run.output.stats() {
        let stats = &run.evidence.stats;
        output::notice(&format!(
            "read {} in {} of {} in {} ms",
            when::bytes(stats.bytes()),
            when::counted(stats.requests(), "range"),
            when::counted(stats.objects(), "object"),
            started.elapsed().as_millis()
        ));
    }
    Ok(code)
}

fn is_closed_pipe(failure: &Failure) -> bool {
    failure.error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        let json = cause.downcast_ref::<serde_json::Error>();
        io.map(std::io::Error::kind)
            .or_else(|| json.and_then(serde_json::Error::io_error_kind))
            == Some(std::io::ErrorKind::BrokenPipe)
    })
}

impl Run {
    /// What of the evidence a filter concerns.
    pub(crate) async fn view(&self, filter: &Filter) -> Result<View, Failure> {
        let days = Days::between(filter.since, filter.until);
        let view = View::open(self.evidence.clone(), &days).await?;
        for damage in view.tail_damage() {
            output::notice(&damage);
        }
        if view.catalog.files.is_empty() && view.tails.is_empty() && days.is_all() {
            let place = self.evidence.store.as_ref().map(|s| s.place());
            return Err(crate::evidence::Error::NoEvidence {
                place: place.unwrap_or_else(|| "the log".into()),
                hint: "a directory of evidence holds events/v1; the first file comes after five minutes or when the gateway stops, and until then --log shows what there is".into(),
            }
            .into());
        }
        Ok(view)
    }
}

impl FilterArgs {
    /// The filter that these arguments say.
    ///
    /// # Errors
    /// When a time in it is none.
    pub fn filter(&self, clock: &Clock) -> Result<Filter, Failure> {
        let time = |text: &Option<String>| match text {
            Some(text) => clock
                .parse(text)
                .map(Some)
                .map_err(|e| Failure::usage(e.to_string())),
            None => Ok(None),
        };
        Ok(Filter {
            user: self.user.clone(),
            since: time(&self.since)?,
            until: time(&self.until)?,
            verb: self.verb.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            decision: self.decision.clone(),
            text: self.text.clone(),
        })
    }
}
