//! Channels as SPDY streams: the headers of a stream say what it is for.
//!
//! The client opens every stream. A frame for a stream that is over is dropped, as the endpoints do: they may have
//! been written before the other side's goodbye came. A frame for a stream that was never opened is an error.

use std::collections::HashMap;

use super::lane::{Lane, Parsers, Role};
use super::{DecodeError, Emit, Item};
use crate::tunnel::Direction;
use crate::tunnel::spdy::{Frame, Headers};

/// The most streams open at a time, and connections of which one stream is missing. Every forwarded connection has two;
/// a browser behind a port-forward keeps some hundred connections.
pub const OPEN_STREAMS_MAX: usize = 4096;

/// The longest `requestid`. Clients count from 0.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// The largest stream id: 31 bits.
const STREAM_ID_MAX: u32 = 0x7fff_ffff;

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    kind: Kind,
    streams: HashMap<u32, Stream>,
    /// Smaller ids are in use or used up.
    next_id: u32,
    parsers: Parsers,
}

#[derive(Debug)]
enum Kind {
    /// Of a command.
    Command {
        version: u8,
        /// Every kind of stream is opened once.
        opened: [bool; Role::COMMAND.len()],
    },
    /// Of a port-forward.
    Ports {
        /// By request id, until both of its streams came and went.
        pairs: HashMap<String, Pair>,
        /// Connections so far.
        connections: u32,
    },
}

/// The two streams of a forwarded connection.
#[derive(Debug, Default)]
struct Pair {
    connection: u32,
    has_data: bool,
    has_error: bool,
    open: u32,
}

#[derive(Debug)]
struct Stream {
    lane: Lane,
    is_replied: bool,
    /// The key of its pair.
    request_id: Option<String>,
}

impl Streams {
    /// For exec and attach.
    pub(super) fn of_command(version: u8) -> Self {
        Self::new(
            Kind::Command {
                version,
                opened: Default::default(),
            },
            version,
        )
    }

    /// For a port-forward.
    pub(super) fn of_ports() -> Self {
        let kind = Kind::Ports {
            pairs: HashMap::new(),
            connections: 0,
        };
        Self::new(kind, 4)
    }

    fn new(kind: Kind, version: u8) -> Self {
        Self {
            kind,
            streams: HashMap::new(),
            next_id: 1,
            parsers: Parsers::new(version),
        }
    }

    /// Of the protocol of commands.
    pub(super) fn version(&self) -> Option<u8> {
        match self.kind {
            Kind::Command { version, .. } => Some(version),
            Kind::Ports { .. } => None,
        }
    }

    /// The open stream of a command for this.
    pub(super) fn stream_of(&self, role: Role) -> Option<u32> {
        let mut streams = self.streams.iter();
        let (stream_id, _) = streams.find(|(_, stream)| stream.lane.role() == role)?;
        Some(*stream_id)
    }

    /// The next frame of a side.
    pub(super) fn take(
        &mut self,
        from: Direction,
        frame: Frame<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        match frame {
            Frame::SynStream {
                stream_id,
                is_fin,
                headers,
            } => {
                self.open(from, stream_id, headers, emit)?;
                self.close_if(is_fin, from, stream_id, emit)
            }
            Frame::SynReply {
                stream_id, is_fin, ..
            } => {
                if from == Direction::FromClient {
                    return Err(DecodeError::UnexpectedFrame("SYN_REPLY"));
                }
                if let Some(stream) = self.known(stream_id)?
                    && std::mem::replace(&mut stream.is_replied, true)
                {
                    return Err(DecodeError::UnexpectedFrame("SYN_REPLY"));
                }
                self.close_if(is_fin, from, stream_id, emit)
            }
            Frame::Headers { .. } => Err(DecodeError::UnexpectedFrame("HEADERS")),
            Frame::RstStream { stream_id, .. } => {
                self.close_if(true, Direction::FromClient, stream_id, emit)?;
                self.close_if(true, Direction::FromServer, stream_id, emit)
            }
            Frame::DataHead { stream_id, .. } => self.known(stream_id).map(drop),
            Frame::Data { stream_id, bytes } => match self.streams.get_mut(&stream_id) {
                Some(stream) => stream.lane.data(from, bytes, &mut self.parsers, emit),
                None => Ok(()),
            },
            Frame::DataEnd { stream_id, is_fin } => {
                if let Some(stream) = self.streams.get(&stream_id) {
                    stream.lane.end_of_unit(from, &mut self.parsers, emit);
                }
                self.close_if(is_fin, from, stream_id, emit)
            }
            Frame::Ignored | Frame::Ping { .. } => Ok(()),
            Frame::GoAway { status, .. } => {
                self.finish(from, emit);
                emit(Item::End {
                    by: from,
                    code: Some(status),
                    reason: "",
                });
                Ok(())
            }
        }
    }

    /// A side sends no more.
    pub(super) fn finish(&mut self, from: Direction, emit: &mut Emit<'_>) {
        if from == Direction::FromServer {
            self.parsers.finish(emit);
        }
    }

