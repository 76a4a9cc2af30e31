//! The queries of `docs/queries.md` find what was planted, on DuckDB and on Spark SQL in the place of Athena.
//!
//! The document's results are those of the scene. `UPDATE_REFERENCE=1` writes them anew; look at the difference.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hoop_recorder::seal::seal_day;
use hoop_replayer::sql::{self, Tables};
use hoop_schema::evidence::seal::SealName;
use hoop_schema::{Class, Timestamp};
use hoop_sinks::store::dir::Dir;
use hoop_tests::testbed::{Answer, Need, Python};
use serde::Deserialize;
use serde_json::json;

use crate::client::block_on;
use crate::harness::{Test, tests, this_run};
use crate::pipeline::hoop;
use document::Query;

mod document;
mod planted;
mod scene;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Spark]; the_queries_give_what_the_document_shows];
    tests.extend(tests![&[Need::Kubernetes, Need::Spark]; the_queries_find_what_people_did]);
    tests
}

const ENGINES: &str = include_str!("queries/engines.py");

/// What the engines answered.
#[derive(Debug, Deserialize)]
struct Answers {
    duckdb: Vec<ResultTable>,
    spark: Option<Vec<ResultTable>>,
    /// Number of rows of the session files.
    pyarrow: u64,
}

/// The result of one query.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ResultTable {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The views' rows, counted: all events, then sessions.
fn counting() -> [Query; 2] {
    ["events", "sessions"]
        .map(|view| Query::everywhere(&format!("SELECT count(*) AS n FROM {view}")))
}

/// Asks the evidence in `place`; the last two answers are those of [`counting`].
fn ask(python: &Python, place: &Path, queries: &[Query], spark: bool) -> Result<Answers> {
    let place = place.to_str().context("a path is text")?;
    let tables = Tables {
        place: "s3://evidence".to_owned(),
        classes: vec![Class::standard()],
        shards: 1,
    };
    let queries: Vec<_> = queries
        .iter()
        .chain(&counting())
        .map(|query| json!({"duckdb": query.duckdb, "athena": query.athena}))
        .collect();
    let task = json!({
        "place": place, "duckdb": sql::duckdb(place), "athena": sql::athena(&tables), "spark": spark,
        "queries": queries,
    });
    let printed = python.run_with(ENGINES, &[], &task.to_string())?;
    let last = printed.lines().last().context("an answer is printed")?;
    let answers: Answers = serde_json::from_str(last)?;
    if let Some(spark) = &answers.spark {
        for ((duckdb, spark), query) in answers.duckdb.iter().zip(spark).zip(&queries) {
            ensure!(duckdb == spark, "{query}: {duckdb:?}, on Spark {spark:?}");
        }
    }
    Ok(answers)
}

impl Answers {
    /// The numbers that [`counting`] gave.
    fn counts(&self) -> Result<[u64; 2]> {
        let counts = self.duckdb.iter().rev().take(2);
        let counts: Vec<u64> = counts
            .map(|table| Ok(table.rows[0][0].parse()?))
            .collect::<Result<_>>()?;
        Ok([counts[1], counts[0]])
    }
}

/// What `hoop-replay` counts: events that are exported, and sessions that are listed.
fn counts_of_replay(place: &Path) -> Result<[u64; 2]> {
    let replay = |arguments: &[&str]| {
        let mut command = hoop();
        command.args(["replay", "--evidence"]).arg(place);
        Answer::of(command.args(arguments), "")?.expect_success()
    };
    let sessions: Vec<serde_json::Value> =
        serde_json::from_str(&replay(&["list", "--all", "-o", "json"])?)?;
    let exported = replay(&["export"])?;
    Ok([exported.lines().count() as u64, sessions.len() as u64])
}

/// Seals a day as a recorder does.
async fn seal(place: &Path, day: &str) -> Result<()> {
    let store = Dir::open(place)?;
    let name = SealName {
        class: Class::standard(),
        day: day.to_owned(),
    };
    let now = Timestamp::from_micros(1_796_000_000_000_000);
    let sealed = seal_day(&store, &name, "recorder-1", now).await?;
    ensure!(sealed.is_some(), "{day} is not sealed");
    Ok(())
}

fn the_queries_give_what_the_document_shows() -> Result<()> {
    let python = Python::with_query_engines()?;
    let place = this_run()?.folder().join("queries-scene");
    let recorded = block_on(scene::record(&place))? as u64;
    let document = document::read()?;
    let queries = document::queries(&document)?;
    ensure!(queries.len() >= 15, "{} queries", queries.len());

    let plain = ask(&python, &place, &queries, true)?;
    // The recorder has things to say too.
    ensure!(plain.pyarrow >= recorded, "{} rows", plain.pyarrow);
    let counts = plain.counts()?;
    ensure!(counts[0] == plain.pyarrow, "{counts:?}");
    ensure!(counts == counts_of_replay(&place)?, "{counts:?}");
    document::compare(&document, &queries, &plain.duckdb)?;

    // A day is sealed and its small files are there still; the sealing of the other day broke off before its seal.
    block_on(seal(&place, "2026-11-21"))?;
    block_on(seal(&place, "2026-11-22"))?;
    std::fs::remove_file(place.join("seals/v1/class=standard/dt=2026-11-22.json"))?;
    let sealed = ask(&python, &place, &queries, false)?;
    ensure!(
        sealed.pyarrow == plain.pyarrow,
        "the small files are there still"
    );
    ensure!(sealed.duckdb == plain.duckdb, "{sealed:?}\n{plain:?}");
    let counted = ask(&python, &place, &[], true)?;
    ensure!(counted.counts()? == counts, "{counted:?}");
    ensure!(counts_of_replay(&place)? == counts, "{counts:?}");

    // The small files of the sealed day have left.
    std::fs::remove_dir_all(place.join("events/v1/class=standard/dt=2026-11-21"))?;
    let expired = ask(&python, &place, &queries, false)?;
    ensure!(expired.pyarrow < plain.pyarrow, "{} rows", expired.pyarrow);
    ensure!(expired.duckdb == plain.duckdb, "{expired:?}\n{plain:?}");
    ensure!(counts_of_replay(&place)? == counts, "{counts:?}");
    Ok(())
}

fn the_queries_find_what_people_did() -> Result<()> {
    let python = Python::with_query_engines()?;
    let planted = planted::plant()?;
    let queries = document::queries(&document::read()?)?;
    let queries: Vec<Query> = queries.iter().map(|query| planted.fit(query)).collect();
    let place = planted.pipeline.data().join("evidence");
    let answers = ask(&python, &place, &queries, true)?;
    let counts = answers.counts()?;
    ensure!(counts == counts_of_replay(&place)?, "{counts:?}");
    ensure!(counts[0] == answers.pyarrow, "{counts:?}");
    planted.ensure_found(&queries, &answers.duckdb)
}
