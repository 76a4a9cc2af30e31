use hoop_schema::body::TextEncoding;
use hoop_schema::bytes::encode;
use hoop_schema::evidence::SessionFileName;
use hoop_schema::kinds::request::{AuthMethod, User};
use hoop_schema::kinds::session::{SessionBasis, SessionStart};
use hoop_schema::kinds::stream::{Channel, StreamData};
use hoop_schema::row::Row;
use hoop_schema::{Class, Envelope, EventId, FORMAT_VERSION, Kind, ProducerId, Shard, SourceId};
use hoop_sinks::store::CreateOptions;
use hoop_sinks::store::memory::Memory;

use super::*;
use crate::batch::Rows;

/// A session file of one event, with its index.
async fn put(store: &Memory, class: &str, day: &str, n: u8, kind: Kind) -> FileName {
    let name = SessionFileName {
        class: Class::new(class).unwrap(),
        day: day.into(),
        shard: Shard(0),
        source: SourceId::from_bytes([1; 4]),
        pos_from: u64::from(n),
    };
    let ts: Timestamp = format!("{day}T10:00:00.000000Z").parse().unwrap();
    let envelope = Envelope {
        v: FORMAT_VERSION,
        event_id: EventId::new(u64::try_from(ts.as_millis()).unwrap(), &[7; 10]),
        ts,
        cluster: "sample".into(),
        producer_id: ProducerId::new("gateway-1").unwrap(),
        producer_epoch: 1,
        producer_seq: 1,
        class: name.class.clone(),
        shard: name.shard,
        session_id: SessionId::from_bytes([n; 16]),
        session_seq: 1,
        prev_hash: None,
    };
    let event = Bytes::from(encode(&envelope, &kind).unwrap().bytes);
    let mut rows = Rows::default();
    rows.push(&Row::read(&event).unwrap(), event.clone(), Some(1), ts);
    let (columns, bytes) = rows.parts();
    let index = crate::index::write(columns, bytes, &rows.order()).unwrap();
    let options = CreateOptions::default();
    for (key, bytes) in [
        (name.to_string(), Bytes::from_static(b"a session file")),
        (name.index_key(), index.into()),
    ] {
        store.create(&key, bytes, &options).await.unwrap();
    }
    name.into()
}

fn start(username: &str) -> Kind {
    let start = SessionStart {
        user: Some(User {
            username: username.into(),
            ..User::default()
        }),
        auth_method: AuthMethod::ClientCertificate,
        basis: SessionBasis::Connection,
        predecessor: None,
        login: None,
        source_ip: "10.0.0.7".into(),
        user_agent: None,
        command: None,
    };
    start.into()
}

fn data() -> Kind {
    let data = StreamData {
        audit_id: "a".into(),
        channel: Channel::Stdout,
        connection: None,
        offset: 0,
        at_us: 1,
        encoding: TextEncoding::Text,
        content: "seen".into(),
        encryption: None,
    };
    data.into()
}

fn of_user(user: &str) -> Vec<RecorderHold> {
    vec![RecorderHold {
        hold_id: "case-7".into(),
        held: true,
        held_session: None,
        held_user: Some(user.into()),
        case: None,
        by: "carol".into(),
        reason: "court".into(),
    }]
}

/// What somebody saw may be in a class of its own, whose files do not say who it was.
#[tokio::test]
async fn a_hold_of_a_user_covers_files_that_do_not_name_the_user() {
    let store = Memory::new();
    put(&store, "standard", "2026-11-21", 1, start("alice")).await;
    put(&store, "standard", "2026-11-21", 2, start("bob")).await;
    let seen = put(&store, "short", "2026-11-22", 1, data()).await;
    let seen_by_bob = put(&store, "short", "2026-11-22", 2, data()).await;
    let later = put(&store, "short", "2026-12-22", 1, data()).await;
    let mut held = Held::default();
    assert!(!held.covers(&store, &seen).await, "nothing is held yet");
    held.in_force(of_user("alice"));
    assert!(held.covers(&store, &seen).await);
    assert!(!held.covers(&store, &seen_by_bob).await);
    assert!(
        !held.covers(&store, &later).await,
        "no session is that long"
    );
    held.in_force(of_user("bob"));
    assert!(
        !held.covers(&store, &seen).await,
        "what was learned is forgotten"
    );
    assert!(held.covers(&store, &seen_by_bob).await);
}

#[tokio::test]
async fn what_cannot_be_told_is_held() {
    let store = Memory::new();
    let seen = put(&store, "short", "2026-11-22", 1, data()).await;
    let mut held = Held::default();
    held.in_force(of_user("alice"));
    assert!(!held.covers(&store, &seen).await);
    // Somebody's file of that day lost its index, and is damaged: it may say that the session is Alice's.
    let other = put(&store, "standard", "2026-11-22", 3, data()).await;
    store.delete(&other.index_key()).await.unwrap();
    let mut held = Held::default();
    held.in_force(of_user("alice"));
    assert!(held.covers(&store, &other).await);
    assert!(held.covers(&store, &seen).await);
}
