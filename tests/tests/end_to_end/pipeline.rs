//! The pipeline under test: `hoop up`, or a part of it, as a process of its own, in front of some cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hoop_proxy::sample_cluster::SampleCluster;
use hoop_tests::testbed::{Answer, ApiServer, Kubectl, Run, Server, libfaketime};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client;
use crate::log::{self, Records};

/// How long `hoop up` may take until it serves; it takes a second, and longer on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often something is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What is behind the gateway.
pub(crate) enum Cluster<'a> {
    /// The real API server.
    Real(&'a ApiServer),
    /// The sample cluster, in this process.
    Sample,
}

/// A `hoop up` and its data.
pub(crate) struct Pipeline {
    name: String,
    /// The command: `up`, `proxy` or `recorder`.
    part: &'static str,
    folder: PathBuf,
    program: Option<Server>,
    /// kubectl of the test bed, where there is one.
    kubectl: Option<Kubectl>,
    _sample: Option<(SampleCluster, Runtime)>,
    run: Arc<Run>,
    /// How much later its clock is than it should be, as `libfaketime` reads it.
    clock: Option<&'static str>,
}

/// The program under test: the same `main.rs` as the program `hoop`, built beside the tests so that it cannot be an
/// old one.
pub(crate) fn hoop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-hoop"));
    command
        .env_remove("HOOP_DATA")
        .env("NO_COLOR", "1")
        // Tests of the cache say where it is; all others leave nothing behind.
        .env("HOOP_REPLAY_CACHE", "off");
    command
}

impl Pipeline {
    /// Starts `hoop up` in front of `cluster`, in a folder of its own, and waits until it serves.
    pub(crate) fn start(run: Arc<Run>, name: &str, cluster: Cluster<'_>) -> Result<Self> {
        let files = [("hoop.yaml", CONFIGURATION), ("policy.yaml", POLICY)];
        Self::start_with(run, name, cluster, &files)
    }

    /// The same with these files in its folder: `hoop.yaml`, and what that names.
    pub(crate) fn start_with(
        run: Arc<Run>,
        name: &str,
        cluster: Cluster<'_>,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_part(run, name, "up", cluster, files)
    }

    /// The same with only a part of the pipeline, `proxy` or `recorder`.
    pub(crate) fn start_part(
        run: Arc<Run>,
        name: &str,
        part: &'static str,
        cluster: Cluster<'_>,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = run.folder().join(format!("pipeline-{name}"));
        fs::create_dir_all(&folder)?;
        let upstream = folder.join("upstream.kubeconfig");
        let mut sample = None;
        let mut kubectl = None;
        match cluster {
            Cluster::Real(server) => {
                fs::copy(server.gateway_kubeconfig(), &upstream)?;
                kubectl = Some(server.kubectl());
            }
            Cluster::Sample => {
                let runtime = Runtime::new()?;
                let started = runtime.block_on(SampleCluster::start())?;
                fs::write(&upstream, started.kubeconfig()?)?;
                sample = Some((started, runtime));
            }
        }
        for (name, text) in files {
            fs::write(folder.join(name), text)?;
        }
        let mut pipeline = Self {
            name: format!("hoop-{name}"),
            part,
            folder,
            program: None,
            kubectl,
            _sample: sample,
            run,
            clock: None,
        };
        pipeline.start_again()?;
        Ok(pipeline)
    }

