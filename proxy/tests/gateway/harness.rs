//! A gateway, what is behind it, who talks to it, and what it wrote.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hoop_proxy::mask::MaskKey;
use hoop_proxy::sample_cluster::SampleCluster;
use hoop_proxy::{
    AuthenticationConfiguration, Config, Limits, PolicyReloader, PolicySource, Readiness,
    StaticTokens, UpstreamSource, certificates_from_pem,
};
use hoop_schema::kinds::request::{Intent, Outcome};
use hoop_schema::{Class, Event, EventHash, Kind, ProducerId, Shard, SourceId};
use hoop_sinks::log::memory::MemoryLog;
use hoop_sinks::log::{EventReader, EventWriter, Position};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::Authority;

/// Long enough for a loaded machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long the token of `soon` is valid: long enough to begin a stream on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(4);

/// Alice works, bob looks, robot is not masked.
pub(crate) const POLICY: &str = r#"
profiles:
  - name: developers
    subjects: {users: [alice, "ålice", soon], groups: [certified]}
    rules:
      - {name: no-nodes, effect: deny, apiGroups: [""], resources: [nodes], verbs: ["*"], message: "ask the platform team"}
      - {name: scale, effect: approve, apiGroups: [apps], resources: [deployments/scale], verbs: ["*"]}
      - {name: work, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
      - {name: paths, effect: allow, nonResourceURLs: ["/*"], verbs: ["*"]}
  - name: agents-of-developers
    subjects: {users: [alice], actors: ["agent-*"]}
    rules:
      - {name: look, effect: allow, apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
  - name: viewers
    subjects: {users: [bob]}
    rules:
      - {name: look, effect: allow, apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
  - name: robots
    subjects: {users: [robot]}
    rules:
      - {name: see-all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], mask: none}
"#;

/// How to set up a gateway.
pub(crate) struct Setup {
    pub(crate) policy: PolicySource,
    pub(crate) limits: Limits,
    pub(crate) upstream: Option<UpstreamSource>,
    /// An authentication configuration.
    pub(crate) authentication: String,
    pub(crate) review_service_accounts: bool,
    pub(crate) client_revocations: Option<PathBuf>,
    pub(crate) endings: Option<PathBuf>,
    /// Who certifies; a new one if not given.
    pub(crate) ca: Option<Authority>,
}

/// A running gateway.
pub(crate) struct Bed {
    pub(crate) cluster: SampleCluster,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) address: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    pub(crate) readiness: Readiness,
    pub(crate) reloader: PolicyReloader,
    pub(crate) ca: Authority,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<bool>,
    _folder: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection of a client.
pub(crate) struct Client(http1::SendRequest<Full<Bytes>>);

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: PolicySource::Text(POLICY.to_owned()),
            limits: Limits::default(),
            upstream: None,
            authentication:
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n".into(),
            review_service_accounts: false,
            client_revocations: None,
            endings: None,
            ca: None,
        }
    }
}

impl Setup {
    /// In front of a server of one's own.
    pub(crate) fn before(fake: &Fake) -> Self {
        let url = format!("http://{}", fake.address).parse().unwrap();
        Self {
            upstream: Some(UpstreamSource::Explicit(Box::new(kube::Config::new(url)))),
            ..Self::default()
        }
    }

    pub(crate) async fn start(self) -> Bed {
        let cluster = SampleCluster::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let upstream = self.upstream.unwrap_or_else(|| {
            let path = folder.path().join("kubeconfig");
            std::fs::write(&path, cluster.kubeconfig().unwrap()).unwrap();
            kubeconfig(&path)
        });
        let ca = self.ca.unwrap_or_else(Authority::new);
        let log = Arc::new(MemoryLog::new(
            Class::standard(),
            SourceId::from_bytes([1; 4]),
            1,
            64 << 20,
        ));
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            server_identity: ca.server(),
            client_cas: certificates_from_pem(ca.pem().as_bytes()).unwrap(),
            client_revocations: self.client_revocations,
            endings: self.endings,
            tokens: StaticTokens::parse(&tokens()).unwrap(),
            authentication: AuthenticationConfiguration::parse(&self.authentication).unwrap(),
            review_service_accounts: self.review_service_accounts,
            upstream,
            policy: self.policy,
            mask_key: Arc::new(MaskKey::from_bytes([7; 32])),
            encryption: None,
            cluster: "test".into(),
            producer_id: ProducerId::new("gateway-1").unwrap(),
            limits: self.limits,
        };
        let mut registry = Registry::default();
        let writer: Arc<dyn EventWriter> = Arc::clone(&log) as _;
        let gateway = hoop_proxy::build(config, vec![writer], &mut registry)
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, readiness, reloader) = (
            gateway.local_addr(),
            gateway.readiness(),
            gateway.policy_reloader(),
        );
        let running = tokio::spawn(gateway.run(async {
            // Dropping the bed stops the gateway as well.
            drop(stopped.await);
        }));
        Bed {
            cluster,
            log,
            address,
            registry: Arc::new(registry),
            readiness,
            reloader,
            ca,
            stop: Some(stop),
            running,
            _folder: folder,
        }
    }
}

pub(crate) fn kubeconfig(path: &Path) -> UpstreamSource {
    UpstreamSource::Kubeconfig {
        path: Some(PathBuf::from(path)),
        context: None,
    }
}

