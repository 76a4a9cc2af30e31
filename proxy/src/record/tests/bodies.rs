//! Bodies of requests and answers, and streams.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hoop_schema::body::{BodyEncoding, TextEncoding};
use hoop_schema::kinds::request::{BodyOf, Intent, Outcome};
use hoop_schema::kinds::stream::Channel;

use super::*;

fn body(bytes: &[u8]) -> MaskedBody {
    MaskedBody {
        recorded: Some(Bytes::copy_from_slice(bytes)),
        bytes: bytes.len() as u64,
        media_type: Some("application/json".into()),
    }
}

fn intent_of(events: &[Found]) -> &Intent {
    events
        .iter()
        .find_map(|e| {
            if let Kind::Intent(i) = &e.event.kind {
                Some(i)
            } else {
                None
            }
        })
        .unwrap()
}

fn outcome_of(events: &[Found]) -> &Outcome {
    events
        .iter()
        .find_map(|e| {
            if let Kind::Outcome(o) = &e.event.kind {
                Some(o)
            } else {
                None
            }
        })
        .unwrap()
}

/// The chunks of a body, joined.
fn joined(events: &[Found], of: BodyOf) -> Vec<u8> {
    let mut all = Vec::new();
    for found in events {
        let Kind::BodyChunk(chunk) = &found.event.kind else {
            continue;
        };
        if chunk.of == of {
            assert_eq!(chunk.offset, all.len() as u64);
            match chunk.encoding {
                TextEncoding::Text => all.extend(chunk.content.bytes()),
                TextEncoding::Base64 => all.extend(STANDARD.decode(&chunk.content).unwrap()),
                TextEncoding::Encrypted => panic!("{chunk:?}"),
            }
        }
    }
    all
}

/// The pieces of a stream, joined, and how many there are.
fn streamed(events: &[Found]) -> (Vec<u8>, u64) {
    let (mut all, mut count) = (Vec::new(), 0);
    for found in events {
        let Kind::StreamData(data) = &found.event.kind else {
            continue;
        };
        assert_eq!(data.offset, all.len() as u64);
        count += 1;
        match data.encoding {
            TextEncoding::Text => all.extend(data.content.bytes()),
            TextEncoding::Base64 => all.extend(STANDARD.decode(&data.content).unwrap()),
            TextEncoding::Encrypted => panic!("{data:?}"),
        }
    }
    (all, count)
}

/// One exchange with these bodies; returns the events of the log of decisions and of that of bodies.
async fn record(new: NewIntent, answer: &[u8]) -> (Vec<Found>, Vec<Found>) {
    let (standard, short) = (memory_log("standard", 1), memory_log("short", 1));
    let journal = start(vec![standard.clone(), short.clone()]);
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    exchange.intent(new).await.unwrap();
    let mut recorder = exchange.answer(head(200));
    answer.chunks(10_000).for_each(|piece| recorder.push(piece));
    recorder.finish(End::complete(Masked::default()));
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let found = (events(&standard).await, events(&short).await);
    let both: Vec<Found> = found.0.iter().chain(&found.1).cloned().collect();
    prove(&both);
    found
}

#[tokio::test]
async fn a_long_request_body_is_durable_before_its_intent() {
    let long = "é".repeat(400_000);
    let new = NewIntent {
        body: Some(body(long.as_bytes())),
        ..allow("standard")
    };
    let (events, _) = record(new, b"{}").await;
    let form = intent_of(&events).body.clone().unwrap();
    assert_eq!((form.encoding, form.bytes), (BodyEncoding::Chunks, 800_000));
    assert_eq!(joined(&events, BodyOf::Request), long.as_bytes());
    let names: Vec<_> = events.iter().map(Found::name).collect();
    let at = |name: &str| names.iter().rposition(|n| *n == name).unwrap();
    assert!(at("body.chunk") < at("intent"));
    assert_eq!(
        form.chunks as usize,
        names.iter().filter(|n| **n == "body.chunk").count()
    );
}

#[tokio::test]
async fn a_long_answer_is_captured_up_to_the_limit_and_says_so() {
    let long = vec![b'a'; BODY_BYTES_MAX + 5_000];
    let (events, _) = record(allow("standard"), &long).await;
    let outcome = outcome_of(&events);
    let form = outcome.body.clone().unwrap();
    assert_eq!(
        (form.bytes, form.truncated_at),
        (long.len() as u64, Some(BODY_BYTES_MAX as u64))
    );
    assert_eq!(outcome.response_bytes, long.len() as u64);
    let recorded = joined(&events, BodyOf::Response);
    assert_eq!(recorded, &long[..BODY_BYTES_MAX]);
    assert_eq!(form.sha256, Some(EventHash::of(&recorded)));
}

