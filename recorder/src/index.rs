//! The index of sessions: one row per session and file, beside the file, for whoever lists sessions.
//!
//! Made from the same rows as the file, in the same order, so it can be made again from the file at any time; the
//! columns are `hoop_schema::evidence::SESSION_COLUMNS`. What it says is of its file alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use bytes::Bytes;
use hoop_schema::Kind;
use hoop_schema::bytes::decode;
use hoop_schema::evidence::{INDEX_LIST_MAX, SESSION_COLUMNS};
use hoop_schema::row::Row;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;

use crate::session_file::columns::{Columns, InMemory, arrow_schema, list_array, place};
use crate::session_file::text::TextId;
use crate::session_file::writer::properties;

/// Rows read at once when an index is made from a file.
const READ_ROWS: usize = 1024;

/// What the index says of one session.
#[derive(Debug, Default)]
struct Session {
    session_id: String,
    user: Option<(String, Vec<String>)>,
    source_ip: Option<String>,
    auth_method: Option<String>,
    basis: Option<String>,
    command: Option<String>,
    ts: Option<(i64, i64)>,
    requests: i64,
    denied: i64,
    masked: i64,
    verbs: BTreeSet<String>,
    resources: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    gaps: i64,
    ended: i64,
    first_row: i64,
    row_count: i64,
    commands: BTreeSet<String>,
}

/// Places of the columns that the index needs.
struct Places {
    ts: usize,
    kind: usize,
    session_id: usize,
    username: usize,
    groups: usize,
    auth_method: usize,
    source_ip: usize,
    command: usize,
    verb: usize,
    resource: usize,
    subresource: usize,
    namespace: usize,
    decision: usize,
    masked_count: usize,
}

/// The index of a file whose rows are these, in `order`, as Parquet.
///
/// # Errors
/// When the Parquet writer fails.
pub(crate) fn write(
    columns: &Columns,
    bytes: &[Bytes],
    order: &[u32],
) -> Result<Vec<u8>, ParquetError> {
    let mut index = Index::default();
    index.add(columns, bytes, order);
    index.finish()
}

/// Makes the index of a session file again.
///
/// # Errors
/// When the file is damaged.
pub(crate) fn rebuild(file: Bytes) -> Result<Vec<u8>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?
        .with_batch_size(READ_ROWS)
        .build()?;
    let mut columns = Columns::default();
    let mut events = Vec::new();
    for batch in reader {
        let batch = batch?;
        let texts = batch
            .column_by_name("event_json")
            .and_then(|c| c.as_any().downcast_ref::<StringArray>());
        let texts = texts
            .ok_or_else(|| ParquetError::General("there is no column event_json".to_owned()))?;
        for text in (0..texts.len()).map(|i| texts.value(i)) {
            let row =
                Row::read(text.as_bytes()).map_err(|e| ParquetError::External(Box::new(e)))?;
            // Neither position nor log_ts are in the index.
            columns.push(&row, None, row.ts);
            events.push(Bytes::copy_from_slice(text.as_bytes()));
        }
    }
    let order: Vec<u32> = (0..u32::try_from(events.len()).unwrap_or(u32::MAX)).collect();
    write(&columns, &events, &order)
}

/// An index under way: the rows of its file come in their order, in any number of pieces.
#[derive(Debug, Default)]
pub(crate) struct Index {
    sessions: Vec<Session>,
    /// Gaps that name a session whose rows they are not.
    named_by_gaps: BTreeMap<String, i64>,
    rows: i64,
}

impl Index {
    /// Takes further rows, in `order`.
    pub(crate) fn add(&mut self, columns: &Columns, bytes: &[Bytes], order: &[u32]) {
        let places = Places::new();
        let mut before: Option<TextId> = None;
        for row in order {
            let id = columns.text_id(places.session_id, *row);
            if before != Some(id) {
                before = Some(id);
                self.turn_to(columns.text(places.session_id, *row).unwrap_or_default());
            }
            self.rows += 1;
            let Some(session) = self.sessions.last_mut() else {
                continue;
            };
            session.absorb(columns, &places, *row);
            match columns.text(places.kind, *row).unwrap_or_default() {
                "session.start" => session.start(&bytes[*row as usize]),
                "session.end" => session.ended += 1,
                "gap" => {
                    session.gaps += 1;
                    let lost = lost_sessions(&bytes[*row as usize], &session.session_id);
                    lost.into_iter()
                        .for_each(|id| *self.named_by_gaps.entry(id).or_default() += 1);
                }
                kind if kind.starts_with("recorder.") => {
                    session.basis = Some("producer".to_owned());
                }
                _ => {}
            }
        }
    }

    /// The next row is of this session, which may be the one before.
    fn turn_to(&mut self, session_id: &str) {
        if self
            .sessions
            .last()
            .is_none_or(|last| last.session_id != session_id)
        {
            self.sessions.push(Session {
                session_id: session_id.to_owned(),
                first_row: self.rows,
                ..Session::default()
            });
        }
    }

    /// The index as Parquet.
    ///
    /// # Errors
    /// When the Parquet writer fails.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, ParquetError> {
        for session in &mut self.sessions {
            session.gaps += self
                .named_by_gaps
                .get(&session.session_id)
                .copied()
                .unwrap_or_default();
        }
        let schema = arrow_schema(SESSION_COLUMNS, InMemory::Plain);
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays(&self.sessions))?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties().build())
            .with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
        writer.write(&batch)?;
        writer.into_inner()
    }
}

