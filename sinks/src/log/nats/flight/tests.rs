use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Lanes = Flight<u32, &'static str>;

const ACK: Duration = Duration::from_secs(5);
const APPEND: Duration = Duration::from_secs(15);

fn flight() -> Lanes {
    Flight::new(
        2,
        Limits {
            bytes_max: 100,
            publishes_max: 50,
            ack_timeout: ACK,
            append_timeout: APPEND,
            backoff: Duration::from_millis(100),
        },
    )
}

/// A flight with `count` events of shard 0 in the air.
fn in_the_air(count: u32, now: Instant) -> (Lanes, Vec<Ticket>) {
    let mut flight = flight();
    for event in 0..count {
        flight.push(0, event, 1, now);
    }
    let tickets = sent(&mut flight, now);
    assert_eq!(tickets.len(), count as usize);
    (flight, tickets)
}

fn sent(flight: &mut Lanes, now: Instant) -> Vec<Ticket> {
    std::iter::from_fn(|| flight.next_send(now)).collect()
}

fn resolved(flight: &mut Lanes) -> Vec<(u32, Fate<&'static str>)> {
    std::iter::from_fn(|| flight.next_resolved()).collect()
}

fn events(flight: &Lanes, tickets: &[Ticket]) -> Vec<u32> {
    tickets.iter().map(|t| *flight.event(*t).unwrap()).collect()
}

#[test]
fn events_follow_each_other_without_waiting() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(3, now);
    for (n, ticket) in tickets.into_iter().enumerate().rev() {
        flight.answered(ticket, Answer::Written(10 + n as u64), now);
    }
    let fates = resolved(&mut flight);
    assert_eq!(
        fates,
        [
            (2, Fate::Written(12)),
            (1, Fate::Written(11)),
            (0, Fate::Written(10))
        ]
    );
    assert!(flight.is_empty() && flight.publishes() == 0);
}

#[test]
fn what_is_in_the_air_is_bounded_by_bytes_and_by_number() {
    let now = Instant::now();
    let mut flight = flight();
    for event in 0..3 {
        flight.push(0, event, 60, now);
    }
    let first = sent(&mut flight, now);
    assert_eq!(events(&flight, &first), [0]);
    flight.answered(first[0], Answer::Written(1), now);
    assert_eq!(sent(&mut flight, now).len(), 1);
    let mut many = self::flight();
    for event in 0..80 {
        many.push(event % 2, event, 1, now);
    }
    assert_eq!(sent(&mut many, now).len(), 50);
}

#[test]
fn an_event_larger_than_the_bound_goes_alone() {
    let now = Instant::now();
    let mut flight = flight();
    flight.push(0, 7, 1000, now);
    flight.push(1, 8, 1, now);
    assert_eq!(sent(&mut flight, now).len(), 1);
}

#[test]
fn after_a_lost_connection_the_first_is_sent_alone_and_then_the_rest() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(4, now);
    flight.answered(tickets[0], Answer::Written(1), now);
    flight.disconnected(now);
    assert!(sent(&mut flight, now).is_empty(), "not before the pause");
    let later = now + Duration::from_secs(1);
    let head = sent(&mut flight, later);
    assert_eq!(events(&flight, &head), [1]);
    assert_eq!(head[0].attempt, 2);
    flight.answered(head[0], Answer::Written(2), later);
    let rest = sent(&mut flight, later);
    assert_eq!(events(&flight, &rest), [2, 3]);
}

#[test]
fn an_overtaken_event_is_told_and_not_sent_again() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(4, now);
    flight.answered(tickets[0], Answer::Busy, now);
    flight.answered(tickets[2], Answer::Written(5), now);
    flight.tick(now + ACK);
    let fates = resolved(&mut flight);
    assert_eq!(
        fates,
        [(2, Fate::Written(5)), (0, Fate::Late), (1, Fate::Unknown)]
    );
    let again = sent(&mut flight, now + ACK * 2);
    assert_eq!(
        events(&flight, &again),
        [3],
        "nothing has overtaken the last"
    );
}

#[test]
fn while_a_shard_settles_nothing_of_it_is_sent_and_others_flow() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(2, now);
    flight.answered(tickets[0], Answer::Busy, now);
    flight.push(0, 8, 1, now);
    flight.push(1, 9, 1, now);
    let others = sent(&mut flight, now);
    assert_eq!(events(&flight, &others), [9]);
}

#[test]
fn a_refused_event_holds_nothing_up() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(3, now);
    flight.answered(tickets[1], Answer::Refused("full"), now);
    flight.answered(tickets[0], Answer::Written(1), now);
    flight.answered(tickets[2], Answer::Written(2), now);
    assert_eq!(
        resolved(&mut flight),
        [
            (1, Fate::Refused("full")),
            (0, Fate::Written(1)),
            (2, Fate::Written(2))
        ]
    );
}

#[test]
fn a_refusal_after_an_unclear_attempt_is_not_certain() {
    let now = Instant::now();
    let (mut flight, _) = in_the_air(1, now);
    flight.disconnected(now);
    let again = sent(&mut flight, now + ACK);
    flight.answered(again[0], Answer::Refused("full"), now + ACK);
    assert_eq!(resolved(&mut flight), [(0, Fate::Unknown)]);
}

