//! Step 8: requests that turn their connection into a stream of its own: exec, attach, port-forward, and whatever else
//! upgrades. Watches and logs over WebSocket are no tunnels: see `messages`.
//!
//! The API server decides first: only after its 101 the client gets one, with the same choice of protocol. From then
//! on `run` copies the bytes as they are, and `tap` decodes copies of them for the record. A stream that cannot be
//! decoded is closed, and its outcome says why; under a rule with `record: Metadata` it goes on. Where masking rules hold
//! for a command, `rewrite` writes what the client sees of its output.
//!
//! Decoding is pure and in three storeys: [`negotiate`] says what the bytes are, [`websocket`] and [`spdy`] decode
//! frames, [`channels`] what they mean; [`bearer`] takes a token out of the handshake.

pub mod bearer;
pub mod channels;
mod messages;
pub mod negotiate;
pub mod spdy;
pub mod websocket;

mod rewrite;
mod run;
mod tap;

pub(crate) use messages::{Form, MessageStream, Messages};
pub(crate) use rewrite::Rewriter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use rewrite::check_rewriter;
pub(crate) use run::{Ends, Tunnel};
pub(crate) use tap::Tap;

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::request_info::RequestInfo;
use negotiate::Purpose;

/// Which side of a stream sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the API server.
    FromClient,
    /// Towards the client.
    FromServer,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::FromClient, Self::FromServer];

    /// Its place in an array of both.
    fn index(self) -> usize {
        match self {
            Self::FromClient => 0,
            Self::FromServer => 1,
        }
    }
}

/// What a request that asks for an upgrade wants to tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// exec, attach or port-forward: decoded and recorded.
    Stream(Purpose),
    /// What a proxied pod, service or node upgrades to: only its bytes are counted, since nothing there has a kind.
    Opaque,
    /// A watch or a log in WebSocket messages: not tunnelled, but answered by the gateway.
    Messages(Messages),
}

impl Asked {
    /// How an answer in messages is cut into them.
    pub(crate) fn form(&self) -> Option<Form> {
        match self {
            Self::Messages(messages) => Some(messages.form),
            Self::Stream(_) | Self::Opaque => None,
        }
    }
}

/// Why an upgrade is not tunnelled, in words for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotTunnelled(pub(crate) String);

/// What a request would tunnel; `None` for an ordinary request.
///
/// # Errors
/// When it is exec-like without an upgrade that can be recorded, or upgrades something else.
pub(crate) fn asked(head: &Parts, info: &RequestInfo) -> Result<Option<Asked>, NotTunnelled> {
    let headers = &head.headers;
    let names_upgrade = headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    let wants = headers.contains_key(UPGRADE) || names_upgrade || head.method == Method::CONNECT;
    if !info.is_exec_like() && !wants {
        return Ok(None);
    }
    let refuse = |what: &str| Err(NotTunnelled(what.to_owned()));
    if info.is_exec_like() {
        // Whatever the HTTP method: it is one action.
        let mut protocols = headers.get_all(UPGRADE).iter();
        let known = protocols.next().is_some_and(|protocol| {
            let protocol = protocol.as_bytes();
            protocol.eq_ignore_ascii_case(b"websocket")
                || protocol.eq_ignore_ascii_case(b"SPDY/3.1")
        });
        if !known
            || !names_upgrade
            || protocols.next().is_some()
            || head.version != Version::HTTP_11
        {
            return refuse(
                "exec, attach and port-forward need an HTTP/1.1 connection that is upgraded to websocket or SPDY/3.1",
            );
        }
        if let Err(error) = bearer::take_bearer_token(&mut headers.clone()) {
            return refuse(&error.to_string());
        }
        let purpose = if info.subresource() == "portforward" {
            let query = head.uri.query().unwrap_or_default();
            let ports: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
                .filter(|(name, _)| name == "ports")
                .map(|(_, value)| value)
                .collect();
            let ports = negotiate::forwarded_ports(ports.iter().map(|value| &**value))
                .map_err(|error| NotTunnelled(error.to_string()))?;
            Purpose::PortForward { ports }
        } else {
            Purpose::Command
        };
        return Ok(Some(Asked::Stream(purpose)));
    }
    if info.is_proxy_subresource() && headers.contains_key(UPGRADE) && names_upgrade {
        return Ok(Some(Asked::Opaque));
    }
    if (info.is_watch() || info.is_log()) && is_websocket(head) && names_upgrade {
        let messages = Messages::asked(headers, info).map_err(NotTunnelled)?;
        return Ok(Some(Asked::Messages(messages)));
    }
    refuse("an upgraded connection is not served here, since it could not be recorded")
}

/// Whether a request asks for WebSocket in a way that it can be had.
fn is_websocket(head: &Parts) -> bool {
    let mut protocols = head.headers.get_all(UPGRADE).iter();
    let protocol = protocols.next().filter(|_| protocols.next().is_none());
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && protocol.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Adds the handshake of the client to the request for the API server: what [`crate::upstream`] drops from every other
/// request. No extension is offered, since frames might be compressed, and a token is taken out.
pub(crate) fn add_handshake(client: &HeaderMap, upstream: &mut HeaderMap) {
    let names = [
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_PROTOCOL,
        UPGRADE,
    ];
    for name in names {
        for value in client.get_all(&name) {
            upstream.append(&name, value.clone());
        }
    }
    upstream.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if bearer::take_bearer_token(upstream).is_err() {
        // What cannot be read is not sent on; [`asked`] has refused it before.
        upstream.remove(SEC_WEBSOCKET_PROTOCOL);
    }
}

/// Turns the headers of a 101 into those for the client.
pub(crate) fn handshake_for_client(upstream: &HeaderMap, audit_id: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let names = [
        UPGRADE,
        SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_PROTOCOL,
        negotiate::STREAM_PROTOCOL_VERSION,
    ];
    for name in names {
        for value in upstream.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert("audit-id", audit_id.clone());
    headers
}

#[cfg(test)]
mod tests;
