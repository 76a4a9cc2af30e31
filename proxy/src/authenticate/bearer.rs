//! Where a request carries its bearer token: `Authorization`, or for browsers, which cannot set that on a WebSocket,
//! one of the offered subprotocols.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

use crate::tunnel::bearer::take_bearer_token;

/// The bearer token of a request, if it carries one. `Authorization` wins.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, String> {
    match authorization(headers)? {
        Some(token) => Ok(Some(Cow::Borrowed(token))),
        None => Ok(websocket_token(headers)?.map(Cow::Owned)),
    }
}

/// The token of `Authorization: Bearer TOKEN`, read as the API server does: trimmed, split at single spaces, scheme in
/// any case, the second field is the token.
fn authorization(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("more than one Authorization header was sent");
    }
    let Ok(value) = value.to_str() else {
        return Err("the Authorization header has characters outside ASCII");
    };
    let mut fields = value.trim().split(' ');
    match (fields.next(), fields.next()) {
        (Some(scheme), Some(token))
            if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() =>
        {
            Ok(Some(token))
        }
        _ => Err("the Authorization header is not \"Bearer TOKEN\""),
    }
}

/// The token among the subprotocols of a WebSocket upgrade; in other requests they mean nothing.
fn websocket_token(headers: &HeaderMap) -> Result<Option<String>, String> {
    if !is_websocket_upgrade(headers) {
        return Ok(None);
    }
    let mut protocols = HeaderMap::new();
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        protocols.append(SEC_WEBSOCKET_PROTOCOL, line.clone());
    }
    match take_bearer_token(&mut protocols) {
        Ok(token) => Ok(token.map(|token| token.as_str().to_owned())),
        Err(error) => Err(error.to_string()),
    }
}

fn is_websocket_upgrade(headers: &HeaderMap) -> bool {
    let upgrades = headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrades
        && headers.get_all(CONNECTION).iter().any(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::HeaderName;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    #[test]
    fn bearer_tokens_are_read_as_the_api_server_reads_them() {
        let read = |values: &[&str]| {
            let lines: Vec<_> = values.iter().map(|v| ("authorization", *v)).collect();
            token(&headers(&lines)).map(|found| found.map(Cow::into_owned))
        };
        assert_eq!(read(&["Bearer t"]), Ok(Some("t".into())));
        assert_eq!(read(&["  bEARER t more"]), Ok(Some("t".into())));
        assert_eq!(read(&[]), Ok(None));
        for refused in ["Bearer  t", "Bearer", "", "Basic dTpw", "t"] {
            assert!(read(&[refused]).is_err(), "{refused:?}");
        }
        assert!(read(&["Bearer a", "Bearer b"]).is_err());
    }

    #[test]
    fn a_websocket_carries_its_token_as_a_protocol() {
        let upgrade = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
        ];
        let read = |protocols: &[&'static str], more: &[(&'static str, &'static str)]| {
            let mut lines = more.to_vec();
            lines.extend(protocols.iter().map(|p| ("sec-websocket-protocol", *p)));
            token(&headers(&lines)).map(|found| found.map(Cow::into_owned))
        };
        let sent = "base64url.bearer.authorization.k8s.io.dG9rZW4";
        let both = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4";
        assert_eq!(read(&[both], &upgrade), Ok(Some("token".into())));
        assert_eq!(
            read(&[sent, "v5.channel.k8s.io"], &upgrade),
            Ok(Some("token".into()))
        );
        assert_eq!(read(&["v5.channel.k8s.io"], &upgrade), Ok(None));
        // Not an upgrade: not a credential.
        assert_eq!(read(&[both], &[]), Ok(None));
        assert_eq!(
            read(
                &[both],
                &[("upgrade", "SPDY/3.1"), ("connection", "upgrade")]
            ),
            Ok(None)
        );
        // Authorization wins.
        let mut with_header = upgrade.to_vec();
        with_header.push(("authorization", "Bearer other"));
        assert_eq!(read(&[both], &with_header), Ok(Some("other".into())));
        for refused in [
            &[sent][..],
            &[sent, sent, "x"],
            &["x, base64url.bearer.authorization.k8s.io.dG9rZW4="],
            &["x, base64url.bearer.authorization.k8s.io._w"],
        ] {
            assert!(read(refused, &upgrade).is_err(), "{refused:?}");
        }
    }
}
