//! kubectl in front of a real API server, through the gateway: what people do all day works, and what they may not
//! do is refused in words that they can read.

use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{Kubectl, Need};
use serde_json::Value;

use crate::compatibility::{self, Client, Feature};
use crate::harness::{Test, api_server, pipeline, tests};
use crate::pipeline::Pipeline;

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes];
        objects_are_created_read_changed_and_deleted,
        server_side_apply_works,
        a_watch_shows_changes_as_they_happen,
        people_can_ask_what_they_may_do,
        a_denied_delete_prints_forbidden_and_is_recorded,
        the_api_servers_own_refusal_is_passed_on,
        exec_reaches_the_api_server_and_is_recorded,
        nobody_without_a_valid_credential_gets_in,
    ]
}

/// kubectl as alice in the versions that are tried, and which clients of the table each of them is.
fn versions(pipeline: &Pipeline) -> Result<[(Kubectl, &'static [Client]); 2]> {
    let newest = pipeline.kubectl("alice")?;
    let oldest = newest.oldest()?;
    Ok([
        (newest, &[Client::KubectlWebSocket, Client::KubectlSpdy]),
        (oldest, &[Client::KubectlOldest]),
    ])
}

fn objects_are_created_read_changed_and_deleted() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("objects")?;
    for (alice, clients) in versions(&pipeline)? {
        work_with_objects(&alice, &namespace)?;
        for client in clients {
            compatibility::works(*client, &[Feature::Objects]);
        }
    }
    Ok(())
}

fn work_with_objects(alice: &Kubectl, namespace: &str) -> Result<()> {
    let run = |arguments: &[&str]| {
        let arguments: Vec<_> = ["-n", namespace]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        alice.run(&arguments)?.expect_success()
    };
    // The oldest kubectl takes what begins with a brace for JSON.
    let manifest = format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {namespace}}}, spec: {{replicas: 2, \
         selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, \
         spec: {{containers: [{{name: web, image: web}}]}}}}}}}}"
    );
    alice.apply(&manifest)?;
    ensure!(run(&["get", "deployments"])?.contains("web"));
    ensure!(run(&["describe", "deployment", "web"])?.contains("Replicas:"));
    run(&["scale", "deployment", "web", "--replicas=5"])?;
    run(&[
        "patch",
        "deployment",
        "web",
        "-p",
        r#"{"spec":{"paused":true}}"#,
    ])?;
    run(&["label", "deployment", "web", "tier=front"])?;
    let told = run(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.replicas} {.spec.paused} {.metadata.labels.tier}",
    ])?;
    ensure!(told == "5 true front", "{told}");
    let second = manifest.replace("replicas: 2", "replicas: 3");
    ensure!(alice.apply(&second)?.contains("configured"));
    run(&["delete", "deployment", "web"])?;
    let gone = alice
        .run(&["-n", namespace, "get", "deployment", "web"])?
        .expect_failure()?;
    ensure!(gone.contains("(NotFound)"), "{gone}");
    Ok(())
}

fn server_side_apply_works() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("serverside")?;
    let alice = pipeline.kubectl("alice")?;
    let manifest = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: sky, namespace: {namespace}}}, data: {{colour: blue}}}}"
    );
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=person",
        "-f",
        "-",
    ];
    alice.run_with(&apply, &manifest)?.expect_success()?;
    let conflict = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let refused = alice
        .run_with(&conflict, &manifest.replace("blue", "grey"))?
        .expect_failure()?;
    ensure!(refused.contains("conflict"), "{refused}");
    Ok(())
}

fn a_watch_shows_changes_as_they_happen() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    for (alice, clients) in versions(&pipeline)? {
        let namespace = server.namespace("watch")?;
        let mut watch = alice.start(&[
            "-n",
            &namespace,
            "get",
            "configmaps",
            "--watch",
            "-o",
            "name",
        ])?;
        let output = watch.stdout.take().context("standard output is piped")?;
        let mut lines = BufReader::new(output).lines();
        for name in ["one", "two", "three"] {
            server
                .kubectl()
                .run(&["-n", &namespace, "create", "configmap", name])?
                .expect_success()?;
            let line = lines.next().context("the watch ended")??;
            ensure!(line == format!("configmap/{name}"), "{line}");
        }
        watch.kill()?;
        watch.wait()?;
        for client in clients {
            compatibility::works(*client, &[Feature::Watch]);
        }
    }
    Ok(())
}

