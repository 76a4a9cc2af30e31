//! The gateway's own credential: token, token file, exec plugin or basic, as the kubeconfig says. Client certificates
//! belong to the connection (see `connector`).
//!
//! `kube` knows all of them and when to refresh; its layer is run over a service that only looks at the request, to
//! learn what it would send.

use std::future::{Future, Ready};
use std::pin::Pin;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use http_body_util::Empty;
use kube::client::ConfigExt;
use kube::client::middleware::AuthLayer;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use super::UpstreamConfigError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Answers a request with its own headers.
type Look = fn(Request<Empty<Bytes>>) -> Ready<Result<Response<()>, Source>>;

/// How long a header is used before `kube` is asked again. It renews tokens ten seconds before they expire or earlier,
/// so a second does no harm, and asking costs a few allocations and a lock.
const FRESH: Duration = Duration::from_secs(1);

/// At least this long between two runs of an exec plugin because the API server refused its credential.
const RENEW_PAUSE: Duration = Duration::from_secs(10);

/// Where the `Authorization` header comes from.
pub(crate) struct Credential {
    config: kube::Config,
    layer: ArcSwapOption<AuthLayer>,
    last: Mutex<Option<(Instant, HeaderValue)>>,
    renewed: Mutex<Option<Instant>>,
}

impl Credential {
    /// Obtains the credential once, so that a plugin that does not work is noticed at the start.
    pub(super) async fn new(config: kube::Config) -> Result<Self, UpstreamConfigError> {
        let layer = layer(&config)
            .await
            .map_err(UpstreamConfigError::Credential)?;
        let credential = Self {
            config,
            layer: ArcSwapOption::from_pointee(layer),
            last: Mutex::new(None),
            renewed: Mutex::new(None),
        };
        credential
            .authorization()
            .await
            .map_err(UpstreamConfigError::Credential)?;
        Ok(credential)
    }

    pub(super) fn config(&self) -> &kube::Config {
        &self.config
    }

    /// The header to send now; `None` when the credential is a client certificate.
    pub(super) async fn authorization(&self) -> Result<Option<HeaderValue>, Source> {
        let Some(layer) = self.layer.load_full() else {
            return Ok(None);
        };
        if let Some((since, header)) = &*self.last.lock()
            && since.elapsed() < FRESH
        {
            return Ok(Some(header.clone()));
        }
        let seen = ask(&layer).await?;
        let Some(mut header) = seen.headers().get(AUTHORIZATION).cloned() else {
            return Ok(None);
        };
        header.set_sensitive(true);
        *self.last.lock() = Some((Instant::now(), header.clone()));
        Ok(Some(header))
    }

    /// The API server did not accept the credential: obtains another, as client-go does after a 401.
    pub(super) async fn refused(&self) {
        {
            let mut renewed = self.renewed.lock();
            if renewed.is_some_and(|at| at.elapsed() < RENEW_PAUSE) {
                return;
            }
            *renewed = Some(Instant::now());
        }
        match layer(&self.config).await {
            Ok(layer) => {
                self.layer.store(layer.map(std::sync::Arc::new));
                *self.last.lock() = None;
            }
            Err(error) => {
                tracing::error!(
                    error = &*error as &dyn std::error::Error,
                    "the gateway's credential for the API server could not be renewed"
                );
            }
        }
    }
}

/// The headers that the layer puts on a request, as those of a response. Boxed: its own type names lifetimes that
/// the compiler cannot prove `Send` over.
fn ask(layer: &AuthLayer) -> Pin<Box<dyn Future<Output = Result<Response<()>, Source>> + Send>> {
    let look: Look = |request| {
        let mut response = Response::new(());
        *response.headers_mut() = request.into_parts().0.headers;
        std::future::ready(Ok(response))
    };
    Box::pin(
        layer
            .layer(service_fn(look))
            .oneshot(Request::new(Empty::new())),
    )
}

/// `kube`'s layer for this configuration. May run an exec plugin, which blocks.
async fn layer(config: &kube::Config) -> Result<Option<AuthLayer>, Source> {
    let config = config.clone();
    let layer = tokio::task::spawn_blocking(move || config.auth_layer()).await??;
    Ok(layer)
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(****)")
    }
}
