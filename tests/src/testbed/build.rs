//! Builds the servers and clients from their own package sources, once, into the cache.
//!
//! A build that was broken off goes on where it was: Go keeps every compiled package in a cache of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::cache;
use super::progress::Progress;

/// The folder of the Go module, and its files by name.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/kubernetes");
const MODULE_FILES: [(&str, &[u8]); 3] = [
    ("go.mod", include_bytes!("../../testbed/kubernetes/go.mod")),
    ("go.sum", include_bytes!("../../testbed/kubernetes/go.sum")),
    (
        "cmd/testbed/main.go",
        include_bytes!("../../testbed/kubernetes/cmd/testbed/main.go"),
    ),
];

/// The checker of transparency logs, and its files by name.
const TLOGCHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/tlog");
const TLOGCHECK_FILES: [(&str, &[u8]); 3] = [
    ("go.mod", include_bytes!("../../testbed/tlog/go.mod")),
    ("go.sum", include_bytes!("../../testbed/tlog/go.sum")),
    ("main.go", include_bytes!("../../testbed/tlog/main.go")),
];

/// The oldest kubectl that the tests try, as a folder of this package and its version.
const KUBECTL_OLDEST: (&str, &str) = (
    concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/kubectl-oldest"),
    "1.27.16",
);

/// The package whose variables say which version a Kubernetes program is.
const VERSION_PACKAGE: &str = "k8s.io/component-base/version";

/// helm, as a Go module.
const HELM: (&str, &str) = ("helm.sh/helm/v3/cmd/helm", "v3.22.0");

/// MinIO, as a Go module.
const MINIO: (&str, &str) = (
    "github.com/minio/minio",
    "v0.0.0-20260212201848-7aac2a2c5b7c",
);
/// NATS, as a Go module.
const NATS_SERVER: (&str, &str) = ("github.com/nats-io/nats-server/v2", "v2.15.2");

/// The command line of NATS, as a Go module.
const NATS_CLIENT: (&str, &str) = ("github.com/nats-io/natscli/nats", "v0.5.1");

/// Keycloak, as a Maven artefact, and the SHA-256 of its archive.
const KEYCLOAK_VERSION: &str = "26.4.0";
const KEYCLOAK_SHA256: &str = "9fe5f9213ecf83f24b53b27409f3e0f20e10edce36aaa0828778a57c80f07a87";

/// Kafka and its tools, as Maven artefacts: the version is that of the file.
const KAFKA_POM: &str = include_str!("../../testbed/kafka/pom.xml");
const KAFKA_VERSION: &str = "4.1.1";

/// What fetches artefacts from Maven's repositories.
const MAVEN_COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

/// What fetches an artefact with all that it needs.
const MAVEN_COPY_DEPENDENCIES: &str =
    "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Python packages: DuckDB, Arrow's readers of Parquet, Spark, what translates SQL between engines, and the clients of
/// Kubernetes, Kafka and NATS.
pub(crate) const DUCKDB: (&str, &str) = ("duckdb", "2.0.0");
pub(crate) const PYARROW: (&str, &str) = ("pyarrow", "26.0.1");
pub(crate) const PYSPARK: (&str, &str) = ("pyspark", "4.3.0");
pub(crate) const SQLGLOT: (&str, &str) = ("sqlglot", "30.30.0");
pub(crate) const PYTHON_KUBERNETES: (&str, &str) = ("kubernetes", "36.0.3");
pub(crate) const PYTHON_KAFKA: (&str, &str) = ("confluent-kafka", "2.16.1");
pub(crate) const PYTHON_NATS: (&str, &str) = ("nats-py", "2.16.0");

/// Lines of a compiler that are kept for the report of a failure.
const LINES_KEPT: usize = 30;

/// Lines that may wait while the screen is drawn.
const LINES_WAITING: usize = 256;

