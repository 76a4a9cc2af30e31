//! The command line: what a person can ask, and which evidence it is asked of.
//!
//! # `-o json`
//! Stable: fields are only ever added. `list` gives an array of [`crate::summary::SessionSummary`] with `duration_us`;
//! `show` an array of the session's exact events, those with encrypted content as far as it can be read; `grep` an array of matches (`session_id`, `event_id`, `ts`, `kind`,
//! `audit_id`, `request`, `at` as a JSON pointer, `line`); `verify` one [`crate::verify::Report`]; `reconcile` one
//! [`crate::reconcile::Report`]; `checkpoint` an array of objects with `origin`, `leaves` and the signed `note`;
//! `hold list` an array of holds with `at`, `hold add` and `hold release` one of what became of each; `erase list` an array of
//! erasures with `at` and `keys_left`, `erase content` one of what became of each session; `retention report`
//! one [`crate::retention::Report`]; `schema --columns` an array of columns. `-o jsonl` gives the same items one a line,
//! for `show` the exact bytes of what is not encrypted. `export` has formats of its own. Nothing but the document is on standard output.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use hoop_sinks::store::{Access, BucketOptions};
use jiff::tz::TimeZone;

use crate::contents::Contents;
use crate::evidence::cache::CacheEnvironment;
use crate::evidence::{Days, Evidence, Reach};
use crate::exit::{ExitCode, Failure};
use crate::filter::Filter;
use crate::output::{self, ColorChoice, Format, Output, OutputEnvironment, Progress};
use crate::sessions::{Found, View};
use crate::when::{self, Clock};

mod checkpoint;
mod erase;
mod export;
mod grep;
mod hold;
mod keys;
mod list;
mod place;
mod play;
mod reconcile;
mod retention;
mod schema;
mod show;
mod verify;

/// Rebuilds and proves any session from the evidence.
///
/// Exit codes: 0 done, proven; verify: 1 altered, 2 incomplete, 3 unknown key; reconcile: 1 contradicted, 2 incomplete;
/// 64 wrong command line, 65 damaged evidence or log, 66 nothing found, 74 cannot read or write.
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

pub use keys::contents as find_contents;
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
    /// Print the newest signed checkpoint of every transparency log, to be kept elsewhere
    Checkpoint(checkpoint::CheckpointArgs),
    /// Compare with the API server's own audit log: what bypassed the gateway, and what never arrived
    Reconcile(reconcile::ReconcileArgs),
    /// Keep evidence whatever its term: legal holds by session, user or case
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Make the content of sessions unreadable for ever, where it is encrypted; every proof still holds
    #[command(subcommand)]
    Erase(erase::EraseCommand),
    /// Say what is kept until when, who can delete it, and what was deleted and why
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// Print the JSON Schema of events, the columns of session files, or SQL for DuckDB and Athena
    Schema(schema::SchemaArgs),
}

impl Command {
    /// What evidence and keys are opened for.
    fn access(&self) -> Access {
        match self {
            Self::Hold(command) if command.changes() => Access::Write,
            Self::Erase(command) if command.changes() => Access::Write,
            _ => Access::Read,
        }
    }

    /// Whether it asks about events that are in no file yet.
    fn reads_logs(&self) -> bool {
        !matches!(self, Self::Checkpoint(_) | Self::Retention(_))
    }

    /// Whether it compares, and so has a word of its own for what could not be compared.
    fn compares(&self) -> bool {
        matches!(self, Self::Reconcile(_))
    }

    /// Whether it shows what is there, and claims nothing about what lies in the bucket at this moment: a copy on this
    /// machine is as good then. What proves, compares, holds or reports asks the bucket itself, always.
    fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::List(_) | Self::Show(_) | Self::Play(_) | Self::Grep(_) | Self::Export(_)
        )
    }
}

/// What comes from outside besides the command line: the environment and the clock.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `HOOP_DATA`.
    pub data: Option<PathBuf>,
    /// `USER`: who asks for a hold or an erasure, unless they say otherwise.
    pub user: Option<String>,
    /// What output depends on.
    pub output: OutputEnvironment,
    /// What the local cache depends on.
    pub cache: CacheEnvironment,
    /// The time now.
    pub now: hoop_schema::Timestamp,
}

