//! Step 8: requests that turn their connection into a stream of its own: exec, attach, port-forward, WebSocket watches
//! and whatever else upgrades.
//!
//! They are recognised here and refused, since what passes through them could not be recorded yet. Tunnelling them
//! takes [`requested`]'s place in the gateway: only after an upstream 101, decoded from copies.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method};

use crate::request_info::RequestInfo;

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
