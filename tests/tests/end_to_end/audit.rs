//! The API server's own audit log agrees with ours: who it was for, and every single request.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::Need;
use serde_json::Value;

use crate::harness::{Test, api_server, own_pipeline, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes]; every_request_is_in_both_audit_logs_under_one_id]
}

fn every_request_is_in_both_audit_logs_under_one_id() -> Result<()> {
    let server = api_server()?;
    let namespace = server.namespace("audit")?;
    let mut pipeline = own_pipeline("audit")?;
    let (alice, bob) = (pipeline.kubectl("alice")?, pipeline.kubectl("bob")?);
    alice
        .run(&["-n", &namespace, "create", "configmap", "one"])?
        .expect_success()?;
    alice
        .run(&["-n", &namespace, "label", "configmap", "one", "a=b"])?
        .expect_success()?;
    alice
        .run(&[
            "-n",
            &namespace,
            "get",
            "configmaps,secrets,pods",
            "-o",
            "yaml",
        ])?
        .expect_success()?;
    bob.run(&["-n", &namespace, "get", "configmap", "one"])?
        .expect_success()?;
    bob.run(&["-n", &namespace, "get", "configmap", "two"])?
        .expect_failure()?;
    bob.run(&["-n", &namespace, "delete", "configmap", "one"])?
        .expect_failure()?;
    pipeline.stop()?;

    let theirs = audit_log(&std::fs::read_to_string(server.audit_log())?)?;
    let ours = pipeline.events(|event| event["kind"] == "outcome")?;
    let mut joined = 0;
    for outcome in &ours {
        let request = &outcome["request"];
        let id = request["audit_id"]
            .as_str()
            .context("a request has an id")?;
        if outcome["answered_by"] != "upstream" {
            ensure!(
                !theirs.contains_key(id),
                "the API server never saw {outcome}"
            );
            continue;
        }
        let event = theirs
            .get(id)
            .with_context(|| format!("not in the API server's log: {outcome}"))?;
        joined += 1;
        ensure!(event["user"]["username"] == "hoop-gateway", "{event}");
        ensure!(
            event["impersonatedUser"]["username"] == request["user"]["username"],
            "{event}\n{outcome}"
        );
        ensure!(event["verb"] == request["verb"], "{event}\n{outcome}");
        ensure!(
            event["responseStatus"]["code"] == outcome["status"],
            "{event}\n{outcome}"
        );
    }
    ensure!(joined >= 6, "{joined} requests");
    // And the other way round: what the API server did in this namespace for the gateway, we have.
    let ids: Vec<_> = ours
        .iter()
        .filter_map(|outcome| outcome["request"]["audit_id"].as_str())
        .collect();
    for (id, event) in &theirs {
        let by_gateway = event["user"]["username"] == "hoop-gateway";
        if by_gateway && event["objectRef"]["namespace"] == namespace.as_str() {
            ensure!(ids.contains(&id.as_str()), "we do not have {event}");
        }
    }
    Ok(())
}

/// The events of an API server's audit log by id; the last stage of each.
fn audit_log(text: &str) -> Result<BTreeMap<String, Value>> {
    let mut events = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("hoop-gateway")) {
        let event: Value = serde_json::from_str(line)?;
        if let Some(id) = event["auditID"].as_str().map(str::to_owned) {
            events.insert(id, event);
        }
    }
    Ok(events)
}
