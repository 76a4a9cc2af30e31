//! Sessions, heartbeats and the end of it all.

use hoop_schema::kinds::session::{SessionBasis, SessionEnd, SessionEndCause, SessionStart};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn starts(events: &[Found]) -> Vec<(SessionId, SessionStart)> {
    let start = |e: &Found| match &e.event.kind {
        Kind::SessionStart(start) if start.basis != SessionBasis::Producer => {
            Some((e.event.envelope.session_id, start.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(start).collect()
}

fn ends(events: &[Found]) -> Vec<(SessionId, SessionEnd)> {
    let producers: Vec<SessionId> = events
        .iter()
        .filter(
            |e| matches!(&e.event.kind, Kind::SessionStart(s) if s.basis == SessionBasis::Producer),
        )
        .map(|e| e.event.envelope.session_id)
        .collect();
    let end = |e: &Found| match &e.event.kind {
        Kind::SessionEnd(end) if !producers.contains(&e.event.envelope.session_id) => {
            Some((e.event.envelope.session_id, end.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

#[tokio::test(start_paused = true)]
async fn a_kubectl_session_ends_when_idle_and_its_successor_names_it() {
    let log = memory_log("standard", 2);
    let journal = start(vec![log.clone()]);
    let connection = journal.connection(PEER);
    exchange(&journal, &connection, "alice", Some("u-1"))
        .await
        .unwrap();
    exchange(&journal, &journal.connection(PEER), "alice", Some("u-1"))
        .await
        .unwrap();
    tokio::time::sleep(16 * MINUTE).await;
    let seen = events(&log).await;
    let ended = ends(&seen);
    assert_eq!((starts(&seen).len(), ended.len()), (1, 1));
    let (first, end) = &ended[0];
    assert_eq!(
        (end.cause, end.strands[0].count),
        (SessionEndCause::Idle, 5)
    );
    let last = seen
        .iter()
        .find(|e| e.event.envelope.session_id == *first && e.event.envelope.session_seq == 5)
        .unwrap();
    assert_eq!(end.strands[0].head, last.hash);
    exchange(&journal, &connection, "alice", Some("u-1"))
        .await
        .unwrap();
    exchange(&journal, &connection, "bob", Some("u-1"))
        .await
        .unwrap();
    assert!(journal.shutdown(MINUTE).await);
    let seen = events(&log).await;
    prove(&seen);
    let predecessors: Vec<_> = starts(&seen)
        .into_iter()
        .map(|(_, start)| start.predecessor)
        .collect();
    assert_eq!(predecessors.len(), 3, "another user is another session");
    assert_eq!(predecessors.iter().flatten().collect::<Vec<_>>(), [first]);
}

#[tokio::test(start_paused = true)]
async fn a_header_of_a_caller_who_is_not_identified_counts_for_nothing() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let connection = journal.connection(PEER);
    exchange(&journal, &connection, "", Some("u-1"))
        .await
        .unwrap();
    exchange(&journal, &connection, "alice", Some(&"x".repeat(129)))
        .await
        .unwrap();
    let seen = events(&log).await;
    let bases: Vec<_> = starts(&seen)
        .into_iter()
        .map(|(_, start)| start.basis)
        .collect();
    assert_eq!(bases, [SessionBasis::Connection; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_its_sessions_after_their_last_request() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let connection = journal.connection(PEER);
    exchange(&journal, &connection, "alice", None)
        .await
        .unwrap();
    exchange(&journal, &connection, "bob", None).await.unwrap();
    exchange(&journal, &connection, "alice", Some("u-1"))
        .await
        .unwrap();
    let mut open = journal.open(&connection, request_of("bob"), None);
    open.intent(allow("standard")).await.unwrap();
    let clone = connection.clone();
    drop(connection);
    assert_eq!(ends(&events(&log).await).len(), 0, "a clone is alive");
    drop(clone);
    assert_eq!(
        ends(&events(&log).await).len(),
        1,
        "alice's; bob has an open request, u-1 is no connection's"
    );
    open.answer(head(200))
        .finish(End::complete(Masked::default()));
    let seen = events(&log).await;
    let causes: Vec<_> = ends(&seen).into_iter().map(|(_, end)| end.cause).collect();
    assert_eq!(causes, [SessionEndCause::Disconnected; 2]);
    prove(&seen);
}

#[tokio::test(start_paused = true)]
async fn an_endless_connection_rolls_over_after_a_day() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    let connection = journal.connection(PEER);
    for _ in 0..25 * 6 {
        exchange(&journal, &connection, "controller", None)
            .await
            .unwrap();
        tokio::time::sleep(10 * MINUTE).await;
    }
    let seen = events(&log).await;
    prove(&seen);
    let (starts, ends) = (starts(&seen), ends(&seen));
    assert_eq!((starts.len(), ends.len()), (2, 1));
    assert_eq!(ends[0].1.cause, SessionEndCause::Rollover);
    assert_eq!(starts[1].1.predecessor, Some(starts[0].0));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_name_the_last_sequences() {
    let (standard, long) = (memory_log("standard", 2), memory_log("long", 2));
    let journal = start(vec![standard.clone(), long.clone()]);
    tokio::time::sleep(3 * MINUTE + Duration::from_secs(1)).await;
    let beats = |events: &[Found]| events.iter().filter(|e| e.name() == "heartbeat").count();
    let seen = read_all(&standard).await;
    assert!(seen.iter().all(|(_, events)| beats(events) == 3));
    assert_eq!(beats(&events(&long).await), 0, "nothing was written there");
    let mut exchange = journal.open(&journal.connection(PEER), request_of("alice"), None);
    exchange.intent(allow("long")).await.unwrap();
    tokio::time::sleep(3 * MINUTE).await;
    let in_long = events(&long).await;
    assert_eq!(beats(&in_long), 1, "once after the activity");
    let beat = in_long
        .iter()
        .find_map(|e| match &e.event.kind {
            Kind::Heartbeat(beat) => Some((e, beat)),
            _ => None,
        })
        .unwrap();
    let own = beat
        .1
        .last
        .iter()
        .find(|l| l.class.as_str() == "long")
        .unwrap();
    let intent = in_long.iter().find(|e| e.name() == "intent").unwrap();
    assert_eq!(own.seq, intent.event.envelope.producer_seq);
    assert_eq!(beat.1.last.len(), 3);
    assert_eq!(
        beat.0.event.envelope.session_id.shard(2),
        beat.0.event.envelope.shard
    );
    prove(&[events(&standard).await, in_long].concat());
}

#[tokio::test(start_paused = true)]
async fn the_producers_own_sessions_roll_over_too() {
    let log = memory_log("standard", 1);
    let journal = start(vec![log.clone()]);
    tokio::time::sleep(25 * 60 * MINUTE).await;
    assert!(journal.shutdown(MINUTE).await);
    let seen = events(&log).await;
    prove(&seen);
    let causes: Vec<_> = seen
        .iter()
        .filter_map(|e| match &e.event.kind {
            Kind::SessionEnd(end) => Some(end.cause),
            _ => None,
        })
        .collect();
    assert_eq!(
        causes,
        [SessionEndCause::Rollover, SessionEndCause::Shutdown]
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_every_session_and_says_that_all_is_acknowledged() {
    let log = memory_log("standard", 4);
    let journal = start(vec![log.clone()]);
    let connection = journal.connection(PEER);
    for n in 0..50 {
        exchange(&journal, &connection, "alice", Some(&n.to_string()))
            .await
            .unwrap();
    }
    journal.policy_changed(PolicyChanged {
        revision: "1".repeat(16),
        previous: None,
        accepted: true,
        error: None,
        profiles: 1,
        rules: 2,
    });
    journal.ready().await.unwrap();
    assert!(journal.shutdown(MINUTE).await);
    let seen = events(&log).await;
    prove(&seen);
    let ends = ends(&seen);
    assert_eq!(ends.len(), 50);
    assert!(
        ends.iter()
            .all(|(_, end)| end.cause == SessionEndCause::Shutdown)
    );
    assert_eq!(
        seen.iter().filter(|e| e.name() == "policy.changed").count(),
        1
    );
    assert!(journal.ready().await.is_err(), "the log is closed");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_sessions_stay_within_their_limit() {
    let log = FaultyLog::new("standard", 1, |_| Fault::None);
    let limits = Limits {
        sessions_max: 1_000,
        ..Limits::default()
    };
    let mut registry = Registry::default();
    let journal = start_with(vec![log.clone()], limits, &mut registry);
    let connection = journal.connection(PEER);
    let request = request_of("alice");
    let new = NewIntent {
        durability: Durability::BestEffort,
        level: Level::Metadata,
        ..allow("standard")
    };
    for n in 0..10_000 {
        let mut exchange = journal.open(&connection, Arc::clone(&request), Some(&n.to_string()));
        exchange.intent(new.clone()).await.unwrap();
        exchange
            .answer(head(200))
            .finish(End::complete(Masked::default()));
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("hoop_journal_sessions_open 1000\n"));
    let ended = log
        .landed()
        .iter()
        .filter(|(_, event)| event.kind == "session.end")
        .count();
    assert_eq!(ended, 9_000);
}
