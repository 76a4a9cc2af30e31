//! `hoop-replay erase`: its arguments, and the list of what was erased.

use clap::{Args, Subcommand};
use hoop_schema::Timestamp;
use hoop_schema::kinds::recorder::RecorderErased;
use hoop_sinks::keys::KeyError;
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::erasures::{self, KnownErasure};
use serde::Serialize;

use super::Run;
use crate::contents::of_erasure;
use crate::exit::{ExitCode, Failure};
use crate::output::Format;
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};

mod content;

/// What to erase, or what was.
#[derive(Debug, Clone, Subcommand)]
pub enum EraseCommand {
    /// Destroy the keys of sessions, so that nobody can read their bodies and streams again. There is no way back
    Content(ContentArgs),
    /// List what was erased
    List,
}

impl EraseCommand {
    /// Whether it writes to the evidence and to the keys.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}

/// Arguments of `erase content`.
#[derive(Debug, Clone, Args)]
pub struct ContentArgs {
    /// The content of this session, or the first digits of its id. May be given more than once
    #[arg(long, value_name = "ID")]
    pub session: Vec<String>,
    /// The content of all sessions of this user that the evidence has. May be given more than once
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Why; it stays in the evidence, and is shown instead of the content
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who asks for it [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// An erasure, for `-o json`.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    erased: RecorderErased,
    /// When it was recorded.
    at: Timestamp,
    /// Keys that are still there, where --keys says where that is: it was broken off, or the session went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_left: Option<usize>,
}

pub(super) async fn run(run: &mut Run, command: &EraseCommand) -> Result<ExitCode, Failure> {
    let Some(store) = run.evidence.store.clone() else {
        return Err(Failure::usage(
            "erasures are kept with the evidence: name it with --evidence or --data",
        ));
    };
    match command {
        EraseCommand::Content(args) => content::run(run, &*store, args).await,
        EraseCommand::List => list(run, &*store).await,
    }
}

async fn list(run: &mut Run, store: &dyn EvidenceStore) -> Result<ExitCode, Failure> {
    let known = erasures::known(store).await.map_err(of_erasure)?;
    let mut listed = Vec::with_capacity(known.len());
    for KnownErasure { erased, at } in known {
        let keys_left = match run.contents.ring() {
            Some(ring) => Some(ring.count(erased.erased_session).await.map_err(of_key)?),
            None => None,
        };
        listed.push(Listed {
            erased,
            at,
            keys_left,
        });
    }
    listed.sort_by_key(|listed| listed.at);
    match run.output.format() {
        Format::Json => run.output.json(&listed)?,
        Format::Jsonl => {
            for erasure in &listed {
                run.output.json(erasure)?;
            }
        }
        Format::Table if listed.is_empty() => {
            run.output
                .line(&Text::styled(Style::Dim, "nothing was erased"))?;
        }
        Format::Table => print_list(run, &listed)?,
    }
    Ok(ExitCode::Success)
}

fn print_list(run: &mut Run, listed: &[Listed]) -> Result<(), Failure> {
    let mut table = Table::new(vec![
        Column::new("SESSION", 32),
        Column::new("USER", 8).optional(),
        Column::new("ERASED", 19),
        Column::new("KEYS", 9),
        Column::new("BY", 6).optional(),
        Column::new("WHY", 8).optional(),
    ]);
    for Listed {
        erased,
        at,
        keys_left,
    } in listed
    {
        let keys = match keys_left {
            Some(0) => Text::styled(Style::Good, "destroyed"),
            Some(left) => Text::styled(Style::Bad, format!("{left} left")),
            None => Text::styled(Style::Dim, "-"),
        };
        table.row(vec![
            Text::styled(Style::Name, erased.erased_session.to_string()),
            Text::plain(erased.erased_user.as_deref().unwrap_or("-")),
            Text::plain(run.clock.long(*at)),
            keys,
            Text::plain(&erased.by),
            Text::plain(&erased.reason),
        ]);
    }
    for line in table.lines(run.output.width()) {
        run.output.line(&line)?;
    }
    if listed.iter().any(|listed| listed.keys_left > Some(0)) {
        let text = "where keys are left, `hoop-replay erase content` was broken off, or the session went on: run it again";
        run.output.paragraph(&Text::styled(Style::Warn, text))?;
    }
    Ok(())
}

pub(super) fn of_key(error: KeyError) -> Failure {
    let code = match &error {
        KeyError::Unfit { .. } => ExitCode::Usage,
        error if error.is_damage() => ExitCode::Damaged,
        _ => ExitCode::Io,
    };
    Failure {
        code,
        error: error.into(),
    }
}
