//! The gateway's own credential for the API server.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hoop_proxy::UpstreamSource;

use crate::harness::{Bed, Setup, kubeconfig};
use hoop_proxy::sample_cluster::SampleCluster;

const PODS: &str = "/api/v1/namespaces/shop/pods";

/// A kubeconfig whose user runs a plugin, which prints the token in `token` and an expiry.
fn with_plugin(folder: &Path, cluster: &SampleCluster, expiry: &str) -> UpstreamSource {
    let token = folder.join("token");
    let count = folder.join("runs");
    let script = folder.join("plugin.sh");
    let text = format!(
        "#!/bin/sh\necho run >> '{}'\nprintf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\"{expiry}}}}}' \"$(cat '{}')\"\n",
        count.display(),
        token.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, cluster.ca_pem()).unwrap();
    let path = folder.join("kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": cluster.url(), "certificate-authority": ca}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": script, "interactiveMode": "Never"}}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    kubeconfig(&path)
}

#[tokio::test]
async fn an_exec_plugin_is_run_and_run_again_when_its_token_is_refused() {
    let cluster = SampleCluster::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, cluster.token("hoop-gateway", &["system:masters"])).unwrap();
    let upstream = with_plugin(folder.path(), &cluster, "");
    let bed = Setup {
        upstream: Some(upstream),
        ..Setup::default()
    }
    .start()
    .await;
    assert_eq!(bed.get(PODS).await.status, 200);
    let seen = cluster.seen().pop().unwrap();
    assert_eq!(seen.user.as_deref(), Some("alice"));
    assert_eq!(seen.impersonated_by.as_deref(), Some("hoop-gateway"));

    // The cluster comes back with other tokens: the first request learns it, the next has the new one.
    let fresh = SampleCluster::start().await.unwrap();
    drop(cluster);
    let upstream = with_plugin(folder.path(), &fresh, "");
    let bed = Setup {
        upstream: Some(upstream),
        ..Setup::default()
    }
    .start()
    .await;
    let token_of_fresh = fresh.token("hoop-gateway", &["system:masters"]);
    std::fs::write(&token, token_of_fresh).unwrap();
    let answer = bed.get(PODS).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    let message = answer.message();
    assert!(
        message.contains("could not log in to the API server"),
        "{message}"
    );
    assert_eq!(bed.get(PODS).await.status, 200);
    bed.assert_metric("hoop_gateway_upstream_errors_total{operation=\"refused\"} 1");
}

#[tokio::test]
async fn a_token_that_expires_is_renewed_before_it_does() {
    let cluster = SampleCluster::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, cluster.token("hoop-gateway", &["system:masters"])).unwrap();
    // So close to its end that it is renewed whenever it is asked for.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
    let upstream = with_plugin(
        folder.path(),
        &cluster,
        &format!(",\"expirationTimestamp\":\"{soon}\""),
    );
    let bed = Setup {
        upstream: Some(upstream),
        ..Setup::default()
    }
    .start()
    .await;
    assert_eq!(bed.get(PODS).await.status, 200);
    std::fs::write(&token, cluster.token("other-gateway", &["system:masters"])).unwrap();
    // Headers are used for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(bed.get(PODS).await.status, 200);
    let seen = cluster.seen().pop().unwrap();
    assert_eq!(seen.impersonated_by.as_deref(), Some("other-gateway"));
}

#[tokio::test]
async fn without_the_right_to_impersonate_the_person_learns_what_is_missing() {
    let bed = Bed::start().await;
    bed.cluster.refuse_impersonation(true);
    let answer = bed.get(PODS).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["kind"], "Status");
}
