//! Connections to a webhook: TCP, TLS, HTTP/1.1.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::WebhookError;
use crate::config::{PemError, certificates_from_pem};
use crate::https_client::{believing, over_http1};
use crate::policy::Webhook;

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long files of certificates are good: those that renew them leave hours.
const FILES_FRESH: Duration = Duration::from_secs(60);

/// Knows how to reach a webhook.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<Tls>,
}

struct Tls {
    server: ServerName<'static>,
    files: Files,
    /// As of when the files were read.
    config: Mutex<(Instant, Arc<ClientConfig>)>,
}

/// What TLS is made of.
struct Files {
    authority: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl Connector {
    pub(super) async fn open(webhook: &Webhook) -> Result<Self, WebhookError> {
        let url = &webhook.url;
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let host = url.host_str().ok_or(WebhookError::Address)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let tls = if url.scheme() == "https" {
            let server = ServerName::try_from(host.clone()).map_err(|_| WebhookError::Address)?;
            let files = Files {
                authority: webhook.certificate_authority.clone(),
                client: webhook.client_certificate.clone(),
            };
            let config = Mutex::new((Instant::now(), files.read().await?));
            Some(Tls {
                server,
                files,
                config,
            })
        } else {
            None
        };
        Ok(Self {
            port: url.port_or_known_default().ok_or(WebhookError::Address)?,
            host,
            tls,
        })
    }

    /// A new connection. It is driven by a task of its own, which ends when the sender is dropped.
    pub(super) async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => handshake(tcp).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config().await);
                handshake(connector.connect(tls.server.clone(), tcp).await?).await
            }
        }
    }
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a webhook broke off");
        }
    });
    Ok(sender)
}

impl Tls {
    /// As the files say; read again now and then, since certificates are renewed while a policy stays.
    async fn config(&self) -> Arc<ClientConfig> {
        let (read, config) = self.config.lock().clone();
        if self.files.are_none() || read.elapsed() < FILES_FRESH {
            return config;
        }
        match self.files.read().await {
            Ok(config) => {
                *self.config.lock() = (Instant::now(), Arc::clone(&config));
                config
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "certificates for a webhook cannot be read again; the old ones are used"
                );
                self.config.lock().0 = Instant::now();
                config
            }
        }
    }
}

impl Files {
    fn are_none(&self) -> bool {
        self.authority.is_none() && self.client.is_none()
    }

    async fn read(&self) -> Result<Arc<ClientConfig>, WebhookError> {
        let authorities = match &self.authority {
            None => Vec::new(),
            Some(file) => certificates(file).await?,
        };
        let tls = believing(&authorities)?;
        let config = match &self.client {
            None => tls.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate).await?;
                let parsed = PrivateKeyDer::from_pem_slice(&read(key).await?);
                let key = parsed.map_err(|e| WebhookError::Pem {
                    file: key.clone(),
                    source: PemError::Invalid("private key", e),
                })?;
                tls.with_client_auth_cert(chain, key)
                    .map_err(WebhookError::Certificate)?
            }
        };
        Ok(Arc::new(over_http1(config)))
    }
}

async fn certificates(
    file: &Path,
) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, WebhookError> {
    certificates_from_pem(&read(file).await?).map_err(|source| WebhookError::Pem {
        file: file.to_owned(),
        source,
    })
}

pub(super) async fn read(file: &Path) -> Result<Vec<u8>, WebhookError> {
    tokio::fs::read(file)
        .await
        .map_err(|source| WebhookError::File {
            file: file.to_owned(),
            source,
        })
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
