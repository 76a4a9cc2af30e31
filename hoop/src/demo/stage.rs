//! Where the demonstration plays: the sample cluster, or a namespace of a real one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hoop_proxy::sample_cluster::{SEEDED_PASSWORD, SampleCluster};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::Failed;
use crate::data_dir::{DataDir, write_private};

/// The namespace that the demonstration makes in a real cluster, and removes.
const NAMESPACE: &str = "hoop-demo";

/// How long a pod in a real cluster has to start, so that it has a log.
const POD_STARTS_WITHIN: Duration = Duration::from_secs(20);

/// The pod of the scene in a real cluster.
const POD: &str = "payments";

/// A cluster with a scene on it.
#[derive(Debug)]
pub(super) struct Stage {
    kubeconfig: PathBuf,
    cluster: Cluster,
}

enum Cluster {
    Sample(SampleCluster),
    Real {
        client: kube::Client,
        url: String,
        has_log: bool,
    },
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sample(sample) => sample.fmt(f),
            Self::Real { url, .. } => f.write_str(url),
        }
    }
}

impl Stage {
    /// Opens the stage.
    pub(super) async fn open(upstream: Option<&Path>, data: &DataDir) -> Result<Self, Failed> {
        if let Some(kubeconfig) = upstream {
            return Self::real(kubeconfig).await;
        }
        let sample = SampleCluster::start().await?;
        let kubeconfig = data.root().join("sample-cluster.kubeconfig");
        write_private(&kubeconfig, &sample.kubeconfig()?)?;
        Ok(Self {
            kubeconfig,
            cluster: Cluster::Sample(sample),
        })
    }

    async fn real(kubeconfig: &Path) -> Result<Self, Failed> {
        let read = Kubeconfig::read_from(kubeconfig)?;
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(read, &options).await?;
        let url = config.cluster_url.to_string();
        let client = kube::Client::try_from(config)?;
        let mut stage = Self {
            kubeconfig: kubeconfig.to_owned(),
            cluster: Cluster::Real {
                client: client.clone(),
                url,
                has_log: false,
            },
        };
        for (path, object) in props() {
            let request = http::Request::post(path).header("content-type", "application/json");
            let request = request.body(object.to_string().into_bytes())?;
            if let Err(error) = client.request::<Value>(request).await {
                stage.close().await;
                return Err(Failed(format!(
                    "cannot make the namespace {NAMESPACE} in {stage:?}: {error}; it takes the right to create \
                     namespaces and role bindings"
                )));
            }
        }
        let runs = pod_runs(&client).await;
        if let Cluster::Real { has_log, .. } = &mut stage.cluster {
            *has_log = runs;
        }
        Ok(stage)
    }

    /// The credential that the gateway uses.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match &self.cluster {
            Cluster::Sample(_) => "a sample cluster in this process".into(),
            Cluster::Real { url, .. } => format!("{url}, in the new namespace {NAMESPACE}"),
        }
    }

    /// Where the scene plays.
    pub(super) fn namespace(&self) -> &'static str {
        match &self.cluster {
            Cluster::Sample(_) => "shop",
            Cluster::Real { .. } => NAMESPACE,
        }
    }

    /// The pod of the scene, which runs as the service account `payments`.
    pub(super) fn pod(&self) -> &'static str {
        match &self.cluster {
            Cluster::Sample(_) => "payments-5c8d7f6b9-lm7tp",
            Cluster::Real { .. } => POD,
        }
    }

    /// Whether that pod has a log: a control plane without nodes runs nothing.
    pub(super) fn has_log(&self) -> bool {
        match &self.cluster {
            Cluster::Sample(_) => true,
            Cluster::Real { has_log, .. } => *has_log,
        }
    }

    /// The value that nobody may see.
    pub(super) fn password() -> &'static str {
        SEEDED_PASSWORD
    }

    /// Changes the pod, so that who watches sees something.
    pub(super) async fn change(&self, number: usize) -> Result<(), Failed> {
        match &self.cluster {
            Cluster::Sample(sample) => {
                let ready = number.is_multiple_of(2);
                sample.put(json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": self.pod(), "namespace": "shop", "labels": {"app": "payments"}},
                    "spec": {
                        "containers": [{"name": "payments", "image": "shop/payments:3.0.2"}],
                        "serviceAccountName": "payments", "nodeName": "node-1",
                    },
                    "status": {
                        "phase": if ready { "Running" } else { "Pending" },
                        "containerStatuses": [{
                            "name": "payments", "image": "shop/payments:3.0.2", "ready": ready, "restartCount": number,
                        }],
                    },
                }))?;
            }
            Cluster::Real { client, .. } => {
                let patch = json!({"metadata": {"labels": {"change": number.to_string()}}});
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{POD}");
                let request = http::Request::patch(path)
                    .header("content-type", "application/merge-patch+json")
                    .body(patch.to_string().into_bytes())?;
                client.request::<Value>(request).await?;
            }
        }
        Ok(())
    }

    /// Leaves a real cluster as it was.
    pub(super) async fn close(&self) {
        let Cluster::Real { client, .. } = &self.cluster else {
            return;
        };
        let request = http::Request::delete(format!("/api/v1/namespaces/{NAMESPACE}"));
        let request = request.body(Vec::new()).expect("a request of ours is one");
        if let Err(error) = client.request::<Value>(request).await {
            crate::output::notice(&format!(
                "the namespace {NAMESPACE} may still be there: {error}; remove it with kubectl delete namespace {NAMESPACE}"
            ));
        }
    }
}

/// What the scene needs in a real cluster: all of it in one namespace, whose end is the end of all of it.
fn props() -> Vec<(String, Value)> {
    let core = |plural: &str| format!("/api/v1/namespaces/{NAMESPACE}/{plural}");
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let groups: Vec<_> = ["developers", "on-call"]
        .map(|name| json!({"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}))
        .to_vec();
    let bindings =
        format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings");
    vec![
        (
            "/api/v1/namespaces".into(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        ),
        (
            bindings,
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata("people"),
                "subjects": groups,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            }),
        ),
        (
            core("secrets"),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": metadata("db-credentials"),
                "stringData": {"username": "shop", "password": SEEDED_PASSWORD},
            }),
        ),
        (
            core("serviceaccounts"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("payments")}),
        ),
        (
            core("pods"),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata(POD),
                "spec": {
                    "serviceAccountName": "payments", "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "payments", "image": "busybox:1.37",
                        "command": ["sh", "-c", "echo charge accepted order=10042; sleep 600"],
                    }],
                },
            }),
        ),
    ]
}

/// Whether the pod comes to run in time.
async fn pod_runs(client: &kube::Client) -> bool {
    let runs = async {
        loop {
            let request = http::Request::get(format!("/api/v1/namespaces/{NAMESPACE}/pods/{POD}"));
            let request = request.body(Vec::new()).expect("a request of ours is one");
            let pod = client.request::<Value>(request).await;
            if pod.is_ok_and(|pod| pod["status"]["phase"] == "Running") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(POD_STARTS_WITHIN, runs).await.is_ok()
}
