//! The record of the gateway against the API server's own audit log, request by request.
//!
//! The gateway sends every request upstream under an `Audit-ID` of its own, and the API server writes it down as
//! `auditID`. So each request of one side either has its other half, or there is something to explain:
//!
//! | finding | the API server's log | the record |
//! |---|---|---|
//! | joined | the gateway's request | the same request, let through |
//! | bypassed | somebody else's request | nothing |
//! | unrecorded | a request with the gateway's credential | nothing |
//! | contradicted | another request under this id | a request, or one that was denied |
//! | missing | nothing | a request that the API server is said to have answered |
//!
//! What is expected is counted apart: the gateway's own questions (may I impersonate, is this token good), users that are
//! named as expected (the control plane), requests before the record begins or outside the time that the log covers, and
//! recorded requests of which the record itself does not know whether they arrived.
//!
//! Who the gateway is, is found out: the user under whose name most of the joined requests came. A client may choose its
//! own `Audit-ID`; one that borrows the id of a recorded request is found by its user.
//!
//! Memory: what [`sorter`] says, the groups of the findings ([`groups::GROUPS_MAX`] of each kind), one line of the log. Both
//! sides are brought into the order of their ids, on disk where they are long, and walked side by side.

use std::collections::BTreeMap;
use std::io;

use hoop_schema::Timestamp;
use serde::Serialize;

pub mod feed;
pub mod groups;
pub mod log;
pub mod record;
pub mod sighting;
pub mod sorter;

use groups::Findings;
use sighting::{Sent, Side, Sighting};
use sorter::Sorter;

/// The most users that are counted one by one; the requests of all further ones are counted together.
pub const USERS_MAX: usize = 1_000;

/// Where users beyond [`USERS_MAX`] are counted.
const FURTHER_USERS: &str = "(others)";

/// Resources by which a gateway asks the API server on its own behalf.
const OWN_QUESTIONS: [&str; 5] = [
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "selfsubjectreviews",
    "subjectaccessreviews",
    "tokenreviews",
];

/// Paths at which anybody may ask whether an API server is well, and which one it is.
const HEALTH: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Users that are expected not to come through the gateway, unless told otherwise: the control plane and the nodes.
/// Service accounts of other namespaces than `kube-system` are not among them.
pub const EXPECTED_USERS: [&str; 6] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kube-proxy",
    "system:node:*",
    "system:serviceaccount:kube-system:*",
];

/// What is expected, and which time is compared.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Users that need not come through the gateway; `*` stands for any characters.
    pub users: Vec<String>,
    /// Users that the gateway is known as to the API server; found out where empty.
    pub gateway_users: Vec<String>,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was read of the API server's log.
    pub log: log::LogRead,
    /// What was read of the record.
    pub record: record::RecordRead,
    /// Users that the gateway is known as to the API server.
    pub gateway_users: Vec<String>,
    /// Requests that both sides have.
    pub joined: u64,
    /// Share of the recorded requests that reached the API server by the record, of which the API server's log says the
    /// same; absent where there is none.
    pub join_rate: Option<f64>,
    /// Share of the requests in the API server's log, without those that are expected, that are in the record.
    pub coverage: Option<f64>,
    /// Requests that came by another way than the gateway.
    pub bypassed: Findings,
    /// Requests with the gateway's credential that are not in the record.
    pub unrecorded: Findings,
    /// Requests that are not what the record has under their id.
    pub contradicted: Findings,
    /// Recorded requests that the API server is said to have answered, and whose log has nothing of them.
    pub missing: Findings,
    /// The gateway's own questions.
    pub own: u64,
    /// Requests of expected users.
    pub expected: BTreeMap<String, u64>,
    /// Recorded requests that were let through and whose end is not recorded, and that the API server did not see.
    pub perhaps: u64,
    /// Requests in the API server's log from before the record begins.
    pub log_outside: u64,
    /// Recorded requests outside the time that the API server's log covers.
    pub record_outside: u64,
}

impl Report {
    /// Whether everything could be compared and nothing has to be explained.
    pub fn is_complete(&self) -> bool {
        let findings = [&self.bypassed, &self.unrecorded, &self.missing];
        findings.iter().all(|f| f.requests == 0) && self.log.lines_unreadable == 0
    }

    /// Whether something speaks against the record.
    pub fn is_contradicted(&self) -> bool {
        self.contradicted.requests > 0
    }
}

