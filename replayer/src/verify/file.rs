//! One session file: hashed, opened, and read row by row.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use futures_util::{StreamExt, stream};
use hoop_schema::chain::MerkleTree;
use hoop_schema::row::Row;
use hoop_schema::{EventHash, Timestamp};
use sha2::{Digest, Sha256};

use super::{Finding, Place, SeenFile, ShardReport, Verdict, Walk, columns};
use crate::evidence::file::{SessionFile, reader};
use crate::evidence::{Error, StoredFile};
use crate::output::Progress;
use crate::sessions::View;

/// Read at once for hashing.
const HASH_BYTES: u64 = 4 * 1024 * 1024;

/// Pieces that are read at a time: from a bucket, one connection is slower than hashing.
const PIECES_AT_ONCE: usize = 4;

/// Findings of rows of one file that are reported; a file that was re-ordered is wrong in every row.
const ROW_FINDINGS_MAX: u64 = 10;

/// When a row's event came, by its columns.
#[derive(Debug, Clone, Copy)]
struct Came {
    position: Option<u64>,
    log_ts: Option<Timestamp>,
}

/// What the next file has to link to: this file, or the last of those that a sealed object replaced.
pub(crate) struct Linked {
    pub(crate) key: String,
    pub(crate) sha256: EventHash,
    /// Where the file ends; unknown when it has no readable footer.
    pub(crate) pos_to: Option<u64>,
}

/// What is known of a file while its rows are read.
struct Rows<'a> {
    key: &'a str,
    stored: &'a StoredFile,
    read: u64,
    without_position: u64,
    tree: MerkleTree,
    /// Position and producer's sequence of every row, to be looked at in the order of the log.
    arrivals: Vec<(u64, super::sequences::Arrival)>,
    faults: u64,
}

/// Whether a file is another one than its name says, in words.
fn other_file(stored: &StoredFile, file: &SessionFile) -> Option<String> {
    let (name, footer) = (&stored.name, &file.footer);
    let said = (&footer.class, footer.shard, footer.source, footer.pos_from);
    (said != (&name.class, name.shard, name.source, name.pos_from)).then(|| {
        format!(
            "its footer is that of class {}, shard {}, log {}, position {}: it is another file under this name",
            footer.class, footer.shard, footer.source, footer.pos_from
        )
    })
}

impl Walk {
    /// Proves one file, given the one before it.
    pub(crate) async fn file(
        &mut self,
        view: &View,
        stored: &StoredFile,
        before: Option<&(StoredFile, Linked)>,
        progress: &mut Progress,
    ) -> Result<Linked, Error> {
        let key = stored.name.to_string();
        self.seals.see(&key);
        self.report.files += 1;
        self.report.bytes += stored.bytes;
        let opened = SessionFile::open(&view.evidence, stored).await;
        let sha256 = match hash(view, stored).await {
            Ok(sha256) => sha256,
            Err(Error::Damaged { what, .. }) => {
                let finding = Finding::new(Verdict::Altered, &key, what);
                self.report.found(finding);
                EventHash::of(&[])
            }
            Err(e) => return Err(e),
        };
        progress.advance(stored.bytes, &key);
        let file = match opened {
            Ok(file) => file,
            Err(Error::Damaged { what, .. }) => {
                self.files.insert(key.clone(), SeenFile::new(sha256, None));
                let mut finding = Finding::new(Verdict::Altered, &key, what);
                finding.readable = Some("nothing of this file; all other files are".into());
                self.report.found(finding);
                return Ok(self.linked(stored, sha256, None));
            }
            Err(e) => return Err(e),
        };
        if let Some(what) = other_file(stored, &file) {
            // What it holds is the evidence of another place, and is proven there.
            self.files.insert(key.clone(), SeenFile::new(sha256, None));
            self.report
                .found(Finding::new(Verdict::Altered, &key, what));
            return Ok(self.linked(stored, sha256, None));
        }
        let seen = SeenFile::new(sha256, Some(&file.footer));
        self.files.insert(key.clone(), seen);
        self.footer(&file, &key);
        self.as_sealed(stored, &file.footer, sha256);
        self.link(stored, &file.footer, before);
        self.cover(&file);
        if self.reads_rows_of(stored) {
            self.rows(&file, &key).await?;
        }
        Ok(self.linked(stored, sha256, Some(file.footer.pos_to)))
    }

