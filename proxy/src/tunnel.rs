//! Step 8: requests that turn their connection into a stream of its own: exec, attach, port-forward, WebSocket watches
//! and whatever else upgrades.
//!
//! They are recognised here and refused, since what passes through them could not be recorded yet. Tunnelling them
//! takes `requested`'s place in the gateway: only after an upstream 101, decoded from copies.
//!
//! Decoding is pure and in three storeys: [`negotiate`] says what the bytes are, [`websocket`] and [`spdy`] decode
//! frames, [`channels`] what they mean; [`bearer`] takes a token out of the handshake.

pub mod bearer;
pub mod channels;
pub mod negotiate;
pub mod spdy;
pub mod websocket;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method};

use crate::request_info::RequestInfo;

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

/// What a request would tunnel, in words for the person who asked; `None` for an ordinary request.
pub(crate) fn requested(
    method: &Method,
    headers: &HeaderMap,
    info: &RequestInfo,
) -> Option<&'static str> {
    if info.is_exec_like() {
        // Whatever the HTTP method, and with or without an Upgrade header.
        return Some(match info.subresource() {
            "exec" => "exec",
            "attach" => "attach",
            _ => "port-forward",
        });
    }
    let names_upgrade = headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    if headers.contains_key(UPGRADE) || names_upgrade || *method == Method::CONNECT {
        return Some(if info.is_watch() {
            "a watch over WebSocket"
        } else {
            "an upgraded connection"
        });
    }
    None
}

#[cfg(test)]
mod tests;
