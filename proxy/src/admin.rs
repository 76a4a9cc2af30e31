//! The side door for operators: metrics, health and readiness, over plain HTTP on an address of its own.
//!
//! - `/metrics`: OpenMetrics text of the registry.
//! - `/healthz`: 200 as long as the process turns.
//! - `/readyz`: 200 when a request made now could be recorded, 503 and the reason otherwise. A process without a gateway
//!   takes no requests and is always ready.
//!
//! Nothing here tells about requests or people; it still belongs on an address that only operators reach.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::record::Journal;

/// The media type of [`prometheus_client::encoding::text::encode`].
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a gateway can do its work.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// None in a process that has no gateway.
    journal: Option<Arc<Journal>>,
}

/// The bound address of the side door.
#[derive(Debug)]
pub struct Admin {
    socket: TcpListener,
}

#[derive(Debug, Clone)]
struct Shared {
    registry: Arc<Registry>,
    readiness: Readiness,
}

impl Readiness {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal: Some(journal),
        }
    }

    /// Whether a request made now could be recorded.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), crate::record::RecordError> {
        match &self.journal {
            Some(journal) => journal.ready().await,
            None => Ok(()),
        }
    }
}

impl Admin {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { socket })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown` resolves. All components have registered their metrics by now.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn run(
        self,
        registry: Arc<Registry>,
        readiness: Readiness,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(Shared {
                registry,
                readiness,
            });
        axum::serve(self.socket, router)
            .with_graceful_shutdown(shutdown)
            .await
    }
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.readiness.check().await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {error}\n"),
        ),
    }
}
