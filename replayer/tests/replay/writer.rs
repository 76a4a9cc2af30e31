//! A writer of session files that has nothing to do with the recorder's: whatever it is told, it writes.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use hoop_schema::chain::MerkleTree;
use hoop_schema::evidence::{FOOTER_KEY, Footer, PreviousFile, SessionFileName};
use hoop_schema::row::{COLUMNS, ColumnType};
use hoop_schema::{Class, EventHash, Shard, SourceId, Timestamp};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

/// Rows of a page: few, so that small files have many pages.
const PAGE_ROWS: usize = 4;

/// One row to be.
#[derive(Debug, Clone)]
pub(crate) struct TestRow {
    pub(crate) event: Vec<u8>,
    pub(crate) position: Option<u64>,
    /// What the typed columns are made of; the event, unless a test forges.
    pub(crate) columns_of: Vec<u8>,
}

/// One file to be.
#[derive(Debug, Clone)]
pub(crate) struct TestFile {
    pub(crate) name: SessionFileName,
    pub(crate) rows: Vec<TestRow>,
    pub(crate) pos_to: u64,
    /// What the footer says that does not follow from the rows written, if a test forges.
    pub(crate) footer_of: Option<Vec<TestRow>>,
}

pub(crate) fn source() -> SourceId {
    SourceId::from_bytes([0xab, 0xcd, 0xef, 0x01])
}

pub(crate) fn name(pos_from: u64) -> SessionFileName {
    SessionFileName {
        class: Class::standard(),
        day: "2026-11-22".into(),
        shard: Shard(0),
        source: source(),
        pos_from,
    }
}

/// Cuts events in log order into files of `size` events each, rows sorted by session.
pub(crate) fn files(events: &[Vec<u8>], size: usize) -> Vec<TestFile> {
    let mut files = Vec::new();
    for (i, chunk) in events.chunks(size).enumerate() {
        let pos_from = (i * size) as u64 + 1;
        let mut rows: Vec<TestRow> = chunk
            .iter()
            .enumerate()
            .map(|(j, event)| TestRow {
                event: event.clone(),
                position: Some(pos_from + j as u64),
                columns_of: event.clone(),
            })
            .collect();
        rows.sort_by_key(|row| {
            let value = json(&row.event);
            (
                text(&value, "/session_id").unwrap(),
                value["session_seq"].as_u64(),
            )
        });
        files.push(TestFile {
            name: name(pos_from),
            rows,
            pos_to: pos_from + chunk.len() as u64,
            footer_of: None,
        });
    }
    files
}

/// Writes the files below `folder`, each linked to the one before it.
pub(crate) fn write_all(folder: &Path, files: &[TestFile]) {
    let mut previous: Option<PreviousFile> = None;
    for file in files {
        let bytes = write(file, previous.take());
        put(folder, &file.name.to_string(), &bytes);
        previous = Some(PreviousFile {
            key: file.name.to_string(),
            sha256: EventHash::of(&bytes),
        });
    }
}

pub(crate) fn put(folder: &Path, key: &str, bytes: &[u8]) {
    let path = folder.join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The bytes of one file.
pub(crate) fn write(file: &TestFile, previous: Option<PreviousFile>) -> Vec<u8> {
    let arrays = COLUMNS
        .iter()
        .map(|c| (c.name, array(c.name, c.column_type, &file.rows), c.nullable));
    let batch = RecordBatch::try_from_iter_with_nullable(arrays).unwrap();
    let said = file.footer_of.as_ref().unwrap_or(&file.rows);
    let mut tree = MerkleTree::default();
    said.iter()
        .for_each(|row| tree.push(EventHash::of(&row.event)));
    let footer = Footer {
        v: 1,
        source: file.name.source,
        class: file.name.class.clone(),
        shard: file.name.shard,
        pos_from: file.name.pos_from,
        pos_to: file.pos_to,
        rows: said.len() as u64,
        recorder_rows: said.iter().filter(|r| r.position.is_none()).count() as u64,
        copies: 0,
        events_root: tree.root(),
        previous,
        producers: Vec::new(),
        written: Timestamp::from_micros(1_795_000_000_000_000),
        writer: "test".into(),
    };
    let footer = serde_json::to_string(&footer).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_key_value_metadata(Some(vec![KeyValue::new(FOOTER_KEY.into(), footer)]))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub(crate) fn json(event: &[u8]) -> Value {
    serde_json::from_slice(event).unwrap()
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// Where in the event a column comes from; what stands in the request counts first.
fn pointers(name: &str) -> Vec<String> {
    let at = |p: &str| vec![p.to_owned()];
    match name {
        "username" => vec!["/request/user/username".into(), "/user/username".into()],
        "groups" => vec!["/request/user/groups".into(), "/user/groups".into()],
        "auth_method" | "login" | "source_ip" | "user_agent" | "command" | "audit_id" => {
            vec![format!("/request/{name}"), format!("/{name}")]
        }
        "http_method" | "request_uri" | "verb" => vec![format!("/request/{name}")],
        "api_group" | "api_version" | "resource" | "subresource" | "namespace" | "name" => {
            vec![format!("/request/object_ref/{name}")]
        }
        "decision" => at("/decision/effect"),
        "decision_cause" => at("/decision/cause"),
        "profile" | "rule" | "policy_revision" => vec![format!("/decision/{name}")],
        "masked_count" => at("/masked/count"),
        "masked_paths" => at("/masked/paths"),
        name => vec![format!("/{name}")],
    }
}

fn said(name: &str, value: &Value) -> Option<Value> {
    let found = pointers(name)
        .iter()
        .find_map(|p| value.pointer(p).cloned());
    // An object without a part of its reference has it empty, not absent.
    let of_object = matches!(
        name,
        "api_group" | "api_version" | "subresource" | "namespace" | "name"
    );
    let has_object = value.pointer("/request/object_ref").is_some();
    found.or((of_object && has_object).then(|| Value::String(String::new())))
}

fn array(name: &str, column_type: ColumnType, rows: &[TestRow]) -> ArrayRef {
    let values: Vec<Value> = rows.iter().map(|r| json(&r.columns_of)).collect();
    let said = values.iter().map(|v| said(name, v));
    match column_type {
        _ if name == "event_json" => {
            let texts = rows
                .iter()
                .map(|r| String::from_utf8(r.event.clone()).unwrap());
            Arc::new(StringArray::from_iter_values(texts))
        }
        _ if name == "position" => {
            let positions = rows
                .iter()
                .map(|r| r.position.map(|p| i64::try_from(p).unwrap()));
            Arc::new(Int64Array::from_iter(positions))
        }
        ColumnType::Timestamp => {
            let times = values.iter().map(|v| text(v, "/ts").unwrap());
            let times = times.map(|t| t.parse::<Timestamp>().unwrap().as_micros());
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        }
        ColumnType::Text(_) => Arc::new(StringArray::from_iter(
            said.map(|v| v.map(|v| v.as_str().unwrap().to_owned())),
        )),
        ColumnType::Int64 => Arc::new(Int64Array::from_iter(said.map(|v| v?.as_i64()))),
        ColumnType::Int32 => {
            let numbers = said.map(|v| i32::try_from(v?.as_i64()?).ok());
            Arc::new(Int32Array::from_iter(numbers))
        }
        ColumnType::TextList => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for list in said {
                if let Some(items) = list.as_ref().and_then(Value::as_array) {
                    for item in items {
                        lists.values().append_value(item.as_str().unwrap());
                    }
                    lists.append(true);
                } else {
                    lists.append(false);
                }
            }
            Arc::new(lists.finish())
        }
    }
}
