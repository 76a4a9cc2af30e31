//! What a node leaves when its servers were ended, and how that is taken away: containers and their shims, mounts,
//! network namespaces, control groups, the bridge.
//!
//! Everything is found by the node's folder, so that a later run can do it as well. Nothing is asked of containerd: it
//! may be gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::network::name_of_bridge;
use super::tool;

/// The folder of containerd's state within that of the node.
pub(crate) const STATE: &str = "containerd-state";

/// Where runc keeps the state of the containers of Kubernetes, whatever the folder of their containerd.
const RUNC: &str = "/run/containerd/runc/k8s.io";

/// Where the CNI library keeps what it did.
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// How deep below it those of containers are looked for: the kind in version 1, the namespace, the container.
const CONTROL_GROUPS_DEPTH: usize = 3;

/// How long processes that were killed may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Takes away what the node in `folder` left. Everything is tried, and what does not work is left for the next time.
pub(crate) fn clear(folder: &Path) {
    if !folder.exists() {
        return;
    }
    end_containers(&folder.join("containerd.sock"));
    let containers = containers(folder);
    if let Some(bridge) = name_of_bridge(folder) {
        clear_network(&bridge, &containers);
    }
    for mount in mounts_below(folder) {
        tool("umount").arg("--lazy").arg(mount).output().ok();
    }
    for container in &containers {
        fs::remove_dir_all(Path::new(RUNC).join(container)).ok();
    }
    clear_control_groups(Path::new(CONTROL_GROUPS), CONTROL_GROUPS_DEPTH, &containers);
}

/// Whether something is mounted below a folder, so that it must not be removed.
pub(crate) fn holds_mounts(folder: &Path) -> bool {
    !mounts_below(folder).is_empty()
}

/// Kills the shims of this containerd and what runs under them, and waits until they are gone.
fn end_containers(socket: &Path) {
    let processes = processes();
    let shims: BTreeSet<_> = processes
        .iter()
        .filter(|p| p.is_shim_of(socket))
        .map(|p| p.id)
        .collect();
    let ours: Vec<_> = processes
        .iter()
        .filter(|p| shims.contains(&p.id) || shims.contains(&p.parent))
        .map(|p| p.id)
        .collect();
    for pid in ours.iter().filter_map(|id| Pid::from_raw(*id)) {
        kill_process(pid, Signal::KILL).ok();
    }
    let begun = Instant::now();
    while begun.elapsed() < GONE_WITHIN && ours.iter().any(|id| lives(*id)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Process {
    id: i32,
    parent: i32,
    arguments: Vec<Vec<u8>>,
}

impl Process {
    fn is_shim_of(&self, socket: &Path) -> bool {
        let is_shim = self
            .arguments
            .first()
            .is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"));
        let socket = socket.as_os_str().as_encoded_bytes();
        is_shim
            && self
                .arguments
                .windows(2)
                .any(|pair| pair[0] == b"-address" && pair[1] == socket)
    }
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        Some(Process {
            id,
            parent: stat(id)?.1,
            arguments: arguments.split(|b| *b == 0).map(<[u8]>::to_vec).collect(),
        })
    })
    .collect()
}

/// The state and the parent of a process.
fn stat(id: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program comes second, in parentheses, and may hold anything.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Whether a process still does something: one that only waits to be asked for its end does not.
fn lives(id: i32) -> bool {
    stat(id).is_some_and(|(state, _)| state != 'Z')
}

/// The ids of all containers that containerd knew when it was ended, and removes the sockets of their shims.
fn containers(folder: &Path) -> BTreeSet<String> {
    let tasks = folder
        .join(STATE)
        .join("io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(tasks) else {
        return BTreeSet::new();
    };
    let mut ids = BTreeSet::new();
    for entry in entries.flatten() {
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if let Some(socket) = address.strip_prefix("unix://") {
            fs::remove_file(socket).ok();
        }
        ids.extend(entry.file_name().to_str().map(str::to_owned));
    }
    ids
}

/// Removes the network namespaces of pods and the bridge that their interfaces hang on.
fn clear_network(bridge: &str, containers: &BTreeSet<String>) {
    let results = fs::read_dir(CNI_RESULTS);
    for entry in results.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_bridge = name.starts_with(&format!("{bridge}-"));
        let of_loopback = containers.iter().any(|id| name.contains(id.as_str()));
        if !of_bridge && !of_loopback {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some(namespace) = network_namespace(&text) {
            tool("ip")
                .args(["netns", "delete", &namespace])
                .output()
                .ok();
        }
        fs::remove_file(entry.path()).ok();
    }
    tool("ip").args(["link", "delete", bridge]).output().ok();
}

/// The name of the network namespace in what the CNI library kept.
fn network_namespace(result: &str) -> Option<String> {
    let result: serde_json::Value = serde_json::from_str(result).ok()?;
    let interfaces = result["result"]["interfaces"].as_array()?;
    let path = interfaces.iter().find_map(|interface| {
        interface["sandbox"]
            .as_str()
            .filter(|path| !path.is_empty())
    })?;
    let name = Path::new(path).file_name()?.to_str()?;
    Some(name.to_owned())
}

/// Everything that is mounted below a folder, what is mounted on another mount first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut below: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(folder))
        .collect();
    below.sort();
    below.reverse();
    below
}

/// Removes the control groups that are named after these containers.
fn clear_control_groups(folder: &Path, depth: usize, containers: &BTreeSet<String>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if containers.contains(&name) {
            fs::remove_dir(entry.path()).ok();
        } else if depth > 1 {
            clear_control_groups(&entry.path(), depth - 1, containers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shims_of_this_containerd_are_ended() {
        let process = |arguments: &[&str]| Process {
            id: 1,
            parent: 0,
            arguments: arguments.iter().map(|a| a.as_bytes().to_vec()).collect(),
        };
        let socket = Path::new("/run/test/containerd.sock");
        let shim = "/usr/bin/containerd-shim-runc-v2";
        assert!(
            process(&[shim, "-id", "a", "-address", "/run/test/containerd.sock"])
                .is_shim_of(socket)
        );
        assert!(!process(&[shim, "-id", "a", "-address", "/run/other.sock"]).is_shim_of(socket));
        assert!(!process(&["cat", "-address", "/run/test/containerd.sock"]).is_shim_of(socket));
        assert!(!process(&[]).is_shim_of(socket));
    }

    #[test]
    fn the_network_namespace_of_a_pod_is_found_in_what_the_plugins_kept() {
        let result = r#"{"result":{"interfaces":[{"name":"hoop-tb-1"},{"name":"eth0","sandbox":"/var/run/netns/cni-1"}]}}"#;
        assert_eq!(network_namespace(result).as_deref(), Some("cni-1"));
        assert_eq!(network_namespace("no JSON"), None);
        assert_eq!(network_namespace(r#"{"result":{}}"#), None);
    }
}
