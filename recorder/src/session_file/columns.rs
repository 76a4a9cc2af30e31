//! The typed columns of buffered rows, in order of arrival.
//!
//! Every event is parsed once, when it arrives; what its columns say is kept here in a few hundred bytes. A writer
//! asks for any column of any rows in any order.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use hoop_schema::Timestamp;
use hoop_schema::row::{COLUMNS, Column, ColumnType, Row, StrList};

use super::text::{NULL, TextId, Texts};

/// Stands for null in a column of numbers; no time and no number of an accepted event has this value.
const NO_NUMBER: i64 = i64::MIN;

/// Separates the strings of a list where a list is kept as one text: no JSON string can hold it unescaped, and rows
/// whose strings do are kept apart by [`write_list_key`].
const LIST_SEPARATOR: char = '\u{1f}';

/// The rows' columns, without `event_json`, which is in the rows' bytes.
#[derive(Debug)]
pub(crate) struct Columns {
    buffers: Vec<Buffer>,
}

#[derive(Debug)]
enum Buffer {
    Number(Vec<i64>),
    Text {
        ids: Vec<TextId>,
        texts: Texts,
    },
    /// Strings that hardly repeat, one after another.
    Plain {
        arena: String,
        ends: Vec<u32>,
        nulls: Vec<bool>,
    },
    /// Lists, each distinct one kept once as a text.
    List {
        ids: Vec<TextId>,
        texts: Texts,
        /// Where the text of a list is put together.
        key: String,
    },
    /// `event_json`.
    Elsewhere,
}

impl Default for Columns {
    fn default() -> Self {
        let buffer = |column: &Column| match column.column_type {
            _ if column.name == "event_json" => Buffer::Elsewhere,
            ColumnType::Timestamp | ColumnType::Int64 | ColumnType::Int32 => {
                Buffer::Number(Vec::new())
            }
            ColumnType::Text(true) => Buffer::Text {
                ids: Vec::new(),
                texts: Texts::default(),
            },
            ColumnType::Text(false) => Buffer::Plain {
                arena: String::new(),
                ends: Vec::new(),
                nulls: Vec::new(),
            },
            ColumnType::TextList => Buffer::List {
                ids: Vec::new(),
                texts: Texts::default(),
                key: String::new(),
            },
        };
        Self {
            buffers: COLUMNS.iter().map(buffer).collect(),
        }
    }
}

/// Place of a column in [`COLUMNS`].
pub(crate) fn place(name: &str) -> usize {
    COLUMNS
        .iter()
        .position(|c| c.name == name)
        .expect("the name is a literal of COLUMNS")
}

impl Columns {
    /// Adds a row.
    pub(crate) fn push(&mut self, row: &Row<'_>, position: Option<u64>, log_ts: Timestamp) {
        let mut to = Pusher(self.buffers.iter_mut());
        to.time(row.ts);
        to.text(Some(&row.kind));
        let mut buffer = [0u8; 36];
        to.text(Some(shown(&mut buffer, &row.session_id)));
        to.number(Some(row.session_seq));
        to.text(Some(shown(&mut buffer, &row.event_id)));
        to.text(Some(&row.producer_id));
        to.number(Some(row.producer_epoch));
        to.number(Some(row.producer_seq));
        to.number(position);
        to.time(log_ts);
        to.text(Some(&row.cluster));
        to.caller(row);
        to.request(row);
        to.decision(row);
        to.outcome(row);
    }

    /// A text of a dictionary column; `None` where it is null.
    pub(crate) fn text(&self, column: usize, row: u32) -> Option<&str> {
        match &self.buffers[column] {
            Buffer::Text { ids, texts } => Some(ids[row as usize])
                .filter(|id| *id != NULL)
                .map(|id| texts.get(id)),
            _ => None,
        }
    }

    /// Number of the text of a dictionary column among its texts: equal numbers are equal texts.
    pub(crate) fn text_id(&self, column: usize, row: u32) -> TextId {
        match &self.buffers[column] {
            Buffer::Text { ids, .. } => ids[row as usize],
            _ => NULL,
        }
    }

    /// Number of distinct texts of a dictionary column.
    pub(crate) fn distinct(&self, column: usize) -> usize {
        match &self.buffers[column] {
            Buffer::Text { texts, .. } => texts.len(),
            _ => 0,
        }
    }

    /// A number, or microseconds; `None` where it is null.
    pub(crate) fn number(&self, column: usize, row: u32) -> Option<i64> {
        match &self.buffers[column] {
            Buffer::Number(values) => Some(values[row as usize]).filter(|n| *n != NO_NUMBER),
            _ => None,
        }
    }

