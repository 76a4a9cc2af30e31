//! The ID token that a login brings.
//!
//! Its signature is not checked here: it comes from the issuer itself, over TLS (OpenID Connect Core §3.1.3.7), and is
//! for the gateway, which does. What is checked is that it is the token that was asked for.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::settings::Settings;
use super::shown;
use crate::config::Secret;

/// A token that holds for a person and a client.
#[derive(Debug, Clone)]
pub(super) struct IdToken {
    token: Secret<String>,
    expires: Timestamp,
    nonce: Option<Secret<String>>,
    person: String,
}

impl IdToken {
    /// Takes a token that the issuer of `settings` gave. The error completes the sentence "the token …".
    pub(super) fn take(token: Secret<String>, settings: &Settings) -> Result<Self, String> {
        let claims = hoop_proxy::unverified_claims(token.reveal()).ok_or("is no signed JWT")?;
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        if text("iss") != Some(&settings.issuer) {
            return Err("is of another issuer".to_owned());
        }
        let is_client = |value: &Value| value.as_str() == Some(&settings.client_id);
        let for_us = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_client),
            Some(one) => is_client(one),
            None => false,
        };
        if !for_us {
            return Err("is for another client".to_owned());
        }
        // A fraction of a second does not matter here.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it saturates, and is then no time"
        )]
        let expires = claims
            .get("exp")
            .and_then(|value| value.as_i64().or(value.as_f64().map(|exp| exp as i64)))
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or("does not say when it expires")?;
        let person = ["email", "preferred_username", "name", "sub"]
            .into_iter()
            .find_map(text)
            .map_or_else(String::new, shown);
        let nonce = text("nonce").map(|nonce| Secret::new(nonce.to_owned()));
        Ok(Self {
            expires,
            nonce,
            person,
            token,
        })
    }

    /// The token itself.
    pub(super) fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// When it ends.
    pub(super) fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whose it is, in words for people.
    pub(super) fn person(&self) -> &str {
        &self.person
    }

    /// Whether it lasts for this long still.
    pub(super) fn lasts(&self, now: Timestamp, at_least: Duration) -> bool {
        self.expires.duration_since(now) >= at_least.try_into().unwrap_or_default()
    }

    /// Whether it answers the very login that sent this nonce.
    pub(super) fn answers(&self, nonce: &Secret<String>) -> bool {
        let of_token = self.nonce.as_ref();
        of_token.is_some_and(|found| {
            bool::from(found.reveal().as_bytes().ct_eq(nonce.reveal().as_bytes()))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    /// A token with these claims, and a signature that is none.
    pub(in crate::login) fn with(claims: &Value) -> Secret<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(&json!({"alg": "RS256"}));
        Secret::new(format!("{header}.{}.c2ln", part(claims)))
    }

    #[test]
    fn only_the_token_that_was_asked_for_is_taken() {
        let settings = Settings::of("https://id", "hoop", None).unwrap();
        let take = |claims: Value| IdToken::take(with(&claims), &settings);
        let good = json!({"iss": "https://id", "aud": ["x", "hoop"], "exp": 100, "nonce": "n", "sub": "u"});
        let token = take(good.clone()).unwrap();
        assert_eq!(token.person(), "u");
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(token.lasts(at(70), RENEW) && !token.lasts(at(71), RENEW));
        assert!(token.answers(&Secret::new("n".into())));
        assert!(!token.answers(&Secret::new("m".into())));
        for (claim, value) in [
            ("iss", json!("https://other")),
            ("aud", json!("other")),
            ("aud", json!(null)),
            ("exp", json!("soon")),
            ("exp", json!(1e300)),
        ] {
            let mut bad = good.clone();
            bad[claim] = value;
            assert!(take(bad).is_err(), "{claim}");
        }
        assert!(IdToken::take(Secret::new("opaque".into()), &settings).is_err());
    }

    const RENEW: Duration = Duration::from_secs(30);

    #[test]
    fn a_token_cannot_be_printed() {
        let settings = Settings::of("https://id", "hoop", None).unwrap();
        let claims = json!({"iss": "https://id", "aud": "hoop", "exp": 100, "nonce": "number"});
        let token = IdToken::take(with(&claims), &settings).unwrap();
        let printed = format!("{token:?}");
        assert!(
            printed.contains("****") && !printed.contains("ey"),
            "{printed}"
        );
        assert!(!printed.contains("number"), "{printed}");
    }
}