#[tokio::test]
async fn bodies_of_another_class_leave_nothing_in_the_decisions() {
    let mut new = NewIntent {
        body: Some(body(b"{\"secret\":\"asked\"}")),
        ..allow("standard")
    };
    new.placement.body_class = Class::new("short").unwrap();
    let (decisions, bodies) = record(new, b"{\"secret\":\"answered\"}").await;
    for found in &decisions {
        assert!(
            !String::from_utf8_lossy(&found.bytes).contains("secret"),
            "{}",
            found.name()
        );
    }
    let form = intent_of(&decisions).body.clone().unwrap();
    assert_eq!((form.encoding, form.chunks), (BodyEncoding::Chunks, 1));
    assert_eq!(form.chunk_class, Some(Class::new("short").unwrap()));
    assert_eq!(joined(&bodies, BodyOf::Request), b"{\"secret\":\"asked\"}");
    assert_eq!(
        joined(&bodies, BodyOf::Response),
        b"{\"secret\":\"answered\"}"
    );
    let ends = |events: &[Found]| {
        events
            .iter()
            .filter_map(|e| match &e.event.kind {
                Kind::SessionEnd(end) => Some(end.strands.len()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!((ends(&decisions), ends(&bodies)), (vec![2], vec![2]));
    assert_eq!(
        (decisions[0].name(), bodies[0].name()),
        ("session.start", "session.start")
    );
}

#[tokio::test]
async fn the_level_leaves_bodies_out() {
    for (level, asked, answered) in [
        (Level::Metadata, false, false),
        (Level::Request, true, false),
        (Level::RequestResponse, true, true),
    ] {
        let new = NewIntent {
            level,
            body: Some(body(b"{}")),
            ..allow("standard")
        };
        let (events, _) = record(new, b"{\"a\":1}").await;
        assert_eq!(intent_of(&events).body.is_some(), asked);
        assert_eq!(outcome_of(&events).body.is_some(), answered);
        assert_eq!(outcome_of(&events).response_bytes, 7);
    }
}

#[tokio::test]
async fn an_uninspected_body_is_omitted() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    let hidden = MaskedBody {
        recorded: None,
        bytes: 12,
        media_type: None,
    };
    exchange
        .intent(NewIntent {
            body: Some(hidden),
            ..allow("standard")
        })
        .await
        .unwrap();
    let mut answer = exchange.answer(head(200));
    answer.push(b"opaque");
    answer.uninspected();
    answer.push(b"opaque");
    answer.finish(End::complete(Masked::default()));
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    let forms = [
        intent_of(&events).body.clone().unwrap(),
        outcome_of(&events).body.clone().unwrap(),
    ];
    assert!(
        forms
            .iter()
            .all(|f| f.encoding == BodyEncoding::Omitted && f.bytes == 12)
    );
    assert!(
        !events
            .iter()
            .any(|e| String::from_utf8_lossy(&e.bytes).contains("opaque"))
    );
}

#[tokio::test]
async fn long_attributes_and_a_long_body_still_fit() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let mut request = (*request_of("alice")).clone();
    request.user.as_mut().unwrap().groups = (0..2_500)
        .map(|n| format!("group-with-a-long-name-{n:020}"))
        .collect();
    let mut exchange = journal.open(&journal.connection(PEER), Arc::new(request.clone()), None);
    let text = "a".repeat(90_000);
    exchange
        .intent(NewIntent {
            body: Some(body(text.as_bytes())),
            ..allow("standard")
        })
        .await
        .unwrap();
    let mut answer = exchange.answer(head(200));
    answer.push(text.as_bytes());
    answer.finish(End::complete(Masked::default()));
    request
        .user
        .as_mut()
        .unwrap()
        .extra
        .insert("x".into(), vec!["y".repeat(100_000)]);
    let mut too_long = journal.open(&journal.connection(PEER), Arc::new(request), None);
    assert!(matches!(
        too_long.intent(allow("standard")).await,
        Err(RecordError::TooLong(_))
    ));
    drop(too_long);
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    prove(&events);
    assert_eq!(joined(&events, BodyOf::Request), text.as_bytes());
    assert_eq!(joined(&events, BodyOf::Response), text.as_bytes());
}

async fn open_stream(journal: &Journal, channel: Channel) -> StreamRecorder {
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    exchange.intent(allow("standard")).await.unwrap();
    exchange.stream(head(200), channel)
}

#[tokio::test(start_paused = true)]
async fn a_frame_can_be_read_within_a_second() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let mut stream = open_stream(&journal, Channel::Watch).await;
    stream.push(b"{\"type\":\"ADDED\"}\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(streamed(&events(&log).await).0, b"{\"type\":\"ADDED\"}\n");
    for _ in 0..100 {
        assert_eq!(stream.push(b"{\"type\":\"MODIFIED\"}\n"), Flow::Recorded);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, count) = streamed(&events(&log).await);
    assert_eq!(count, 2, "frames that come together share an event");
    stream.finish(End::complete(Masked::default()));
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    prove(&events);
    assert_eq!(outcome_of(&events).stream_events, 2);
}

#[tokio::test(start_paused = true)]
async fn a_character_that_comes_in_two_pieces_stays_text() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let mut stream = open_stream(&journal, Channel::Log).await;
    let text = "grün\n".as_bytes();
    stream.push(&text[..3]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.push(&text[3..]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.push(&[0xc3]);
    drop(stream);
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    let encodings: Vec<_> = events
        .iter()
        .filter_map(|e| match &e.event.kind {
            Kind::StreamData(data) => Some(data.encoding),
            _ => None,
        })
        .collect();
    assert_eq!(
        encodings,
        [TextEncoding::Text, TextEncoding::Text, TextEncoding::Base64]
    );
    let (all, count) = streamed(&events);
    assert_eq!(
        (all.as_slice(), count),
        (
            [text, &[0xc3]].concat().as_slice(),
            outcome_of(&events).stream_events
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_frame_longer_than_an_event_is_cut() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let mut stream = open_stream(&journal, Channel::Watch).await;
    let frame = vec![b'f'; 1_000_000];
    stream.push(b"small\n");
    stream.push(&frame);
    stream.finish(End::complete(Masked::default()));
    assert!(journal.shutdown(Duration::from_secs(10)).await);
    let events = events(&log).await;
    prove(&events);
    assert_eq!(
        streamed(&events).0,
        [b"small\n".as_slice(), &frame].concat()
    );
}
