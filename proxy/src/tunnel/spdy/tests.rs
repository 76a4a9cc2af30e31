use super::*;
use crate::tunnel::tests::frames::{SpdyWriter, control, data, header_block, syn_stream_of};

fn decode(bytes: &[u8]) -> Result<Vec<String>, FrameError> {
    let mut frames = Vec::new();
    FrameDecoder::new().push(bytes, &mut |frame| {
        frames.push(match frame {
            Frame::SynStream { headers, .. } => headers
                .iter()
                .map(|(n, v)| format!("{}={} ", n.escape_ascii(), v.escape_ascii()))
                .collect(),
            frame => format!("{frame:?}"),
        });
        Ok::<_, FrameError>(())
    })?;
    Ok(frames)
}

#[test]
fn every_frame_is_decoded() {
    let mut writer = SpdyWriter::new();
    let bytes = [
        writer.syn_stream(1, &[("port", "80"), ("streamtype", "data")]),
        writer.syn_stream(3, &[]),
        control(4, 1, &[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9]),
        control(9, 0, &[0, 0, 0, 1, 0, 0, 1, 0]),
        control(6, 0, &[0, 0, 0, 7]),
        data(1, 1, b"xy"),
        data(3, 0, b""),
        control(3, 0, &[0, 0, 0, 1, 0, 0, 0, 5]),
        control(7, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
    ]
    .concat();
    assert_eq!(
        decode(&bytes).unwrap(),
        [
            "port=80 streamtype=data ",
            "",
            "Ignored",
            "Ignored",
            "Ping { id: 7 }",
            "DataHead { stream_id: 1, bytes: 2 }",
            "Data { stream_id: 1, bytes: [120, 121] }",
            "DataEnd { stream_id: 1, is_fin: true }",
            "DataHead { stream_id: 3, bytes: 0 }",
            "DataEnd { stream_id: 3, is_fin: false }",
            "RstStream { stream_id: 1, status: 5 }",
            "GoAway { last_stream_id: 3, status: 0 }",
        ]
    );
}

#[test]
fn malformed_frames_are_refused() {
    let id = [0, 0, 0, 1];
    for (bytes, expected) in [
        (vec![0x80, 2, 0, 1, 0, 0, 0, 20], FrameError::Version(2)),
        (control(5, 0, &[]), FrameError::Type(5)),
        (control(10, 0, &[0; 8]), FrameError::Type(10)),
        (control(1, 2, &[0; 20]), FrameError::Flags),
        (control(6, 1, &id), FrameError::Flags),
        (data(1, 2, b""), FrameError::Flags),
        (control(1, 0, &[0; 10]), FrameError::Length),
        (control(2, 0, &[0; 4]), FrameError::Length),
        (control(3, 0, &[0; 12]), FrameError::Length),
        (control(6, 0, &[0; 8]), FrameError::Length),
        (control(7, 0, &[0; 4]), FrameError::Length),
        (
            control(4, 0, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
            FrameError::Length,
        ),
        (control(4, 0, &[0; 5]), FrameError::Length),
        (
            control(1, 0, &vec![0; 20_000]),
            FrameError::ControlTooLong(20_000),
        ),
        (data(0, 0, b"x"), FrameError::ZeroId),
        (control(6, 0, &[0; 4]), FrameError::ZeroId),
        (control(3, 0, &[0; 8]), FrameError::ZeroId),
        (syn_stream_of(0, 0, b"x"), FrameError::ZeroId),
        (syn_stream_of(1, 0, b"garbage"), FrameError::Inflate),
        // Another dictionary.
        (
            syn_stream_of(1, 0, b"\x78\xf9\0\0\0\x01"),
            FrameError::Inflate,
        ),
    ] {
        assert_eq!(decode(&bytes), Err(expected), "{bytes:?}");
    }
}

#[test]
fn malformed_headers_are_refused() {
    let whole = header_block(&[("port", "80")]);
    let many: Vec<String> = (0..=HEADERS_MAX).map(|n| format!("h{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
    for block in [
        vec![],
        vec![0, 0, 0],
        vec![0xff; 4],
        whole[..whole.len() - 1].to_vec(),
        [whole.clone(), vec![0]].concat(),
        header_block(&[("port", "80"), ("port", "81")]),
        header_block(&[("Port", "80")]),
        header_block(&[("", "80")]),
        header_block(&[("po\0rt", "80")]),
        header_block(&many),
    ] {
        let mut writer = SpdyWriter::new();
        let bytes = syn_stream_of(1, 0, &writer.deflate(&block));
        assert_eq!(decode(&bytes), Err(FrameError::Headers), "{block:?}");
    }
}

#[test]
fn header_block_of_just_the_allowed_length_passes() {
    let value = "v".repeat(HEADER_BLOCK_BYTES_MAX - 13);
    for (extra, expected) in [("", None), ("v", Some(FrameError::HeaderBlockTooLong))] {
        let value = format!("{value}{extra}");
        let bytes = SpdyWriter::new().syn_stream(1, &[("x", &value)]);
        assert_eq!(decode(&bytes).err(), expected);
    }
}

#[test]
fn finished_zlib_stream_is_refused() {
    let mut writer = flate2::Compress::new(flate2::Compression::best(), true);
    writer
        .set_dictionary(include_bytes!("header-dictionary.bin"))
        .unwrap();
    let mut block = Vec::with_capacity(1024);
    writer
        .compress_vec(
            &header_block(&[]),
            &mut block,
            flate2::FlushCompress::Finish,
        )
        .unwrap();
    assert_eq!(
        decode(&syn_stream_of(1, 0, &block)),
        Err(FrameError::Inflate)
    );
}

#[test]
fn end_inside_a_frame_is_truncated() {
    for bytes in [
        vec![0],
        control(6, 0, &[0, 0, 0, 1])[..9].to_vec(),
        data(1, 0, b"xy")[..9].to_vec(),
    ] {
        let mut decoder = FrameDecoder::new();
        decoder
            .push(&bytes, &mut |_| Ok::<_, FrameError>(()))
            .unwrap();
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}
