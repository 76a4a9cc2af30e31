//! The test bed: real servers and clients, built from their own sources on first use and kept in the user's cache.
//!
//! ```text
//! $XDG_CACHE_HOME/hoop-test-bed/          else ~/.cache/hoop-test-bed
//!   lock                                  held by the one process that builds
//!   kubernetes-<hash of its sources>/     testbed: etcd, kube-apiserver, kubectl … in one program
//!   kubectl-<version>/                    the oldest kubectl that is tried
//!   helm-<version>/                       helm
//!   tlogcheck-<hash of its sources>/      what proves transparency logs with Go's own implementation
//!   keycloak-<version>/                   Keycloak, unpacked
//!   minio-<version>/                      MinIO
//!   nats-server-<version>/                NATS with JetStream
//!   nats-<version>/                       its command line
//!   kafka-<version>/                      libraries of Kafka and its tools
//!   duckdb-<version>/, pyspark-<version>/ …  packages of Python
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
pub mod fault_proxy;
mod kafka;
mod keycloak;
mod minio;
mod nats;
mod nats_operator;
mod node;
mod process;
mod progress;

pub use api_server::ApiServer;
pub use clients::{Answer, Helm, Kubectl, Python, tlogcheck};
pub use fault_proxy::{Fault, FaultProxy};
pub use kafka::Kafka;
pub use keycloak::Keycloak;
pub use minio::Minio;
pub use nats::{Nats, NatsCluster, NatsIdentities, nats_client};
pub use nats_operator::NatsOperator;
pub use node::{IMAGE, LATER_IMAGE, NODE, Node};
pub use process::{Run, Server, free_port};

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A part of the test bed that a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// etcd, kube-apiserver and kubectl.
    Kubernetes,
    /// NATS.
    Nats,
    /// A kubelet that runs pods.
    Node,
    /// helm.
    Helm,
    /// The reference tools of transparency logs.
    Tlog,
    /// Keycloak, and a browser in Python.
    Keycloak,
    /// MinIO.
    Minio,
    /// Python with packages of its own.
    Python,
    /// Kafka.
    Kafka,
    /// Spark, and the Java it runs on.
    Spark,
    /// A library that gives a process another time: [`libfaketime`].
    Faketime,
}

/// `libfaketime`, where the packages of distributions put it.
pub fn libfaketime() -> Option<PathBuf> {
    let folders = [
        "x86_64-linux-gnu/faketime",
        "aarch64-linux-gnu/faketime",
        "faketime",
    ];
    let mut places = folders.iter().flat_map(|folder| {
        ["/usr/lib", "/usr/lib64"].map(|lib| Path::new(lib).join(folder).join("libfaketimeMT.so.1"))
    });
    places.find(|file| file.exists())
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
            Self::Kubernetes | Self::Helm | Self::Minio | Self::Nats | Self::Tlog => {
                (!runs("go", &["version"])).then_some("Go is not on the PATH")
            }
            Self::Node => node::lacking(),
            Self::Keycloak => (!runs("java", &["-version"])
                || !runs("mvn", &["--version"])
                || !runs("python3", &["--version"]))
            .then_some("Java 17 with Maven, and Python 3, are not on the PATH"),
            Self::Kafka => (!runs("java", &["-version"]) || !runs("mvn", &["--version"]))
                .then_some("Java 17 with Maven is not on the PATH"),
            Self::Spark => (!runs("java", &["-version"])
                || !runs("python3", &["-m", "pip", "--version"]))
            .then_some("Java 17, and Python 3 with pip, are not on the PATH"),
            Self::Faketime => libfaketime()
                .is_none()
                .then_some("libfaketime is not installed"),
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
