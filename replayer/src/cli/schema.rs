//! `hoop-replay schema`.

use clap::Args;
use hoop_schema::row::{COLUMNS, ColumnType};
use serde::Serialize;

use crate::exit::{ExitCode, Failure};
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};
use crate::output::{Format, Output};

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// The columns of session files instead of the JSON Schema of events
    #[arg(long)]
    pub columns: bool,
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    #[serde(rename = "type")]
    column_type: &'static str,
    nullable: bool,
    doc: &'static str,
}

pub(super) fn run(output: &mut Output, args: &SchemaArgs) -> Result<ExitCode, Failure> {
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
            let heading = |title, width_min| Column {
                title,
                right: false,
                width_min,
                optional: false,
            };
            let mut table = Table::new(vec![
                heading("COLUMN", 16),
                heading("TYPE", 13),
                heading("NULL", 4),
                heading("WHAT IT SAYS", 20),
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

fn type_name(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Timestamp => "timestamp(µs)",
        ColumnType::Text(_) => "string",
        ColumnType::TextList => "list<string>",
        ColumnType::Int64 => "int64",
        ColumnType::Int32 => "int32",
    }
}
