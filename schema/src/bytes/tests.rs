use proptest::prelude::*;

use super::*;
use crate::body::Body;
use crate::ids::{Class, EventId, ProducerId, SessionId, Shard};
use crate::json_schema::json_schema;
use crate::kinds::approval::*;
use crate::kinds::integrity::*;
use crate::kinds::recorder::*;
use crate::kinds::request::*;
use crate::kinds::session::*;
use crate::kinds::stream::*;
use crate::row::Row;
use crate::time::Timestamp;
use std::sync::Arc;

fn envelope(seq: u64, prev_hash: Option<EventHash>) -> Envelope {
    Envelope {
        v: 1,
        event_id: EventId::new(1_795_000_000_000, &[7; 10]),
        ts: Timestamp::from_micros(1_795_000_000_123_456),
        cluster: "sample".into(),
        producer_id: ProducerId::new("gateway-1").unwrap(),
        producer_epoch: 1_795_000_000_000_000,
        producer_seq: seq,
        class: Class::standard(),
        shard: Shard(0),
        session_id: SessionId::from_bytes([3; 16]),
        session_seq: seq,
        prev_hash,
    }
}

fn request() -> Arc<RequestAttributes> {
    Arc::new(RequestAttributes {
        audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
        received: Timestamp::from_micros(1_795_000_000_123_000),
        user: Some(User {
            username: "alice".into(),
            groups: vec!["dev".into(), "on-call".into()],
            ..User::default()
        }),
        impersonated: None,
        auth_method: AuthMethod::ClientCertificate,
        login: Some("42".into()),
        client_id: None,
        actors: Vec::new(),
        break_glass: false,
        source_ip: "127.0.0.1".into(),
        http_method: "GET".into(),
        request_uri: "/api/v1/namespaces/shop/secrets/db?x=\"é".into(),
        verb: "get".into(),
        object_ref: Some(ObjectRef {
            api_version: "v1".into(),
            resource: "secrets".into(),
            namespace: "shop".into(),
            name: "db".into(),
            ..ObjectRef::default()
        }),
        user_agent: Some("kubectl/v1.36.3".into()),
        command: Some("kubectl get".into()),
        argv: Vec::new(),
    })
}

fn decision() -> Decision {
    Decision {
        effect: Effect::Allow,
        cause: Cause::Rule,
        profile: Some("developers".into()),
        rule: Some("read".into()),
        message: String::new(),
        policy_revision: "0123456789abcdef".into(),
    }
}

/// One event of every kind, with as many fields filled as there are.
fn every_kind() -> Vec<Kind> {
    [
        session_kinds(),
        request_kinds(),
        stream_kinds(),
        approval_kinds(),
        integrity_kinds(),
        recorder_kinds(),
        later_kinds(),
    ]
    .concat()
}

fn session_kinds() -> Vec<Kind> {
    let hash = EventHash::of(b"x");
    vec![
        SessionStart {
            user: request().user.clone(),
            auth_method: AuthMethod::ClientCertificate,
            basis: SessionBasis::KubectlSession,
            predecessor: Some(SessionId::from_bytes([2; 16])),
            login: Some("42".into()),
            source_ip: "127.0.0.1".into(),
            user_agent: Some("kubectl/v1.36.3".into()),
            command: Some("kubectl get".into()),
        }
        .into(),
        SessionEnd {
            cause: SessionEndCause::Idle,
            strands: vec![StrandState {
                class: Class::standard(),
                count: 17,
                head: hash,
            }],
        }
        .into(),
    ]
}

