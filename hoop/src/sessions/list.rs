//! `hoop sessions list`.

use clap::Args;
use hoop_proxy::endings::Ending;
use hoop_replayer::activity::Activity;
use hoop_replayer::output::table::{Column, Table};
use hoop_replayer::sessions::short_id_digits;
use hoop_replayer::when::{self, Clock};
use hoop_schema::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::ended::EndedFile;
use super::{DataArgs, Stop, activity, data};
use crate::config::Environment;
use crate::exit::ExitCode;
use crate::output::{Line, Look, Printer};

/// Characters of a login's name that are shown; `hoop sessions end --login` takes its beginning.
const LOGIN_CHARACTERS: usize = 12;

/// Arguments of `sessions list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Where to look.
    #[command(flatten)]
    pub data: DataArgs,
    /// Also what is over, if it was active since: RFC 3339, a date, `today`, or how long ago, such as `30m`
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub since: String,
    /// Also connections that only asked what the API server offers
    #[arg(long)]
    pub all: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputForm,
    /// Show times in UTC instead of local time
    #[arg(long)]
    pub utc: bool,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputForm {
    /// For people
    #[default]
    Table,
    /// One JSON array; fields are only ever added
    Json,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Something is under way.
    Open,
    /// Nothing is, but it may go on.
    Idle,
    /// It is over.
    Over,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    session: &'a Activity,
    state: State,
    /// What refuses it, if somebody ended it.
    ended_by: Option<&'a Ending>,
}

pub(super) async fn run(
    args: &ListArgs,
    environment: &Environment,
    printer: &mut Printer,
    now: Timestamp,
) -> Result<ExitCode, Stop> {
    let clock = Clock {
        now,
        zone: if args.utc {
            TimeZone::UTC
        } else {
            TimeZone::system()
        },
    };
    let since = clock
        .parse(&args.since)
        .map_err(|error| Stop::usage(error.to_string()))?;
    let data = data(&args.data, environment)?;
    let mut sessions = activity(&data, since, now).await?;
    sessions.retain(|session| args.all || !session.summary.is_discovery());
    let mut ended = EndedFile::of(&data).read()?;
    ended.retain(|ending| ending.until > now);
    let listed: Vec<_> = sessions
        .iter()
        .map(|session| Listed {
            session,
            state: State::of(session),
            ended_by: ending_of(session, &ended),
        })
        .collect();
    if args.output == OutputForm::Json {
        let text = serde_json::to_string_pretty(&listed).expect("names and times have a JSON form");
        for line in text.lines() {
            printer.line(&Line::plain(line))?;
        }
        return Ok(ExitCode::Success);
    }
    if listed.is_empty() {
        let nobody = format!("nobody is at work, and nobody was since {}", args.since);
        printer.line(&Line::styled(Look::Dim, nobody))?;
        return Ok(ExitCode::Success);
    }
    for line in table(&listed, &clock).lines(printer.width()) {
        printer.clipped(&line)?;
    }
    Ok(ExitCode::Success)
}

impl State {
    fn of(session: &Activity) -> Self {
        match session.open.as_slice() {
            _ if session.summary.ended => Self::Over,
            [] => Self::Idle,
            _ => Self::Open,
        }
    }
}

/// The ending that a session falls under. A login or a person who came back after it has another, or none.
fn ending_of<'a>(session: &Activity, ended: &'a [Ending]) -> Option<&'a Ending> {
    let summary = &session.summary;
    let (id, login) = (summary.session_id, session.login.as_deref());
    let user = summary.user.as_deref();
    ended
        .iter()
        .find(|ending| ending.is_about(Some(id), login, user))
}

fn table(listed: &[Listed<'_>], clock: &Clock) -> Table {
    let digits = short_id_digits(listed.iter().map(|l| &l.session.summary.session_id));
    let mut table = Table::new(vec![
        Column::new("SESSION", digits),
        Column::new("USER", 10),
        Column::new("LOGIN", LOGIN_CHARACTERS),
        Column::new("STATE", 5),
        Column::new("LAST", 6).right(),
        Column::new("SINCE", 12).optional(),
        Column::new("WHAT", 16),
        Column::new("FROM", 15).optional(),
    ]);
    for listed in listed {
        table.row(cells(listed, digits, clock));
    }
    table
}

fn cells(listed: &Listed<'_>, digits: usize, clock: &Clock) -> Vec<Line> {
    let session = listed.session;
    let summary = &session.summary;
    let id = summary.session_id.to_string();
    let ago = clock.now.as_micros() - summary.last_ts.as_micros();
    let login = session.login.as_deref().unwrap_or("-");
    let shown: String = login.chars().take(LOGIN_CHARACTERS).collect();
    vec![
        Line::styled(Look::Name, &id[..digits.min(id.len())]),
        match &summary.user {
            Some(user) => Line::plain(user),
            None => Line::styled(Look::Warn, "(nobody)"),
        },
        Line::plain(shown),
        match (listed.ended_by, listed.state) {
            (Some(_), State::Open) => Line::styled(Look::Bad, "ending"),
            (Some(_), _) => Line::styled(Look::Bad, "ended"),
            (None, State::Open) => Line::styled(Look::Good, format!("{} open", session.open.len())),
            (None, State::Idle) => Line::plain("idle"),
            (None, State::Over) => Line::styled(Look::Dim, "over"),
        },
        Line::plain(when::duration(u64::try_from(ago).unwrap_or(0))),
        Line::styled(Look::Dim, clock.short(summary.first_ts)),
        what(listed),
        Line::styled(Look::Dim, summary.source_ip.as_deref().unwrap_or_default()),
    ]
}

/// What is open, else what was done; through whom; and by whom it was ended.
fn what(listed: &Listed<'_>) -> Line {
    let session = listed.session;
    let mut line = Line::new();
    if let Some(ending) = listed.ended_by {
        line.push(Look::Bad, format!("by {}", ending.by));
        if !ending.reason.is_empty() {
            line.push(Look::Plain, format!(" ({})", ending.reason));
        }
        line.push(Look::Plain, "  ");
    }
    let first = session.summary.commands.iter().next();
    line.push(Look::Plain, first.map_or("", String::as_str));
    let mut did: Vec<String> = Vec::new();
    for open in &session.open {
        let place = [&open.namespace, &open.name];
        let place: Vec<&str> = place
            .iter()
            .map(|part| part.as_str())
            .filter(|part| !part.is_empty())
            .collect();
        did.push(
            format!("{} {} {}", open.verb, open.resource, place.join("/"))
                .trim_end()
                .to_owned(),
        );
    }
    if did.is_empty() {
        let join = |set: &std::collections::BTreeSet<String>| {
            set.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        };
        let summary = &session.summary;
        did.push(format!(
            "{} {}",
            join(&summary.verbs),
            join(&summary.resources)
        ));
    }
    let did = did.join("; ");
    if first.is_some() && !did.trim().is_empty() {
        line.push(Look::Dim, ": ");
    }
    line.push(Look::Dim, did.trim());
    if let Some(actor) = session.actors.first().or(session.client_id.as_ref()) {
        line.push(Look::Warn, format!("  via {actor}"));
    }
    line
}
