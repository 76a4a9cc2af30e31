//! Secret values on a real API server: nobody sees them through the gateway, and no byte of them is recorded.

use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoop_tests::testbed::Need;

use crate::canary::Canary;
use crate::harness::{Test, api_server, pipeline, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes];
        secrets_are_masked_in_every_form_that_kubectl_asks_for,
        secrets_are_masked_in_a_watch,
        a_masked_value_that_comes_back_is_refused,
        a_secret_that_is_created_through_the_gateway_is_nowhere_in_the_data,
        a_requested_token_is_masked,
    ]
}

/// A Secret of an administrator: made beside the gateway, with the annotation that `kubectl apply` leaves.
pub(crate) fn applied_secret(namespace: &str, canary: &Canary) -> Result<()> {
    let manifest = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: login, namespace: {namespace}}}, \
         stringData: {{password: \"{}\"}}}}",
        canary.value()
    );
    api_server()?.kubectl().apply(&manifest)?;
    Ok(())
}

fn secrets_are_masked_in_every_form_that_kubectl_asks_for() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("masked")?;
    let canary = Canary::new();
    applied_secret(&namespace, &canary)?;
    let direct = server
        .kubectl()
        .run(&["-n", &namespace, "get", "secret", "login", "-o", "yaml"])?;
    ensure!(
        canary.is_in(direct.stdout.as_bytes()),
        "the API server shows it"
    );
    let alice = pipeline.kubectl("alice")?;
    for command in [
        "get secret login -o yaml",
        "get secret login -o json",
        "get secrets -o yaml",
        "get secrets",
        "get secrets -o wide",
        "get secrets -o custom-columns=P:.data.password,A:.metadata.annotations",
        "get secret login -o jsonpath={.data.password}",
        "get secrets --show-labels -v=9",
        "describe secret login",
        "annotate secret login note=seen -o yaml",
        "get all,secrets -o json",
    ] {
        let arguments: Vec<_> = ["-n", &namespace]
            .into_iter()
            .chain(command.split(' '))
            .collect();
        let answer = alice.run(&arguments)?;
        ensure!(answer.success, "{command}: {}", answer.stderr);
        let shown = answer.stdout + &answer.stderr;
        ensure!(
            !canary.is_in(shown.as_bytes()),
            "{command} shows it:\n{shown}"
        );
        ensure!(
            shown.contains("login") || command.contains("jsonpath"),
            "{command}: {shown}"
        );
    }
    let table = alice
        .run(&["-n", &namespace, "get", "secrets"])?
        .expect_success()?;
    ensure!(table.contains("Opaque"), "{table}");
    canary.ensure_absent(&pipeline)
}

fn secrets_are_masked_in_a_watch() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("maskedwatch")?;
    let canary = Canary::new();
    let alice = pipeline.kubectl("alice")?;
    let arguments = ["-n", &namespace, "get", "secrets", "--watch", "-o", "yaml"];
    let mut watch = alice.start(&arguments)?;
    applied_secret(&namespace, &canary)?;
    server
        .kubectl()
        .run(&["-n", &namespace, "label", "secret", "login", "last=one"])?
        .expect_success()?;
    let mut shown = String::new();
    let output = watch.stdout.take().context("standard output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        shown.push_str(&line);
        if line.contains("last: one") {
            break;
        }
    }
    watch.kill()?;
    watch.wait()?;
    ensure!(
        shown.contains("last: one") && !canary.is_in(shown.as_bytes()),
        "{shown}"
    );
    canary.ensure_absent(&pipeline)
}

fn a_masked_value_that_comes_back_is_refused() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("writeback")?;
    let canary = Canary::new();
    applied_secret(&namespace, &canary)?;
    let alice = pipeline.kubectl("alice")?;
    let masked = alice
        .run(&["-n", &namespace, "get", "secret", "login", "-o", "yaml"])?
        .expect_success()?;
    let replace = alice.run_with(&["replace", "-f", "-"], &masked)?;
    let said = replace.expect_failure()?;
    ensure!(said.contains("masked"), "{said}");
    let kept = [
        "-n",
        &namespace,
        "get",
        "secret",
        "login",
        "-o",
        "jsonpath={.data.password}",
    ];
    let kept = server.kubectl().run(&kept)?.expect_success()?;
    ensure!(
        STANDARD.decode(kept)? == canary.value().as_bytes(),
        "the value is as it was"
    );
    let refused = pipeline.events_of(&namespace, |event| {
        event["decision"]["cause"] == "masked_write"
    })?;
    ensure!(!refused.is_empty());
    Ok(())
}

fn a_secret_that_is_created_through_the_gateway_is_nowhere_in_the_data() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("created")?;
    let alice = pipeline.kubectl("alice")?;
    let canary = Canary::new();
    let literal = format!("--from-literal=password={}", canary.value());
    alice
        .run(&[
            "-n", &namespace, "create", "secret", "generic", "made", &literal,
        ])?
        .expect_success()?;
    let manifest = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: NAME, namespace: {namespace}}}, stringData: {{password: \"{}\"}}}}",
        canary.value()
    );
    alice.apply(&manifest.replace("NAME", "applied"))?;
    alice.apply(
        &manifest
            .replace("NAME", "applied")
            .replace("stringData", "type: Opaque, stringData"),
    )?;
    let apply = ["apply", "--server-side", "-f", "-"];
    alice
        .run_with(&apply, &manifest.replace("NAME", "server-side"))?
        .expect_success()?;
    let patch = format!(r#"{{"stringData":{{"second":"{}"}}}}"#, canary.value());
    alice
        .run(&["-n", &namespace, "patch", "secret", "made", "-p", &patch])?
        .expect_success()?;
    for name in ["made", "applied", "server-side"] {
        let get = [
            "-n",
            &namespace,
            "get",
            "secret",
            name,
            "-o",
            "jsonpath={.data.password}",
        ];
        let stored = server.kubectl().run(&get)?.expect_success()?;
        ensure!(
            STANDARD.decode(stored)? == canary.value().as_bytes(),
            "{name}"
        );
    }
    let events = pipeline.events_of(&namespace, |event| {
        event["kind"] == "intent" && event["request"]["verb"] == "create"
    })?;
    ensure!(!events.is_empty());
    canary.ensure_absent(&pipeline)
}

fn a_requested_token_is_masked() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("token")?;
    let alice = pipeline.kubectl("alice")?;
    alice
        .run(&["-n", &namespace, "create", "serviceaccount", "robot"])?
        .expect_success()?;
    let answer = alice.run(&["-n", &namespace, "create", "token", "robot"])?;
    // A JSON Web Token begins with the base64 of `{"`.
    ensure!(!answer.stdout.contains("eyJ"), "{}", answer.stdout);
    let events = pipeline.events_of(&namespace, |event| {
        event["request"]["object_ref"]["subresource"] == "token"
    })?;
    ensure!(
        !events.is_empty()
            && events
                .iter()
                .all(|event| !event.to_string().contains("eyJ"))
    );
    Ok(())
}