/// A command under way.
pub(crate) struct Run {
    pub(crate) evidence: Evidence,
    /// How buckets of others are reached.
    pub(crate) bucket_options: BucketOptions,
    /// Whether a log did not answer, so that what is shown may not be all.
    without_a_log: Cell<bool>,
    pub(crate) clock: Clock,
    pub(crate) output: Output,
    /// The data directory that is asked, if it is one.
    pub(crate) data: Option<PathBuf>,
    /// Who runs this, as the environment says.
    pub(crate) user: Option<String>,
    /// What makes encrypted content readable.
    pub(crate) contents: Arc<Contents>,
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
        let code = schema::run(&mut output, args, &cli.place)?;
        output.flush()?;
        return Ok(code);
    }
    let evidence = evidence(&cli, &surroundings).await?;
    let default_data = surroundings.data.as_deref();
    let ring = keys::ring(&cli.place, default_data, cli.command.access()).await?;
    let contents = Arc::new(Contents::new(evidence.store.clone(), ring));
    let unread = match cli.command.compares() {
        true => ExitCode::Incomplete,
        false => ExitCode::Io,
    };
    let mut run = Run {
        evidence,
        bucket_options: BucketOptions {
            endpoint: cli.place.s3_endpoint.clone(),
            ..BucketOptions::default()
        },
        without_a_log: Cell::new(false),
        clock,
        output,
        data: place::data_dir(&cli.place, surroundings.data.as_deref()),
        user: surroundings.user,
        contents,
    };
    let started = std::time::Instant::now();
    let code = perform(&mut run, cli.command, &cli.place).await?;
    run.output.flush()?;
    if run.output.stats() {
        say_stats(&run.evidence, started);
    }
    Ok(match code {
        ExitCode::Success if run.without_a_log.get() => unread,
        code => code,
    })
}

/// The evidence that is asked.
async fn evidence(cli: &Cli, surroundings: &Surroundings) -> Result<Evidence, Failure> {
    let mut evidence = place::find_for(
        &cli.place,
        surroundings.data.as_deref(),
        cli.command.access(),
        cli.command.reads_logs(),
    )
    .await?;
    if evidence.reach == Reach::Far && !cli.place.no_cache && cli.command.only_looks() {
        let cache = surroundings.cache.open().map_err(Failure::usage)?;
        evidence.cache = cache.map(Arc::new);
    }
    Ok(evidence)
}

/// Does what a command says.
async fn perform(run: &mut Run, command: Command, place: &Place) -> Result<ExitCode, Failure> {
    Ok(match command {
        Command::List(args) => list::run(run, &args).await?,
        Command::Show(args) => show::run(run, &args).await?,
        Command::Play(args) => play::run(run, &args).await?,
        Command::Grep(args) => grep::run(run, &args).await?,
        Command::Export(args) => export::run(run, &args).await?,
        Command::Verify(args) => verify::run(run, &args).await?,
        Command::Checkpoint(args) => checkpoint::run(run, &args).await?,
        Command::Schema(args) => schema::run(&mut run.output, &args, place)?,
        Command::Reconcile(args) => reconcile::run(run, &args).await?,
        Command::Hold(command) => hold::run(run, &command).await?,
        Command::Erase(command) => erase::run(run, &command).await?,
        Command::Retention(command) => retention::run(run, &command).await?,
    })
}

fn say_stats(evidence: &Evidence, started: std::time::Instant) {
    let stats = &evidence.stats;
    let cached = match stats.cached() {
        0 => String::new(),
        bytes => format!(", {} of the cache", when::bytes(bytes)),
    };
    output::notice(&format!(
        "read {} in {} of {} and {}{cached} in {} ms",
        when::bytes(stats.bytes()),
        when::counted(stats.requests(), "range"),
        when::counted(stats.objects(), "object"),
        when::counted(stats.listings(), "listing"),
        started.elapsed().as_millis()
    ));
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
    /// The session that somebody names by the first digits of its id.
    pub(crate) async fn find(&self, view: &View, session: &str) -> Result<Found, Failure> {
        view.find(session, &mut Progress::new(&self.output, 0))
            .await
    }

    /// What of the evidence a filter concerns.
    pub(crate) async fn view(&self, filter: &Filter) -> Result<View, Failure> {
        let days = Days::between(filter.since, filter.until);
        let mut view = View::open(self.evidence.clone(), &days).await?;
        view.contents = Some(Arc::clone(&self.contents));
        for damage in view.tail_damage() {
            output::notice(&damage);
        }
        self.without_a_log.set(view.is_without_a_log());
        let nothing = view.catalog.files.is_empty() && view.tails.is_empty();
        // With a log that does not answer, there may be much.
        if nothing && days.is_all() && !view.is_without_a_log() {
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

/// Says what is wrong with the content that was read; returns whether nothing is.
async fn content_is_whole(view: &View) -> bool {
    let damage = view.content_damage().await;
    damage.iter().for_each(|damage| output::notice(damage));
    damage.is_empty()
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