fn request_kinds() -> Vec<Kind> {
    let (request_body, _) = Body::record(
        br#"{"kind":"Secret","data":{"a":"b"}}"#,
        34,
        Some("application/json".into()),
    );
    let (response_body, _) = Body::record(b"plain", 9, Some("text/plain".into()));
    vec![
        Intent {
            request: request(),
            decision: decision(),
            level: Level::RequestResponse,
            durability: Durability::Log,
            body: Some(request_body),
            masked: Masked {
                count: 1,
                paths: vec!["data.a".into()],
            },
            claims: [("impersonate-user".to_owned(), "bob".to_owned())].into(),
        }
        .into(),
        Outcome {
            request: request(),
            decision: decision(),
            status: 200,
            reason: None,
            answered_by: AnsweredBy::Upstream,
            ended: Ended::Complete,
            request_bytes: 0,
            response_bytes: 9,
            first_byte_us: 900,
            duration_us: 1000,
            body: Some(response_body),
            masked: Masked::default(),
            stream_events: 1,
            exit_code: None,
        }
        .into(),
    ]
}

fn stream_kinds() -> Vec<Kind> {
    vec![
        BodyChunk {
            audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
            of: BodyOf::Response,
            index: 0,
            offset: 0,
            encoding: crate::body::TextEncoding::Text,
            content: "line\nline".into(),
            encryption: None,
        }
        .into(),
        StreamData {
            audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
            channel: Channel::Watch,
            connection: None,
            offset: 0,
            at_us: 5,
            encoding: crate::body::TextEncoding::Text,
            content: "{\"type\":\"ADDED\"}\n".into(),
            encryption: None,
        }
        .into(),
        StreamResize {
            audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
            at_us: 6,
            width: 80,
            height: 24,
        }
        .into(),
    ]
}

fn approval_kinds() -> Vec<Kind> {
    let hash = EventHash::of(b"x");
    vec![
        ApprovalRequested {
            approval_id: "a-1".into(),
            audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
            digest: hash,
            quorum: 2,
            expires: Timestamp::from_micros(1_795_000_900_000_000),
        }
        .into(),
        ApprovalDecided {
            approval_id: "a-1".into(),
            by: User {
                username: "carol".into(),
                ..User::default()
            },
            approved: true,
            reason: "incident 7".into(),
        }
        .into(),
        ApprovalConsumed {
            approval_id: "a-1".into(),
            audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
        }
        .into(),
        ApprovalExpired {
            approval_id: "a-2".into(),
        }
        .into(),
    ]
}

fn integrity_kinds() -> Vec<Kind> {
    let hash = EventHash::of(b"x");
    let gap = Gap {
        state: GapState::Open,
        of_producer: ProducerId::new("gateway-1").unwrap(),
        of_epoch: 1,
        of_class: Class::standard(),
        of_shard: Shard(0),
        first_seq: 8,
        last_seq: 8,
        cause: GapCause::Refused,
        lost: vec![LostEvent {
            producer_seq: 8,
            session_id: SessionId::from_bytes([3; 16]),
            session_seq: 2,
            hash,
        }],
    };
    vec![
        gap.into(),
        Heartbeat {
            last: vec![LastSequence {
                class: Class::standard(),
                shard: Shard(0),
                seq: 11,
            }],
            interval_s: 60,
        }
        .into(),
        PolicyChanged {
            revision: "0123456789abcdef".into(),
            previous: Some("fedcba9876543210".into()),
            accepted: false,
            error: Some("line 3: unknown verb".into()),
            profiles: 2,
            rules: 9,
        }
        .into(),
    ]
}

fn recorder_kinds() -> Vec<Kind> {
    let hash = EventHash::of(b"x");
    vec![
        RecorderStarted {
            source: crate::ids::SourceId::from_bytes([1; 4]),
            of_class: Class::standard(),
            of_shard: Shard(0),
            position: 1,
        }
        .into(),
        RecorderUnparsed { error: "record is not an event".into(), bytes: 3, raw_base64: "AAEC".into() }.into(),
        RecorderExpired {
            key: "events/v1/class=short/dt=2026-11-22/shard=000/01010101-00000000000000000001.parquet".into(),
            sha256: hash.to_string(),
            of_class: Class::new("short").unwrap(),
            of_shard: Shard(0),
            pos_from: 1,
            pos_to: 9,
            rows: 8,
            term_s: 2_592_000,
            due: Timestamp::from_micros(1_797_600_000_000_000),
        }
        .into(),
        RecorderHold {
            hold_id: "case-7".into(),
            held: true,
            held_session: Some(SessionId::from_bytes([3; 16])),
            held_user: Some("alice".into()),
            case: None,
            by: "carol".into(),
            reason: "litigation".into(),
        }
        .into(),
    ]
}

