//! Making connections: name resolution, TCP, TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use http::uri::Scheme;
use kube::client::ConfigExt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamConfigError;
use super::connection::Link;
use crate::config::Limits;

/// A silent connection, say a quiet watch, is probed after this long, so that a dead API server is noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Between probes, of which three go unanswered before the connection is given up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Knows how to reach the API server.
pub(crate) struct Connector {
    address: (String, u16),
    host: HeaderValue,
    tls: Option<(ArcSwap<rustls::ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
}

/// A connection's bytes.
pub(crate) enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Connector {
    pub(super) async fn new(
        config: &kube::Config,
        limits: &Limits,
    ) -> Result<Self, UpstreamConfigError> {
        let url = &config.cluster_url;
        let wrong = || UpstreamConfigError::Address(url.to_string());
        let authority = url.authority().ok_or_else(wrong)?;
        if !matches!(url.path(), "" | "/") {
            return Err(UpstreamConfigError::Unsupported(
                "a path below the API server's address",
            ));
        }
        let secure = url.scheme() != Some(&Scheme::HTTP);
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let name = authority.host().trim_matches(['[', ']']);
        let port = authority
            .port_u16()
            .unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure {
            let server = config.tls_server_name.as_deref().unwrap_or(name).to_owned();
            let server = ServerName::try_from(server).map_err(|_| wrong())?;
            Some((ArcSwap::new(client_config(config.clone()).await?), server))
        } else {
            None
        };
        Ok(Self {
            address: (name.to_owned(), port),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
            tls,
            timeout: limits.upstream_connect_timeout,
        })
    }

    /// `Host`, as the API server's address says it.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Reads trust and client certificate again: an exec plugin may have a new one.
    pub(super) async fn renew(&self, config: &kube::Config) {
        let Some((tls, _)) = &self.tls else { return };
        match client_config(config.clone()).await {
            Ok(renewed) => tls.store(renewed),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "TLS to the API server could not be renewed"
                );
            }
        }
    }

    /// A new connection for ordinary requests.
    pub(super) async fn connect(&self) -> io::Result<Link> {
        Link::new(self.open().await?).await
    }

    /// A new connection's bytes.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let connecting = async {
            let (host, port) = &self.address;
            let tcp = TcpStream::connect((host.as_str(), *port)).await?;
            tcp.set_nodelay(true)?;
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(KEEPALIVE_IDLE)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_PROBES);
            socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
            Ok(match &self.tls {
                None => Stream::Plain(tcp),
                Some((config, server)) => {
                    let connector = TlsConnector::from(config.load_full());
                    Stream::Tls(Box::new(connector.connect(server.clone(), tcp).await?))
                }
            })
        };
        tokio::time::timeout(self.timeout, connecting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Trust and client certificate as TLS needs them. May run an exec plugin, which blocks.
async fn client_config(
    config: kube::Config,
) -> Result<Arc<rustls::ClientConfig>, UpstreamConfigError> {
    let built = tokio::task::spawn_blocking(move || config.rustls_client_config())
        .await
        .map_err(|e| UpstreamConfigError::Tls(Box::new(e)))?;
    let mut built = built.map_err(|e| UpstreamConfigError::Tls(Box::new(e)))?;
    built.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(built))
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Plain(stream) => stream.is_write_vectored(),
        }
    }
}