/// The program with etcd, kube-apiserver and kubectl in it.
pub(crate) fn kubernetes() -> Result<PathBuf> {
    let name = format!("kubernetes-{}", module_hash(&MODULE_FILES));
    let folder = cache::made_once(&name, |folder| {
        let mut list = go_in_module();
        list.args([
            "list",
            "-trimpath",
            "-deps",
            "-f",
            "{{if .Stale}}{{.ImportPath}}{{end}}",
            "./cmd/testbed",
        ]);
        let stale = run("fetching the sources of Kubernetes", 0, &mut list)?;
        let version = kubernetes_version()?;
        let mut build = go_in_module();
        build
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags"])
            .args([&version_flags(version), "-o"])
            .arg(folder.join("testbed"))
            .arg("./cmd/testbed");
        let parts = stale.lines().filter(|line| !line.is_empty()).count() as u64;
        run(
            "building Kubernetes (5 to 15 minutes the first time)",
            parts,
            &mut build,
        )?;
        Ok(())
    })?;
    Ok(folder.join("testbed"))
}

/// The oldest kubectl that the tests try.
pub(crate) fn kubectl_oldest() -> Result<PathBuf> {
    let (module, version) = KUBECTL_OLDEST;
    let folder = cache::made_once(&format!("kubectl-{version}"), |folder| {
        let mut build = go_in(module);
        build
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags"])
            .args([&version_flags(version), "-o"])
            .arg(folder.join("kubectl"))
            .arg(".");
        let what = format!("building kubectl {version} (1 to 3 minutes)");
        run(&what, 0, &mut build)?;
        Ok(())
    })?;
    Ok(folder.join("kubectl"))
}

/// What tells a Kubernetes program its version, and leaves out what only a debugger wants.
fn version_flags(version: &str) -> String {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let package = VERSION_PACKAGE;
    format!(
        "-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}"
    )
}

/// The program that proves a transparency log with Go's own implementation of it.
pub(crate) fn tlogcheck() -> Result<PathBuf> {
    let name = format!("tlogcheck-{}", module_hash(&TLOGCHECK_FILES));
    let folder = cache::made_once(&name, |folder| {
        let mut build = go_in(TLOGCHECK);
        build
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-o"])
            .arg(folder.join("tlogcheck"))
            .arg(".");
        run("building the checker of transparency logs", 0, &mut build)?;
        Ok(())
    })?;
    Ok(folder.join("tlogcheck"))
}

/// The program helm.
pub(crate) fn helm() -> Result<PathBuf> {
    installed(HELM, "helm", "building helm (1 to 3 minutes)")
}

/// The program nats-server.
pub(crate) fn nats_server() -> Result<PathBuf> {
    installed(
        NATS_SERVER,
        "nats-server",
        "building nats-server (1 minute)",
    )
}

/// The program nats, the command line of its administrators.
pub(crate) fn nats_client() -> Result<PathBuf> {
    installed(NATS_CLIENT, "nats", "building natscli (2 minutes)")
}

/// The program that a Go package of some version makes.
fn installed((package, version): (&str, &str), name: &str, what: &str) -> Result<PathBuf> {
    let folder = cache::made_once(&format!("{name}-{version}"), |folder| {
        let mut install = Command::new("go");
        install
            .args(["install", "-v", "-trimpath"])
            .arg(format!("{package}@{version}"))
            .env("GOBIN", folder)
            .env("CGO_ENABLED", "0");
        run(what, 0, &mut install)?;
        Ok(())
    })?;
    Ok(folder.join(name))
}

/// The program minio.
pub(crate) fn minio() -> Result<PathBuf> {
    installed(MINIO, "minio", "building MinIO (3 to 6 minutes)")
}

