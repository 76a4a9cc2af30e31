//! What a gateway needs to know to run. Every field is valid already: reading and checking a configuration file is
//! the binary's work.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoop_schema::ProducerId;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authenticate::{AuthenticationConfiguration, StaticTokens};
use crate::mask::MaskKey;
use crate::record::ContentEncryption;

/// A gateway's configuration.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate that clients see.
    pub server_identity: ServerIdentity,
    /// Who may issue client certificates; empty if there are none.
    pub client_cas: Vec<CertificateDer<'static>>,
    /// A file of what they have revoked, as PEM.
    pub client_revocations: Option<PathBuf>,
    /// A file of what was ended before its time, see [`crate::endings`]; none, and nothing can be ended.
    pub endings: Option<PathBuf>,
    /// Tokens of break-glass users and robots.
    pub tokens: StaticTokens,
    /// Whose ID tokens are accepted.
    pub authentication: AuthenticationConfiguration,
    /// Whether tokens that nobody else knows are reviewed by the API server, so that its service accounts are known.
    pub review_service_accounts: bool,
    /// The API server, and the gateway's own credential for it.
    pub upstream: UpstreamSource,
    /// Who may do what.
    pub policy: PolicySource,
    /// Key of the masking mode that keeps equal secrets comparable; the same over restarts, or they are not.
    pub mask_key: Arc<MaskKey>,
    /// Which content is encrypted, and with whose keys; `None` for none.
    pub encryption: Option<ContentEncryption>,
    /// Name of the cluster, as in every event.
    pub cluster: String,
    /// Name of this gateway, stable over restarts.
    pub producer_id: ProducerId,
    /// What bounds it.
    pub limits: Limits,
}

/// A certificate chain and its private key.
pub struct ServerIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Where the API server is, and what the gateway shows to it.
#[derive(Debug, Clone)]
pub enum UpstreamSource {
    /// A context of a kubeconfig; the default file and the current context when not named.
    Kubeconfig {
        /// The file.
        path: Option<PathBuf>,
        /// The context.
        context: Option<String>,
    },
    /// The service account of the pod that the gateway runs in.
    InCluster,
    /// As given.
    Explicit(Box<kube::Config>),
}

/// Where the policy comes from.
#[derive(Debug, Clone)]
pub enum PolicySource {
    /// A file, read again whenever its bytes change.
    File(PathBuf),
    /// Fixed for the life of the gateway.
    Text(String),
}

/// What bounds a gateway. The defaults say why.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Client connections at a time; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Streams at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Bytes of all names and values of a request's headers.
    pub header_bytes_max: usize,
    /// Number of header lines of a request.
    pub headers_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// From a client's first byte to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// For a client to send the head of a request, and for a connection to be without one.
    pub head_timeout: Duration,
    /// For a client to send the body of a request.
    pub body_timeout: Duration,
    /// For streams to end after the gateway was told to stop.
    pub drain_timeout: Duration,
    /// Connections to the API server at a time; every watch and log takes one.
    pub upstream_connections_max: usize,
    /// Unused connections to the API server that are kept.
    pub upstream_idle_max: usize,
    /// For one connection to the API server to come about, with its TLS handshake.
    pub upstream_connect_timeout: Duration,
    /// For the API server to begin its answer.
    pub upstream_head_timeout: Duration,
    /// From one fetch of an issuer's keys to the next.
    pub issuer_refresh_interval: Duration,
    /// The same after one that failed.
    pub issuer_retry_interval: Duration,
    /// At least between two fetches, however many tokens name keys that are not known.
    pub issuer_fetch_pause: Duration,
    /// How often the file of revocation lists is looked at.
    pub revocations_interval: Duration,
    /// Requests of one address that may come without a valid credential at once.
    pub failures_at_once: u32,
    /// After which one more of them may.
    pub failure_interval: Duration,
}

/// PEM that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// There is no certificate in it.
    #[error("no certificate found: expected PEM with BEGIN CERTIFICATE")]
    NoCertificate,
    /// A part of it cannot be read.
    #[error("the {0} is not valid PEM")]
    Invalid(&'static str, #[source] rustls_pki_types::pem::Error),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A connection takes some 50 KB; half a gigabyte in all.
            connections_max: 10_000,
            // The API server itself allows 100; a browser dashboard over one connection opens more.
            streams_max: 250,
            // A quarter of the API server's 1 MiB: kubectl sends 1 KB, a large OIDC token 16 KB.
            header_bytes_max: 256 * 1024,
            // kubectl sends ten, a mesh adds another twenty.
            headers_max: 200,
            // The API server's own limit.
            body_bytes_max: 3 * 1024 * 1024,
            // Ten round trips on a bad line.
            handshake_timeout: Duration::from_secs(10),
            // Between the API server's 32 s for a head and 90 s for idleness, since hyper has one clock for both.
            head_timeout: Duration::from_secs(60),
            // The API server cuts a request at 60 s.
            body_timeout: Duration::from_secs(60),
            // Kubernetes kills a pod after 30 s.
            drain_timeout: Duration::from_secs(25),
            // An API server serves some thousands of watches.
            upstream_connections_max: 4096,
            // As many as a busy API server has requests in flight for one of its clients.
            upstream_idle_max: 256,
            upstream_connect_timeout: Duration::from_secs(10),
            // Above the 60 s at which the API server gives up itself.
            upstream_head_timeout: Duration::from_secs(75),
            // A key that was withdrawn is trusted for so long.
            issuer_refresh_interval: Duration::from_secs(600),
            // An issuer that restarts takes half a minute.
            issuer_retry_interval: Duration::from_secs(10),
            // As long as a person waits who logged in with a key that is a moment old.
            issuer_fetch_pause: Duration::from_secs(5),
            // Short beside the time that it takes to notice that a key is lost.
            revocations_interval: Duration::from_secs(30),
            // An office behind one address whose tokens have all run out, with a dashboard or two.
            failures_at_once: 60,
            // More than a person needs, and little to record.
            failure_interval: Duration::from_secs(1),
        }
    }
}

impl ServerIdentity {
    /// From DER.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// From PEM: the certificates, the server's own first, and the private key.
    ///
    /// # Errors
    /// When either is missing or cannot be read.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|e| PemError::Invalid("private key", e))?;
        Ok(Self {
            chain: certificates_from_pem(chain)?,
            key,
        })
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ServerIdentity({} certificates, key ****)",
            self.chain.len()
        )
    }
}

/// The certificates in a PEM text: at least one.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| PemError::Invalid("certificate", e))?;
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(certificates)
}
