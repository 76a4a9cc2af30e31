//! `hoop sessions pardon`: what was ended is let in again.
//!
//! A pardon is the same ending once more, over at the time that it was said. So it goes the way of an ending: into the
//! file, to the gateway, into the record.

use clap::Args;
use hoop_proxy::endings::{Ending, TEXT_BYTES_MAX};
use hoop_schema::Timestamp;

use super::end::{LOGIN_CHARACTERS_MIN, who};
use super::ended::EndedFile;
use super::{DataArgs, Stop, data, notice_others};
use crate::config::Environment;
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};

/// Arguments of `sessions pardon`.
#[derive(Debug, Clone, Args)]
pub struct PardonArgs {
    /// Sessions that were ended, by the first digits of their ids
    #[arg(value_name = "SESSION")]
    pub sessions: Vec<String>,
    /// A login that was ended, by the first characters of its name; once for each
    #[arg(long, value_name = "LOGIN")]
    pub login: Vec<String>,
    /// A person whose access was ended; what was ended of their logins and sessions stays ended. Once for each
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Why; it is in the record
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Where to look.
    #[command(flatten)]
    pub data: DataArgs,
}

pub(super) async fn run(
    args: &PardonArgs,
    environment: &Environment,
    printer: &mut Printer,
    now: Timestamp,
) -> Result<ExitCode, Stop> {
    if args.sessions.is_empty() && args.login.is_empty() && args.user.is_empty() {
        return Err(Stop::usage(
            "say whom to pardon: sessions by their ids, --login LOGIN or --user NAME; `hoop sessions list` shows what is ended",
        ));
    }
    if args.reason.len() > TEXT_BYTES_MAX || args.reason.chars().any(char::is_control) {
        return Err(Stop::usage(format!(
            "the reason must be one line of at most {TEXT_BYTES_MAX} bytes"
        )));
    }
    let data = data(&args.data, environment)?;
    let file = EndedFile::of(&data);
    let mut ended = file.read()?;
    ended.retain(|ending| ending.until > now);
    let pardoned = wanted(args, &ended)?.into_iter().map(|ending| Ending {
        at: now,
        until: now,
        by: who(environment),
        reason: args.reason.clone(),
        ..ending.clone()
    });
    let pardoned: Vec<Ending> = pardoned.collect();
    file.pardon(&pardoned, now).await?;
    for ending in &pardoned {
        printer.line(&Line::styled(Look::Bold, "pardoned  ").with(Look::Name, ending.what()))?;
    }
    notice_others(&data);
    if !data.is_served() {
        output::notice("no gateway runs on this data directory: it holds from the next start on");
        return Ok(ExitCode::Success);
    }
    if !file.is_taken(&pardoned).await {
        return Err(Stop::failure(
            "it is written down, but the gateway has not said that it took it; its log says why",
        ));
    }
    let text = "the gateway has taken it: what comes is let in again, as the policy says";
    printer.line(&Line::styled(Look::Good, text))?;
    Ok(ExitCode::Success)
}

/// What is pardoned, each found among what is ended. Nothing is unless all of it is found.
fn wanted<'a>(args: &PardonArgs, ended: &'a [Ending]) -> Result<Vec<&'a Ending>, Stop> {
    let mut wanted = Vec::new();
    for prefix in &args.sessions {
        let digits = prefix.to_lowercase();
        let begins = |ending: &&Ending| {
            let session = ending.session.map(|session| session.to_string());
            !digits.is_empty() && session.is_some_and(|session| session.starts_with(&digits))
        };
        wanted.extend(one(ended.iter().filter(begins), "session", prefix)?);
    }
    for prefix in &args.login {
        let is_login = |ending: &&Ending| ending.session.is_none() && ending.login.is_some();
        let named = |ending: &&Ending| ending.login.as_ref() == Some(prefix);
        let begins = |ending: &&Ending| {
            let login = ending.login.as_ref();
            prefix.chars().count() >= LOGIN_CHARACTERS_MIN
                && login.is_some_and(|login| login.starts_with(prefix))
        };
        let logins = || ended.iter().filter(is_login);
        wanted.extend(match logins().any(|ending| named(&ending)) {
            true => one(logins().filter(named), "login", prefix)?,
            false => one(logins().filter(begins), "login", prefix)?,
        });
    }
    for user in &args.user {
        let is_user = |ending: &&Ending| {
            let alone = ending.session.is_none() && ending.login.is_none();
            alone && ending.user.as_ref() == Some(user)
        };
        wanted.extend(one(ended.iter().filter(is_user), "access", user)?);
    }
    Ok(wanted)
}

/// The ending that was meant; the same login may have been ended for several people.
fn one<'a>(
    found: impl Iterator<Item = &'a Ending>,
    what: &str,
    name: &str,
) -> Result<Vec<&'a Ending>, Stop> {
    let found: Vec<_> = found.collect();
    let same =
        |other: &&Ending| (other.session, &other.login) == (found[0].session, &found[0].login);
    if found.is_empty() {
        return Err(Stop::failure(format!(
            "no {what} {name} is ended; `hoop sessions list` shows what is"
        )));
    }
    if !found.iter().all(same) {
        return Err(Stop::usage(format!(
            "{} that are ended begin with {name}: give more of it",
            found.len()
        )));
    }
    Ok(found)
}
