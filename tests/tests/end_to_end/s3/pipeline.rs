//! The whole pipeline with its evidence in a bucket: `hoop up` records there, `hoop-replay` reads and proves there.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_sinks::store::EvidenceStore;
use hoop_tests::testbed::{Answer, Need};

use super::{Bucket, block_on};
use crate::harness::{Test, minio, tests, this_run};
use crate::pipeline::{CONFIGURATION, Cluster, POLICY, Pipeline, hoop};
use crate::transparency;

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Minio];
        evidence_in_a_bucket_is_recorded_listed_shown_and_proven,
        a_configuration_with_a_bucket_is_checked,
    ]
}

/// Configuration of a pipeline that records as the recorder's role.
pub(super) fn configuration(bed: &Bucket) -> Result<String> {
    let minio = minio()?;
    let mut command = hoop();
    command
        .args(["store", "policy", "recorder", "--plain", "--object-lock"])
        .args(["--evidence", &bed.place.to_string()]);
    let policy = Answer::of(&mut command, "")?.expect_success()?;
    let name = format!("{}-pipeline", bed.place.bucket);
    let credentials = minio.credentials(&name, &serde_json::from_str(&policy)?)?;
    Ok(format!(
        "{CONFIGURATION}evidence: {{place: '{}', endpoint: '{}', credentials_file: '{}', object_lock: true}}\n",
        bed.place,
        minio.url(),
        credentials.display()
    ))
}

fn evidence_in_a_bucket_is_recorded_listed_shown_and_proven() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    let text = configuration(&bed)?;
    let files = [("hoop.yaml", text.as_str()), ("policy.yaml", POLICY)];
    let mut pipeline = Pipeline::start_with(this_run()?, "s3", Cluster::Sample, &files)?;
    pipeline.work("alice", 20)?;
    pipeline.work("bob", 20)?;
    block_on(async {
        let store = bed.open().await?;
        let begun = Instant::now();
        while store.list("sessions/v1/", None).await?.is_empty() {
            ensure!(
                begun.elapsed() < Duration::from_secs(60),
                "nothing is committed"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })?;
    // Killed and started again, it goes on after its newest file in the bucket.
    pipeline.kill();
    pipeline.start_again()?;
    pipeline.work("alice", 20)?;
    pipeline.stop()?;

    let place = bed.place.to_string();
    let replay = |arguments: &[&str]| {
        let mut command = hoop();
        command
            .args([
                "replay",
                "--evidence",
                &place,
                "--s3-endpoint",
                &minio.url(),
            ])
            .args(arguments)
            .env("AWS_SHARED_CREDENTIALS_FILE", minio.root())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        Answer::of(&mut command, "")
    };
    let listed = replay(&["list"])?.expect_success()?;
    ensure!(
        listed.contains("alice") && listed.contains("bob"),
        "{listed}"
    );
    let event = &pipeline.events(|event| event["request"]["user"]["username"] == "bob")?[0];
    let session = event["session_id"].as_str().context("a session")?;
    let shown = replay(&["show", session])?.expect_success()?;
    ensure!(shown.contains("bob"), "{shown}");
    let exported = replay(&["export"])?.expect_success()?;
    let records = pipeline.records()?;
    let mut lines: Vec<_> = exported.lines().collect();
    lines.retain(|line| !line.contains(r#""kind":"recorder."#));
    lines.sort_unstable();
    let mut wanted: Vec<_> = records.values().map(String::as_str).collect();
    wanted.sort_unstable();
    ensure!(
        lines == wanted,
        "{} exported, {} recorded",
        lines.len(),
        wanted.len()
    );
    is_signed(&bed, &pipeline, replay)?;
    ensure!(
        !pipeline.data().join("evidence/events").exists(),
        "nothing is kept here"
    );
    Ok(())
}

/// The transparency log is in the bucket too, and holds before the reference tools.
fn is_signed(
    bed: &Bucket,
    pipeline: &Pipeline,
    replay: impl Fn(&[&str]) -> Result<Answer>,
) -> Result<()> {
    let vkey = transparency::vkeys(&pipeline.data())?.remove(0);
    let verified = replay(&["verify", "-o", "json", "--key", &vkey])?;
    transparency::ensure_logs_are_proven(&verified)?;
    let copied = pipeline.folder().join("copied");
    block_on(async { transparency::copy_logs(&bed.open().await?, &copied).await })?;
    let leaves = transparency::proven_by_reference(&copied, &vkey)?;
    ensure!(leaves > 1, "{leaves} leaves");
    Ok(())
}

fn a_configuration_with_a_bucket_is_checked() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    let folder = this_run()?.folder().join("s3-check");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("policy.yaml"), POLICY)?;
    let good = configuration(&bed)?;
    let root = format!("credentials_file: '{}', ", minio.root().display());
    let start = good.find("credentials_file:").context("it names a file")?;
    let end = good[start..]
        .find("object_lock")
        .context("it names a lock")?
        + start;
    let by_root = format!("{}{root}{}", &good[..start], &good[end..]);
    let never_made = by_root.replace(&bed.place.to_string(), "s3://never-made/x");
    for (text, found) in [
        (good, format!("evidence     {}", bed.place)),
        (by_root, "this identity may delete".to_owned()),
        (never_made, "NoSuchBucket".to_owned()),
    ] {
        fs::write(folder.join("hoop.yaml"), text)?;
        let mut command = hoop();
        command
            .args(["check", "--config"])
            .arg(folder.join("hoop.yaml"))
            .arg("--data")
            .arg(folder.join("data"));
        let answer = Answer::of(&mut command, "")?;
        let line = answer.stdout.lines().find(|line| line.contains("evidence"));
        let line = line.with_context(|| format!("{answer:?}"))?;
        ensure!(
            answer.stdout.contains(&found),
            "{line} does not say {found}"
        );
    }
    Ok(())
}
