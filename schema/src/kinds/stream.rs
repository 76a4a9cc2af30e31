//! Pieces of long streams.

use serde::{Deserialize, Serialize};

use crate::body::TextEncoding;
use crate::encryption::Encryption;

/// `stream.data`: a piece of a stream, as the client sent or got it, masked. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StreamData {
    /// The request that opened the stream.
    pub audit_id: String,
    /// Which of its channels.
    pub channel: Channel,
    /// Which forwarded connection, counted from 1 as they open; absent for the channels of everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u32>,
    /// Where in the channel this piece begins, in bytes.
    pub offset: u64,
    /// Microseconds from the request's head to the first byte of this piece.
    pub at_us: u64,
    /// How `content` is written.
    pub encoding: TextEncoding,
    /// The piece. For a watch, whole frames, one line each.
    pub content: String,
    /// With which key it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// A channel of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Frames of a watch.
    Watch,
    /// Lines of a log.
    Log,
    /// Input of a command.
    Stdin,
    /// Output of a command.
    Stdout,
    /// Error output of a command.
    Stderr,
    /// Status of a command or a forwarded port.
    Error,
    /// Bytes to a forwarded port.
    PortIn,
    /// Bytes from a forwarded port.
    PortOut,
    /// Bytes of an upgraded connection that is not understood further.
    Opaque,
}

impl Channel {
    /// As written in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Log => "log",
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::PortIn => "port_in",
            Self::PortOut => "port_out",
            Self::Opaque => "opaque",
        }
    }
}

/// `stream.connection`: a port-forward opened a connection, or one is over. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StreamConnection {
    /// The request that opened the stream.
    pub audit_id: String,
    /// Which forwarded connection, as in `stream.data`.
    pub connection: u32,
    /// Port of the pod.
    pub port: u16,
    /// Microseconds from the request's head.
    pub at_us: u64,
    /// Whether it is open or over.
    pub state: ConnectionState,
    /// Bytes to the port so far.
    pub bytes_in: u64,
    /// Bytes from the port so far.
    pub bytes_out: u64,
}

/// The state of a forwarded connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// It begins.
    Opened,
    /// Both sides ended it, or the stream is over.
    Closed,
}

/// `stream.resize`: the terminal changed its size. Filled in by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StreamResize {
    /// The request that opened the stream.
    pub audit_id: String,
    /// Microseconds from the request's head.
    pub at_us: u64,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}
