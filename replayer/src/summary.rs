//! What a list says of a session.

use std::collections::BTreeSet;

use hoop_schema::row::Row;
use hoop_schema::{SessionId, Timestamp};
use serde::Serialize;

use crate::filter::full_resource;

/// Values kept of each set; a session that did more is summed up by the first of them.
const VALUES_MAX: usize = 64;

/// A session in one line, put together from the files and the tail that hold parts of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionSummary {
    /// The session.
    pub session_id: SessionId,
    /// Whose it is; absent when nobody could be identified.
    pub user: Option<String>,
    /// First event, by the clock of its producer.
    pub first_ts: Timestamp,
    /// Last event.
    pub last_ts: Timestamp,
    /// Address of the client.
    pub source_ip: Option<String>,
    /// `Kubectl-Command` headers seen.
    pub commands: BTreeSet<String>,
    /// Verbs used.
    pub verbs: BTreeSet<String>,
    /// Resources touched, as `resource` or `resource/subresource`.
    pub resources: BTreeSet<String>,
    /// Namespaces touched.
    pub namespaces: BTreeSet<String>,
    /// Number of requests.
    pub requests: u64,
    /// How many were denied.
    pub denied: u64,
    /// How many wait, or waited, for an approval.
    pub held: u64,
    /// Values masked in what was shown and sent.
    pub masked: u64,
    /// Gaps recorded in it.
    pub gaps: u64,
    /// Number of events.
    pub events: u64,
    /// Whether it ended.
    pub ended: bool,
    /// Whether it is a producer's own: heartbeats and notices.
    pub producer: bool,
}

impl SessionSummary {
    /// Whether nothing happened in it but somebody asking what the API server offers.
    pub fn is_discovery(&self) -> bool {
        let quiet = self.denied + self.held + self.masked + self.gaps == 0;
        quiet && self.user.is_some() && self.commands.is_empty() && self.resources.is_empty()
    }

    /// Nothing known yet but the time of one event.
    pub fn new(session_id: SessionId, ts: Timestamp) -> Self {
        Self {
            session_id,
            user: None,
            first_ts: ts,
            last_ts: ts,
            source_ip: None,
            commands: BTreeSet::new(),
            verbs: BTreeSet::new(),
            resources: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            requests: 0,
            denied: 0,
            held: 0,
            masked: 0,
            gaps: 0,
            events: 0,
            ended: false,
            producer: false,
        }
    }

    /// Adds one event of the session.
    pub fn absorb(&mut self, row: &Row<'_>) {
        self.events += 1;
        self.first_ts = self.first_ts.min(row.ts);
        self.last_ts = self.last_ts.max(row.ts);
        if self.user.is_none() {
            self.user = row.user().map(|u| u.username.to_string());
        }
        if self.source_ip.is_none() {
            self.source_ip = row.source_ip().map(str::to_owned);
        }
        if let Some(command) = row.command() {
            put(&mut self.commands, command);
        }
        self.masked += row.masked.as_ref().map_or(0, |m| m.count);
        match &*row.kind {
            "intent" => self.absorb_intent(row),
            "gap" => self.gaps += 1,
            "session.end" => self.ended = true,
            "heartbeat" | "policy.changed" | "access.ended" => self.producer = true,
            kind if kind.starts_with("recorder.") => self.producer = true,
            _ => {}
        }
    }

    fn absorb_intent(&mut self, row: &Row<'_>) {
        self.requests += 1;
        match row.decision.as_ref().map(|d| &*d.effect) {
            Some("deny") => self.denied += 1,
            Some("hold") => self.held += 1,
            _ => {}
        }
        let Some(request) = &row.request else { return };
        put(&mut self.verbs, &request.verb);
        if let Some(object) = &request.object_ref {
            let resource = full_resource(&object.resource, &object.subresource);
            put(&mut self.resources, &resource);
            put(&mut self.namespaces, &object.namespace);
        }
    }

    /// Adds what another file says of the same session.
    pub fn merge(&mut self, other: Self) {
        self.user = self.user.take().or(other.user);
        self.source_ip = self.source_ip.take().or(other.source_ip);
        self.first_ts = self.first_ts.min(other.first_ts);
        self.last_ts = self.last_ts.max(other.last_ts);
        for (mine, theirs) in [
            (&mut self.commands, other.commands),
            (&mut self.verbs, other.verbs),
            (&mut self.resources, other.resources),
            (&mut self.namespaces, other.namespaces),
        ] {
            theirs.iter().for_each(|value| put(mine, value));
        }
        self.requests += other.requests;
        self.denied += other.denied;
        self.held += other.held;
        self.masked += other.masked;
        self.gaps += other.gaps;
        self.events += other.events;
        self.ended |= other.ended;
        self.producer |= other.producer;
    }

    /// Microseconds from the first to the last event.
    pub fn duration_us(&self) -> u64 {
        u64::try_from(self.last_ts.as_micros() - self.first_ts.as_micros()).unwrap_or(0)
    }

    /// Whether the lower-case `text` occurs in what is known of it.
    pub fn mentions(&self, text: &str) -> bool {
        let holds = |value: &String| value.to_lowercase().contains(text);
        self.user.iter().any(holds)
            || self.source_ip.iter().any(holds)
            || holds(&self.session_id.to_string())
            || [
                &self.commands,
                &self.verbs,
                &self.resources,
                &self.namespaces,
            ]
            .iter()
            .any(|set| set.iter().any(holds))
    }
}

/// Adds a value to a bounded set.
pub(crate) fn put(set: &mut BTreeSet<String>, value: &str) {
    if !value.is_empty() && set.len() < VALUES_MAX && !set.contains(value) {
        set.insert(value.to_owned());
    }
}