#[test]
fn a_late_acknowledgement_is_the_truth_and_a_late_refusal_is_not() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(1, now);
    flight.tick(now + ACK);
    flight.answered(tickets[0], Answer::Refused("late"), now + ACK);
    assert!(resolved(&mut flight).is_empty());
    let again = sent(&mut flight, now + ACK * 2);
    flight.answered(tickets[0], Answer::Written(3), now + ACK * 2);
    assert_eq!(resolved(&mut flight), [(0, Fate::Written(3))]);
    flight.answered(again[0], Answer::Written(3), now + ACK * 2);
    assert!(resolved(&mut flight).is_empty() && flight.is_empty());
    assert_eq!(flight.publishes(), 0);
}

#[test]
fn a_slow_broker_is_not_taken_for_one_that_lost_something() {
    let now = Instant::now();
    let (mut flight, tickets) = in_the_air(4, now);
    let late = now + ACK;
    flight.answered(tickets[0], Answer::Written(1), late);
    assert!(!flight.tick(late + ACK / 2), "answers still come");
    flight.answered(tickets[2], Answer::Written(2), late + ACK / 2);
    assert!(
        flight.tick(late + ACK / 2),
        "that of the second was left out"
    );
    assert!(
        sent(&mut flight, late + ACK).is_empty(),
        "until the last is known"
    );
    flight.answered(tickets[3], Answer::Written(3), late + ACK);
    let fates: BTreeMap<_, _> = resolved(&mut flight).into_iter().collect();
    assert_eq!(fates[&1], Fate::Unknown);
    assert!(flight.is_empty());
}

#[test]
fn time_up_means_not_written_only_if_it_was_never_in_the_air() {
    let now = Instant::now();
    let (mut flight, _) = in_the_air(1, now);
    flight.disconnected(now);
    flight.push(0, 1, 1, now);
    flight.tick(now + APPEND);
    assert_eq!(resolved(&mut flight), [(0, Fate::Unknown), (1, Fate::Late)]);
    assert!(flight.is_empty());
}

/// What a broker makes of one attempt.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Lost on its way there.
    Dropped,
    /// Written, and the answer is lost.
    Unheard,
    Busy,
    Full,
    /// The connection breaks before it.
    Cut,
}

/// A broker that knows ids, on connections that keep order. After a loss on a connection no answer is lost on it: two
/// such faults at once are what the documentation excepts.
#[derive(Default)]
struct Broker {
    /// Sequence by event.
    log: BTreeMap<u32, u64>,
    had_loss: bool,
}

impl Broker {
    fn take(&mut self, event: u32, fault: Fault) -> Option<Answer<&'static str>> {
        let next = self.log.len() as u64 + 1;
        match fault {
            Fault::Dropped => {
                self.had_loss = true;
                None
            }
            Fault::Busy => {
                self.had_loss = true;
                Some(Answer::Busy)
            }
            Fault::Full if !self.log.contains_key(&event) => {
                self.had_loss = true;
                Some(Answer::Refused("full"))
            }
            _ => {
                let sequence = *self.log.entry(event).or_insert(next);
                let is_heard = self.had_loss || !matches!(fault, Fault::Unheard);
                is_heard.then_some(Answer::Written(sequence))
            }
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::None),
        1 => Just(Fault::Dropped),
        1 => Just(Fault::Unheard),
        1 => Just(Fault::Busy),
        1 => Just(Fault::Full),
        1 => Just(Fault::Cut),
    ]
}

proptest! {
    #[test]
    fn every_event_has_one_fate_which_is_true_and_keeps_the_order(
        faults in prop::collection::vec(fault(), 1..120),
        pushes in prop::collection::vec(0usize..6, 1..20),
    ) {
        let mut now = Instant::now();
        let (mut flight, mut broker) = (flight(), Broker::default());
        let (mut faults, mut pushes) = (faults.into_iter(), pushes.into_iter());
        let mut next_event = 0;
        let mut fates: BTreeMap<u32, Fate<&'static str>> = BTreeMap::new();
        for _ in 0..1000 {
            for _ in 0..pushes.next().unwrap_or(0) {
                flight.push(0, next_event, 10, now);
                next_event += 1;
            }
            let mut answers = Vec::new();
            while let Some(ticket) = flight.next_send(now) {
                let event = *flight.event(ticket).unwrap();
                let fault = faults.next().unwrap_or(Fault::None);
                if let Fault::Cut = fault {
                    // Answers that were under way are lost with it.
                    for (ticket, answer) in answers.drain(..).filter(|_| broker.had_loss) {
                        flight.answered(ticket, answer, now);
                    }
                    broker.had_loss = false;
                    flight.disconnected(now);
                } else if let Some(answer) = broker.take(event, fault) {
                    answers.push((ticket, answer));
                }
            }
            for (ticket, answer) in answers {
                flight.answered(ticket, answer, now);
            }
            now += Duration::from_millis(500);
            flight.tick(now);
            while let Some((event, fate)) = flight.next_resolved() {
                prop_assert!(fates.insert(event, fate).is_none(), "two fates of {}", event);
            }
            if flight.is_empty() && pushes.len() == 0 {
                break;
            }
        }
        prop_assert!(flight.is_empty() && flight.publishes() == 0);
        prop_assert_eq!(fates.keys().copied().collect::<BTreeSet<_>>(), (0..next_event).collect());
        let mut last = 0;
        for (event, fate) in &fates {
            match fate {
                Fate::Written(sequence) => {
                    prop_assert_eq!(broker.log.get(event), Some(sequence));
                    prop_assert!(*sequence > last, "event {} is out of order", event);
                    last = *sequence;
                }
                Fate::Refused(_) | Fate::Late => prop_assert!(!broker.log.contains_key(event)),
                Fate::Unknown => {}
            }
        }
    }
}