/// Other sessions that a gap names.
fn lost_sessions(bytes: &[u8], own: &str) -> BTreeSet<String> {
    match decode(bytes).map(|event| event.kind) {
        Ok(Kind::Gap(gap)) => gap
            .lost
            .iter()
            .map(|l| l.session_id.to_string())
            .filter(|id| id != own)
            .collect(),
        _ => BTreeSet::new(),
    }
}

impl Session {
    /// Adds what the columns of one of its rows say.
    fn absorb(&mut self, columns: &Columns, places: &Places, row: u32) {
        let text = |column| columns.text(column, row);
        let ts = columns.number(places.ts, row).unwrap_or_default();
        self.ts = Some(
            self.ts
                .map_or((ts, ts), |(first, last)| (first.min(ts), last.max(ts))),
        );
        self.row_count += 1;
        if self.user.is_none()
            && let Some(name) = text(places.username)
        {
            self.user = Some((
                name.to_owned(),
                columns.list(places.groups, row).unwrap_or_default(),
            ));
        }
        keep_first(&mut self.source_ip, text(places.source_ip));
        keep_first(&mut self.auth_method, text(places.auth_method));
        keep_first(&mut self.command, text(places.command));
        add(&mut self.commands, text(places.command).unwrap_or_default());
        self.masked = self
            .masked
            .saturating_add(columns.number(places.masked_count, row).unwrap_or_default());
        if text(places.kind) != Some("intent") {
            return;
        }
        self.requests += 1;
        self.denied += i64::from(text(places.decision) == Some("deny"));
        add(&mut self.verbs, text(places.verb).unwrap_or_default());
        add(
            &mut self.namespaces,
            text(places.namespace).unwrap_or_default(),
        );
        match (
            text(places.resource).unwrap_or_default(),
            text(places.subresource).unwrap_or_default(),
        ) {
            (resource, "") => add(&mut self.resources, resource),
            (resource, subresource) => {
                add(&mut self.resources, &format!("{resource}/{subresource}"))
            }
        }
    }

    /// Adds what only a `session.start` says.
    fn start(&mut self, bytes: &[u8]) {
        if let Ok(Kind::SessionStart(start)) = decode(bytes).map(|event| event.kind)
            && let Ok(serde_json::Value::String(basis)) = serde_json::to_value(start.basis)
        {
            self.basis = Some(basis);
        }
    }
}

fn keep_first(kept: &mut Option<String>, text: Option<&str>) {
    if kept.is_none() {
        *kept = text.map(str::to_owned);
    }
}

/// Adds a value to a bounded set; "none" is none.
fn add(set: &mut BTreeSet<String>, value: &str) {
    if !value.is_empty() && !set.contains(value) && set.len() < INDEX_LIST_MAX {
        set.insert(value.to_owned());
    }
}

/// The columns in the order of `SESSION_COLUMNS`.
fn arrays(sessions: &[Session]) -> Vec<ArrayRef> {
    let text = |of: &dyn Fn(&Session) -> Option<&String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(
            sessions.iter().map(|s| of(s).map(String::as_str)),
        ))
    };
    let number = |of: &dyn Fn(&Session) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(sessions.iter().map(of)))
    };
    let time = |of: &dyn Fn((i64, i64)) -> i64| -> ArrayRef {
        let times = sessions.iter().map(|s| of(s.ts.unwrap_or_default()));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let set = |of: &dyn Fn(&Session) -> &BTreeSet<String>| -> ArrayRef {
        let lengths: Vec<usize> = sessions.iter().map(|s| of(s).len()).collect();
        Arc::new(list_array(
            sessions
                .iter()
                .flat_map(|s| of(s).iter().cloned())
                .collect(),
            &lengths,
            None,
        ))
    };
    let groups = |s: &Session| s.user.as_ref().map(|u| u.1.clone());
    let lengths: Vec<usize> = sessions
        .iter()
        .map(|s| groups(s).map_or(0, |g| g.len()))
        .collect();
    let nulls: NullBuffer = sessions.iter().map(|s| s.user.is_some()).collect();
    let items = sessions.iter().filter_map(groups).flatten().collect();
    vec![
        text(&|s| Some(&s.session_id)),
        text(&|s| s.user.as_ref().map(|u| &u.0)),
        Arc::new(list_array(items, &lengths, Some(nulls))),
        text(&|s| s.source_ip.as_ref()),
        text(&|s| s.auth_method.as_ref()),
        text(&|s| s.basis.as_ref()),
        text(&|s| s.command.as_ref()),
        time(&|ts| ts.0),
        time(&|ts| ts.1),
        number(&|s| s.requests),
        number(&|s| s.denied),
        number(&|s| s.masked),
        set(&|s| &s.verbs),
        set(&|s| &s.resources),
        set(&|s| &s.namespaces),
        number(&|s| s.gaps),
        number(&|s| s.ended),
        number(&|s| s.first_row),
        number(&|s| s.row_count),
        set(&|s| &s.commands),
    ]
}

impl Places {
    fn new() -> Self {
        Self {
            ts: place("ts"),
            kind: place("kind"),
            session_id: place("session_id"),
            username: place("username"),
            groups: place("groups"),
            auth_method: place("auth_method"),
            source_ip: place("source_ip"),
            command: place("command"),
            verb: place("verb"),
            resource: place("resource"),
            subresource: place("subresource"),
            namespace: place("namespace"),
            decision: place("decision"),
            masked_count: place("masked_count"),
        }
    }
}
