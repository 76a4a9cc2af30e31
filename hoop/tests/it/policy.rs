//! `hoop policy` as people run it, on the policies that come with the product.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::process::{hoop, run};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies")
}

fn sample(name: &str) -> String {
    samples().join(name).display().to_string()
}

#[tokio::test]
async fn a_request_for_somebody_is_explained_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let file = sample("ai-agent.yaml");
    let mut arguments = vec![
        "policy",
        "explain",
        &file,
        "--user",
        "dev",
        "--group",
        "developers",
    ];
    arguments.extend(["--target", "/api/v1/namespaces/shop/pods"]);
    let (code, ..) = run(&mut hoop(folder.path(), &arguments)).await;
    assert_eq!(code, 1);
    arguments.extend(["--actor", "agent-7", "--client", "agent-platform"]);
    let (code, stdout, _) = run(&mut hoop(folder.path(), &arguments)).await;
    assert_eq!(code, 0);
    assert!(stdout.contains("ai-agent-for-a-developer"), "{stdout}");
}

#[tokio::test]
async fn requests_as_json_lines_are_answered_line_by_line_whatever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["policy", "explain", &sample("sre.yaml"), "--requests", "-"];
    let mut child = hoop(folder.path(), &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let scale = "/apis/apps/v1/namespaces/shop/deployments/web/scale";
    let lines = [
        json!({"method": "PATCH", "target": scale, "user": "sam", "groups": ["sre"], "body": {"spec": {"replicas": 0}}}).to_string(),
        json!({"method": "GET", "target": "/api/v1/namespaces/shop/pods/p/exec?command=sh", "user": "sam", "groups": ["sre"]}).to_string(),
        json!({"method": "GET", "target": "/api/v1/namespaces//pods", "user": "sam", "groups": []}).to_string(),
        "this is no JSON".to_owned(),
        json!({"method": "GET", "target": "/api", "user": "eve", "groups": []}).to_string(),
        json!({"method": "GET", "target": "/api/v1/pods", "user": "eve", "groups": [], "as": {"user": "jane"}}).to_string(),
    ];
    let mut input = child.stdin.take().unwrap();
    input
        .write_all((lines.join("\n") + "\n\n").as_bytes())
        .await
        .unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), lines.len());
    let of = |i: usize, key: &str| answers[i][key].clone();
    assert_eq!(of(0, "effect"), "approve");
    assert_eq!(of(0, "rule"), "scale-to-zero");
    assert_eq!(of(0, "profile"), "sre");
    let words = [
        "verb",
        "apiGroup",
        "apiVersion",
        "resource",
        "subresource",
        "namespace",
        "name",
    ];
    assert_eq!(
        words.map(|word| of(0, word)),
        ["patch", "apps", "v1", "deployments", "scale", "shop", "web"].map(Value::from)
    );
    let tried = of(0, "tried");
    assert_eq!(tried[0]["rule"], "way-around-the-record");
    assert_eq!(tried[0]["reason"], "another API group");
    assert_eq!(of(1, "rule"), "shells");
    for malformed in [2, 3] {
        assert_eq!(of(malformed, "effect"), "deny");
        assert_eq!(of(malformed, "cause"), "malformed");
    }
    assert_eq!(of(2, "message"), "the path has an empty segment");
    assert_eq!(
        (of(4, "effect"), of(4, "rule")),
        (json!("allow"), json!("built-in"))
    );
    assert_eq!(of(5, "cause"), "impersonation_refused");
}

#[tokio::test]
async fn tests_beside_policies_are_run_and_failures_have_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text, _) = run(&mut hoop(
        folder.path(),
        &["policy", "test", &samples().display().to_string()],
    ))
    .await;
    assert_eq!(code, 0);
    assert!(text.contains(" 0 failed, in 21 files"), "{text}");

    std::fs::copy(samples().join("viewer.yaml"), folder.path().join("p.yaml")).unwrap();
    let cases = "cases:\n- user: v\n  groups: [viewers]\n  requests: [GET /api/v1/namespaces/shop/secrets]\n  expect: allow\n";
    std::fs::write(folder.path().join("p.test.yaml"), cases).unwrap();
    let (code, text, _) = run(&mut hoop(folder.path(), &["policy", "test", "p.yaml"])).await;
    assert_eq!(code, 1);
    assert!(
        text.contains(
            "p.test.yaml:4: GET /api/v1/namespaces/shop/secrets: expected allow, got deny"
        ),
        "{text}"
    );
    std::fs::write(folder.path().join("p.test.yaml"), "cases:\n- usr: v\n").unwrap();
    let (code, _, told) = run(&mut hoop(folder.path(), &["policy", "test", "p.yaml"])).await;
    assert_eq!(code, 64);
    assert!(
        told.contains("p.test.yaml:2: a case has no key \"usr\""),
        "{told}"
    );
}

