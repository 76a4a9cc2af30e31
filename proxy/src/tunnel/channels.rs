//! What passes through a stream: the channels of a command (exec, attach) and the connections of a port-forward, in
//! one vocabulary whatever they are framed in.
//!
//! [`Decoder`] is fed with copies of the bytes of both sides after a 101; the tunnel forwards the bytes themselves.
//! Sources: `k8s.io/streaming` (`wsstream`), `k8s.io/cri-streaming`, `k8s.io/client-go/tools/{remotecommand,
//! portforward}`, `moby/spdystream`.
//!
//! # Promises
//! - What is handed on does not depend on how the bytes are cut, except for where [`Item::Data`] is cut.
//! - What could reach a process without being handed on is an error: then the stream must be closed, since its record
//!   would lie. Data on streams that are over is dropped by the endpoints and here.
//! - No panic on any bytes; memory is bounded by the constants of this module and its framings.
//!
//! # Order
//! Feed a piece *before* it is forwarded, both sides through one decoder: then the answer to a piece is never decoded
//! before the piece.

pub(super) mod base64_text;
mod lane;
mod messages;
mod parting;
mod resize;
mod status;
mod streams;

use hoop_schema::kinds::stream::Channel;

use super::negotiate::Protocol;
use super::{Direction, spdy, websocket};

pub use resize::RESIZE_BYTES_MAX;
pub use status::STATUS_BYTES_MAX;
pub use streams::{OPEN_STREAMS_MAX, REQUEST_ID_BYTES_MAX};

pub(super) use streams::parse_port;

use messages::Messages;
use streams::Streams;

/// What was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// The next piece of a channel, never empty.
    Data {
        /// Which; the channel tells the side that sent it.
        channel: Channel,
        /// Which forwarded connection, counted from 1 as they open; none for the channels of a command.
        connection: Option<u32>,
        /// Where in the channel of this connection the piece begins.
        offset: u64,
        /// The piece.
        bytes: &'a [u8],
    },
    /// The terminal has another size.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// How the command ended. The bytes were handed on as [`Channel::Error`] before.
    Status(Status),
    /// A connection to a port of the pod begins.
    PortOpened {
        /// Its number.
        connection: u32,
        /// The port.
        port: u16,
        /// What the client calls it; empty where the protocol has no such name.
        request_id: &'a str,
    },
    /// The sender of a channel said that nothing more comes on it.
    Closed {
        /// Which.
        channel: Channel,
        /// Of which connection, as in [`Item::Data`].
        connection: Option<u32>,
    },
    /// One side said goodbye: a WebSocket close frame or a SPDY GOAWAY.
    End {
        /// Which side.
        by: Direction,
        /// Why: a close code (RFC 6455 §7.4) or the status of a GOAWAY.
        code: Option<u32>,
        /// Why, in words.
        reason: &'a str,
    },
}

/// How a command ended, from its error channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The exit code, where the command ran and the protocol tells it (v4 and v5).
    pub exit_code: Option<u8>,
    /// `Status.reason`, such as `NonZeroExitCode`; empty on success and in protocols before v4.
    pub reason: String,
    /// `Status.message`; the whole text in protocols before v4, or where the JSON cannot be read.
    pub message: String,
}

