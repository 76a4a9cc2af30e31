//! `hoop-replay grep`.

use clap::Args;
use hoop_schema::row::Row;
use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::Value;

use super::{FilterArgs, Run};
use crate::evidence::Entry;
use crate::exit::{ExitCode, Failure};
use crate::filter::full_resource;
use crate::output::text::{Style, Text};
use crate::output::{self, Format, Progress};
use crate::scan::Order;

/// The most memory that a pattern may take once compiled, in bytes.
const PATTERN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Characters shown around a match, so that a body of one line does not fill the screen.
const AROUND_CHARS: usize = 60;

/// From this width on there is room for dates.
const WIDE_COLUMNS: usize = 120;

/// Matches shown of one event.
const MATCHES_PER_EVENT_MAX: usize = 5;

/// Arguments of `grep`.
#[derive(Debug, Clone, Args)]
pub struct GrepArgs {
    /// A regular expression, searched for in every line of the events' texts (bodies, streams, names); a field of one
    /// line reads `name: value`
    pub pattern: String,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Only this session, or the first digits of its id
    #[arg(long)]
    pub session: Option<String>,
    /// At most so many events
    #[arg(long)]
    pub limit: Option<usize>,
}

/// One match, as `-o json` says it.
#[derive(Debug, Serialize)]
struct Match {
    session_id: String,
    event_id: String,
    ts: hoop_schema::Timestamp,
    kind: String,
    audit_id: Option<String>,
    request: String,
    /// Where in the event, as a JSON pointer.
    at: String,
    /// The line that matches.
    line: String,
}

pub(super) async fn run(run: &mut Run, args: &GrepArgs) -> Result<ExitCode, Failure> {
    let filter = args.filter.filter(&run.clock)?;
    let pattern = RegexBuilder::new(&args.pattern)
        .case_insensitive(args.ignore_case)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|e| Failure::usage(format!("the pattern cannot be used: {e}")))?;
    let view = run.view(&filter).await?;
    let found = match &args.session {
        Some(session) => Some(run.find(&view, session).await?),
        None => None,
    };
    let total = view.catalog.files.iter().map(|f| f.bytes).sum();
    let mut progress = Progress::new(&run.output, total);
    let Run { clock, output, .. } = run;
    let (mut events, mut all, mut last_session) = (0, Vec::new(), None);
    let damaged = view
        .scan(
            &filter,
            found.as_ref(),
            Order::Session,
            &mut progress,
            |entry, row| {
                let matches = matches_of(entry, row, &pattern);
                if matches.is_empty() {
                    return Ok::<_, Failure>(true);
                }
                events += 1;
                match output.format() {
                    Format::Table => {
                        if last_session != Some(row.session_id) {
                            last_session = Some(row.session_id);
                            let heading = heading(row);
                            output.line(&heading)?;
                        }
                        for found in &matches {
                            let time = if output.width() < WIDE_COLUMNS {
                                clock.of_day(row.ts)
                            } else {
                                clock.long(row.ts)
                            };
                            output.line(&match_line(found, &time, &pattern))?;
                        }
                    }
                    Format::Jsonl => {
                        for found in &matches {
                            output.json(found)?;
                        }
                    }
                    Format::Json => all.extend(matches),
                }
                Ok(args.limit.is_none_or(|limit| events < limit))
            },
        )
        .await?;
    drop(progress);
    if run.output.format() == Format::Json {
        run.output.json(&all)?;
    }
    for damage in &damaged {
        output::notice(&damage.to_string());
    }
    let is_whole = super::content_is_whole(&view).await && damaged.is_empty();
    Ok(match (is_whole, events) {
        (false, _) => ExitCode::Damaged,
        (true, 0) => ExitCode::NotFound,
        (true, _) => ExitCode::Success,
    })
}

fn heading(row: &Row<'_>) -> Text {
    let user = row.user().map_or("", |u| &*u.username);
    Text::styled(Style::Name, row.session_id.to_string())
        .with(Style::Plain, "  ")
        .with(Style::Bold, user)
}

/// The lines of an event that match. Values are searched, not raw bytes, so that escapes and line breaks inside texts
/// do not hide a match.
fn matches_of(entry: &Entry, row: &Row<'_>, pattern: &Regex) -> Vec<Match> {
    let Ok(value) = serde_json::from_slice::<Value>(entry.shown()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    search(&value, &mut String::new(), &mut |at, line| {
        if pattern.is_match(line) && found.len() < MATCHES_PER_EVENT_MAX {
            found.push((at.to_owned(), line.to_owned()));
        }
    });
    let request = row.request.as_ref().map_or(String::new(), |r| {
        let object = r.object_ref.as_ref().map_or(String::new(), |o| {
            format!(
                "{} {}",
                full_resource(&o.resource, &o.subresource),
                &*o.name
            )
        });
        format!("{} {}", &*r.verb, object.trim()).trim().to_owned()
    });
    let of = |(at, line)| Match {
        session_id: row.session_id.to_string(),
        event_id: row.event_id.to_string(),
        ts: row.ts,
        kind: row.kind.to_string(),
        audit_id: row.audit_id().map(str::to_owned),
        request: request.clone(),
        at,
        line,
    };
    found.into_iter().map(of).collect()
}

/// Every line of every text and number in a value, with its JSON pointer. A field of one line is `name: value`.
fn search(value: &Value, at: &mut String, found: &mut impl FnMut(&str, &str)) {
    let length = at.len();
    match value {
        Value::String(text) => text.lines().for_each(|line| found(at, line)),
        Value::Number(number) => found(at, &number.to_string()),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                at.push_str(&format!("/{i}"));
                search(item, at, found);
                at.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                at.push('/');
                at.push_str(&name.replace('~', "~0").replace('/', "~1"));
                match field {
                    Value::String(text) if !text.contains('\n') => {
                        found(at, &format!("{name}: {text}"));
                    }
                    Value::Number(_) | Value::Bool(_) => found(at, &format!("{name}: {field}")),
                    _ => search(field, at, found),
                }
                at.truncate(length);
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn match_line(found: &Match, time: &str, pattern: &Regex) -> Text {
    let mut line = Text::styled(Style::Dim, format!("  {time} "));
    let what = if found.request.is_empty() {
        &found.kind
    } else {
        &found.request
    };
    line.push(Style::Plain, what);
    line.push(Style::Plain, "  ");
    let mut at = 0;
    for (i, hit) in pattern.find_iter(&found.line).enumerate() {
        let before = &found.line[at..hit.start()];
        let skip = before.chars().count().saturating_sub(AROUND_CHARS);
        if skip > 0 {
            line.push(Style::Dim, "…");
        }
        let skip = if i == 0 || skip > 0 { skip } else { 0 };
        line.push(Style::Plain, before.chars().skip(skip).collect::<String>());
        line.push(Style::Match, hit.as_str());
        at = hit.end();
    }
    let rest = &found.line[at..];
    line.push(
        Style::Plain,
        rest.chars().take(AROUND_CHARS).collect::<String>(),
    );
    line
}