    /// Starts `hoop up` on the data that is there, and waits until it serves.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let mut command = hoop();
        command
            .args([self.part, "--config"])
            .arg(self.folder.join("hoop.yaml"))
            .arg("--data")
            .arg(self.data());
        if let Some(ahead) = self.clock {
            let library = libfaketime().context("libfaketime is installed")?;
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME", ahead)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut program = Server::start(&self.run, &self.name, &mut command)?;
        let begun = Instant::now();
        let banner = match self.part {
            "recorder" => "hoop records",
            _ => "hoop is up: ",
        };
        while !program.log().contains(banner) {
            if !program.runs() || begun.elapsed() > READY_WITHIN {
                bail!("{} did not get ready:\n{}", self.name, program.log());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.program = Some(program);
        Ok(())
    }

    /// From its next start on, its clock is that much ahead of everybody else's: `+1h`.
    pub(crate) fn set_clock(&mut self, ahead: &'static str) {
        self.clock = Some(ahead);
    }

    /// What it said since it was started.
    pub(crate) fn said(&self) -> String {
        self.program.as_ref().map(Server::log).unwrap_or_default()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
    }

    /// Asks it to end, and makes sure that it says it did so in order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut program = self.program.take().context("it does not run")?;
        let status = program.terminate()?;
        ensure!(status.success(), "{status}:\n{}", program.log());
        Ok(())
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A folder for whatever else the test needs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it serves, and who certifies it.
    pub(crate) fn gateway(&self) -> Result<(String, PathBuf)> {
        let config = Kubeconfig::read_from(self.kubeconfig("alice"))?;
        let cluster = config.clusters.first().and_then(|c| c.cluster.as_ref());
        let server = cluster.and_then(|cluster| cluster.server.clone());
        let server = server.context("the kubeconfig names a server")?;
        Ok((server, self.data().join("ca/ca.crt")))
    }

    /// The kubeconfig that `hoop up` wrote for a person.
    pub(crate) fn kubeconfig(&self, person: &str) -> PathBuf {
        self.data()
            .join("kubeconfigs")
            .join(format!("{person}.kubeconfig"))
    }

    /// kubectl as a person.
    pub(crate) fn kubectl(&self, person: &str) -> Result<Kubectl> {
        let kubectl = self
            .kubectl
            .as_ref()
            .context("kubectl comes with the real API server")?;
        Ok(kubectl.with_kubeconfig(&self.kubeconfig(person), &self.folder.join("home")))
    }

    /// kubectl that shows the gateway this bearer token and nothing else.
    pub(crate) fn kubectl_with_token(&self, token: &str) -> Result<Kubectl> {
        let mut config = Kubeconfig::read_from(self.kubeconfig("alice"))?;
        for user in &mut config.auth_infos {
            user.auth_info = Some(serde_json::from_value(json!({"token": token}))?);
        }
        let path = self.folder.join("token.kubeconfig");
        fs::write(&path, serde_json::to_string(&config)?)?;
        let kubectl = self.kubectl.as_ref();
        let kubectl = kubectl.context("kubectl comes with the real API server")?;
        Ok(kubectl.with_kubeconfig(&path, &self.folder.join("home")))
    }

    /// Makes `count` requests as a person and returns their audit ids.
    pub(crate) fn work(&self, person: &str, count: usize) -> Result<Vec<String>> {
        let kubeconfig = self.kubeconfig(person);
        client::block_on(async { client::work(&kubeconfig, count).await })
    }

    /// Runs `hoop-replay ARGUMENTS` on the data.
    pub(crate) fn replay(&self, arguments: &[&str]) -> Result<Answer> {
        let mut command = hoop();
        command
            .args(["replay", "--data"])
            .arg(self.data())
            .args(arguments);
        Answer::of(&mut command, "")
    }

    /// All records of the log, which keeps them for longer than a test takes.
    pub(crate) fn records(&self) -> Result<Records> {
        client::block_on(async { log::records(&self.data().join("log")).await })
    }

    /// The events in the log that `wanted` picks.
    pub(crate) fn events(&self, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for record in self.records()?.values() {
            let event: Value = serde_json::from_str(record)?;
            if wanted(&event) {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// The intents and outcomes about a namespace that `wanted` picks.
    pub(crate) fn events_of(
        &self,
        namespace: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>> {
        self.events(|event| {
            event["request"]["object_ref"]["namespace"] == namespace && wanted(event)
        })
    }
}

/// Files are committed often, so that tests see both them and the tail of the log.
pub(crate) const CONFIGURATION: &str = "
cluster: test
gateway: {listen: 127.0.0.1:0, drain_timeout: 2s}
admin: {listen: off}
upstream: {kubeconfig: upstream.kubeconfig}
policy: policy.yaml
recorder: {flush_age: 2s}
people:
- {name: alice, groups: [platform]}
- {name: bob, groups: [developers]}
- {name: carol, groups: [outsiders]}
- {name: dave, groups: [platform]}
";

/// Who may do what in these tests. Namespaces of tests are named after them.
pub(crate) const POLICY: &str = r#"
profiles:
- name: trusted
  subjects: {users: [dave]}
  rules:
  - name: everything-as-it-is
    effect: allow
    apiGroups: ["*"]
    resources: ["*"]
    verbs: ["*"]
    mask: none
  - name: paths
    effect: allow
    nonResourceURLs: ["*"]
    verbs: ["*"]
  - name: as-others
    effect: allow
    impersonate: {users: [somebody], serviceAccounts: ["twin-b:robot"]}
- name: platform
  subjects: {groups: [platform]}
  rules:
  - name: helm-reads-its-releases
    effect: allow
    apiGroups: [""]
    resources: [secrets]
    verbs: ["*"]
    namespaces: ["helm-*"]
    mask: none
  - name: everything
    effect: allow
    apiGroups: ["*"]
    resources: ["*"]
    verbs: ["*"]
  - name: paths
    effect: allow
    nonResourceURLs: ["*"]
    verbs: [get]
- name: developers
  subjects: {groups: [developers]}
  rules:
  - name: nobody-reads-these
    effect: deny
    apiGroups: ["*"]
    resources: ["*"]
    verbs: ["*"]
    namespaces: [forbidden]
  - name: read
    effect: allow
    apiGroups: ["*"]
    resources: ["*"]
    verbs: [get, list, watch]
- name: outsiders
  subjects: {groups: [outsiders]}
  rules:
  - name: read
    effect: allow
    apiGroups: ["*"]
    resources: ["*"]
    verbs: [get, list, watch]
"#;
