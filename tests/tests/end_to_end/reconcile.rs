//! `hoop-replay reconcile` against the real API server's own audit log.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use hoop_tests::testbed::{Answer, Need};
use serde_json::Value;

use crate::harness::{Test, api_server, minio, own_pipeline, tests};
use crate::pipeline::{Pipeline, hoop};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[Need::Kubernetes]; what_bypasses_the_gateway_is_shown];
    tests.extend(tests![&[Need::Kubernetes, Need::Minio];
        an_audit_log_in_a_bucket_is_compared_as_one_in_files,
    ]);
    tests
}

/// A gateway that was at work, and what of the API server's log is about its requests: other tests use the same API
/// server, through gateways of their own that are known there by the same name.
struct Bed {
    pipeline: Pipeline,
    namespace: String,
    ids: Vec<String>,
}

impl Bed {
    fn set_up(name: &str) -> Result<Self> {
        let namespace = api_server()?.namespace(name)?;
        let mut pipeline = own_pipeline(name)?;
        let alice = pipeline.kubectl("alice")?;
        for command in [
            &["create", "configmap", "one"][..],
            &["get", "configmaps,secrets"],
            &["auth", "can-i", "delete", "pods"],
        ] {
            let command = [&["-n", &namespace], command].concat();
            alice.run(&command)?.expect_success()?;
        }
        let bob = pipeline.kubectl("bob")?;
        bob.run(&["-n", &namespace, "delete", "configmap", "one"])?
            .expect_failure()?;
        pipeline.stop()?;
        let intents = pipeline.events(|event| event["kind"] == "intent")?;
        let ids = intents
            .iter()
            .filter_map(|intent| intent["request"]["audit_id"].as_str())
            .map(str::to_owned);
        Ok(Self {
            ids: ids.collect(),
            pipeline,
            namespace,
        })
    }

    /// Whether a line of the API server's log is about one of our requests.
    fn is_ours(&self, line: &str) -> bool {
        self.ids.iter().any(|id| line.contains(id))
    }

    /// Whether it is about this path in our namespace.
    fn is_about(&self, line: &str, path: &str) -> bool {
        line.contains(&format!("/namespaces/{}/{path}", self.namespace))
    }

    /// Runs `hoop-replay reconcile` over the lines of the API server's log that `wanted` picks.
    fn reconcile(&self, wanted: impl Fn(&str) -> bool, arguments: &[&str]) -> Result<Answer> {
        let log = std::fs::read_to_string(api_server()?.audit_log())?;
        let picked = log.lines().filter(|line| wanted(line));
        let picked: String = picked.map(|line| format!("{line}\n")).collect();
        let file = self.pipeline.folder().join("audit.log");
        std::fs::write(&file, picked)?;
        let file = file.to_str().context("a path is text")?;
        let all = [&["reconcile", "--utc", "--k8s-audit", file], arguments].concat();
        self.pipeline.replay(&all)
    }

    /// The same, as a report and an exit code.
    fn report(&self, wanted: impl Fn(&str) -> bool) -> Result<(Value, Option<i32>)> {
        let answer = self.reconcile(wanted, &["-o", "json"])?;
        let report = serde_json::from_str(&answer.stdout);
        Ok((report.with_context(|| format!("{answer:?}"))?, answer.code))
    }
}

