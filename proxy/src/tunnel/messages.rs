//! Watches and logs over WebSocket: the gateway answers the WebSocket itself.
//!
//! To the API server it is a watch or a log as over HTTP, so that it is masked, recorded and ended like one; what the
//! client gets of it goes out in messages. The handshake, the messages and the end are those of the API server
//! (`k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, `k8s.io/apimachinery/pkg/util/httpstream/wsstream`): an event
//! is a text message; a log comes in binary messages, or in base64, after an empty one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use sha1::{Digest, Sha1};

use super::bearer;
use crate::request_info::RequestInfo;

mod framer;
mod run;

pub(crate) use framer::Framer;
pub(crate) use run::MessageStream;

/// What the server's answer to a key is made with (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The subprotocols of logs. None is the same as the first.
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// How a stream is cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A text message for each line, which is an event.
    Events,
    /// Binary messages.
    Binary,
    /// Text messages in base64, each of its own.
    Base64,
}

/// A WebSocket that a client has asked for, and that is good to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Messages {
    pub(crate) form: Form,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Messages {
    /// The WebSocket that a GET of a watch or a log asks for with `Upgrade: websocket`.
    ///
    /// # Errors
    /// When the API server would not open it either. The text is for the person.
    pub(crate) fn asked(headers: &HeaderMap, info: &RequestInfo) -> Result<Self, String> {
        let mut headers = headers.clone();
        bearer::take_bearer_token(&mut headers).map_err(|error| error.to_string())?;
        let one = |name: &http::HeaderName| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none())
        };
        if one(&SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err("a WebSocket needs the header Sec-WebSocket-Version: 13".to_owned());
        }
        let key = one(&SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
        let is_key = |key: &&[u8]| BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16);
        let key = key
            .filter(is_key)
            .ok_or("a WebSocket needs one header Sec-WebSocket-Key of 16 bytes in base64")?;
        let offered: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .collect();
        let (form, protocol) = if info.is_watch() {
            if one(&ORIGIN).is_none_or(|origin| origin == "null") {
                return Err("a watch over WebSocket needs the header Origin".to_owned());
            }
            (Form::Events, protocol_of_watch(&offered)?)
        } else {
            protocol_of_log(&offered)?
        };
        let protocol = protocol
            .filter(|name| !name.is_empty())
            .map(HeaderValue::from_str)
            .transpose()
            .map_err(|_| "the WebSocket subprotocol is no text".to_owned())?;
        let accept = BASE64_STANDARD.encode(
            Sha1::new()
                .chain_update(key)
                .chain_update(ACCEPT_GUID)
                .finalize(),
        );
        Ok(Self {
            form,
            accept: HeaderValue::try_from(accept).expect("base64 is visible ASCII"),
            protocol,
        })
    }

    /// The headers of the 101.
    pub(crate) fn handshake(&self, audit_id: &HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Some(protocol) = &self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        headers.insert("audit-id", audit_id.clone());
        headers
    }
}

/// The subprotocol of a watch means nothing, so that there is no choosing.
fn protocol_of_watch<'a>(offered: &[&'a str]) -> Result<Option<&'a str>, String> {
    match offered {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        _ => Err("a watch over WebSocket has at most one subprotocol".to_owned()),
    }
}

/// The first subprotocol of a log that is known, and its form.
fn protocol_of_log<'a>(offered: &[&'a str]) -> Result<(Form, Option<&'a str>), String> {
    let known = |name: &&&str| [BINARY, BASE64, ""].contains(*name);
    match offered.iter().find(known) {
        Some(&BASE64) => Ok((Form::Base64, Some(BASE64))),
        Some(&name) => Ok((Form::Binary, Some(name))),
        None if offered.is_empty() => Ok((Form::Binary, None)),
        None => Err(format!(
            "a log over WebSocket has the subprotocol {BINARY} or {BASE64}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_info;

    /// The key and its answer of RFC 6455 §1.3.
    const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    fn asked(target: &str, more: &[(&'static str, &str)]) -> Result<Messages, String> {
        let lines = [
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY.0),
        ];
        let headers = lines.iter().chain(more).map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        Messages::asked(&map, &request_info::parse("GET", target).unwrap())
    }

    const WATCH: &str = "/api/v1/pods?watch=1";
    const LOG: &str = "/api/v1/namespaces/a/pods/p/log";
    const ORIGIN: (&str, &str) = ("origin", "http://x");

    #[test]
    fn a_watch_is_answered_with_events() {
        let messages = asked(WATCH, &[ORIGIN]).unwrap();
        assert_eq!(messages.form, Form::Events);
        let headers = messages.handshake(&HeaderValue::from_static("id"));
        assert_eq!(headers["sec-websocket-accept"], KEY.1);
        assert!(!headers.contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn a_subprotocol_is_chosen_and_a_token_is_none() {
        let protocol = |target, offered: &str| {
            let messages = asked(target, &[ORIGIN, ("sec-websocket-protocol", offered)])?;
            let chosen = messages.protocol.map(|p| p.to_str().unwrap().to_owned());
            Ok::<_, String>((messages.form, chosen.unwrap_or_default()))
        };
        let token = "base64url.bearer.authorization.k8s.io.dG9rZW4";
        let both = |name: &str| format!("{token}, {name}");
        let events = Ok((Form::Events, "x".to_owned()));
        assert_eq!(protocol(WATCH, "x"), events);
        assert_eq!(protocol(WATCH, &both("x")), events);
        assert_eq!(
            protocol(LOG, &both(BASE64)),
            Ok((Form::Base64, BASE64.into()))
        );
        assert_eq!(
            protocol(LOG, "x, binary.k8s.io"),
            Ok((Form::Binary, BINARY.into()))
        );
        assert_eq!(asked(LOG, &[]).unwrap().form, Form::Binary);
        assert!(protocol(WATCH, "x, y").is_err());
        assert!(protocol(WATCH, token).is_err());
        assert!(protocol(LOG, "x").is_err());
    }

    #[test]
    fn what_the_api_server_would_not_open_is_refused() {
        assert!(asked(WATCH, &[]).unwrap_err().contains("Origin"));
        assert!(asked(WATCH, &[("origin", "null")]).is_err());
        assert!(asked(WATCH, &[ORIGIN, ("sec-websocket-version", "8")]).is_err());
        assert!(asked(WATCH, &[ORIGIN, ("sec-websocket-key", KEY.0)]).is_err());
        let info = request_info::parse("GET", LOG).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        headers.insert("sec-websocket-key", HeaderValue::from_static("c2hvcnQ="));
        assert!(Messages::asked(&headers, &info).is_err());
    }
}
