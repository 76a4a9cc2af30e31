//! What legal holds concern: which session files have rows of which sessions, and whose these are.
//!
//! A file may hold rows of a session and not say whose it is, since only requests name the person; another file does,
//! perhaps of another class. So the sessions of a held user are found over all files before the files are. A file that
//! cannot be read is concerned by every hold: nobody can tell that it is not.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use hoop_schema::SessionId;
use hoop_schema::kinds::recorder::RecorderHold;

use crate::evidence::{Error, Evidence, StoredFile};
use crate::output::Progress;

/// Files that are asked at once.
const FILES_AT_ONCE: usize = 16;

/// Session files, and the sessions in them.
#[derive(Debug, Default)]
pub struct Holdings {
    /// The files, each with its sessions; `None` where the file cannot be read.
    files: Vec<(StoredFile, Option<Vec<SessionId>>)>,
    /// Whose each session is, by all files together.
    users: BTreeMap<SessionId, BTreeSet<String>>,
}

impl Holdings {
    /// Reads the sessions of all these files that are not known yet.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read(
        &mut self,
        evidence: &Evidence,
        files: &[StoredFile],
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let known: BTreeSet<String> = self.names().collect();
        let new = files
            .iter()
            .filter(|f| !known.contains(&f.name.to_string()));
        let mut answers = stream::iter(new)
            .map(|file| async move { (file, evidence.summaries_of(file, false).await) })
            .buffered(FILES_AT_ONCE);
        let mut read = Vec::new();
        while let Some((file, summaries)) = answers.next().await {
            progress.advance(file.bytes, &file.name.to_string());
            let sessions = match summaries {
                Ok(summaries) => {
                    let mut sessions = Vec::with_capacity(summaries.len());
                    for summary in summaries {
                        sessions.push(summary.session_id);
                        self.know(summary.session_id, summary.user);
                    }
                    Some(sessions)
                }
                Err(Error::Damaged { .. }) => None,
                Err(e) => return Err(e),
            };
            read.push((file.clone(), sessions));
        }
        drop(answers);
        self.files.extend(read);
        Ok(())
    }

    /// Takes note of a session that may be in no file yet.
    pub fn know(&mut self, session: SessionId, user: Option<String>) {
        self.users.entry(session).or_default().extend(user);
    }

    /// Sessions whose ids begin with these hexadecimal digits.
    pub fn sessions(&self, prefix: &str) -> Vec<SessionId> {
        let ids = self.users.keys().copied();
        ids.filter(|id| id.to_string().starts_with(prefix))
            .collect()
    }

    /// How many sessions a hold covers, as far as is known.
    pub fn sessions_of(&self, hold: &RecorderHold) -> usize {
        self.users
            .keys()
            .filter(|id| self.is_covered(**id, hold))
            .count()
    }

    /// The files that a hold keeps.
    pub fn files_of<'a>(&'a self, hold: &'a RecorderHold) -> impl Iterator<Item = &'a StoredFile> {
        let concerned = self.files.iter().filter(|(_, sessions)| match sessions {
            Some(sessions) => sessions.iter().any(|id| self.is_covered(*id, hold)),
            None => true,
        });
        concerned.map(|(file, _)| file)
    }

    /// Files that cannot be read, so that it cannot be told whose sessions they hold.
    pub fn unreadable(&self) -> impl Iterator<Item = &StoredFile> {
        let unreadable = self.files.iter().filter(|(_, sessions)| sessions.is_none());
        unreadable.map(|(file, _)| file)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.files.iter().map(|(file, _)| file.name.to_string())
    }

    fn is_covered(&self, session: SessionId, hold: &RecorderHold) -> bool {
        let of_user = |user: &String| self.users.get(&session).is_some_and(|of| of.contains(user));
        hold.held_session == Some(session) || hold.held_user.as_ref().is_some_and(of_user)
    }
}
