//! A real node: a kubelet on a containerd of its own, with the scheduler and the controllers, so that pods run.
//!
//! It needs root and Linux: a bridge is the node's address and the network of its pods, and containers want cgroups and
//! mounts. No image is pulled: the one there is holds a static busybox. What belongs to a node is found again by its
//! folder and its bridge, and [`clear`] takes all of it away, also after a run that was killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::api_server::ApiServer;
use super::cache;
use super::process::{Run, Server, free_port};

mod image;
mod network;
mod remains;

pub(crate) use remains::{clear, holds_mounts};

use network::Bridge;

/// The image for pods: busybox, an entry point that sleeps, and what `httpd -h /www` serves.
pub const IMAGE: &str = "hoop.test/busybox:1";

/// The same image under a later tag, for roll-outs.
pub const LATER_IMAGE: &str = "hoop.test/busybox:2";

/// The same image once more, for the sandbox of every pod.
const SANDBOX_IMAGE: &str = "hoop.test/sandbox:1";

/// The name of the node.
pub const NODE: &str = "node-1";

/// The folder of a node within that of its run.
const FOLDER: &str = "node";

/// How long a part may take until it is ready: seconds on an idle machine, and ten times as long on a busy one.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How often a part is asked whether it is ready.
const READY_ASKED_EVERY: Duration = Duration::from_millis(200);

/// A running node. Dropping it takes everything away that it made.
#[derive(Debug)]
pub struct Node {
    // Ended in this order.
    _kubelet: Server,
    _scheduler: Server,
    _controllers: Server,
    _containerd: Server,
    _remains: Remains,
}

/// Takes away what a node left, when everything of it that runs has been ended.
#[derive(Debug)]
struct Remains(PathBuf);

impl Drop for Remains {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

impl Node {
    /// Starts a node of this API server and waits until pods can be created on it.
    ///
    /// # Errors
    /// When a part does not get ready; with the end of what it said.
    pub fn start(run: &Run, server: &ApiServer) -> Result<Self> {
        let folder = folder_in(run.folder());
        cache::create(&folder)?;
        let remains = Remains(folder.clone());
        let bridge = Bridge::create(&folder)?;
        let containerd = start_containerd(run, &folder, &bridge)?;
        let controllers = start_controllers(run, server)?;
        let scheduler = start_scheduler(run, server)?;
        let kubelet = start_kubelet(run, server, &folder, &bridge)?;
        let node = Self {
            _kubelet: kubelet,
            _scheduler: scheduler,
            _controllers: controllers,
            _containerd: containerd,
            _remains: remains,
        };
        let log = run.folder().join("kubelet.log");
        until("the node", &log, || {
            let wait = [
                "wait",
                "--for=condition=Ready",
                "--timeout=1s",
                &format!("node/{NODE}"),
            ];
            Ok(server.kubectl().run(&wait)?.success)
        })?;
        Ok(node)
    }
}

/// What this machine lacks for a node, if anything.
pub(crate) fn lacking() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("a node needs Linux");
    }
    if !rustix::process::geteuid().is_root() {
        return Some("a node needs root");
    }
    let works = |program: &str, arguments: &[&str]| {
        let mut command = tool(program);
        command.args(arguments);
        command.output().is_ok_and(|output| output.status.success())
    };
    let missing = [
        (
            works("containerd", &["--version"]),
            "containerd is not on the PATH",
        ),
        (works("runc", &["--version"]), "runc is not on the PATH"),
        (works("ip", &["-V"]), "ip (iproute2) is not on the PATH"),
        (
            image::busybox().is_some(),
            "there is no static busybox on the PATH",
        ),
        (
            network::plugins().is_some(),
            "the CNI plugins are not installed",
        ),
        (
            works("unshare", &["--net", "--mount", "true"]),
            "namespaces cannot be made here",
        ),
    ];
    missing
        .into_iter()
        .find_map(|(there, reason)| (!there).then_some(reason))
}

/// The folder of a node within that of its run.
pub(crate) fn folder_in(run: &Path) -> PathBuf {
    run.join(FOLDER)
}

/// A program of the system; some of them are where only root looks.
fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin"));
    command
}