fn people_can_ask_what_they_may_do() -> Result<()> {
    let alice = pipeline()?.kubectl("alice")?;
    let answer = alice
        .run(&["auth", "can-i", "list", "pods"])?
        .expect_success()?;
    ensure!(answer.trim() == "yes", "{answer}");
    let who = alice
        .run(&["auth", "whoami", "-o", "json"])?
        .expect_success()?;
    let who: Value = serde_json::from_str(&who)?;
    ensure!(who["status"]["userInfo"]["username"] == "alice", "{who}");
    Ok(())
}

fn a_denied_delete_prints_forbidden_and_is_recorded() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("denied")?;
    server
        .kubectl()
        .run(&["-n", &namespace, "create", "configmap", "kept"])?
        .expect_success()?;
    let bob = pipeline.kubectl("bob")?;
    bob.run(&["-n", &namespace, "get", "configmap", "kept"])?
        .expect_success()?;
    let answer = bob.run(&["-n", &namespace, "delete", "configmap", "kept"])?;
    ensure!(answer.code == Some(1));
    let said = answer.expect_failure()?;
    ensure!(
        said.starts_with("Error from server (Forbidden): "),
        "{said}"
    );
    server
        .kubectl()
        .run(&["-n", &namespace, "get", "configmap", "kept"])?
        .expect_success()?;
    let denied = pipeline.events_of(&namespace, |event| {
        event["kind"] == "intent" && event["request"]["verb"] == "delete"
    })?;
    ensure!(denied.len() == 1, "{denied:?}");
    ensure!(denied[0]["decision"]["effect"] == "deny", "{denied:?}");
    ensure!(
        denied[0]["request"]["user"]["username"] == "bob",
        "{denied:?}"
    );
    Ok(())
}

fn the_api_servers_own_refusal_is_passed_on() -> Result<()> {
    let pipeline = pipeline()?;
    // The policy lets her; the cluster does not.
    let carol = pipeline.kubectl("carol")?;
    let said = carol.run(&["get", "nodes"])?.expect_failure()?;
    ensure!(
        said.starts_with(
            "Error from server (Forbidden): nodes is forbidden: User \"carol\" cannot list"
        ),
        "{said}"
    );
    Ok(())
}

fn exec_reaches_the_api_server_and_is_recorded() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("exec")?;
    let alice = pipeline.kubectl("alice")?;
    alice.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {namespace}}}, \
         spec: {{containers: [{{name: web, image: web}}]}}}}"
    ))?;
    // There is no node here, and the API server says so.
    let said = alice
        .run(&["-n", &namespace, "exec", "web", "--", "id", "-u"])?
        .expect_failure()?;
    ensure!(said.contains("does not have a host assigned"), "{said}");
    let of_exec = pipeline.events_of(&namespace, |event| {
        event["request"]["object_ref"]["subresource"] == "exec"
    })?;
    let intent = of_exec.iter().find(|event| event["kind"] == "intent");
    let uri = intent.map_or("", |event| {
        event["request"]["request_uri"].as_str().unwrap_or_default()
    });
    ensure!(uri.contains("command=id&command=-u"), "{of_exec:?}");
    ensure!(
        of_exec
            .iter()
            .any(|event| event["kind"] == "outcome" && event["status"] == 400),
        "{of_exec:?}"
    );
    Ok(())
}

fn nobody_without_a_valid_credential_gets_in() -> Result<()> {
    let pipeline = pipeline()?;
    let nobody = pipeline.kubectl_with_token("not-a-token-of-anybody")?;
    let said = nobody.run(&["get", "namespaces"])?.expect_failure()?;
    ensure!(
        said.contains("Unauthorized") || said.contains("logged in"),
        "{said}"
    );
    let refused = pipeline.events(|event| {
        event["kind"] == "intent" && event["decision"]["cause"] == "unauthenticated"
    })?;
    ensure!(!refused.is_empty());
    ensure!(
        refused
            .iter()
            .all(|event| !event.to_string().contains("not-a-token-of-anybody"))
    );
    Ok(())
}
