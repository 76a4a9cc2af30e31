//! `hoop-replay retention`.

use clap::Subcommand;
use hoop_schema::kinds::recorder::RetentionMode;

use super::Run;
use super::hold::short_target;
use crate::exit::{ExitCode, Failure};
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};
use crate::output::{Format, Progress};
use crate::retention::{
    ClassReport, DeletedFile, ErasedReport, HeldReport, Hole, Report, ReportError,
};
use crate::when;

/// Deletions that are shown to people, and as many erasures; `-o json` has all.
const DELETED_SHOWN: usize = 10;

/// Unexplained holes that are shown to people.
const HOLES_SHOWN: usize = 20;

/// What to ask about retention.
#[derive(Debug, Clone, Subcommand)]
pub enum RetentionCommand {
    /// For an auditor: what is kept until when, holds, who can delete, what was deleted or erased and why; exits 2 when something
    /// is gone that no record explains
    Report,
}

pub(super) async fn run(run: &mut Run, command: &RetentionCommand) -> Result<ExitCode, Failure> {
    let RetentionCommand::Report = command;
    let Some(store) = run.evidence.store.clone() else {
        return Err(Failure::usage(
            "say where the evidence is: --evidence DIR, --evidence s3://BUCKET/PREFIX, or --data DIR",
        ));
    };
    let mut progress = Progress::new(&run.output, 0);
    let made = Report::make(&run.evidence, &*store, run.clock.now, &mut progress).await;
    drop(progress);
    let report = made.map_err(of_report)?;
    match run.output.format() {
        Format::Json | Format::Jsonl => run.output.json(&report)?,
        Format::Table => print(run, &report)?,
    }
    Ok(if report.unexplained.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Incomplete
    })
}

fn of_report(error: ReportError) -> Failure {
    let code = match &error {
        ReportError::Evidence(e) => e.exit_code(),
        ReportError::Holds(hoop_sinks::store::holds::HoldError::Damaged(_))
        | ReportError::Terms(hoop_sinks::store::terms::TermsError::Damaged(_)) => ExitCode::Damaged,
        ReportError::Holds(_) | ReportError::Terms(_) => ExitCode::Io,
    };
    Failure {
        code,
        error: error.into(),
    }
}

fn print(run: &mut Run, report: &Report) -> Result<(), Failure> {
    heading(run, "What is kept")?;
    print_classes(run, report)?;
    heading(run, "What is held")?;
    print_holds(run, report)?;
    heading(run, "Who can delete")?;
    for (style, line) in who_can_delete(report) {
        bullet(run, &Text::styled(style, line))?;
    }
    run.output.blank()?;
    heading(run, "What was deleted")?;
    print_deleted(run, report)?;
    print_erased(run, report)?;
    print_unexplained(run, report)
}

fn heading(run: &mut Run, text: &str) -> Result<(), Failure> {
    Ok(run.output.line(&Text::styled(Style::Bold, text))?)
}

/// A paragraph behind a dash.
fn bullet(run: &mut Run, text: &Text) -> Result<(), Failure> {
    let width = run.output.width().saturating_sub("- ".len());
    for (i, line) in text.wrap(width).into_iter().enumerate() {
        let mut whole = Text::plain(if i == 0 { "- " } else { "  " });
        whole.append(&line);
        run.output.line(&whole)?;
    }
    Ok(())
}

fn print_table(run: &mut Run, table: &Table) -> Result<(), Failure> {
    for line in table.lines(run.output.width()) {
        run.output.line(&line)?;
    }
    Ok(run.output.blank()?)
}