/// Kinds that came after the first ones: at the end, so that the lines before stay as they are.
fn later_kinds() -> Vec<Kind> {
    vec![
        StreamConnection {
            audit_id: "5d1c9c2e-0000-4000-8000-000000000001".into(),
            connection: 1,
            port: 8080,
            at_us: 7,
            state: ConnectionState::Closed,
            bytes_in: 78,
            bytes_out: 1256,
        }
        .into(),
        AccessEnded {
            ended_session: None,
            ended_login: Some("9d6a2c1e-0000-4000-8000-000000000002".into()),
            ended_user: Some("alice".into()),
            ended_at: Timestamp::from_micros(1_797_600_000_000_000),
            until: Timestamp::from_micros(1_797_603_600_000_000),
            by: "carol".into(),
            reason: "laptop lost".into(),
        }
        .into(),
        RecorderTerms {
            of_class: Class::new("short").unwrap(),
            term_s: Some(2_592_000),
            mode: RetentionMode::Governance,
        }
        .into(),
        RecorderErased {
            erased_session: SessionId::from_bytes([3; 16]),
            erased_user: Some("alice".into()),
            by: "carol".into(),
            reason: "asked for by alice".into(),
        }
        .into(),
    ]
}

fn sample() -> Vec<EncodedEvent> {
    let mut strand = crate::chain::Strand::default();
    let encode_next = |kind: Kind| {
        let (seq, prev_hash) = strand.next();
        let encoded = encode(&envelope(seq, prev_hash), &kind).unwrap();
        strand.push(encoded.hash);
        encoded
    };
    every_kind().into_iter().map(encode_next).collect()
}

/// A file beside the code that has to equal `actual`. `UPDATE_SNAPSHOTS=1` writes it anew.
fn assert_checked_in(file: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        expected == actual,
        "{file} differs from what the types say; UPDATE_SNAPSHOTS=1 writes it anew"
    );
}

#[test]
fn published_json_schema_is_what_the_types_say() {
    assert_checked_in("events.schema.json", &json_schema());
}

#[test]
fn version_1_is_written_as_it_was_first_written() {
    let lines: String = sample()
        .iter()
        .map(|e| format!("{}\n", std::str::from_utf8(&e.bytes).unwrap()))
        .collect();
    assert_checked_in("samples/v1.jsonl", &lines);
}

#[test]
fn version_1_decodes_for_ever() {
    let text = include_str!("../../samples/v1.jsonl");
    assert_eq!(text.lines().count(), Kind::NAMES.len(), "one line a kind");
    let mut strand = crate::chain::Strand::default();
    let mut names = std::collections::BTreeSet::new();
    for line in text.lines() {
        let event = decode(line.as_bytes()).unwrap();
        strand
            .follow(
                event.envelope.session_seq,
                event.envelope.prev_hash,
                EventHash::of(line.as_bytes()),
            )
            .unwrap();
        let again = encode(&event.envelope, &event.kind).unwrap();
        assert_eq!(std::str::from_utf8(&again.bytes).unwrap(), line);
        names.insert(event.kind.name().to_owned());
    }
    assert_eq!(names.len(), Kind::NAMES.len());
}

