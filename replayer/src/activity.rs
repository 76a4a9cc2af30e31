//! Who is at work: the sessions that are open, or were active lately, with what they have open now.
//!
//! A request is open while its intent has no outcome. Gateways that were killed leave such requests behind for ever, so
//! only those of the newest epoch of their producer count; whether that one still runs, the record cannot say.

use std::collections::{BTreeSet, HashMap};

use hoop_schema::row::Row;
use hoop_schema::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::evidence::file::SessionFile;
use crate::evidence::{Entry, Error};
use crate::filter::full_resource;
use crate::output::Progress;
use crate::sessions::View;
use crate::summary::SessionSummary;

/// How far back sessions are looked for that nobody has seen the end of: they last for 24 hours at most, and idle ones
/// end within 15 minutes.
pub const OPEN_MICROS_MAX: i64 = 25 * 3600 * 1_000_000;

/// Open requests that are kept of one session; a person's command has one or two.
const OPEN_REQUESTS_MAX: usize = 1000;

/// A session, and what it has open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: SessionSummary,
    /// How its user proved who they are.
    pub auth_method: Option<String>,
    /// What ties the sessions of one login together.
    pub login: Option<String>,
    /// The client that the user's token was issued to.
    pub client_id: Option<String>,
    /// Who acts for the user.
    pub actors: Vec<String>,
    /// `User-Agent` of its first request. A claim.
    pub user_agent: Option<String>,
    /// Requests without an outcome: watches, logs, commands and whatever else is under way.
    pub open: Vec<OpenRequest>,
    /// Its gateway, and which start of it.
    #[serde(skip)]
    producer: (String, u64),
}

/// A request that has no outcome yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenRequest {
    /// Its name.
    pub audit_id: String,
    /// Since when.
    pub since: Timestamp,
    /// Kubernetes verb.
    pub verb: String,
    /// `resource` or `resource/subresource`; the path where it is about none.
    pub resource: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Name of the object; empty for collections.
    pub name: String,
}

/// Through whom a user acts, as an intent says it; no column has it.
#[derive(Deserialize)]
struct Through {
    request: ThroughRequest,
}

#[derive(Deserialize)]
struct ThroughRequest {
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    actors: Vec<String>,
}

impl View {
    /// The sessions that had an event since `since`, or had no end since `now` minus [`OPEN_MICROS_MAX`]. Files that
    /// cannot be read are named in the second part.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn activity(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<(Vec<Activity>, Vec<Error>), Error> {
        let open_since = now.plus_micros(-OPEN_MICROS_MAX);
        let (mut summaries, mut damaged) = self.summaries(false, &mut Progress::hidden()).await?;
        summaries.retain(|session| {
            let open = (!session.ended || session.producer) && session.last_ts >= open_since;
            open || session.last_ts >= since
        });
        let wanted: BTreeSet<String> = summaries
            .iter()
            .map(|session| session.session_id.to_string())
            .collect();
        let mut gathered = Gathered::new(summaries);
        for file in &self.catalog.files {
            let found = match self
                .evidence
                .sessions_of(file, |id| wanted.contains(id), None)
                .await
            {
                Ok(found) if found.sessions.is_empty() => continue,
                Ok(found) => found,
                // It has been named already.
                Err(Error::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            let read = async {
                let opened = SessionFile::open(&self.evidence, file).await?;
                for rows in &found.sessions {
                    let rows = rows.first_row..rows.first_row.saturating_add(rows.row_count);
                    let mut entries = opened.entries(rows).await?;
                    while let Some(batch) = entries.next().await? {
                        batch.iter().for_each(|entry| gathered.take(entry));
                    }
                }
                Ok(())
            };
            match read.await {
                Err(error @ Error::Damaged { .. }) => damaged.push(error),
                read => read?,
            }
        }
        let tail = self.tails.iter().flat_map(|tail| &tail.entries);
        tail.for_each(|entry| gathered.take(entry));
        Ok((gathered.finish(), damaged))
    }
}

/// Sessions while they are read.
struct Gathered {
    sessions: HashMap<SessionId, Activity>,
    /// The newest start of every gateway.
    epochs: HashMap<String, u64>,
}

impl Gathered {
    fn new(summaries: Vec<SessionSummary>) -> Self {
        let activity = |summary: SessionSummary| Activity {
            summary,
            auth_method: None,
            login: None,
            client_id: None,
            actors: Vec::new(),
            user_agent: None,
            open: Vec::new(),
            producer: (String::new(), 0),
        };
        let summaries = summaries.into_iter();
        Self {
            sessions: summaries
                .map(|summary| (summary.session_id, activity(summary)))
                .collect(),
            epochs: HashMap::new(),
        }
    }

