//! Pieces of both sides of a stream, for the targets that decode streams.

use hoop_proxy::tunnel::Direction;
use hoop_proxy::tunnel::channels::{Decoder, Item};
use hoop_proxy::tunnel::negotiate::Protocol;

/// What was decoded: one entry for each item, with the bytes of data; and how it ended.
type Decoded = (Vec<(String, Vec<u8>)>, Result<(), String>);

/// Decoding never panics, and how the bytes are cut does not matter.
pub fn check(protocol: &Protocol, input: &[u8]) {
    let whole = decode(protocol, input, usize::MAX);
    assert_eq!(whole, decode(protocol, input, 1));
    assert_eq!(whole, decode(protocol, input, 7));
}

/// The input is pieces: side and length (two bytes, the first bit is the side), then the bytes.
fn decode(protocol: &Protocol, mut input: &[u8], size: usize) -> Decoded {
    let mut decoder = Decoder::new(protocol);
    let mut items = Vec::new();
    while let [high, low, rest @ ..] = input {
        let from = Direction::BOTH[usize::from(high >> 7)];
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low]));
        let (piece, rest) = rest.split_at(length.min(rest.len()));
        input = rest;
        for cut in piece.chunks(size) {
            if let Err(error) = decoder.push(from, cut, |item| keep(&mut items, &item)) {
                return (items, Err(error.to_string()));
            }
        }
    }
    for from in Direction::BOTH {
        if let Err(error) = decoder.finish(from, |item| keep(&mut items, &item)) {
            return (items, Err(error.to_string()));
        }
    }
    (items, Ok(()))
}

fn keep(items: &mut Vec<(String, Vec<u8>)>, item: &Item<'_>) {
    let Item::Data {
        channel,
        connection,
        bytes,
        ..
    } = item
    else {
        items.push((format!("{item:?}"), Vec::new()));
        return;
    };
    let name = format!("{channel:?} {connection:?}");
    match items.last_mut() {
        Some((last, kept)) if *last == name => kept.extend_from_slice(bytes),
        _ => items.push((name, bytes.to_vec())),
    }
}
