//! Content that is encrypted and erased, with real parts: a command's output and a ConfigMap pass through a real gateway,
//! and once their keys are destroyed nobody reads them again, while everything is proven as before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{Answer, Need};
use serde_json::Value;

use crate::canary::Canary;
use crate::harness::{Test, node_cluster, tests, this_run};
use crate::node::NodeCluster;
use crate::pipeline::{CONFIGURATION, Cluster, POLICY, Pipeline, hoop};
use crate::recorded::Recorded;
use crate::transparency::vkeys;

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes, Need::Node];
        what_is_erased_is_read_by_nobody_and_proven_by_everybody,
    ]
}

const NAME: &str = "erasure";

const ENCRYPTION: &str = "
retention:
  standard: {term: 30d, encrypt_bodies: true}
encryption: {keys: key-store, master_key: master.key}
";

/// A pipeline whose content is encrypted, and what is needed to read it.
struct Bed {
    pipeline: Pipeline,
    keys: PathBuf,
    master: PathBuf,
}

impl Bed {
    fn start(cluster: &NodeCluster) -> Result<Self> {
        let run = this_run()?;
        let folder = run.folder().join(format!("pipeline-{NAME}"));
        fs::create_dir_all(&folder)?;
        let master = make_master(&folder.join("master.key"))?;
        let configuration = format!("{CONFIGURATION}{ENCRYPTION}");
        let files = [("hoop.yaml", &*configuration), ("policy.yaml", POLICY)];
        let real = Cluster::Real(&cluster.server);
        Ok(Self {
            pipeline: Pipeline::start_with(run, NAME, real, &files)?,
            keys: folder.join("key-store"),
            master,
        })
    }

    /// `hoop-replay` with the keys.
    fn with_keys(&self, arguments: &[&str]) -> Result<Answer> {
        self.with_master(&self.master, arguments)
    }

    fn with_master(&self, master: &Path, arguments: &[&str]) -> Result<Answer> {
        let (keys, master) = (self.keys.display(), master.display());
        let named = [format!("--keys={keys}"), format!("--master-key={master}")];
        let mut all: Vec<&str> = arguments.to_vec();
        all.extend(named.iter().map(String::as_str));
        self.pipeline.replay(&all)
    }

    /// Everything that can be asked of the evidence about these sessions.
    fn questions<'a>(sessions: &[&'a str], canary: &'a Canary) -> Vec<Vec<&'a str>> {
        let mut all = vec![
            vec!["grep", canary.value()],
            vec!["export"],
            vec!["export", "--format", "readable"],
            vec!["export", "--format", "audit"],
        ];
        for session in sessions {
            all.push(vec!["show", session, "--bodies", "--lines", "10000"]);
            all.push(vec!["show", session, "-o", "json"]);
            all.push(vec!["play", session]);
        }
        all
    }

    fn ensure_proven(&self) -> Result<()> {
        let mut command = hoop();
        command
            .args(["replay", "--evidence"])
            .arg(self.pipeline.data().join("evidence"));
        let vkey = vkeys(&self.pipeline.data())?.remove(0);
        let answer = Answer::of(command.args(["verify", "--key", &vkey]), "")?;
        ensure!(answer.code == Some(0), "{answer:?}");
        Ok(())
    }
}

