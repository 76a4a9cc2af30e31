//! Evidence as tables: SQL for DuckDB, and for Athena and other engines that speak Trino's SQL.
//!
//! Generated from [`hoop_schema::row::COLUMNS`], so that what is printed always has the columns that files have. Both
//! engines get the same five views with the same columns, `events`, `sessions`, `decisions`, `commands` and
//! `who_read_secret`; what differs between them is below the views.
//!
//! A sealed day lies there twice for a while: as session files below `events/v1`, and merged below `sealed/v1`. It
//! counts as sealed from the moment on at which `seals/v1/class=…/dt=….json` exists; the view `events` takes a sealed
//! day from `sealed/v1` alone and every other day from `events/v1` alone, so that no row is ever seen twice.

use std::fmt::Write;

mod athena;
mod duckdb;
mod views;

pub use athena::{CLASSES_DEFAULT, SHARDS_DEFAULT, Tables, athena};
pub use duckdb::duckdb;

/// Which words an engine has for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    DuckDb,
    Athena,
}

impl Dialect {
    /// The text, number or truth at `path` of a JSON text, as text; null where there is none.
    fn text(self, json: &str, path: &str) -> String {
        match self {
            Self::DuckDb => format!("json_extract_string({json}, '{path}')"),
            Self::Athena => format!("json_extract_scalar({json}, '{path}')"),
        }
    }

    /// The list of texts at `path` of a JSON text; null where there is none.
    fn list(self, json: &str, path: &str) -> String {
        match self {
            Self::DuckDb => format!("CAST(json_extract({json}, '{path}') AS VARCHAR[])"),
            Self::Athena => format!("CAST(json_extract({json}, '{path}') AS ARRAY(VARCHAR))"),
        }
    }

    /// The texts of a list, with blanks between them.
    fn joined(self, list: &str) -> String {
        match self {
            Self::DuckDb => format!("array_to_string({list}, ' ')"),
            Self::Athena => format!("array_join({list}, ' ')"),
        }
    }
}

/// One column of a view: how it is made, and its name.
struct Made(String, &'static str);

impl Made {
    fn of(expression: impl Into<String>, name: &'static str) -> Self {
        Self(expression.into(), name)
    }
}

/// The statement that makes a view: what it is for, its columns, and where they come from.
fn view(name: &str, doc: &str, columns: &[Made], from: &str) -> String {
    let mut sql = String::new();
    for line in doc.lines() {
        writeln!(sql, "-- {line}").expect("a string takes whatever is written");
    }
    let columns: Vec<String> = columns
        .iter()
        .map(|Made(expression, name)| {
            let plain = expression.rsplit('.').next() == Some(*name);
            if plain {
                format!("  {expression}")
            } else {
                format!("  {expression} AS {name}")
            }
        })
        .collect();
    let columns = columns.join(",\n");
    writeln!(
        sql,
        "CREATE OR REPLACE VIEW {name} AS\nSELECT\n{columns}\n{from};"
    )
    .expect("a string takes whatever is written");
    sql
}

#[cfg(test)]
mod tests;
