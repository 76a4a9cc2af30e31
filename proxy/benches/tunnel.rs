//! Decoding a stream's bytes, against copying them.
//!
//! `cargo bench --workspace --bench tunnel`; prints GB/s of one core, best of five.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hoop_proxy::tunnel::Direction;
use hoop_proxy::tunnel::channels::{Decoder, Item};
use hoop_proxy::tunnel::negotiate::{Encoding, Protocol};

/// What is decoded in one run.
const STREAM_BYTES: usize = 256 << 20;

/// Payload of one message or data frame, as kubectl and the kubelet cut it.
const FRAME_BYTES: usize = 32 * 1024;

/// What the tunnel reads at a time, more or less.
const CHUNK_BYTES: usize = 64 * 1024;

/// The payload of `data` is as long as a message's with its channel byte.
const DATA_BYTES: u32 = FRAME_BYTES as u32 + 1;

fn main() {
    let version = 5;
    let encoding = Encoding::Binary;
    let messages = Protocol::CommandMessages { encoding, version };
    let small = message(Direction::FromServer, 1, 64);
    println!(
        "{} MiB in frames of {} KiB",
        STREAM_BYTES >> 20,
        FRAME_BYTES >> 10
    );
    report("copy", &[0; FRAME_BYTES], || {
        let mut out = Vec::with_capacity(CHUNK_BYTES);
        move |chunk: &[u8]| {
            out.clear();
            out.extend_from_slice(chunk);
            black_box(&out);
            chunk.len() as u64
        }
    });
    for (name, from, channel) in [
        ("websocket, stdout", Direction::FromServer, 1),
        ("websocket, stdin (masked)", Direction::FromClient, 0),
    ] {
        let frame = message(from, channel, FRAME_BYTES);
        report(name, &frame, || decode(Decoder::new(&messages), from));
    }
    report("websocket, stdout, messages of 64 bytes", &small, || {
        decode(Decoder::new(&messages), Direction::FromServer)
    });
    let data = [
        &3_u32.to_be_bytes()[..],
        &DATA_BYTES.to_be_bytes(),
        &[0; FRAME_BYTES + 1],
    ]
    .concat();
    report("spdy, stdout", &data, || {
        let mut decoder = Decoder::new(&Protocol::CommandStreams { version: 4 });
        for syn_stream in CAPTURED {
            decoder
                .push(Direction::FromClient, syn_stream, |_| {})
                .expect("SYN_STREAM");
        }
        decode(decoder, Direction::FromServer)
    });
}

/// SYN_STREAM of error (1) and stdout (3), as kubectl 1.30 sent them.
const CAPTURED: [&[u8]; 2] = [
    b"\x80\x03\x00\x01\x00\x00\x00\x29\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\
      \x78\xf9\xe3\xc6\xa7\xc2\x62\x60\x60\x60\x04\xa7\xb3\x92\xa2\xd4\xc4\x5c\x68\x51\xc2\x9a\x0a\x0a\x68\
      \x00\x00\x00\x00\xff\xff",
    b"\x80\x03\x00\x01\x00\x00\x00\x19\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\
      \xc2\x2a\xc5\x56\x5c\x92\x92\x5f\x5a\x02\x00\x00\x00\xff\xff",
];

fn message(from: Direction, channel: u8, bytes: usize) -> Vec<u8> {
    let mask_bit = match from {
        Direction::FromClient => 0x80,
        Direction::FromServer => 0,
    };
    let length = u16::try_from(bytes + 1).expect("short").to_be_bytes();
    let mut frame = vec![0x82, mask_bit | 126, length[0], length[1]];
    let mask: &[u8] = if mask_bit == 0 { &[] } else { &[1, 2, 3, 4] };
    frame.extend_from_slice(mask);
    frame.push(channel ^ mask.first().copied().unwrap_or_default());
    frame.resize(frame.len() + bytes, 7);
    frame
}

/// Bytes of data that came out of a chunk.
fn decode(mut decoder: Decoder, from: Direction) -> impl FnMut(&[u8]) -> u64 {
    move |chunk| {
        let mut count = 0;
        let result = decoder.push(from, chunk, |item| {
            if let Item::Data { bytes, .. } = item {
                count += black_box(bytes).len() as u64;
            }
        });
        result.expect("a stream");
        count
    }
}

fn report<F: FnMut(&[u8]) -> u64>(name: &str, frame: &[u8], start: impl Fn() -> F) {
    let frames = STREAM_BYTES / frame.len();
    let stream = frame.repeat(frames);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let mut take = start();
        let begin = Instant::now();
        let count: u64 = stream.chunks(CHUNK_BYTES).map(&mut take).sum();
        best = best.min(begin.elapsed());
        assert!(count > stream.len() as u64 / 2, "{count}");
    }
    let rate = stream.len() as f64 / best.as_secs_f64() / 1e9;
    println!("{name:<42} {rate:>7.2} GB/s");
}