fn make_master(file: &Path) -> Result<PathBuf> {
    let folder = file.parent().context("it is in a folder")?;
    let mut command = hoop();
    command.args(["key", "master", "--file"]).arg(file);
    let made = Answer::of(command.arg("--data").arg(folder.join("data")), "")?;
    let said = made.expect_success()?;
    ensure!(said.starts_with("file:"), "{said}");
    Ok(file.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Has alice write a ConfigMap and type into a command; returns the sessions of both.
fn work(bed: &Bed, cluster: &NodeCluster, canary: &Canary) -> Result<[String; 2]> {
    let namespace = cluster.server.namespace(NAME)?;
    cluster.run_pods(&namespace, &["shell"], "sleep 1000000")?;
    let kubectl = bed.pipeline.kubectl("alice")?;
    let secret = canary.value();
    let manifest = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings, namespace: {namespace}}}, data: {{pin: {secret}}}}}"
    );
    let create = ["create", "-f", "-"];
    kubectl.run_with(&create, &manifest)?.expect_success()?;
    let exec = ["-n", &namespace, "exec", "-i", "shell", "--", "cat"];
    let shown = kubectl.run_with(&exec, secret)?.expect_success()?;
    ensure!(shown == secret, "{shown}");
    // Its outcome is there as well once this has found it.
    let recorded = Recorded::one_of_pod(&bed.pipeline, &namespace, "shell", "exec")?;
    ensure!(
        recorded.of_kind("stream.data").count() > 0,
        "there is a record"
    );
    let created = bed.pipeline.events_of(&namespace, |event| {
        event["kind"] == "outcome" && event["request"]["object_ref"]["resource"] == "configmaps"
    })?;
    let session = |event: &Value| event["session_id"].as_str().map(str::to_owned);
    let created = created.first().and_then(session);
    let exec = session(&recorded.intent);
    Ok([
        created.context("a ConfigMap was created")?,
        exec.context("a session")?,
    ])
}

fn what_is_erased_is_read_by_nobody_and_proven_by_everybody() -> Result<()> {
    let cluster = node_cluster()?;
    let mut bed = Bed::start(&cluster)?;
    let canary = Canary::new();
    let sessions = work(&bed, &cluster, &canary)?;
    let [created, exec] = [&*sessions[0], &*sessions[1]];
    bed.pipeline.stop()?;
    let questions = Bed::questions(&[created, exec], &canary);

    // Nowhere in the clear; and whoever asks without keys is told so.
    canary.ensure_absent(&bed.pipeline)?;
    for question in &questions {
        let answer = bed.pipeline.replay(question)?;
        ensure!(!canary.is_in(answer.stdout.as_bytes()), "{answer:?}");
    }
    let shown = bed.pipeline.replay(&["show", created, "--bodies"])?;
    let hint = "give --keys and --master-key]";
    ensure!(shown.expect_success()?.contains(hint));
    bed.ensure_proven()?;
    read_with_keys(&bed, created, exec, &canary)?;
    let copied = bed.pipeline.folder().join("keys-before");
    copy(&bed.keys, &copied)?;
    erase(&bed, created, exec)?;

    // As if it had been broken off between the event and the keys.
    copy(&copied, &bed.keys)?;
    let listed = bed.with_keys(&["erase", "list"])?.expect_success()?;
    ensure!(listed.contains("1 left"), "{listed}");
    ensure_erased(&bed, &questions, &canary)?;
    let again = bed.with_keys(&[
        "erase",
        "content",
        "--session",
        created,
        "--session",
        exec,
        "--reason",
        "again",
        "--by",
        "carol",
    ])?;
    let again = again.expect_success()?;
    ensure!(
        again.matches("was on record before").count() == 2,
        "{again}"
    );
    let listed = bed.with_keys(&["erase", "list", "-o", "json"])?;
    let listed: Vec<Value> = serde_json::from_str(&listed.expect_success()?)?;
    let of_both = listed.iter().all(|erasure| {
        erasure["keys_left"] == 0 && erasure["reason"] == "asked for" && erasure["by"] == "carol"
    });
    ensure!(listed.len() == 2 && of_both, "{listed:?}");
    ensure_erased(&bed, &questions, &canary)?;
    bed.ensure_proven()?;

    // The recorder signs that it was erased, and all of it is proven.
    bed.pipeline.start_again()?;
    bed.pipeline.work("bob", 3)?;
    bed.pipeline.stop()?;
    bed.ensure_proven()?;
    ensure!(logged(&bed.pipeline)? >= 2, "erasures are in the log");
    // And what bob did is read as ever.
    let of_bob = bed.with_keys(&["grep", "--user", "bob", "resourceVersion"])?;
    ensure!(of_bob.code == Some(0), "{of_bob:?}");
    Ok(())
}

