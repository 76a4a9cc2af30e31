//! `hoop policy replay`: what a candidate policy would have decided about everything that is on record.
//!
//! Every recorded request of the evidence and of the log's tail is decided again, with the facts as they were: user,
//! actor, client, address, time, target, and the body where the record has all of it. What differs is counted and
//! grouped by who did what where.
//!
//! # `-o json`
//! Stable: fields are only ever added. One line for each group that differs or cannot be told, and a last one with the
//! counts; they are told apart by `line`, which is `group` or `summary`.

mod again;
mod report;
mod tally;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use hoop_proxy::policy::{Answer, Policy};
use hoop_replayer::cli::{FilterArgs, Place, find_contents, find_evidence};
use hoop_replayer::evidence::Days;
use hoop_replayer::exit::Failure;
use hoop_replayer::filter::Filter;
use hoop_replayer::scan::Order;
use hoop_replayer::sessions::View;
use hoop_replayer::when::Clock;
use hoop_schema::{Kind, Timestamp};
use jiff::tz::TimeZone;

use self::tally::Tally;
use super::{load, stated};
use crate::config::Environment;
use crate::exit::ExitCode;
use crate::output::{self, Printer};

/// Arguments of `policy replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The candidate
    pub file: PathBuf,
    /// Which record.
    #[command(flatten)]
    pub place: Place,
    /// Which requests.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What a webhook of the candidate would answer: allowed, denied, noOpinion or failed; once for each. None is asked
    #[arg(long = "webhook", value_name = "NAME=ANSWER", value_parser = stated::argument)]
    pub webhooks: Vec<(String, Answer)>,
    /// Form of the output: table for people, json for programs (one document a line)
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ReplayFormat,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReplayFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON document a line.
    Json,
}

pub(super) async fn run(
    args: &ReplayArgs,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let policy = match load(&args.file) {
        Ok(policy) => policy,
        Err(mistakes) => {
            output::notice(&mistakes);
            return Ok(ExitCode::Usage);
        }
    };
    let unknown = args
        .webhooks
        .iter()
        .find(|(name, _)| policy.webhook(name).is_none());
    if let Some((name, _)) = unknown {
        let why = format!("the policy has no webhook \"{name}\"");
        output::notice(&why);
        return Ok(ExitCode::Usage);
    }
    let tally = match replayed(args, &policy, environment, printer).await {
        Ok(tally) => tally,
        Err(failure) => {
            output::notice(&format!("{:#}", failure.error));
            return Ok(failure.code.into());
        }
    };
    match args.output {
        ReplayFormat::Table => report::table(&tally, &policy, &args.file, printer)?,
        ReplayFormat::Json => report::json(&tally, &policy, printer)?,
    }
    Ok(if tally.differs() {
        ExitCode::Failure
    } else {
        ExitCode::Success
    })
}

/// Decides again about all of it.
async fn replayed(
    args: &ReplayArgs,
    policy: &Policy,
    environment: &Environment,
    printer: &Printer,
) -> Result<Tally, Failure> {
    let default_data = environment.get("HOOP_DATA").map(PathBuf::from);
    let evidence = find_evidence(&args.place, default_data.as_deref()).await?;
    let clock = Clock {
        now: Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()),
        zone: TimeZone::system(),
    };
    let filter = args.filter.filter(&clock)?;
    let days = Days::between(filter.since, filter.until);
    let contents = find_contents(&args.place, default_data.as_deref(), &evidence).await?;
    let mut view = View::open(evidence, &days).await?;
    view.contents = Some(Arc::new(contents));
    for damage in view.tail_damage() {
        output::notice(&damage);
    }
    scanned(&view, &filter, policy, &args.webhooks, printer).await
}

async fn scanned(
    view: &View,
    filter: &Filter,
    policy: &Policy,
    webhooks: &[(String, Answer)],
    printer: &Printer,
) -> Result<Tally, Failure> {
    let mut progress = printer.progress(view.catalog.files.iter().map(|f| f.bytes).sum());
    let mut tally = Tally::default();
    let damaged = view
        .scan::<Failure>(filter, None, Order::Session, &mut progress, |entry, row| {
            if &*row.kind == "intent" {
                match hoop_schema::bytes::decode(entry.shown()) {
                    Ok(event) => {
                        if let Kind::Intent(intent) = &event.kind {
                            let outcome = again::decide(policy, intent, webhooks);
                            tally.count(&event.envelope, intent, &outcome);
                        }
                    }
                    Err(_) => tally.unreadable(),
                }
            }
            Ok(true)
        })
        .await?;
    drop(progress);
    for damage in &damaged {
        output::notice(&format!("{damage}; its requests are left out"));
        tally.damaged();
    }
    Ok(tally)
}
