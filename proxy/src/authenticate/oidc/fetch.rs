//! Fetching an issuer's keys: the discovery document (OpenID Connect Discovery 1.0), then the key set that it names. Both
//! over TLS, both small, both soon, or not at all. Redirections and HTTP proxies are not followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::document::IssuerConfig;
use super::keys::KeySet;

/// The longest document. A hundred keys with certificates take 300 KB; ten without, as is common, 5 KB.
const DOCUMENT_BYTES_MAX: usize = 512 * 1024;

/// For discovery document and keys together. The API server gives up on one of them after as long.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why there are no keys. Each says which document it is about.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0} did not answer in time")]
    Timeout(Url),
    #[error("{0} cannot be reached")]
    Connect(Url, #[source] std::io::Error),
    #[error("the answer of {0} cannot be read, or is larger than {DOCUMENT_BYTES_MAX} bytes")]
    Answer(Url, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} answered {1}")]
    Status(Url, StatusCode),
    #[error("{0} is no discovery document")]
    Discovery(Url, #[source] serde_json::Error),
    #[error("{0} says that it is of the issuer {1:?}, not the configured one")]
    OtherIssuer(Url, String),
    #[error("{0} names {1:?} for its keys, which is no https:// URL")]
    KeysUrl(Url, String),
    #[error("the keys at {0} {1}")]
    Keys(Url, String),
}

/// What is read of a discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The keys that the issuer publishes now.
pub(super) async fn keys(
    issuer: &IssuerConfig,
    tls: &Arc<ClientConfig>,
) -> Result<KeySet, FetchError> {
    let at = &issuer.discovery;
    let document = get(at, tls).await?;
    let discovery: Discovery = serde_json::from_slice(&document)
        .map_err(|error| FetchError::Discovery(at.clone(), error))?;
    if discovery.issuer != issuer.url {
        return Err(FetchError::OtherIssuer(
            at.clone(),
            shown(&discovery.issuer),
        ));
    }
    let at = match Url::parse(&discovery.jwks_uri) {
        Ok(url) if url.scheme() == "https" && url.host().is_some() => url,
        _ => return Err(FetchError::KeysUrl(at.clone(), shown(&discovery.jwks_uri))),
    };
    let document = get(&at, tls).await?;
    KeySet::parse(&document).map_err(|why| FetchError::Keys(at, why))
}

/// As much of a foreign text as is good for a log.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

async fn get(url: &Url, tls: &Arc<ClientConfig>) -> Result<Bytes, FetchError> {
    let connect = |error: std::io::Error| FetchError::Connect(url.clone(), error);
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    // An IPv6 address stands in brackets in a URL, and without them everywhere else.
    let name = host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((name, port)).await.map_err(connect)?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| connect(std::io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(server, tcp).await.map_err(connect)?;
    let answer =
        |error: Box<dyn std::error::Error + Send + Sync>| FetchError::Answer(url.clone(), error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| answer(error.into()))?;
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "hoop")
        .body(Empty::new())
        .map_err(|error| answer(error.into()))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| answer(error.into()))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(url.clone(), response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
        let collected = body.collect().await.map_err(answer)?;
        Ok(collected.to_bytes())
    };
    // Nobody else drives the connection; its own end is the end of the answer, or shows there.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        done = &mut exchange => done,
        _ = connection => exchange.await,
    }
}
