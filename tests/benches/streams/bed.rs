//! A cluster with a node and one pod, and `hoop up` in front of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hoop_tests::testbed::{ApiServer, IMAGE, Kubectl, Node, Run, Server};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Everything is allowed, and recorded as it is by default.
const POLICY: &str = r#"
profiles:
- name: everybody
  subjects: {users: [alice]}
  rules:
  - {name: everything, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
  - {name: paths, effect: allow, nonResourceURLs: ["*"], verbs: ["*"]}
"#;

const CONFIGURATION: &str = "
cluster: bench
gateway: {listen: 127.0.0.1:0}
admin: {listen: off}
upstream: {kubeconfig: upstream.kubeconfig}
policy: policy.yaml
people: [{name: alice, groups: [platform]}]
";

/// How long `hoop up` may take until it serves.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The pod of all measurements.
pub(crate) const POD: &str = "work";

/// Its namespace.
pub(crate) const NAMESPACE: &str = "default";

/// Everything that runs.
pub(crate) struct Bed {
    // Ended in this order.
    hoop: Server,
    _node: Node,
    server: ApiServer,
    folder: PathBuf,
    _run: Run,
}

impl Bed {
    pub(crate) fn start() -> Result<Self> {
        let run = Run::begin()?;
        let server = ApiServer::start(&run, "kubernetes")?;
        let node = Node::start(&run, &server)?;
        server.kubectl().apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {POD}, namespace: {NAMESPACE}}}, spec: {{containers: \
             [{{name: main, image: '{IMAGE}', command: [sh, -c, 'sleep 100000']}}], restartPolicy: Never}}}}"
        ))?;
        let wait = [
            "-n",
            NAMESPACE,
            "wait",
            "pod",
            POD,
            "--for=condition=Ready",
            "--timeout=60s",
        ];
        server.kubectl().run(&wait)?.expect_success()?;
        let folder = run.folder().join("hoop");
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(
            server.gateway_kubeconfig(),
            folder.join("upstream.kubeconfig"),
        )?;
        std::fs::write(folder.join("hoop.yaml"), CONFIGURATION)?;
        std::fs::write(folder.join("policy.yaml"), POLICY)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-hoop"));
        command
            .env("NO_COLOR", "1")
            .args(["up", "--config"])
            .arg(folder.join("hoop.yaml"))
            .arg("--data")
            .arg(folder.join("data"));
        let mut hoop = Server::start(&run, "hoop", &mut command)?;
        let begun = Instant::now();
        while !hoop.log().contains("hoop is up: ") {
            let waits = hoop.runs() && begun.elapsed() < READY_WITHIN;
            ensure!(waits, "hoop did not get ready:\n{}", hoop.log());
            std::thread::sleep(Duration::from_millis(25));
        }
        Ok(Self {
            hoop,
            _node: node,
            server,
            folder,
            _run: run,
        })
    }

    /// The process of `hoop up`.
    pub(crate) fn hoop(&self) -> u32 {
        self.hoop.id()
    }

    /// How kubectl and other clients get to the API server, and how to the gateway.
    pub(crate) fn ways(&self) -> [Way; 2] {
        let gateway = self.folder.join("data/kubeconfigs/alice.kubeconfig");
        let direct = self.server.admin_kubeconfig();
        [("direct", direct), ("gateway", gateway)].map(|(name, kubeconfig)| Way {
            name,
            kubectl: self
                .server
                .kubectl()
                .with_kubeconfig(&kubeconfig, &self.folder.join(name)),
            kubeconfig,
        })
    }
}

/// One of two ways to the same API server.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) kubectl: Kubectl,
    kubeconfig: PathBuf,
}

impl Way {
    pub(crate) async fn client(&self) -> Result<kube::Client> {
        connect(&self.kubeconfig).await
    }
}

async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