#[test]
fn rows_say_what_events_say() {
    for encoded in sample() {
        let event = decode(&encoded.bytes).unwrap();
        let row = Row::read(&encoded.bytes).unwrap();
        assert_eq!(
            (row.event_id, row.ts),
            (event.envelope.event_id, event.envelope.ts)
        );
        assert_eq!(
            (&*row.kind, row.session_id),
            (event.kind.name(), event.envelope.session_id)
        );
        assert_eq!(row.prev_hash, event.envelope.prev_hash);
        if let Kind::Outcome(outcome) = &event.kind {
            assert_eq!(row.status, Some(outcome.status));
            assert_eq!(row.user().unwrap().username.0, "alice");
            assert_eq!(row.user().unwrap().groups.0.len(), 2);
            assert_eq!(row.audit_id(), Some(outcome.request.audit_id.as_str()));
            assert_eq!(
                &*row.request.as_ref().unwrap().request_uri,
                outcome.request.request_uri
            );
            assert_eq!(&*row.decision.as_ref().unwrap().effect, "allow");
        }
    }
}

#[test]
fn unknown_kinds_and_fields_pass() {
    let text = String::from_utf8(sample()[0].bytes.clone()).unwrap();
    let newer = text.replace(
        "\"kind\":\"session.start\"",
        "\"kind\":\"session.paused\",\"why\":[1,{}]",
    );
    let event = decode(newer.as_bytes()).unwrap();
    let Kind::Unknown(name, whole) = &event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(
        (name.as_str(), whole.get()),
        ("session.paused", newer.as_str())
    );
    assert!(Row::read(newer.as_bytes()).is_ok());
    assert!(matches!(
        encode(&event.envelope, &event.kind),
        Err(EncodeError::Unrepresentable(None))
    ));
}

#[test]
fn what_is_no_event_is_refused() {
    let bytes = sample()[0].bytes.clone();
    for cut in 0..bytes.len() {
        assert!(
            decode(&bytes[..cut]).is_err() && Row::read(&bytes[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    assert!(matches!(decode(&[0xff]), Err(DecodeError::NotUtf8(_))));
    assert!(matches!(
        decode(&vec![b' '; EVENT_BYTES_MAX + 1]),
        Err(DecodeError::TooLong(_))
    ));
}

#[test]
fn an_event_that_is_too_long_is_refused() {
    let chunk = BodyChunk {
        audit_id: String::new(),
        of: BodyOf::Request,
        index: 0,
        offset: 0,
        encoding: crate::body::TextEncoding::Text,
        content: "x".repeat(EVENT_BYTES_MAX),
        encryption: None,
    };
    assert!(matches!(
        encode(&envelope(1, None), &chunk.into()),
        Err(EncodeError::TooLong(_))
    ));
}

proptest! {
    #[test]
    fn any_text_round_trips(username in "\\PC*", uri in ".*", agent in proptest::option::of(".*"), seq in 1u64..u64::MAX) {
        let mut attributes = RequestAttributes::clone(&request());
        attributes.user = Some(User { username: username.clone(), ..User::default() });
        attributes.request_uri = uri.clone();
        attributes.user_agent = agent.clone();
        let kind = Kind::Outcome(Outcome {
            request: Arc::new(attributes),
            decision: decision(),
            status: 0,
            reason: Some(uri.clone()),
            answered_by: AnsweredBy::Gateway,
            ended: Ended::ClientClosed,
            request_bytes: seq,
            response_bytes: 0,
            first_byte_us: 0,
            duration_us: 0,
            body: None,
            masked: Masked::default(),
            stream_events: 0,
            exit_code: None,
        });
        let encoded = encode(&envelope(seq, None), &kind).unwrap();
        prop_assert!(!encoded.bytes.contains(&b'\n'));
        let event = decode(&encoded.bytes).unwrap();
        prop_assert_eq!(&encode(&event.envelope, &event.kind).unwrap(), &encoded);
        let row = Row::read(&encoded.bytes).unwrap();
        prop_assert_eq!(row.user().unwrap().username.0.as_ref(), username);
        prop_assert_eq!(row.user_agent(), agent.as_deref());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text in ".*") {
        drop((decode(&bytes), Row::read(&bytes), decode(text.as_bytes()), Row::read(text.as_bytes())));
    }
}
