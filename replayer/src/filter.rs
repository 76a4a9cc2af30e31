//! Which sessions and which events are asked for.

use std::collections::HashMap;

use hoop_schema::row::Row;
use hoop_schema::{SessionId, Timestamp};

use crate::summary::SessionSummary;

/// What a person asks for. Everything that is given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// User name, exactly.
    pub user: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Kubernetes verb, exactly.
    pub verb: Option<String>,
    /// Plural resource, with or without `/subresource`.
    pub resource: Option<String>,
    /// Namespace, exactly.
    pub namespace: Option<String>,
    /// `allow`, `deny` or `hold`.
    pub decision: Option<String>,
    /// Text anywhere, in any case.
    pub text: Option<String>,
}

impl Filter {
    /// Whether a session is asked for, as far as its summary can tell.
    pub fn accepts_session(&self, session: &SessionSummary) -> bool {
        let any = |wanted: &Option<String>, have: &std::collections::BTreeSet<String>| {
            wanted.as_ref().is_none_or(|wanted| have.contains(wanted))
        };
        self.user
            .as_ref()
            .is_none_or(|user| session.user.as_ref() == Some(user))
            && self.since.is_none_or(|since| session.last_ts >= since)
            && self.until.is_none_or(|until| session.first_ts <= until)
            && any(&self.verb, &session.verbs)
            && any(&self.namespace, &session.namespaces)
            && self.resource.as_ref().is_none_or(|wanted| {
                session
                    .resources
                    .iter()
                    .any(|r| resource_matches(wanted, r))
            })
            && self.decision.as_deref().is_none_or(|wanted| match wanted {
                "deny" => session.denied > 0,
                "hold" => session.held > 0,
                _ => session.requests > session.denied + session.held,
            })
            && self
                .text
                .as_ref()
                .is_none_or(|text| session.mentions(&text.to_lowercase()))
    }

    /// Whether this only concerns requests.
    fn of_requests(&self) -> bool {
        self.verb.is_some()
            || self.resource.is_some()
            || self.namespace.is_some()
            || self.decision.is_some()
    }

    fn accepts_request(&self, row: &Row<'_>) -> bool {
        let Some(request) = &row.request else {
            return !self.of_requests();
        };
        let object = request.object_ref.as_ref();
        let same = |wanted: &Option<String>, have: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| have == Some(wanted))
        };
        same(&self.verb, Some(&request.verb))
            && same(&self.namespace, object.map(|o| &*o.namespace))
            && same(&self.decision, row.decision.as_ref().map(|d| &*d.effect))
            && self.resource.as_ref().is_none_or(|wanted| {
                object.is_some_and(|o| {
                    resource_matches(wanted, &full_resource(&o.resource, &o.subresource))
                })
            })
    }
}

/// `pods`, or `pods/log`.
pub fn full_resource(resource: &str, subresource: &str) -> String {
    if subresource.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}/{subresource}")
    }
}

/// A resource asked for without subresource means all of them.
fn resource_matches(wanted: &str, have: &str) -> bool {
    have == wanted
        || have
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// A filter over events as they come, session by session: pieces of bodies and streams go with their request.
#[derive(Debug)]
pub struct EventFilter<'a> {
    filter: &'a Filter,
    session: Option<SessionId>,
    user: Option<String>,
    requests: HashMap<String, bool>,
}

impl<'a> EventFilter<'a> {
    /// A filter that has seen nothing.
    pub fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            session: None,
            user: None,
            requests: HashMap::new(),
        }
    }

    /// Whether this event is asked for. `bytes` are the event's own.
    pub fn accepts(&mut self, row: &Row<'_>, bytes: &[u8]) -> bool {
        if self.session != Some(row.session_id) {
            self.session = Some(row.session_id);
            self.user = None;
            self.requests.clear();
        }
        if let Some(user) = row.user() {
            self.user = Some(user.username.to_string());
        }
        let filter = self.filter;
        let of_its_request = match (&row.request, row.audit_id()) {
            (Some(_), Some(audit_id)) => {
                let accepted = filter.accepts_request(row);
                self.requests.insert(audit_id.to_owned(), accepted);
                accepted
            }
            (None, Some(audit_id)) => {
                let known = self.requests.get(audit_id);
                known.copied().unwrap_or(!filter.of_requests())
            }
            _ => !filter.of_requests(),
        };
        of_its_request
            && filter.since.is_none_or(|since| row.ts >= since)
            && filter.until.is_none_or(|until| row.ts <= until)
            && (filter.user.is_none() || filter.user == self.user)
            && filter.text.as_ref().is_none_or(|text| {
                let lower = String::from_utf8_lossy(bytes).to_lowercase();
                lower.contains(&text.to_lowercase())
            })
    }
}
