//! Channels as WebSocket messages: the first byte of a message names its channel (`wsstream`).
//!
//! The server's library does not put fragments together: to it, every frame is a message with a channel byte. A
//! client that splits a message would so be understood in two ways, and is refused. Text and binary messages of a
//! client are read alike, since the server does, and the Python client sends text.

use super::base64_text::Base64Text;
use super::lane::{Lane, Parsers, Role};
use super::{DecodeError, Emit, Item};
use crate::tunnel::Direction;
use crate::tunnel::negotiate::Encoding;
use crate::tunnel::websocket::{Event, MessageKind};

/// The first byte of a message that half-closes a channel, from v5 on.
const CLOSE_SIGNAL: u8 = 255;

/// The lanes of a stream, and where each side is in its message.
#[derive(Debug)]
pub(super) struct Messages {
    encoding: Encoding,
    version: u8,
    has_close_signal: bool,
    lanes: Vec<Lane>,
    /// What the server still has to say of each lane before its data: the port, little-endian.
    prefixes: Vec<Prefix>,
    parsers: Parsers,
    sides: [Side; 2],
}

/// The port that a server sends first on both lanes of a forwarded port.
#[derive(Debug)]
struct Prefix {
    port: u16,
    /// Bytes of it that have come.
    bytes: [u8; 2],
    taken: usize,
}

#[derive(Debug, Default)]
struct Side {
    target: Target,
    /// Whether a frame of this message had payload.
    has_payload: bool,
    text: Base64Text,
}

/// What the message is for.
#[derive(Debug, Default, Clone, Copy)]
enum Target {
    /// Its first byte has not come.
    #[default]
    Unknown,
    /// The index of a lane.
    Lane(usize),
    /// A close signal, with the channel once it has come.
    Close(Option<u8>),
}

impl Messages {
    /// For exec and attach.
    pub(super) fn of_command(encoding: Encoding, version: u8) -> Self {
        let lanes = Role::COMMAND.map(|role| Lane::new(role, None)).into();
        Self::new(encoding, version, lanes, Vec::new())
    }

    /// For the ports of a port-forward: two lanes each.
    pub(super) fn of_ports(encoding: Encoding, ports: &[u16]) -> Self {
        let mut lanes = Vec::new();
        let mut prefixes = Vec::new();
        for (port, connection) in ports.iter().zip(1..) {
            for role in [Role::PortData, Role::PortError] {
                lanes.push(Lane::new(role, Some(connection)));
                prefixes.push(Prefix {
                    port: *port,
                    bytes: [0; 2],
                    taken: 0,
                });
            }
        }
        Self::new(encoding, 4, lanes, prefixes)
    }

