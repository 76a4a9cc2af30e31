//! The door: TCP, TLS, HTTP/1.1 and HTTP/2. Every request of a connection goes to [`Handler::serve`].
//!
//! The protocol is what ALPN agreed on, HTTP/1.1 without it: clients that upgrade a connection offer none.
//!
//! Told to stop, it accepts no more, lets requests in flight end (HTTP/2 learns it through GOAWAY), and after a
//! deadline breaks off the rest, whose outcomes are recorded all the same.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::authenticate::CertificateAuthenticator;
use crate::config::{Limits, ServerIdentity};
use crate::gateway::Handler;

mod http1;
mod http2;
mod wire;

/// The largest head that is read: above the gateway's own limit, so that what passes that limit by a little is
/// refused with a Status. Beyond it hyper answers 431 without a body.
const HEAD_BUFFER_BYTES: usize = 512 * 1024;

/// Header lines that are read on HTTP/1.1, for the same reason above the gateway's own limit.
const HEADERS_READ_MAX: usize = 512;

/// How often a silent HTTP/2 client is asked whether it is there; client-go asks as often.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// After an error of accept, such as too many open files: long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket, ready to serve.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
    certificates: CertificateAuthenticator,
    limits: Limits,
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {0}; choose another address or stop what listens there")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// The server's certificate and key do not fit together, or a client authority is none.
    #[error("the certificates of the listener cannot be used")]
    Tls(#[source] rustls::Error),
}

impl Listener {
    /// Binds the address.
    pub(crate) async fn bind(
        address: SocketAddr,
        identity: ServerIdentity,
        client_cas: &[rustls_pki_types::CertificateDer<'static>],
        limits: Limits,
    ) -> Result<Self, ListenError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificates =
            CertificateAuthenticator::new(client_cas, &provider).map_err(ListenError::Tls)?;
        let config = server_config(identity, &certificates, provider).map_err(ListenError::Tls)?;
        let socket = TcpListener::bind(address)
            .await
            .map_err(|e| ListenError::Bind(address, e))?;
        Ok(Self {
            socket,
            tls: TlsAcceptor::from(Arc::new(config)),
            certificates,
            limits,
        })
    }

    /// Who judges client certificates.
    pub(crate) fn certificates(&self) -> &CertificateAuthenticator {
        &self.certificates
    }

    /// The address it is bound to.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown` resolves, then until the last request has ended or the drain deadline is over.
    pub(crate) async fn serve(self, handler: Arc<Handler>, shutdown: impl Future<Output = ()>) {
        let listener = Arc::new(self);
        let (stop, stopped) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(listener.limits.connections_max));
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                (stream, slot) = listener.accept(&slots) => {
                    let (listener, handler, stopped) = (Arc::clone(&listener), Arc::clone(&handler), stopped.clone());
                    connections.spawn(async move {
                        listener.connection(stream, handler, stopped).await;
                        drop(slot);
                    });
                }
            }
        }
        stop.send_replace(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(listener.limits.drain_timeout, all_ended)
            .await
            .is_err()
        {
            tracing::info!(
                connections = connections.len(),
                "streams were still open at the end of the drain time and are broken off"
            );
            connections.shutdown().await;
        }
    }

    /// The next connection, as soon as there is room for one.
    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
    ) -> ((TcpStream, SocketAddr), tokio::sync::OwnedSemaphorePermit) {
        let slot = Arc::clone(slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            match self.socket.accept().await {
                Ok(accepted) => return (accepted, slot),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection, from handshake to close.
    async fn connection(
        &self,
        (stream, address): (TcpStream, SocketAddr),
        handler: Arc<Handler>,
        stopped: watch::Receiver<bool>,
    ) {
        // An answer of several writes must not wait for the acknowledgement of the first.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it began");
            return;
        }
        let handshake =
            tokio::time::timeout(self.limits.handshake_timeout, self.tls.accept(stream));
        let Ok(Ok(stream)) = handshake.await else {
            handler.metrics.handshakes_failed.inc();
            return;
        };
        let (_, session) = stream.get_ref();
        let presented = self.certificates.judge(session.peer_certificates());
        let http2 = session.alpn_protocol() == Some(b"h2");
        let peer = Arc::new(handler.peer(address.ip(), presented));
        let open = handler.metrics.connections.clone();
        open.inc();
        if http2 {
            http2::serve(stream, &handler, peer, stopped, &self.limits).await;
        } else {
            http1::serve(stream, &handler, peer, stopped, &self.limits).await;
        }
        open.dec();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

fn server_config(
    identity: ServerIdentity,
    certificates: &CertificateAuthenticator,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match certificates.in_handshake() {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets let kubectl, which connects anew for each command, skip half of the handshake.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
