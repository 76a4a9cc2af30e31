//! One channel number or one SPDY stream: what it carries in each direction.

use hoop_schema::kinds::stream::Channel;

use super::resize::ResizeParser;
use super::status::StatusParser;
use super::{DecodeError, Emit, Item};
use crate::tunnel::Direction;

/// What a lane is for. The first five are in the order of their channel numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Stdin,
    Stdout,
    Stderr,
    Error,
    Resize,
    PortData,
    PortError,
}

/// A lane between client and server.
#[derive(Debug)]
pub(super) struct Lane {
    role: Role,
    connection: Option<u32>,
    /// Bytes so far, from either side.
    offsets: [u64; 2],
    is_closed: [bool; 2],
}

/// What the lanes of a command share: parsers of what is not passed on as it is.
#[derive(Debug)]
pub(super) struct Parsers {
    resize: ResizeParser,
    status: StatusParser,
}

impl Role {
    pub(super) const COMMAND: [Self; 5] = [
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Error,
        Self::Resize,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error | Self::PortError => "error",
            Self::Resize => "resize",
            Self::PortData => "data",
        }
    }

    /// What a side's bytes are; `None` where it does not send, and for sizes.
    fn channel(self, from: Direction) -> Option<Channel> {
        match (self, from) {
            (Self::Stdin, Direction::FromClient) => Some(Channel::Stdin),
            (Self::Stdout, Direction::FromServer) => Some(Channel::Stdout),
            (Self::Stderr, Direction::FromServer) => Some(Channel::Stderr),
            (Self::Error | Self::PortError, Direction::FromServer) => Some(Channel::Error),
            (Self::PortData, Direction::FromClient) => Some(Channel::PortIn),
            (Self::PortData, Direction::FromServer) => Some(Channel::PortOut),
            _ => None,
        }
    }
}

impl Lane {
    pub(super) fn new(role: Role, connection: Option<u32>) -> Self {
        Self {
            role,
            connection,
            offsets: [0; 2],
            is_closed: [false; 2],
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Whether both sides are done with it.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed == [true; 2]
    }

    /// A side sent `bytes`, which are not empty. What comes after a half-close is handed on as well: whether the
    /// other end still reads it is up to chance.
    pub(super) fn data(
        &mut self,
        from: Direction,
        bytes: &[u8],
        parsers: &mut Parsers,
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        if self.role == Role::Resize && from == Direction::FromClient {
            return parsers.resize.push(bytes, emit);
        }
        let channel = self
            .role
            .channel(from)
            .ok_or(DecodeError::WrongDirection(self.role.name()))?;
        let offset = &mut self.offsets[from.index()];
        emit(Item::Data {
            channel,
            connection: self.connection,
            offset: *offset,
            bytes,
        });
        *offset += bytes.len() as u64;
        if self.role == Role::Error {
            parsers.status.push(bytes);
        }
        Ok(())
    }

    /// A message or data frame of a side is whole.
    pub(super) fn end_of_unit(&self, from: Direction, parsers: &mut Parsers, emit: &mut Emit<'_>) {
        if self.role == Role::Error && from == Direction::FromServer {
            parsers.status.end_of_unit(emit);
        }
    }

    /// A side sends no more.
    pub(super) fn close(&mut self, from: Direction, parsers: &mut Parsers, emit: &mut Emit<'_>) {
        if std::mem::replace(&mut self.is_closed[from.index()], true) {
            return;
        }
        if self.role == Role::Error && from == Direction::FromServer {
            parsers.status.finish(emit);
        }
        if let Some(channel) = self.role.channel(from) {
            emit(Item::Closed {
                channel,
                connection: self.connection,
            });
        }
    }
}

impl Parsers {
    /// For a version of the protocol of commands.
    pub(super) fn new(version: u8) -> Self {
        Self {
            resize: ResizeParser::default(),
            status: StatusParser::new(version >= 4),
        }
    }

    /// The server sends no more at all.
    pub(super) fn finish(&mut self, emit: &mut Emit<'_>) {
        self.status.finish(emit);
    }
}
