//! Bytes that are meant to be read otherwise than by the server, or to cost memory: every one of them is an error.

use super::frames::{
    SpdyWriter, control, data, frame, header_block, message, rst_stream, syn_stream_of,
};
use super::{DecodeError, Direction, Kept, Piece, Protocol, decode};
use crate::tunnel::channels::{OPEN_STREAMS_MAX, RESIZE_BYTES_MAX};
use crate::tunnel::negotiate::Encoding;
use crate::tunnel::spdy::FrameError as SpdyError;
use crate::tunnel::websocket::{FrameError, MessageKind};

use Direction::{FromClient, FromServer};

const V5: Protocol = Protocol::CommandMessages {
    encoding: Encoding::Binary,
    version: 5,
};
const BASE64: Protocol = Protocol::CommandMessages {
    encoding: Encoding::Base64,
    version: 4,
};
const STREAMS: Protocol = Protocol::CommandStreams { version: 4 };

fn error(protocol: &Protocol, pieces: &[Piece]) -> DecodeError {
    let (_, result) = decode(protocol, pieces);
    result.expect_err("an attack is an error")
}

#[test]
fn channels_that_are_not_there_or_flow_the_other_way() {
    for (from, payload, expected) in [
        (
            FromClient,
            b"\x05x".as_slice(),
            DecodeError::UnknownChannel(5),
        ),
        (FromServer, b"\xff\0", DecodeError::UnknownChannel(255)),
        (FromClient, b"\x01x", DecodeError::WrongDirection("stdout")),
        (FromClient, b"\x03x", DecodeError::WrongDirection("error")),
        (FromServer, b"\0x", DecodeError::WrongDirection("stdin")),
        (FromServer, b"\x04{}", DecodeError::WrongDirection("resize")),
        (FromClient, b"\xff", DecodeError::CloseSignal),
        (FromClient, b"\xff\0\0", DecodeError::CloseSignal),
        (FromClient, b"\xff\x05", DecodeError::UnknownChannel(5)),
    ] {
        assert_eq!(error(&V5, &[(from, message(from, payload))]), expected);
    }
}

#[test]
fn command_hidden_in_a_continuation() {
    // Put together, this is one size; to the server's library the second frame is input.
    let pieces = [
        (
            FromClient,
            frame(FromClient, 0x02, b"\x04{\"Width\":1,\"x\":\""),
        ),
        (FromClient, frame(FromClient, 0x80, b"\0rm -rf /\n\"}")),
    ];
    let (items, result) = decode(&V5, &pieces);
    assert_eq!((items, result), (vec![], Err(DecodeError::Fragmented)));
}

#[test]
fn text_where_only_binary_is_spoken() {
    let text = |from| (from, frame(from, 0x81, b"\x01x"));
    let kind = DecodeError::MessageKind(MessageKind::Text);
    assert_eq!(error(&V5, &[text(FromServer)]), kind);
    let tunnel = Protocol::PortStreamsInWebSocket;
    assert_eq!(error(&tunnel, &[text(FromServer)]), kind);
    assert_eq!(error(&tunnel, &[text(FromClient)]), kind);
}

#[test]
fn base64_that_is_none() {
    for payload in [
        b"0a".as_slice(),
        b"0aGVsbG8",
        b"0aGVsbG8=x",
        b"0Zg==Zg==",
        b"0a-_a",
        b"0====",
    ] {
        let pieces = [(FromClient, message(FromClient, payload))];
        assert_eq!(error(&BASE64, &pieces), DecodeError::Base64, "{payload:?}");
    }
    let pieces = [(FromClient, message(FromClient, b"\0aGVsbG8="))];
    assert_eq!(error(&BASE64, &pieces), DecodeError::UnknownChannel(0));
}

#[test]
fn sizes_that_are_none_or_never_end() {
    let endless = [b"\x04".as_slice(), &[b'['; 2 * RESIZE_BYTES_MAX]].concat();
    let padded = [b"\x04{\"x\":\"".as_slice(), &[b'a'; RESIZE_BYTES_MAX]].concat();
    for payload in [
        b"\x04{]".as_slice(),
        b"\x0480x24",
        b"\x04{\"Width\":65536}",
        b"\x04{\"Width\":-1}",
        &endless,
        &padded,
    ] {
        let pieces = [(FromClient, message(FromClient, payload))];
        assert_eq!(error(&V5, &pieces), DecodeError::Resize);
    }
}

