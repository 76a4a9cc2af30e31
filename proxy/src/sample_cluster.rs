//! A small Kubernetes API of our own: what `hoop demo` works against when no cluster is given, and what tests put
//! behind the gateway.
//!
//! One TLS server in this process (HTTP/1.1 and HTTP/2) over a handful of resource types held in memory. It promises
//! what a real `kubectl` needs: discovery, `get` (Table, YAML, JSON), `describe`, `apply`, `patch`, `delete`, `get -w`,
//! `logs` and `logs -f`, `create secret`, `create token`, `auth whoami` and `can-i`; and what a test needs: it keeps
//! every request it received, with headers and body, and it can be slow, fail, break off, stop and come back.
//!
//! What it leaves out, on purpose:
//! - **Authorisation**: whoever is authenticated may do everything. Authenticated is a client certificate of its CA or
//!   a bearer token that it issued; everybody else is `system:anonymous` (403), a wrong token is a 401.
//! - **Controllers**: a Deployment makes no pods; only seeded pods have logs. Deleting a namespace empties it at once.
//! - **Protobuf answers**: it answers in JSON, and 406 when JSON is not accepted. It reads protobuf *bodies* of the
//!   kinds that kubectl sends so (see `crate::protobuf`), since kubectl does not fall back when it is answered 415.
//! - **JSON patch** (415), **pages** (`limit` is ignored, as the protocol allows), **exec** and other upgrades (404).
//! - **Strategic merge** only knows one merge key: lists of objects with a `name` are merged by it.

mod credentials;
mod discovery;
mod handle;
mod identity;
mod logs;
mod negotiate;
mod objects;
mod patch;
mod resource_types;
mod reviews;
mod seed;
mod selector;
mod server;
mod status;
mod table;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use credentials::Authority;
pub use credentials::ClientCertificate;
use identity::Tokens;
use objects::Objects;

/// Requests kept for [`SampleCluster::seen`]; the oldest go first. Enough for a test, and an end to memory.
const SEEN_MAX: usize = 10_000;

/// User name that [`SampleCluster::kubeconfig`] authenticates as: the credential that a gateway would hold.
pub const GATEWAY_USER: &str = "hoop-gateway";

/// The password in the seeded secret `shop/db-credentials`, in clear; `shop/payments-api` holds it with `live-` before
/// it. A test can look for it wherever it must not be.
pub const SEEDED_PASSWORD: &str = "correct-horse-battery-staple";

/// A running sample cluster. Dropping it stops it.
#[derive(Debug)]
pub struct SampleCluster {
    state: Arc<State>,
    address: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
}

/// A request as the cluster received it.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// HTTP version.
    pub version: Version,
    /// HTTP method.
    pub method: Method,
    /// Request target, as sent.
    pub uri: Uri,
    /// All headers, credentials included.
    pub headers: HeaderMap,
    /// The body; empty for one that was not read to its end.
    pub body: Bytes,
    /// Who acted in the end, after impersonation; `None` when authentication or impersonation failed.
    pub user: Option<String>,
    /// Groups of that user.
    pub groups: Vec<String>,
    /// Who impersonated that user.
    pub impersonated_by: Option<String>,
}

impl SeenRequest {
    /// The value of a header as text, if it is there once or more; the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What all connections share.
#[derive(Debug)]
struct State {
    authority: Authority,
    objects: Objects,
    logs: logs::Logs,
    tokens: Tokens,
    seen: Mutex<VecDeque<SeenRequest>>,
    faults: Mutex<Faults>,
}

/// What the cluster does wrong, for tests.
#[derive(Debug, Default)]
struct Faults {
    latency: Duration,
    fail_next: VecDeque<u16>,
    break_next: usize,
    impersonation_refused: bool,
}

impl SampleCluster {
    /// Starts a cluster with its seed (namespaces `default`, `kube-system` and `shop`) on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound or no certificate made.
    pub async fn start() -> io::Result<Self> {
        let state = Arc::new(State {
            authority: Authority::new()?,
            objects: Objects::default(),
            logs: logs::Logs::default(),
            tokens: Tokens::new()?,
            seen: Mutex::default(),
            faults: Mutex::default(),
        });
        seed::seed(&state);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let server = server::serve(state.clone(), listener)?;
        Ok(Self {
            state,
            address,
            server: Mutex::new(Some(server)),
        })
    }

