//! Encrypted content is read at its place, under its key, unchanged, or not at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::body::{Body, BodyEncoding, Part, TextEncoding, cut_plain};
use crate::bytes::{decode, encode};
use crate::event::{Envelope, Event, Kind};
use crate::ids::{Class, EventHash, EventId, ProducerId, Shard};
use crate::kinds::request::BodyChunk;
use crate::kinds::stream::StreamData;
use crate::time::Timestamp;

const SESSION: SessionId = SessionId::from_bytes([7; 16]);

fn key_of(session_id: SessionId, name: u8, bytes: u8) -> ContentKey {
    ContentKey::new(session_id, KeyId::from_bytes([name; 16]), &[bytes; 32])
}

fn key() -> ContentKey {
    key_of(SESSION, 1, 2)
}

fn places() -> Vec<Place> {
    let stream = |channel, connection, offset| Place::Stream {
        channel,
        connection,
        offset,
    };
    let chunk = |of, index, offset| Place::Chunk { of, index, offset };
    vec![
        Place::Body(BodyOf::Request),
        Place::Body(BodyOf::Response),
        chunk(BodyOf::Request, 0, 0),
        chunk(BodyOf::Response, 0, 0),
        chunk(BodyOf::Request, 1, 0),
        chunk(BodyOf::Request, 0, 1),
        stream(Channel::Stdin, None, 0),
        stream(Channel::Stdout, None, 0),
        stream(Channel::Stdout, None, 1),
        stream(Channel::PortIn, Some(0), 0),
        stream(Channel::PortIn, Some(1), 0),
        stream(Channel::PortIn, None, 0),
    ]
}

#[test]
fn a_ciphertext_is_read_at_its_own_place_alone() {
    let key = key();
    for place in places() {
        let text = key.encrypt(0, "a-1", place, b"content");
        for other in places() {
            let read = key.decrypt("a-1", other, &text);
            assert_eq!(read.is_ok(), place == other, "{place:?} as {other:?}");
        }
        assert_eq!(key.decrypt("a-2", place, &text), Err(NotReadable));
    }
}

#[test]
fn no_other_session_and_no_other_key_reads_it() {
    let place = Place::Body(BodyOf::Request);
    let text = key().encrypt(0, "a-1", place, b"content");
    let other_session = SessionId::from_bytes([8; 16]);
    for other in [
        key_of(other_session, 1, 2),
        key_of(SESSION, 9, 2),
        key_of(SESSION, 1, 3),
    ] {
        assert_eq!(other.decrypt("a-1", place, &text), Err(NotReadable));
    }
}

#[test]
fn the_format_is_the_documented_one() {
    // Made of the module's words alone, with the primitives of the library.
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let place = Place::Stream {
        channel: Channel::PortOut,
        connection: Some(3),
        offset: 70_000,
    };
    let text = key().encrypt(0x0102, "a-1", place, b"content");
    let mut bytes = STANDARD.decode(text).unwrap();
    assert_eq!(bytes.len(), b"content".len() + ENCRYPTED_BYTES_MORE);
    assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    let nonce = Nonce::try_assume_unique_for_key(&bytes[..12]).unwrap();
    let data = format!(
        r#"["hoop.content.v1","{}","{}","a-1","stream","port_out",3,70000]"#,
        "07".repeat(16),
        "01".repeat(16)
    );
    let aes = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[2; 32]).unwrap());
    let plain = aes.open_in_place(nonce, Aad::from(data), &mut bytes[12..]);
    assert_eq!(plain.unwrap(), b"content");
    assert_eq!(
        wrapping_context("file:1", SESSION, KeyId::from_bytes([1; 16])),
        format!(
            r#"["hoop.content-key.v1","file:1","{}","{}"]"#,
            "07".repeat(16),
            "01".repeat(16)
        )
    );
}

#[test]
fn a_key_prints_as_its_name() {
    let text = format!("{:?}", key_of(SESSION, 1, 0x5a));
    assert!(text.contains("0101") || text.contains("[1, 1"), "{text}");
    assert!(!text.contains("5a5a") && !text.contains("90, 90"), "{text}");
}

fn event(kind: impl Into<Kind>) -> Event {
    let envelope = Envelope {
        v: 1,
        event_id: EventId::new(0, &[0; 10]),
        ts: Timestamp::from_micros(1),
        cluster: "sample".into(),
        producer_id: ProducerId::new("gateway-1").unwrap(),
        producer_epoch: 1,
        producer_seq: 1,
        class: Class::standard(),
        shard: Shard(0),
        session_id: SESSION,
        session_seq: 1,
        prev_hash: None::<EventHash>,
    };
    let encoded = encode(&envelope, &kind.into()).unwrap();
    decode(&encoded.bytes).unwrap()
}

fn stream_data(plain: &[u8]) -> Event {
    let place = Place::Stream {
        channel: Channel::Stdout,
        connection: None,
        offset: 5,
    };
    event(StreamData {
        audit_id: "a-1".into(),
        channel: Channel::Stdout,
        connection: None,
        offset: 5,
        at_us: 1,
        encoding: TextEncoding::Encrypted,
        content: key().encrypt(4, "a-1", place, plain),
        encryption: Some(key().encryption()),
    })
}

#[test]
fn the_content_of_an_event_is_put_back_in_its_place() {
    for (plain, encoding, content) in [
        (&b"ls\r\n"[..], TextEncoding::Text, "ls\r\n"),
        (&[0xff, 0xfe], TextEncoding::Base64, "//4="),
    ] {
        let mut event = stream_data(plain);
        let found = encrypted_content(&mut event).unwrap();
        assert_eq!(found.key_id(), Some(key().key_id()));
        found.decrypt(&key()).unwrap();
        let Kind::StreamData(data) = &event.kind else {
            panic!("{event:?}");
        };
        assert_eq!((data.encoding, &*data.content), (encoding, content));
        assert!(encrypted_content(&mut event).is_none());
    }
}

