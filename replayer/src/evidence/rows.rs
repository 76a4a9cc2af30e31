//! Rows of session files as entries.

use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use hoop_schema::Timestamp;

use super::file::{Batches, SessionFile};
use super::{Entry, Error};

/// The columns that make an entry. All others can be derived from the event's bytes.
const ENTRY_COLUMNS: &[&str] = &["position", "log_ts", "event_json"];

/// Entries of a stretch of a session file, in row order.
pub struct Entries<'a> {
    file: &'a SessionFile,
    stream: Batches,
}

impl SessionFile {
    /// Reads the entries of `rows`.
    ///
    /// # Errors
    /// When the file is damaged before the first row.
    pub async fn entries(&self, rows: Range<u64>) -> Result<Entries<'_>, Error> {
        let stream = self.stream(ENTRY_COLUMNS, rows).await?;
        Ok(Entries { file: self, stream })
    }
}

impl Entries<'_> {
    /// The next few entries, or `None` after the last.
    ///
    /// # Errors
    /// When the file is damaged here.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        let name = &self.file.stored.name;
        let batch = self
            .stream
            .try_next()
            .await
            .map_err(|e| Error::unreadable(name, "", e))?;
        let Some(batch) = batch else { return Ok(None) };
        let entries = entries_of(&batch, self.file)
            .ok_or_else(|| Error::damaged(name, "a column has a type that no recorder writes"))?;
        Ok(Some(entries))
    }
}

fn entries_of(batch: &RecordBatch, file: &SessionFile) -> Option<Vec<Entry>> {
    let positions = batch
        .column_by_name("position")?
        .as_primitive_opt::<Int64Type>()?;
    let log_ts = batch
        .column_by_name("log_ts")?
        .as_primitive_opt::<TimestampMicrosecondType>()?;
    let events = batch.column_by_name("event_json")?.as_string_opt::<i32>()?;
    let name = &file.stored.name;
    let entry = |i: usize| Entry {
        bytes: Bytes::copy_from_slice(events.value(i).as_bytes()),
        class: name.class.clone(),
        shard: name.shard,
        position: (!positions.is_null(i))
            .then(|| positions.value(i))
            .and_then(|p| u64::try_from(p).ok()),
        log_ts: Timestamp::from_micros(log_ts.value(i)),
        readable: None,
    };
    Some((0..batch.num_rows()).map(entry).collect())
}
