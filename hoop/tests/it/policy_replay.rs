//! `hoop policy replay`, over a record that `hoop up` wrote.

use std::path::Path;

use serde_json::Value;

use crate::process::{cluster, free_port, hoop, run};
use crate::up::{get_as_jo, start, stop};

/// What jo did was allowed by the default policy; this one takes secrets away and wants an approval for pods.
const CANDIDATE: &str = "profiles:
- name: tighter
  subjects: {users: [jo]}
  rules:
  - {name: no-secrets, effect: deny, apiGroups: [''], resources: [secrets], verbs: ['*']}
  - {name: pods, effect: approve, apiGroups: [''], resources: [pods], verbs: ['*'], namespaces: [shop]}
  - {name: rest, effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*']}
";

const WIDE: &str = "profiles:
- name: wide
  subjects: {users: [jo]}
  rules:
  - {name: all, effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*']}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_compared_with_what_was_decided() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, _kubeconfig) = cluster(folder).await;
    let running = start(folder, free_port()).await;
    for target in [
        "/api/v1/namespaces/shop/pods",
        "/api/v1/namespaces/shop/pods",
        "/api/v1/namespaces/shop/secrets",
        "/api/v1/namespaces/shop/configmaps",
        "/version",
    ] {
        assert!(get_as_jo(folder, target).await.is_object());
    }
    for (name, policy) in [("c.yaml", CANDIDATE), ("wide.yaml", WIDE)] {
        std::fs::write(folder.join(name), policy).unwrap();
    }
    // While it is still in the log alone, and then as evidence.
    compared(folder).await;
    stop(running).await;
    compared(folder).await;
}

async fn replay(folder: &Path, more: &[&str]) -> (i32, String) {
    let arguments = [&["policy", "replay"], more].concat();
    let (code, text, _) = run(hoop(folder, &arguments).env("COLUMNS", "150")).await;
    (code, text)
}

async fn compared(folder: &Path) {
    let (code, text) = replay(folder, &["c.yaml", "--data", "d", "-o", "json"]).await;
    assert_eq!(code, 1);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [denied, held, summary] = &lines[..] else {
        panic!("two groups and a summary: {text}");
    };
    let of = |line: &Value| {
        ["change", "user", "verb", "resource", "namespace"]
            .map(|key| line[key].as_str().unwrap().to_owned())
    };
    assert_eq!(
        of(denied),
        ["newly_denied", "jo", "list", "secrets", "shop"]
    );
    assert_eq!(denied["candidate"]["rule"], "no-secrets");
    assert_eq!(denied["recorded"]["effect"], "allow");
    assert_eq!(of(held), ["newly_held", "jo", "list", "pods", "shop"]);
    assert_eq!(held["count"], 2);
    assert_eq!(summary["line"], "summary");
    let counts = [
        "same",
        "newlyDenied",
        "newlyHeld",
        "newlyAllowed",
        "cannotSay",
    ];
    assert_eq!(
        counts.map(|key| summary[key].as_u64()),
        [2, 1, 2, 0, 0].map(Some)
    );

    let (code, text) = replay(folder, &["c.yaml", "--data", "d"]).await;
    assert_eq!(code, 1);
    for what in [
        "5 requests from",
        "newly denied",
        "deny by no-secrets of tighter",
        "approve by pods of tighter",
        "allow by everything-secrets-masked",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    for (more, expected) in [
        (&["wide.yaml", "--data", "d", "--since", "1h"][..], 0),
        // Only what is asked for counts.
        (&["c.yaml", "--data", "d", "--resource", "configmaps"], 0),
        (&["c.yaml", "--data", "none"], 66),
        (&["c.yaml"], 64),
        (&["c.yaml", "--data", "d", "--since", "soon"], 64),
        (&["c.yaml", "--data", "d", "--webhook", "none=denied"], 64),
        (&["none.yaml", "--data", "d"], 64),
    ] {
        assert_eq!(replay(folder, more).await.0, expected, "{more:?}");
    }
}