#[test]
fn what_cannot_be_read_stays_as_it_is_and_says_why() {
    let mut event = stream_data(b"ls");
    let found = encrypted_content(&mut event).unwrap();
    assert_eq!(found.decrypt(&key_of(SESSION, 1, 3)), Err(NotReadable));
    encrypted_content(&mut event)
        .unwrap()
        .unreadable("erased on Monday");
    let Kind::StreamData(data) = event.kind else {
        panic!("{event:?}");
    };
    assert_eq!(data.encoding, TextEncoding::Encrypted);
    let why = data.encryption.unwrap().unreadable;
    assert_eq!(why.as_deref(), Some("erased on Monday"));
}

/// A body as a gateway writes it, and the chunks that go with it.
fn record(plain: &[u8], total: u64, apart: bool) -> (Body, Vec<BodyChunk>) {
    let (key, mut number) = (key(), 0);
    let (body, pieces) = Body::record_encrypted(
        plain,
        total,
        Some("application/json".into()),
        apart,
        key.encryption(),
        |part, piece| {
            number += 1;
            let of = BodyOf::Response;
            let place = match part {
                Part::Whole => Place::Body(of),
                Part::Piece { index, offset } => Place::Chunk { of, index, offset },
            };
            key.encrypt(number, "a-1", place, piece)
        },
    );
    let chunks = pieces.into_iter().zip(0..).map(|(piece, index)| BodyChunk {
        audit_id: "a-1".into(),
        of: BodyOf::Response,
        index,
        offset: piece.offset,
        encoding: piece.encoding,
        content: piece.content,
        encryption: Some(key.encryption()),
    });
    (body, chunks.collect())
}

fn read_chunks(chunks: Vec<BodyChunk>) -> Vec<u8> {
    let mut joined = Vec::new();
    for chunk in chunks {
        let mut event = event(chunk);
        let found = encrypted_content(&mut event).unwrap();
        found.decrypt(&key()).unwrap();
        let Kind::BodyChunk(chunk) = event.kind else {
            panic!("{event:?}");
        };
        assert_eq!(chunk.offset, joined.len() as u64);
        match chunk.encoding {
            TextEncoding::Text => joined.extend(chunk.content.bytes()),
            _ => joined.extend(STANDARD.decode(&chunk.content).unwrap()),
        }
    }
    joined
}

#[test]
fn an_encrypted_body_leaves_neither_content_nor_hash() {
    let (body, chunks) = record(b"{\"pin\":1234}", 12, false);
    let text = serde_json::to_string(&body).unwrap();
    assert_eq!(body.encoding, BodyEncoding::Encrypted);
    assert!(chunks.is_empty() && body.sha256.is_none(), "{text}");
    assert!(!text.contains("pin") && !text.contains("sha256"), "{text}");
    let (body, chunks) = record(b"{\"pin\":1234}", 12, true);
    assert_eq!((body.encoding, body.chunks), (BodyEncoding::Chunks, 1));
    assert!(body.sha256.is_none() && body.encryption.is_some());
    assert_eq!(read_chunks(chunks), b"{\"pin\":1234}");
}

#[test]
fn the_longest_body_that_stays_inside_fits_into_an_event() {
    for length in [70_000, 73_697, 73_698, 200_000] {
        let (body, chunks) = record(&vec![0; length], length as u64, false);
        let inline = body.content.as_ref().map_or(0, |c| c.get().len());
        assert!(inline <= crate::body::BODY_INLINE_BYTES_MAX);
        let fits = |c: &BodyChunk| c.content.len() <= crate::body::CHUNK_BYTES_MAX;
        assert!(chunks.iter().all(fits));
        assert_eq!(inline == 0, !chunks.is_empty());
    }
}

proptest! {
    #[test]
    fn any_content_is_read_again_and_nothing_else(content: Vec<u8>, number: u64, audit_id in ".*", flip: prop::sample::Index) {
        for place in places() {
            let text = key().encrypt(number, &audit_id, place, &content);
            prop_assert_eq!(&key().decrypt(&audit_id, place, &text).unwrap(), &content);
            let mut bytes = STANDARD.decode(&text).unwrap();
            let at = flip.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert!(key().decrypt(&audit_id, place, &STANDARD.encode(&bytes)).is_err());
            bytes.truncate(at);
            prop_assert!(key().decrypt(&audit_id, place, &STANDARD.encode(&bytes)).is_err());
        }
    }

    #[test]
    fn an_encrypted_body_reads_as_it_would_have_been_recorded(text in "(\\{\"a\":\"[a-z\"\\\\]*\"\\}|.*)", cut_off: bool) {
        let total = text.len() as u64 + u64::from(cut_off);
        prop_assume!(!text.is_empty());
        let (plain, _) = Body::record(text.as_bytes(), total, Some("application/json".into()));
        let (mut body, _) = record(text.as_bytes(), total, false);
        let encrypted = of_body_for_tests(&mut body);
        encrypted.decrypt(&key()).unwrap();
        prop_assert_eq!(serde_json::to_string(&body).unwrap(), serde_json::to_string(&plain).unwrap());
    }

    #[test]
    fn pieces_are_as_many_as_their_bytes_want(length in 0usize..400) {
        let bytes = vec![0xff; length];
        prop_assert_eq!(cut_plain(&bytes, 64).count(), length.div_ceil(64));
    }
}

fn of_body_for_tests(body: &mut Body) -> EncryptedContent<'_> {
    super::event::of_body("a-1".into(), BodyOf::Response, body)
}
