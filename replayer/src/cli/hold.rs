//! `hoop-replay hold`: its arguments, and the list of holds.

use clap::{Args, Subcommand};
use hoop_schema::kinds::recorder::RecorderHold;
use hoop_schema::{ProducerId, Timestamp};
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::holds::{HoldError, Holds, KnownHold};
use serde::Serialize;

use super::Run;
use crate::exit::{ExitCode, Failure};
use crate::output::Format;
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};

mod add;
mod outcome;
mod release;
mod work;

/// What to do with legal holds.
#[derive(Debug, Clone, Subcommand)]
pub enum HoldCommand {
    /// Keep all evidence of sessions or people, whatever its term, until released
    Add(AddArgs),
    /// List the holds in force
    List(ListArgs),
    /// Let the terms of evidence count again
    Release(ReleaseArgs),
}

impl HoldCommand {
    /// Whether it writes to the evidence.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::List(_))
    }
}

/// Arguments of `hold add`.
#[derive(Debug, Clone, Args)]
pub struct AddArgs {
    /// Hold this session, or the first digits of its id. May be given more than once
    #[arg(long, value_name = "ID")]
    pub session: Vec<String>,
    /// Hold everything of this user, also what is still to come. May be given more than once
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// The case that the holds belong to: a-z 0-9 -. Alone, it completes the holds that the case has
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Name of the hold, where it is one [default: made of case, session and user]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Who asks for it [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// Arguments of `hold list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Only holds of this case
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Released ones too
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `hold release`.
#[derive(Debug, Clone, Args)]
#[group(id = "which", required = true, multiple = true, args = ["hold", "case", "session", "user"])]
pub struct ReleaseArgs {
    /// Holds, as `hold list` names them
    #[arg(value_name = "HOLD")]
    pub hold: Vec<String>,
    /// All holds of this case
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// All holds of this session, or the first digits of its id
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// All holds of this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Who asks for it [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// A hold, for `-o json`.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    hold: RecorderHold,
    /// When it was set or released.
    at: Timestamp,
}

pub(super) async fn run(run: &mut Run, command: &HoldCommand) -> Result<ExitCode, Failure> {
    let Some(store) = run.evidence.store.clone() else {
        return Err(Failure::usage(
            "holds are kept with the evidence: name it with --evidence or --data",
        ));
    };
    match command {
        HoldCommand::Add(args) => add::run(run, &*store, args).await,
        HoldCommand::List(args) => list(run, &*store, args).await,
        HoldCommand::Release(args) => release::run(run, &*store, args).await,
    }
}

/// What a hold holds, for people.
pub(super) fn target(hold: &RecorderHold) -> String {
    match (&hold.held_session, &hold.held_user) {
        (Some(session), _) => format!("session {session}"),
        (None, Some(user)) => format!("user {user}"),
        (None, None) => "nothing".into(),
    }
}

async fn list(
    run: &mut Run,
    store: &dyn EvidenceStore,
    args: &ListArgs,
) -> Result<ExitCode, Failure> {
    let producer_id = ProducerId::new("hoop-replay").expect("a name of plain letters");
    let holds = Holds::new(store, "", &producer_id);
    let mut known = holds.known().await.map_err(of_hold)?;
    known
        .retain(|k| (args.all || k.hold.held) && (args.case.is_none() || args.case == k.hold.case));
    known.sort_by(|a, b| (&a.hold.case, a.at).cmp(&(&b.hold.case, b.at)));
    let listed: Vec<Listed> = known
        .into_iter()
        .map(|KnownHold { hold, at }| Listed { hold, at })
        .collect();
    match run.output.format() {
        Format::Json => run.output.json(&listed)?,
        Format::Jsonl => {
            for hold in &listed {
                run.output.json(hold)?;
            }
        }
        Format::Table if listed.is_empty() => {
            run.output
                .line(&Text::styled(Style::Dim, "nothing is held"))?;
        }
        Format::Table => print_list(run, &listed)?,
    }
    Ok(ExitCode::Success)
}

fn print_list(run: &mut Run, listed: &[Listed]) -> Result<(), Failure> {
    let mut table = Table::new(vec![
        Column::new("HOLD", 20),
        Column::new("CASE", 6).optional(),
        Column::new("HOLDS", 16),
        Column::new("STATE", 8),
        Column::new("SINCE", 19),
        Column::new("BY", 6).optional(),
        Column::new("WHY", 8).optional(),
    ]);
    for Listed { hold, at } in listed {
        let state = match hold.held {
            true => Text::styled(Style::Good, "in force"),
            false => Text::styled(Style::Dim, "released"),
        };
        table.row(vec![
            Text::styled(Style::Name, &hold.hold_id),
            Text::plain(hold.case.as_deref().unwrap_or("-")),
            Text::plain(short_target(hold)),
            state,
            Text::plain(run.clock.long(*at)),
            Text::plain(&hold.by),
            Text::plain(&hold.reason),
        ]);
    }
    for line in table.lines(run.output.width()) {
        run.output.line(&line)?;
    }
    Ok(())
}

/// What a hold holds, for a table.
pub(super) fn short_target(hold: &RecorderHold) -> String {
    let target = target(hold);
    match hold.held_session {
        Some(_) => target.chars().take("session ".len() + 8).collect(),
        None => target,
    }
}

pub(super) fn of_hold(error: HoldError) -> Failure {
    let code = match &error {
        HoldError::Name(_) | HoldError::Target | HoldError::Taken(_) => ExitCode::Usage,
        HoldError::NotHeld(_) => ExitCode::NotFound,
        HoldError::Damaged(_) => ExitCode::Damaged,
        HoldError::Rival(_) | HoldError::Store(_) => ExitCode::Io,
    };
    Failure {
        code,
        error: error.into(),
    }
}
