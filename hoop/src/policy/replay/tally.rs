//! Counting what would be otherwise. Pure; memory is bounded whatever the record holds.

use std::collections::BTreeMap;

use hoop_schema::kinds::request::{Effect, Intent};
use hoop_schema::{Envelope, EventId, SessionId, Timestamp};

use super::again::Outcome;

/// The most groups that are told apart; a person reads a hundred, a program may want them all. What comes after them is
/// counted all the same.
const GROUPS_MAX: usize = 10_000;

/// How a decision differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Change {
    NewlyDenied,
    NewlyHeld,
    NewlyAllowed,
    /// The record does not have what the candidate wants to know.
    CannotSay,
}

/// Requests that are one line to a reader.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) change: Change,
    pub(super) user: String,
    /// Who acted for the user; empty when nobody did.
    pub(super) actor: String,
    pub(super) verb: String,
    pub(super) api_group: String,
    /// With its subresource; the path of what is about none.
    pub(super) resource: String,
    pub(super) namespace: String,
}

/// What is known of a group: how many, since when, and its first request as an example.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) first_ts: Timestamp,
    pub(super) last_ts: Timestamp,
    pub(super) session_id: SessionId,
    pub(super) event_id: EventId,
    pub(super) recorded: Said,
    /// What the candidate says; nothing when that cannot be told.
    pub(super) candidate: Option<Said>,
    /// The candidate's message, or why it cannot be told.
    pub(super) why: String,
}

/// A decision in short.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) effect: Effect,
    pub(super) profile: Option<String>,
    pub(super) rule: Option<String>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) same: u64,
    pub(super) not_asked: u64,
    pub(super) changed: BTreeMap<Change, u64>,
    pub(super) groups: BTreeMap<Group, Seen>,
    /// Requests in groups that found no room.
    pub(super) ungrouped: u64,
    /// Events that cannot be read.
    pub(super) unreadable: u64,
    /// Files of which not all could be read.
    pub(super) damaged_files: u64,
    /// Of all that was looked at: the first and the last.
    pub(super) span: Option<(Timestamp, Timestamp)>,
}

impl Change {
    /// All of them, in the order of a report.
    pub(super) const ALL: [Self; 4] = [
        Self::NewlyDenied,
        Self::NewlyHeld,
        Self::NewlyAllowed,
        Self::CannotSay,
    ];

    fn of(recorded: Effect, candidate: Effect) -> Option<Self> {
        match candidate {
            same if same == recorded => None,
            Effect::Deny => Some(Self::NewlyDenied),
            Effect::Hold => Some(Self::NewlyHeld),
            Effect::Allow => Some(Self::NewlyAllowed),
        }
    }

    /// For programs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NewlyDenied => "newly_denied",
            Self::NewlyHeld => "newly_held",
            Self::NewlyAllowed => "newly_allowed",
            Self::CannotSay => "cannot_say",
        }
    }
}

impl Tally {
    /// Counts one request.
    pub(super) fn count(&mut self, envelope: &Envelope, intent: &Intent, outcome: &Outcome) {
        let ts = envelope.ts;
        let span = self.span.get_or_insert((ts, ts));
        *span = (span.0.min(ts), span.1.max(ts));
        let (change, candidate, why) = match outcome {
            Outcome::NotAsked => {
                self.not_asked += 1;
                return;
            }
            Outcome::Decided(recorded, decision) => {
                let Some(change) = Change::of(*recorded, decision.effect) else {
                    self.same += 1;
                    return;
                };
                let said = Said {
                    effect: decision.effect,
                    profile: decision.profile.clone(),
                    rule: decision.rule.clone(),
                };
                (change, Some(said), decision.message.as_str())
            }
            Outcome::CannotSay(why) => (Change::CannotSay, None, why.as_str()),
        };
        *self.changed.entry(change).or_default() += 1;
        let group = group(change, intent);
        if let Some(seen) = self.groups.get_mut(&group) {
            seen.count += 1;
            seen.first_ts = seen.first_ts.min(ts);
            seen.last_ts = seen.last_ts.max(ts);
            return;
        }
        if self.groups.len() >= GROUPS_MAX {
            self.ungrouped += 1;
            return;
        }
        let recorded = Said {
            effect: match outcome {
                Outcome::Decided(recorded, _) => *recorded,
                _ => intent.decision.effect,
            },
            profile: intent.decision.profile.clone(),
            rule: intent.decision.rule.clone(),
        };
        let seen = Seen {
            count: 1,
            first_ts: ts,
            last_ts: ts,
            session_id: envelope.session_id,
            event_id: envelope.event_id,
            recorded,
            candidate,
            why: why.to_owned(),
        };
        self.groups.insert(group, seen);
    }

    /// Counts an event that cannot be read.
    pub(super) fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// Counts a file of which not all could be read.
    pub(super) fn damaged(&mut self) {
        self.damaged_files += 1;
    }

    /// Whether the candidate decides anything otherwise.
    pub(super) fn differs(&self) -> bool {
        let mut changes = self.changed.keys();
        changes.any(|change| *change != Change::CannotSay)
    }

    /// How many requests there are of a change.
    pub(super) fn changed(&self, change: Change) -> u64 {
        self.changed.get(&change).copied().unwrap_or(0)
    }

    /// Requests that a policy was asked about.
    pub(super) fn asked(&self) -> u64 {
        self.same + self.changed.values().sum::<u64>()
    }