/// Runs a program of the system to its end.
fn run_tool(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn until(what: &str, log: &Path, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !ready()? {
        if begun.elapsed() > READY_WITHIN {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(20)..].join("\n");
            bail!("{what} did not get ready; the end of its log:\n{end}");
        }
        std::thread::sleep(READY_ASKED_EVERY);
    }
    Ok(())
}

fn start_containerd(run: &Run, folder: &Path, bridge: &Bridge) -> Result<Server> {
    let socket = folder.join("containerd.sock");
    let configuration = folder.join("containerd.toml");
    let plugins = network::plugins().context("the CNI plugins are not installed")?;
    // With the score left as it is, a container of somebody who may not lower it fails to start.
    let text = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\n[grpc]\naddress = {socket:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true\nsandbox_image = {SANDBOX_IMAGE:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {plugins:?}\nconf_dir = {network:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n",
        root = folder.join("containerd"),
        state = folder.join(remains::STATE),
        network = bridge.configuration(),
    );
    std::fs::write(&configuration, text)?;
    let mut command = tool("containerd");
    command.arg("--config").arg(&configuration);
    let server = Server::start(run, "containerd", &mut command)?;
    let ctr = || {
        let mut command = tool("ctr");
        command.arg("--address").arg(&socket);
        command
    };
    let log = run.folder().join("containerd.log");
    until("containerd", &log, || {
        Ok(ctr().arg("version").output()?.status.success())
    })?;
    let archive = image::make(folder, &[IMAGE, LATER_IMAGE, SANDBOX_IMAGE])?;
    let mut import = ctr();
    import
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive);
    run_tool(&mut import)?;
    Ok(server)
}

fn start_controllers(run: &Run, server: &ApiServer) -> Result<Server> {
    let user = "system:kube-controller-manager";
    let kubeconfig = server.kubeconfig("controllers", user, None)?;
    let (authority, key) = server.authority_files();
    let mut command = server.component("kube-controller-manager");
    command
        .arg(option("kubeconfig", &kubeconfig))
        .arg(option("root-ca-file", &authority))
        .arg(option("cluster-signing-cert-file", &authority))
        .arg(option("cluster-signing-key-file", &key))
        .arg(option(
            "service-account-private-key-file",
            &server.service_account_key(),
        ))
        .args([
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials=true",
        ]);
    Server::start(run, "kube-controller-manager", &mut command)
}

fn start_scheduler(run: &Run, server: &ApiServer) -> Result<Server> {
    let kubeconfig = server.kubeconfig("scheduler", "system:kube-scheduler", None)?;
    let mut command = server.component("kube-scheduler");
    command
        .arg(option("kubeconfig", &kubeconfig))
        .args(["--leader-elect=false", "--secure-port=0"]);
    Server::start(run, "kube-scheduler", &mut command)
}

fn start_kubelet(run: &Run, server: &ApiServer, folder: &Path, bridge: &Bridge) -> Result<Server> {
    let user = format!("system:node:{NODE}");
    let kubeconfig = server.kubeconfig("kubelet", &user, Some("system:nodes"))?;
    let configuration = folder.join("kubelet.json");
    std::fs::write(
        &configuration,
        kubelet_configuration(server, folder, bridge)?,
    )?;
    let mut command = server.component("kubelet");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin"))
        .arg(option("config", &configuration))
        .arg(option("kubeconfig", &kubeconfig))
        .arg(option("root-dir", &folder.join("kubelet")))
        .arg(option("cert-dir", &folder.join("kubelet-certificates")))
        .arg(format!("--hostname-override={NODE}"))
        .arg(format!("--node-ip={}", bridge.address()));
    Server::start(run, "kubelet", &mut command)
}

/// What makes a kubelet run on any machine: no cgroups of its own, no swap or disk that is too small for it.
fn kubelet_configuration(server: &ApiServer, folder: &Path, bridge: &Bridge) -> Result<String> {
    let socket = folder.join("containerd.sock");
    let configuration = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": bridge.address(),
        "port": free_port()?,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": server.authority_files().0},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "podLogsDir": folder.join("logs"),
        "volumePluginDir": folder.join("volume-plugins"),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "localStorageCapacityIsolation": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "nodefs.available": "0%",
            "imagefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "memory.available": "1Mi",
        },
        "maxPods": 200,
        "registryPullQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    });
    Ok(configuration.to_string())
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
