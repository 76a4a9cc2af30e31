//! Running `hoop` with an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use hoop_proxy::sample_cluster::SampleCluster;
use tokio::process::Command;

/// The longest that anything may take on a machine under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// `hoop` with nothing of the environment but `PATH`, in an empty directory.
pub(crate) fn hoop(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoop"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("USER", "jo")
        .current_dir(folder)
        .kill_on_drop(true);
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub(crate) async fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    println!("{stdout}\n{stderr}");
    (status.code().unwrap_or(-1), stdout, stderr)
}

/// A sample cluster and its kubeconfig in a file.
pub(crate) async fn cluster(folder: &Path) -> (SampleCluster, PathBuf) {
    let cluster = SampleCluster::start().await.unwrap();
    let path = folder.join("upstream.kubeconfig");
    std::fs::write(&path, cluster.kubeconfig().unwrap()).unwrap();
    (cluster, path)
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