    fn take(&mut self, entry: &Entry) {
        let Ok(row) = Row::read(&entry.bytes) else {
            return;
        };
        let epoch = self.epochs.entry(row.producer_id.to_string()).or_default();
        *epoch = (*epoch).max(row.producer_epoch);
        let Some(session) = self.sessions.get_mut(&row.session_id) else {
            return;
        };
        let producer = (row.producer_id.to_string(), row.producer_epoch);
        if session.producer.1 < producer.1 {
            session.producer = producer;
        }
        let known = |value: Option<&str>, into: &mut Option<String>| {
            if into.is_none() {
                *into = value.map(str::to_owned);
            }
        };
        known(row.auth_method(), &mut session.auth_method);
        known(row.login(), &mut session.login);
        known(row.user_agent(), &mut session.user_agent);
        match &*row.kind {
            "intent" => {
                if session.summary.user.is_some()
                    && session.client_id.is_none()
                    && session.actors.is_empty()
                    && let Ok(through) = serde_json::from_slice::<Through>(&entry.bytes)
                {
                    session.client_id = through.request.client_id;
                    session.actors = through.request.actors;
                }
                let open = OpenRequest::of(&row);
                let room = session.open.len() < OPEN_REQUESTS_MAX;
                session.open.extend(open.filter(|_| room));
            }
            "outcome" => {
                let audit_id = row.audit_id();
                let other = |open: &OpenRequest| Some(open.audit_id.as_str()) != audit_id;
                session.open.retain(other);
            }
            _ => {}
        }
    }

    fn finish(self) -> Vec<Activity> {
        let newest = |producer: &(String, u64)| {
            self.epochs
                .get(&producer.0)
                .is_none_or(|epoch| *epoch <= producer.1)
        };
        let mut sessions: Vec<_> = self.sessions.into_values().collect();
        sessions.retain(|session| !session.summary.producer);
        for session in &mut sessions {
            if session.summary.ended || !newest(&session.producer) {
                session.summary.ended = true;
                session.open.clear();
            }
        }
        sessions.sort_by_key(|session| {
            let summary = &session.summary;
            std::cmp::Reverse((
                !session.open.is_empty(),
                summary.last_ts,
                summary.session_id,
            ))
        });
        sessions
    }
}

impl OpenRequest {
    /// A request that went to the API server.
    fn of(row: &Row<'_>) -> Option<Self> {
        let allowed = row.decision.as_ref().is_some_and(|d| &*d.effect == "allow");
        let request = row.request.as_ref().filter(|_| allowed)?;
        let object = request.object_ref.as_ref();
        let path = request.request_uri.split('?').next().unwrap_or_default();
        Some(Self {
            audit_id: row.audit_id()?.to_owned(),
            since: row.ts,
            verb: request.verb.to_string(),
            resource: object.map_or_else(
                || path.to_owned(),
                |object| full_resource(&object.resource, &object.subresource),
            ),
            namespace: object.map(|o| o.namespace.to_string()).unwrap_or_default(),
            name: object.map(|o| o.name.to_string()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoop_schema::{Class, Shard};
    use serde_json::json;

    /// An event about request `audit_id` of session 3, written by a start of the gateway.
    fn entry(kind: &str, epoch: u64, audit_id: &str, effect: &str) -> Entry {
        let event = json!({
            "v": 1, "event_id": "019aa0a0-0000-7000-8000-000000000000", "ts": "2026-11-23T10:00:00.000000Z", "kind": kind,
            "cluster": "c", "producer_id": "gateway-1", "producer_epoch": epoch, "producer_seq": 1, "class": "standard",
            "shard": 0, "session_id": "03".repeat(16), "session_seq": 1,
            "request": {
                "audit_id": audit_id, "user": {"username": "alice"}, "auth_method": "oidc", "login": "l1",
                "client_id": "cli", "actors": ["agent-7"], "source_ip": "::1", "http_method": "GET",
                "request_uri": "/api/v1/namespaces/shop/pods?watch=1", "verb": "watch",
                "object_ref": {"resource": "pods", "namespace": "shop"},
            },
            "decision": {"effect": effect, "cause": "rule"},
        });
        Entry {
            bytes: event.to_string().into(),
            class: Class::standard(),
            shard: Shard(0),
            position: Some(1),
            log_ts: Timestamp::from_micros(0),
            readable: None,
        }
    }

    fn gathered(entries: &[Entry]) -> Activity {
        let row = Row::read(&entries[0].bytes).unwrap();
        let mut summary = SessionSummary::new(row.session_id, row.ts);
        summary.absorb(&row);
        let mut gathered = Gathered::new(vec![summary]);
        entries.iter().for_each(|entry| gathered.take(entry));
        gathered.finish().remove(0)
    }

    #[test]
    fn what_has_no_outcome_is_open() {
        let session = gathered(&[
            entry("intent", 1, "a", "allow"),
            entry("intent", 1, "b", "allow"),
            entry("intent", 1, "c", "deny"),
            entry("outcome", 1, "a", "allow"),
        ]);
        let open: Vec<_> = session
            .open
            .iter()
            .map(|open| open.audit_id.as_str())
            .collect();
        assert_eq!(open, ["b"]);
        let open = &session.open[0];
        assert_eq!(
            (open.verb.as_str(), open.resource.as_str()),
            ("watch", "pods")
        );
        assert_eq!(open.namespace, "shop");
        assert_eq!(session.login.as_deref(), Some("l1"));
        assert_eq!(session.client_id.as_deref(), Some("cli"));
        assert_eq!(session.actors, ["agent-7"]);
        assert!(!session.summary.ended);
    }

    #[test]
    fn nothing_is_open_that_a_gateway_left_behind_when_it_was_killed() {
        let mut later = entry("heartbeat", 2, "x", "allow");
        let text = String::from_utf8(later.bytes.to_vec()).unwrap();
        later.bytes = text.replace(&"03".repeat(16), &"04".repeat(16)).into();
        let session = gathered(&[entry("intent", 1, "a", "allow"), later]);
        assert!(
            session.open.is_empty() && session.summary.ended,
            "{session:?}"
        );
    }
}
