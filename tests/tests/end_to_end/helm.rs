//! helm through the gateway, with a chart of our own.

use anyhow::{Result, ensure};
use hoop_tests::testbed::{Helm, Need};

use crate::harness::{Test, api_server, pipeline, tests};

/// The chart, in this package.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/small");

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes, Need::Helm]; a_release_is_installed_listed_upgraded_and_removed]
}

fn a_release_is_installed_listed_upgraded_and_removed() -> Result<()> {
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
    let colour = [
        "-n",
        &namespace,
        "get",
        "configmap",
        "shop",
        "-o",
        "jsonpath={.data.colour}",
    ];
    ensure!(server.kubectl().run(&colour)?.expect_success()? == "green");
    ensure!(run(&["history", "shop"])?.contains("superseded"));
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
