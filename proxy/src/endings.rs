//! What was ended before its time: a session, a login, or a person's access as a whole.
//!
//! An administrator writes endings into a file (`hoop sessions end`), the gateway looks at it every second. Whoever an
//! ending is about is refused with 401, and what they have open ends at once (see `lifetime`).
//!
//! # The file
//! One [`Ending`] as JSON on each line, at most [`ENDINGS_MAX`] of them:
//!
//! ```text
//! {"login":"5a1f…","user":"alice","at":"2026-11-23T09:30:00.000000Z","until":"2027-12-28T09:30:00.000000Z","by":"root","reason":"laptop lost"}
//! ```
//!
//! `session`, `login` and `user` say who it is about: at least one of them, and all that are there have to fit. An
//! ending holds until `until`, and may be removed from the file after that. One whose `until` is its own `at` is a pardon: it
//! takes the place of what it pardons, so that the record has it.
//!
//! # Promises
//! - Whoever writes the file is never caught halfway: a last line without its line break is a file that is being
//!   written, and changes nothing. So does a line that cannot be read.
//! - A new ending counts at the next look. What is taken out of the file counts when it is still out at the look after
//!   that, so that nobody is pardoned because the file was emptied to be written anew. A file that is gone pardons nobody.
//! - As long as nothing is ended, a request pays for one load from memory.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hoop_schema::kinds::session::AccessEnded;
use hoop_schema::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::authenticate::Identity;

mod file;

pub(crate) use file::EndingsFile;
pub use file::{EndingsError, is_taken};

/// The most endings of one file. A company does not end ten thousand logins in the year that they are remembered.
pub const ENDINGS_MAX: usize = 10_000;

/// The longest user name, login or reason, in bytes: an ending has to fit into an event.
pub const TEXT_BYTES_MAX: usize = 2048;

/// Something that was ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// The session, by any id that one basis had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The login: `sid` or `jti` of its tokens, serial number of a certificate, beginning of a static token's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The user, as authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When somebody said so.
    pub at: Timestamp,
    /// Until when it holds.
    pub until: Timestamp,
    /// Who said so. A claim.
    pub by: String,
    /// Why; the person it is about reads it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Why a file of endings cannot be used, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndingsParseError {
    /// A line is not an ending.
    #[error("line {line}: {message}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The last line has no line break.
    #[error("the last line has no line break: somebody is writing it")]
    Unfinished,
    /// There are too many.
    #[error("it has more than {ENDINGS_MAX} lines; take out those that are over")]
    TooMany,
}

/// The endings that hold now. One per gateway.
#[derive(Debug)]
pub(crate) struct Endings {
    current: ArcSwap<Index>,
    /// Tells open streams to look again.
    changes: watch::Sender<()>,
}

/// Endings by the narrowest of what they are about.
#[derive(Debug, Default)]
struct Index {
    sessions: HashMap<SessionId, Vec<Arc<Ending>>>,
    logins: HashMap<String, Vec<Arc<Ending>>>,
    users: HashMap<String, Vec<Arc<Ending>>>,
}

/// The ids that an ending may know a session by: its own, the first one of its basis, and that of its predecessor.
pub(crate) type SessionNames = [Option<SessionId>; 3];

