//! `hoop check`, `hoop policy`, and what is refused before anything starts.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::process::{PATIENCE, cluster, free_port, hoop, run};

const POLICY: &str = "profiles:\n  - name: readers\n    subjects: {groups: [readers]}\n    rules:\n      - {name: read, \
    effect: allow, apiGroups: [\"\"], resources: [pods], verbs: [get, list, watch]}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_working_configuration_has_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (_cluster, kubeconfig) = cluster(folder.path()).await;
    let text = format!(
        "data: d\ngateway: {{listen: 127.0.0.1:{}}}\nadmin: {{listen: off}}\nupstream: {{kubeconfig: {}}}\npolicy: p.yaml\n",
        free_port(),
        kubeconfig.display()
    );
    std::fs::write(folder.path().join("hoop.yaml"), text).unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let (code, text, _) = run(&mut hoop(
        folder.path(),
        &["check", "--config", "hoop.yaml"],
    ))
    .await;
    assert_eq!(code, 0, "{text}");
    for what in [
        "as hoop-gateway",
        "may act as any of the users",
        "1 profiles, 1 rules",
        "agrees with",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
}

/// A configuration with the policy above.
fn configure(folder: &Path, kubeconfig: &Path) {
    let text = format!(
        "data: d\ngateway: {{listen: 127.0.0.1:{}}}\nadmin: {{listen: off}}\nupstream: {{kubeconfig: {}}}\npolicy: p.yaml\n",
        free_port(),
        kubeconfig.display()
    );
    std::fs::write(folder.join("hoop.yaml"), text).unwrap();
    std::fs::write(folder.join("p.yaml"), POLICY).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_or_too_many_are_told_with_the_command_that_mends_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (cluster, kubeconfig) = cluster(folder).await;
    configure(folder, &kubeconfig);
    let check = async || run(&mut hoop(folder, &["check", "--config", "hoop.yaml"])).await;
    let (code, text, _) = check().await;
    assert_eq!(code, 0, "{text}");
    for what in [
        "look   rights",
        "may do everything in the cluster: good for a try",
        "hoop policy rbac p.yaml | kubectl apply -f -",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }

    cluster.refuse_impersonation(true);
    let (code, text, _) = check().await;
    assert_eq!(code, 1, "{text}");
    for what in [
        "wrong  rights",
        "impersonate groups \"readers\"",
        "give them: hoop policy rbac p.yaml | kubectl apply -f -",
        "--user=\"hoop-gateway\"",
        "may act only as users that its role names",
        "hoop policy rbac p.yaml --any-user",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }

    // It starts all the same, and says so.
    let mut up = hoop(folder, &["up", "--config", "hoop.yaml"]);
    let mut up = up
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(up.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("impersonate groups \"readers\"") {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, told).await.unwrap());
    assert!(up.try_wait().unwrap().is_none(), "it serves");
    up.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_probe_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, kubeconfig) = cluster(folder.path()).await;
    cluster.stop().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let text = format!(
        "data: upstream.kubeconfig\ngateway: {{listen: '{}'}}\nadmin: {{listen: off}}\nupstream: {{kubeconfig: {}}}\npolicy: p.yaml\ntokens: none.yaml\nauthentication: {{file: a.yaml}}\n",
        taken.local_addr().unwrap(),
        kubeconfig.display()
    );
    std::fs::write(folder.path().join("hoop.yaml"), text).unwrap();
    std::fs::write(
        folder.path().join("a.yaml"),
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n  - issuer: {url: id.example.com, \
         audiences: [hoop]}\n    claimMappings: {username: {claim: sub, prefix: ''}}\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("p.yaml"),
        POLICY.replace("effect: allow", "efect: allow"),
    )
    .unwrap();
    let (code, text, _) = run(&mut hoop(
        folder.path(),
        &["check", "--config", "hoop.yaml"],
    ))
    .await;
    assert_eq!(code, 1, "{text}");
    for what in [
        "p.yaml:",
        "none.yaml: cannot be read",
        "stop what listens there",
        "name a directory that can be written to",
        "see that the server is up",
        "a.yaml:4: \"url\" must be an https:// URL",
        "6 things are wrong",
    ] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("hoop.yaml"),
        "\ngateway:\n  listn: 127.0.0.1:1\n",
    )
    .unwrap();
    for command in ["up", "check"] {
        let (code, _, said) = run(&mut hoop(
            folder.path(),
            &[command, "--config", "hoop.yaml"],
        ))
        .await;
        assert_eq!(code, 64);
        assert!(
            said.contains("hoop.yaml:3: unknown key \"gateway.listn\": did you mean"),
            "{said}"
        );
        let (code, _, said) =
            run(&mut hoop(folder.path(), &[command, "--config", "no.yaml"])).await;
        assert_eq!(code, 64);
        assert!(
            said.contains("no.yaml: cannot read the configuration"),
            "{said}"
        );
        let (code, ..) = run(&mut hoop(folder.path(), &[command, "--listen", "here"])).await;
        assert_eq!(code, 64);
    }
}

