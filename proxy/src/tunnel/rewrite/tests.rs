use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hoop_schema::kinds::stream::Channel;

use super::*;
use crate::mask::{Detector, MaskMode, Sought};
use crate::tunnel::channels::{Decoder, Item};
use crate::tunnel::negotiate::Encoding;
use crate::tunnel::tests::frames::{SpdyWriter, control, data, frame, message};

const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
const MASK: &str = "**hoop-masked**";

use Direction::{FromClient, FromServer};

fn rewriter(protocol: &Protocol) -> Rewriter {
    let jwt = Sought::detector(Detector::named("jwt").unwrap(), MaskMode::Redact);
    let rules = Arc::new(TextRules::new(vec![jwt]).unwrap());
    let key = Arc::new(MaskKey::from_bytes([7; 32]));
    Rewriter::new(protocol, &rules, &key).unwrap()
}

/// What the server's bytes become, in pieces of `size`.
fn rewrite(protocol: &Protocol, bytes: &[u8], size: usize) -> Vec<u8> {
    let mut rewriter = rewriter(protocol);
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        rewriter.push(piece, &mut out).unwrap();
    }
    rewriter.finish(&mut out);
    assert!(!rewriter.holds_back());
    out
}

/// The text of a channel, as a client reads it, and whether the stream ended in order.
fn read(protocol: &Protocol, client: &[u8], server: &[u8], wanted: Channel) -> String {
    let mut decoder = Decoder::new(protocol);
    let mut text = Vec::new();
    decoder.push(FromClient, client, |_| {}).unwrap();
    decoder
        .push(FromServer, server, |item| {
            if let Item::Data { channel, bytes, .. } = item
                && channel == wanted
            {
                text.extend_from_slice(bytes);
            }
        })
        .unwrap();
    decoder.finish(FromServer, |_| {}).unwrap();
    String::from_utf8(text).unwrap()
}

const MESSAGES: Protocol = Protocol::CommandMessages {
    encoding: Encoding::Binary,
    version: 5,
};

const BASE64_MESSAGES: Protocol = Protocol::CommandMessages {
    encoding: Encoding::Base64,
    version: 4,
};

const STREAMS: Protocol = Protocol::CommandStreams { version: 4 };

#[test]
fn output_in_messages_is_masked_over_any_cut() {
    let (half, rest) = JWT.split_at(20);
    let of = |channel: u8, text: &str| {
        let payload: Vec<u8> = std::iter::once(channel).chain(text.bytes()).collect();
        message(FromServer, &payload)
    };
    let status = r#"{"metadata":{},"status":"Success"}"#;
    let long = "x".repeat(70_000);
    let server = [
        // Servers begin with an empty message on each channel.
        of(1, ""),
        of(2, ""),
        of(1, &format!("a {half}")),
        of(2, &format!("error {half}")),
        frame(FromServer, 0x89, b"ping"),
        of(1, rest),
        of(1, &format!(" b {long}")),
        of(2, " c"),
        of(3, status),
        frame(FromServer, 0x88, &[3, 232]),
    ]
    .concat();
    for size in [1, 2, 7, 100, 4096, usize::MAX] {
        let out = rewrite(&MESSAGES, &server, size);
        let text = |channel| read(&MESSAGES, &[], &out, channel);
        assert_eq!(text(Channel::Stdout), format!("a {MASK} b {long}"));
        assert_eq!(text(Channel::Stderr), format!("error {half} c"));
        assert_eq!(text(Channel::Error), status);
        assert!(out.starts_with(&[0x82, 1, 1, 0x82, 1, 2]));
        assert!(out.ends_with(&[0x88, 2, 3, 232]));
        assert!(memchr::memmem::find(&out, b"\x89\x04ping").is_some());
    }
}