#[test]
fn port_that_was_not_asked_for() {
    let protocol = Protocol::PortMessages {
        encoding: Encoding::Binary,
        ports: vec![80],
    };
    let pieces = [(FromServer, message(FromServer, b"\x00\x51\x00"))];
    assert_eq!(error(&protocol, &pieces), DecodeError::Port);
    let pieces = [(FromClient, message(FromClient, b"\x02x"))];
    assert_eq!(error(&protocol, &pieces), DecodeError::UnknownChannel(2));
}

#[test]
fn frames_after_a_close_frame() {
    let bytes = [frame(FromClient, 0x88, b""), message(FromClient, b"\0x")].concat();
    let (items, result) = decode(&V5, &[(FromClient, bytes)]);
    assert_eq!(items, [Kept::End(FromClient, None, String::new())]);
    assert_eq!(result, Err(FrameError::AfterClose.into()));
}

#[test]
fn stream_ids_that_are_used_again_even_or_the_servers() {
    let stdin = [("streamtype", "stdin")];
    let stdout = [("streamtype", "stdout")];
    for (from, first, second) in [
        (FromClient, 1, 1),
        (FromClient, 3, 1),
        (FromClient, 1, 4),
        (FromClient, 1, 0x8000_0003),
    ] {
        let mut writer = SpdyWriter::new();
        let pieces = [
            (from, writer.syn_stream(first, &stdin)),
            (from, writer.syn_stream(second, &stdout)),
        ];
        assert_eq!(error(&STREAMS, &pieces), DecodeError::StreamId(second));
    }
    let pieces = [(FromServer, SpdyWriter::new().syn_stream(2, &stdout))];
    assert_eq!(error(&STREAMS, &pieces), DecodeError::StreamId(2));
}

#[test]
fn frames_for_streams_that_were_never_opened() {
    for bytes in [
        data(1, 0, b"x"),
        data(1, 0, b""),
        control(3, 0, &[0, 0, 0, 1, 0, 0, 0, 5]),
        SpdyWriter::new().syn_reply(1),
    ] {
        let pieces = [(FromServer, bytes)];
        assert_eq!(error(&STREAMS, &pieces), DecodeError::UnknownStream(1));
    }
    let mut writer = SpdyWriter::new();
    let pieces = [
        (FromClient, writer.syn_stream(3, &[("streamtype", "stdin")])),
        (FromClient, data(2, 0, b"x")),
    ];
    assert_eq!(error(&STREAMS, &pieces), DecodeError::UnknownStream(2));
}

#[test]
fn streams_of_odd_types() {
    let cases: [&[&[(&str, &str)]]; 4] = [
        &[&[]],
        &[&[("streamtype", "stdlog")]],
        &[&[("streamtype", "data"), ("port", "80")]],
        &[&[("streamtype", "stdin")], &[("streamtype", "stdin")]],
    ];
    for streams in cases {
        let mut writer = SpdyWriter::new();
        let pieces: Vec<Piece> = streams
            .iter()
            .zip((1..).step_by(2))
            .map(|(headers, id)| (FromClient, writer.syn_stream(id, headers)))
            .collect();
        assert_eq!(error(&STREAMS, &pieces), DecodeError::StreamType);
    }
    let resize = SpdyWriter::new().syn_stream(1, &[("streamtype", "resize")]);
    let before_v3 = Protocol::CommandStreams { version: 2 };
    assert_eq!(
        error(&before_v3, &[(FromClient, resize)]),
        DecodeError::StreamType
    );
}

