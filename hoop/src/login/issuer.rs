//! What the issuer is asked: where its endpoints are, and for tokens (RFC 6749 §5, RFC 8628 §3, RFC 7009).
//!
//! The client is public: it has no secret, and shows its id. Answers of the issuer are not trusted with anything but
//! tokens: what it says in words is shortened before a person sees it, and errors never hold an answer.

use hoop_proxy::{HttpsClient, HttpsError, HttpsSetupError};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;
use url::form_urlencoded::Serializer;

use super::id_token::IdToken;
use super::settings::Settings;
use super::{Tokens, shown};
use crate::config::Secret;

/// An issuer and what it offers.
#[derive(Debug)]
pub(super) struct Issuer {
    https: HttpsClient,
    settings: Settings,
    authorization: Option<Url>,
    token: Url,
    device: Option<Url>,
    revocation: Option<Url>,
}

/// What is read of a discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

/// An answer of the token endpoint that brings tokens.
#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<Secret<String>>,
    refresh_token: Option<Secret<String>>,
}

/// An answer that says why not.
#[derive(Debug, Deserialize)]
struct ErrorAnswer {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// What a person has to do on another device (RFC 8628 §3.2).
#[derive(Debug, Deserialize)]
pub(super) struct DeviceCode {
    pub(super) device_code: Secret<String>,
    pub(super) user_code: String,
    pub(super) verification_uri: String,
    pub(super) verification_uri_complete: Option<String>,
    /// Seconds.
    pub(super) expires_in: u64,
    /// Seconds between two questions.
    #[serde(default = "five")]
    pub(super) interval: u64,
}

/// RFC 8628 §3.2: "If no value is provided, clients MUST use 5 as the default."
fn five() -> u64 {
    5
}

/// Why the issuer gave no tokens.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssuerError {
    #[error("the issuer cannot be asked")]
    Setup(#[from] HttpsSetupError),
    #[error("the issuer cannot be asked")]
    Https(#[from] HttpsError),
    #[error("{0} is no discovery document")]
    Discovery(Url, #[source] serde_json::Error),
    #[error("{0} says that it is of the issuer {1:?}; --issuer has to be exactly that")]
    OtherIssuer(Url, String),
    #[error("the issuer has no {0}, or one that is no https:// URL")]
    Endpoint(&'static str),
    #[error("the issuer refuses: {} {}", shown(.error), shown(.description))]
    Refused { error: String, description: String },
    #[error("{0} answered {1}, and nothing that a client understands")]
    Answer(Url, StatusCode),
    #[error("the issuer sent no ID token; the scope \"openid\" may not be allowed for this client")]
    NoIdToken,
    #[error("the issuer's token {0}")]
    IdToken(String),
}

impl IssuerError {
    /// Whether it was understood and refused: asking again will not help, asking otherwise may.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::NoIdToken | Self::IdToken(_)
        )
    }

    /// The error's name in RFC 6749 §5.2 or RFC 8628 §3.5, if it is one of those.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Issuer {
    /// Finds out what the issuer offers.
    pub(super) async fn discover(settings: &Settings) -> Result<Self, IssuerError> {
        let https = HttpsClient::new(&settings.authorities)?;
        let at = &settings.discovery;
        let document = https.get(at).await?;
        let found: Discovery = serde_json::from_slice(&document)
            .map_err(|error| IssuerError::Discovery(at.clone(), error))?;
        if found.issuer != settings.issuer {
            return Err(IssuerError::OtherIssuer(at.clone(), shown(&found.issuer)));
        }
        Ok(Self {
            https,
            settings: settings.clone(),
            authorization: found.authorization_endpoint.as_deref().and_then(endpoint),
            token: found
                .token_endpoint
                .as_deref()
                .and_then(endpoint)
                .ok_or(IssuerError::Endpoint("token endpoint"))?,
            device: found
                .device_authorization_endpoint
                .as_deref()
                .and_then(endpoint),
            revocation: found.revocation_endpoint.as_deref().and_then(endpoint),
        })
    }

    /// What its tokens name as their issuer.
    pub(super) fn url(&self) -> &str {
        &self.settings.issuer
    }

    /// Whether people can log in on another device.
    pub(super) fn has_device_flow(&self) -> bool {
        self.device.is_some()
    }

    /// The page where a person logs in, with these parameters beside those of every login.
    pub(super) fn authorization(&self, parameters: &[(&str, &str)]) -> Result<Url, IssuerError> {
        let mut url = self
            .authorization
            .clone()
            .ok_or(IssuerError::Endpoint("authorization endpoint"))?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("scope", &self.settings.scopes.join(" "))
            .extend_pairs(parameters);
        Ok(url)
    }

    /// Asks the token endpoint.
    pub(super) async fn tokens(&self, parameters: &[(&str, &str)]) -> Result<Tokens, IssuerError> {
        let answer: TokenAnswer = self.ask(&self.token, parameters).await?;
        let id_token = answer.id_token.ok_or(IssuerError::NoIdToken)?;
        Ok(Tokens {
            id_token: IdToken::take(id_token, &self.settings).map_err(IssuerError::IdToken)?,
            refresh: answer.refresh_token,
        })
    }

    /// Renews a login. Some issuers give another refresh token each time, others go on with the first.
    pub(super) async fn refresh(&self, refresh: Secret<String>) -> Result<Tokens, IssuerError> {
        let tokens = self
            .tokens(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh.reveal()),
            ])
            .await?;
        Ok(Tokens {
            refresh: tokens.refresh.or(Some(refresh)),
            ..tokens
        })
    }

