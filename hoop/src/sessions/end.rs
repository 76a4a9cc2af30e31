//! `hoop sessions end`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use hoop_proxy::endings::{Ending, TEXT_BYTES_MAX};
use hoop_replayer::activity::Activity;
use hoop_replayer::when::{self, Clock};
use hoop_schema::session::{SESSION_IDLE_MICROS, SESSION_OPEN_MICROS};
use hoop_schema::{SessionId, Timestamp};
use jiff::tz::TimeZone;

use super::ended::EndedFile;
use super::{DataArgs, Stop, activity, data, notice_others};
use crate::config::Environment;
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};

/// How long an ended session is remembered: until it would have rolled over, and been idle.
const SESSION_TERM: Duration =
    Duration::from_micros((SESSION_OPEN_MICROS + SESSION_IDLE_MICROS) as u64);

/// How long an ended login is remembered: longer than any credential that this gateway issues lasts, 397 days.
const LOGIN_TERM: Duration = Duration::from_secs(400 * 86_400);

/// How long a person is kept out, when nobody says: time enough to close their account.
const USER_TERM: Duration = Duration::from_secs(3600);

/// The longest that somebody may say.
const TERM_MAX: Duration = Duration::from_secs(3660 * 86_400);

/// The fewest characters of a login's name that are taken for its beginning.
pub(super) const LOGIN_CHARACTERS_MIN: usize = 4;

/// Arguments of `sessions end`.
#[derive(Debug, Clone, Args)]
pub struct EndArgs {
    /// Sessions, by the first digits of their ids as `hoop sessions list` and `hoop-replay list` show them
    #[arg(value_name = "SESSION")]
    pub sessions: Vec<String>,
    /// A login, by the first characters of its name: every token and every session of it, refreshed ones too; once for each
    #[arg(long, value_name = "LOGIN")]
    pub login: Vec<String>,
    /// A person, by whatever credential and however they log in again, for as long as --for says; once for each
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Why; the person reads it, and it is in the record
    #[arg(long, default_value = "")]
    pub reason: String,
    /// For how long: a person one hour, a login 400 days, a session until it would be over anyway, unless said otherwise
    #[arg(long = "for", value_name = "DURATION", value_parser = term)]
    pub term: Option<Duration>,
    /// Take names that are not in the record of the last day as they are written
    #[arg(long)]
    pub unseen: bool,
    /// Where to look.
    #[command(flatten)]
    pub data: DataArgs,
}

pub(super) async fn run(
    args: &EndArgs,
    environment: &Environment,
    printer: &mut Printer,
    now: Timestamp,
) -> Result<ExitCode, Stop> {
    if args.sessions.is_empty() && args.login.is_empty() && args.user.is_empty() {
        return Err(Stop::usage(
            "say what to end: sessions by their ids, --login LOGIN or --user NAME; `hoop sessions list` shows them",
        ));
    }
    if args.reason.len() > TEXT_BYTES_MAX || args.reason.chars().any(char::is_control) {
        return Err(Stop::usage(format!(
            "the reason must be one line of at most {TEXT_BYTES_MAX} bytes"
        )));
    }
    let data = data(&args.data, environment)?;
    let since = now.plus_micros(-hoop_replayer::activity::OPEN_MICROS_MAX);
    let seen = activity(&data, since, now).await?;
    let endings = endings(args, &seen, environment, now)?;
    let file = EndedFile::of(&data);
    file.add(&endings, now).await?;
    for ending in &endings {
        printer.line(&said(ending, &seen, now))?;
    }
    notice_others(&data);
    if !data.is_served() {
        output::notice("no gateway runs on this data directory: it holds from the next start on");
        return Ok(ExitCode::Success);
    }
    if !file.is_taken(&endings).await {
        return Err(Stop::failure(
            "it is written down, but the gateway has not said that it took it; its log says why",
        ));
    }
    let text = "the gateway has taken it: what was open closes now, and what comes is refused";
    printer.line(&Line::styled(Look::Good, text))?;
    Ok(ExitCode::Success)
}

