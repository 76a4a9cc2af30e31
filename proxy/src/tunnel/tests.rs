//! What the decoders hand on, from whole streams: real ones ([`captures`]) and hostile ones ([`attacks`]).

mod attacks;
mod captures;
mod channels;
pub(super) mod frames;

use hoop_schema::kinds::stream::Channel;

use super::Direction;
use super::channels::{DecodeError, Decoder, Item, Status};
use super::negotiate::Protocol;

/// An [`Item`] that is kept; connection 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    Data(Channel, u32, u64, Vec<u8>),
    Resize(u16, u16),
    Status(Status),
    PortOpened(u32, u16, String),
    Closed(Channel, u32),
    End(Direction, Option<u32>, String),
}

type Piece = (Direction, Vec<u8>);

/// Keeps an item; data that goes on where the item before ended is one item.
fn keep(items: &mut Vec<Kept>, item: Item<'_>) {
    let kept = match item {
        Item::Data {
            channel,
            connection,
            offset,
            bytes,
        } => {
            assert!(!bytes.is_empty());
            let connection = connection.unwrap_or(0);
            if let Some(Kept::Data(last, number, begin, kept)) = items.last_mut()
                && (*last, *number) == (channel, connection)
            {
                assert_eq!(*begin + kept.len() as u64, offset);
                kept.extend_from_slice(bytes);
                return;
            }
            Kept::Data(channel, connection, offset, bytes.to_vec())
        }
        Item::Resize { width, height } => Kept::Resize(width, height),
        Item::Status(status) => Kept::Status(status),
        Item::PortOpened {
            connection,
            port,
            request_id,
        } => Kept::PortOpened(connection, port, request_id.to_owned()),
        Item::Closed {
            channel,
            connection,
        } => Kept::Closed(channel, connection.unwrap_or(0)),
        Item::End { by, code, reason } => Kept::End(by, code, reason.to_owned()),
    };
    items.push(kept);
}

/// What pieces are decoded to, and how that ended; both sides are finished where it did not fail.
fn decode(protocol: &Protocol, pieces: &[Piece]) -> (Vec<Kept>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(protocol);
    let mut items = Vec::new();
    for (from, bytes) in pieces {
        if let Err(error) = decoder.push(*from, bytes, |item| keep(&mut items, item)) {
            let again = decoder.push(*from, b"more", |_| panic!("nothing after an error"));
            assert_eq!(again, Err(error.clone()));
            return (items, Err(error));
        }
    }
    for from in Direction::BOTH {
        if let Err(error) = decoder.finish(from, |item| keep(&mut items, item)) {
            return (items, Err(error));
        }
    }
    (items, Ok(()))
}

/// All of a channel's bytes.
fn content(items: &[Kept], wanted: Channel, connection: u32) -> String {
    let mut bytes = Vec::new();
    for item in items {
        if let Kept::Data(channel, number, offset, piece) = item
            && (*channel, *number) == (wanted, connection)
        {
            assert_eq!(*offset, bytes.len() as u64);
            bytes.extend_from_slice(piece);
        }
    }
    String::from_utf8(bytes).unwrap()
}
