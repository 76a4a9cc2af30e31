//! Secret values behind clients other than the newest kubectl: none of them sees one, and none leaves one in the record.

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use hoop_tests::testbed::{Helm, Need, Python};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchParams};

use crate::canary::Canary;
use crate::client;
use crate::harness::{Test, api_server, pipeline, tests};
use crate::helm::CHART;
use crate::secrets::applied_secret;

pub(crate) fn tests() -> Vec<Test> {
    let with_python: &'static [Need] = &[Need::Kubernetes, Need::Python];
    let with_helm: &'static [Need] = &[Need::Kubernetes, Need::Helm];
    [
        tests![&[Need::Kubernetes];
            the_oldest_kubectl_sees_no_secret_value,
            kube_sees_no_secret_value,
        ],
        tests![with_python; the_python_client_sees_no_secret_value],
        tests![with_helm; a_secret_of_a_release_is_nowhere_in_the_data],
    ]
    .concat()
}

fn the_oldest_kubectl_sees_no_secret_value() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("oldcanary")?;
    let canary = Canary::new();
    applied_secret(&namespace, &canary)?;
    let alice = pipeline.kubectl("alice")?.oldest()?;
    for command in [
        "get secret login -o yaml",
        "get secrets -o json",
        "get secrets",
        "get secrets -v=9",
        "get secrets --watch --request-timeout=2s -o yaml",
        "describe secret login",
        "label secret login seen=yes -o yaml",
    ] {
        let arguments = ["-n", &namespace].into_iter().chain(command.split(' '));
        let answer = alice.run(&arguments.collect::<Vec<_>>())?;
        let shown = answer.stdout + &answer.stderr;
        ensure!(shown.contains("login"), "{command}: {shown}");
        ensure!(!canary.is_in(shown.as_bytes()), "{command}: {shown}");
    }
    let literal = format!("--from-literal=password={}", canary.value());
    let create = ["-n", &namespace, "create", "secret", "generic", "made"];
    alice
        .run(&[&create[..], &[&literal]].concat())?
        .expect_success()?;
    canary.ensure_absent(&pipeline)
}

fn kube_sees_no_secret_value() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("kubecanary")?;
    let canary = Canary::new();
    applied_secret(&namespace, &canary)?;
    let shown = client::block_on(async {
        let client = client::connect(&pipeline.kubeconfig("alice")).await?;
        let secrets: Api<Secret> = Api::namespaced(client, &namespace);
        let mut shown = serde_json::to_string(&secrets.get("login").await?)?;
        shown += &serde_json::to_string(&secrets.list(&ListParams::default()).await?)?;
        let mut watch = Box::pin(secrets.watch(&WatchParams::default(), "0").await?);
        let first = watch.try_next().await?.context("a watch begins")?;
        shown += &format!("{first:?}");
        let mut made = Secret::default();
        made.metadata.name = Some("made".into());
        let value = ByteString(canary.value().as_bytes().to_vec());
        made.data = Some([("password".to_owned(), value)].into());
        let made = secrets.create(&PostParams::default(), &made).await?;
        shown += &serde_json::to_string(&made)?;
        let patch = serde_json::json!({"stringData": {"second": canary.value()}});
        let patched = secrets
            .patch("made", &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(shown + &serde_json::to_string(&patched)?)
    })?;
    ensure!(
        shown.contains("login") && !canary.is_in(shown.as_bytes()),
        "{shown}"
    );
    canary.ensure_absent(&pipeline)
}

/// Prints everything it gets to see.
const PYTHON: &str = r#"
import sys
from kubernetes import client, config, watch

kubeconfig, namespace, value = sys.argv[1:4]
config.load_kube_config(kubeconfig)
core = client.CoreV1Api()
print(core.read_namespaced_secret("login", namespace))
print(core.list_namespaced_secret(namespace))
for event in watch.Watch().stream(core.list_namespaced_secret, namespace, timeout_seconds=2):
    print(event)
    break
body = client.V1Secret(metadata=client.V1ObjectMeta(name="made"), string_data={"password": value})
print(core.create_namespaced_secret(namespace, body))
print(core.patch_namespaced_secret("made", namespace, {"stringData": {"second": value}}))
"#;

fn the_python_client_sees_no_secret_value() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("pycanary")?;
    let canary = Canary::new();
    applied_secret(&namespace, &canary)?;
    let kubeconfig = pipeline.kubeconfig("alice");
    let kubeconfig = kubeconfig.to_str().context("a path is text")?;
    let arguments = [kubeconfig, &namespace, canary.value()];
    let shown = Python::with_kubernetes()?.run(PYTHON, &arguments)?;
    ensure!(
        shown.contains("made") && !canary.is_in(shown.as_bytes()),
        "{shown}"
    );
    canary.ensure_absent(&pipeline)
}

/// helm sees its own releases as they are, by a rule, since it could not go on working otherwise; the record does not,
/// though a release is a Secret with everything in it compressed and encoded twice.
fn a_secret_of_a_release_is_nowhere_in_the_data() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("helm")?;
    let canary = Canary::new();
    let home = pipeline.folder().join("helm-canary");
    let helm = Helm::new(&pipeline.kubeconfig("alice"), &home)?;
    let password = format!("password={}", canary.value());
    for arguments in [
        &["install", "till", CHART, "--set", &password][..],
        &[
            "upgrade",
            "till",
            CHART,
            "--reuse-values",
            "--set",
            "colour=red",
        ],
    ] {
        let arguments = [arguments, &["-n", &namespace]].concat();
        helm.run(&arguments)?.expect_success()?;
    }
    let values = helm
        .run(&["get", "values", "till", "-n", &namespace])?
        .expect_success()?;
    ensure!(
        canary.is_in(values.as_bytes()),
        "helm goes on working: {values}"
    );
    let events = pipeline.events_of(&namespace, |event| {
        event["request"]["object_ref"]["resource"] == "secrets"
    })?;
    ensure!(!events.is_empty());
    // What gzip begins with, in base64 and in base64 of that.
    let release = |text: &str| text.contains("H4sI") || text.contains("SDRzS");
    ensure!(
        !events.iter().any(|event| release(&event.to_string())),
        "a release is masked in the record"
    );
    canary.ensure_absent(&pipeline)
}
