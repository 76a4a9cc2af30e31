//! The gateway's side: intents and outcomes.

use std::borrow::Cow;

use hoop_schema::Timestamp;
use hoop_schema::row::Row;
use serde::{Deserialize, Serialize};

use super::sighting::{Sent, Side, Sighting, clipped, path, resource};
use super::widen;
use crate::evidence::Entry;

/// What was read of the record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecordRead {
    /// Number of intents.
    pub requests: u64,
    /// When the first event happened that is on record; what the API server saw before cannot be in the record.
    pub first: Option<Timestamp>,
    /// When the last one happened.
    pub last: Option<Timestamp>,
}

/// What a row does not say of an intent or outcome.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    request: Request<'a>,
    #[serde(borrow, default)]
    answered_by: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    received: Timestamp,
    #[serde(borrow, default)]
    impersonated: Option<User<'a>>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    username: Cow<'a, str>,
}

impl RecordRead {
    /// Counts an event and returns what it says of a request; nothing for events that are neither intent nor outcome.
    pub fn take(&mut self, entry: &Entry, row: &Row<'_>) -> Option<Sighting> {
        widen(&mut self.first, &mut self.last, row.ts);
        let sighting = sighting(entry, row)?;
        self.requests += u64::from(&*row.kind == "intent");
        Some(sighting)
    }
}

fn sighting(entry: &Entry, row: &Row<'_>) -> Option<Sighting> {
    if !matches!(&*row.kind, "intent" | "outcome") {
        return None;
    }
    let request = row.request.as_ref()?;
    let said: Said<'_> = serde_json::from_slice(&entry.bytes).ok()?;
    let allowed = row.decision.as_ref().is_some_and(|d| &*d.effect == "allow");
    let sent = match said.answered_by.as_deref() {
        Some("upstream") => Sent::Yes,
        // An outcome may deny what its intent allowed; only the intent says whether it could be sent.
        None if allowed => Sent::Perhaps,
        _ => Sent::No,
    };
    let object = request.object_ref.as_ref();
    Some(Sighting {
        id: clipped(row.audit_id()?),
        side: Side::Record,
        user: row
            .user()
            .map_or_else(String::new, |u| clipped(&u.username)),
        acting: said
            .request
            .impersonated
            .map_or_else(String::new, |u| clipped(&u.username)),
        verb: clipped(&request.verb),
        what: object.map_or_else(
            || path(&request.request_uri),
            |o| resource(&o.resource, &o.subresource),
        ),
        namespace: object.map_or_else(String::new, |o| clipped(&o.namespace)),
        name: object.map_or_else(String::new, |o| clipped(&o.name)),
        at: said.request.received,
        code: row.status.unwrap_or_default(),
        sent,
    })
}
