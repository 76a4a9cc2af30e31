//! kube-apiserver on etcd: the real thing, without a node.
//!
//! No controller runs, so a namespace gets no service account of its own, a deployment makes no pods, and a deleted
//! namespace stays; [`super::Node`] brings all of that. Objects are stored, listed, watched, patched and audited as on
//! any cluster. The API server's own audit log holds every request with its bodies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::certificates::{Authority, Identity, signing_key};
use super::clients::Kubectl;
use super::process::{Run, Server, free_port};
use super::{build, cache};

/// How long a server may take until it answers: it takes 5 s, and ten times as long on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How often a server is asked whether it is ready.
const READY_ASKED_EVERY: Duration = Duration::from_millis(200);

/// A free port may be taken before the server has it; then all is begun again, this often.
const STARTS_MAX: u32 = 3;

/// What a proxy in front of the API server may do there, and what people may: all of them everything, apart from the
/// group `outsiders`, so that a refusal is either the proxy's or meant. The cluster's own roles `admin`, `edit` and
/// `view` are empty here, since a controller fills them.
const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: hoop-gateway}
rules:
- {apiGroups: [""], resources: [users, groups, serviceaccounts], verbs: [impersonate]}
- {apiGroups: [authentication.k8s.io], resources: ["*"], verbs: [impersonate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: hoop-gateway}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: hoop-gateway}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: hoop-gateway}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: people}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: platform}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: developers}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: on-call}
"#;

/// The files with the keys for tokens of service accounts, without their ending.
const SERVICE_ACCOUNTS: &str = "service-accounts";

/// Everything is written to the audit log, with bodies.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: RequestResponse}]
";

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    program: PathBuf,
    folder: PathBuf,
    url: String,
    authority: Authority,
    namespaces: AtomicU32,
    // Ended in this order.
    _api_server: Server,
    _etcd: Server,
}

impl ApiServer {
    /// Builds the programs if need be, starts etcd and the API server `name` of this run, and waits until they answer.
    ///
    /// # Errors
    /// When they cannot be built, or do not get ready; with the end of what they said.
    pub fn start(run: &Run, name: &str) -> Result<Self> {
        let program = build::kubernetes()?;
        let folder = run.folder().join(name);
        cache::create(&folder)?;
        let files = Files::make(&folder)?;
        let mut start = 1;
        let (etcd, api_server, url) = loop {
            match start_servers(run, name, &program, &files) {
                Ok(servers) => break servers,
                Err(_) if start < STARTS_MAX => start += 1,
                Err(error) => return Err(error),
            }
        };
        let server = Self {
            program,
            folder,
            url,
            authority: files.authority,
            namespaces: AtomicU32::new(0),
            _api_server: api_server,
            _etcd: etcd,
        };
        server.kubeconfig("admin", "admin", Some("system:masters"))?;
        server.kubeconfig("gateway", "hoop-gateway", None)?;
        server.until_ready()?;
        server.kubectl().apply(ROLES)?;
        Ok(server)
    }

    /// Where it listens, such as `https://127.0.0.1:6443`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig that may do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A kubeconfig that may impersonate everybody, and nothing else.
    pub fn gateway_kubeconfig(&self) -> PathBuf {
        self.folder.join("gateway.kubeconfig")
    }

    /// Writes the kubeconfig `name` for a user with a client certificate, and returns where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let identity = self.authority.client(name, user, group)?;
        let path = self.folder.join(format!("{name}.kubeconfig"));
        let text = kubeconfig(&self.url, self.authority.pem(), user, &identity);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Another component of the same program, ready for arguments.
    pub fn component(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name);
        command
    }

    /// The certificate of the cluster's authority, and its key.
    pub(crate) fn authority_files(&self) -> (PathBuf, PathBuf) {
        (self.authority.path(), self.authority.key_path())
    }

    /// The key that signs the tokens of service accounts.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.folder.join(format!("{SERVICE_ACCOUNTS}.key"))
    }

    /// The API server's own audit log: an `audit.k8s.io/v1` event a line.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// kubectl of the same build, with everything allowed.
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_as(&self.admin_kubeconfig())
    }

    /// kubectl of the same build, with this kubeconfig.
    pub fn kubectl_as(&self, kubeconfig: &Path) -> Kubectl {
        Kubectl::new(&self.program, kubeconfig, &self.folder.join("home"))
    }

    /// Makes a namespace of its own for a test; `test` goes into its name.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn namespace(&self, test: &str) -> Result<String> {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        let short: String = test
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(24)
            .collect();
        let name = format!("{}-{number}", short.to_ascii_lowercase());
        self.kubectl()
            .run(&["create", "namespace", &name])?
            .expect_success()?;
        Ok(name)
    }

    fn until_ready(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let answer = self.kubectl().run(&["get", "--raw", "/readyz"])?;
            if answer.success && answer.stdout == "ok" {
                return Ok(());
            }
            if begun.elapsed() > READY_WITHIN {
                bail!("the API server is not ready: {}", answer.stderr);
            }
            std::thread::sleep(READY_ASKED_EVERY);
        }
    }
}