#[test]
fn forwarded_streams_with_odd_headers() {
    let long = "1".repeat(65);
    for (port, request_id) in [
        ("0", "1"),
        ("", "1"),
        ("65536", "1"),
        ("+80", "1"),
        (" 80", "1"),
        ("80", &long),
    ] {
        let headers = [
            ("port", port),
            ("requestid", request_id),
            ("streamtype", "data"),
        ];
        let pieces = [(FromClient, SpdyWriter::new().syn_stream(1, &headers))];
        assert_eq!(
            error(&Protocol::PortStreams, &pieces),
            DecodeError::StreamHeaders,
            "{port}"
        );
    }
    let headers = [("port", "80"), ("requestid", "1"), ("streamtype", "data")];
    let mut writer = SpdyWriter::new();
    let pieces = [
        (FromClient, writer.syn_stream(1, &headers)),
        (FromClient, writer.syn_stream(3, &headers)),
    ];
    assert_eq!(
        error(&Protocol::PortStreams, &pieces),
        DecodeError::StreamType
    );
}

#[test]
fn header_values_that_are_two() {
    for value in ["stdin\0stdout", "stdin\n"] {
        let block = [("streamtype", value)];
        let pieces = [(FromClient, SpdyWriter::new().syn_stream(1, &block))];
        assert_eq!(error(&STREAMS, &pieces), SpdyError::Headers.into());
    }
}

#[test]
fn header_blocks_that_inflate_without_end() {
    let mut writer = SpdyWriter::new();
    let bomb = writer.deflate(&vec![0; 4 << 20]);
    assert!(bomb.len() < 16 * 1024);
    let pieces = [(FromClient, syn_stream_of(1, 0, &bomb))];
    assert_eq!(
        error(&STREAMS, &pieces),
        SpdyError::HeaderBlockTooLong.into()
    );
}

#[test]
fn header_block_with_a_stream_behind_it() {
    // The server's library would read what is left over as the headers of the next stream.
    let mut writer = SpdyWriter::new();
    let block = [
        header_block(&[("streamtype", "stdin")]),
        header_block(&[("streamtype", "resize")]),
    ]
    .concat();
    let bytes = syn_stream_of(1, 0, &writer.deflate(&block));
    assert_eq!(
        error(&STREAMS, &[(FromClient, bytes)]),
        SpdyError::Headers.into()
    );
}

#[test]
fn frames_that_nobody_sends() {
    let stdin = [("streamtype", "stdin")];
    let mut client = SpdyWriter::new();
    let open = client.syn_stream(1, &stdin);
    let client_reply = client.syn_reply(1);
    let mut server = SpdyWriter::new();
    let replies = [server.syn_reply(1), server.syn_reply(1)].concat();
    let mut more = 1_u32.to_be_bytes().to_vec();
    more.extend(SpdyWriter::new().deflate(&header_block(&[])));
    for (from, bytes, name) in [
        (FromClient, client_reply, "SYN_REPLY"),
        (FromServer, replies, "SYN_REPLY"),
        (FromServer, control(8, 0, &more), "HEADERS"),
    ] {
        let pieces = [(FromClient, open.clone()), (from, bytes)];
        assert_eq!(error(&STREAMS, &pieces), DecodeError::UnexpectedFrame(name));
    }
}

#[test]
fn more_streams_than_anybody_needs() {
    let mut writer = SpdyWriter::new();
    let bytes = (0..=OPEN_STREAMS_MAX as u32)
        .flat_map(|n| {
            let id = n.to_string();
            let headers = [("port", "80"), ("requestid", &id), ("streamtype", "data")];
            writer.syn_stream(2 * n + 1, &headers)
        })
        .collect();
    let (items, result) = decode(&Protocol::PortStreams, &[(FromClient, bytes)]);
    assert_eq!(result, Err(DecodeError::TooManyStreams));
    assert_eq!(items.len(), OPEN_STREAMS_MAX);
}

#[test]
fn streams_that_never_get_their_other_half() {
    let mut writer = SpdyWriter::new();
    let bytes = (0..=OPEN_STREAMS_MAX as u32)
        .flat_map(|n| {
            let id = n.to_string();
            let headers = [("port", "80"), ("requestid", &id), ("streamtype", "error")];
            let open = writer.syn_stream(2 * n + 1, &headers);
            [open, rst_stream(2 * n + 1)].concat()
        })
        .collect();
    let (_, result) = decode(&Protocol::PortStreams, &[(FromClient, bytes)]);
    assert_eq!(result, Err(DecodeError::TooManyStreams));
}
