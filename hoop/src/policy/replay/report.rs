//! What is said about a replay: a table for people, lines of JSON for programs.

use std::io;
use std::path::Path;

use hoop_proxy::policy::Policy;
use hoop_replayer::output::table::{Column, Table};
use hoop_replayer::when::count;
use hoop_schema::kinds::request::Effect;
use serde::Serialize;

use super::tally::{Change, Group, Said, Seen, Tally};
use crate::output::{Line, Look, Printer};

/// Groups of each kind of change that people are shown.
const SHOWN_MAX: usize = 20;

/// Digits of a session that `hoop replay show` takes.
const SESSION_DIGITS: usize = 12;

pub(super) fn table(
    tally: &Tally,
    policy: &Policy,
    file: &Path,
    printer: &mut Printer,
) -> io::Result<()> {
    let (file, revision) = (file.display(), policy.revision());
    let mut text = format!("{} requests", count(tally.asked()));
    if let Some((first, last)) = tally.span {
        text += &format!(" from {} to {}", minute(first), minute(last));
    }
    text += &format!(", decided again by {file} (revision {revision})");
    printer.wrapped(&Line::plain(text))?;
    printer.blank()?;
    let mut counted = |look: Look, n: u64, what: &str| {
        let look = if n == 0 { Look::Dim } else { look };
        let mut line = Line::new();
        let number = count(n);
        line.pad_to(12_usize.saturating_sub(number.len()));
        line.push(look, format!("{number}  {what}"));
        printer.line(&line)
    };
    counted(Look::Good, tally.same, "the same")?;
    for change in Change::ALL {
        counted(look(change), tally.changed(change), words(change))?;
    }
    counted(
        Look::Plain,
        tally.not_asked,
        "refused before any policy is asked",
    )?;
    for change in Change::ALL {
        groups(tally, change, printer)?;
    }
    notes(tally, printer)
}

fn groups(tally: &Tally, change: Change, printer: &mut Printer) -> io::Result<()> {
    let groups = tally.groups_of(change);
    if groups.is_empty() {
        return Ok(());
    }
    printer.heading(words(change))?;
    let reason = if change == Change::CannotSay {
        "WHY"
    } else {
        "NOW"
    };
    let mut table = Table::new(vec![
        Column::new("COUNT", 9).right(),
        Column::new("WHO", 10),
        Column::new("VERB", 6),
        Column::new("RESOURCE", 12),
        Column::new("NAMESPACE", 9),
        Column::new(reason, 24),
        Column::new("FOR INSTANCE", SESSION_DIGITS),
        Column::new("WAS", 24).optional(),
    ]);
    for (group, seen) in groups.iter().take(SHOWN_MAX) {
        table.row(cells(group, seen, look(change)));
    }
    for line in table.lines(printer.width()) {
        printer.clipped(&line)?;
    }
    let more = groups.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        let text = format!("and {} groups more: -o json has them", count(more as u64));
        printer.line(&Line::styled(Look::Dim, text))?;
    }
    Ok(())
}

fn cells(group: &Group, seen: &Seen, look: Look) -> Vec<Line> {
    let mut who = Line::plain(&group.user);
    if !group.actor.is_empty() {
        who.push(Look::Dim, format!(" by {}", group.actor));
    }
    let mut resource = Line::plain(&group.resource);
    if !group.api_group.is_empty() {
        resource.push(Look::Dim, format!(".{}", group.api_group));
    }
    let now = match &seen.candidate {
        Some(said) => decision(said),
        None => seen.why.clone(),
    };
    let mut session = seen.session_id.to_string();
    session.truncate(SESSION_DIGITS);
    vec![
        Line::styled(look, count(seen.count)),
        who,
        Line::plain(&group.verb),
        resource,
        Line::plain(&group.namespace),
        Line::plain(now),
        Line::styled(Look::Name, session),
        Line::styled(Look::Dim, decision(&seen.recorded)),
    ]
}

fn notes(tally: &Tally, printer: &mut Printer) -> io::Result<()> {
    let mut notes = Vec::new();
    if !tally.groups.is_empty() {
        notes.push("An instance is a session: `hoop replay show` shows it.".to_owned());
    }
    if tally.ungrouped > 0 {
        let n = count(tally.ungrouped);
        notes.push(format!(
            "{n} more that differ are counted, but in no group."
        ));
    }
    if tally.unreadable > 0 {
        let n = count(tally.unreadable);
        notes.push(format!("{n} events cannot be read and are left out."));
    }
    if tally.damaged_files > 0 {
        let n = count(tally.damaged_files);
        notes.push(format!(
            "{n} files are damaged: this is not all of the record."
        ));
    }
    if !notes.is_empty() {
        printer.blank()?;
    }
    for note in notes {
        printer.wrapped(&Line::styled(Look::Dim, note))?;
    }
    Ok(())
}