/// Keys, certificates and configuration files of the servers.
struct Files {
    folder: PathBuf,
    authority: Authority,
    server: Identity,
    /// As whom the API server talks to kubelets.
    kubelet_client: Identity,
    signing: (PathBuf, PathBuf),
    audit_policy: PathBuf,
}

impl Files {
    fn make(folder: &Path) -> Result<Self> {
        let authority = Authority::make(folder)?;
        let audit_policy = folder.join("audit-policy.yaml");
        std::fs::write(&audit_policy, AUDIT_POLICY)?;
        Ok(Self {
            folder: folder.to_owned(),
            server: authority.server("server")?,
            kubelet_client: authority.client("kubelet-client", "kube-apiserver", None)?,
            signing: signing_key(folder, SERVICE_ACCOUNTS)?,
            audit_policy,
            authority,
        })
    }
}

fn start_servers(
    run: &Run,
    name: &str,
    program: &Path,
    files: &Files,
) -> Result<(Server, Server, String)> {
    let url = |scheme: &str| free_port().map(|port| format!("{scheme}://127.0.0.1:{port}"));
    let (client_url, peer_url, api_url) = (url("http")?, url("http")?, url("https")?);
    let data = files.folder.join("etcd");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let mut command = Command::new(program);
    command
        .arg("etcd")
        .arg(&data)
        .args([&client_url, &peer_url]);
    let mut etcd = Server::start(run, &format!("{name}-etcd"), &mut command)?;
    wait_for(&mut etcd, "etcd", |log| log.contains("etcd ready"))?;
    let mut command = Command::new(program);
    api_server_arguments(&mut command, files, &client_url, &api_url);
    let log = format!("{name}-kube-apiserver");
    let mut api_server = Server::start(run, &log, &mut command)?;
    wait_for(&mut api_server, "kube-apiserver", |log| {
        log.contains("Serving securely")
    })?;
    Ok((etcd, api_server, api_url))
}

fn api_server_arguments(command: &mut Command, files: &Files, etcd_url: &str, api_url: &str) {
    let port = api_url.rsplit(':').next().unwrap_or_default();
    let file = |option: &str, path: &Path| format!("--{option}={}", path.display());
    let (signing_key, public_key) = &files.signing;
    command
        .arg("kube-apiserver")
        .arg(format!("--etcd-servers={etcd_url}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg(file("tls-cert-file", &files.server.certificate_path))
        .arg(file("tls-private-key-file", &files.server.key_path))
        .arg(file("client-ca-file", &files.authority.path()))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(file("service-account-key-file", public_key))
        .arg(file("service-account-signing-key-file", signing_key))
        .args([
            "--authorization-mode=Node,RBAC",
            "--endpoint-reconciler-type=none",
            "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",
        ])
        .arg(file(
            "kubelet-client-certificate",
            &files.kubelet_client.certificate_path,
        ))
        .arg(file("kubelet-client-key", &files.kubelet_client.key_path))
        // Pods may be created although no controller makes service accounts.
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg(file("audit-policy-file", &files.audit_policy))
        .arg(file("audit-log-path", &files.folder.join("audit.log")))
        // Written before the answer, and never rotated.
        .args(["--audit-log-mode=blocking", "--audit-log-maxsize=100000"]);
}

fn wait_for(server: &mut Server, name: &str, ready: impl Fn(&str) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let log = server.log();
        if ready(&log) {
            return Ok(());
        }
        if !server.runs() || begun.elapsed() > READY_WITHIN {
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(20)..].join("\n");
            bail!("{name} did not get ready; the end of its log:\n{end}");
        }
        std::thread::sleep(READY_ASKED_EVERY);
    }
}

/// A kubeconfig with everything in it.
fn kubeconfig(url: &str, authority: &str, user: &str, identity: &Identity) -> String {
    let [authority, certificate, key] =
        [authority, &identity.certificate, &identity.key].map(|pem| STANDARD.encode(pem));
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters: [{{name: test-bed, cluster: {{server: \"{url}\", certificate-authority-data: {authority}}}}}]\n\
         users: [{{name: {user}, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]\n\
         contexts: [{{name: test-bed, context: {{cluster: test-bed, user: {user}}}}}]\n\
         current-context: test-bed\n"
    )
}