/// The folder of Keycloak, unpacked and made ready to start with a database in memory.
pub(crate) fn keycloak() -> Result<PathBuf> {
    cache::made_once(&format!("keycloak-{KEYCLOAK_VERSION}"), |folder| {
        let archive = format!("keycloak-quarkus-dist-{KEYCLOAK_VERSION}.tar.gz");
        let mut fetch = Command::new("mvn");
        fetch
            .args([
                "--batch-mode",
                "--no-transfer-progress",
                "--quiet",
                MAVEN_COPY,
            ])
            .arg(format!(
                "-Dartifact=org.keycloak:keycloak-quarkus-dist:{KEYCLOAK_VERSION}:tar.gz"
            ))
            .arg(format!("-DoutputDirectory={}", folder.display()));
        // Maven keeps what it has of a download that was broken off, and goes on from there.
        run("fetching Keycloak (160 MB)", 0, &mut fetch)?;
        let archive = folder.join(archive);
        let found = file_hash(&archive)?;
        if found != KEYCLOAK_SHA256 {
            bail!(
                "{} is not what it was: its SHA-256 is {found}",
                archive.display()
            );
        }
        let mut unpack = Command::new("tar");
        unpack
            .args(["--extract", "--gzip", "--strip-components=1", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(folder);
        run("unpacking Keycloak", 0, &mut unpack)?;
        std::fs::remove_file(&archive)?;
        let mut build = Command::new(folder.join("bin/kc.sh"));
        build.args(["build", "--db=dev-mem"]);
        run("preparing Keycloak", 0, &mut build)?;
        Ok(())
    })
}

/// The folder of Kafka, with its libraries in `libs`.
pub(crate) fn kafka() -> Result<PathBuf> {
    cache::made_once(&format!("kafka-{KAFKA_VERSION}"), |folder| {
        let pom = folder.join("pom.xml");
        std::fs::write(&pom, KAFKA_POM)?;
        let mut fetch = Command::new("mvn");
        fetch
            .args([
                "--batch-mode",
                "--no-transfer-progress",
                "--quiet",
                "--file",
            ])
            .arg(&pom)
            .arg(MAVEN_COPY_DEPENDENCIES)
            .arg(format!(
                "-DoutputDirectory={}",
                folder.join("libs").display()
            ));
        run("fetching Kafka (50 MB)", 0, &mut fetch)?;
        Ok(())
    })
}

/// A folder of Python packages with this one in it.
pub(crate) fn python_package((name, version): (&str, &str)) -> Result<PathBuf> {
    // A folder of packages and not a virtual environment: that one cannot be renamed when it is done.
    cache::made_once(&format!("{name}-{version}"), |folder| {
        let mut install = Command::new("python3");
        install
            .args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--target"])
            .arg(folder)
            .arg(format!("{name}=={version}"));
        run(&format!("fetching {name} for Python"), 0, &mut install)?;
        Ok(())
    })
}

/// SHA-256 of a file, in hexadecimal.
fn file_hash(path: &Path) -> Result<String> {
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => break,
            read => hash.update(&part[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// What a module's files are, so that a change of them builds anew.
fn module_hash(files: &[(&str, &[u8])]) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(content);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// The version of Kubernetes in `go.mod`, without the `v`.
fn kubernetes_version() -> Result<&'static str> {
    let (_, go_mod) = MODULE_FILES[0];
    std::str::from_utf8(go_mod)?
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .context("go.mod does not require k8s.io/kubernetes")
}

fn go_in_module() -> Command {
    go_in(MODULE)
}

fn go_in(module: &str) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(Path::new(module))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly");
    command
}

/// Runs a command to its end, each line of its standard error being a step, and returns its standard output.
fn run(what: &str, steps: u64, command: &mut Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut stdout = child.stdout.take().expect("standard output is piped");
    let stderr = child.stderr.take().expect("standard error is piped");
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let (sender, lines) = sync_channel(LINES_WAITING);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut progress = Progress::begin(what, steps);
    let mut kept = std::collections::VecDeque::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                progress.step();
                kept.push_back(line);
                if kept.len() > LINES_KEPT {
                    kept.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        progress.tick();
    }
    let status = child.wait()?;
    progress.end();
    reader.join().expect("the reader does not panic");
    let output = output.join().expect("the reader does not panic")?;
    if !status.success() {
        bail!("{what} failed ({status}):\n{}", Vec::from(kept).join("\n"));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_kubernetes_is_that_of_the_module() {
        assert!(kubernetes_version().unwrap().starts_with("1."));
    }

    #[test]
    fn the_version_of_kafka_is_that_of_the_file() {
        let version = format!("<version>{KAFKA_VERSION}</version>");
        assert_eq!(KAFKA_POM.matches(&version).count(), 2);
    }

    #[test]
    fn a_failed_command_says_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first >&2; echo result; echo last >&2; exit 3"]);
        let error = run("trying", 0, &mut command).unwrap_err().to_string();
        assert!(
            error.contains("first\nlast") && error.contains("3"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_works_returns_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo noise >&2; echo result"]);
        assert_eq!(run("trying", 0, &mut command).unwrap(), "result\n");
    }
}
