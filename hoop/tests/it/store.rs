//! `hoop store` as people run it, and the samples that it wrote.

use std::path::Path;

use crate::process::{hoop, run};

#[tokio::test]
async fn the_samples_are_what_the_command_writes() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/s3");
    let configuration = samples.join("hoop.yaml").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "recorder",
        "reader",
        "retention",
        "bucket",
        "lifecycle",
        "keys",
        "eraser",
    ] {
        let arguments = ["store", "policy", name, "--config", &configuration];
        let (code, stdout, _) = run(&mut hoop(folder.path(), &arguments)).await;
        assert_eq!(code, 0);
        let sample = samples.join(format!("{name}.json"));
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(&sample, &stdout).unwrap();
        }
        let written = std::fs::read_to_string(&sample).unwrap_or_default();
        assert!(written == stdout, "run this test with UPDATE_REFERENCE=1");
    }
}

#[tokio::test]
async fn a_directory_has_no_policies() {
    let folder = tempfile::tempdir().unwrap();
    for place in [&["--evidence", "/var/lib/evidence"][..], &[]] {
        let arguments = [&["store", "policy", "recorder"], place].concat();
        let (code, _, stderr) = run(&mut hoop(folder.path(), &arguments)).await;
        assert_eq!(code, 64);
        assert!(stderr.contains("s3://BUCKET/PREFIX"), "{stderr}");
    }
}