    /// The stream, or nothing when it is over.
    fn known(&mut self, stream_id: u32) -> Result<Option<&mut Stream>, DecodeError> {
        if stream_id >= self.next_id || stream_id.is_multiple_of(2) {
            return Err(DecodeError::UnknownStream(stream_id));
        }
        Ok(self.streams.get_mut(&stream_id))
    }

    fn open(
        &mut self,
        from: Direction,
        stream_id: u32,
        headers: Headers<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        if from == Direction::FromServer
            || stream_id.is_multiple_of(2)
            || !(self.next_id..=STREAM_ID_MAX).contains(&stream_id)
        {
            return Err(DecodeError::StreamId(stream_id));
        }
        if self.streams.len() >= OPEN_STREAMS_MAX {
            return Err(DecodeError::TooManyStreams);
        }
        let stream = match &mut self.kind {
            Kind::Command { version, opened } => open_channel(*version, opened, headers)?,
            Kind::Ports { pairs, connections } => {
                open_port(stream_id, pairs, connections, headers, emit)?
            }
        };
        self.next_id = stream_id + 2;
        self.streams.insert(stream_id, stream);
        Ok(())
    }

    /// A side is done with a stream, if it is.
    fn close_if(
        &mut self,
        is_fin: bool,
        from: Direction,
        stream_id: u32,
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        self.known(stream_id)?;
        let Some(stream) = self.streams.get_mut(&stream_id).filter(|_| is_fin) else {
            return Ok(());
        };
        stream.lane.close(from, &mut self.parsers, emit);
        if stream.lane.is_over() {
            let request_id = self
                .streams
                .remove(&stream_id)
                .and_then(|stream| stream.request_id);
            if let (Kind::Ports { pairs, .. }, Some(id)) = (&mut self.kind, request_id)
                && let Some(pair) = pairs.get_mut(&id)
            {
                pair.open -= 1;
                // The second stream of a pair may come after the first is over.
                if pair.open == 0 && pair.has_data && pair.has_error {
                    pairs.remove(&id);
                }
            }
        }
        Ok(())
    }
}

/// A stream of a command.
fn open_channel(
    version: u8,
    opened: &mut [bool; Role::COMMAND.len()],
    headers: Headers<'_>,
) -> Result<Stream, DecodeError> {
    let name = headers.get("streamtype")?.unwrap_or_default();
    let index = Role::COMMAND
        .iter()
        .position(|role| role.name() == name)
        .ok_or(DecodeError::StreamType)?;
    let role = Role::COMMAND[index];
    let is_unknown = role == Role::Resize && version < 3;
    if is_unknown || std::mem::replace(&mut opened[index], true) {
        return Err(DecodeError::StreamType);
    }
    Ok(Stream {
        lane: Lane::new(role, None),
        is_replied: false,
        request_id: None,
    })
}

/// A stream of a forwarded connection.
fn open_port(
    stream_id: u32,
    pairs: &mut HashMap<String, Pair>,
    connections: &mut u32,
    headers: Headers<'_>,
    emit: &mut Emit<'_>,
) -> Result<Stream, DecodeError> {
    let role = match headers.get("streamtype")? {
        Some("data") => Role::PortData,
        Some("error") => Role::PortError,
        _ => return Err(DecodeError::StreamType),
    };
    let port = headers
        .get("port")?
        .and_then(parse_port)
        .ok_or(DecodeError::StreamHeaders)?;
    let request_id = match headers.get("requestid")? {
        Some(id) if id.len() > REQUEST_ID_BYTES_MAX => return Err(DecodeError::StreamHeaders),
        Some(id) if !id.is_empty() => id.to_owned(),
        // As the server pairs the streams of clients that do not say: the error stream comes right before the data.
        _ if role == Role::PortError => stream_id.to_string(),
        _ => (i64::from(stream_id) - 2).to_string(),
    };
    if pairs.len() >= OPEN_STREAMS_MAX {
        return Err(DecodeError::TooManyStreams);
    }
    let pair = pairs.entry(request_id.clone()).or_default();
    let is_new = !pair.has_data && !pair.has_error;
    let has_role = match role {
        Role::PortData => &mut pair.has_data,
        _ => &mut pair.has_error,
    };
    if std::mem::replace(has_role, true) {
        return Err(DecodeError::StreamType);
    }
    if is_new {
        *connections = connections.saturating_add(1);
        pair.connection = *connections;
    }
    pair.open += 1;
    if role == Role::PortData {
        emit(Item::PortOpened {
            connection: pair.connection,
            port,
            request_id: &request_id,
        });
    }
    Ok(Stream {
        lane: Lane::new(role, Some(pair.connection)),
        is_replied: false,
        request_id: Some(request_id),
    })
}

/// A port in decimal digits, as Go's `strconv.ParseUint` reads it, and not 0.
pub(in crate::tunnel) fn parse_port(text: &str) -> Option<u16> {
    let is_decimal = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| is_decimal && *port > 0)
}