/// What to end, each found in the record. Nothing is ended unless all of it is found.
fn endings(
    args: &EndArgs,
    seen: &[Activity],
    environment: &Environment,
    now: Timestamp,
) -> Result<Vec<Ending>, Stop> {
    let nobody = Ending {
        session: None,
        login: None,
        user: None,
        at: now,
        until: now,
        by: who(environment),
        reason: args.reason.clone(),
    };
    let until = |term: Duration| {
        let micros = i64::try_from(args.term.unwrap_or(term).as_micros());
        now.plus_micros(micros.unwrap_or(i64::MAX / 2))
    };
    let mut endings = Vec::new();
    for prefix in &args.sessions {
        let (session, user) = session(prefix, seen, args.unseen)?;
        endings.push(Ending {
            session: Some(session),
            user,
            until: until(SESSION_TERM),
            ..nobody.clone()
        });
    }
    for prefix in &args.login {
        let (login, user) = login(prefix, seen, args.unseen)?;
        endings.push(Ending {
            login: Some(login),
            user,
            until: until(LOGIN_TERM),
            ..nobody.clone()
        });
    }
    for user in &args.user {
        let is_seen = |session: &Activity| session.summary.user.as_ref() == Some(user);
        if !args.unseen && !seen.iter().any(is_seen) {
            return Err(Stop::failure(format!(
                "nobody called {user} is in the record of the last day; with --unseen the name is taken as it is written"
            )));
        }
        endings.push(Ending {
            user: Some(user.clone()),
            until: until(USER_TERM),
            ..nobody.clone()
        });
    }
    Ok(endings)
}

/// The session whose id begins so, and whose it is.
fn session(
    prefix: &str,
    seen: &[Activity],
    unseen: bool,
) -> Result<(SessionId, Option<String>), Stop> {
    let prefix = prefix.to_lowercase();
    let begins = |session: &&Activity| {
        !prefix.is_empty() && session.summary.session_id.to_string().starts_with(&prefix)
    };
    let found: Vec<_> = seen.iter().filter(begins).collect();
    match (found.as_slice(), prefix.parse()) {
        ([one], _) => Ok((one.summary.session_id, one.summary.user.clone())),
        ([], Ok(id)) if unseen => Ok((id, None)),
        ([], _) => Err(Stop::failure(format!(
            "no session of the last day begins with {prefix}; `hoop sessions list --all` shows those there are"
        ))),
        (several, _) => Err(Stop::usage(format!(
            "{} sessions begin with {prefix}: give more digits",
            several.len()
        ))),
    }
}

/// The login whose name begins so, and whose it is.
fn login(prefix: &str, seen: &[Activity], unseen: bool) -> Result<(String, Option<String>), Stop> {
    let logins: BTreeSet<_> = seen
        .iter()
        .filter_map(|session| Some((session.login.as_deref()?, session.summary.user.as_deref())))
        .collect();
    let whole: Vec<_> = logins
        .iter()
        .filter(|(login, _)| *login == prefix)
        .collect();
    let begins = |(login, _): &&(&str, Option<&str>)| {
        prefix.chars().count() >= LOGIN_CHARACTERS_MIN && login.starts_with(prefix)
    };
    let found = if whole.is_empty() {
        logins.iter().filter(begins).collect()
    } else {
        whole
    };
    match found.as_slice() {
        [(login, user)] => Ok(((*login).to_owned(), user.map(str::to_owned))),
        [] if unseen && !prefix.is_empty() => Ok((prefix.to_owned(), None)),
        [] => Err(Stop::failure(format!(
            "no login of the last day begins with {prefix:?} (at least {LOGIN_CHARACTERS_MIN} characters); with --unseen \
             it is taken as the whole name"
        ))),
        [(_, one), (_, other), ..] => Err(Stop::usage(format!(
            "{} logins begin with {prefix:?}, such as those of {} and {}: give more of its name",
            found.len(),
            one.unwrap_or("nobody"),
            other.unwrap_or("nobody")
        ))),
    }
}

/// What was ended, and what of it is open.
fn said(ending: &Ending, seen: &[Activity], now: Timestamp) -> Line {
    let clock = Clock {
        now,
        zone: TimeZone::system(),
    };
    let about = |session: &&Activity| {
        let user = session.summary.user.as_deref();
        let id = Some(session.summary.session_id);
        !session.summary.ended && ending.is_about(id, session.login.as_deref(), user)
    };
    let sessions: Vec<_> = seen.iter().filter(about).collect();
    let open: usize = sessions.iter().map(|session| session.open.len()).sum();
    Line::styled(Look::Bold, "ended  ")
        .with(Look::Name, ending.what())
        .with(
            Look::Dim,
            format!(
                " until {}: {}, {} open",
                clock.long(ending.until),
                when::counted(sessions.len() as u64, "session"),
                when::counted(open as u64, "request")
            ),
        )
}

/// Who ends it, as the system knows them: a claim.
pub(super) fn who(environment: &Environment) -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter();
    let mut named = named.filter_map(|key| environment.get(*key));
    let fits = |name: &&String| !name.is_empty() && !name.chars().any(char::is_control);
    named
        .find(fits)
        .map_or("unknown", String::as_str)
        .to_owned()
}

fn term(text: &str) -> Result<Duration, String> {
    let term = humantime::parse_duration(text)
        .map_err(|_| "write how long, such as 30m, 12h or 7d".to_owned())?;
    if term.is_zero() || term > TERM_MAX {
        return Err("write more than nothing, and at most ten years".to_owned());
    }
    Ok(term)
}
