//! The gateway's own rights in the cluster: what `hoop policy rbac` writes is what `hoop check` asks for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use hoop_tests::testbed::{Answer, ApiServer, Need};
use kube::config::Kubeconfig;
use serde_json::json;

use crate::harness::{Test, api_server, tests, this_run};
use crate::pipeline::hoop;

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes];
        what_the_policy_needs_is_written_granted_and_found,
    ]
}

const POLICY: &str = r#"
profiles:
- name: people
  subjects: {users: [alice, bob], groups: [platform], serviceAccounts: ["NAMESPACE:robot"]}
  rules:
  - {name: read, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch]}
  - {name: as-jane, effect: allow, impersonate: {users: [jane], extra: ["ticket=*"]}}
"#;

/// `hoop check` with this credential, and what it says.
fn check(folder: &Path, kubeconfig: &Path) -> Result<(bool, String)> {
    fs::write(
        folder.join("hoop.yaml"),
        format!(
            "gateway: {{listen: 127.0.0.1:0}}\nadmin: {{listen: off}}\npolicy: policy.yaml\nauthentication: \
             {{service_accounts: token_review}}\nupstream: {{kubeconfig: {}}}\n",
            kubeconfig.display()
        ),
    )?;
    let mut command = hoop();
    command
        .arg("check")
        .arg("--config")
        .arg(folder.join("hoop.yaml"));
    command
        .arg("--data")
        .arg(folder.join("data"))
        .current_dir(folder);
    let answer = Answer::of(&mut command, "")?;
    Ok((answer.success, answer.stdout))
}

/// A kubeconfig of the service account `gateway`.
fn kubeconfig(server: &ApiServer, namespace: &str, folder: &Path) -> Result<PathBuf> {
    let token = ["-n", namespace, "create", "token", "gateway"];
    let token = server.kubectl().run(&token)?.expect_success()?;
    let mut config = Kubeconfig::read_from(server.gateway_kubeconfig())?;
    for user in &mut config.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({"token": token.trim()}))?);
    }
    let path = folder.join("gateway.kubeconfig");
    fs::write(&path, serde_json::to_string(&config)?)?;
    Ok(path)
}

fn what_the_policy_needs_is_written_granted_and_found() -> Result<()> {
    let server = api_server()?;
    let namespace = server.namespace("rights")?;
    let folder: PathBuf = this_run()?.folder().join("rights");
    fs::create_dir_all(&folder)?;
    let policy = POLICY.replace("NAMESPACE", &namespace);
    fs::write(folder.join("policy.yaml"), &policy)?;
    let kubectl = server.kubectl();
    let create = ["-n", &namespace, "create", "serviceaccount", "gateway"];
    kubectl.run(&create)?.expect_success()?;
    let kubeconfig = kubeconfig(&server, &namespace, &folder)?;
    let account = format!("{namespace}:gateway");

    // Without any rights.
    let (well, said) = check(&folder, &kubeconfig)?;
    ensure!(!well, "{said}");
    for right in [
        r#"impersonate users "alice""#.to_owned(),
        r#"impersonate users "jane""#.to_owned(),
        r#"impersonate groups "platform""#.to_owned(),
        format!(r#"impersonate serviceaccounts "robot" in the namespace "{namespace}""#),
        "impersonate userextras/ticket".to_owned(),
        "create tokenreviews".to_owned(),
        format!("policy.yaml --service-account {account} | kubectl apply -f -"),
    ] {
        ensure!(said.contains(&right), "{right} is missing in\n{said}");
    }

    // With those that are written for the policy: enough, and not more than that.
    let grant = || -> Result<()> {
        let mut rbac = hoop();
        rbac.args([
            "policy",
            "rbac",
            "--name",
            "rights-gateway",
            "--service-account",
            &account,
        ]);
        let roles = Answer::of(rbac.arg(folder.join("policy.yaml")), "")?.expect_success()?;
        kubectl.apply(&roles)?;
        Ok(())
    };
    grant()?;
    let (well, said) = check(&folder, &kubeconfig)?;
    ensure!(
        well && said.contains("has the 8 rights that the policy needs"),
        "{said}"
    );
    ensure!(
        said.contains("may act only as users that its role names"),
        "{said}"
    );
    ensure!(!said.contains("good for a try"), "{said}");

    // A policy that has grown.
    let grown = policy.replace("[platform]", "[platform, night-shift]");
    fs::write(folder.join("policy.yaml"), grown)?;
    let (well, said) = check(&folder, &kubeconfig)?;
    ensure!(
        !well && said.contains(r#"impersonate groups "night-shift""#),
        "{said}"
    );
    ensure!(!said.contains("alice"), "{said}");
    grant()?;
    let (well, said) = check(&folder, &kubeconfig)?;
    ensure!(well, "{said}");

    let (well, said) = check(&folder, &server.admin_kubeconfig())?;
    ensure!(
        well && said.contains("may do everything in the cluster: good for a try"),
        "{said}"
    );
    Ok(())
}
