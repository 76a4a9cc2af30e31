//! What people do in front of a real API server, so that the queries have something to find.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hoop_schema::EventHash;

use super::ResultTable;
use super::document::Query;
use crate::harness::{api_server, this_run};
use crate::pipeline::{CONFIGURATION, Cluster, POLICY, Pipeline};

/// The token for emergencies.
const TOKEN: &str = "queries-break-the-glass";

/// How long it may take until a watch is on record.
const WATCH_WITHIN: Duration = Duration::from_secs(20);

/// A pod that no node runs: a command in it is asked for, recorded and refused by the API server.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1}
spec: {containers: [{name: app, image: app}]}
";

/// What was done, and where.
pub(super) struct Planted {
    pub(super) pipeline: Pipeline,
    namespace: String,
}

fn start() -> Result<Pipeline> {
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let hash = EventHash::of(TOKEN.as_bytes());
    let tokens = format!(
        "tokens: [{{name: on-call, groups: [platform], sha256: {hash}, expires: {expires:.6}, break_glass: true}}]"
    );
    let configuration = format!("{CONFIGURATION}tokens: tokens.yaml\n");
    let files = [
        ("hoop.yaml", configuration.as_str()),
        ("policy.yaml", POLICY),
        ("tokens.yaml", tokens.as_str()),
    ];
    let server = api_server()?;
    Pipeline::start_with(this_run()?, "queries", Cluster::Real(&server), &files)
}

/// Does something for every query.
pub(super) fn plant() -> Result<Planted> {
    let namespace = api_server()?.namespace("queries")?;
    let mut pipeline = start()?;
    let run = |pipeline: &Pipeline, person: &str, command: &str| {
        let mut arguments = vec!["-n", &namespace];
        arguments.extend(command.split(' '));
        pipeline.kubectl(person)?.run(&arguments)
    };
    for (person, command) in [
        (
            "alice",
            "create secret generic db --from-literal=password=plain",
        ),
        ("alice", "get secret db -o yaml"),
        ("bob", "get secrets"),
        ("alice", "create deployment web --image=app"),
        ("alice", "scale deployment web --replicas=2"),
        ("dave", "get pods --as somebody"),
        ("alice", "create configmap old"),
    ] {
        let answer = run(&pipeline, person, command)?;
        // Whether the API server lets somebody else see pods is not the point.
        ensure!(answer.success || person == "dave", "{command}: {answer:?}");
    }
    let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
    let alice = pipeline.kubectl("alice")?;
    alice
        .run(&["delete", "--raw", &collection])?
        .expect_success()?;
    alice
        .run_with(&["-n", &namespace, "apply", "-f", "-"], POD)?
        .expect_success()?;
    for (person, command) in [
        ("alice", "exec web-1 -- id -u"),
        ("bob", "delete deployment web"),
        ("bob", "delete secret db"),
        ("carol", "get pods --as admin"),
    ] {
        run(&pipeline, person, command)?.expect_failure()?;
    }
    let on_call = pipeline.kubectl_with_token(TOKEN)?;
    on_call
        .run(&["-n", &namespace, "get", "secret", "db"])?
        .expect_success()?;
    let nobody = pipeline.kubectl_with_token("not-a-token")?;
    nobody.run(&["get", "pods"])?.expect_failure()?;
    watch_until_killed(&mut pipeline, &namespace)?;
    // Another revision of the policy from here on.
    let policy = format!("{POLICY}# The same with a remark.\n");
    std::fs::write(pipeline.folder().join("policy.yaml"), policy)?;
    pipeline.start_again()?;
    run(&pipeline, "alice", "get pods")?.expect_success()?;
    pipeline.stop()?;
    Ok(Planted {
        pipeline,
        namespace,
    })
}

/// Alice watches secrets; the gateway dies over it.
fn watch_until_killed(pipeline: &mut Pipeline, namespace: &str) -> Result<()> {
    let alice = pipeline.kubectl("alice")?;
    let mut watch = alice.start(&["-n", namespace, "get", "secrets", "--watch-only"])?;
    let begun = Instant::now();
    while pipeline
        .events_of(namespace, |event| event["request"]["verb"] == "watch")?
        .is_empty()
    {
        if begun.elapsed() > WATCH_WITHIN {
            bail!("the watch is not on record");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    pipeline.kill();
    watch.kill()?;
    watch.wait()?;
    Ok(())
}

impl Planted {
    /// The query, about this namespace and any time.
    pub(super) fn fit(&self, query: &Query) -> Query {
        let fit = |sql: &str| {
            sql.replace("'shop'", &format!("'{}'", self.namespace))
                .replace("2026-11-21", "2026-01-01")
                .replace("2026-11-22", "2999-12-31")
        };
        Query {
            duckdb: fit(&query.duckdb),
            athena: fit(&query.athena),
            ..query.clone()
        }
    }

    /// Ensures that the queries found what was done: for each, rows that have these cells.
    pub(super) fn ensure_found(&self, queries: &[Query], results: &[ResultTable]) -> Result<()> {
        let namespace = self.namespace.as_str();
        let found: [(u32, &[&str]); 21] = [
            (1, &["alice", "get", namespace, "db", "secret", "200"]),
            (1, &["bob", "list", "namespace"]),
            (1, &["on-call", "get", "db"]),
            (1, &["alice", "watch", "namespace", ""]),
            (2, &["get", "secrets", "db", "allow"]),
            (2, &["pods", "exec", "web-1", "allow"]),
            (3, &["alice", "id -u", "false", "allow", ""]),
            (4, &["bob", "2", "2"]),
            (4, &["carol"]),
            (5, &["dave", "somebody", "list", "pods", "allow"]),
            (5, &["carol", "admin", "deny", "impersonation_refused"]),
            (6, &["alice", "scale", "200"]),
            (6, &["alice", "create", "201"]),
            (7, &["alice", "web-1", "id -u"]),
            (8, &["alice", "watch", "secrets", namespace]),
            (10, &["on-call", "127.0.0.1", "get", "secrets", "db"]),
            (12, &[namespace]),
            (14, &["0"]),
            (15, &["alice", "configmaps", namespace, "allow", "200"]),
            (16, &["127.0.0.1"]),
            (17, &["bob", "1"]),
        ];
        let result = |number: u32| {
            let begin = format!("{number}. ");
            let at = queries
                .iter()
                .position(|query| query.heading.starts_with(&begin))
                .with_context(|| format!("there is no query {number}"))?;
            anyhow::Ok(&results[at])
        };
        for (number, cells) in found {
            let table = result(number)?;
            let has = |row: &Vec<String>| {
                cells
                    .iter()
                    .all(|cell| row.iter().any(|found| found == cell))
            };
            ensure!(
                table.rows.iter().any(has),
                "query {number} has no row with {cells:?}: {table:?}"
            );
        }
        // Nobody acts for anybody here, and everybody comes from one address.
        for number in [11, 13] {
            let table = result(number)?;
            ensure!(table.rows.is_empty(), "query {number}: {table:?}");
        }
        let revisions = result(14)?;
        ensure!(revisions.rows.len() >= 2, "{revisions:?}");
        Ok(())
    }
}