#[tokio::test]
async fn what_is_wider_than_it_looks_is_told_with_its_line_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "profiles:\n- name: p\n  subjects: {users: [a]}\n  rules:\n  - {effect: allow, apiGroups: [''], resources: [nodes/proxy], verbs: [get]}\n";
    std::fs::write(folder.path().join("p.yaml"), policy).unwrap();
    let (code, text, _) = run(&mut hoop(folder.path(), &["policy", "check", "p.yaml"])).await;
    assert_eq!(code, 0);
    assert!(
        text.contains("p.yaml:5: rule \"rule 1\" allows nodes/proxy"),
        "{text}"
    );
    assert!(text.contains("accept: [nodes-proxy]"), "{text}");
    let strict = ["policy", "check", "p.yaml", "--strict"];
    assert_eq!(run(&mut hoop(folder.path(), &strict)).await.0, 1);
    std::fs::write(
        folder.path().join("p.yaml"),
        policy.replace("[get]", "[get], when: [reqest.x]"),
    )
    .unwrap();
    let (code, _, told) = run(&mut hoop(folder.path(), &["policy", "check", "p.yaml"])).await;
    assert_eq!(code, 64);
    assert!(
        told.contains("p.yaml:5: \"when\": there is no variable \"reqest\""),
        "{told}"
    );
}

#[tokio::test]
async fn the_gateways_own_rights_are_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["policy", "rbac", &sample("batch-runner.yaml"), "--any-user"];
    let (code, text, _) = run(&mut hoop(folder.path(), &arguments)).await;
    assert_eq!(code, 0);
    let kinds: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("kind: "))
        .collect();
    assert_eq!(
        kinds,
        ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
    );
    assert!(text.contains("    resourceNames: [\"runner\"]"), "{text}");
}

const ASKING: &str = "webhooks:
- {name: desk, url: 'https://desk.example.com/', timeout: 2s}
profiles:
- name: p
  subjects: {users: [a]}
  rules:
  - {name: asks, effect: allow, apiGroups: [''], resources: [pods], verbs: [get], webhook: desk}
";

#[tokio::test]
async fn a_webhook_is_explained_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), ASKING).unwrap();
    let pod = "/api/v1/namespaces/shop/pods/web";
    let explain = async |more: &[&str]| {
        let mut arguments = vec![
            "policy", "explain", "p.yaml", "--user", "a", "--target", pod,
        ];
        arguments.extend(more);
        run(&mut hoop(folder.path(), &arguments)).await
    };
    let (code, text, _) = explain(&[]).await;
    assert_eq!(code, 0);
    assert!(text.contains("would ask webhook desk"), "{text}");
    let (code, text, _) = explain(&["--webhook", "desk=denied"]).await;
    assert_eq!(code, 1);
    assert!(text.contains("webhook \"desk\" denies it"), "{text}");
    assert_eq!(explain(&["--webhook", "desk=allowed"]).await.0, 0);
    assert_eq!(explain(&["--webhook", "desk=failed"]).await.0, 1);
    assert_eq!(explain(&["--webhook", "desk=maybe"]).await.0, 64);
    assert_eq!(explain(&["--webhook", "other=denied"]).await.0, 64);

    let line = |more: Value| {
        let mut line = json!({"method": "GET", "target": pod, "user": "a"});
        line.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        line.to_string() + "\n"
    };
    let lines = line(json!({})) + &line(json!({"webhooks": {"desk": "noOpinion"}}));
    std::fs::write(folder.path().join("requests"), lines).unwrap();
    let arguments = ["policy", "explain", "p.yaml", "--requests", "requests"];
    let (code, text, _) = run(&mut hoop(folder.path(), &arguments)).await;
    assert_eq!(code, 0);
    let answers: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["webhooks"], json!(["desk"]));
    assert_eq!(answers[0]["effect"], "allow");
    assert_eq!(answers[1]["webhooks"], json!([]));
    assert_eq!(answers[1]["cause"], "no_match");
}