fn print_classes(run: &mut Run, report: &Report) -> Result<(), Failure> {
    let mut table = Table::new(vec![
        Column::new("CLASS", 8),
        Column::new("TERM", 8).right(),
        Column::new("MODE", 10),
        Column::new("OBJECTS", 7).right(),
        Column::new("SIZE", 7).right(),
        Column::new("DAYS", 24).optional(),
        Column::new("KEPT UNTIL", 24),
    ]);
    for class in &report.classes {
        let days = match (&class.oldest_day, &class.newest_day) {
            (Some(oldest), Some(newest)) if oldest == newest => oldest.clone(),
            (Some(oldest), Some(newest)) => format!("{oldest} to {newest}"),
            _ => "-".into(),
        };
        table.row(vec![
            Text::styled(Style::Name, class.class.as_str()),
            Text::plain(term(class.term_s)),
            match class.mode {
                RetentionMode::None => Text::styled(Style::Dim, "none"),
                RetentionMode::Governance => Text::plain("governance"),
                RetentionMode::Compliance => Text::styled(Style::Good, "compliance"),
            },
            Text::plain(when::count(class.objects)),
            Text::plain(when::bytes(class.bytes)),
            Text::plain(days),
            Text::plain(kept_until(class)),
        ]);
    }
    print_table(run, &table)?;
    for class in &report.classes {
        for (style, line) in notes(run, class) {
            let text = Text::plain(format!("{}: ", class.class)).with(style, line);
            bullet(run, &text)?;
        }
    }
    Ok(run.output.blank()?)
}

/// A term in words: days where it is some.
fn term(term_s: Option<u64>) -> String {
    match term_s {
        None => "for ever".into(),
        Some(s) if s % 86_400 == 0 => when::counted(s / 86_400, "day"),
        Some(s) if s % 3600 == 0 => when::counted(s / 3600, "hour"),
        Some(s) => when::counted(s, "second"),
    }
}

fn kept_until(class: &ClassReport) -> String {
    match (class.oldest_until, class.newest_until) {
        (Some(oldest), Some(newest)) if oldest == newest => oldest.day(),
        (Some(oldest), Some(newest)) => format!("{} to {}", oldest.day(), newest.day()),
        _ if class.files == 0 => "-".into(),
        _ => "for ever".into(),
    }
}

/// What an auditor should know of a class beside the numbers.
fn notes(run: &Run, class: &ClassReport) -> Vec<(Style, String)> {
    let mut notes = Vec::new();
    if let Some(since) = class.since {
        let since = run.clock.long(since);
        notes.push((
            Style::Plain,
            format!("term and mode are as they are since {since}"),
        ));
    } else {
        notes.push((
            Style::Plain,
            "no recorder ever said a term, so it is kept for ever".into(),
        ));
    }
    if class.replaced > 0 {
        let files = when::counted(class.replaced, "session file");
        notes.push((
            Style::Plain,
            format!("{files} of sealed days still there: they leave, unless something locks them"),
        ));
    }
    if class.past_term > 0 {
        let files = when::counted(class.past_term, "session file");
        notes.push((
            Style::Warn,
            format!("{files} past the term and still there: held, the newest of a shard, or no recorder is looking after them"),
        ));
    }
    let locks = &class.locks;
    if locks.unlocked > 0 && class.mode != RetentionMode::None {
        let files = when::counted(locks.unlocked, "session file");
        notes.push((
            Style::Warn,
            format!("{files} not locked: from before the mode was set, or past the term"),
        ));
    }
    if locks.unknown > 0 {
        let files = when::counted(locks.unknown, "session file");
        notes.push((Style::Warn, format!("the locks of {files} cannot be read")));
    }
    notes
}

fn print_holds(run: &mut Run, report: &Report) -> Result<(), Failure> {
    if report.holds.is_empty() {
        run.output.line(&Text::plain("Nothing."))?;
        return Ok(run.output.blank()?);
    }
    let mut table = Table::new(vec![
        Column::new("HOLD", 20),
        Column::new("CASE", 6).optional(),
        Column::new("HOLDS", 16),
        Column::new("SINCE", 10),
        Column::new("BY", 6).optional(),
        Column::new("FILES", 5).right(),
        Column::new("SIZE", 7).right(),
        Column::new("WHY", 8).optional(),
    ]);
    for held in &report.holds {
        let HeldReport { hold, .. } = held;
        table.row(vec![
            Text::styled(Style::Name, &hold.hold_id),
            Text::plain(hold.case.as_deref().unwrap_or("-")),
            Text::plain(short_target(hold)),
            Text::plain(held.since.day()),
            Text::plain(&hold.by),
            Text::plain(when::count(held.files)),
            Text::plain(when::bytes(held.bytes)),
            Text::plain(&hold.reason),
        ]);
    }
    print_table(run, &table)
}