    /// The groups of a change, the largest first.
    pub(super) fn groups_of(&self, change: Change) -> Vec<(&Group, &Seen)> {
        let mut groups: Vec<_> = self
            .groups
            .iter()
            .filter(|(group, _)| group.change == change)
            .collect();
        groups.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.count));
        groups
    }
}

fn group(change: Change, intent: &Intent) -> Group {
    let request = &intent.request;
    let user = request.user.as_ref().map(|user| user.username.clone());
    let (api_group, resource, namespace) = match &request.object_ref {
        Some(object) => {
            let resource =
                hoop_replayer::filter::full_resource(&object.resource, &object.subresource);
            (object.api_group.clone(), resource, object.namespace.clone())
        }
        None => {
            let path = request.request_uri.split('?').next().unwrap_or_default();
            (String::new(), path.to_owned(), String::new())
        }
    };
    Group {
        change,
        user: user.unwrap_or_default(),
        actor: request.actors.first().cloned().unwrap_or_default(),
        verb: request.verb.clone(),
        api_group,
        resource,
        namespace,
    }
}

#[cfg(test)]
mod tests {
    use hoop_schema::{Class, ProducerId, Shard};
    use serde_json::json;

    use super::*;

    fn envelope(second: i64) -> Envelope {
        Envelope {
            v: 1,
            event_id: EventId::new(u64::try_from(second).expect("not negative"), &[7; 10]),
            ts: Timestamp::from_micros(second * 1_000_000),
            cluster: "test".to_owned(),
            producer_id: ProducerId::new("gateway").expect("a name"),
            producer_epoch: 1,
            producer_seq: 1,
            class: Class::standard(),
            shard: Shard(0),
            session_id: SessionId::from_bytes([3; 16]),
            session_seq: 1,
            prev_hash: None,
        }
    }

    fn intent(namespace: &str) -> Intent {
        let event = json!({
            "request": {
                "audit_id": "a", "received": "2026-11-23T10:00:00.000000Z", "user": {"username": "alice"},
                "auth_method": "oidc", "source_ip": "192.0.2.7", "http_method": "GET", "request_uri": "/", "verb": "get",
                "object_ref": {"resource": "pods", "subresource": "log", "namespace": namespace},
            },
            "decision": {"effect": "allow", "cause": "rule", "profile": "p", "rule": "then"},
            "level": "Metadata", "durability": "log",
        });
        serde_json::from_str(&event.to_string()).expect("an intent")
    }

    fn decided(recorded: Effect, effect: Effect) -> Outcome {
        let decision = json!({"effect": effect, "cause": "rule", "profile": "p", "rule": "now"});
        let decision = serde_json::from_value(decision).expect("a decision");
        Outcome::Decided(recorded, Box::new(decision))
    }

    #[test]
    fn what_differs_is_grouped_and_what_does_not_is_counted() {
        use Effect::{Allow, Deny, Hold};
        let mut tally = Tally::default();
        tally.count(&envelope(5), &intent("shop"), &decided(Allow, Allow));
        tally.count(&envelope(4), &intent("shop"), &Outcome::NotAsked);
        let unknown = Outcome::CannotSay("the body".to_owned());
        tally.count(&envelope(6), &intent("shop"), &unknown);
        assert!(!tally.differs(), "what cannot be told is no difference");
        for second in [9, 7, 8] {
            tally.count(&envelope(second), &intent("shop"), &decided(Allow, Deny));
        }
        tally.count(&envelope(1), &intent("team-a"), &decided(Allow, Deny));
        tally.count(&envelope(2), &intent("shop"), &decided(Deny, Allow));
        tally.count(&envelope(3), &intent("shop"), &decided(Allow, Hold));
        assert!(tally.differs());
        assert_eq!((tally.same, tally.not_asked, tally.asked()), (1, 1, 8));
        assert_eq!(Change::ALL.map(|c| tally.changed(c)), [4, 1, 1, 1]);
        let denied = tally.groups_of(Change::NewlyDenied);
        let of = |(group, seen): &(&Group, &Seen)| (group.namespace.clone(), seen.count);
        assert_eq!(
            denied.iter().map(of).collect::<Vec<_>>(),
            [("shop".to_owned(), 3), ("team-a".to_owned(), 1)]
        );
        let (group, seen) = denied[0];
        assert_eq!(group.resource, "pods/log");
        let seconds = |ts: Timestamp| ts.as_micros() / 1_000_000;
        assert_eq!((seconds(seen.first_ts), seconds(seen.last_ts)), (7, 9));
        assert_eq!(
            seen.event_id,
            envelope(9).event_id,
            "the one that came first"
        );
        assert_eq!(seen.recorded.rule.as_deref(), Some("then"));
        assert_eq!(
            tally.span.map(|(a, b)| (seconds(a), seconds(b))),
            Some((1, 9))
        );
    }

    #[test]
    fn groups_without_room_are_counted_all_the_same() {
        let mut tally = Tally::default();
        let denied = decided(Effect::Allow, Effect::Deny);
        for n in 0..GROUPS_MAX + 3 {
            tally.count(&envelope(1), &intent(&format!("n{n}")), &denied);
        }
        tally.count(&envelope(1), &intent("n0"), &denied);
        assert_eq!(tally.groups.len(), GROUPS_MAX);
        assert_eq!(tally.ungrouped, 3);
        assert_eq!(tally.changed(Change::NewlyDenied), GROUPS_MAX as u64 + 4);
    }
}
