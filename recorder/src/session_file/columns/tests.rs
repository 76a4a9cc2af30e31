use super::*;
use arrow::array::{Array, AsArray, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::session_file::writer;

/// Events of every kind of format version 1.
const SAMPLES: &str = include_str!("../../../../schema/samples/v1.jsonl");

fn written() -> (Vec<&'static str>, RecordBatch) {
    let lines: Vec<&str> = SAMPLES.lines().collect();
    let mut columns = Columns::default();
    let mut bytes = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        columns.push(
            &Row::read(line.as_bytes()).unwrap(),
            Some(i as u64),
            Timestamp::from_micros(7),
        );
        bytes.push(Bytes::from_static(line.as_bytes()));
    }
    let order: Vec<u32> = (0..lines.len() as u32).collect();
    let rows = writer::write(&columns, &bytes, &order).unwrap();
    let file = rows.finish("{}".to_owned(), None).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file))
        .unwrap()
        .build()
        .unwrap();
    (lines, reader.next().unwrap().unwrap())
}

#[test]
fn every_column_says_what_its_event_says() {
    let (lines, batch) = written();
    assert_eq!(batch.num_columns(), COLUMNS.len());
    for (row, line) in lines.iter().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let request = &event["request"];
        let text = |name: &str| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        let said = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        for name in [
            "kind",
            "session_id",
            "event_id",
            "producer_id",
            "cluster",
            "approval_id",
        ] {
            assert_eq!(text(name), said(&event[name]), "{name}");
        }
        for name in ["http_method", "request_uri", "verb"] {
            assert_eq!(text(name), said(&request[name]), "{name}");
        }
        for name in [
            "auth_method",
            "login",
            "source_ip",
            "user_agent",
            "command",
            "audit_id",
        ] {
            assert_eq!(
                text(name),
                said(&request[name]).or_else(|| said(&event[name])),
                "{name}"
            );
        }
        for name in ["resource", "namespace", "name", "api_version"] {
            assert_eq!(text(name), said(&request["object_ref"][name]), "{name}");
        }
        for (name, field) in [
            ("decision", "effect"),
            ("decision_cause", "cause"),
            ("profile", "profile"),
            ("rule", "rule"),
        ] {
            assert_eq!(text(name), said(&event["decision"][field]), "{name}");
        }
        assert_eq!(text("event_json").as_deref(), Some(*line));
        let number = |name: &str| {
            let column = batch
                .column_by_name(name)
                .unwrap()
                .as_primitive::<arrow::datatypes::Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        for name in [
            "session_seq",
            "producer_epoch",
            "producer_seq",
            "request_bytes",
            "response_bytes",
            "duration_us",
        ] {
            assert_eq!(number(name), event[name].as_i64(), "{name}");
        }
        assert_eq!(number("masked_count"), event["masked"]["count"].as_i64());
        assert_eq!(number("position"), Some(row as i64));
    }
}

#[test]
fn lists_keep_their_items() {
    let (lines, batch) = written();
    let groups = batch.column_by_name("groups").unwrap().as_list::<i32>();
    for (row, line) in lines.iter().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let user = if event["request"]["user"].is_object() {
            &event["request"]["user"]
        } else {
            &event["user"]
        };
        assert_eq!(groups.is_valid(row), user.is_object(), "{line}");
        if user.is_object() {
            let items = groups.value(row);
            let items: Vec<_> = items
                .as_string::<i32>()
                .iter()
                .map(|i| i.unwrap().to_owned())
                .collect();
            let said: Vec<String> =
                serde_json::from_value(user["groups"].clone()).unwrap_or_default();
            assert_eq!(items, said);
        }
    }
}

#[test]
fn lists_of_odd_strings_are_told_apart() {
    let list = |items: &[&str]| {
        let json = serde_json::to_string(items).unwrap();
        let list: StrList<'_> = serde_json::from_str(&json).unwrap();
        let mut key = String::new();
        write_list_key(&mut key, &list);
        let items: Vec<String> = list_items(&key).map(str::to_owned).collect();
        items
    };
    for items in [
        &["a", "b"][..],
        &["a\u{1f}b"],
        &["", ""],
        &["1\u{1f}x"],
        &["é", "2\u{1f}"],
        &[],
    ] {
        assert_eq!(list(items), items);
    }
}
