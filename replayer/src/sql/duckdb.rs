//! Views for DuckDB: over a directory, or a bucket through DuckDB's own S3 client.

use std::fmt::Write;

use hoop_schema::row::COLUMNS;

use super::views::shared_views;
use super::{Dialect, Made, view};

/// Matches `events` and `sealed`, and neither `sessions`, `seals` nor `tlog`: DuckDB refuses a pattern that matches no
/// file, so both have to be found by one.
const EVENTS_OR_SEALED: &str = "[es][ve][ea]*";

/// The views for DuckDB. `place` is the directory or bucket that holds `events/v1`, unless the session has a variable
/// `evidence` already.
pub fn duckdb(place: &str) -> String {
    let mut sql = String::new();
    write!(
        sql,
        "-- Evidence as views of DuckDB 1.3 or later; made by `hoop-replay schema --duckdb`.
--
-- The place is the variable `evidence`: a directory or s3://BUCKET/PREFIX that holds events/v1. A variable lives as
-- long as a connection, so set it anew where the views are kept in a database file.
SET VARIABLE evidence = coalesce(getvariable('evidence'), {place});
-- Times in evidence are UTC; without this, times in queries are read in the zone of the machine.
SET TimeZone = 'UTC';

",
        place = quoted(place)
    )
    .expect("a string takes whatever is written");
    sql.push_str(&events());
    for view in shared_views(Dialect::DuckDb) {
        sql.push('\n');
        sql.push_str(&view);
    }
    sql
}

/// A text as SQL writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Without `union_by_name`: that would read the footer of every file there is before the first row, and all files have
/// the columns of the first version.
fn events() -> String {
    let mut columns: Vec<Made> = COLUMNS
        .iter()
        .map(|column| Made::of(format!("files.{}", column.name), column.name))
        .collect();
    columns.push(Made::of("files.class", "class"));
    columns.push(Made::of("files.dt", "dt"));
    columns.push(Made::of("files.shard", "shard"));
    columns.push(Made::of("files.filename", "file"));
    let from = format!(
        "FROM read_parquet(
  getvariable('evidence') || '/{EVENTS_OR_SEALED}/v1/class=*/dt=*/shard=*/*.parquet',
  hive_partitioning = true,
  hive_types = {{'class': VARCHAR, 'dt': VARCHAR, 'shard': INTEGER}},
  filename = true
) AS files
LEFT JOIN (
  SELECT
    regexp_extract(file, 'class=([^/]+)/dt=[0-9-]+[.]json$', 1) AS class,
    regexp_extract(file, 'dt=([0-9-]+)[.]json$', 1) AS dt
  FROM glob(getvariable('evidence') || '/seals/v1/class=*/dt=*.json')
) AS seals ON seals.class = files.class AND seals.dt = files.dt
WHERE (regexp_extract(files.filename, '/(events|sealed)/v1/class=[^/]+/dt=[^/]+/shard=[^/]+/[^/]+$', 1) = 'sealed')
  = (seals.dt IS NOT NULL)"
    );
    view("events", super::views::EVENTS_DOC, &columns, &from)
}
