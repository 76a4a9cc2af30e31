//! Protocols that the captures do not have, and corners of those they have.

use hoop_schema::kinds::stream::Channel;

use super::frames::{SpdyWriter, data, frame, message, rst_stream};
use super::{Direction, Kept, Protocol, Status, content, decode};
use crate::tunnel::channels::{Decoder, Item};
use crate::tunnel::negotiate::Encoding;

use Direction::{FromClient, FromServer};

fn command(version: u8) -> Protocol {
    Protocol::CommandMessages {
        encoding: Encoding::Binary,
        version,
    }
}

const BASE64: Protocol = Protocol::CommandMessages {
    encoding: Encoding::Base64,
    version: 4,
};

fn text_status(message: &str) -> Kept {
    Kept::Status(Status {
        message: message.to_owned(),
        ..Status::default()
    })
}

#[test]
fn base64_channels_are_decoded_as_the_server_does() {
    let pieces = [
        (FromServer, frame(FromServer, 0x81, b"1")),
        (FromClient, frame(FromClient, 0x81, b"0aGVs\r\nbG8=")),
        (FromClient, frame(FromClient, 0x82, b"0Zh==")),
        (FromServer, frame(FromServer, 0x81, b"1d29ybGQ=")),
        (
            FromClient,
            frame(FromClient, 0x81, b"4eyJXaWR0aCI6ODAsIkhlaWdodCI6MjR9"),
        ),
    ];
    let (items, result) = decode(&BASE64, &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(content(&items, Channel::Stdin, 0), "hellof");
    assert_eq!(content(&items, Channel::Stdout, 0), "world");
    assert_eq!(items.last(), Some(&Kept::Resize(80, 24)));
}

#[test]
fn base64_that_breaks_off_is_handed_on_up_to_there() {
    for (text, expected) in [
        ("0aGVsbG8h====", "hello!"),
        ("0aGVs-", "hel"),
        ("0aA==aA==", "h"),
        ("0aA==x", "h"),
    ] {
        let bytes = message(FromClient, text.as_bytes());
        let single: Vec<_> = bytes.iter().map(|b| (FromClient, vec![*b])).collect();
        let (items, result) = decode(&BASE64, &[(FromClient, bytes)]);
        assert!(result.is_err());
        assert_eq!(content(&items, Channel::Stdin, 0), expected);
        assert_eq!(decode(&BASE64, &single), (items, result));
    }
}

#[test]
fn status_before_v4_is_text() {
    let pieces = [
        (FromServer, message(FromServer, b"\x03no such ")),
        (FromServer, message(FromServer, b"\x03container")),
        (FromServer, frame(FromServer, 0x88, b"\x03\xe8bye")),
    ];
    let (items, result) = decode(&command(1), &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(
        items[1..],
        [
            text_status("no such container"),
            Kept::End(FromServer, Some(1000), "bye".into())
        ]
    );
}

#[test]
fn status_that_is_no_json_is_handed_on_as_text() {
    let pieces = [(FromServer, message(FromServer, b"\x03boom"))];
    let (items, _) = decode(&command(4), &pieces);
    assert_eq!(
        items,
        [
            Kept::Data(Channel::Error, 0, 0, b"boom".to_vec()),
            text_status("boom")
        ]
    );
}

#[test]
fn failure_without_exit_code_has_none() {
    let status = br#"{"status":"Failure","reason":"InternalError","message":"m","code":500}"#;
    let pieces = [(
        FromServer,
        message(FromServer, &[b"\x03", status.as_slice()].concat()),
    )];
    let (items, _) = decode(&command(5), &pieces);
    assert_eq!(
        items[1],
        Kept::Status(Status {
            exit_code: None,
            reason: "InternalError".into(),
            message: "m".into()
        })
    );
}

#[test]
fn sizes_are_read_across_messages_and_as_go_does() {
    let pieces = [
        (FromClient, message(FromClient, b"\x04{\"Wid")),
        (
            FromClient,
            message(FromClient, b"\x04th\":1,\"height\":2}\n{}{"),
        ),
        (
            FromClient,
            message(FromClient, b"\x04\"HEIGHT\":7,\"x\":[1],\"Width\":null}"),
        ),
    ];
    let (items, result) = decode(&command(5), &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(
        items,
        [Kept::Resize(1, 2), Kept::Resize(0, 0), Kept::Resize(0, 7)]
    );
}

#[test]
fn text_of_the_python_client_is_input() {
    let pieces = [(FromClient, frame(FromClient, 0x81, b"\0ls\n"))];
    let (items, result) = decode(&command(4), &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(content(&items, Channel::Stdin, 0), "ls\n");
}

#[test]
fn close_signal_closes_once_and_only_from_v5_on() {
    let pieces = [
        (FromClient, message(FromClient, b"\xff\0")),
        (FromClient, message(FromClient, b"\xff\0")),
    ];
    let (items, result) = decode(&command(5), &pieces);
    assert_eq!(
        (items, result),
        (vec![Kept::Closed(Channel::Stdin, 0)], Ok(()))
    );
    assert!(decode(&command(4), &pieces).1.is_err());
}

#[test]
fn server_messages_may_be_fragmented_and_client_ones_padded_with_empty_frames() {
    let pieces = [
        (FromServer, frame(FromServer, 0x02, b"\x01he")),
        (FromServer, frame(FromServer, 0x89, b"ping")),
        (FromServer, frame(FromServer, 0x00, b"")),
        (FromServer, frame(FromServer, 0x80, b"llo")),
        (FromClient, frame(FromClient, 0x02, b"")),
        (FromClient, frame(FromClient, 0x00, b"\0x")),
        (FromClient, frame(FromClient, 0x80, b"")),
        (FromClient, message(FromClient, b"")),
    ];
    let (items, result) = decode(&command(5), &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(content(&items, Channel::Stdout, 0), "hello");
    assert_eq!(content(&items, Channel::Stdin, 0), "x");
}

#[test]
fn forwarded_ports_over_messages_begin_with_their_port() {
    let protocol = Protocol::PortMessages {
        encoding: Encoding::Binary,
        ports: vec![80, 8080],
    };
    let pieces = [
        (FromServer, message(FromServer, b"\x00\x50\x00")),
        (FromServer, message(FromServer, b"\x01\x50\x00")),
        (FromServer, message(FromServer, b"\x02\x90")),
        (FromServer, message(FromServer, b"\x02\x1f")),
        (FromServer, message(FromServer, b"\x03\x90\x1fno")),
        (FromClient, message(FromClient, b"\x02GET")),
        (FromServer, message(FromServer, b"\x02200")),
    ];
    let (items, result) = decode(&protocol, &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(
        items,
        [
            Kept::PortOpened(1, 80, String::new()),
            Kept::PortOpened(2, 8080, String::new()),
            Kept::Data(Channel::Error, 2, 0, b"no".to_vec()),
            Kept::Data(Channel::PortIn, 2, 0, b"GET".to_vec()),
            Kept::Data(Channel::PortOut, 2, 0, b"200".to_vec()),
        ]
    );
}

#[test]
fn data_that_crosses_a_reset_is_dropped() {
    let mut client = SpdyWriter::new();
    let pieces = [
        (FromClient, client.syn_stream(1, &[("streamtype", "stdin")])),
        (FromServer, SpdyWriter::new().syn_reply(1)),
        (FromClient, data(1, 0, b"seen")),
        (FromServer, rst_stream(1)),
        (FromClient, data(1, 0, b"lost")),
        (FromClient, data(1, 1, b"")),
        (FromServer, rst_stream(1)),
    ];
    let (items, result) = decode(&Protocol::CommandStreams { version: 4 }, &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(
        items,
        [
            Kept::Data(Channel::Stdin, 0, 0, b"seen".to_vec()),
            Kept::Closed(Channel::Stdin, 0)
        ]
    );
}

#[test]
fn streams_without_request_id_are_paired_by_their_ids_and_ids_are_used_again() {
    let mut client = SpdyWriter::new();
    let port = ("port", "80");
    let pieces = [
        (
            FromClient,
            client.syn_stream(1, &[port, ("streamtype", "error")]),
        ),
        (
            FromClient,
            client.syn_stream(3, &[port, ("streamtype", "data")]),
        ),
        (FromClient, [rst_stream(1), rst_stream(3)].concat()),
        (
            FromClient,
            client.syn_stream(5, &[port, ("streamtype", "data"), ("requestid", "1")]),
        ),
        (FromClient, data(5, 0, b"x")),
    ];
    let (items, result) = decode(&Protocol::PortStreams, &pieces);
    assert_eq!(result, Ok(()));
    assert_eq!(items[0], Kept::PortOpened(1, 80, "1".into()));
    assert_eq!(
        items[items.len() - 2..],
        [
            Kept::PortOpened(2, 80, "1".into()),
            Kept::Data(Channel::PortIn, 2, 0, b"x".to_vec())
        ]
    );
}

/// The protocol's own decoder reads the last words as a status, and only where they can be said.
#[test]
fn the_last_words_of_the_gateway_are_a_status_in_every_protocol_that_has_one() {
    let status = br#"{"status":"Failure","message":"over","reason":"Unauthorized","code":401}"#;
    let open = |writer: &mut SpdyWriter| writer.syn_stream(1, &[("streamtype", "error")]);
    let syn = open(&mut SpdyWriter::new());
    let protocols = [
        (command(5), Vec::new()),
        (command(4), Vec::new()),
        (BASE64, Vec::new()),
        (Protocol::CommandStreams { version: 4 }, syn.clone()),
    ];
    for (protocol, opening) in protocols {
        let mut decoder = Decoder::new(&protocol);
        decoder.push(FromClient, &opening, |_| ()).unwrap();
        let words = decoder.parting(status).expect("it can be said");
        let mut said = None;
        decoder
            .push(FromServer, &words, |item| {
                if let Item::Status(status) = item {
                    said = Some(status);
                }
            })
            .unwrap();
        if !opening.is_empty() {
            decoder.finish(FromServer, |_| ()).unwrap();
        }
        let said = said.unwrap_or_else(|| panic!("{protocol:?} says nothing"));
        assert_eq!((&*said.message, &*said.reason), ("over", "Unauthorized"));
    }
    let mute = [
        (command(1), FromServer, Vec::new()),
        (command(5), FromServer, vec![0x82]),
        (Protocol::CommandStreams { version: 2 }, FromClient, syn),
        (
            Protocol::CommandStreams { version: 4 },
            FromClient,
            Vec::new(),
        ),
        (Protocol::PortStreams, FromClient, Vec::new()),
    ];
    for (protocol, from, begun) in mute {
        let mut decoder = Decoder::new(&protocol);
        decoder.push(from, &begun, |_| ()).unwrap();
        assert_eq!(decoder.parting(status), None, "{protocol:?}");
    }
}