fn look(change: Change) -> Look {
    match change {
        Change::NewlyDenied => Look::Bad,
        Change::NewlyHeld | Change::CannotSay => Look::Warn,
        Change::NewlyAllowed => Look::Match,
    }
}

fn words(change: Change) -> &'static str {
    match change {
        Change::NewlyDenied => "newly denied",
        Change::NewlyHeld => "newly held for an approval",
        Change::NewlyAllowed => "newly allowed",
        Change::CannotSay => "cannot be told from the record",
    }
}

/// `allow by read of developers`.
fn decision(said: &Said) -> String {
    let effect = effect(said.effect);
    match (&said.rule, &said.profile) {
        (Some(rule), Some(profile)) => format!("{effect} by {rule} of {profile}"),
        (None, Some(profile)) => format!("{effect} by {profile}"),
        _ => format!("{effect}: no rule"),
    }
}

/// In the words of the policy file.
fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Hold => "approve",
    }
}

/// `2026-11-23 10:00`, in UTC.
fn minute(ts: hoop_schema::Timestamp) -> String {
    let text = ts.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {}", time.get(..5).unwrap_or(time))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupLine<'a> {
    line: &'static str,
    change: &'static str,
    count: u64,
    user: &'a str,
    actor: &'a str,
    verb: &'a str,
    api_group: &'a str,
    resource: &'a str,
    namespace: &'a str,
    first: hoop_schema::Timestamp,
    last: hoop_schema::Timestamp,
    /// The first of them.
    session_id: String,
    event_id: String,
    recorded: SaidLine<'a>,
    /// Null where it cannot be told.
    candidate: Option<SaidLine<'a>>,
    message: &'a str,
}

#[derive(Serialize)]
struct SaidLine<'a> {
    effect: &'static str,
    profile: Option<&'a str>,
    rule: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryLine<'a> {
    line: &'static str,
    revision: &'a str,
    same: u64,
    newly_denied: u64,
    newly_held: u64,
    newly_allowed: u64,
    cannot_say: u64,
    not_asked: u64,
    /// Of these, requests that are in no group.
    ungrouped: u64,
    unreadable: u64,
    damaged_files: u64,
}

pub(super) fn json(tally: &Tally, policy: &Policy, printer: &mut Printer) -> io::Result<()> {
    for change in Change::ALL {
        for (group, seen) in tally.groups_of(change) {
            print(&group_line(group, seen), printer)?;
        }
    }
    let summary = SummaryLine {
        line: "summary",
        revision: policy.revision(),
        same: tally.same,
        newly_denied: tally.changed(Change::NewlyDenied),
        newly_held: tally.changed(Change::NewlyHeld),
        newly_allowed: tally.changed(Change::NewlyAllowed),
        cannot_say: tally.changed(Change::CannotSay),
        not_asked: tally.not_asked,
        ungrouped: tally.ungrouped,
        unreadable: tally.unreadable,
        damaged_files: tally.damaged_files,
    };
    print(&summary, printer)
}

fn group_line<'a>(group: &'a Group, seen: &'a Seen) -> GroupLine<'a> {
    GroupLine {
        line: "group",
        change: group.change.as_str(),
        count: seen.count,
        user: &group.user,
        actor: &group.actor,
        verb: &group.verb,
        api_group: &group.api_group,
        resource: &group.resource,
        namespace: &group.namespace,
        first: seen.first_ts,
        last: seen.last_ts,
        session_id: seen.session_id.to_string(),
        event_id: seen.event_id.to_string(),
        recorded: said_line(&seen.recorded),
        candidate: seen.candidate.as_ref().map(said_line),
        message: &seen.why,
    }
}

fn said_line(said: &Said) -> SaidLine<'_> {
    SaidLine {
        effect: effect(said.effect),
        profile: said.profile.as_deref(),
        rule: said.rule.as_deref(),
    }
}

fn print(line: &impl Serialize, printer: &mut Printer) -> io::Result<()> {
    printer.json(line)
}