/// Why a stream cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frames.
    #[error(transparent)]
    WebSocket(#[from] websocket::FrameError),
    /// The frames.
    #[error(transparent)]
    Spdy(#[from] spdy::FrameError),
    /// A message that this protocol does not have.
    #[error("a {0:?} message in a protocol that has none")]
    MessageKind(websocket::MessageKind),
    /// The server takes every frame for a message with a channel of its own.
    #[error("a message of the client is split into frames, which servers do not put together")]
    Fragmented,
    /// Not a channel of this stream.
    #[error("a message for the unknown channel {0}")]
    UnknownChannel(u8),
    /// Data on a channel that only the other side sends on.
    #[error("data against the direction of channel {0}")]
    WrongDirection(&'static str),
    /// 255 without exactly one channel after it.
    #[error("a malformed close signal")]
    CloseSignal,
    /// Neither alphabet nor padding as the server reads it.
    #[error("a message that is no base64")]
    Base64,
    /// No `{"Width":…,"Height":…}`, or longer than [`RESIZE_BYTES_MAX`].
    #[error("a terminal size that cannot be read")]
    Resize,
    /// The server names another port than the one that was asked for, or none.
    #[error("a forwarded port that was not asked for")]
    Port,
    /// Even, smaller than an earlier one, or opened by the server.
    #[error("a SPDY stream with the unexpected id {0}")]
    StreamId(u32),
    /// A frame for a stream that was never opened.
    #[error("a SPDY frame for the unknown stream {0}")]
    UnknownStream(u32),
    /// No `streamtype`, an unknown one, or one that is open already.
    #[error("a SPDY stream of an unexpected type")]
    StreamType,
    /// No port from 1 to 65535, or a `requestid` longer than [`REQUEST_ID_BYTES_MAX`].
    #[error("a SPDY stream with malformed port or request id")]
    StreamHeaders,
    /// More than [`OPEN_STREAMS_MAX`].
    #[error("more than {OPEN_STREAMS_MAX} SPDY streams are open")]
    TooManyStreams,
    /// HEADERS, a reply of the client, a second reply.
    #[error("an unexpected SPDY {0} frame")]
    UnexpectedFrame(&'static str),
}

/// Decodes one stream, both sides of it.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    failed: Option<DecodeError>,
}

#[derive(Debug)]
enum Framing {
    /// A WebSocket message is a channel and its bytes.
    Messages([websocket::FrameDecoder; 2], Messages),
    /// SPDY streams.
    Streams([spdy::FrameDecoder; 2], Streams),
    /// SPDY streams whose bytes travel in binary WebSocket messages.
    Tunnelled(
        [websocket::FrameDecoder; 2],
        [spdy::FrameDecoder; 2],
        Streams,
    ),
}

/// What takes the items.
type Emit<'e> = dyn FnMut(Item<'_>) + 'e;

impl Decoder {
    /// For a stream whose protocol was negotiated.
    pub fn new(protocol: &Protocol) -> Self {
        let web_socket = || {
            [
                websocket::FrameDecoder::new(Direction::FromClient),
                websocket::FrameDecoder::new(Direction::FromServer),
            ]
        };
        let spdy = || [spdy::FrameDecoder::new(), spdy::FrameDecoder::new()];
        let framing = match protocol {
            Protocol::CommandMessages { encoding, version } => {
                Framing::Messages(web_socket(), Messages::of_command(*encoding, *version))
            }
            Protocol::PortMessages { encoding, ports } => {
                Framing::Messages(web_socket(), Messages::of_ports(*encoding, ports))
            }
            Protocol::CommandStreams { version } => {
                Framing::Streams(spdy(), Streams::of_command(*version))
            }
            Protocol::PortStreams => Framing::Streams(spdy(), Streams::of_ports()),
            Protocol::PortStreamsInWebSocket => {
                Framing::Tunnelled(web_socket(), spdy(), Streams::of_ports())
            }
        };
        Self {
            framing,
            failed: None,
        }
    }

    /// Takes the next bytes of one side and hands on what they complete. After an error the stream cannot be decoded
    /// any more, and every further call says so.
    pub fn push(
        &mut self,
        from: Direction,
        bytes: &[u8],
        mut emit: impl FnMut(Item<'_>),
    ) -> Result<(), DecodeError> {
        self.check()?;
        let result = self.framing.push(from, bytes, &mut emit);
        self.remember(result)
    }

    /// One side ended its half of the connection. Hands on the status that no later byte can complete; an error says
    /// that the side ended in the middle of something, as an aborted connection does.
    pub fn finish(
        &mut self,
        from: Direction,
        mut emit: impl FnMut(Item<'_>),
    ) -> Result<(), DecodeError> {
        self.check()?;
        let result = self.framing.finish(from, &mut emit);
        self.remember(result)
    }

    /// Bytes that end a command for the client with `status`, a `Status` object on one line, if that can be said: not
    /// in the middle of a frame of the server, not before the channel is open, not of forwarded ports, and not in
    /// protocols before v4, whose error channel has no form. What the server sends afterwards must not follow.
    pub fn parting(&self, status: &[u8]) -> Option<Vec<u8>> {
        let side = Direction::FromServer.index();
        match &self.framing {
            Framing::Messages(frames, messages) => {
                frames[side].finish().ok()?;
                messages.parting(status)
            }
            Framing::Streams(frames, streams) => {
                frames[side].finish().ok()?;
                streams.parting(status)
            }
            Framing::Tunnelled(..) => None,
        }
    }

    fn check(&self) -> Result<(), DecodeError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn remember(&mut self, result: Result<(), DecodeError>) -> Result<(), DecodeError> {
        self.failed = result.as_ref().err().cloned();
        result
    }
}

impl Framing {
    fn push(
        &mut self,
        from: Direction,
        bytes: &[u8],
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        let side = from.index();
        match self {
            Self::Messages(frames, messages) => {
                frames[side].push(bytes, &mut |event| messages.take(from, event, emit))
            }
            Self::Streams(frames, streams) => {
                frames[side].push(bytes, &mut |frame| streams.take(from, frame, emit))
            }
            Self::Tunnelled(outer, inner, streams) => {
                outer[side].push(bytes, &mut |event| match event {
                    websocket::Event::Frame { kind, .. }
                        if kind != websocket::MessageKind::Binary =>
                    {
                        Err(DecodeError::MessageKind(kind))
                    }
                    websocket::Event::Data(bytes) => {
                        inner[side].push(bytes, &mut |frame| streams.take(from, frame, emit))
                    }
                    websocket::Event::Close { code, reason } => {
                        emit(Item::End {
                            by: from,
                            code: code.map(u32::from),
                            reason,
                        });
                        Ok(())
                    }
                    _ => Ok(()),
                })
            }
        }
    }

    fn finish(&mut self, from: Direction, emit: &mut Emit<'_>) -> Result<(), DecodeError> {
        let side = from.index();
        match self {
            Self::Messages(frames, messages) => {
                messages.finish(from, emit);
                frames[side].finish()?;
            }
            Self::Streams(frames, streams) => {
                streams.finish(from, emit);
                frames[side].finish()?;
            }
            Self::Tunnelled(outer, inner, streams) => {
                streams.finish(from, emit);
                outer[side].finish()?;
                inner[side].finish()?;
            }
        }
        Ok(())
    }
}
