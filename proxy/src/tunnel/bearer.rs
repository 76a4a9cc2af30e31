//! A bearer token among the WebSocket subprotocols: how a browser, which cannot set `Authorization`, authenticates.
//!
//! Read and taken out as the API server does (`k8s.io/apiserver/pkg/authentication/request/websocket`). There the
//! token is taken out once it is accepted; here always, since no credential of a client travels on.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

/// What a token's subprotocol begins with.
const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

const GO_RAW_URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why the subprotocols cannot be read. Never holds any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// The header is no text.
    #[error("Sec-WebSocket-Protocol must be visible ASCII")]
    Header,
    /// Two tokens.
    #[error("multiple bearer tokens among the WebSocket subprotocols")]
    Repeated,
    /// No base64url without padding, or no UTF-8 inside.
    #[error("the bearer token among the WebSocket subprotocols is malformed")]
    Encoding,
    /// The answer could name no other.
    #[error("a bearer token among the WebSocket subprotocols needs another subprotocol beside it")]
    Alone,
}

/// Takes the token out of `Sec-WebSocket-Protocol`; the other subprotocols stay, in one line, joined by commas. Headers
/// without a token are left as they are, also when this fails; a request for which it fails must not be forwarded.
/// Only for requests that ask for an upgrade to WebSocket; in others the header means nothing.
pub fn take_bearer_token(
    headers: &mut HeaderMap,
) -> Result<Option<Zeroizing<String>>, BearerError> {
    let mut encoded = None;
    let mut others = Vec::new();
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let line = line.to_str().map_err(|_| BearerError::Header)?;
        for name in line.split(',').map(str::trim) {
            match name.strip_prefix(PREFIX) {
                None => others.push(name),
                Some(_) if encoded.is_some() => return Err(BearerError::Repeated),
                Some(token) => encoded = Some(token),
            }
        }
    }
    let Some(encoded) = encoded else {
        return Ok(None);
    };
    let token = GO_RAW_URL
        .decode(encoded)
        .map_err(|_| BearerError::Encoding)?;
    let token = String::from_utf8(token).map_err(|_| BearerError::Encoding)?;
    let token = Zeroizing::new(token);
    if others.is_empty() {
        return Err(BearerError::Alone);
    }
    let others = HeaderValue::try_from(others.join(",")).map_err(|_| BearerError::Header)?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    Ok(Some(token).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap()))
            .collect()
    }

    fn token_of(text: &[u8]) -> String {
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(text))
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .map(|line| line.to_str().unwrap())
            .collect()
    }

    #[test]
    fn token_is_taken_out_and_the_rest_is_joined() {
        let mut headers = headers(&[
            &format!("v5.channel.k8s.io, {}", token_of(b"s3cret")),
            "v4.channel.k8s.io",
        ]);
        let token = take_bearer_token(&mut headers).unwrap().unwrap();
        assert_eq!(token.as_str(), "s3cret");
        assert_eq!(left(&headers), ["v5.channel.k8s.io,v4.channel.k8s.io"]);
    }

    #[test]
    fn headers_without_a_token_stay_as_they_are() {
        let lines = ["v5.channel.k8s.io , v4.channel.k8s.io", "x"];
        let mut headers = headers(&lines);
        assert_eq!(take_bearer_token(&mut headers), Ok(None));
        assert_eq!(left(&headers), lines);
    }

    #[test]
    fn empty_token_is_none_but_does_not_travel_on() {
        let mut headers = headers(&["v4.channel.k8s.io", PREFIX]);
        assert_eq!(take_bearer_token(&mut headers), Ok(None));
        assert_eq!(left(&headers), ["v4.channel.k8s.io"]);
    }

    #[test]
    fn odd_tokens_are_refused() {
        let two = format!("a, {}, {}", token_of(b"x"), token_of(b"y"));
        for (lines, error) in [
            (two.as_str(), BearerError::Repeated),
            (&token_of(b"x"), BearerError::Alone),
            (&format!("a, {PREFIX}eA=="), BearerError::Encoding),
            (&format!("a, {PREFIX}+/"), BearerError::Encoding),
            (&format!("a, {}", token_of(&[0xff])), BearerError::Encoding),
        ] {
            let mut headers = headers(&[lines]);
            assert_eq!(take_bearer_token(&mut headers), Err(error), "{lines}");
        }
    }
}