fn read_with_keys(bed: &Bed, created: &str, exec: &str, canary: &Canary) -> Result<()> {
    for question in [
        vec!["show", created, "--bodies", "--lines", "10000"],
        vec!["show", exec, "--bodies"],
        vec!["play", exec],
        vec!["export", "--format", "readable"],
    ] {
        let answer = bed.with_keys(&question)?.expect_success()?;
        ensure!(canary.is_in(answer.as_bytes()), "{question:?}: {answer}");
    }
    let found = bed.with_keys(&["grep", canary.value(), "-o", "json"])?;
    let found: Vec<Value> = serde_json::from_str(&found.expect_success()?)?;
    let in_sessions: BTreeSet<_> = found.iter().map(|m| m["session_id"].as_str()).collect();
    ensure!(in_sessions.len() == 2, "{found:?}");
    // The exact bytes stay what they are.
    let exact = bed.with_keys(&["export"])?.expect_success()?;
    ensure!(!canary.is_in(exact.as_bytes()));
    // Another master key does not do, and that is said.
    let other = make_master(&bed.pipeline.folder().join("other.key"))?;
    let answer = bed.with_master(&other, &["show", created, "--bodies"])?;
    ensure!(answer.code == Some(65), "{answer:?}");
    let named = answer.stderr.contains("master key") && !canary.is_in(answer.stdout.as_bytes());
    ensure!(named, "{answer:?}");
    Ok(())
}

fn erase(bed: &Bed, created: &str, exec: &str) -> Result<()> {
    let add = [
        "hold", "add", "--user", "alice", "--case", "court-7", "--by", "dana",
    ];
    bed.pipeline.replay(&add)?.expect_success()?;
    let erase = [
        "erase",
        "content",
        "--session",
        created,
        "--session",
        exec,
        "--reason",
        "asked for",
        "--by",
        "carol",
    ];
    let refused = bed.with_keys(&erase)?;
    ensure!(refused.code == Some(64), "{refused:?}");
    ensure!(refused.stderr.contains("of case court-7"), "{refused:?}");
    let readable = bed.with_keys(&["show", created, "--bodies"])?;
    ensure!(!readable.expect_success()?.contains("erased"));
    let release = ["hold", "release", "--case", "court-7", "--by", "dana"];
    bed.pipeline.replay(&release)?.expect_success()?;
    let erased = bed.with_keys(&erase)?.expect_success()?;
    ensure!(erased.matches(" is erased").count() == 2, "{erased}");
    Ok(())
}

/// Whoever asks, with the keys or without, is told that it was erased.
fn ensure_erased(bed: &Bed, questions: &[Vec<&str>], canary: &Canary) -> Result<()> {
    for question in questions {
        let answer = bed.with_keys(question)?;
        ensure!(!canary.is_in(answer.stdout.as_bytes()), "{answer:?}");
        if question.contains(&"--bodies") {
            let told =
                answer.stdout.contains("[erased on ") && answer.stdout.contains(": asked for]");
            ensure!(answer.code == Some(0) && told, "{answer:?}");
            let without = bed.pipeline.replay(question)?;
            ensure!(without.stdout == answer.stdout, "{without:?}");
        }
    }
    Ok(())
}

/// How many erasures the signed logs have.
fn logged(pipeline: &Pipeline) -> Result<usize> {
    let mut found = 0;
    let mut folders = vec![pipeline.data().join("evidence/tlog")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if memchr::memmem::find(&fs::read(&path)?, b"\"kind\":\"erasure\"").is_some() {
                found += 1;
            }
        }
    }
    Ok(found)
}
