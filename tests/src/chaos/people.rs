//! People at work, whatever happens, and the ledger of what they were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hoop_proxy::sample_cluster::SampleCluster;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::KubeConfigOptions;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::part::Part;

/// Who works at each gateway; each of them with several hands.
const NAMES: [&str; 2] = ["alice", "bob"];

/// Requests that one person has under way at a gateway.
const HANDS: usize = 3;

/// Between two requests of one hand.
const REST: Duration = Duration::from_millis(40);

/// Rest after a request that was not answered.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Requests on one connection; then another one is made, which is another session.
const REQUESTS_OF_A_CONNECTION: usize = 50;

/// Longer than any gateway lets a client wait.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Part of the name of everything that is asked for, which tells these requests from those of the gateway itself.
const MARK: &str = "chaos-";

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Audit ids of requests that were answered, by what they asked for.
    pub(super) answered: BTreeMap<String, String>,
    /// Requests that were refused: the gateway could not record them.
    pub(super) refused: u64,
    /// Requests whose answer never came.
    pub(super) broken: u64,
}

/// People at work.
#[derive(Debug)]
pub(super) struct People {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    hands: Vec<JoinHandle<Ledger>>,
}

impl People {
    /// Puts them to work at these gateways.
    pub(super) fn start(gateways: &[Part]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let mut hands = Vec::new();
        for (gateway, part) in gateways.iter().enumerate() {
            for person in NAMES {
                for hand in 0..HANDS {
                    let work = Work {
                        kubeconfig: part.kubeconfig(person),
                        name: format!("{MARK}{gateway}-{person}-{hand}"),
                        stop: Arc::clone(&stop),
                        answered: Arc::clone(&answered),
                    };
                    hands.push(tokio::spawn(work.go_on()));
                }
            }
        }
        Self {
            stop,
            answered,
            hands,
        }
    }

    /// How many requests were answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets them finish what they have begun.
    pub(super) async fn stop(self) -> Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for hand in self.hands {
            let ledger = hand.await?;
            all.answered.extend(ledger.answered);
            all.refused += ledger.refused;
            all.broken += ledger.broken;
        }
        Ok(all)
    }
}

struct Work {
    kubeconfig: PathBuf,
    name: String,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Work {
    async fn go_on(self) -> Ledger {
        let mut ledger = Ledger::default();
        let mut number = 0u64;
        while !self.is_over() {
            let Ok(client) = connect(&self.kubeconfig).await else {
                // The gateway is at its start, and writes it.
                tokio::time::sleep(REST_AFTER_FAILURE).await;
                continue;
            };
            for _ in 0..REQUESTS_OF_A_CONNECTION {
                if self.is_over() {
                    break;
                }
                number += 1;
                let target = self.target(number);
                match timeout(ANSWERED_WITHIN, request(&client, &target)).await {
                    Ok(Ok(Some(audit_id))) => {
                        ledger.answered.insert(audit_id, target);
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(REST).await;
                    }
                    Ok(Ok(None)) => {
                        ledger.refused += 1;
                        tokio::time::sleep(REST_AFTER_FAILURE).await;
                    }
                    Ok(Err(_)) | Err(_) => {
                        ledger.broken += 1;
                        tokio::time::sleep(REST_AFTER_FAILURE).await;
                        // The gateway may have another address now.
                        break;
                    }
                }
            }
        }
        ledger
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Reads of what is there, of what is not, and now and then of what is forbidden.
    fn target(&self, number: u64) -> String {
        let name = format!("{}-{number}", self.name);
        match number % 4 {
            0 => format!("/api/v1/namespaces/forbidden/configmaps/{name}"),
            1 => format!("/api/v1/namespaces/shop/secrets?labelSelector=name%3D{name}"),
            _ => format!("/api/v1/namespaces/shop/configmaps/{name}"),
        }
    }
}

async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let read = super::read_kubeconfig(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// One GET: the id with which it was answered as soon as the head of the answer is there, nothing when it was refused
/// because something is down.
async fn request(client: &kube::Client, target: &str) -> Result<Option<String>> {
    let request = http::Request::get(target).body(Body::empty())?;
    let answer = client.send(request).await?;
    if answer.status().is_server_error() {
        return Ok(None);
    }
    let id = answer.headers().get("audit-id");
    let id = id
        .context("an answer has an Audit-ID")?
        .to_str()?
        .to_owned();
    // The rest is read so that the connection serves the next request; broken off, it was answered all the same.
    answer.into_body().collect().await.ok();
    Ok(Some(id))
}

/// Audit ids of requests that reached the cluster.
pub(super) type Reached = Arc<Mutex<BTreeSet<String>>>;

/// Notes what reaches the cluster, until it is aborted.
pub(super) async fn watch(cluster: Arc<SampleCluster>, reached: Reached, every: Duration) {
    loop {
        look(&cluster, &reached);
        tokio::time::sleep(every).await;
    }
}

/// Notes what reached the cluster of these requests; what the gateway asks for itself is none of them.
pub(super) fn look(cluster: &SampleCluster, reached: &Reached) {
    let mut reached = reached.lock();
    for seen in cluster.seen() {
        if seen.uri.to_string().contains(MARK)
            && let Some(id) = seen.header("audit-id")
        {
            reached.insert(id.to_owned());
        }
    }
}