    /// A list; `None` where it is null.
    pub(crate) fn list(&self, column: usize, row: u32) -> Option<Vec<String>> {
        match &self.buffers[column] {
            Buffer::List { ids, texts, .. } => Some(ids[row as usize])
                .filter(|id| *id != NULL)
                .map(|id| list_items(texts.get(id)).map(str::to_owned).collect()),
            _ => None,
        }
    }

    /// Arrow arrays of one column, for any number of selections of rows. What they share is made once.
    pub(crate) fn arrays(&self, column: usize) -> Arrays<'_> {
        let buffer = &self.buffers[column];
        let values = match buffer {
            Buffer::Text { texts, .. } => {
                Some(Arc::new(StringArray::from_iter_values(texts.iter())) as ArrayRef)
            }
            _ => None,
        };
        Arrays {
            column: &COLUMNS[column],
            buffer,
            values,
        }
    }
}

/// See [`Columns::arrays`].
#[derive(Debug)]
pub(crate) struct Arrays<'a> {
    column: &'a Column,
    buffer: &'a Buffer,
    values: Option<ArrayRef>,
}

impl Arrays<'_> {
    /// The column's values at `rows`, in that order.
    pub(crate) fn take(&self, rows: &[u32]) -> ArrayRef {
        match self.buffer {
            Buffer::Number(values) => numbers(self.column.column_type, values, rows),
            Buffer::Text { ids, .. } => {
                let nulls: NullBuffer = rows.iter().map(|row| ids[*row as usize] != NULL).collect();
                let keys = rows.iter().map(|row| match ids[*row as usize] {
                    NULL => 0,
                    id => id as i32,
                });
                let keys =
                    Int32Array::new(keys.collect(), Some(nulls).filter(|n| n.null_count() > 0));
                let values = self.values.clone().expect("made for every text column");
                Arc::new(DictionaryArray::new(keys, values))
            }
            Buffer::Plain { arena, ends, nulls } => {
                Arc::new(StringArray::from_iter(rows.iter().map(|row| {
                    let row = *row as usize;
                    let start = if row == 0 { 0 } else { ends[row - 1] as usize };
                    (!nulls[row]).then(|| &arena[start..ends[row] as usize])
                })))
            }
            Buffer::List { ids, texts, .. } => Arc::new(lists(
                rows.iter().map(|row| {
                    Some(ids[*row as usize])
                        .filter(|id| *id != NULL)
                        .map(|id| texts.get(id))
                }),
                !self.column.nullable,
            )),
            Buffer::Elsewhere => Arc::new(StringArray::from(Vec::<&str>::new())),
        }
    }
}

fn numbers(column_type: ColumnType, values: &[i64], rows: &[u32]) -> ArrayRef {
    let nulls: NullBuffer = rows
        .iter()
        .map(|row| values[*row as usize] != NO_NUMBER)
        .collect();
    let nulls = Some(nulls).filter(|n| n.null_count() > 0);
    let taken = rows.iter().map(|row| values[*row as usize]);
    match column_type {
        ColumnType::Timestamp => {
            Arc::new(TimestampMicrosecondArray::new(taken.collect(), nulls).with_timezone("UTC"))
        }
        ColumnType::Int32 => {
            let narrow = taken.map(|n| i32::try_from(n).unwrap_or_default());
            Arc::new(Int32Array::new(narrow.collect(), nulls))
        }
        _ => Arc::new(Int64Array::new(taken.collect(), nulls)),
    }
}

/// A list array from lists that are kept as texts.
fn lists<'a>(rows: impl Iterator<Item = Option<&'a str>>, required: bool) -> ListArray {
    let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        valid.push(row.is_some());
        let before = items.len();
        items.extend(row.into_iter().flat_map(list_items));
        lengths.push(items.len() - before);
    }
    let nulls = if required {
        None
    } else {
        Some(NullBuffer::from(valid))
    };
    list_array(items, &lengths, nulls)
}

/// A list array of strings from its items and the length of each list.
pub(crate) fn list_array(
    items: Vec<impl AsRef<str>>,
    lengths: &[usize],
    nulls: Option<NullBuffer>,
) -> ListArray {
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let values = Arc::new(StringArray::from_iter_values(items));
    ListArray::new(item_field(), offsets, values, nulls)
}

fn item_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Utf8, false))
}

/// What arrays in memory are like; in the file it makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InMemory {
    /// Every text column is an array of its strings.
    Plain,
    /// As the writer of session files hands them over: columns with a dictionary as their dictionary, events where
    /// they are.
    ForWriting,
}

