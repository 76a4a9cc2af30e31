//! Clients other than kubectl and helm, through the gateway: the Python client, kube, and an informer of client-go.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use hoop_tests::testbed::{Need, Python};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client;
use crate::compatibility::{self, Client, Feature};
use crate::harness::{Test, api_server, node_cluster, pipeline, tests};
use crate::recorded::Recorded;

pub(crate) fn tests() -> Vec<Test> {
    let with_node: &'static [Need] = &[Need::Kubernetes, Need::Node];
    let with_python: &'static [Need] = &[Need::Kubernetes, Need::Node, Need::Python];
    [
        tests![with_python; the_python_client_works_with_objects_and_streams],
        tests![with_node; kube_execs_forwards_and_follows],
        tests![&[Need::Kubernetes]; an_informer_of_client_go_sees_every_change],
    ]
    .concat()
}

/// Prints nothing if everything is as it should be.
const PYTHON: &str = r#"
import sys
from kubernetes import client, config, watch
from kubernetes.stream import portforward, stream

kubeconfig, namespace, pod = sys.argv[1:4]
config.load_kube_config(kubeconfig)
core = client.CoreV1Api()

body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="sky"), data={"colour": "blue"})
core.create_namespaced_config_map(namespace, body)
core.patch_namespaced_config_map("sky", namespace, {"data": {"colour": "green"}})
assert core.read_namespaced_config_map("sky", namespace).data == {"colour": "green"}
assert pod in [found.metadata.name for found in core.list_namespaced_pod(namespace).items]

seen = []
for event in watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=10):
    if event["object"].metadata.name == "sky":
        seen.append(event["type"])
        if event["type"] == "DELETED":
            break
        core.delete_namespaced_config_map("sky", namespace)
assert seen == ["ADDED", "DELETED"], seen

said = stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=["echo", "hello"],
              stderr=True, stdin=False, stdout=True, tty=False)
assert said == "hello\n", said

command = ["sh", "-c", "read word; echo got $word; echo trouble >&2; exit 7"]
session = stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=command,
                 stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False)
session.write_stdin("typed\n")
session.run_forever(timeout=20)
assert session.read_stdout() == "got typed\n"
assert session.read_stderr() == "trouble\n"
assert session.returncode == 7, session.returncode

assert "line 1" in core.read_namespaced_pod_log(pod, namespace)
for line in watch.Watch().stream(core.read_namespaced_pod_log, pod, namespace):
    assert line == "line 1", line
    break

forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports="8080")
connection = forward.socket(8080)
connection.setblocking(True)
connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
page = b""
while True:
    piece = connection.recv(4096)
    if not piece:
        break
    page += piece
assert page.endswith(b"hello from the pod\n"), page
"#;

fn the_python_client_works_with_objects_and_streams() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("python")?;
    cluster.run_pods(
        &namespace,
        &["web"],
        "echo line 1; httpd -f -p 8080 -h /www",
    )?;
    let kubeconfig = cluster.pipeline.kubeconfig("alice");
    let kubeconfig = kubeconfig.to_str().context("a path is text")?;
    Python::with_kubernetes()?.run(PYTHON, &[kubeconfig, &namespace, "web"])?;
    let recorded = Recorded::of_pod(&cluster.pipeline, &namespace, "web", "exec")?;
    ensure!(recorded.len() == 2, "{recorded:?}");
    ensure!(recorded[0].text("stdout")? == "hello\n", "{recorded:?}");
    ensure!(recorded[1].text("stdin")? == "typed\n", "{recorded:?}");
    ensure!(recorded[1].text("stderr")? == "trouble\n", "{recorded:?}");
    ensure!(recorded[1].outcome["exit_code"] == 7, "{recorded:?}");
    let forwarded = Recorded::one_of_pod(&cluster.pipeline, &namespace, "web", "portforward")?;
    ensure!(
        forwarded.text("port_out")?.contains("hello from the pod"),
        "{forwarded:?}"
    );
    compatibility::works(
        Client::Python,
        &[
            Feature::Objects,
            Feature::Watch,
            Feature::Exec,
            Feature::ExecInput,
            Feature::Logs,
            Feature::PortForward,
        ],
    );
    Ok(())
}