    /// What a footer says of itself has to fit.
    fn footer(&mut self, file: &SessionFile, key: &str) {
        let footer = &file.footer;
        let mut wrong = |what: String| {
            let finding = Finding::new(Verdict::Altered, key, what);
            self.report.found(finding);
        };
        if footer.v != 1 {
            wrong(format!("its format version {} is not known", footer.v));
        }
        if footer.pos_to < footer.pos_from {
            wrong(format!(
                "it ends at position {} before it begins",
                footer.pos_to
            ));
        }
        if footer.rows != file.rows() {
            wrong(format!(
                "it has {} rows, its footer says {}",
                file.rows(),
                footer.rows
            ));
        }
    }

    fn cover(&mut self, file: &SessionFile) {
        let footer = &file.footer;
        let series = (&footer.class, footer.shard, footer.source);
        let last = self.report.shards.last_mut();
        match last.filter(|s| (&s.class, s.shard, s.source) == series) {
            Some(shard) => {
                shard.pos_to = footer.pos_to;
                shard.files += 1;
            }
            None => self.report.shards.push(ShardReport {
                class: footer.class.clone(),
                shard: footer.shard,
                source: footer.source,
                pos_from: footer.pos_from,
                pos_to: footer.pos_to,
                files: 1,
            }),
        }
    }

    async fn rows(&mut self, file: &SessionFile, key: &str) -> Result<(), Error> {
        let mut rows = Rows {
            key,
            stored: &file.stored,
            read: 0,
            without_position: 0,
            tree: MerkleTree::default(),
            arrivals: Vec::new(),
            faults: 0,
        };
        let mut broken = None;
        match file.stream(&[], 0..u64::MAX).await {
            Ok(mut stream) => loop {
                match stream.try_next().await {
                    Ok(Some(batch)) => self.batch(&batch, &mut rows),
                    Ok(None) => break,
                    Err(e) => {
                        broken = Some(e.to_string());
                        break;
                    }
                }
            },
            Err(Error::Damaged { what, .. }) => broken = Some(what),
            Err(e) => return Err(e),
        }
        self.report.events += rows.read;
        if let Some(what) = broken {
            let mut finding = Finding::new(Verdict::Altered, key, what);
            finding.row = Some(rows.read);
            finding.readable = Some(format!("its first {} of {} rows", rows.read, file.rows()));
            self.report.found(finding);
        }
        self.whole(file, rows);
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch, rows: &mut Rows<'_>) {
        let events = batch
            .column_by_name("event_json")
            .and_then(|c| c.as_string_opt::<i32>());
        let positions = batch
            .column_by_name("position")
            .and_then(|c| c.as_primitive_opt::<Int64Type>());
        let log_times = batch
            .column_by_name("log_ts")
            .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let (Some(events), Some(positions)) = (events, positions) else {
            if rows.faults == 0 {
                let what = "it has no columns event_json and position of the right type";
                let finding = Finding::new(Verdict::Altered, rows.key, what);
                self.report.found(finding);
            }
            rows.faults += 1;
            return;
        };
        let columns = columns::Columns::of(batch);
        for missing in columns.missing() {
            if rows.read == 0 {
                let mut finding = Finding::new(
                    Verdict::Altered,
                    rows.key,
                    "it lacks a column, or its type is wrong",
                );
                finding.column = Some(missing.to_owned());
                self.report.found(finding);
            }
        }
        for i in 0..batch.num_rows() {
            let position = (!positions.is_null(i)).then(|| positions.value(i));
            let position = position.and_then(|p| u64::try_from(p).ok());
            let came = Came {
                position,
                log_ts: log_times.map(|times| Timestamp::from_micros(times.value(i))),
            };
            self.row(events.value(i).as_bytes(), &columns, i, came, rows);
            rows.read += 1;
        }
    }

