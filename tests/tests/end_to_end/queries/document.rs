//! `docs/queries.md`: under each heading of the second level with SQL in it one query, and its result as a table.

use anyhow::{Context, Result, bail, ensure};

use super::ResultTable;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/queries.md");

/// How SQL begins that is for DuckDB, and for Athena too where nothing else follows.
const SQL: &str = "```sql\n";

/// How SQL begins that is for Athena alone.
const SQL_ATHENA: &str = "```sql athena\n";

/// How any of both ends.
const SQL_END: &str = "```\n";

/// One query.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) heading: String,
    pub(super) duckdb: String,
    pub(super) athena: String,
    /// The result as the document shows it.
    pub(super) table: String,
}

impl Query {
    /// A query that is the same on every engine.
    pub(super) fn everywhere(sql: &str) -> Self {
        Self {
            heading: String::new(),
            duckdb: sql.to_owned(),
            athena: sql.to_owned(),
            table: String::new(),
        }
    }
}

pub(super) fn read() -> Result<String> {
    std::fs::read_to_string(PATH).context(PATH)
}

/// The queries of the document.
pub(super) fn queries(document: &str) -> Result<Vec<Query>> {
    let sections = document.split("\n## ").skip(1);
    sections
        .filter(|section| section.contains(SQL))
        .map(query)
        .collect()
}

fn query(section: &str) -> Result<Query> {
    let heading = section.lines().next().unwrap_or_default();
    let block = |begin: &str| {
        let rest = section.split_once(begin)?.1;
        rest.split_once(SQL_END).map(|(sql, _)| sql.to_owned())
    };
    let duckdb = block(SQL).with_context(|| format!("{heading} has no SQL"))?;
    let table = section.lines().filter(|line| line.starts_with('|'));
    Ok(Query {
        heading: heading.to_owned(),
        athena: block(SQL_ATHENA).unwrap_or_else(|| duckdb.clone()),
        table: table.map(|line| format!("{line}\n")).collect(),
        duckdb,
    })
}

fn table(result: &ResultTable) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&result.columns);
    table.push_str(&format!("|{}\n", "---|".repeat(result.columns.len())));
    for row in &result.rows {
        table.push_str(&line(row));
    }
    table
}

/// Ensures that the document shows these results.
pub(super) fn compare(document: &str, queries: &[Query], results: &[ResultTable]) -> Result<()> {
    let mut updated = document.to_owned();
    let mut different = Vec::new();
    for (query, result) in queries.iter().zip(results) {
        let found = table(result);
        ensure!(!result.rows.is_empty(), "{} finds nothing", query.heading);
        if query.table != found {
            different.push(format!("{}\n{found}", query.heading));
        }
        if query.table.is_empty() {
            bail!("{} shows no result; put a line with | there", query.heading);
        }
        let section = updated
            .find(&format!("\n## {}\n", query.heading))
            .context("the heading is in the document")?;
        let at = section
            + updated[section..]
                .find(&query.table)
                .context("so is the table")?;
        updated.replace_range(at..at + query.table.len(), &found);
    }
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(PATH, updated)?;
        return Ok(());
    }
    ensure!(
        different.is_empty(),
        "docs/queries.md shows other results (UPDATE_REFERENCE=1 writes them):\n{}",
        different.join("\n")
    );
    Ok(())
}