#[test]
fn output_in_base64_is_masked_over_any_cut() {
    let (half, rest) = JWT.split_at(20);
    let of = |channel: u8, text: &str| {
        let text = BASE64_STANDARD.encode(text);
        let payload: Vec<u8> = std::iter::once(channel).chain(text.bytes()).collect();
        frame(FromServer, 0x81, &payload)
    };
    let status = r#"{"metadata":{},"status":"Success"}"#;
    let long = "x".repeat(70_000);
    let server = [
        of(b'1', ""),
        of(b'2', ""),
        of(b'1', &format!("a {half}")),
        of(b'2', &format!("error {half}")),
        frame(FromServer, 0x89, b"ping"),
        of(b'1', rest),
        of(b'1', &format!(" b {long}")),
        of(b'2', " c"),
        of(b'3', status),
        frame(FromServer, 0x88, &[3, 232]),
    ]
    .concat();
    for size in [1, 2, 7, 100, 4096, usize::MAX] {
        let out = rewrite(&BASE64_MESSAGES, &server, size);
        let text = |channel| read(&BASE64_MESSAGES, &[], &out, channel);
        assert_eq!(text(Channel::Stdout), format!("a {MASK} b {long}"));
        assert_eq!(text(Channel::Stderr), format!("error {half} c"));
        assert_eq!(text(Channel::Error), status);
        assert!(out.starts_with(&[0x81, 1, b'1', 0x81, 1, b'2']));
        assert!(out.ends_with(&[0x88, 2, 3, 232]));
    }
}

#[test]
fn output_that_is_no_base64_is_refused() {
    for payload in [&b"1YQ"[..], b"1Y*==", b"1YQ==YQ=="] {
        let mut rewriter = rewriter(&BASE64_MESSAGES);
        let server = frame(FromServer, 0x81, payload);
        let refused = rewriter.push(&server, &mut Vec::new());
        assert_eq!(refused, Err(DecodeError::Base64), "{payload:?}");
    }
}

#[test]
fn output_in_streams_is_masked_over_any_cut() {
    let (half, rest) = JWT.split_at(20);
    let mut writer = SpdyWriter::new();
    let client = [
        writer.syn_stream(1, &[("streamtype", "error")]),
        writer.syn_stream(3, &[("streamtype", "stdout")]),
        writer.syn_stream(5, &[("streamtype", "stderr")]),
    ]
    .concat();
    let mut writer = SpdyWriter::new();
    let server = [
        writer.syn_reply(1),
        writer.syn_reply(3),
        writer.syn_reply(5),
        data(3, 0, format!("a {half}").as_bytes()),
        control(6, 0, &[0, 0, 0, 2]),
        data(5, 0, half.as_bytes()),
        data(3, 0, format!("{rest} b").as_bytes()),
        data(3, 0, b""),
        data(5, 1, b""),
        data(3, 1, half.as_bytes()),
        data(1, 1, br#"{"status":"Success"}"#),
    ]
    .concat();
    for size in [1, 3, 10, 64, usize::MAX] {
        let out = rewrite(&STREAMS, &server, size);
        let text = |channel| read(&STREAMS, &client, &out, channel);
        assert_eq!(text(Channel::Stdout), format!("a {MASK} b{half}"));
        assert_eq!(text(Channel::Stderr), half);
        assert_eq!(text(Channel::Error), r#"{"status":"Success"}"#);
    }
}

#[test]
fn what_is_held_back_is_flushed_in_a_frame_of_its_own() {
    let mut rewriter = rewriter(&MESSAGES);
    let mut out = Vec::new();
    let payload = [&[1], "$ ey".as_bytes()].concat();
    rewriter
        .push(&message(FromServer, &payload), &mut out)
        .unwrap();
    assert_eq!(out, message(FromServer, b"\x01$ "));
    assert!(rewriter.holds_back());
    out.clear();
    rewriter.flush(&mut out);
    assert_eq!(out, message(FromServer, b"\x01ey"));
    assert!(!rewriter.holds_back());
}

#[test]
fn what_is_no_output_of_a_command_is_not_written_anew() {
    let rules = Arc::new(TextRules::new(Vec::new()).unwrap());
    let key = Arc::new(MaskKey::from_bytes([7; 32]));
    for protocol in [Protocol::PortStreams, Protocol::PortStreamsInWebSocket] {
        assert!(Rewriter::new(&protocol, &rules, &key).is_none());
    }
}

#[test]
fn a_message_that_never_ends_is_given_up() {
    let mut rewriter = rewriter(&MESSAGES);
    let piece = vec![3; 1 << 20];
    let mut out = Vec::new();
    let mut push = |first| rewriter.push(&frame(FromServer, first, &piece), &mut out);
    push(0x02).unwrap();
    let refused = (0..64).map(|_| push(0x00)).position(|taken| taken.is_err());
    assert_eq!(refused, Some(31), "32 MiB and the channel are the most");
    assert!(out.is_empty());
}
