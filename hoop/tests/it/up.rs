//! `hoop up`: started, stopped, killed, started again.

use std::path::Path;
use std::process::Stdio;

use hoop_proxy::sample_cluster::SampleCluster;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use crate::process::{PATIENCE, cluster, free_port, hoop, run};

/// Starts it and waits until it says where to look.
pub(crate) async fn start(folder: &Path, port: u16) -> Child {
    start_with_admin(folder, port, "off").await
}

async fn start_with_admin(folder: &Path, port: u16, admin: &str) -> Child {
    std::fs::write(
        folder.join("hoop.yaml"),
        format!(
            "data: d\ncluster: test\ngateway: {{listen: 127.0.0.1:{port}}}\nadmin: {{listen: {admin}}}\n\
             upstream: {{kubeconfig: upstream.kubeconfig}}\n"
        ),
    )
    .unwrap();
    let mut child = hoop(folder, &["up", "--config", "hoop.yaml"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("hoop-replay list") {
                return true;
            }
        }
        false
    };
    assert!(
        tokio::time::timeout(PATIENCE, ready).await.unwrap(),
        "it did not start"
    );
    // What it prints later must have somewhere to go.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub(crate) async fn stop(mut child: Child) {
    signal(&child, Signal::TERM);
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

/// What the person who started it gets, through their kubeconfig.
pub(crate) async fn get_as_jo(folder: &Path, target: &str) -> Value {
    let path = folder.join("d/kubeconfigs/jo.kubeconfig");
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let request = http::Request::get(target).body(Vec::new()).unwrap();
    client.request(request).await.unwrap()
}

/// Lists pods as they do.
async fn list_pods(folder: &Path) -> usize {
    let list = get_as_jo(folder, "/api/v1/namespaces/shop/pods").await;
    list["items"].as_array().unwrap().len()
}

fn acted(cluster: &SampleCluster) -> Vec<(Option<String>, Vec<String>)> {
    let seen = cluster.seen();
    seen.into_iter()
        .map(|request| (request.user, request.groups))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_stops_is_killed_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (cluster, _kubeconfig) = cluster(folder).await;
    let port = free_port();

    let first = start(folder, port).await;
    assert_eq!(list_pods(folder).await, 3);
    // Beside what the gateway asks about itself.
    let of_jo = |(user, _): &(Option<String>, _)| user.as_deref() == Some("jo");
    let (_, groups) = acted(&cluster).into_iter().rfind(of_jo).unwrap();
    assert_eq!(groups, ["administrators", "system:authenticated"]);
    let kept = |name: &str| std::fs::read_to_string(folder.join("d").join(name)).unwrap();
    let (kubeconfig, producer) = (kept("kubeconfigs/jo.kubeconfig"), kept("producer-id"));
    signal(&first, Signal::HUP);
    let (code, text, _) = run(&mut hoop(folder, &["check", "--config", "hoop.yaml"])).await;
    // Nothing is wrong: it is this gateway that listens and writes.
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("a gateway runs on this data directory"),
        "{text}"
    );
    assert!(text.contains("in use while the gateway runs"), "{text}");
    stop(first).await;

    let mut second = start(folder, port).await;
    assert_eq!(list_pods(folder).await, 3);
    second.kill().await.unwrap();

    let third = start(folder, port).await;
    assert_eq!(list_pods(folder).await, 3);
    stop(third).await;
    assert_eq!(kept("kubeconfigs/jo.kubeconfig"), kubeconfig);
    assert_eq!(kept("producer-id"), producer);

    let arguments = [
        "replay",
        "list",
        "--data",
        "d",
        "--resource",
        "pods",
        "-o",
        "jsonl",
    ];
    let (code, text, _) = run(&mut hoop(folder, &arguments)).await;
    assert_eq!(code, 0);
    assert_eq!(
        text.lines().count(),
        3,
        "one session per connection, none lost: {text}"
    );
    // A killed gateway leaves its sessions without an end, which is no alteration.
    let (code, text, _) = run(&mut hoop(folder, &["replay", "verify", "--data", "d"])).await;
    assert_ne!(code, 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, kubeconfig) = cluster(folder).await;
    let first = start(folder, free_port()).await;
    let kubeconfig = kubeconfig.display().to_string();
    let arguments = [
        "up",
        "--data",
        "d",
        "--listen",
        "127.0.0.1:0",
        "--kubeconfig",
        &kubeconfig,
    ];
    let (code, _, said) = run(&mut hoop(folder, &arguments)).await;
    assert_eq!(code, 1);
    assert!(said.contains("another process writes to the log"), "{said}");
    stop(first).await;
}

/// The one column of names in the document, in backticks.
fn described(document: &str) -> Vec<&str> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split(['`', '{']).next().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_served_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, _kubeconfig) = cluster(folder).await;
    let admin = format!("127.0.0.1:{}", free_port());
    let child = start_with_admin(folder, free_port(), &admin).await;
    assert_eq!(list_pods(folder).await, 3);
    let mut connection = tokio::net::TcpStream::connect(&admin).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    stop(child).await;

    let mut names: Vec<String> = Vec::new();
    for line in answer.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            names.push(format!("{name}{suffix}"));
        }
    }
    assert!(
        answer.contains("hoop_log_records_total{class=\"standard\"}"),
        "{answer}"
    );
    let document = include_str!("../../../docs/metrics.md");
    // A family without a value is not served, so the other direction is for the eye.
    let described = described(document);
    names.retain(|name| !described.contains(&name.as_str()));
    assert!(names.is_empty(), "{names:?} are not in docs/metrics.md");
}
