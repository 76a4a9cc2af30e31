//! The signed transparency log of what a real `hoop up` recorded, proven by `hoop-replay` and by the reference tools, and
//! what is found out about it when somebody changes the evidence.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hoop_sinks::store::EvidenceStore;
use hoop_tests::testbed::{Answer, Need, tlogcheck};
use serde_json::Value;

use crate::harness::{Test, sample_pipeline, tests};
use crate::pipeline::{Pipeline, hoop};

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Tlog];
        what_hoop_up_recorded_is_proven_by_the_reference_tools_too,
        a_changed_key_is_followed_by_who_trusts_the_old_one,
        who_may_write_to_the_evidence_but_has_no_key_is_found_out,
    ]
}

/// The keys that a data directory says its evidence is signed with, the newest first.
pub(crate) fn vkeys(data: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(data.join("evidence.vkey"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Makes a key to sign the logs of a cluster with, in a folder of its own: its file, and its public half.
pub(crate) fn make_key(folder: &Path, cluster: &str) -> Result<(PathBuf, String)> {
    fs::create_dir_all(folder)?;
    let config = folder.join("hoop.yaml");
    fs::write(&config, format!("cluster: {cluster}\n"))?;
    let mut command = hoop();
    command.args(["key", "show", "--config"]).arg(&config);
    let shown = Answer::of(command.arg("--data").arg(folder), "")?.expect_success()?;
    Ok((folder.join("evidence.key"), shown.trim().to_owned()))
}

/// The folder of every log below a folder of evidence.
fn logs(evidence: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![evidence.join("tlog")];
    for _ in ["cluster", "class", "shard"] {
        let mut below = Vec::new();
        for folder in folders {
            for entry in fs::read_dir(&folder).with_context(|| format!("{folder:?}"))? {
                below.push(entry?.path());
            }
        }
        folders = below;
    }
    folders.sort();
    Ok(folders)
}

/// Has the reference tools prove every log; returns how many leaves they have.
pub(crate) fn proven_by_reference(evidence: &Path, vkey: &str) -> Result<u64> {
    let mut leaves = 0;
    for log in logs(evidence)? {
        let said = tlogcheck(&log, vkey)?.expect_success()?;
        let count = said.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        leaves += count.with_context(|| said.clone())?;
    }
    Ok(leaves)
}

/// Copies the logs of a store into a folder, as whoever wants other tools to look at them does.
pub(crate) async fn copy_logs(store: &impl EvidenceStore, evidence: &Path) -> Result<()> {
    for object in store.list("tlog/", None).await? {
        let path = evidence.join(&object.key);
        fs::create_dir_all(path.parent().context("it is in a folder")?)?;
        fs::write(path, store.get(&object.key, 0..u64::MAX).await?)?;
    }
    Ok(())
}

/// Makes sure that a report of `verify` has nothing to say against the logs, whatever it has to say of sessions that a
/// kill broke off.
pub(crate) fn ensure_logs_are_proven(report: &Answer) -> Result<()> {
    // The kill may have left a request without an outcome, which is said and is not an alteration.
    ensure!(matches!(report.code, Some(0 | 2)), "{report:?}");
    let parsed: Value = serde_json::from_str(&report.stdout)?;
    let findings = parsed["findings"].as_array().into_iter().flatten();
    let mut of_logs = findings.filter(|finding| {
        let object = finding["object"].as_str().unwrap_or_default();
        object.starts_with("tlog/")
            || object.starts_with("hoop/")
            || finding["what"].to_string().contains("transparency log")
    });
    ensure!(of_logs.next().is_none(), "{report:?}");
    let logs = parsed["logs"].as_array().context("logs")?;
    let signed = |log: &Value| log["signed_by"].as_array().is_some_and(|by| !by.is_empty());
    ensure!(!logs.is_empty() && logs.iter().all(signed), "{report:?}");
    Ok(())
}

/// `hoop-replay verify` of evidence that was carried off, without the directory that has the key in it.
fn verify(evidence: &Path, arguments: &[&str]) -> Result<(Value, Option<i32>)> {
    let mut command = hoop();
    command.args(["replay", "--evidence"]).arg(evidence);
    let answer = Answer::of(command.args(["verify", "-o", "json"]).args(arguments), "")?;
    let report = serde_json::from_str(&answer.stdout).with_context(|| format!("{answer:?}"))?;
    Ok((report, answer.code))
}

fn count(report: &Value, key: &str) -> u64 {
    let logs = report["logs"].as_array().into_iter().flatten();
    logs.filter_map(|log| log[key].as_u64()).sum()
}

fn session_files(evidence: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![evidence.join("events")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn what_hoop_up_recorded_is_proven_by_the_reference_tools_too() -> Result<()> {
    let mut pipeline = sample_pipeline("transparency")?;
    pipeline.work("alice", 30)?;
    pipeline.work("bob", 30)?;
    pipeline.stop()?;
    pipeline.start_again()?;
    pipeline.work("alice", 30)?;
    pipeline.stop()?;
    let evidence = pipeline.data().join("evidence");
    let vkey = vkeys(&pipeline.data())?.remove(0);
    let (report, code) = verify(&evidence, &["--key", &vkey])?;
    ensure!(code == Some(0), "{report:#}");
    let files = session_files(&evidence)?.len() as u64;
    ensure!(
        files > 1 && count(&report, "files") == files,
        "{files} files: {report:#}"
    );
    let leaves = proven_by_reference(&evidence, &vkey)?;
    ensure!(
        leaves == count(&report, "leaves"),
        "{leaves} leaves by the reference: {report:#}"
    );
    // Nobody else's key will do.
    let (_, other) = make_key(&pipeline.folder().join("other"), "test")?;
    let said = tlogcheck(&logs(&evidence)?[0], &other)?;
    ensure!(said.stderr.contains("no verifiable signatures"), "{said:?}");
    Ok(())
}

fn rotate(pipeline: &Pipeline) -> Result<String> {
    let mut command = hoop();
    command.args(["key", "rotate", "--config"]);
    command.arg(pipeline.folder().join("hoop.yaml"));
    command.arg("--data").arg(pipeline.data());
    let said = Answer::of(&mut command, "")?.expect_success()?;
    let new = said.lines().next().context("it prints the new key")?;
    Ok(new.to_owned())
}

fn a_changed_key_is_followed_by_who_trusts_the_old_one() -> Result<()> {
    let mut pipeline = sample_pipeline("transparency-key")?;
    pipeline.work("alice", 10)?;
    pipeline.stop()?;
    let old = vkeys(&pipeline.data())?.remove(0);
    let new = rotate(&pipeline)?;
    ensure!(old != new, "{new}");
    pipeline.start_again()?;
    pipeline.work("alice", 10)?;
    pipeline.stop()?;
    let evidence = pipeline.data().join("evidence");
    let (report, code) = verify(&evidence, &["--key", &old])?;
    ensure!(code == Some(0), "{report:#}");
    proven_by_reference(&evidence, &old)?;
    // With the new key alone from here on.
    fs::remove_file(pipeline.data().join("evidence.key.previous"))?;
    pipeline.start_again()?;
    pipeline.work("alice", 10)?;
    pipeline.stop()?;
    let (report, code) = verify(&evidence, &["--key", &old])?;
    ensure!(code == Some(0), "{report:#}");
    let logs = report["logs"].as_array().context("logs")?;
    let signed_by_new = logs.iter().any(|log| log["signed_by"][0] == new.as_str());
    ensure!(signed_by_new, "{report:#}");
    let (report, code) = verify(&evidence, &["--key", &new])?;
    ensure!(code == Some(3), "{report:#}");
    let (report, code) = verify(&evidence, &["--key", &new, "--key", &old])?;
    ensure!(code == Some(0), "{report:#}");
    Ok(())
}

fn who_may_write_to_the_evidence_but_has_no_key_is_found_out() -> Result<()> {
    let mut pipeline = sample_pipeline("transparency-tampered")?;
    pipeline.work("alice", 10)?;
    pipeline.stop()?;
    pipeline.start_again()?;
    pipeline.work("alice", 10)?;
    pipeline.stop()?;
    let evidence = pipeline.data().join("evidence");
    let vkey = vkeys(&pipeline.data())?.remove(0);
    let mut command = hoop();
    command
        .args(["replay", "--evidence"])
        .arg(&evidence)
        .arg("checkpoint");
    let kept = pipeline.folder().join("kept.txt");
    fs::write(&kept, Answer::of(&mut command, "")?.expect_success()?)?;
    let kept = kept.to_str().context("a path is text")?;
    let arguments = ["--key", vkey.as_str(), "--since-checkpoint", kept];
    let (report, code) = verify(&evidence, &arguments)?;
    ensure!(code == Some(0), "{report:#}");

    // The newest file of some shard leaves: no other file names it.
    let newest = session_files(&evidence)?.pop().context("there is a file")?;
    let bytes = fs::read(&newest)?;
    fs::remove_file(&newest)?;
    let (report, code) = verify(&evidence, &arguments)?;
    let name = newest.strip_prefix(&evidence)?.to_str();
    let name = name.context("a name is text")?;
    ensure!(code == Some(2), "{report:#}");
    ensure!(report["findings"][0]["object"] == name, "{report:#}");
    fs::write(&newest, bytes)?;

    // All of its log leaves, with everything that was signed.
    fs::remove_dir_all(evidence.join("tlog"))?;
    let (report, code) = verify(&evidence, &arguments)?;
    ensure!(code == Some(2), "{report:#}");
    let found = report["findings"].to_string();
    ensure!(found.contains("the log is not there"), "{report:#}");

    // A recorder with a key of their own writes it again.
    fs::remove_file(pipeline.data().join("evidence.key"))?;
    pipeline.start_again()?;
    pipeline.stop()?;
    let (report, code) = verify(&evidence, &arguments)?;
    ensure!(matches!(code, Some(1 | 3)), "{report:#}");
    let theirs = vkeys(&pipeline.data())?.remove(0);
    let (report, code) = verify(&evidence, &["--key", &theirs])?;
    // Not even by that: the files carry the signature of who wrote them.
    ensure!(code == Some(2), "{report:#}");
    let found = report["findings"][0]["what"].to_string();
    ensure!(found.contains("not in the transparency log"), "{report:#}");
    Ok(())
}