/// The Arrow schema of `columns`.
pub(crate) fn arrow_schema(columns: &[Column], in_memory: InMemory) -> SchemaRef {
    let for_writing = in_memory == InMemory::ForWriting;
    let data_type = |column: &Column| match column.column_type {
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Text(true) if for_writing => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
        ColumnType::Text(false) if for_writing && column.name == "event_json" => DataType::Utf8View,
        ColumnType::Text(_) => DataType::Utf8,
        ColumnType::TextList => DataType::List(item_field()),
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Int32 => DataType::Int32,
    };
    let field = |column: &Column| Field::new(column.name, data_type(column), column.nullable);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Writes an id without an allocation.
fn shown<'b>(buffer: &'b mut [u8; 36], id: &impl std::fmt::Display) -> &'b str {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    write!(rest, "{id}").expect("no id is longer than 36 characters");
    let written = 36 - rest.len();
    std::str::from_utf8(&buffer[..written]).expect("ids are ASCII")
}

/// Makes `key` a list as one text: each item after its length, so that no two lists are written alike.
fn write_list_key(key: &mut String, list: &StrList<'_>) {
    use std::fmt::Write;
    key.clear();
    for item in &list.0 {
        let (length, item) = (item.len(), &**item);
        write!(key, "{length}{LIST_SEPARATOR}{item}").expect("a string takes whatever is written");
    }
}

fn list_items(mut key: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (length, rest) = key.split_once(LIST_SEPARATOR)?;
        let length = length.parse().expect("write_list_key wrote a length");
        let (item, rest) = rest.split_at(length);
        key = rest;
        Some(item)
    })
}

/// Gives values to the columns one after another.
struct Pusher<'a>(std::slice::IterMut<'a, Buffer>);

impl Pusher<'_> {
    fn next(&mut self) -> &mut Buffer {
        self.0.next().expect("as many values as COLUMNS")
    }

    fn time(&mut self, time: Timestamp) {
        self.signed(time.as_micros());
    }

    fn number(&mut self, number: Option<u64>) {
        self.signed(number.map_or(NO_NUMBER, |n| i64::try_from(n).unwrap_or(i64::MAX)));
    }

    fn signed(&mut self, number: i64) {
        if let Buffer::Number(values) = self.next() {
            values.push(number);
        }
    }

    fn text(&mut self, text: Option<&str>) {
        match self.next() {
            Buffer::Text { ids, texts } => ids.push(text.map_or(NULL, |text| texts.id(text))),
            Buffer::Plain { arena, ends, nulls } => {
                arena.push_str(text.unwrap_or_default());
                ends.push(
                    u32::try_from(arena.len())
                        .expect("the strings of a file are part of its bytes"),
                );
                nulls.push(text.is_none());
            }
            Buffer::Number(_) | Buffer::List { .. } | Buffer::Elsewhere => {}
        }
    }

    fn list(&mut self, list: Option<&StrList<'_>>) {
        if let Buffer::List { ids, texts, key } = self.next() {
            ids.push(list.map_or(NULL, |list| {
                write_list_key(key, list);
                texts.id(key)
            }));
        }
    }

    /// `username` to `audit_id`.
    fn caller(&mut self, row: &Row<'_>) {
        let user = row.user();
        self.text(user.map(|u| &*u.username));
        self.list(user.map(|u| &u.groups));
        self.text(row.auth_method());
        self.text(row.login());
        self.text(row.source_ip());
        self.text(row.user_agent());
        self.text(row.command());
        self.text(row.audit_id());
    }

    /// `http_method` to `name`.
    fn request(&mut self, row: &Row<'_>) {
        let request = row.request.as_ref();
        let object = request.and_then(|r| r.object_ref.as_ref());
        self.text(request.map(|r| &*r.http_method));
        self.text(request.map(|r| &*r.request_uri));
        self.text(request.map(|r| &*r.verb));
        self.text(object.map(|o| &*o.api_group));
        self.text(object.map(|o| &*o.api_version));
        self.text(object.map(|o| &*o.resource));
        self.text(object.map(|o| &*o.subresource));
        self.text(object.map(|o| &*o.namespace));
        self.text(object.map(|o| &*o.name));
    }

    /// `decision` to `approval_id`.
    fn decision(&mut self, row: &Row<'_>) {
        let decision = row.decision.as_ref();
        self.text(decision.map(|d| &*d.effect));
        self.text(decision.map(|d| &*d.cause));
        self.text(decision.and_then(|d| d.profile.as_deref()));
        self.text(decision.and_then(|d| d.rule.as_deref()));
        self.text(decision.and_then(|d| d.policy_revision.as_deref()));
        self.text(row.approval_id.as_deref());
    }

    /// `status` to `duration_us`.
    fn outcome(&mut self, row: &Row<'_>) {
        self.number(row.status.map(u64::from));
        self.number(row.masked.as_ref().map(|m| m.count));
        self.list(row.masked.as_ref().map(|m| &m.paths));
        self.number(row.request_bytes);
        self.number(row.response_bytes);
        self.number(row.duration_us);
    }
}

#[cfg(test)]
mod tests;
