//! How a client of the brokers proves who it is and checks who they are, as properties of librdkafka.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::log::Source;

/// A secret. It prints as `****`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How connections are protected. Nothing at all by default, for brokers on the same machine.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// TLS, or plain text.
    pub tls: Option<Tls>,
    /// Who we are, if it is not said by a client certificate.
    pub sasl: Option<Sasl>,
}

/// TLS towards the brokers. The name in a broker's certificate is always checked.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of the authorities that are believed, as PEM; those of the system when there are none.
    pub ca_pem: Option<String>,
    /// Certificate of this client with those up to its authority, as PEM.
    pub certificate_pem: Option<String>,
    /// Its private key, as PEM.
    pub key_pem: Option<Secret>,
    /// What the private key is encrypted with.
    pub key_password: Option<Secret>,
}

/// A user of the brokers.
#[derive(Clone, Debug)]
pub enum Sasl {
    /// User and password, as they are: only under TLS.
    Plain {
        /// Name of the user.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// Salted challenge and response (RFC 5802) with SHA-256.
    ScramSha256 {
        /// Name of the user.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// Salted challenge and response (RFC 5802) with SHA-512.
    ScramSha512 {
        /// Name of the user.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// A token (RFC 7628), fetched anew whenever four fifths of its life are over. librdkafka's administrative client
    /// has no way to take one: with it, topics have to exist, and of their settings only shards and replicas are
    /// checked.
    OAuthBearer(Arc<dyn OAuthTokens>),
}

/// Where tokens come from.
pub trait OAuthTokens: Send + Sync + fmt::Debug {
    /// A token that is valid now. May block for a while: it is called on a thread of the client.
    ///
    /// # Errors
    /// Why there is none; it is asked again ten seconds later.
    fn token(&self) -> Result<OAuthToken, Source>;
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthToken {
    /// What is sent.
    pub token: Secret,
    /// Whom it is for.
    pub principal: String,
    /// When it ends.
    pub expires: SystemTime,
}

/// Tokens that somebody else keeps fresh in a file, as Kubernetes does with those of service accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile(pub PathBuf);

/// Why a file has no token to offer.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is no JSON Web Token with `sub` and `exp`.
    #[error("{path} holds no JSON Web Token with the claims sub and exp")]
    Claims {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// Takes a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl OAuthTokens for TokenFile {
    fn token(&self) -> Result<OAuthToken, Source> {
        let text = fs::read_to_string(&self.0).map_err(|source| TokenError::Read {
            path: self.0.clone(),
            source,
        })?;
        let token = text.trim();
        let Some((principal, expires)) = claims(token) else {
            let path = self.0.clone();
            return Err(TokenError::Claims { path }.into());
        };
        Ok(OAuthToken {
            token: Secret::new(token),
            principal,
            expires,
        })
    }
}

impl Security {
    /// The properties of librdkafka that say all this.
    pub(crate) fn properties(&self) -> Vec<(&'static str, String)> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let mut properties = vec![("security.protocol", protocol.to_owned())];
        if let Some(tls) = &self.tls {
            tls.properties(&mut properties);
        }
        match &self.sasl {
            None => {}
            Some(Sasl::OAuthBearer(_)) => {
                properties.push(("sasl.mechanism", "OAUTHBEARER".to_owned()));
            }
            Some(
                sasl @ (Sasl::Plain { user, password }
                | Sasl::ScramSha256 { user, password }
                | Sasl::ScramSha512 { user, password }),
            ) => {
                let mechanism = match sasl {
                    Sasl::ScramSha256 { .. } => "SCRAM-SHA-256",
                    Sasl::ScramSha512 { .. } => "SCRAM-SHA-512",
                    _ => "PLAIN",
                };
                properties.push(("sasl.mechanism", mechanism.to_owned()));
                properties.push(("sasl.username", user.clone()));
                properties.push(("sasl.password", password.expose().to_owned()));
            }
        }
        properties
    }

    /// Where tokens come from, if that is how we say who we are.
    pub(crate) fn tokens(&self) -> Option<&Arc<dyn OAuthTokens>> {
        match &self.sasl {
            Some(Sasl::OAuthBearer(tokens)) => Some(tokens),
            _ => None,
        }
    }

    /// What cannot work.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if let Some(tls) = &self.tls
            && tls.certificate_pem.is_some() != tls.key_pem.is_some()
        {
            return Err("a client certificate and its private key go together");
        }
        if self.tls.is_none() && matches!(self.sasl, Some(Sasl::Plain { .. })) {
            return Err("SASL PLAIN sends the password as it is: it needs TLS");
        }
        Ok(())
    }
}

impl Tls {
    fn properties(&self, properties: &mut Vec<(&'static str, String)>) {
        properties.push(("ssl.endpoint.identification.algorithm", "https".to_owned()));
        properties.push(("enable.ssl.certificate.verification", "true".to_owned()));
        match &self.ca_pem {
            Some(pem) => properties.push(("ssl.ca.pem", pem.clone())),
            None => properties.push(("ssl.ca.location", "probe".to_owned())),
        }
        if let Some(pem) = &self.certificate_pem {
            properties.push(("ssl.certificate.pem", pem.clone()));
        }
        if let Some(pem) = &self.key_pem {
            properties.push(("ssl.key.pem", pem.expose().to_owned()));
        }
        if let Some(password) = &self.key_password {
            properties.push(("ssl.key.password", password.expose().to_owned()));
        }
    }
}

/// `sub` and `exp` of a JSON Web Token. The brokers check it; we only have to know when to fetch another.
fn claims(token: &str) -> Option<(String, SystemTime)> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
        exp: f64,
    }
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let since = Duration::try_from_secs_f64(claims.exp).ok()?;
    Some((claims.sub, SystemTime::UNIX_EPOCH.checked_add(since)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(properties: &'a [(&str, String)], name: &str) -> Option<&'a str> {
        let found = properties.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.as_str())
    }

    fn scram() -> Sasl {
        Sasl::ScramSha512 {
            user: "gateway".to_owned(),
            password: Secret::new("hunter2"),
        }
    }

    #[test]
    fn the_protocol_follows_from_tls_and_sasl() {
        for (tls, sasl, protocol) in [
            (false, false, "plaintext"),
            (true, false, "ssl"),
            (false, true, "sasl_plaintext"),
            (true, true, "sasl_ssl"),
        ] {
            let security = Security {
                tls: tls.then(Tls::default),
                sasl: sasl.then(scram),
            };
            let properties = security.properties();
            assert_eq!(value(&properties, "security.protocol"), Some(protocol));
            let verified = value(&properties, "ssl.endpoint.identification.algorithm");
            assert_eq!(verified, tls.then_some("https"));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let security = Security {
            tls: None,
            sasl: Some(scram()),
        };
        assert!(!format!("{security:?}").contains("hunter2"));
        assert_eq!(
            value(&security.properties(), "sasl.password"),
            Some("hunter2")
        );
    }

    #[test]
    fn half_a_client_certificate_and_a_bare_password_are_refused() {
        let half = Security {
            tls: Some(Tls {
                certificate_pem: Some("pem".to_owned()),
                ..Tls::default()
            }),
            sasl: None,
        };
        assert!(half.check().is_err());
        let bare = Security {
            tls: None,
            sasl: Some(Sasl::Plain {
                user: "u".to_owned(),
                password: Secret::new("p"),
            }),
        };
        assert!(bare.check().is_err());
    }

    #[test]
    fn a_token_file_says_whom_its_token_is_for_and_when_it_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // {"alg":"none"} and {"sub":"gateway","exp":1800000000}
        let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJnYXRld2F5IiwiZXhwIjoxODAwMDAwMDAwfQ.";
        fs::write(file.path(), format!("{token}\n")).unwrap();
        let found = TokenFile(file.path().to_owned()).token().unwrap();
        assert_eq!(found.principal, "gateway");
        assert_eq!(found.token.expose(), token);
        let since = found.expires.duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(since.unwrap().as_secs(), 1_800_000_000);
    }

    #[test]
    fn what_is_no_token_is_said_without_being_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret.bytes").unwrap();
        let error = TokenFile(file.path().to_owned()).token().unwrap_err();
        assert!(!error.to_string().contains("secret.bytes"), "{error}");
        assert!(TokenFile("/nowhere/at/all".into()).token().is_err());
    }
}
