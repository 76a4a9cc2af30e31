//! Which session files and sealed objects a legal hold covers.
//!
//! A file is covered when it has rows of a held session, or of a session of a held user. Who a session is of may stand
//! in another file, even of another class: the decisions of a session and its bodies can be kept for different terms.
//! A session lasts a day at most, so the files of the days around it are asked. What cannot be told is held.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, StringArray};
use bytes::Bytes;
use hoop_schema::evidence::seal::SEALED_PREFIX;
use hoop_schema::evidence::{EVENTS_PREFIX, FileName};
use hoop_schema::kinds::recorder::RecorderHold;
use hoop_schema::{DAY_MICROS, SessionId, Timestamp};
use hoop_sinks::store::holds::covers;
use hoop_sinks::store::{EvidenceStore, StoreError};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::index::rebuild;

/// Days before and after a file's own in which another file may say who its sessions are of: a session lasts 24 hours
/// at most, and what waited in a spool may be a day late.
const NEIGHBOUR_DAYS: i64 = 2;

/// A session of a file, and whose it is, as far as that file says.
pub(crate) type OwnedSession = (SessionId, Option<String>);

/// The question asked of many files, with what was learned on the way.
#[derive(Debug, Default)]
pub(crate) struct Held {
    holds: Vec<RecorderHold>,
    /// All files by day, once they were needed.
    files: Option<BTreeMap<String, Vec<FileName>>>,
    /// By day, the sessions of held users; `None` when a file of that day cannot be read.
    of_users: BTreeMap<String, Option<BTreeSet<SessionId>>>,
}

impl Held {
    /// Takes the holds that are in force now. What was learned about others is forgotten.
    pub(crate) fn in_force(&mut self, holds: Vec<RecorderHold>) {
        if self.holds != holds {
            *self = Self {
                holds,
                ..Self::default()
            };
        }
    }

    /// Whether nothing is held.
    pub(crate) fn is_nothing(&self) -> bool {
        self.holds.is_empty()
    }

    /// Whether a hold covers the file.
    pub(crate) async fn covers(&mut self, store: &dyn EvidenceStore, file: &FileName) -> bool {
        if self.is_nothing() {
            return false;
        }
        let Some(sessions) = sessions_in(store, file).await else {
            return true;
        };
        if covers_any(&self.holds, &sessions) {
            return true;
        }
        let unnamed: Vec<SessionId> = sessions
            .into_iter()
            .filter_map(|(session, user)| user.is_none().then_some(session))
            .collect();
        let names_users = self.holds.iter().any(|hold| hold.held_user.is_some());
        if !names_users || unnamed.is_empty() {
            return false;
        }
        for day in neighbours(&file.day) {
            match self.of_users_on(store, &day).await {
                Ok(Some(of_users)) if unnamed.iter().any(|s| of_users.contains(s)) => return true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return true,
            }
        }
        false
    }

    /// The sessions of held users on one day.
    async fn of_users_on(
        &mut self,
        store: &dyn EvidenceStore,
        day: &str,
    ) -> Result<&Option<BTreeSet<SessionId>>, StoreError> {
        if self.files.is_none() {
            let mut by_day: BTreeMap<String, Vec<FileName>> = BTreeMap::new();
            for prefix in [EVENTS_PREFIX, SEALED_PREFIX] {
                let listed = store.list(prefix, None).await?;
                let names = listed.iter().filter_map(|object| object.key.parse().ok());
                for file in names {
                    let file: FileName = file;
                    by_day.entry(file.day.clone()).or_default().push(file);
                }
            }
            self.files = Some(by_day);
        }
        if !self.of_users.contains_key(day) {
            let files = self.files.as_ref().and_then(|files| files.get(day));
            let mut found = Some(BTreeSet::new());
            for file in files.into_iter().flatten() {
                let sessions = sessions_in(store, file).await;
                let (Some(found_so_far), Some(sessions)) = (&mut found, sessions) else {
                    found = None;
                    break;
                };
                let of_held = sessions.into_iter().filter(|(session, user)| {
                    user.is_some() && covers(&self.holds, *session, user.as_deref())
                });
                found_so_far.extend(of_held.map(|(session, _)| session));
            }
            self.of_users.insert(day.to_owned(), found);
        }
        Ok(&self.of_users[day])
    }
}

/// Whether a hold covers one of the sessions.
pub(crate) fn covers_any(holds: &[RecorderHold], sessions: &[OwnedSession]) -> bool {
    sessions
        .iter()
        .any(|(session, user)| covers(holds, *session, user.as_deref()))
}

/// The days around one, itself first.
fn neighbours(day: &str) -> Vec<String> {
    let mut days = vec![day.to_owned()];
    if let Some(begin) = Timestamp::beginning_of(day) {
        for away in 1..=NEIGHBOUR_DAYS {
            days.push(begin.plus_micros(-away * DAY_MICROS).day());
            days.push(begin.plus_micros(away * DAY_MICROS).day());
        }
    }
    days
}

/// The sessions of a file, by its index or by itself; `None` when that cannot be told. A file that is gone has none.
async fn sessions_in(store: &dyn EvidenceStore, file: &FileName) -> Option<Vec<OwnedSession>> {
    if let Ok(index) = store.get(&file.index_key(), 0..u64::MAX).await
        && let Some(sessions) = sessions_of(index)
    {
        return Some(sessions);
    }
    match store.get(&file.to_string(), 0..u64::MAX).await {
        Ok(bytes) => rebuild(bytes)
            .ok()
            .and_then(|index| sessions_of(index.into())),
        Err(StoreError::NotFound { .. }) => Some(Vec::new()),
        Err(_) => None,
    }
}

/// The sessions of an index; `None` when it is damaged.
pub(crate) fn sessions_of(index: Bytes) -> Option<Vec<OwnedSession>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(index)
        .ok()?
        .build()
        .ok()?;
    let mut sessions = Vec::new();
    for batch in reader {
        let batch = batch.ok()?;
        let text = |name| {
            batch
                .column_by_name(name)?
                .as_any()
                .downcast_ref::<StringArray>()
        };
        let (ids, users) = (text("session_id")?, text("username")?);
        for row in 0..batch.num_rows() {
            let user = users.is_valid(row).then(|| users.value(row).to_owned());
            sessions.push((ids.value(row).parse().ok()?, user));
        }
    }
    Some(sessions)
}

#[cfg(test)]
mod tests;