#[tokio::test]
async fn a_policy_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let explain = async |group: &str, method: &str| {
        let arguments = [
            "policy",
            "explain",
            "p.yaml",
            "--user",
            "jo",
            "--group",
            group,
            "--method",
            method,
            "--target",
            "/api/v1/namespaces/shop/pods",
        ];
        run(&mut hoop(folder.path(), &arguments)).await
    };
    let (code, text, _) = explain("readers", "GET").await;
    assert_eq!(
        (code, text.trim()),
        (0, "allow  list pods  by rule read of profile readers")
    );
    let (code, text, _) = explain("readers", "DELETE").await;
    assert_eq!(
        (code, text.trim()),
        (
            1,
            "deny  deletecollection pods  since no rule matches\n  pods is forbidden: User \"jo\" cannot deletecollection \
             resource \"pods\" in API group \"\" in the namespace \"shop\": no rule of the gateway's policy allows it\n  \
             not by rule read of profile readers in line 5: another verb"
        )
    );
    assert_eq!(explain("others", "GET").await.0, 1);
    let (code, text, _) = run(&mut hoop(folder.path(), &["policy", "check", "p.yaml"])).await;
    assert_eq!(code, 0);
    assert!(text.contains("1 profiles, 1 rules"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_the_policy_are_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let (_cluster, kubeconfig) = cluster(folder.path()).await;
    let there = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let webhooks = format!(
        "webhooks:\n- {{name: there, url: 'http://{}/'}}\n- {{name: gone, url: 'http://127.0.0.1:{}/'}}\n",
        there.local_addr().unwrap(),
        free_port()
    );
    std::fs::write(folder.path().join("p.yaml"), webhooks + POLICY).unwrap();
    let text = format!(
        "data: d\ngateway: {{listen: 127.0.0.1:{}}}\nadmin: {{listen: off}}\nupstream: {{kubeconfig: {}}}\npolicy: p.yaml\n",
        free_port(),
        kubeconfig.display()
    );
    std::fs::write(folder.path().join("hoop.yaml"), text).unwrap();
    let arguments = ["check", "--config", "hoop.yaml"];
    let (code, text, _) = run(&mut hoop(folder.path(), &arguments)).await;
    assert_eq!(code, 1);
    assert!(text.contains("there: http://127.0.0.1"), "{text}");
    assert!(text.contains("can be reached"), "{text}");
    assert!(text.contains("gone: http://127.0.0.1"), "{text}");
    assert!(text.contains("cannot be reached"), "{text}");
    assert!(text.contains("1 thing is wrong"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_encryption_of_content_is_made_sure_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, kubeconfig) = cluster(folder).await;
    let configure_with = |more: &str| {
        configure(folder, &kubeconfig);
        let file = folder.join("hoop.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}{more}")).unwrap();
    };
    let check = async || run(&mut hoop(folder, &["check", "--config", "hoop.yaml"])).await;
    let wanted = "retention: {short: {encrypt_bodies: true}}\n";
    configure_with(wanted);
    let (code, _, stderr) = check().await;
    assert_eq!(code, 64);
    assert!(stderr.contains("name one with encryption.keys"), "{stderr}");
    configure_with(&format!("{wanted}encryption: {{keys: d/evidence/keys}}\n"));
    let (code, _, stderr) = check().await;
    assert_eq!(code, 64);
    assert!(
        stderr.contains("in the same place as the evidence"),
        "{stderr}"
    );

    configure_with(&format!("{wanted}encryption: {{keys: d/keys}}\n"));
    let (code, text, _) = check().await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("cannot read the master key"), "{text}");
    let make = ["key", "master", "--config", "hoop.yaml"];
    let (code, made, _) = run(&mut hoop(folder, &make)).await;
    assert_eq!(code, 0, "{made}");
    let (code, again, _) = run(&mut hoop(folder, &make)).await;
    assert_eq!((code, &again), (0, &made), "it is made once");
    let (code, text, _) = check().await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("content of class short is encrypted"),
        "{text}"
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.join("d/master.key"), mode).unwrap();
    let (code, text, _) = check().await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("can be read by others: chmod 600"), "{text}");
}
