//! Summaries of the sessions of one file: from its index, or from its events where there is no index.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use hoop_schema::row::Row;
use hoop_schema::{SessionId, Timestamp};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::file::{SessionFile, open_parquet, stream};
use super::object::ObjectReader;
use super::{Error, Evidence, StoredFile};
use crate::summary::SessionSummary;

impl Evidence {
    /// Sums up every session of `file`, as far as this file knows it. With `exact`, or without a readable index, its
    /// events are read, which also tells held requests.
    ///
    /// # Errors
    /// When the store does not answer or the file is damaged.
    pub async fn summaries_of(
        &self,
        file: &StoredFile,
        exact: bool,
    ) -> Result<Vec<SessionSummary>, Error> {
        if !exact
            && let Some(mut reader) = self.index_reader(file)
            && let Ok(summaries) = from_index(&mut reader).await
        {
            return Ok(summaries);
        }
        let opened = SessionFile::open_to_read_through(self, file).await?;
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

async fn from_index(reader: &mut ObjectReader) -> ParquetResult<Vec<SessionSummary>> {
    let metadata = open_parquet(reader).await?;
    let mut batches = stream(reader, &metadata, &[], 0..u64::MAX).await?;
    let mut summaries = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        for i in 0..batch.num_rows() {
            let summary = IndexRow { batch: &batch, i }.summary();
            summaries.push(
                summary.ok_or_else(|| ParquetError::General("not an index of sessions".into()))?,
            );
        }
    }
    Ok(summaries)
}

/// One row of an index of sessions.
struct IndexRow<'a> {
    batch: &'a RecordBatch,
    i: usize,
}

impl IndexRow<'_> {
    fn summary(&self) -> Option<SessionSummary> {
        let mut summary = SessionSummary::new(
            self.text("session_id")??.parse().ok()?,
            self.time("first_ts")?,
        );
        summary.last_ts = self.time("last_ts")?;
        summary.user = self.text("username")?.map(str::to_owned);
        summary.source_ip = self.text("source_ip")?.map(str::to_owned);
        // Indexes of earlier versions know only the first command.
        summary.commands = match self.list("commands") {
            Some(commands) => commands,
            None => self
                .text("command")?
                .map(str::to_owned)
                .into_iter()
                .collect(),
        };
        summary.verbs = self.list("verbs")?;
        summary.resources = self.list("resources")?;
        summary.namespaces = self.list("namespaces")?;
        summary.requests = self.number("requests")?;
        summary.denied = self.number("denied")?;
        summary.masked = self.number("masked")?;
        summary.gaps = self.number("gaps")?;
        summary.events = self.number("row_count")?;
        summary.ended = self.number("ended")? > 0;
        // A producer's session whose start lies in another file has neither a user nor a request here.
        summary.producer = match self.text("basis")? {
            Some(basis) => basis == "producer",
            None => summary.user.is_none() && summary.requests == 0,
        };
        Some(summary)
    }

    fn text(&self, name: &str) -> Option<Option<&str>> {
        let column = self.batch.column_by_name(name)?.as_string_opt::<i32>()?;
        Some((!column.is_null(self.i)).then(|| column.value(self.i)))
    }

    fn number(&self, name: &str) -> Option<u64> {
        let column = self.batch.column_by_name(name)?;
        let column = column.as_primitive_opt::<Int64Type>()?;
        u64::try_from(column.value(self.i)).ok()
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        let column = self.batch.column_by_name(name)?;
        let column = column.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some(Timestamp::from_micros(column.value(self.i)))
    }

    fn list(&self, name: &str) -> Option<BTreeSet<String>> {
        let column = self.batch.column_by_name(name)?.as_list_opt::<i32>()?;
        let values = column.value(self.i);
        let values = values.as_string_opt::<i32>()?;
        let values = values.iter().flatten().filter(|v| !v.is_empty());
        Some(values.map(str::to_owned).collect())
    }
}
