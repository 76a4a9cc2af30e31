//! Which rows of which file a session has.
//!
//! A session file's index says it in a few kilobytes; a file whose index is missing or damaged is asked itself, by its
//! column `session_id` alone. An index is never believed further than this: it can be made again at any time.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use hoop_schema::{SessionId, Shard};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::file::{SessionFile, open_parquet, stream};
use super::object::ObjectReader;
use super::{Error, Evidence, SessionRows, StoredFile};

/// The sessions of one file, and whether its index said so.
#[derive(Debug, Clone)]
pub struct FileSessions {
    /// The rows of each session, in row order.
    pub sessions: Vec<SessionRows>,
    /// Whether they come from the index.
    pub indexed: bool,
    /// Sessions of people that a log of so many shards keeps in this file's shard, and in others: by the second number,
    /// the number of shards is wrong. Known from an index alone.
    pub at_home: u64,
    /// See there.
    pub astray: u64,
}

impl Evidence {
    /// The sessions of `file` whose ids, as they are written, `wanted` accepts. With `shards`, the number that its log is
    /// believed to have, all other sessions are compared with it.
    ///
    /// # Errors
    /// When the store does not answer, or neither the index nor the file can be read.
    pub async fn sessions_of(
        &self,
        file: &StoredFile,
        wanted: impl Fn(&str) -> bool,
        shards: Option<u32>,
    ) -> Result<FileSessions, Error> {
        let home = shards.map(|shards| (file.name.shard, shards));
        if let Some(mut reader) = self.index_reader(file)
            && let Ok(sessions) = from_index(&mut reader, &wanted, home).await
        {
            return Ok(sessions);
        }
        let opened = SessionFile::open(self, file).await?;
        let sessions = from_file(&opened, &wanted).await?;
        Ok(FileSessions {
            sessions,
            indexed: false,
            at_home: 0,
            astray: 0,
        })
    }

    /// The index of `file` as an object, if there is one.
    pub(crate) fn index_reader(&self, file: &StoredFile) -> Option<ObjectReader> {
        let (store, bytes) = (self.store.as_ref()?, file.index_bytes?);
        let tail = self.reach.index_tail(bytes);
        let key = file.name.index_key();
        let reader = ObjectReader::open(Arc::clone(store), self, key, bytes, tail);
        Some(reader.cached(self, &file.index_version))
    }
}

async fn from_index(
    reader: &mut ObjectReader,
    wanted: &impl Fn(&str) -> bool,
    home: Option<(Shard, u32)>,
) -> ParquetResult<FileSessions> {
    let odd = || ParquetError::General("not an index of sessions".into());
    let metadata = open_parquet(reader).await?;
    let names = ["session_id", "first_row", "row_count", "username"];
    let names = &names[..if home.is_some() { 4 } else { 3 }];
    let mut batches = stream(reader, &metadata, names, 0..u64::MAX).await?;
    let mut sessions = Vec::new();
    let (mut at_home, mut astray) = (0, 0);
    while let Some(batch) = batches.try_next().await? {
        let column = |name| batch.column_by_name(name).ok_or_else(odd);
        let ids = column("session_id")?
            .as_string_opt::<i32>()
            .ok_or_else(odd)?;
        let number = |name| {
            let numbers = column(name)?.as_primitive_opt::<Int64Type>();
            numbers.cloned().ok_or_else(odd)
        };
        let (first_rows, row_counts) = (number("first_row")?, number("row_count")?);
        for i in 0..batch.num_rows() {
            let id = ids.value(i);
            // Tens of thousands of sessions are passed over for each one that is wanted, so no other is parsed.
            if wanted(id) {
                sessions.push(SessionRows {
                    session_id: id.parse().map_err(|_| odd())?,
                    first_row: u64::try_from(first_rows.value(i)).map_err(|_| odd())?,
                    row_count: u64::try_from(row_counts.value(i)).map_err(|_| odd())?,
                });
            }
        }
        // Sessions of gateways and recorders have no user, and lie wherever they are written to.
        if let (Some((shard, shards)), Ok(users)) = (home, column("username")) {
            for i in (0..batch.num_rows()).filter(|i| !users.is_null(*i)) {
                let session: SessionId = ids.value(i).parse().map_err(|_| odd())?;
                match session.shard(shards) == shard {
                    true => at_home += 1,
                    false => astray += 1,
                }
            }
        }
    }
    Ok(FileSessions {
        sessions,
        indexed: true,
        at_home,
        astray,
    })
}

/// Finds the sessions of a file without its index: rows are clustered by session.
async fn from_file(
    file: &SessionFile,
    wanted: &impl Fn(&str) -> bool,
) -> Result<Vec<SessionRows>, Error> {
    let name = &file.stored.name;
    let damaged = |what: String| Error::damaged(name, what);
    let mut batches = file.stream(&["session_id"], 0..u64::MAX).await?;
    let mut sessions: Vec<SessionRows> = Vec::new();
    let mut last: Option<(String, bool)> = None;
    let mut row = 0;
    while let Some(batch) = batches
        .try_next()
        .await
        .map_err(|e| Error::unreadable(name, "", e))?
    {
        let ids = batch
            .column_by_name("session_id")
            .and_then(|c| c.as_string_opt::<i32>())
            .ok_or_else(|| damaged("it has no column session_id of text".into()))?;
        for id in ids.iter() {
            let id = id.unwrap_or_default();
            match &last {
                Some((before, true)) if before == id => {
                    let session = sessions.last_mut().expect("pushed with its first row");
                    session.row_count += 1;
                }
                Some((before, false)) if before == id => {}
                _ => {
                    let session_id = id
                        .parse()
                        .map_err(|_| damaged(format!("row {row} has no session_id")))?;
                    let is_wanted = wanted(id);
                    if is_wanted {
                        sessions.push(SessionRows {
                            session_id,
                            first_row: row,
                            row_count: 1,
                        });
                    }
                    last = Some((id.to_owned(), is_wanted));
                }
            }
            row += 1;
        }
    }
    Ok(sessions)
}
