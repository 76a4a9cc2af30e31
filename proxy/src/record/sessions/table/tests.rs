use super::*;
use hoop_schema::kinds::request::AuthMethod;
use std::collections::HashSet;

const MINUTE: Duration = Duration::from_secs(60);

fn basis(n: u64) -> Basis {
    Basis::KubectlSession {
        cluster: "c".into(),
        auth_method: AuthMethod::StaticToken,
        username: "alice".into(),
        header: n.to_string(),
    }
}

fn ids(ended: &[Ended]) -> Vec<(SessionId, SessionEndCause)> {
    ended.iter().map(|e| (e.session.id, e.cause)).collect()
}

#[test]
fn requests_of_one_basis_join_one_session() {
    let mut table = Table::new(10);
    let (first, new, _) = table.open(&basis(1), MINUTE);
    let (second, again, _) = table.open(&basis(1), MINUTE);
    assert!(new && !again);
    assert_eq!(first.id, second.id);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_session_ends_after_fifteen_idle_minutes_and_comes_back_as_the_next_part() {
    let mut table = Table::new(10);
    let (session, ..) = table.open(&basis(1), MINUTE);
    assert!(
        table.sweep(100 * MINUTE).is_empty(),
        "a request is open, however old"
    );
    assert!(table.close(&session, 100 * MINUTE).is_none());
    assert!(table.sweep(114 * MINUTE).is_empty());
    let ended = table.sweep(115 * MINUTE);
    assert_eq!(ids(&ended), [(session.id, SessionEndCause::Idle)]);
    let (next, new, _) = table.open(&basis(1), 116 * MINUTE);
    assert!(new);
    assert_eq!(next.id, basis(1).session_id(1));
    assert_eq!(next.predecessor, Some(session.id));
}

#[test]
fn a_request_within_the_idle_time_keeps_the_session() {
    let mut table = Table::new(10);
    for at in [0, 14, 28, 42] {
        let (session, ..) = table.open(&basis(1), at * MINUTE);
        assert_eq!(session.part, 0);
        table.close(&session, at * MINUTE);
        assert!(table.sweep((at + 14) * MINUTE).is_empty());
    }
}

#[test]
fn a_session_of_a_day_rolls_over_and_waits_for_its_open_requests() {
    let mut table = Table::new(10);
    let (old, ..) = table.open(&basis(1), Duration::ZERO);
    let (next, new, ended) = table.open(&basis(1), OPEN_MAX);
    assert!(new && ended.is_empty());
    assert_eq!(next.predecessor, Some(old.id));
    assert_eq!(table.len(), 2);
    assert_eq!(table.close(&old, OPEN_MAX), Some(SessionEndCause::Rollover));
    assert_eq!(table.len(), 1);
    assert!(table.close(&next, OPEN_MAX).is_none());
}

#[test]
fn a_closed_connection_ends_its_sessions_when_no_request_is_open() {
    let mut table = Table::new(10);
    let (busy, ..) = table.open(&basis(1), MINUTE);
    let (idle, ..) = table.open(&basis(2), MINUTE);
    table.close(&idle, MINUTE);
    let ended = table.disconnect(&[busy.base, idle.base]);
    assert_eq!(ids(&ended), [(idle.id, SessionEndCause::Disconnected)]);
    assert_eq!(
        table.close(&busy, MINUTE),
        Some(SessionEndCause::Disconnected)
    );
    assert_eq!(table.len(), 0);
}

#[test]
fn stopping_ends_every_session() {
    let mut table = Table::new(10);
    let sessions: Vec<_> = (0..5).map(|n| table.open(&basis(n), MINUTE).0).collect();
    for session in &sessions[1..] {
        table.close(session, MINUTE);
    }
    assert_eq!(table.end_all().len(), 4);
    assert_eq!(
        table.close(&sessions[0], MINUTE),
        Some(SessionEndCause::Shutdown)
    );
    assert_eq!(table.len(), 0);
}

#[test]
fn beyond_the_limit_the_longest_idle_session_ends_early() {
    let mut table = Table::new(2);
    let (first, ..) = table.open(&basis(1), MINUTE);
    let (second, ..) = table.open(&basis(2), MINUTE);
    table.close(&second, 2 * MINUTE);
    table.close(&first, 3 * MINUTE);
    let (_, _, ended) = table.open(&basis(3), 4 * MINUTE);
    assert_eq!(ids(&ended), [(second.id, SessionEndCause::Idle)]);
    let (_, _, ended) = table.open(&basis(2), 4 * MINUTE);
    assert_eq!(ids(&ended), [(first.id, SessionEndCause::Idle)]);
}

#[test]
fn sessions_with_open_requests_are_never_evicted() {
    let mut table = Table::new(2);
    for n in 0..5 {
        let (_, _, ended) = table.open(&basis(n), MINUTE);
        assert!(ended.is_empty());
    }
    assert_eq!(table.len(), 5);
}

#[test]
fn no_id_is_given_twice_even_when_the_ended_sessions_are_forgotten() {
    let mut table = Table::new(100);
    let mut seen = HashSet::new();
    let many = ENDED_MAX as u64 + 5_000;
    for n in (0..many).chain(0..5_000) {
        let (session, new, _) = table.open(&basis(n), MINUTE);
        assert!(new);
        assert!(
            seen.insert(session.id),
            "session {n} has an id that was given before"
        );
        table.close(&session, MINUTE);
    }
}

#[test]
fn memory_stays_bounded_while_sessions_come_and_go() {
    let mut table = Table::new(1_000);
    for n in 0..150_000u64 {
        // Every session is left and joined again, which leaves stale entries behind.
        for _ in 0..2 {
            let (session, ..) = table.open(&basis(n), MINUTE);
            table.close(&session, MINUTE);
        }
        assert!(table.idle.len() <= 2 * 1_000 + STALE_MIN + 1);
    }
    assert_eq!(table.len(), 1_000);
    assert!(table.ended.order.len() <= ENDED_MAX && table.ended.parts.len() <= ENDED_MAX);
    assert_eq!(table.ended.floors.len(), BUCKETS);
}