fn kube_execs_forwards_and_follows() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("kube")?;
    cluster.run_pods(
        &namespace,
        &["web"],
        "echo line 1; httpd -f -p 8080 -h /www",
    )?;
    client::block_on(async {
        let client = client::connect(&cluster.pipeline.kubeconfig("alice")).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
        work_with_objects(&maps).await?;

        let script = "read word; echo got $word; echo trouble >&2; exit 7";
        let options = AttachParams::default().stdin(true).stderr(true);
        let mut exec = pods.exec("web", ["sh", "-c", script], &options).await?;
        let mut input = exec.stdin().context("input was asked for")?;
        input.write_all(b"typed\n").await?;
        let (mut output, mut errors) = (String::new(), String::new());
        let mut stdout = exec.stdout().context("output was asked for")?;
        stdout.read_to_string(&mut output).await?;
        let mut stderr = exec.stderr().context("errors were asked for")?;
        stderr.read_to_string(&mut errors).await?;
        ensure!(
            output == "got typed\n" && errors == "trouble\n",
            "{output}{errors}"
        );

        let mut forward = pods.portforward("web", &[8080]).await?;
        let mut connection = forward
            .take_stream(8080)
            .context("the port was asked for")?;
        connection
            .write_all(b"GET /index.html HTTP/1.0\r\n\r\n")
            .await?;
        let mut page = String::new();
        connection.read_to_string(&mut page).await?;
        ensure!(page.ends_with("hello from the pod\n"), "{page}");

        let follow = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let log = pods.log_stream("web", &follow).await?;
        let mut lines = futures_util::AsyncBufReadExt::lines(log);
        let line = lines.try_next().await?;
        ensure!(line.as_deref() == Some("line 1"), "{line:?}");
        Ok(())
    })?;
    let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, "web", "exec")?;
    ensure!(recorded.text("stdin")? == "typed\n", "{recorded:?}");
    ensure!(recorded.outcome["exit_code"] == 7, "{recorded:?}");
    compatibility::works(
        Client::Kube,
        &[
            Feature::Objects,
            Feature::Exec,
            Feature::ExecInput,
            Feature::PortForward,
            Feature::Logs,
        ],
    );
    Ok(())
}

async fn work_with_objects(maps: &Api<ConfigMap>) -> Result<()> {
    let mut sky = ConfigMap::default();
    sky.metadata.name = Some("sky".into());
    sky.data = Some([("colour".to_owned(), "blue".to_owned())].into());
    maps.create(&PostParams::default(), &sky).await?;
    let patch = Patch::Merge(serde_json::json!({"data": {"colour": "green"}}));
    maps.patch("sky", &PatchParams::default(), &patch).await?;
    let listed = maps.list(&ListParams::default()).await?;
    let colours = listed
        .items
        .iter()
        .filter_map(|map| map.data.as_ref()?.get("colour"));
    ensure!(colours.eq(["green"]), "{listed:?}");
    maps.delete("sky", &DeleteParams::default()).await?;
    ensure!(maps.get_opt("sky").await?.is_none());
    Ok(())
}

fn an_informer_of_client_go_sees_every_change() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("clientgo")?;
    let write = |name: &str, value: u32| {
        server.kubectl().apply(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: {namespace}}}, \
             data: {{value: '{value}'}}}}"
        ))
    };
    write("first", 0)?;
    let mut informer = server
        .component("informer")
        .arg(pipeline.kubeconfig("alice"))
        .arg(&namespace)
        .env("HOOP_TEST_BED_LEASH", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = informer.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let mut next = || {
        lines
            .next()
            .context("the informer ended")?
            .map_err(anyhow::Error::from)
    };
    let begun: BTreeSet<_> = [next()?, next()?].into();
    ensure!(
        begun == ["added first 0".to_owned(), "synced".to_owned()].into(),
        "{begun:?}"
    );
    for value in 1..=5 {
        write("first", value)?;
        let line = next()?;
        ensure!(line == format!("updated first {value}"), "{line}");
    }
    write("second", 0)?;
    let line = next()?;
    ensure!(line == "added second 0", "{line}");
    let delete = ["-n", &namespace, "delete", "configmap", "first"];
    server.kubectl().run(&delete)?.expect_success()?;
    let line = next()?;
    ensure!(line == "deleted first 5", "{line}");
    informer.kill()?;
    informer.wait()?;
    compatibility::works(Client::Golang, &[Feature::Watch, Feature::Informer]);
    Ok(())
}
