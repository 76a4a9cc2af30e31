//! Summaries of the sessions of one file: from its index, or from its events where there is no index.

use std::collections::HashMap;

use hoop_schema::SessionId;
use hoop_schema::row::Row;

use super::file::SessionFile;
use super::{Error, Evidence, StoredFile};
use crate::summary::SessionSummary;

impl Evidence {
    /// Sums up every session of `file`, as far as this file knows it.
    ///
    /// # Errors
    /// When the store does not answer or the file is damaged.
    pub async fn summaries_of(&self, file: &StoredFile) -> Result<Vec<SessionSummary>, Error> {
        let opened = SessionFile::open(self, file).await?;
        let mut sessions: HashMap<SessionId, SessionSummary> = HashMap::new();
        let mut entries = opened.entries(0..u64::MAX).await?;
        let mut row_number = 0u64;
        while let Some(batch) = entries.next().await? {
            for entry in batch {
                let row = Row::read(&entry.bytes).map_err(|e| {
                    Error::damaged(&file.name, format!("row {row_number} holds no event ({e})"))
                })?;
                row_number += 1;
                sessions
                    .entry(row.session_id)
                    .or_insert_with(|| SessionSummary::new(row.session_id, row.ts))
                    .absorb(&row);
            }
        }
        Ok(sessions.into_values().collect())
    }
}