/// Tokens are called like their users, `token-alice`; the one of `late` has expired.
fn tokens() -> String {
    let entry = |name: &str, more: &str| {
        let hash = EventHash::of(format!("token-{name}").as_bytes());
        format!("  - {{name: {name}, groups: [people], sha256: {hash}{more}}}\n")
    };
    let glass = entry("glass", ", break_glass: true");
    let late = entry("late", ", expires: 2020-01-01T00:00:00Z");
    let soon = std::time::SystemTime::now() + SOON;
    let soon = jiff::Timestamp::try_from(soon).unwrap();
    let soon = entry("soon", &format!(", expires: {soon:.6}"));
    ["alice", "bob", "robot", "ålice"]
        .iter()
        .fold(format!("tokens:\n{late}{soon}{glass}"), |text, name| {
            text + &entry(name, "")
        })
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    /// A connection without a client certificate.
    pub(crate) async fn client(&self) -> Client {
        self.client_as(None).await
    }

    pub(crate) async fn client_as(
        &self,
        certificate: Option<rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> Client {
        let stream = self.connect(certificate, b"http/1.1").await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Client(sender)
    }

    pub(crate) async fn http2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = self.connect(None, b"h2").await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A TLS connection; without ALPN when `protocol` is empty.
    pub(crate) async fn connect(
        &self,
        certificate: Option<rcgen::CertifiedKey<rcgen::KeyPair>>,
        protocol: &[u8],
    ) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes())
                    .unwrap();
                builder
                    .with_client_auth_cert(vec![own.cert.der().clone()], key)
                    .unwrap()
            }
        };
        if !protocol.is_empty() {
            config.alpn_protocols = vec![protocol.to_vec()];
        }
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap()
    }

    /// One request of alice over a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.client().await.get("alice", target).await
    }

    /// Everything that was written so far.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let (shard, mut from) = (Shard(0), Position(0));
        let mut events = Vec::new();
        loop {
            let records = self
                .log
                .read(shard, from, 1 << 20, Duration::ZERO)
                .await
                .unwrap();
            let Some(last) = records.last() else {
                return events;
            };
            from = Position(last.position.0 + 1);
            events.extend(
                records
                    .iter()
                    .map(|record| hoop_schema::bytes::decode(&record.bytes).unwrap()),
            );
        }
    }

    /// The exact text of everything that was written so far.
    pub(crate) async fn written(&self) -> String {
        let records = self
            .log
            .read(Shard(0), Position(0), usize::MAX, Duration::ZERO)
            .await
            .unwrap();
        records
            .iter()
            .map(|record| String::from_utf8(record.bytes.to_vec()).unwrap() + "\n")
            .collect()
    }

    pub(crate) async fn intents(&self) -> Vec<Intent> {
        let intent = |event: Event| match event.kind {
            Kind::Intent(intent) => Some(intent),
            _ => None,
        };
        self.events().await.into_iter().filter_map(intent).collect()
    }

    pub(crate) async fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |event: Event| match event.kind {
            Kind::Outcome(outcome) => Some(outcome),
            _ => None,
        };
        self.events()
            .await
            .into_iter()
            .filter_map(outcome)
            .collect()
    }

    /// The only intent and its outcome, as soon as there is one.
    pub(crate) async fn only(&self) -> (Intent, Outcome) {
        let outcome = eventually("an outcome", async || self.outcomes().await.pop()).await;
        let mut intents = self.intents().await;
        assert_eq!(intents.len(), 1, "{intents:?}");
        assert_eq!(self.outcomes().await.len(), 1);
        (intents.remove(0), outcome)
    }

    /// The metrics, as Prometheus sees them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) fn assert_metric(&self, line: &str) {
        let metrics = self.metrics();
        assert!(
            metrics.lines().any(|l| l == line),
            "no line {line:?} in\n{metrics}"
        );
    }

    /// Tells the gateway to stop and waits until it has. Returns whether all events were acknowledged.
    pub(crate) async fn stop(&mut self) -> bool {
        self.stop.take();
        tokio::time::timeout(PATIENCE, &mut self.running)
            .await
            .expect("the gateway stops")
            .unwrap()
    }
}

impl Client {
    pub(crate) async fn get(&mut self, user: &str, target: &str) -> Answer {
        let request = request("GET", user, target).body(Full::default()).unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        read(self.open(request).await).await.unwrap()
    }

    /// Sends a request and returns the head of its answer.
    pub(crate) async fn open(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        tokio::time::timeout(PATIENCE, self.0.send_request(request))
            .await
            .expect("the gateway answers")
            .unwrap()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// A request with the token of a user.
pub(crate) fn request(method: &str, user: &str, target: &str) -> http::request::Builder {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "gateway");
    if user.is_empty() {
        return request;
    }
    let bearer = format!("Bearer token-{user}");
    request.header(
        "authorization",
        http::HeaderValue::from_bytes(bearer.as_bytes()).unwrap(),
    )
}

/// Reads an answer to its end.
pub(crate) async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect())
        .await
        .expect("the answer ends")?;
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    })
}

/// Waits until there is something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl Fn() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "there was never {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Handle = Arc<
    dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<FakeBody>> + Send>>
        + Send
        + Sync,
>;

/// The body of a fake API server's answer.
pub(crate) type FakeBody = BoxBody<Bytes, std::io::Error>;

/// A server in the place of the API server that answers as a test wants, over plain HTTP.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start<F>(
        answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<FakeBody>> + Send + 'static,
    {
        let handle: Handle = Arc::new(move |request| Box::pin(answer(request)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, open) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counters = (Arc::clone(&connections), Arc::clone(&open));
        let server = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (handle, open) = (Arc::clone(&handle), Arc::clone(&counters.1));
                counters.0.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let answer = handle(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    // A client that goes away is no failure of the test.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await,
                    );
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            connections,
            open,
            server,
        }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A whole answer.
pub(crate) fn whole(status: u16, media_type: &str, body: impl Into<Bytes>) -> Response<FakeBody> {
    Response::builder()
        .status(status)
        .header("content-type", media_type)
        .body(Full::new(body.into()).map_err(|e| match e {}).boxed())
        .unwrap()
}
