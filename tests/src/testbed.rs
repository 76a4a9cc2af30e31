//! The test bed: real servers and clients, built from their own sources on first use and kept in the user's cache.
//!
//! ```text
//! $XDG_CACHE_HOME/hoop-test-bed/          else ~/.cache/hoop-test-bed
//!   lock                                  held by the one process that builds
//!   kubernetes-<hash of its sources>/     testbed: etcd, kube-apiserver, kubectl … in one program
//!   kubectl-<version>/                    the oldest kubectl that is tried
//!   helm-<version>/                       helm
//!   keycloak-<version>/                   Keycloak, unpacked
//!   duckdb-<version>/, kubernetes-<version of the Python client>/
//!   runs/<process id>-<start>/            state of one test run: data, certificates, logs, process ids
//! ```
//! Promise: nothing of a test run outlives it. A server holds a pipe to its test run and ends with it; whatever is
//! left all the same, the next run finds by process id and start time, ends and removes. Every server listens on a
//! free port of the loopback interface and needs no privileges, apart from a node; several runs may go on at once.

mod api_server;
mod build;
mod cache;
mod certificates;
mod clients;
mod keycloak;
mod node;
mod process;
mod progress;

pub use api_server::ApiServer;
pub use clients::{Answer, Helm, Kubectl, Python};
pub use keycloak::Keycloak;
pub use node::{IMAGE, LATER_IMAGE, NODE, Node};
pub use process::{Run, Server, free_port};

use std::process::{Command, Stdio};

/// A part of the test bed that a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// etcd, kube-apiserver and kubectl.
    Kubernetes,
    /// A kubelet that runs pods.
    Node,
    /// helm.
    Helm,
    /// Keycloak, and a browser in Python.
    Keycloak,
    /// Python with packages of its own.
    Python,
}

impl Need {
    /// What this machine lacks for it, if anything.
    pub fn lacking(self) -> Option<&'static str> {
        let runs = |program: &str, argument: &[&str]| {
            Command::new(program)
                .args(argument)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        match self {
            Self::Kubernetes | Self::Helm => {
                (!runs("go", &["version"])).then_some("Go is not on the PATH")
            }
            Self::Node => node::lacking(),
            Self::Keycloak => (!runs("java", &["-version"])
                || !runs("mvn", &["--version"])
                || !runs("python3", &["--version"]))
            .then_some("Java 17 with Maven, and Python 3, are not on the PATH"),
            Self::Python => (!runs("python3", &["-m", "pip", "--version"]))
                .then_some("Python 3 with pip is not on the PATH"),
        }
    }
}

/// Whether a missing part is a failure and not a reason to skip: `CI` or `HOOP_TEST_BED=required` is set.
pub fn required() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    set("CI").is_some_and(|v| v != "false") || set("HOOP_TEST_BED").is_some_and(|v| v == "required")
}
