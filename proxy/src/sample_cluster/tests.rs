//! The sample cluster under a real client, and under a real kubectl where there is one.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::*;

/// A kubectl with a home of its own, or `None` (said aloud) where there is none.
struct Kubectl {
    home: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn new(cluster: &SampleCluster) -> Option<Self> {
        let found = std::env::split_paths(&std::env::var_os("PATH")?)
            .any(|folder| folder.join("kubectl").is_file());
        if !found {
            println!("skipped: kubectl is not on PATH");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = home.path().join("config");
        std::fs::write(&kubeconfig, cluster.kubeconfig().unwrap()).unwrap();
        Some(Self { home, kubeconfig })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(arguments.split(' '))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs to the end; the output is standard output and standard error together.
    async fn run(&self, arguments: &str) -> (bool, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().await.unwrap();
        let text =
            String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        println!("$ kubectl {arguments}\n{text}");
        (status.success(), text)
    }

    async fn expect(&self, arguments: &str, what: &str) {
        let (success, text) = self.run(arguments).await;
        assert!(
            success && text.contains(what),
            "kubectl {arguments}: {text}"
        );
    }

    fn file(&self, name: &str, text: &str) -> &Path {
        std::fs::write(self.home.path().join(name), text).unwrap();
        self.home.path()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads() {
    let cluster = SampleCluster::start().await.unwrap();
    let Some(kubectl) = Kubectl::new(&cluster) else {
        return;
    };
    kubectl
        .expect("get pods -n shop", "1/1     Running   0")
        .await;
    kubectl.expect("get pods -A -o wide", "node-1").await;
    kubectl
        .expect("get all -n shop", "deployment.apps/checkout")
        .await;
    kubectl
        .expect(
            "get pods -n shop -l app=web -o name",
            "pod/web-6d4b75cb6d-hk2vp",
        )
        .await;
    kubectl
        .expect(
            "get secret db-credentials -n shop -o yaml",
            "password: Y29ycmVjdC",
        )
        .await;
    kubectl
        .expect("get deploy web -n shop -o jsonpath={.spec.replicas}", "1")
        .await;
    kubectl
        .expect(
            "describe pod web-6d4b75cb6d-hk2vp -n shop",
            "Started container web",
        )
        .await;
    kubectl
        .expect(
            "describe secret db-credentials -n shop",
            "password:  28 bytes",
        )
        .await;
    kubectl
        .expect("describe deployment web -n shop", "RollingUpdate")
        .await;
    kubectl
        .expect("logs -n shop payments-5c8d7f6b9-lm7tp", "order=10042")
        .await;
    kubectl
        .expect("logs -n shop deploy/payments --tail=1", "amount=48.00")
        .await;
    kubectl.expect("auth whoami", GATEWAY_USER).await;
    kubectl.expect("auth can-i delete pods", "yes").await;
    kubectl.expect("version", "v1.33.0-sample").await;
    kubectl.expect("api-resources", "deploy").await;
    let (success, text) = kubectl.run("get pod nobody -n shop").await;
    assert!(!success);
    assert!(
        text.contains("Error from server (NotFound): pods \"nobody\" not found"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_writes() {
    let cluster = SampleCluster::start().await.unwrap();
    let Some(kubectl) = Kubectl::new(&cluster) else {
        return;
    };
    let manifest = |replicas: u32, image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: api, namespace: shop}}\nspec:\n  replicas: {replicas}\n  \
             selector: {{matchLabels: {{app: api}}}}\n  template:\n    metadata: {{labels: {{app: api}}}}\n    spec: \
             {{containers: [{{name: api, image: {image}}}]}}\n"
        )
    };
    kubectl.file("api.yaml", &manifest(1, "api:1"));
    kubectl
        .expect("apply -f api.yaml", "deployment.apps/api created")
        .await;
    kubectl.file("api.yaml", &manifest(3, "api:2"));
    kubectl
        .expect("apply -f api.yaml", "deployment.apps/api configured")
        .await;
    kubectl.expect("get deploy api -n shop -o jsonpath={.spec.replicas}{.spec.template.spec.containers[0].image}", "3api:2").await;
    kubectl
        .expect(
            "apply --server-side --force-conflicts -f api.yaml",
            "serverside-applied",
        )
        .await;
    kubectl.expect("diff -f api.yaml", "").await;
    kubectl
        .expect("label deploy api -n shop tier=back", "labeled")
        .await;
    kubectl
        .expect(
            "patch deploy api -n shop --type=merge -p {\"spec\":{\"replicas\":0}}",
            "patched",
        )
        .await;
    kubectl.expect("delete deploy api -n shop", "deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_creates_and_deletes() {
    let cluster = SampleCluster::start().await.unwrap();
    let Some(kubectl) = Kubectl::new(&cluster) else {
        return;
    };
    kubectl
        .expect(
            "create secret generic fresh -n shop --from-literal=key=value",
            "created",
        )
        .await;
    kubectl
        .expect(
            "get secret fresh -n shop -o jsonpath={.data.key}",
            "dmFsdWU=",
        )
        .await;
    kubectl
        .expect(
            "create configmap fresh -n shop --from-literal=key=value",
            "created",
        )
        .await;
    kubectl.expect("create namespace lab", "created").await;
    kubectl
        .expect("create serviceaccount robot -n lab", "created")
        .await;
    kubectl.expect("create token robot -n lab", "sample.").await;
    kubectl.expect("delete namespace lab", "deleted").await;
    kubectl
        .expect("delete secret --all -n shop", "deleted")
        .await;
    kubectl
        .expect("--as=alice --as-group=dev auth whoami", "alice")
        .await;
    let seen = cluster.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.user.as_deref(), Some("alice"));
    assert_eq!(last.groups, ["dev", "system:authenticated"]);
    assert_eq!(last.impersonated_by.as_deref(), Some(GATEWAY_USER));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches_and_follows() {
    let cluster = SampleCluster::start().await.unwrap();
    let Some(kubectl) = Kubectl::new(&cluster) else {
        return;
    };
    let (pod, log) = ("payments-5c8d7f6b9-lm7tp", "a line that came later");
    let mut lines = follow(&mut kubectl.command(&format!("logs -f -n shop {pod}")));
    lines_until(&mut lines, "order=10042 amount").await;
    cluster.append_log("shop", pod, log);
    lines_until(&mut lines, log).await;

    let mut lines = follow(&mut kubectl.command("get configmaps -n shop -w"));
    lines_until(&mut lines, "web-settings").await;
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "came-later", "namespace": "shop"}, "data": {},
    });
    cluster.put(object).unwrap();
    lines_until(&mut lines, "came-later").await;
}

type Lines = (
    tokio::process::Child,
    tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
);

fn follow(command: &mut Command) -> Lines {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

async fn lines_until(lines: &mut Lines, what: &str) {
    let found = async {
        while let Some(line) = lines.1.next_line().await.unwrap() {
            if line.contains(what) {
                return true;
            }
        }
        false
    };
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    assert!(found.unwrap_or(false), "{what} did not come");
}

/// A kube client, over the kubeconfig that the cluster gives out.
async fn client(kubeconfig: &str) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    kube::Client::try_from(config).unwrap()
}

async fn get(client: &kube::Client, path: &str, accept: &str) -> Result<Value, kube::Error> {
    let request = http::Request::get(path).header("accept", accept);
    client.request(request.body(Vec::new()).unwrap()).await
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn lists_tables_and_metadata_come_as_asked() {
    let cluster = SampleCluster::start().await.unwrap();
    let client = client(&cluster.kubeconfig().unwrap()).await;
    let path = "/api/v1/namespaces/shop/secrets";
    let list = get(&client, path, "").await.unwrap();
    assert_eq!(list["kind"], "SecretList");
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = get(&client, path, accept).await.unwrap();
    assert_eq!(table["rows"][0]["cells"][0], "db-credentials");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = get(&client, path, accept).await.unwrap();
    assert!(partial["items"][0].get("data").is_none());
    let refused = get(&client, path, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(code(refused.unwrap_err()), 406);
    let plain = get(&client, "/apis", "application/json").await.unwrap();
    assert_eq!(plain["kind"], "APIGroupList");
    let one = get(
        &client,
        &format!("{path}?fieldSelector=metadata.name%3Dpayments-api"),
        "",
    )
    .await;
    assert_eq!(one.unwrap()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_and_wrong_tokens_are_refused() {
    let cluster = SampleCluster::start().await.unwrap();
    let kubeconfig = cluster.kubeconfig().unwrap();
    let with = |user: Value| {
        let mut document: Value = serde_json::from_str(&kubeconfig).unwrap();
        document["users"][0]["user"] = user;
        document.to_string()
    };
    let nobody = client(&with(serde_json::json!({}))).await;
    assert_eq!(
        code(get(&nobody, "/api/v1/nodes", "").await.unwrap_err()),
        403
    );
    let wrong = client(&with(serde_json::json!({"token": "wrong"}))).await;
    assert_eq!(
        code(get(&wrong, "/api/v1/nodes", "").await.unwrap_err()),
        401
    );
    let token = cluster.token("robot", &["robots"]);
    let robot = client(&with(serde_json::json!({"token": token}))).await;
    get(&robot, "/api/v1/nodes", "").await.unwrap();
    let seen = cluster.seen();
    assert_eq!(seen[0].user, None);
    assert_eq!(seen[2].user.as_deref(), Some("robot"));
    assert!(
        seen[2]
            .header("authorization")
            .unwrap()
            .starts_with("Bearer sample.")
    );
}

#[tokio::test]
async fn faults_come_when_asked_for() {
    let cluster = SampleCluster::start().await.unwrap();
    let client = client(&cluster.kubeconfig().unwrap()).await;
    let path = "/api/v1/namespaces/shop/pods";
    // The client tries again after a 503.
    cluster.fail_next(500);
    assert_eq!(code(get(&client, path, "").await.unwrap_err()), 500);
    cluster.break_next_body();
    assert!(get(&client, path, "").await.is_err());
    get(&client, path, "").await.unwrap();
    cluster.refuse_impersonation(true);
    let request = http::Request::get(path).header("impersonate-user", "alice");
    let refused = client
        .request::<Value>(request.body(Vec::new()).unwrap())
        .await;
    assert_eq!(code(refused.unwrap_err()), 403);
    cluster.fill_with_secrets("shop", 300, 2_000);
    let list = get(&client, "/api/v1/secrets", "").await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 302);
    cluster.stop().await;
    assert!(get(&client, path, "").await.is_err());
    cluster.restart().await.unwrap();
    get(&client, path, "").await.unwrap();
}

#[tokio::test]
async fn watches_tell_changes_and_end_in_time() {
    let cluster = SampleCluster::start().await.unwrap();
    let client = client(&cluster.kubeconfig().unwrap()).await;
    let list = get(&client, "/api/v1/namespaces/shop/configmaps", "")
        .await
        .unwrap();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    let map = |label: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "m", "namespace": "shop", "labels": {"app": label}},
        })
    };
    for label in ["x", "y", "x"] {
        cluster.put(map(label)).unwrap();
    }
    cluster.remove("configmaps", "shop", "m");
    let path = format!(
        "/api/v1/namespaces/shop/configmaps?watch=1&resourceVersion={revision}&timeoutSeconds=1&labelSelector=app%3Dx\
         &allowWatchBookmarks=true"
    );
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let types: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["ADDED", "DELETED", "ADDED", "DELETED", "BOOKMARK"]);
}
