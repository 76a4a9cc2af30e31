//! The API server: connections to it, the gateway's own credential, and one request at a time.
//!
//! # Promises
//! - What is sent is exactly the request it was given, plus the gateway's own `Host` and `Authorization`.
//! - A request is sent at most once, but for reads over a kept connection that the API server had closed meanwhile.
//! - Dropping the future or the body ends the request: nothing goes on behind the client's back.
//!
//! Connections are HTTP/1.1, driven by whoever uses them rather than by tasks of their own: an HTTP/2 connection
//! would be shared by many users' requests, and every frame would take another hop between tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use kube::config::KubeConfigOptions;
use tokio::sync::OwnedSemaphorePermit;

use crate::authenticate::TokenReviewer;
use crate::config::{Limits, UpstreamSource};

mod body;
mod connection;
mod connector;
mod credential;
mod headers;
mod pool;

pub(crate) use body::UpstreamBody;
pub(crate) use headers::{Forwarded, claims, for_client, for_upstream, is_encoded};

use connection::{Link, SendFailure};
use connector::Connector;
use credential::Credential;
use pool::Pool;

/// The longest answer to a review: a user with some hundred groups.
const REVIEW_BYTES_MAX: usize = 256 * 1024;

/// The API server.
#[derive(Debug)]
pub(crate) struct Upstream {
    connector: Connector,
    credential: Credential,
    pool: Arc<Pool>,
    head_timeout: Duration,
}

