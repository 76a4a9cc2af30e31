//! Which protocol a stream speaks, from the headers of its request and of the upstream's 101.
//!
//! What was not offered, or is not known here, is refused: the stream could not be recorded.

use http::header::{HeaderName, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::channels::parse_port;

/// The SPDY versions that a client offers, in several lines, and the one that the server chose.
pub const STREAM_PROTOCOL_VERSION: HeaderName =
    HeaderName::from_static("x-stream-protocol-version");

/// The most ports in one port-forward over WebSocket channels: the channel is one byte, and each has two.
pub const FORWARDED_PORTS_MAX: usize = 128;

/// What a request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// exec and attach.
    Command,
    /// port-forward, with the values of its query parameter `ports`; only the WebSocket channels need them.
    PortForward {
        /// As [`forwarded_ports`] reads them.
        ports: Vec<u16>,
    },
}

/// How the bytes of a channel are written in a WebSocket message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As they are.
    Binary,
    /// In base64, behind a channel in ASCII.
    Base64,
}

/// What the bytes after the 101 are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// A command over WebSocket messages.
    CommandMessages {
        /// Of their payload.
        encoding: Encoding,
        /// 1, 4 or 5; 2 and 3 are never spoken over WebSocket, but read.
        version: u8,
    },
    /// A command over SPDY streams.
    CommandStreams {
        /// 1 to 5.
        version: u8,
    },
    /// A port-forward over WebSocket messages.
    PortMessages {
        /// Of their payload.
        encoding: Encoding,
        /// Two channels each, in this order.
        ports: Vec<u16>,
    },
    /// A port-forward over SPDY streams.
    PortStreams,
    /// A port-forward over SPDY streams inside WebSocket messages.
    PortStreamsInWebSocket,
}

/// Why the stream of a 101 cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    /// None, several, or no text.
    #[error("the header {0} must be there once")]
    Header(HeaderName),
    /// The 101 upgrades to something else than was asked for.
    #[error("the API server upgraded to another protocol than was asked for")]
    Switched,
    /// Neither `websocket` nor `SPDY/3.1`.
    #[error("only websocket and SPDY/3.1 upgrades can be recorded")]
    Upgrade,
    /// The answer to an offer that was not made.
    #[error("the API server chose a stream protocol that was not offered")]
    NotOffered,
    /// One that was offered, but is not known here.
    #[error("the stream protocol that the API server chose cannot be recorded")]
    Unknown,
    /// Frames might be compressed.
    #[error("the API server chose a WebSocket extension, which was not offered")]
    Extension,
    /// WebSocket channels of a port-forward without readable `ports`.
    #[error("the query parameter ports must have 1 to {FORWARDED_PORTS_MAX} ports")]
    Ports,
}

/// The protocol of a stream, once the upstream answered `request` with a 101 that has `response` as its headers.
/// `request` is as it was forwarded: without token and extensions.
pub fn negotiate(
    purpose: &Purpose,
    request: &HeaderMap,
    response: &HeaderMap,
) -> Result<Protocol, NegotiateError> {
    let asked = the_one(request, &UPGRADE)?.ok_or(NegotiateError::Header(UPGRADE))?;
    let chosen = the_one(response, &UPGRADE)?.ok_or(NegotiateError::Header(UPGRADE))?;
    if !asked.eq_ignore_ascii_case(chosen) {
        return Err(NegotiateError::Switched);
    }
    if chosen.eq_ignore_ascii_case("websocket") {
        if response.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err(NegotiateError::Extension);
        }
        let name = offered_and_chosen(request, response, &SEC_WEBSOCKET_PROTOCOL)?;
        of_subprotocol(purpose, name)
    } else if chosen.eq_ignore_ascii_case("SPDY/3.1") {
        let name = offered_and_chosen(request, response, &STREAM_PROTOCOL_VERSION)?;
        of_stream_version(purpose, name)
    } else {
        Err(NegotiateError::Upgrade)
    }
}

