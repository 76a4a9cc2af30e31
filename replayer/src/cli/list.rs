//! `hoop-replay list`.

use clap::Args;
use serde::Serialize;

use super::{FilterArgs, Run};
use crate::exit::{ExitCode, Failure};
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};
use crate::output::{self, Format, Progress};
use crate::sessions::short_id_digits;
use crate::summary::SessionSummary;
use crate::when;

/// From this width on there is room for dates with seconds.
const WIDE_COLUMNS: usize = 120;

/// Arguments of `list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Which sessions.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// At most so many, the newest
    #[arg(long)]
    pub limit: Option<usize>,
    /// Also the sessions of gateways and recorders themselves, and in the table connections that only asked what
    /// the API server offers
    #[arg(long)]
    pub all: bool,
    /// Oldest first instead of newest first
    #[arg(long)]
    pub reverse: bool,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    summary: &'a SessionSummary,
    duration_us: u64,
}

pub(super) async fn run(run: &mut Run, args: &ListArgs) -> Result<ExitCode, Failure> {
    let filter = args.filter.filter(&run.clock)?;
    let view = run.view(&filter).await?;
    let (mut sessions, damaged) = view
        .summaries(
            filter.decision.as_deref() == Some("hold"),
            &mut Progress::new(&run.output, 0),
        )
        .await?;
    let digits = short_id_digits(sessions.iter().map(|s| &s.session_id));
    sessions.retain(|s| (args.all || !s.producer) && filter.accepts_session(s));
    let mut discovery = 0;
    if !args.all && run.output.format() == Format::Table {
        let all = sessions.len();
        sessions.retain(|s| !s.is_discovery());
        discovery = all - sessions.len();
    }
    sessions.sort_by_key(|s| std::cmp::Reverse((s.first_ts, s.session_id)));
    sessions.truncate(args.limit.unwrap_or(usize::MAX));
    if args.reverse {
        sessions.reverse();
    }
    match run.output.format() {
        Format::Table => {
            print_table(run, &sessions, digits)?;
            print_left_out(run, discovery)?;
        }
        Format::Json => {
            let all: Vec<Listed<'_>> = sessions.iter().map(Listed::from).collect();
            run.output.json(&all)?;
        }
        Format::Jsonl => {
            for session in &sessions {
                run.output.json(&Listed::from(session))?;
            }
        }
    }
    for damage in &damaged {
        output::notice(&format!("{damage}; its sessions are not listed"));
    }
    Ok(if damaged.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Damaged
    })
}

impl<'a> From<&'a SessionSummary> for Listed<'a> {
    fn from(summary: &'a SessionSummary) -> Self {
        Self {
            summary,
            duration_us: summary.duration_us(),
        }
    }
}

fn print_table(run: &mut Run, sessions: &[SessionSummary], digits: usize) -> Result<(), Failure> {
    if sessions.is_empty() {
        let none = Text::styled(Style::Dim, "no session matches");
        return Ok(run.output.line(&none)?);
    }
    let wide = run.output.width() >= WIDE_COLUMNS;
    let mut table = Table::new(vec![
        Column::new("SESSION", digits),
        Column::new("WHEN", 19),
        Column::new("LASTED", 7).right(),
        Column::new("USER", 10),
        Column::new("REQ", 9).right(),
        Column::new("DENY", 9).right(),
        Column::new("MASK", 9).right().optional(),
        Column::new("GAPS", 9).right().optional(),
        Column::new("WHAT", 12),
        Column::new("NAMESPACES", 10).optional(),
        Column::new("FROM", 15).optional(),
    ]);
    for session in sessions {
        table.row(cells(run, session, digits, wide));
    }
    for line in table.lines(run.output.width()) {
        run.output.line(&line)?;
    }
    Ok(())
}

/// kubectl opens a connection of its own to ask what the API server offers, so there are as many of these as others.
fn print_left_out(run: &mut Run, discovery: usize) -> Result<(), Failure> {
    let note = match discovery {
        0 => return Ok(()),
        1 => "1 connection that only asked for discovery is not shown; --all shows it".to_owned(),
        n => {
            format!("{n} connections that only asked for discovery are not shown; --all shows them")
        }
    };
    Ok(run.output.line(&Text::styled(Style::Dim, note))?)
}

fn cells(run: &Run, session: &SessionSummary, digits: usize, wide: bool) -> Vec<Text> {
    let id = session.session_id.to_string();
    let when = if wide {
        run.clock.long(session.first_ts)
    } else {
        run.clock.short(session.first_ts)
    };
    let number = |n: u64, style: Style| {
        if n == 0 {
            Text::styled(Style::Dim, "-")
        } else {
            Text::styled(style, when::count(n))
        }
    };
    let namespaces: Vec<&str> = session.namespaces.iter().map(String::as_str).collect();
    vec![
        Text::styled(Style::Name, &id[..digits.min(id.len())]),
        Text::plain(when),
        Text::plain(when::duration(session.duration_us())),
        match &session.user {
            Some(user) => Text::plain(user),
            None => Text::styled(Style::Warn, "(nobody)"),
        },
        number(session.requests, Style::Plain),
        number(session.denied, Style::Bad),
        number(session.masked, Style::Warn),
        number(session.gaps, Style::Bad),
        what(session),
        Text::plain(namespaces.join(",")),
        Text::plain(session.source_ip.as_deref().unwrap_or_default()),
    ]
}

/// The command, and what it did: `kubectl get: list pods,secrets`.
fn what(session: &SessionSummary) -> Text {
    let join = |set: &std::collections::BTreeSet<String>| {
        set.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    };
    let mut text = Text::plain(join(&session.commands));
    let did = format!("{} {}", join(&session.verbs), join(&session.resources));
    let did = did.trim();
    if !text.is_empty() && !did.is_empty() {
        text.push(Style::Dim, ": ");
    }
    text.push(Style::Dim, did);
    if session.producer && text.is_empty() {
        text.push(Style::Dim, "(a producer's own)");
    }
    text
}
