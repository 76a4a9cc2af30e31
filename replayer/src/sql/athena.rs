//! Tables and views for Athena: external tables with partition projection, so that there is nothing to crawl and no
//! partition to add.

use std::fmt::Write;

use hoop_schema::Class;
use hoop_schema::row::{COLUMNS, Column, ColumnType};

use super::views::{EVENTS_DOC, shared_views};
use super::{Dialect, Made, view};

/// The classes that a gateway writes to unless it is told otherwise.
pub const CLASSES_DEFAULT: &str = "short,standard,long";

/// Shards of a class, at most: partitions that are not there cost a listing each, those that are not named are not seen.
pub const SHARDS_DEFAULT: u32 = 16;

/// No evidence is older than the first version of its format, so nothing is before this day.
const FIRST_DAY: &str = "2026-01-01";

/// What the tables have to know of an installation.
#[derive(Debug, Clone)]
pub struct Tables {
    /// `s3://BUCKET/PREFIX` that holds `events/v1`, without a slash at the end.
    pub place: String,
    /// Every class that has evidence.
    pub classes: Vec<Class>,
    /// The most shards that a class has.
    pub shards: u32,
}

/// Tables and views for Athena. Statements are separated by a semicolon and an empty line; Athena takes them one at a
/// time.
pub fn athena(tables: &Tables) -> String {
    let mut sql = String::from(
        "-- Evidence as tables and views of Athena (engine version 3); made by `hoop-replay schema --athena`.
-- Athena takes one statement at a time. A partition that is not within the projection below is not seen: all classes
-- and at least as many shards as the log has must be named.

",
    );
    sql.push_str(&files_table(
        "session_files",
        "Session files as they arrive; ask the view events instead, which knows which days are sealed",
        "events/v1",
        tables,
    ));
    sql.push_str(&files_table(
        "sealed_files",
        "Sealed days; ask the view events instead, which knows which days are sealed",
        "sealed/v1",
        tables,
    ));
    sql.push_str(&seals_table(tables));
    sql.push_str(&events());
    for view in shared_views(Dialect::Athena) {
        sql.push('\n');
        sql.push_str(&view);
    }
    sql
}

fn files_table(name: &str, doc: &str, prefix: &str, tables: &Tables) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|column| {
            let doc = column.doc.replace('\'', "");
            format!("  `{}` {} COMMENT '{doc}'", column.name, type_name(column))
        })
        .collect();
    let location = format!("{}/{prefix}", tables.place);
    let mut sql = format!(
        "-- {doc}.
CREATE EXTERNAL TABLE IF NOT EXISTS {name} (
{}
)
PARTITIONED BY (`class` string, `dt` string, `shard` int)
STORED AS PARQUET
LOCATION '{location}/'
TBLPROPERTIES (
",
        columns.join(",\n")
    );
    let properties = [
        ("projection.enabled", "true".to_owned()),
        ("projection.class.type", "enum".to_owned()),
        ("projection.class.values", class_names(tables)),
        ("projection.dt.type", "date".to_owned()),
        ("projection.dt.format", "yyyy-MM-dd".to_owned()),
        // A day more: the log's clock may be ahead of Athena's.
        ("projection.dt.range", format!("{FIRST_DAY},NOW+1DAYS")),
        ("projection.shard.type", "integer".to_owned()),
        (
            "projection.shard.range",
            format!("0,{}", tables.shards.saturating_sub(1)),
        ),
        ("projection.shard.digits", "3".to_owned()),
        (
            "storage.location.template",
            format!("{location}/class=${{class}}/dt=${{dt}}/shard=${{shard}}/"),
        ),
    ];
    write_properties(&mut sql, &properties);
    sql
}

/// Seals are looked for, not read: their names say the class and the day. One column of lines reads whatever is in them.
fn seals_table(tables: &Tables) -> String {
    let location = format!("{}/seals/v1", tables.place);
    let mut sql = format!(
        "-- The seals of days: a day is sealed from the moment on at which its seal exists.
CREATE EXTERNAL TABLE IF NOT EXISTS seals (
  `line` string
)
PARTITIONED BY (`class` string)
STORED AS TEXTFILE
LOCATION '{location}/'
TBLPROPERTIES (
"
    );
    let properties = [
        ("projection.enabled", "true".to_owned()),
        ("projection.class.type", "enum".to_owned()),
        ("projection.class.values", class_names(tables)),
        (
            "storage.location.template",
            format!("{location}/class=${{class}}/"),
        ),
    ];
    write_properties(&mut sql, &properties);
    sql
}

fn class_names(tables: &Tables) -> String {
    let names: Vec<&str> = tables.classes.iter().map(Class::as_str).collect();
    names.join(",")
}

fn write_properties(sql: &mut String, properties: &[(&str, String)]) {
    let lines: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("  '{name}' = '{value}'"))
        .collect();
    write!(sql, "{}\n);\n\n", lines.join(",\n")).expect("a string takes whatever is written");
}

fn type_name(column: &Column) -> &'static str {
    match column.column_type {
        ColumnType::Timestamp => "timestamp",
        ColumnType::Text(_) => "string",
        ColumnType::TextList => "array<string>",
        ColumnType::Int64 => "bigint",
        ColumnType::Int32 => "int",
    }
}

fn events() -> String {
    let columns = |of_files: bool| -> Vec<Made> {
        let names = COLUMNS.iter().map(|column| column.name);
        names
            .chain(["class", "dt", "shard"])
            .map(|name| Made::of(format!("files.{name}"), name))
            .chain(of_files.then(|| Made::of("files.\"$path\"", "file")))
            .collect()
    };
    let sealed: Vec<String> = columns(true)
        .into_iter()
        .map(|Made(expression, name)| match name {
            "file" => format!("  {expression} AS {name}"),
            _ => format!("  {expression}"),
        })
        .collect();
    let days = "(
  SELECT DISTINCT class, regexp_extract(\"$path\", 'dt=([0-9-]+)[.]json$', 1) AS dt
  FROM seals
) AS days ON days.class = files.class AND days.dt = files.dt";
    let from = format!(
        "FROM session_files AS files
LEFT JOIN {days}
WHERE days.dt IS NULL
UNION ALL
SELECT
{}
FROM sealed_files AS files
INNER JOIN {days}",
        sealed.join(",\n")
    );
    view("events", EVENTS_DOC, &columns(true), &from)
}
