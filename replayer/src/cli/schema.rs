//! `hoop-replay schema`.

use clap::Args;
use hoop_schema::Class;
use hoop_schema::row::{COLUMNS, ColumnType};
use serde::Serialize;

use super::Place;

use crate::exit::{ExitCode, Failure};
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};
use crate::output::{Format, Output};
use crate::sql::{self, CLASSES_DEFAULT, SHARDS_DEFAULT, Tables};

/// The place in the views for DuckDB where none is named: what the README's first example makes.
const DIRECTORY_EXAMPLE: &str = "hoop-data/evidence";

/// The place in the tables for Athena where none is named; it cannot be mistaken for a bucket.
const BUCKET_EXAMPLE: &str = "s3://YOUR-BUCKET";

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// The columns of session files instead of the JSON Schema of events
    #[arg(long, group = "what")]
    pub columns: bool,
    /// SQL that makes views in DuckDB over the evidence of --evidence or --data
    #[arg(long, group = "what")]
    pub duckdb: bool,
    /// SQL that makes tables and views in Athena over the evidence of --evidence s3://BUCKET/PREFIX
    #[arg(long, group = "what")]
    pub athena: bool,
    /// With --athena: every retention class that has evidence
    #[arg(long, value_name = "CLASS", value_delimiter = ',', default_value = CLASSES_DEFAULT)]
    pub classes: Vec<Class>,
    /// With --athena: shards of a class at most; shards beyond are not seen
    #[arg(long, value_name = "N", default_value_t = SHARDS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=999))]
    pub shards: u32,
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    #[serde(rename = "type")]
    column_type: &'static str,
    nullable: bool,
    doc: &'static str,
}

pub(super) fn run(
    output: &mut Output,
    args: &SchemaArgs,
    place: &Place,
) -> Result<ExitCode, Failure> {
    if args.duckdb || args.athena {
        output.own_text(&statements(args, place)?)?;
        return Ok(ExitCode::Success);
    }
    if !args.columns {
        output.own_text(&hoop_schema::json_schema::json_schema())?;
        return Ok(ExitCode::Success);
    }
    let columns: Vec<Listed> = COLUMNS
        .iter()
        .map(|column| Listed {
            name: column.name,
            column_type: type_name(column.column_type),
            nullable: column.nullable,
            doc: column.doc,
        })
        .collect();
    match output.format() {
        Format::Json => output.json(&columns)?,
        Format::Jsonl => {
            for column in &columns {
                output.json(column)?;
            }
        }
        Format::Table => {
            let mut table = Table::new(vec![
                Column::new("COLUMN", 16),
                Column::new("TYPE", 13),
                Column::new("NULL", 4),
                Column::new("WHAT IT SAYS", 20),
            ]);
            for column in &columns {
                table.row(vec![
                    Text::styled(Style::Name, column.name),
                    Text::plain(column.column_type),
                    Text::styled(Style::Dim, if column.nullable { "yes" } else { "" }),
                    Text::plain(column.doc),
                ]);
            }
            for line in table.lines(output.width()) {
                output.line(&line)?;
            }
        }
    }
    Ok(ExitCode::Success)
}

fn statements(args: &SchemaArgs, place: &Place) -> Result<String, Failure> {
    let named = match (&place.evidence, &place.data) {
        (Some(evidence), _) => Some(evidence.to_string()),
        (None, Some(data)) => Some(data.join("evidence").display().to_string()),
        (None, None) => None,
    };
    let named = named.map(|place| place.trim_end_matches('/').to_owned());
    if args.duckdb {
        let place = named.unwrap_or_else(|| DIRECTORY_EXAMPLE.to_owned());
        return Ok(sql::duckdb(&place));
    }
    let place = named.unwrap_or_else(|| BUCKET_EXAMPLE.to_owned());
    if !place.starts_with("s3://") || place.contains(['\'', '\\']) {
        return Err(Failure::usage(format!(
            "Athena reads buckets: say --evidence s3://BUCKET or s3://BUCKET/PREFIX, not {place}"
        )));
    }
    Ok(sql::athena(&Tables {
        place,
        classes: args.classes.clone(),
        shards: args.shards,
    }))
}

fn type_name(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Timestamp => "timestamp(µs)",
        ColumnType::Text(_) => "string",
        ColumnType::TextList => "list<string>",
        ColumnType::Int64 => "int64",
        ColumnType::Int32 => "int32",
    }
}