    /// Begins a login on another device.
    pub(super) async fn device_code(
        &self,
        parameters: &[(&str, &str)],
    ) -> Result<DeviceCode, IssuerError> {
        let at = self
            .device
            .as_ref()
            .ok_or(IssuerError::Endpoint("device authorization endpoint"))?;
        let scopes = self.settings.scopes.join(" ");
        let mut all = vec![("scope", scopes.as_str())];
        all.extend(parameters);
        self.ask(at, &all).await
    }

    /// Takes a refresh token back, and with it the login. False where the issuer does not offer that.
    pub(super) async fn revoke(&self, refresh: &Secret<String>) -> Result<bool, IssuerError> {
        let Some(at) = &self.revocation else {
            return Ok(false);
        };
        let parameters = [
            ("token", refresh.reveal().as_str()),
            ("token_type_hint", "refresh_token"),
        ];
        // RFC 7009 §2.2: 200 also for a token that is no longer known; the body says nothing.
        let (status, answer) = self.https.post_form(at, self.form(&parameters)).await?;
        match status {
            StatusCode::OK => Ok(true),
            status => Err(refusal(at, status, &answer)),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        at: &Url,
        parameters: &[(&str, &str)],
    ) -> Result<T, IssuerError> {
        let (status, answer) = self.https.post_form(at, self.form(parameters)).await?;
        if status != StatusCode::OK {
            return Err(refusal(at, status, &answer));
        }
        // The parser's error is dropped: it may quote a token.
        serde_json::from_slice(&answer).map_err(|_| IssuerError::Answer(at.clone(), status))
    }

    fn form(&self, parameters: &[(&str, &str)]) -> String {
        Serializer::new(String::new())
            .append_pair("client_id", &self.settings.client_id)
            .extend_pairs(parameters)
            .finish()
    }
}

fn refusal(at: &Url, status: StatusCode, answer: &[u8]) -> IssuerError {
    // A failing server may put anything into the answer; an answer of the protocol is a 4xx.
    match serde_json::from_slice::<ErrorAnswer>(answer) {
        Ok(answer) if status.is_client_error() => IssuerError::Refused {
            error: answer.error,
            description: answer.error_description,
        },
        _ => IssuerError::Answer(at.clone(), status),
    }
}

/// An endpoint that can be trusted with a token. One that cannot is as none.
fn endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "https" && url.has_host()).then_some(url)
}