impl Ending {
    /// Whether what it says can be remembered, and is about somebody.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        if self.session.is_none() && self.login.is_none() && self.user.is_none() {
            return Err("it names no session, login or user".into());
        }
        let texts = [&self.login, &self.user].into_iter().flatten();
        for text in texts.clone() {
            if text.is_empty() {
                return Err("a login or a user has no name".into());
            }
        }
        let long = |text: &String| text.len() > TEXT_BYTES_MAX;
        if texts.chain([&self.by, &self.reason]).any(long) {
            return Err(format!("a text is longer than {TEXT_BYTES_MAX} bytes"));
        }
        if self
            .by
            .chars()
            .chain(self.reason.chars())
            .any(char::is_control)
        {
            return Err(
                "by or reason has a control character, and people read it on a terminal".into(),
            );
        }
        Ok(())
    }

    /// Whether it is about this session, login and user; `None` is one that is not known.
    pub fn is_about(
        &self,
        session: Option<SessionId>,
        login: Option<&str>,
        user: Option<&str>,
    ) -> bool {
        (self.session.is_none() || self.session == session) && self.is_of(login, user)
    }

    /// Whether it is about this login and user, as far as it names them.
    fn is_of(&self, login: Option<&str>, user: Option<&str>) -> bool {
        let fits = |named: &Option<String>, have: Option<&str>| {
            named.is_none() || named.as_deref() == have
        };
        fits(&self.login, login) && fits(&self.user, user)
    }

    /// Whether it is about the same as another one, whatever else they say.
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        self.session == other.session && self.login == other.login && self.user == other.user
    }

    /// What it is about, in the words of whoever ends something.
    pub fn what(&self) -> String {
        let of_user = match &self.user {
            Some(user) => format!(" of {user}"),
            None => String::new(),
        };
        match (&self.session, &self.login) {
            (Some(id), _) => format!("session {id}{of_user}"),
            (None, Some(login)) => format!("login {login}{of_user}"),
            (None, None) => format!("access{of_user}"),
        }
    }

    /// What the person is told.
    pub(crate) fn message(&self) -> String {
        let what = match (&self.session, &self.login, &self.user) {
            (Some(_), ..) => "this session was ended".to_owned(),
            (None, Some(_), _) => "this login was ended".to_owned(),
            (None, None, user) => {
                let user = user.as_deref().unwrap_or_default();
                format!("the access of {user} was ended until {}", self.until)
            }
        };
        let why = match self.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let next = match (&self.session, &self.login) {
            (None, Some(_)) => "; log in anew (after `hoop logout`, where `hoop login` was used)",
            _ => "",
        };
        format!("{what} by {}{why}{next}", self.by)
    }

    /// The same as an event says it.
    pub(crate) fn event(&self) -> AccessEnded {
        AccessEnded {
            ended_session: self.session,
            ended_login: self.login.clone(),
            ended_user: self.user.clone(),
            ended_at: self.at,
            until: self.until,
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// Reads the text of a file of endings.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Ending>, EndingsParseError> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(EndingsParseError::Unfinished);
    }
    let mut endings = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |message: String| EndingsParseError::Line {
            line: i + 1,
            message,
        };
        let ending: Ending =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        ending.check().map_err(wrong)?;
        if endings.len() == ENDINGS_MAX {
            return Err(EndingsParseError::TooMany);
        }
        endings.push(ending);
    }
    Ok(endings)
}

/// The text of a file that holds these endings.
///
/// # Errors
/// When [`parse`] would refuse it.
pub fn write(endings: &[Ending]) -> Result<String, EndingsParseError> {
    if endings.len() > ENDINGS_MAX {
        return Err(EndingsParseError::TooMany);
    }
    let mut text = String::new();
    for (i, ending) in endings.iter().enumerate() {
        ending.check().map_err(|message| EndingsParseError::Line {
            line: i + 1,
            message,
        })?;
        text += &serde_json::to_string(ending).expect("names, texts and times have a JSON form");
        text.push('\n');
    }
    Ok(text)
}

impl Endings {
    pub(crate) fn new(endings: &[Ending]) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(Index::of(endings)),
            changes: watch::Sender::new(()),
        })
    }

    /// The ending that this identity falls under in a session, if any.
    pub(crate) fn find(
        &self,
        who: &Identity,
        session: &SessionNames,
        now: Timestamp,
    ) -> Option<Arc<Ending>> {
        let index = self.current.load();
        if index.is_empty() {
            return None;
        }
        let of_sessions = session.iter().flatten().map(|id| index.sessions.get(id));
        let of_login = who.login.as_deref().map(|login| index.logins.get(login));
        let of_user = [index.users.get(&who.user.username)];
        let mut candidates = of_sessions
            .chain(of_login)
            .chain(of_user)
            .flatten()
            .flatten();
        candidates
            .find(|ending| {
                let login = who.login.as_deref();
                ending.until > now && ending.is_of(login, Some(&who.user.username))
            })
            .cloned()
    }

    /// These hold from now on.
    fn set(&self, endings: &[Ending]) {
        self.current.store(Arc::new(Index::of(endings)));
        self.look_again();
    }

    /// Whether anybody who has something open may still have it is to be asked again.
    pub(crate) fn look_again(&self) {
        self.changes.send_replace(());
    }

    /// Changes whenever somebody may have been ended.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

impl Index {
    fn of(endings: &[Ending]) -> Self {
        let mut index = Self::default();
        for ending in endings {
            let ending = Arc::new(ending.clone());
            let about = match (ending.session, &ending.login, &ending.user) {
                (Some(session), ..) => index.sessions.entry(session).or_default(),
                (None, Some(login), _) => index.logins.entry(login.clone()).or_default(),
                (None, None, user) => {
                    let user = user.clone().unwrap_or_default();
                    index.users.entry(user).or_default()
                }
            };
            about.push(ending);
        }
        index
    }

    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.logins.is_empty() && self.users.is_empty()
    }
}

#[cfg(test)]
mod tests;
