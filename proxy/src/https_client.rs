//! Small documents over HTTPS, as OpenID Connect has them: keys, discovery documents, answers to a login. One connection
//! for each; the answer is small, comes soon, or is an error. Redirections and HTTP proxies are not followed: what is
//! believed here, or sent there, is for that server and no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Builder;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Position, Url};

/// The longest document. A hundred keys with certificates take 300 KB; ten without, as is common, 5 KB.
const DOCUMENT_BYTES_MAX: usize = 512 * 1024;

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// For one document, connection and all. The API server gives an issuer as long.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches documents from servers that given authorities certify.
#[derive(Clone)]
pub struct HttpsClient {
    tls: Arc<ClientConfig>,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpsSetupError {
    /// Nobody can certify a server.
    #[error(
        "there are no certificate authorities on this machine; install them (ca-certificates), or name the server's own"
    )]
    NoAuthorities,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Why there is no document. Each says which one it is about.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// It took too long.
    #[error("{0} did not answer in time")]
    Timeout(Url),
    /// There is no connection to the server.
    #[error("{0} cannot be reached")]
    Connect(Url, #[source] std::io::Error),
    /// The answer is no HTTP, or too much of it.
    #[error("the answer of {0} cannot be read, or is larger than {DOCUMENT_BYTES_MAX} bytes")]
    Answer(Url, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server has no such document.
    #[error("{0} answered {1}")]
    Status(Url, StatusCode),
}

impl HttpsClient {
    /// A client that believes these authorities, or those of this machine where none is given.
    ///
    /// # Errors
    /// When there is no authority at all, or one is no certificate.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, HttpsSetupError> {
        let tls = believing(authorities)?.with_no_client_auth();
        Ok(Self {
            tls: Arc::new(over_http1(tls)),
        })
    }

    /// The document at `url`, which is `https://`.
    ///
    /// # Errors
    /// When it cannot be had within ten seconds; any status but 200 is an error.
    pub async fn get(&self, url: &Url) -> Result<Bytes, HttpsError> {
        let (status, document) = self
            .exchange(url, Request::get(path(url)), Bytes::new())
            .await?;
        match status {
            StatusCode::OK => Ok(document),
            other => Err(HttpsError::Status(url.clone(), other)),
        }
    }

    /// What the server at `url`, which is `https://`, answers to a form: the status, whatever it is, and the document.
    /// `form` is `application/x-www-form-urlencoded`.
    ///
    /// # Errors
    /// When there is no answer within ten seconds.
    pub async fn post_form(
        &self,
        url: &Url,
        form: String,
    ) -> Result<(StatusCode, Bytes), HttpsError> {
        let head =
            Request::post(path(url)).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.exchange(url, head, form.into()).await
    }

    async fn exchange(
        &self,
        url: &Url,
        head: Builder,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), HttpsError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.exchange_at_leisure(url, head, body))
            .await
            .unwrap_or_else(|_| Err(HttpsError::Timeout(url.clone())))
    }

    async fn exchange_at_leisure(
        &self,
        url: &Url,
        head: Builder,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), HttpsError> {
        let connect = |error: std::io::Error| HttpsError::Connect(url.clone(), error);
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let name = host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((name, port)).await.map_err(connect)?;
        let server = ServerName::try_from(name.to_owned())
            .map_err(|error| connect(std::io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(server, tcp).await.map_err(connect)?;
        let answer = |error: Box<dyn std::error::Error + Send + Sync>| {
            HttpsError::Answer(url.clone(), error)
        };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| answer(error.into()))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let request = head
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "hoop")
            .body(Full::new(body))
            .map_err(|error| answer(error.into()))?;
        let exchange = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| answer(error.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
            let collected = body.collect().await.map_err(answer)?;
            Ok((status, collected.to_bytes()))
        };
        // Nobody else drives the connection; its own end is the end of the answer, or shows there.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            done = &mut exchange => done,
            _ = connection => exchange.await,
        }
    }
}

impl std::fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpsClient")
    }
}

/// What the request line says.
fn path(url: &Url) -> &str {
    &url[Position::BeforePath..Position::AfterQuery]
}

/// TLS that believes these authorities, or those of this machine where none is given.
///
/// # Errors
/// When there is no authority at all, or one is no certificate.
pub(crate) fn believing(
    authorities: &[CertificateDer<'static>],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, HttpsSetupError> {
    let mut roots = RootCertStore::empty();
    if authorities.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(HttpsSetupError::NoAuthorities);
        }
    }
    for authority in authorities {
        roots.add(authority.clone()).map_err(HttpsSetupError::Tls)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpsSetupError::Tls)?;
    Ok(tls.with_root_certificates(roots))
}

/// For HTTP/1.1.
pub(crate) fn over_http1(mut tls: ClientConfig) -> ClientConfig {
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}
