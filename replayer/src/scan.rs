//! Every event of a view, one file after the other and then the tail.

use futures_util::{StreamExt, stream};
use hoop_schema::row::Row;

use crate::evidence::file::SessionFile;
use crate::evidence::{Entry, Error, SessionRows, StoredFile};
use crate::filter::{EventFilter, Filter};
use crate::output::Progress;
use crate::sessions::{Found, View};

/// In which order the events of one file come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they lie there: session by session.
    Session,
    /// As the log took them; rows that a recorder made come last. Holds the events of one file in memory.
    Log,
}

impl View {
    /// Gives every event that `filter` accepts to `take`, with its columns, which says whether to go on. Filter and columns
    /// see an event as it is shown ([`Entry::shown`]). Only the rows of `only` are
    /// looked at, if given. Returns the files that could not be read to their end.
    ///
    /// # Errors
    /// When the store does not answer, or `take` fails.
    pub async fn scan<E: From<Error>>(
        &self,
        filter: &Filter,
        only: Option<&Found>,
        order: Order,
        progress: &mut Progress,
        mut take: impl FnMut(&Entry, &Row<'_>) -> Result<bool, E>,
    ) -> Result<Vec<Error>, E> {
        let mut damaged = Vec::new();
        let mut accept = EventFilter::new(filter);
        let open = async |(file, rows): (_, Option<SessionRows>)| {
            let opened = match rows {
                Some(_) => SessionFile::open(&self.evidence, file).await,
                None => SessionFile::open_to_read_through(&self.evidence, file).await,
            };
            (file, rows, opened)
        };
        let mut opened = stream::iter(parts(self, only))
            .map(open)
            .buffered(self.evidence.reach.files_ahead());
        while let Some((file, rows, opened)) = opened.next().await {
            let scanned = match opened {
                Ok(opened) => scan_file(self, &opened, rows, order, &mut accept, &mut take).await,
                Err(e) => Err(Scan::Evidence(e)),
            };
            match scanned {
                Ok(true) => {}
                Ok(false) => return Ok(damaged),
                Err(Scan::Evidence(e @ Error::Damaged { .. })) => damaged.push(e),
                Err(Scan::Evidence(e)) => return Err(e.into()),
                Err(Scan::Taker(e)) => return Err(e),
            }
            progress.advance(file.bytes, &file.name.to_string());
        }
        let session = only.map(|found| found.session_id);
        for entry in self.tails.iter().flat_map(|tail| &tail.entries) {
            let entry = self.readable(entry.clone()).await?;
            let Ok(row) = Row::read(entry.shown()) else {
                continue;
            };
            let wanted = session.is_none_or(|session| session == row.session_id);
            if wanted && accept.accepts(&row, entry.shown()) && !take(&entry, &row)? {
                break;
            }
        }
        Ok(damaged)
    }
}

/// Gives the events of one file to `take`; returns whether to go on.
async fn scan_file<E>(
    view: &View,
    opened: &SessionFile,
    rows: Option<SessionRows>,
    order: Order,
    accept: &mut EventFilter<'_>,
    take: &mut impl FnMut(&Entry, &Row<'_>) -> Result<bool, E>,
) -> Result<bool, Scan<E>> {
    let range = rows.map_or(0..u64::MAX, |r| {
        r.first_row..r.first_row.saturating_add(r.row_count)
    });
    let mut entries = opened.entries(range).await.map_err(Scan::Evidence)?;
    let mut held = Vec::new();
    while let Some(batch) = entries.next().await.map_err(Scan::Evidence)? {
        for entry in batch {
            let entry = view.readable(entry).await.map_err(Scan::Evidence)?;
            let row = Row::read(entry.shown()).map_err(|e| {
                Scan::Evidence(Error::damaged(
                    &opened.stored.name,
                    format!("a row holds no event ({e})"),
                ))
            })?;
            if !accept.accepts(&row, entry.shown()) {
                continue;
            }
            if order == Order::Log {
                held.push(entry);
            } else if !take(&entry, &row).map_err(Scan::Taker)? {
                return Ok(false);
            }
        }
    }
    held.sort_by_key(|entry| entry.position.unwrap_or(u64::MAX));
    for entry in held {
        let row = Row::read(entry.shown()).expect("read before");
        if !take(&entry, &row).map_err(Scan::Taker)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files to look at, and which rows of them.
fn parts<'a>(
    view: &'a View,
    only: Option<&'a Found>,
) -> Vec<(&'a StoredFile, Option<SessionRows>)> {
    match only {
        None => view.catalog.files.iter().map(|f| (f, None)).collect(),
        Some(found) => {
            let parts = found.parts.iter();
            parts
                .map(|(file, first_row, row_count)| {
                    let rows = SessionRows {
                        session_id: found.session_id,
                        first_row: *first_row,
                        row_count: *row_count,
                    };
                    (file, Some(rows))
                })
                .collect()
        }
    }
}

enum Scan<E> {
    Evidence(Error),
    Taker(E),
}
