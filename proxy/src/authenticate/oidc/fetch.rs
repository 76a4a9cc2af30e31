//! Fetching an issuer's keys: the discovery document (OpenID Connect Discovery 1.0), then the key set that it names.

use serde::Deserialize;
use url::Url;

use super::document::IssuerConfig;
use super::keys::KeySet;
use crate::https_client::{HttpsClient, HttpsError};

/// Why there are no keys. Each says which document it is about.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Https(#[from] HttpsError),
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
pub(super) async fn keys(issuer: &IssuerConfig, https: &HttpsClient) -> Result<KeySet, FetchError> {
    let at = &issuer.discovery;
    let document = https.get(at).await?;
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
    let document = https.get(&at).await?;
    KeySet::parse(&document).map_err(|why| FetchError::Keys(at, why))
}

/// As much of a foreign text as is good for a log.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}
