//! Whether the typed columns of a row say what its event says.

use arrow::array::{
    Array, AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use hoop_schema::row::{COLUMNS, ColumnType, Row, StrList};
use std::borrow::Cow;

/// The columns of one batch, in the order of [`COLUMNS`].
pub(super) struct Columns<'a> {
    arrays: Vec<Typed<'a>>,
}

enum Typed<'a> {
    Time(&'a TimestampMicrosecondArray),
    Text(&'a StringArray),
    List(&'a ListArray),
    Int64(&'a Int64Array),
    Int32(&'a Int32Array),
    /// Not there, or of another type.
    Missing,
}

/// What an event says for a column.
enum Said<'a> {
    Text(Option<Cow<'a, str>>),
    List(Option<&'a StrList<'a>>),
    Number(Option<i64>),
    /// The event does not say it.
    Nothing,
}

/// A column that says something else than the event.
pub(super) struct Disagreement {
    pub(super) column: &'static str,
    pub(super) has: String,
    pub(super) event: String,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Self {
        let typed = |name: &str, column_type| {
            let array = batch.column_by_name(name)?;
            Some(match column_type {
                ColumnType::Timestamp => {
                    Typed::Time(array.as_primitive_opt::<TimestampMicrosecondType>()?)
                }
                ColumnType::Text(_) => Typed::Text(array.as_string_opt::<i32>()?),
                ColumnType::TextList => Typed::List(array.as_list_opt::<i32>()?),
                ColumnType::Int64 => Typed::Int64(array.as_primitive_opt::<Int64Type>()?),
                ColumnType::Int32 => Typed::Int32(array.as_primitive_opt::<Int32Type>()?),
            })
        };
        let arrays = COLUMNS
            .iter()
            .map(|c| typed(c.name, c.column_type).unwrap_or(Typed::Missing));
        Self {
            arrays: arrays.collect(),
        }
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = &'static str> + '_ {
        let missing = self.arrays.iter().zip(COLUMNS);
        missing
            .filter(|(array, _)| matches!(array, Typed::Missing))
            .map(|(_, column)| column.name)
    }

    /// The first column of row `i` that says something else than `row`.
    pub(super) fn disagrees(&self, i: usize, row: &Row<'_>) -> Option<Disagreement> {
        for (array, column) in self.arrays.iter().zip(COLUMNS) {
            let said = said(column.name, row);
            if let Some((has, event)) = array.differs(i, &said) {
                return Some(Disagreement {
                    column: column.name,
                    has,
                    event,
                });
            }
        }
        None
    }
}

impl Typed<'_> {
    /// What the column and the event say, where they disagree.
    fn differs(&self, i: usize, said: &Said<'_>) -> Option<(String, String)> {
        match (self, said) {
            (Self::Text(array), Said::Text(text)) => {
                let has = (!array.is_null(i)).then(|| array.value(i));
                (has != text.as_deref()).then(|| (shown(has), shown(text.as_deref())))
            }
            (Self::Time(array), Said::Number(number)) => {
                numbers((!array.is_null(i)).then(|| array.value(i)), *number)
            }
            (Self::Int64(array), Said::Number(number)) => {
                numbers((!array.is_null(i)).then(|| array.value(i)), *number)
            }
            (Self::Int32(array), Said::Number(number)) => {
                let has = (!array.is_null(i)).then(|| i64::from(array.value(i)));
                numbers(has, *number)
            }
            (Self::List(array), Said::List(list)) => {
                let has: Option<Vec<String>> = (!array.is_null(i)).then(|| {
                    let values = array.value(i);
                    let texts = values.as_string_opt::<i32>();
                    let texts = texts.into_iter().flatten();
                    texts.map(|t| t.unwrap_or_default().to_owned()).collect()
                });
                let event: Option<Vec<String>> =
                    list.map(|list| list.0.iter().map(|s| s.0.to_string()).collect());
                // A list that is not there and one without entries say the same.
                let same =
                    has.as_deref().unwrap_or_default() == event.as_deref().unwrap_or_default();
                (!same).then(|| (format!("{has:?}"), format!("{event:?}")))
            }
            _ => None,
        }
    }
}

fn numbers(has: Option<i64>, event: Option<i64>) -> Option<(String, String)> {
    let shown = |n: Option<i64>| n.map_or("nothing".into(), |n| n.to_string());
    (has != event).then(|| (shown(has), shown(event)))
}

fn shown(text: Option<&str>) -> String {
    text.map_or("nothing".into(), |text| {
        format!("{:?}", text.chars().take(100).collect::<String>())
    })
}

/// Numbers beyond the column's range are written as its largest.
fn number(n: u64) -> Option<i64> {
    Some(i64::try_from(n).unwrap_or(i64::MAX))
}

/// What the event says for the column `name`.
fn said<'r>(name: &str, row: &'r Row<'_>) -> Said<'r> {
    let text = |text: Option<&'r str>| Said::Text(text.map(Cow::Borrowed));
    let request = row.request.as_ref();
    let object = request.and_then(|r| r.object_ref.as_ref());
    let decision = row.decision.as_ref();
    match name {
        "ts" => Said::Number(Some(row.ts.as_micros())),
        "kind" => text(Some(&row.kind)),
        "session_id" => Said::Text(Some(row.session_id.to_string().into())),
        "session_seq" => Said::Number(number(row.session_seq)),
        "event_id" => Said::Text(Some(row.event_id.to_string().into())),
        "producer_id" => text(Some(&row.producer_id)),
        "producer_epoch" => Said::Number(number(row.producer_epoch)),
        "producer_seq" => Said::Number(number(row.producer_seq)),
        "cluster" => text(Some(&row.cluster)),
        "username" => text(row.user().map(|u| &*u.username)),
        "groups" => Said::List(row.user().map(|u| &u.groups)),
        "auth_method" => text(row.auth_method()),
        "login" => text(row.login()),
        "source_ip" => text(row.source_ip()),
        "user_agent" => text(row.user_agent()),
        "command" => text(row.command()),
        "audit_id" => text(row.audit_id()),
        "http_method" => text(request.map(|r| &*r.http_method)),
        "request_uri" => text(request.map(|r| &*r.request_uri)),
        "verb" => text(request.map(|r| &*r.verb)),
        "api_group" => text(object.map(|o| &*o.api_group)),
        "api_version" => text(object.map(|o| &*o.api_version)),
        "resource" => text(object.map(|o| &*o.resource)),
        "subresource" => text(object.map(|o| &*o.subresource)),
        "namespace" => text(object.map(|o| &*o.namespace)),
        "name" => text(object.map(|o| &*o.name)),
        "decision" => text(decision.map(|d| &*d.effect)),
        "decision_cause" => text(decision.map(|d| &*d.cause)),
        "profile" => text(decision.and_then(|d| d.profile.as_deref())),
        "rule" => text(decision.and_then(|d| d.rule.as_deref())),
        "policy_revision" => text(decision.and_then(|d| d.policy_revision.as_deref())),
        "approval_id" => text(row.approval_id.as_deref()),
        "status" => Said::Number(row.status.map(i64::from)),
        "masked_count" => Said::Number(row.masked.as_ref().and_then(|m| number(m.count))),
        "masked_paths" => Said::List(row.masked.as_ref().map(|m| &m.paths)),
        "request_bytes" => Said::Number(row.request_bytes.and_then(number)),
        "response_bytes" => Said::Number(row.response_bytes.and_then(number)),
        "duration_us" => Said::Number(row.duration_us.and_then(number)),
        // `position` and `log_ts` come from the log, `event_json` is the event.
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_compared_or_known_to_come_from_the_log() {
        let sample = include_str!("../../../schema/samples/v1.jsonl");
        let row = Row::read(sample.lines().next().unwrap().as_bytes()).unwrap();
        let unsaid: Vec<&str> = COLUMNS
            .iter()
            .filter(|c| matches!(said(c.name, &row), Said::Nothing))
            .map(|c| c.name)
            .collect();
        assert_eq!(unsaid, ["position", "log_ts", "event_json"]);
    }
}
