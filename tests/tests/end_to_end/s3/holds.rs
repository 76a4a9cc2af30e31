//! Retention modes and legal holds in a bucket: what is put is locked, what a hold covers is held, now and later.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use hoop_sinks::store::{EvidenceStore, LockMode, StoreError};
use hoop_tests::testbed::{Answer, Minio, Need};
use serde_json::Value;

use super::pipeline::configuration;
use super::{Bucket, block_on};
use crate::harness::{Test, minio, tests, this_run};
use crate::pipeline::{Cluster, POLICY, Pipeline, hoop};

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Minio];
        what_a_class_locks_is_locked_and_what_a_hold_covers_is_held,
        a_mode_without_object_lock_does_not_start,
    ]
}

/// `hoop replay` over the bucket with these credentials.
fn replay(minio: &Minio, bed: &Bucket, credentials: &std::path::Path, args: &[&str]) -> Command {
    let mut command = hoop();
    let place = bed.place.to_string();
    command
        .args([
            "replay",
            "--evidence",
            &place,
            "--s3-endpoint",
            &minio.url(),
        ])
        .args(args)
        .env("USER", "carol")
        .env("AWS_SHARED_CREDENTIALS_FILE", credentials)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn what_a_class_locks_is_locked_and_what_a_hold_covers_is_held() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    let retention = "retention: {standard: {term: 365d, mode: governance}}\n";
    let text = configuration(&bed)? + retention;
    let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
    let mut pipeline = Pipeline::start_with(this_run()?, "s3-holds", Cluster::Sample, &files)?;
    pipeline.work("alice", 5)?;
    pipeline.stop()?;
    let mut policy = hoop();
    policy
        .args(["store", "policy", "retention", "--plain", "--object-lock"])
        .args(["--evidence", &bed.place.to_string()]);
    let policy = Answer::of(&mut policy, "")?.expect_success()?;
    let name = format!("{}-legal", bed.place.bucket);
    let legal = minio.credentials(&name, &serde_json::from_str(&policy)?)?;
    let run = |args: &[&str]| Answer::of(&mut replay(&minio, &bed, &legal, args), "");
    let add = [
        "hold", "add", "--case", "court-7", "--user", "alice", "-o", "json",
    ];
    let set: Value = serde_json::from_str(&run(&add)?.expect_success()?)?;
    let kept = set[0]["files"].as_u64().context("files")?;
    ensure!(kept > 0 && set[0]["objects"] == kept * 2, "{set}");
    // What comes later is held as well, by the recorder.
    pipeline.start_again()?;
    pipeline.work("alice", 5)?;
    pipeline.work("bob", 5)?;
    pipeline.stop()?;
    let again: Value = serde_json::from_str(&run(&add)?.expect_success()?)?;
    ensure!(again[0]["written"] == false, "{again}");
    let covered = again[0]["files"].as_u64().context("files")?;
    ensure!(covered > kept, "{again}");
    everything_is_locked_and_so_much_held(&bed, covered)?;
    let report = run(&["retention", "report", "-o", "json"])?.expect_success()?;
    the_report_says_so(&serde_json::from_str(&report)?, covered)?;
    run(&["hold", "release", "--case", "court-7"])?.expect_success()?;
    block_on(async {
        let store = bed.open().await?;
        for object in store.list("events/v1/", None).await? {
            let found = store.protection(&object.key).await?;
            ensure!(
                !found.held && found.retention.is_some(),
                "{object:?}: {found:?}"
            );
        }
        Ok(())
    })
}

/// Every object is locked for a year, and so many session files are held too.
fn everything_is_locked_and_so_much_held(bed: &Bucket, covered: u64) -> Result<()> {
    block_on(async {
        let store = bed.open().await?;
        let (mut held, mut all) = (0, 0);
        for prefix in ["events/v1/", "sessions/v1/"] {
            for object in store.list(prefix, None).await? {
                let found = store.protection(&object.key).await?;
                let lock = found
                    .retention
                    .with_context(|| format!("{object:?} is not locked"))?;
                ensure!(lock.mode == LockMode::Governance);
                let days = (lock.until.as_micros() - object.created.as_micros()) / 86_400_000_000;
                ensure!((364..=366).contains(&days), "{days} days");
                let deleted = store.delete(&object.key).await;
                ensure!(
                    matches!(deleted, Err(StoreError::Refused { .. })),
                    "{deleted:?}"
                );
                held += u64::from(found.held && prefix == "events/v1/");
                all += 1;
            }
        }
        ensure!(
            held == covered && all > held,
            "{held} of {all} held, {covered} covered"
        );
        Ok(())
    })
}

fn the_report_says_so(report: &Value, covered: u64) -> Result<()> {
    let standard = report["classes"].as_array().context("classes")?.iter();
    let standard = standard.into_iter().find(|c| c["class"] == "standard");
    let standard = standard.context("the class standard")?;
    ensure!(
        standard["mode"] == "governance" && standard["term_s"] == 365 * 86_400,
        "{standard}"
    );
    ensure!(
        standard["locks"]["governance"] == standard["files"],
        "{standard}"
    );
    ensure!(standard["locks"]["held"] == covered, "{standard}");
    ensure!(
        report["store_locks"] == true && report["holds"][0]["files"] == covered,
        "{report}"
    );
    Ok(())
}

fn a_mode_without_object_lock_does_not_start() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    let folder = this_run()?.folder().join("s3-mode");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("policy.yaml"), POLICY)?;
    let retention = "retention: {standard: {term: 365d, mode: compliance}}\n";
    let text = configuration(&bed)?.replace(", object_lock: true", "") + retention;
    std::fs::write(folder.join("hoop.yaml"), text)?;
    let mut command = hoop();
    command
        .args(["check", "--config"])
        .arg(folder.join("hoop.yaml"));
    command.arg("--data").arg(folder.join("data"));
    let answer = Answer::of(&mut command, "")?;
    ensure!(answer.code != Some(0), "{answer:?}");
    let why = "it has no Object Lock, which the retention modes governance and compliance need";
    ensure!(answer.stdout.contains(why), "{answer:?}");
    Ok(())
}