    /// Where it listens; stays the same over [`Self::stop`] and [`Self::restart`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, such as `https://127.0.0.1:40001`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of its CA, PEM: trust this.
    pub fn ca_pem(&self) -> &str {
        self.state.authority.ca_pem()
    }

    /// Makes a client certificate for a user.
    ///
    /// # Errors
    /// When the certificate cannot be made from these names.
    pub fn client_certificate(&self, user: &str, groups: &[&str]) -> io::Result<ClientCertificate> {
        self.state.authority.client_certificate(user, groups)
    }

    /// Issues a bearer token for a user, valid as long as the cluster lives.
    pub fn token(&self, user: &str, groups: &[&str]) -> String {
        self.state.tokens.issue(user, groups)
    }

    /// A kubeconfig with the credential that a gateway would hold: a client certificate for [`GATEWAY_USER`] in group
    /// `system:masters`.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn kubeconfig(&self) -> io::Result<String> {
        self.kubeconfig_for(GATEWAY_USER, &["system:masters"])
    }

    /// A kubeconfig with a client certificate for any user.
    ///
    /// # Errors
    /// When the certificate cannot be made from these names.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> io::Result<String> {
        let certificate = self.client_certificate(user, groups)?;
        Ok(credentials::kubeconfig(
            &self.url(),
            self.ca_pem(),
            user,
            &certificate,
        ))
    }

    /// The requests received so far, oldest first; at most the latest 10,000.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.state.seen.lock().iter().cloned().collect()
    }

    /// Forgets the requests received so far.
    pub fn forget_seen(&self) {
        self.state.seen.lock().clear();
    }

    /// Waits this long before each answer from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.state.faults.lock().latency = latency;
    }

    /// Answers the next request that is not discovery with this HTTP status and a Status object; callable several
    /// times for several requests.
    pub fn fail_next(&self, status: u16) {
        self.state.faults.lock().fail_next.push_back(status);
    }

    /// Breaks the next answer that has a body, and is not discovery, off in the middle of it.
    pub fn break_next_body(&self) {
        self.state.faults.lock().break_next += 1;
    }

    /// Whether impersonation is refused with a 403 from now on, as without the right to impersonate.
    pub fn refuse_impersonation(&self, refused: bool) {
        self.state.faults.lock().impersonation_refused = refused;
    }

    /// Creates or replaces an object as a controller would; watchers see it. `apiVersion` and `kind` must be ones that
    /// the cluster serves.
    ///
    /// # Errors
    /// When the kind is not served or the object has no name.
    pub fn put(&self, object: Value) -> io::Result<()> {
        self.state.objects.put(object).map_err(io::Error::other)
    }

    /// Deletes an object, if it is there; watchers see it. `resource` is the plural, such as `pods`.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.state.objects.remove(resource, namespace, name);
    }

    /// Fills a namespace with `count` secrets named `big-00000` and on, each with a value of `bytes` bytes.
    pub fn fill_with_secrets(&self, namespace: &str, count: usize, bytes: usize) {
        for index in 0..count {
            let secret = seed::big_secret(namespace, index, bytes);
            self.put(secret).expect("secrets are served");
        }
    }

    /// Appends a line to the log of a pod; those who follow it see it at once.
    pub fn append_log(&self, namespace: &str, pod: &str, line: &str) {
        self.state.logs.append(namespace, pod, line);
    }

    /// Stops listening and breaks all connections off. What it holds stays.
    pub async fn stop(&self) {
        let server = self.server.lock().take();
        if let Some(server) = server {
            server.abort();
            // The only outcome left is the cancellation just asked for.
            drop(server.await);
        }
    }

    /// Listens again on the same address after [`Self::stop`].
    ///
    /// # Errors
    /// When the address has been taken by somebody else.
    pub async fn restart(&self) -> io::Result<()> {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await?;
        *self.server.lock() = Some(server::serve(self.state.clone(), listener)?);
        Ok(())
    }
}

impl Drop for SampleCluster {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().take() {
            server.abort();
        }
    }
}

#[cfg(test)]
mod tests;