fn what_bypasses_the_gateway_is_shown() -> Result<()> {
    let bed = Bed::set_up("reconcile")?;
    let (all, code) = bed.report(|line| bed.is_ours(line))?;
    ensure!(code == Some(0), "{code:?}: {all}");
    ensure!(all["gateway_users"][0] == "hoop-gateway", "{all}");
    ensure!(all["joined"].as_u64() >= Some(4), "{all}");
    ensure!(all["join_rate"] == 1.0 && all["coverage"] == 1.0, "{all}");

    // Somebody goes straight to the API server, and somebody has the gateway's credential.
    let (server, namespace) = (api_server()?, bed.namespace.as_str());
    let direct = server.kubectl();
    direct
        .run(&["-n", namespace, "get", "configmap", "one"])?
        .expect_success()?;
    let stolen = server.kubectl_as(&server.gateway_kubeconfig());
    stolen
        .run(&["-n", namespace, "--as=alice", "get", "secret", "none"])?
        .expect_failure()?;
    let direct = |line: &str| {
        bed.is_about(line, "configmaps/one\"") && line.contains("\"admin\"") || bed.is_ours(line)
    };
    let both = |line: &str| direct(line) || bed.is_about(line, "secrets/none");
    let (found, code) = bed.report(both)?;
    ensure!(code == Some(2), "{code:?}: {found}");
    ensure!(found["joined"] == all["joined"], "{found}");
    let group = &found["bypassed"]["groups"][0];
    ensure!(found["bypassed"]["requests"] == 1, "{found}");
    ensure!(
        group["user"] == "admin" && group["verb"] == "get",
        "{found}"
    );
    ensure!(group["name"] == "one", "{found}");
    let group = &found["unrecorded"]["groups"][0];
    ensure!(found["unrecorded"]["requests"] == 1, "{found}");
    ensure!(
        group["acting"] == "alice" && group["refused"] == 1,
        "{found}"
    );
    let shown = bed.reconcile(both, &[])?.stdout;
    ensure!(shown.contains("1 request bypassed the gateway"), "{shown}");
    let expected = bed.reconcile(direct, &["--ignore-user", "adm*"])?;
    ensure!(expected.code == Some(0), "{expected:?}");

    // A request is taken out of the API server's log.
    let (found, code) =
        bed.report(|line| bed.is_ours(line) && !bed.is_about(line, "configmaps?"))?;
    ensure!(code == Some(2), "{code:?}: {found}");
    ensure!(found["missing"]["groups"][0]["user"] == "alice", "{found}");

    // The whole log, with the other gateways' requests in it: their own questions are told apart from the rest.
    let (found, _) = bed.report(|_| true)?;
    ensure!(found["own"].as_u64() > Some(0), "{found}");
    ensure!(found["contradicted"]["requests"] == 0, "{found}");
    Ok(())
}

/// Objects as a shipper of logs leaves them: rotated, packed or not, under names of any kind, some empty.
fn an_audit_log_in_a_bucket_is_compared_as_one_in_files() -> Result<()> {
    let bed = Bed::set_up("reconcile-s3")?;
    let (of_file, code) = bed.report(|line| bed.is_ours(line))?;
    ensure!(code == Some(0), "{code:?}: {of_file}");

    let minio = minio()?;
    minio.make_bucket("audit-logs", false)?;
    let log = std::fs::read_to_string(api_server()?.audit_log())?;
    let ours: Vec<&str> = log.lines().filter(|line| bed.is_ours(line)).collect();
    let part = |lines: &[&str]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
    let (first, rest) = ours.split_at(ours.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(part(second).as_bytes())?;
    let foreign = log.lines().filter(|line| !bed.is_ours(line)).take(50);
    let objects = [
        ("audit/2026/11 23/kube-apiserver.log", part(first).into()),
        ("audit/2026/11 23/kube-apiserver+1.log.gz", packed.finish()?),
        ("audit/current", part(third).into()),
        ("audit/empty", Vec::new()),
        ("audit/", Vec::new()),
        // Not under the name that is asked for.
        (
            "audit-of-others/log",
            part(&foreign.collect::<Vec<_>>()).into(),
        ),
    ];
    let client = minio.client();
    tokio::runtime::Runtime::new()?.block_on(async {
        for (key, bytes) in objects {
            let put = client.put_object().bucket("audit-logs").key(key);
            put.body(bytes.into()).send().await?;
        }
        anyhow::Ok(())
    })?;
    let compare = |place: &str| {
        let mut command = hoop();
        command
            .args(["replay", "-o", "json", "--data"])
            .arg(bed.pipeline.data())
            .args(["reconcile", "--k8s-audit", place])
            .args(["--s3-endpoint", &minio.url()])
            .env("AWS_SHARED_CREDENTIALS_FILE", minio.root())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        Answer::of(&mut command, "")
    };
    for place in [
        "s3://audit-logs/audit",
        "s3://audit-logs/audit/",
        "s3://audit-logs/audit/*",
    ] {
        let report = compare(place)?;
        ensure!(report.code == Some(0), "{place}: {report:?}");
        let mut report: Value = serde_json::from_str(&report.stdout)?;
        ensure!(report["log"]["files"] == 3, "{place}: {report}");
        report["log"]["files"] = of_file["log"]["files"].clone();
        ensure!(report == of_file, "{place}: {report} and not {of_file}");
    }
    let none = compare("s3://audit-logs/aud")?;
    ensure!(none.code == Some(66), "{none:?}");
    let no_bucket = compare("s3://no-such-bucket/audit")?;
    ensure!(
        !no_bucket.success && no_bucket.stderr.contains("no-such-bucket"),
        "{no_bucket:?}"
    );
    Ok(())
}