    fn new(encoding: Encoding, version: u8, lanes: Vec<Lane>, prefixes: Vec<Prefix>) -> Self {
        Self {
            encoding,
            version,
            has_close_signal: version >= 5,
            lanes,
            prefixes,
            parsers: Parsers::new(version),
            sides: Default::default(),
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn version(&self) -> u8 {
        self.version
    }

    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The next event of a side.
    pub(super) fn take(
        &mut self,
        from: Direction,
        event: Event<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        match event {
            Event::Frame { kind, bytes, .. } => self.begin_frame(from, kind, bytes),
            Event::Data(bytes) => self.data(from, bytes, emit),
            Event::MessageEnd => self.end_message(from, emit),
            Event::Ping(_) | Event::Pong(_) => Ok(()),
            Event::Close { code, reason } => {
                self.finish(from, emit);
                emit(Item::End {
                    by: from,
                    code: code.map(u32::from),
                    reason,
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

    fn begin_frame(
        &mut self,
        from: Direction,
        kind: MessageKind,
        bytes: u64,
    ) -> Result<(), DecodeError> {
        if from == Direction::FromServer
            && kind == MessageKind::Text
            && self.encoding == Encoding::Binary
        {
            return Err(DecodeError::MessageKind(kind));
        }
        if bytes > 0 {
            let side = &mut self.sides[from.index()];
            if side.has_payload && from == Direction::FromClient {
                return Err(DecodeError::Fragmented);
            }
            side.has_payload = true;
        }
        Ok(())
    }

    fn data(
        &mut self,
        from: Direction,
        bytes: &[u8],
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        let side = &mut self.sides[from.index()];
        let mut payload = bytes;
        if let (Target::Unknown, Some((first, rest))) = (side.target, bytes.split_first()) {
            let index = match self.encoding {
                Encoding::Binary => *first,
                Encoding::Base64 => first.wrapping_sub(b'0'),
            };
            let is_close = *first == CLOSE_SIGNAL && from == Direction::FromClient;
            side.target = if is_close && self.has_close_signal {
                Target::Close(None)
            } else if usize::from(index) < self.lanes.len() {
                Target::Lane(index.into())
            } else {
                return Err(DecodeError::UnknownChannel(*first));
            };
            payload = rest;
        }
        if payload.is_empty() {
            return Ok(());
        }
        match side.target {
            Target::Unknown => Ok(()),
            Target::Close(None) if payload.len() == 1 => {
                side.target = Target::Close(payload.first().copied());
                Ok(())
            }
            Target::Close(_) => Err(DecodeError::CloseSignal),
            Target::Lane(index) => {
                let (lane, parsers) = (&mut self.lanes[index], &mut self.parsers);
                let prefix = match from {
                    Direction::FromClient => None,
                    Direction::FromServer => self.prefixes.get_mut(index),
                };
                match self.encoding {
                    Encoding::Binary => lane_data(lane, prefix, from, payload, parsers, emit),
                    Encoding::Base64 => {
                        let mut prefix = prefix;
                        side.text.push(payload, &mut |bytes| {
                            lane_data(lane, prefix.as_deref_mut(), from, bytes, parsers, emit)
                        })
                    }
                }
            }
        }
    }

    fn end_message(&mut self, from: Direction, emit: &mut Emit<'_>) -> Result<(), DecodeError> {
        let side = &mut self.sides[from.index()];
        side.has_payload = false;
        side.text.end()?;
        match std::mem::take(&mut side.target) {
            Target::Unknown => Ok(()),
            Target::Lane(index) => {
                self.lanes[index].end_of_unit(from, &mut self.parsers, emit);
                Ok(())
            }
            Target::Close(None) => Err(DecodeError::CloseSignal),
            Target::Close(Some(channel)) => {
                let lane = self
                    .lanes
                    .get_mut(usize::from(channel))
                    .ok_or(DecodeError::UnknownChannel(channel))?;
                lane.close(from, &mut self.parsers, emit);
                Ok(())
            }
        }
    }
}

/// Takes the port off the front where there is one, the rest is the lane's.
fn lane_data(
    lane: &mut Lane,
    prefix: Option<&mut Prefix>,
    from: Direction,
    mut bytes: &[u8],
    parsers: &mut Parsers,
    emit: &mut Emit<'_>,
) -> Result<(), DecodeError> {
    if let Some(prefix) = prefix {
        while let (true, Some((first, rest))) = (prefix.taken < 2, bytes.split_first()) {
            prefix.bytes[prefix.taken] = *first;
            prefix.taken += 1;
            bytes = rest;
            if prefix.taken < 2 {
                continue;
            }
            if u16::from_le_bytes(prefix.bytes) != prefix.port {
                return Err(DecodeError::Port);
            }
            if let (Role::PortData, Some(connection)) = (lane.role(), lane.connection()) {
                emit(Item::PortOpened {
                    connection,
                    port: prefix.port,
                    request_id: "",
                });
            }
        }
    }
    if bytes.is_empty() {
        return Ok(());
    }
    lane.data(from, bytes, parsers, emit)
}