/// Why the API server cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    /// No usable kubeconfig.
    #[error("the kubeconfig of the API server cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// Not in a pod.
    #[error(
        "there are no in-cluster credentials; run in a pod with a service account, or name a kubeconfig"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// The server's address is not one.
    #[error("the API server's address {0} is not of the form https://host:port")]
    Address(String),
    /// Something that is not supported.
    #[error("the kubeconfig asks for {0}, which the gateway does not support")]
    Unsupported(&'static str),
    /// The trust or the client certificate cannot be used.
    #[error("TLS to the API server cannot be set up; look at the certificates in the kubeconfig")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The credential cannot be had.
    #[error("the gateway's own credential for the API server cannot be obtained")]
    Credential(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a request got no answer. The operation is the label of the metric.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the gateway's own credential for the API server cannot be obtained")]
    Credential(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the API server cannot be reached")]
    Connect(#[source] std::io::Error),
    #[error("too many connections to the API server are in use")]
    Exhausted,
    #[error("the API server did not answer in time")]
    Timeout,
    #[error("the API server broke off before it answered")]
    Broken(#[source] hyper::Error),
    #[error("the API server does not accept the gateway's own credential")]
    Refused,
}

impl SendError {
    /// The label of the metric.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Credential(_) => "credential",
            Self::Connect(_) => "connect",
            Self::Exhausted => "exhausted",
            Self::Timeout => "timeout",
            Self::Broken(_) => "send",
            Self::Refused => "refused",
        }
    }
}

impl Upstream {
    /// Reads the source, and obtains the first credential.
    pub(crate) async fn open(
        source: UpstreamSource,
        limits: &Limits,
    ) -> Result<Self, UpstreamConfigError> {
        let config = load(source).await?;
        if config.proxy_url.is_some() {
            return Err(UpstreamConfigError::Unsupported("a proxy (proxy-url)"));
        }
        let connector = Connector::new(&config, limits).await?;
        let credential = Credential::new(config).await?;
        Ok(Self {
            connector,
            credential,
            pool: Arc::new(Pool::new(
                limits.upstream_connections_max,
                limits.upstream_idle_max,
            )),
            head_timeout: limits.upstream_head_timeout,
        })
    }

    /// Sends one request. `proxied` says that somebody behind the API server
    /// answers: it may take as long as it likes to begin, and a 401 is theirs.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        proxied: bool,
    ) -> Result<Response<UpstreamBody>, SendError> {
        self.introduce(request.headers_mut()).await?;
        let answer = self.exchange(request);
        let response = if proxied {
            answer.await?
        } else {
            tokio::time::timeout(self.head_timeout, answer)
                .await
                .map_err(|_| SendError::Timeout)??
        };
        if response.status() == StatusCode::UNAUTHORIZED && !proxied {
            return Err(self.not_recognised().await);
        }
        Ok(response)
    }

    /// Sends one request that asks for an upgrade, over a connection of its own. The permit counts it among the
    /// connections for as long as it is kept.
    pub(crate) async fn upgrade(
        &self,
        mut request: Request<Full<Bytes>>,
        proxied: bool,
    ) -> Result<(Response<UpstreamBody>, OwnedSemaphorePermit), SendError> {
        self.introduce(request.headers_mut()).await?;
        let slot = self.pool.slot().await.ok_or(SendError::Exhausted)?;
        let stream = self.connector.open().await.map_err(SendError::Connect)?;
        let answer = connection::upgrade(stream, request);
        let response = tokio::time::timeout(self.head_timeout, answer)
            .await
            .map_err(|_| SendError::Timeout)?
            .map_err(SendError::Broken)?;
        if response.status() == StatusCode::UNAUTHORIZED && !proxied {
            return Err(self.not_recognised().await);
        }
        Ok((UpstreamBody::alone(response), slot))
    }

    /// The gateway's own `Host` and credential.
    async fn introduce(&self, headers: &mut HeaderMap) -> Result<(), SendError> {
        headers.insert(HOST, self.connector.host().clone());
        let authorization = self
            .credential
            .authorization()
            .await
            .map_err(SendError::Credential)?;
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        Ok(())
    }

    /// A 401: it is the gateway that was not recognised, not the person.
    async fn not_recognised(&self) -> SendError {
        self.credential.refused().await;
        self.connector.renew(self.credential.config()).await;
        SendError::Refused
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let slot = self.pool.slot().await.ok_or(SendError::Exhausted)?;
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let mut request = request;
        while let Some(mut link) = self.pool.take().await {
            let copy = safe.then(|| request.clone());
            match link.send(request).await {
                Ok(response) => return Ok(UpstreamBody::attach(response, link, slot, &self.pool)),
                Err(SendFailure::Unsent(unsent)) => request = *unsent,
                // The API server closed the connection as the request was on its way.
                Err(SendFailure::Broken(error)) => match copy {
                    Some(copy) => request = copy,
                    None => return Err(SendError::Broken(error)),
                },
            }
        }
        let mut link: Link = self.connector.connect().await.map_err(SendError::Connect)?;
        match link.send(request).await {
            Ok(response) => Ok(UpstreamBody::attach(response, link, slot, &self.pool)),
            Err(SendFailure::Unsent(_)) => Err(SendError::Connect(
                std::io::ErrorKind::ConnectionAborted.into(),
            )),
            Err(SendFailure::Broken(error)) => Err(SendError::Broken(error)),
        }
    }

    /// Closes kept connections that nobody used for a while. To be called now and then.
    pub(crate) async fn sweep(&self) {
        self.pool.sweep().await;
    }

    /// The authority that a `Location` of the API server's own has.
    pub(crate) fn host(&self) -> &HeaderValue {
        self.connector.host()
    }
}

#[async_trait]
impl TokenReviewer for Upstream {
    async fn review(&self, review: Bytes) -> Option<Bytes> {
        let request = Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(Full::new(review))
            .expect("the parts are literals");
        let response = match self.send(request, false).await {
            Ok(response) => response,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the API server could not be asked about a token");
                return None;
            }
        };
        if !response.status().is_success() {
            tracing::warn!(
                status = response.status().as_u16(),
                "the API server does not review tokens for the gateway; bind its user to system:auth-delegator"
            );
            return None;
        }
        let body = Limited::new(response.into_body(), REVIEW_BYTES_MAX);
        Some(body.collect().await.ok()?.to_bytes())
    }
}

async fn load(source: UpstreamSource) -> Result<kube::Config, UpstreamConfigError> {
    match source {
        UpstreamSource::Explicit(config) => Ok(*config),
        UpstreamSource::InCluster => {
            kube::Config::incluster().map_err(UpstreamConfigError::InCluster)
        }
        UpstreamSource::Kubeconfig { path, context } => {
            let options = KubeConfigOptions {
                context,
                ..KubeConfigOptions::default()
            };
            match path {
                None => kube::Config::from_kubeconfig(&options).await,
                Some(path) => {
                    let kubeconfig = tokio::task::spawn_blocking(move || {
                        kube::config::Kubeconfig::read_from(path)
                    })
                    .await
                    .expect("reading a file does not panic")
                    .map_err(UpstreamConfigError::Kubeconfig)?;
                    kube::Config::from_custom_kubeconfig(kubeconfig, &options).await
                }
            }
            .map_err(UpstreamConfigError::Kubeconfig)
        }
    }
}
