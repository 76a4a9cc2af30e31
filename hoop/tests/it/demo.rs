//! `hoop demo`: exit code 0 means that all of it happened; here is a second look.

use std::path::{Path, PathBuf};

use hoop_proxy::sample_cluster::SEEDED_PASSWORD;

use crate::process::{hoop, run};

/// The password in base64, as it is in the API server's answers.
const PASSWORD_BASE64: &str = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ";

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

async fn demo(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<&str> = ["demo", "--data", "d"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let (code, text, said) = run(&mut hoop(folder.path(), &all)).await;
    assert_eq!(code, 0, "{text}{said}");
    for what in [
        "**hoop-masked**",
        "Forbidden",
        "order=10042",
        ".parquet",
        "alice",
        "bob",
        "Try next",
        "All of it happened",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    let wide = text
        .lines()
        .filter(|line| line.chars().count() > 120)
        .count();
    assert!(wide <= 3, "{wide} lines are wider than 120 columns");
    let mut kept = Vec::new();
    files(folder.path(), &mut kept);
    for file in &kept {
        let bytes = std::fs::read(file).unwrap();
        let shows = |what: &str| {
            bytes
                .windows(what.len())
                .any(|bytes| bytes == what.as_bytes())
        };
        assert!(
            !shows(SEEDED_PASSWORD) && !shows(PASSWORD_BASE64),
            "{} holds the password",
            file.display()
        );
    }
    assert!(
        kept.iter()
            .any(|file| file.ends_with("kubeconfigs/alice.kubeconfig"))
    );
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_works_with_kubectl() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("kubectl").is_file()) {
        println!("skipped: kubectl is not on PATH");
        return;
    }
    let text = demo(&[]).await;
    assert!(text.contains("$ kubectl -n shop get pods"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_works_with_its_own_client() {
    let text = demo(&["--own-client"]).await;
    assert!(
        text.contains("$ GET /api/v1/namespaces/shop/pods"),
        "{text}"
    );
}