/// Compares both sides, which `sorter` holds. What was read of them is in `report` already.
///
/// # Errors
/// When the sorter's files cannot be written or read.
pub fn compare(sorter: &mut Sorter, expected: &Expected, report: &mut Report) -> io::Result<()> {
    report.gateway_users = if expected.gateway_users.is_empty() {
        find_gateway(sorter)?.into_iter().collect()
    } else {
        expected.gateway_users.clone()
    };
    let mut comparison = Comparison { expected, report };
    let mut recorded: Option<Recorded> = None;
    let mut pending: Option<Sighting> = None;
    for sighting in sorter.sorted()? {
        let sighting = sighting?;
        // The last stage of a request says most.
        if let Some(seen) = pending.take_if(|seen| !seen.is_same_request(&sighting)) {
            comparison.seen(&seen, recorded.as_mut());
        }
        if recorded.as_ref().is_some_and(|r| r.first.id != sighting.id) {
            comparison.end(recorded.take());
        }
        match (sighting.side, &mut recorded) {
            (Side::Log, _) => pending = Some(sighting),
            (Side::Record, Some(recorded)) => recorded.add(&sighting),
            (Side::Record, None) => recorded = Some(Recorded::of(sighting)),
        }
    }
    if let Some(seen) = pending {
        comparison.seen(&seen, recorded.as_mut());
    }
    comparison.end(recorded);
    let rate = |part: u64, rest: u64| (part + rest > 0).then(|| part as f64 / (part + rest) as f64);
    report.join_rate = rate(report.joined, report.missing.requests);
    report.coverage = rate(
        report.joined,
        report.bypassed.requests + report.unrecorded.requests + report.contradicted.requests,
    );
    Ok(())
}

/// The user that most requests came as whose id is in the record.
fn find_gateway(sorter: &mut Sorter) -> io::Result<Option<String>> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut recorded = String::new();
    for sighting in sorter.sorted()? {
        let sighting = sighting?;
        match sighting.side {
            Side::Record => recorded = sighting.id,
            Side::Log if sighting.id == recorded => count(&mut counts, &sighting.user),
            Side::Log => {}
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    Ok(most.map(|(user, _)| user))
}

fn count(counts: &mut BTreeMap<String, u64>, user: &str) {
    let known = counts.contains_key(user) || counts.len() < USERS_MAX;
    let user = if known { user } else { FURTHER_USERS };
    *counts.entry(user.to_owned()).or_default() += 1;
}

/// What the record says of one request.
struct Recorded {
    first: Sighting,
    sent: Sent,
    seen: bool,
}

impl Recorded {
    fn of(first: Sighting) -> Self {
        Self {
            sent: first.sent,
            first,
            seen: false,
        }
    }

    /// Adds the outcome to the intent, or the other way round.
    fn add(&mut self, sighting: &Sighting) {
        self.sent = self.sent.max(sighting.sent);
    }
}

struct Comparison<'a> {
    expected: &'a Expected,
    report: &'a mut Report,
}

impl Comparison<'_> {
    /// A request in the API server's log, and what the record has under its id.
    fn seen(&mut self, seen: &Sighting, recorded: Option<&mut Recorded>) {
        let by_gateway = self.report.gateway_users.contains(&seen.user);
        if let Some(recorded) = recorded.filter(|r| r.first.id == seen.id) {
            let first = &recorded.first;
            // Without an impersonated user, the API server refused to let the gateway impersonate.
            let same_person =
                seen.acting.is_empty() || seen.acting == first.user || seen.acting == first.acting;
            let same = by_gateway && same_person && seen.verb == first.verb;
            if same && recorded.sent != Sent::No {
                self.report.joined += u64::from(!recorded.seen);
                recorded.seen = true;
            } else {
                self.report.contradicted.add(seen);
            }
            return;
        }
        let first_recorded = self.report.record.first;
        if by_gateway && is_own_question(seen) {
            self.report.own += 1;
        } else if by_gateway {
            self.report.unrecorded.add(seen);
        } else if is_health_check(seen) || self.is_expected(&seen.user) {
            count(&mut self.report.expected, &seen.user);
        } else if first_recorded.is_some_and(|first| seen.at < first) {
            self.report.log_outside += 1;
        } else {
            self.report.bypassed.add(seen);
        }
    }

    /// All of the log was seen that has the id of `recorded`.
    fn end(&mut self, recorded: Option<Recorded>) {
        let Some(recorded) = recorded.filter(|r| !r.seen) else {
            return;
        };
        let log = &self.report.log;
        let at = recorded.first.at;
        let covered =
            log.first.is_some_and(|first| first <= at) && log.last.is_some_and(|last| at <= last);
        match recorded.sent {
            Sent::No => {}
            _ if !covered => self.report.record_outside += 1,
            Sent::Perhaps => self.report.perhaps += 1,
            Sent::Yes => self.report.missing.add(&recorded.first),
        }
    }

    fn is_expected(&self, user: &str) -> bool {
        let mut patterns = self.expected.users.iter();
        patterns.any(|pattern| matches(pattern, user))
    }
}

fn is_own_question(seen: &Sighting) -> bool {
    let asks = OWN_QUESTIONS.contains(&seen.what.as_str()) && seen.verb == "create";
    seen.acting.is_empty() && (asks || is_health_path(&seen.what))
}

fn is_health_check(seen: &Sighting) -> bool {
    seen.user == "system:anonymous" && is_health_path(&seen.what)
}

fn is_health_path(path: &str) -> bool {
    HEALTH.iter().any(|health| {
        path.strip_prefix(health)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether `text` is what `pattern` says, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The earlier and the later of what is known and `at`.
fn widen(first: &mut Option<Timestamp>, last: &mut Option<Timestamp>, at: Timestamp) {
    *first = Some(first.map_or(at, |known| known.min(at)));
    *last = Some(last.map_or(at, |known| known.max(at)));
}

#[cfg(test)]
mod tests;