    fn row(
        &mut self,
        bytes: &[u8],
        columns: &columns::Columns<'_>,
        i: usize,
        Came { position, log_ts }: Came,
        rows: &mut Rows<'_>,
    ) {
        let hash = EventHash::of(bytes);
        rows.tree.push(hash);
        let place = Place {
            object: rows.key,
            row: Some(rows.read),
            position,
        };
        let mut fault = |finding: Finding| {
            rows.faults += 1;
            if rows.faults <= ROW_FINDINGS_MAX {
                self.report.found(finding);
            } else {
                self.report.verdict = self.report.verdict.max(finding.verdict);
                self.report.findings_left_out += 1;
            }
        };
        let row = match Row::read(bytes) {
            Ok(row) => row,
            Err(e) => {
                let what = format!("its event cannot be read ({e})");
                let mut finding = place.finding(Verdict::Altered, what);
                finding.column = Some("event_json".into());
                return fault(finding);
            }
        };
        if let Some(wrong) = columns.disagrees(i, &row) {
            let what = format!(
                "the column says {}, its event says {}",
                wrong.has, wrong.event
            );
            let mut finding = place.finding(Verdict::Altered, what);
            finding.column = Some(wrong.column.to_owned());
            finding.readable = Some("all rows; what the event says is what counts".into());
            fault(finding);
        }
        let name = &rows.stored.name;
        if &*row.class != name.class.as_str() || row.shard != name.shard {
            let what = format!(
                "its event belongs to class {}, shard {}",
                &*row.class, row.shard.0
            );
            fault(place.finding(Verdict::Altered, what));
        }
        if position.is_none() {
            rows.without_position += 1;
        }
        if let (Some(_), Some(log_ts)) = (position, log_ts) {
            self.clocks.see(&row.producer_id, row.ts, log_ts);
        }
        let arrival = self.sequences.arrival(&row);
        let order = position.unwrap_or(u64::MAX);
        rows.arrivals.push((order, arrival));
        self.event(&row, hash, bytes, &place);
    }

    /// What can only be said once all rows were read.
    fn whole(&mut self, file: &SessionFile, mut rows: Rows<'_>) {
        let footer = &file.footer;
        let mut wrong = |what: String| {
            let mut finding = Finding::new(Verdict::Altered, rows.key, what);
            finding.readable = Some("all of its rows".into());
            self.report.found(finding);
        };
        if rows.read == file.rows() && rows.tree.root() != footer.events_root {
            wrong(format!(
                "the hash over its events is {}, its footer says {}: an event was edited, dropped, added or moved",
                rows.tree.root(),
                footer.events_root
            ));
        }
        if rows.read == file.rows() && rows.without_position != footer.recorder_rows {
            wrong(format!(
                "{} rows have no position, its footer says {}",
                rows.without_position, footer.recorder_rows
            ));
        }
        rows.arrivals
            .sort_by_key(|(order, arrival)| (*order, arrival.seq));
        let with_position = rows.arrivals.iter().filter(|(p, _)| *p != u64::MAX);
        let positions: Vec<u64> = with_position.map(|(p, _)| *p).collect();
        if let Some(twice) = positions.windows(2).find(|pair| pair[0] == pair[1]) {
            wrong(format!("position {} is there twice", twice[0]));
        }
        let outside = positions
            .iter()
            .find(|p| !(footer.pos_from..footer.pos_to).contains(p));
        if let Some(outside) = outside {
            wrong(format!(
                "position {outside} is not among those it covers, {} to {}",
                footer.pos_from, footer.pos_to
            ));
        }
        for (_, arrival) in rows.arrivals {
            self.sequences.take(&arrival, rows.key, &mut self.report);
        }
    }
}

/// SHA-256 of the object, read in pieces, some of them ahead.
async fn hash(view: &View, stored: &StoredFile) -> Result<EventHash, Error> {
    let reader = reader(&view.evidence, stored, 0)?;
    let pieces = (0..stored.bytes.div_ceil(HASH_BYTES))
        .map(|number| number * HASH_BYTES..stored.bytes.min((number + 1) * HASH_BYTES));
    let mut read = stream::iter(pieces)
        .map(|piece| reader.read(piece))
        .buffered(PIECES_AT_ONCE);
    let mut hash = Sha256::new();
    while let Some(piece) = read.next().await {
        hash.update(piece.map_err(|e| Error::unreadable(&stored.name, "", e))?);
    }
    Ok(EventHash::from_bytes(hash.finalize().into()))
}
