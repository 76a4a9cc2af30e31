//! helm through the gateway, with a chart of our own.

use anyhow::{Result, ensure};
use hoop_tests::testbed::{Answer, Helm, IMAGE, Kubectl, LATER_IMAGE, Need};

use crate::compatibility::{self, Client, Feature};
use crate::harness::{Test, api_server, node_cluster, pipeline, tests};

/// The chart, in this package.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/small");

pub(crate) fn tests() -> Vec<Test> {
    let with_node: &'static [Need] = &[Need::Kubernetes, Need::Node, Need::Helm];
    [
        tests![&[Need::Kubernetes, Need::Helm]; a_release_is_installed_upgraded_rolled_back_and_removed],
        tests![with_node; pods_of_a_release_are_waited_for_and_rolled_back],
    ]
    .concat()
}

fn a_release_is_installed_upgraded_rolled_back_and_removed() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    // In namespaces of this name the policy shows helm its own releases, which are Secrets.
    let namespace = server.namespace("helm")?;
    let helm = Helm::new(
        &pipeline.kubeconfig("alice"),
        &pipeline.folder().join("helm"),
    )?;
    let run = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments
            .iter()
            .copied()
            .chain(["-n", &namespace])
            .collect();
        helm.run(&arguments)?.expect_success()
    };
    run(&["install", "shop", CHART, "--set", "colour=red"])?;
    ensure!(run(&["list", "-q"])?.trim() == "shop");
    run(&["upgrade", "shop", CHART, "--set", "colour=green"])?;
    let colour = || {
        field(
            &server.kubectl(),
            &namespace,
            "configmap/shop",
            "{.data.colour}",
        )
    };
    ensure!(colour()? == "green");
    ensure!(run(&["history", "shop"])?.contains("superseded"));
    ensure!(run(&["get", "values", "shop", "--revision=1"])?.contains("colour: red"));
    run(&["rollback", "shop", "1"])?;
    ensure!(colour()? == "red");
    ensure!(run(&["status", "shop"])?.contains("REVISION: 3"));
    // A release is read, changed and written back whole: nothing in it was masked on the way.
    run(&[
        "upgrade",
        "shop",
        CHART,
        "--reuse-values",
        "--set",
        "size=large",
    ])?;
    ensure!(colour()? == "red");
    run(&["uninstall", "shop"])?;
    ensure!(run(&["list", "-q"])?.is_empty());
    let commands = pipeline.events_of(&namespace, |event| event["kind"] == "intent")?;
    ensure!(commands.iter().any(|event| {
        event["request"]["user_agent"]
            .as_str()
            .is_some_and(|a| a.contains("Helm"))
    }));
    Ok(())
}

fn pods_of_a_release_are_waited_for_and_rolled_back() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("helm")?;
    let helm = Helm::new(
        &cluster.pipeline.kubeconfig("alice"),
        &cluster.pipeline.folder().join("helm"),
    )?;
    let run = |arguments: &[&str]| -> Result<Answer> {
        let common = ["-n", &namespace, "--wait", "--timeout=60s"];
        helm.run(&[arguments, &common].concat())
    };
    let image = |image: &str| format!("image={image}");
    let running = || {
        let path = "{.status.readyReplicas} {.spec.template.spec.containers[0].image}";
        field(
            &cluster.server.kubectl(),
            &namespace,
            "deployment/shop",
            path,
        )
    };
    run(&["install", "shop", CHART, "--set", &image(IMAGE)])?.expect_success()?;
    ensure!(running()? == format!("1 {IMAGE}"));
    run(&["upgrade", "shop", CHART, "--set", &image(LATER_IMAGE)])?.expect_success()?;
    ensure!(running()? == format!("1 {LATER_IMAGE}"));
    run(&["rollback", "shop", "1"])?.expect_success()?;
    ensure!(running()? == format!("1 {IMAGE}"));
    // An upgrade that the API server refuses leaves the release as it was.
    let refused = ["upgrade", "shop", CHART, "--set", "image=,replicas=-1"];
    let said = run(&refused)?.expect_failure()?;
    ensure!(said.contains("UPGRADE FAILED"), "{said}");
    ensure!(running()? == format!("1 {IMAGE}"));
    run(&["uninstall", "shop"])?.expect_success()?;
    compatibility::works(Client::Helm, &[Feature::Releases]);
    Ok(())
}

/// A field of an object, read past the gateway.
fn field(kubectl: &Kubectl, namespace: &str, object: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    kubectl
        .run(&["-n", namespace, "get", object, "-o", &path])?
        .expect_success()
}
