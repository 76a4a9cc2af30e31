//! The test bed itself: what later tests take for granted.

use anyhow::{Result, ensure};
use hoop_tests::testbed::Need;

use crate::harness::{Test, api_server, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes]; an_object_is_stored_and_audited, people_are_impersonated_and_nothing_else]
}

fn an_object_is_stored_and_audited() -> Result<()> {
    let server = api_server()?;
    let namespace = server.namespace("stored")?;
    let kubectl = server.kubectl();
    let create = [
        "-n",
        &namespace,
        "create",
        "configmap",
        "colours",
        "--from-literal=sky=blue",
    ];
    kubectl.run(&create)?.expect_success()?;
    let get = [
        "-n",
        &namespace,
        "get",
        "configmap",
        "colours",
        "-o",
        "jsonpath={.data.sky}",
    ];
    ensure!(kubectl.run(&get)?.expect_success()? == "blue");
    let audit = std::fs::read_to_string(server.audit_log())?;
    let uri = format!("/api/v1/namespaces/{namespace}/configmaps?");
    let event = audit.lines().find(|line| line.contains(&uri));
    ensure!(
        event.is_some_and(|line| line.contains(r#""sky":"blue""#)),
        "{event:?}"
    );
    Ok(())
}

fn people_are_impersonated_and_nothing_else() -> Result<()> {
    let server = api_server()?;
    let kubectl = server.kubectl_as(&server.gateway_kubeconfig());
    let refused = kubectl.run(&["get", "namespaces"])?.expect_failure()?;
    ensure!(
        refused.contains(r#"User "hoop-gateway" cannot list"#),
        "{refused}"
    );
    let as_alice = [
        "--as=alice",
        "--as-group=platform",
        "get",
        "namespaces",
        "-o",
        "name",
    ];
    let names = kubectl.run(&as_alice)?.expect_success()?;
    ensure!(names.contains("namespace/default"), "{names}");
    Ok(())
}