/// Who can delete what, in sentences.
fn who_can_delete(report: &Report) -> Vec<(Style, String)> {
    let mut lines = Vec::new();
    match report.store_locks {
        Some(false) => lines.push((
            Style::Warn,
            format!("{} locks nothing: whoever may write there can delete, held or not. Recorders delete only what is past its term and not held, and record it first", report.place),
        )),
        None => lines.push((
            Style::Warn,
            format!("{} did not say whether it locks objects", report.place),
        )),
        Some(true) => {
            let sum = |of: fn(&ClassReport) -> u64| report.classes.iter().map(of).sum::<u64>();
            let files = |n: u64| when::counted(n, "session file");
            for (n, style, what) in [
                (sum(|c| c.locks.compliance), Style::Good, "locked in mode compliance: nobody can delete them before their day, the owner of the bucket included"),
                (sum(|c| c.locks.governance), Style::Plain, "locked in mode governance: only an identity with s3:BypassGovernanceRetention can delete them before their day; whether there is one, only the policies of the account say"),
                (sum(|c| c.locks.held), Style::Good, "under a legal hold: nobody can delete them until it is released, which takes s3:PutObjectLegalHold"),
                (sum(|c| c.locks.unlocked), Style::Warn, "not locked: whoever has s3:DeleteObjectVersion can delete them"),
            ] {
                if n > 0 {
                    lines.push((style, format!("{} {what}", files(n))));
                }
            }
            let locked = [sum(|c| c.locks.compliance), sum(|c| c.locks.governance)];
            let ends = report.classes.iter().filter_map(|c| c.locks.last_until).max();
            if let Some(last) = ends.filter(|_| locked.iter().any(|n| *n > 0)) {
                lines.push((Style::Plain, format!("the last lock ends on {}", last.day())));
            }
        }
    }
    lines.push(match report.may_delete {
        Some(true) => (
            Style::Warn,
            "whoever made this report can delete what is not locked".into(),
        ),
        Some(false) => (Style::Good, "whoever made this report cannot delete".into()),
        None => (
            Style::Warn,
            "the store did not say whether whoever made this report can delete".into(),
        ),
    });
    lines
}

fn print_deleted(run: &mut Run, report: &Report) -> Result<(), Failure> {
    let gone: Vec<&DeletedFile> = report.deleted.iter().filter(|file| file.gone).collect();
    let waiting = report.deleted.len() - gone.len();
    if gone.is_empty() {
        run.output.line(&Text::plain("Nothing, by the records."))?;
    } else {
        let files = when::counted(gone.len() as u64, "session file");
        let rows = when::counted(gone.iter().map(|file| file.rows).sum(), "row");
        let line = format!("{files} with {rows}, each past its term and recorded before it went:");
        run.output.paragraph(&Text::plain(line))?;
        let mut table = Table::new(vec![
            Column::new("DELETED", 19),
            Column::new("CLASS", 8),
            Column::new("DAY", 10),
            Column::new("ROWS", 5).right(),
            Column::new("TERM", 8).right(),
            Column::new("COULD GO FROM", 10).optional(),
            Column::new("BY", 10).optional(),
            Column::new("OBJECT", 20).optional(),
        ]);
        for file in gone.iter().rev().take(DELETED_SHOWN) {
            table.row(deleted_row(run, file));
        }
        for line in table.lines(run.output.width()) {
            run.output.line(&line)?;
        }
        and_more(run, gone.len())?;
    }
    if waiting > 0 {
        let files = when::counted(waiting as u64, "session file");
        let text = format!(
            "{files} recorded as past the term and still there: a proof, a lock or a rule of the bucket has to come first"
        );
        run.output.paragraph(&Text::plain(text))?;
    }
    Ok(())
}

