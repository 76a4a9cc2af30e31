//! Kubernetes clients in this process.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Runs a test's asynchronous part.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(future)
}

/// A client with this kubeconfig.
pub(crate) async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// What a person does in these tests: reads, now and then a write, now and then something that is denied.
const TARGETS: [&str; 4] = [
    "/api/v1/namespaces/shop/configmaps",
    "/api/v1/namespaces/shop/pods",
    "/api/v1/namespaces/shop/secrets",
    "/api/v1/namespaces/forbidden/configmaps",
];

/// Makes `count` requests and returns their audit ids.
pub(crate) async fn work(kubeconfig: &Path, count: usize) -> Result<Vec<String>> {
    let client = connect(kubeconfig).await?;
    let mut ids = Vec::new();
    for target in TARGETS.into_iter().cycle().take(count) {
        ids.push(request(&client, target).await?);
    }
    Ok(ids)
}

/// What one GET is answered with.
pub(crate) async fn status(kubeconfig: &Path) -> Result<http::StatusCode> {
    let client = connect(kubeconfig).await?;
    let request = http::Request::get(TARGETS[0]).body(Body::empty())?;
    Ok(client.send(request).await?.status())
}

/// Makes requests until one is not answered, and returns the audit ids of those that were.
pub(crate) async fn work_until_refused(kubeconfig: PathBuf) -> Result<Vec<String>> {
    let client = connect(&kubeconfig).await?;
    let mut ids = Vec::new();
    for target in TARGETS.into_iter().cycle() {
        match request(&client, target).await {
            Ok(id) => ids.push(id),
            Err(_) => break,
        }
    }
    Ok(ids)
}

/// One GET; the id with which it was answered, as soon as the head of the answer is there.
async fn request(client: &kube::Client, target: &str) -> Result<String> {
    let answer = client
        .send(http::Request::get(target).body(Body::empty())?)
        .await?;
    let id = answer
        .headers()
        .get("audit-id")
        .context("an answer has an Audit-ID")?;
    let id = id.to_str()?.to_owned();
    // The rest is read so that the connection serves the next request; broken off, it was answered all the same.
    answer.into_body().collect().await.ok();
    Ok(id)
}