/// The ports of a port-forward over WebSocket channels, from the values of the query parameter `ports`, each of which
/// may hold several with commas. None is fine: then another protocol must be chosen.
pub fn forwarded_ports<'a>(
    values: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<u16>, NegotiateError> {
    let ports: Vec<u16> = values
        .into_iter()
        .flat_map(|value| value.split(','))
        .take(FORWARDED_PORTS_MAX + 1)
        .map(parse_port)
        .collect::<Option<_>>()
        .ok_or(NegotiateError::Ports)?;
    if ports.len() > FORWARDED_PORTS_MAX {
        return Err(NegotiateError::Ports);
    }
    Ok(ports)
}

fn of_subprotocol(purpose: &Purpose, name: Option<&str>) -> Result<Protocol, NegotiateError> {
    let (version, encoding) = match name {
        // No subprotocol is the first version.
        None | Some("channel.k8s.io") => (1, Encoding::Binary),
        Some("base64.channel.k8s.io") => (1, Encoding::Base64),
        Some("v2.channel.k8s.io") => (2, Encoding::Binary),
        Some("v3.channel.k8s.io") => (3, Encoding::Binary),
        Some("v4.channel.k8s.io") => (4, Encoding::Binary),
        Some("v4.base64.channel.k8s.io") => (4, Encoding::Base64),
        Some("v5.channel.k8s.io") => (5, Encoding::Binary),
        Some("SPDY/3.1+portforward.k8s.io") => {
            return match purpose {
                Purpose::PortForward { .. } => Ok(Protocol::PortStreamsInWebSocket),
                Purpose::Command => Err(NegotiateError::Unknown),
            };
        }
        Some(_) => return Err(NegotiateError::Unknown),
    };
    match purpose {
        Purpose::Command => Ok(Protocol::CommandMessages { encoding, version }),
        Purpose::PortForward { .. } if version != 4 && name.is_some() => {
            Err(NegotiateError::Unknown)
        }
        Purpose::PortForward { ports } if ports.is_empty() => Err(NegotiateError::Ports),
        Purpose::PortForward { ports } => Ok(Protocol::PortMessages {
            encoding,
            ports: ports.clone(),
        }),
    }
}

fn of_stream_version(purpose: &Purpose, name: Option<&str>) -> Result<Protocol, NegotiateError> {
    let version = match (purpose, name) {
        (Purpose::PortForward { .. }, None | Some("portforward.k8s.io")) => {
            return Ok(Protocol::PortStreams);
        }
        (Purpose::Command, None | Some("channel.k8s.io")) => 1,
        (Purpose::Command, Some("v2.channel.k8s.io")) => 2,
        (Purpose::Command, Some("v3.channel.k8s.io")) => 3,
        (Purpose::Command, Some("v4.channel.k8s.io")) => 4,
        (Purpose::Command, Some("v5.channel.k8s.io")) => 5,
        _ => return Err(NegotiateError::Unknown),
    };
    Ok(Protocol::CommandStreams { version })
}

/// What the server chose, if it chose; one of those that the client offered, in one line or several.
fn offered_and_chosen<'r>(
    request: &HeaderMap,
    response: &'r HeaderMap,
    header: &HeaderName,
) -> Result<Option<&'r str>, NegotiateError> {
    let Some(chosen) = the_one(response, header)? else {
        return Ok(None);
    };
    let is_offered = request
        .get_all(header)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|name| name.trim() == chosen);
    if is_offered {
        Ok(Some(chosen))
    } else {
        Err(NegotiateError::NotOffered)
    }
}

/// The value of a header that may be there once.
fn the_one<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, NegotiateError> {
    let mut values = headers.get_all(name).iter();
    let value: Option<&HeaderValue> = values.next();
    if values.next().is_some() {
        return Err(NegotiateError::Header(name.clone()));
    }
    value
        .map(|value| value.to_str().map(str::trim))
        .transpose()
        .map_err(|_| NegotiateError::Header(name.clone()))
}

#[cfg(test)]
mod tests;