fn deleted_row(run: &Run, file: &DeletedFile) -> Vec<Text> {
    let object = file.key.rsplit('/').next().unwrap_or_default();
    vec![
        Text::plain(run.clock.long(file.recorded)),
        Text::styled(Style::Name, file.class.as_str()),
        Text::plain(file.day.as_deref().unwrap_or("-")),
        Text::plain(when::count(file.rows)),
        Text::plain(term(Some(file.term_s))),
        Text::plain(file.due.day()),
        Text::plain(file.by.as_str()),
        Text::styled(Style::Dim, object),
    ]
}

/// Says how many are not shown.
fn and_more(run: &mut Run, all: usize) -> Result<(), Failure> {
    if all > DELETED_SHOWN {
        let more = when::count((all - DELETED_SHOWN) as u64);
        let text = format!("and {more} before; -o json has them");
        run.output.line(&Text::styled(Style::Dim, text))?;
    }
    Ok(())
}

fn print_erased(run: &mut Run, report: &Report) -> Result<(), Failure> {
    if report.erased.is_empty() {
        return Ok(());
    }
    run.output.blank()?;
    heading(run, "What was erased")?;
    let sessions = when::counted(report.erased.len() as u64, "session");
    let text = format!(
        "The content of {sessions}, by destroying its key; the events are all there, and proven:"
    );
    run.output.paragraph(&Text::plain(text))?;
    let mut table = Table::new(vec![
        Column::new("ERASED", 19),
        Column::new("SESSION", 32),
        Column::new("USER", 8).optional(),
        Column::new("BY", 6).optional(),
        Column::new("WHY", 8).optional(),
    ]);
    for ErasedReport { erased, at } in report.erased.iter().rev().take(DELETED_SHOWN) {
        table.row(vec![
            Text::plain(run.clock.long(*at)),
            Text::styled(Style::Name, erased.erased_session.to_string()),
            Text::plain(erased.erased_user.as_deref().unwrap_or("-")),
            Text::plain(&erased.by),
            Text::plain(&erased.reason),
        ]);
    }
    for line in table.lines(run.output.width()) {
        run.output.line(&line)?;
    }
    and_more(run, report.erased.len())?;
    Ok(run.output.blank()?)
}

fn print_unexplained(run: &mut Run, report: &Report) -> Result<(), Failure> {
    for key in &report.unreadable {
        let text = format!("{key} cannot be read: see `hoop-replay verify`");
        run.output.paragraph(&Text::styled(Style::Warn, text))?;
    }
    if report.unexplained.is_empty() {
        let text =
            "Nothing is missing between the files that are there and those that were deleted.";
        return Ok(run.output.paragraph(&Text::styled(Style::Good, text))?);
    }
    let holes = when::counted(report.unexplained.len() as u64, "hole");
    let text = format!("{holes} that no record explains:");
    run.output.paragraph(&Text::styled(Style::Bad, text))?;
    for hole in report.unexplained.iter().take(HOLES_SHOWN) {
        bullet(run, &Text::styled(Style::Bad, hole_text(hole)))?;
    }
    if report.unexplained.len() > HOLES_SHOWN {
        run.output
            .line(&Text::styled(Style::Dim, "and more; -o json has them"))?;
    }
    Ok(())
}

fn hole_text(hole: &Hole) -> String {
    let Hole { class, shard, .. } = hole;
    let last = hole.pos_to.saturating_sub(1);
    let mut text = match hole.pos_from {
        Some(first) => format!("class {class}, shard {shard}: positions {first} to {last}"),
        None => format!("class {class}, shard {shard}: positions up to {last}"),
    };
    match &hole.missing {
        Some(missing) => text.push_str(&format!(", {missing} for one")),
        None => text.push_str(&format!(", before {}", hole.before)),
    }
    text
}
