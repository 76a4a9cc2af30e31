use super::*;
use crate::tunnel::tests::frames::frame;

use Direction::{FromClient, FromServer};

fn decode(from: Direction, bytes: &[u8]) -> Result<Vec<String>, FrameError> {
    let mut events = Vec::new();
    FrameDecoder::new(from).push(bytes, &mut |event| {
        events.push(format!("{event:?}"));
        Ok::<_, FrameError>(())
    })?;
    Ok(events)
}

#[test]
fn malformed_frames_are_refused_by_their_first_bytes() {
    let long = [0x82, 127, 0, 0, 0, 0, 0x02, 0, 0, 1];
    let top_bit = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1];
    for (from, bytes, expected) in [
        (FromServer, [0xc2, 0].as_slice(), FrameError::ReservedBits),
        (FromServer, &[0x92, 0], FrameError::ReservedBits),
        (FromServer, &[0xa2, 0], FrameError::ReservedBits),
        (FromServer, &[0x83, 0], FrameError::ReservedOpcode(3)),
        (FromServer, &[0x8b, 0], FrameError::ReservedOpcode(11)),
        (FromServer, &[0x82, 0x80], FrameError::Masked),
        (FromClient, &[0x82, 0x00], FrameError::NotMasked),
        (FromServer, &[0x89, 126], FrameError::ControlTooLong),
        (FromServer, &[0x88, 127], FrameError::ControlTooLong),
        (FromServer, &[0x09, 0], FrameError::ControlFragmented),
        (FromServer, &[0x80, 0], FrameError::Continuation),
        (FromServer, &[0x02, 0, 0x82, 0], FrameError::Interleaved),
        (FromServer, &[0x88, 1, 3], FrameError::Close),
        (FromServer, &[0x88, 3, 3, 0xe8, 0xff], FrameError::Close),
        (FromServer, &[0x88, 0, 0x82], FrameError::AfterClose),
        (FromServer, &long, FrameError::TooLong(FRAME_BYTES_MAX + 1)),
        (FromServer, &top_bit, FrameError::TooLong(1 << 63 | 1)),
    ] {
        assert_eq!(decode(from, bytes), Err(expected), "{bytes:?}");
    }
}

#[test]
fn long_payload_comes_whole_from_every_length_form() {
    for length in [0, 1, 125, 126, 0xffff, 0x1_0000, 3 * UNMASK_BYTES + 5] {
        let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        for from in Direction::BOTH {
            let bytes = frame(from, 0x82, &sent);
            let mut got = Vec::new();
            let mut ends = 0;
            let mut decoder = FrameDecoder::new(from);
            for piece in bytes.chunks(1000) {
                decoder
                    .push(piece, &mut |event| {
                        match event {
                            Event::Data(data) => got.extend_from_slice(data),
                            Event::MessageEnd => ends += 1,
                            _ => {}
                        }
                        Ok::<_, FrameError>(())
                    })
                    .unwrap();
            }
            assert_eq!((got == sent, ends), (true, 1), "{length} {from:?}");
            assert_eq!(decoder.finish(), Ok(()));
        }
    }
}

#[test]
fn server_payload_is_handed_on_without_a_copy() {
    let bytes = frame(FromServer, 0x82, b"payload");
    let range = bytes.as_ptr_range();
    FrameDecoder::new(FromServer)
        .push(&bytes, &mut |event| {
            if let Event::Data(data) = event {
                assert!(range.contains(&data.as_ptr()));
            }
            Ok::<_, FrameError>(())
        })
        .unwrap();
}

#[test]
fn control_frames_come_between_the_frames_of_a_message() {
    let bytes = [
        frame(FromClient, 0x01, b"a"),
        frame(FromClient, 0x89, b"p"),
        frame(FromClient, 0x80, b""),
        frame(FromClient, 0x8a, b""),
        frame(FromClient, 0x88, b"\x03\xe9away"),
    ]
    .concat();
    assert_eq!(
        decode(FromClient, &bytes).unwrap(),
        [
            "Frame { kind: Text, is_first: true, bytes: 1 }",
            "Data([97])",
            "Ping([112])",
            "Frame { kind: Text, is_first: false, bytes: 0 }",
            "MessageEnd",
            "Pong([])",
            "Close { code: Some(1001), reason: \"away\" }",
        ]
    );
}

#[test]
fn end_inside_a_message_is_truncated() {
    for bytes in [[0x82].as_slice(), &[0x82, 2, 0], &[0x02, 0]] {
        let mut decoder = FrameDecoder::new(FromServer);
        decoder
            .push(bytes, &mut |_| Ok::<_, FrameError>(()))
            .unwrap();
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}
