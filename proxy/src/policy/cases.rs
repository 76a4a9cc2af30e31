//! Tests of a policy, in a file beside it: what it must decide about which request.
//!
//! ```yaml
//! # viewer.test.yaml, for viewer.yaml
//! cases:
//!   - name: viewers read pods but no secrets      # optional
//!     user: alice
//!     groups: [viewers]                           # optional, as everything below
//!     uid: "1001"
//!     extra: ["example.com/team=web"]             # KEY=VALUE
//!     sourceIP: 192.0.2.7                         # default: 127.0.0.1
//!     actor: agent-7                              # who acts for the user
//!     client: agent-platform                      # the OpenID Connect client that they come by
//!     time: 2026-11-23T10:00:00Z                  # default: a Monday noon, UTC
//!     as: {user: jane, groups: [staff]}           # kubectl --as; the decision about that is checked
//!     requests:                                   # METHOD and target, as kubectl -v=6 shows them
//!       - GET /api/v1/namespaces/shop/pods
//!     body: '{"spec": {"replicas": 0}}'           # what each of them sends
//!     webhooks: {change-calendar: denied}         # what webhooks say: allowed | denied | noOpinion | failed
//!     expect: allow                               # allow | deny | approve
//!     profile: viewer                             # which profile and rule decide
//!     rule: read-workloads
//!     mask: redact                                # what the client sees of secrets
//!     masking: [tokens]                           # the masking rules that hold
//! ```

use std::net::{IpAddr, Ipv4Addr};

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Decision, Effect, User};

use super::decide::Step;
use super::document::MODES;
use super::facts::{BodyFact, Facts, Through};
use super::webhook::Answer;
use super::{Policy, PolicyErrors, Verdict};
use crate::mask::MaskMode;
use crate::request_info;
use crate::yaml::{self, Entries, Mistakes, Node, Value, suggestion};

/// The time of a case that names none: Monday, 2026-11-23, 12:00 UTC.
const DEFAULT_TIME_MICROS: i64 = 1_795_435_200_000_000;

const CASE_KEYS: [&str; 18] = [
    "name", "user", "groups", "uid", "extra", "actor", "client", "sourceIP", "time", "as",
    "requests", "body", "webhooks", "expect", "profile", "rule", "mask", "masking",
];
const AS_KEYS: [&str; 4] = ["user", "groups", "uid", "extra"];

/// The cases of a file.
#[derive(Debug, Clone)]
pub struct Cases(Vec<Case>);

/// One case: a caller, some requests, and what must be decided about each.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    user: User,
    actor: Option<String>,
    client: Option<String>,
    acting_as: Option<User>,
    source_ip: IpAddr,
    time: Timestamp,
    requests: Vec<(String, u64)>,
    body: String,
    webhooks: Vec<(String, Answer)>,
    expect: Effect,
    profile: Option<String>,
    rule: Option<String>,
    mask: Option<MaskMode>,
    masking: Option<Vec<String>>,
}

/// What came of one request of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Name of the case; empty when it has none.
    pub name: String,
    /// Method and target.
    pub request: String,
    /// Line of the request in the file of cases.
    pub line: u64,
    /// What was decided otherwise than expected, in words.
    pub failure: Option<String>,
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let root = yaml::read(text)?;
        let mut mistakes = Mistakes::default();
        let mut cases = Vec::new();
        if let Some(entries) = mistakes.map(&root, "a file of cases", &["cases"])
            && let Some(node) = entries.require("cases", &mut mistakes)
        {
            for item in mistakes.list(node, "cases") {
                cases.extend(read_case(item, &mut mistakes));
            }
        }
        mistakes.into_result()?;
        Ok(Self(cases))
    }

    /// Asks a policy about every request, in the order of the file.
    pub fn run(&self, policy: &Policy) -> Vec<CaseResult> {
        let each = |case: &Case| -> Vec<CaseResult> {
            let results = case.requests.iter().map(|(request, line)| CaseResult {
                name: case.name.clone(),
                request: request.clone(),
                line: *line,
                failure: case.failure(policy, request),
            });
            results.collect()
        };
        self.0.iter().flat_map(each).collect()
    }
}

impl Case {
    /// What the policy decides otherwise.
    fn failure(&self, policy: &Policy, request: &str) -> Option<String> {
        let (method, target) = request.split_once(' ').unwrap_or((request, ""));
        let info = match request_info::parse(method, target.trim()) {
            Ok(info) => info,
            Err(malformed) => return Some(format!("the request is refused: {malformed}")),
        };
        let through = Through {
            actor: self.actor.as_deref(),
            client: self.client.as_deref(),
        };
        let mut facts = Facts::new(&self.user, &info, self.source_ip, self.time)
            .through(through)
            .with_body(BodyFact::Read(self.body.as_bytes()));
        for (name, answer) in &self.webhooks {
            let Some(webhook) = policy.webhook(name) else {
                return Some(format!("the policy has no webhook \"{name}\""));
            };
            facts.answer(webhook.clone(), answer.clone());
        }
        let (decision, masking) = match &self.acting_as {
            Some(asked) => (policy.impersonate(&facts, asked), None),
            None => match policy.decide(&facts) {
                Step::Decided(verdict) => {
                    let failure = self.masking_failure(&verdict);
                    (verdict.decision, failure)
                }
                Step::NeedsBody => return Some("the policy waits for the body".to_owned()),
                Step::NeedsWebhook(webhook) => {
                    let name = &webhook.name;
                    return Some(format!(
                        "webhook \"{name}\" would be asked: say in \"webhooks\" what it answers"
                    ));
                }
            },
        };
        let matches = decision.effect == self.expect
            && self
                .profile
                .as_ref()
                .is_none_or(|p| decision.profile.as_ref() == Some(p))
            && self
                .rule
                .as_ref()
                .is_none_or(|r| decision.rule.as_ref() == Some(r));
        if matches {
            return masking;
        }
        let expected = words(self.expect, self.profile.as_deref(), self.rule.as_deref());
        Some(format!(
            "expected {expected}, got {}",
            of_decision(&decision)
        ))
    }
}

impl Case {
    /// What is masked otherwise.
    fn masking_failure(&self, verdict: &Verdict) -> Option<String> {
        if let Some(expected) = self.mask.filter(|mask| *mask != verdict.mask) {
            let (expected, got) = (expected.as_str(), verdict.mask.as_str());
            return Some(format!("expected the mask {expected}, got {got}"));
        }
        let got = verdict.masking.as_ref().map(|masking| masking.names());
        let got = got.unwrap_or_default();
        let expected = self.masking.as_ref().filter(|names| *names != got)?;
        Some(format!(
            "expected the masking rules {expected:?}, got {got:?}"
        ))
    }
}

fn of_decision(decision: &Decision) -> String {
    let words = words(
        decision.effect,
        decision.profile.as_deref(),
        decision.rule.as_deref(),
    );
    if decision.message.is_empty() {
        words
    } else {
        format!("{words} ({})", decision.message)
    }
}

fn words(effect: Effect, profile: Option<&str>, rule: Option<&str>) -> String {
    let mut text = match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Hold => "approve",
    }
    .to_owned();
    if let Some(rule) = rule {
        text += &format!(" by rule \"{rule}\"");
    }
    if let Some(profile) = profile {
        text += &format!(" of profile \"{profile}\"");
    }
    text
}

fn read_case(node: &Node, mistakes: &mut Mistakes) -> Option<Case> {
    let entries = mistakes.map(node, "a case", &CASE_KEYS)?;
    let acting_as = entries.get("as").and_then(|node| {
        let entries = mistakes.map(node, "as", &AS_KEYS)?;
        read_user(&entries, mistakes)
    });
    let user = read_user(&entries, mistakes);
    let text = |key: &str, mistakes: &mut Mistakes| {
        let node = entries.get(key)?;
        mistakes.text(node, key).map(str::to_owned)
    };
    let effects = [
        ("allow", Effect::Allow),
        ("deny", Effect::Deny),
        ("approve", Effect::Hold),
    ];
    let expect = entries
        .require("expect", mistakes)
        .and_then(|node| mistakes.choice(node, "expect", &effects));
    entries.require("requests", mistakes)?;
    let requests = entries.texts("requests", mistakes)?;
    if requests.is_empty() {
        mistakes.note(node.line, "\"requests\" is empty, so nothing is tested");
    }
    let ip = parsed(&entries, "sourceIP", "an IP address", mistakes);
    let time = parsed(
        &entries,
        "time",
        "a time such as 2026-11-23T10:00:00Z",
        mistakes,
    );
    Some(Case {
        name: text("name", mistakes).unwrap_or_default(),
        user: user?,
        actor: text("actor", mistakes),
        client: text("client", mistakes),
        acting_as,
        source_ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        time: time.unwrap_or(Timestamp::from_micros(DEFAULT_TIME_MICROS)),
        requests: requests
            .into_iter()
            .map(|(request, line)| (request.to_owned(), line))
            .collect(),
        body: text("body", mistakes).unwrap_or_default(),
        webhooks: read_answers(&entries, mistakes),
        expect: expect?,
        profile: text("profile", mistakes),
        rule: text("rule", mistakes),
        mask: entries
            .get("mask")
            .and_then(|node| mistakes.choice(node, "mask", &MODES)),
        masking: entries
            .texts("masking", mistakes)
            .map(|texts| texts.into_iter().map(|(text, _)| text.to_owned()).collect()),
    })
}

/// `webhooks`: what each says.
fn read_answers(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<(String, Answer)> {
    let Some(node) = entries.get("webhooks") else {
        return Vec::new();
    };
    let Value::Map(pairs) = &node.value else {
        mistakes.note(node.line, "\"webhooks\" must be a map: NAME: ANSWER");
        return Vec::new();
    };
    let mut answers = Vec::new();
    for (name, word) in pairs {
        let Some(word) = mistakes.text(word, &name.text) else {
            continue;
        };
        match Answer::stated(word) {
            Some(answer) => answers.push((name.text.clone(), answer)),
            None => {
                let meant = suggestion(word, Answer::WORDS.into_iter());
                let message = format!("\"{word}\" is no answer of a webhook: {meant}");
                mistakes.note(name.line, message);
            }
        }
    }
    answers
}

fn read_user(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Option<User> {
    let mut user = User::default();
    if let Some(uid) = entries.get("uid") {
        user.uid = mistakes.text(uid, "uid").map(str::to_owned);
    }
    for (group, _) in entries.texts("groups", mistakes).unwrap_or_default() {
        user.groups.push(group.to_owned());
    }
    for (pair, line) in entries.texts("extra", mistakes).unwrap_or_default() {
        match pair.split_once('=') {
            Some((key, value)) => {
                let values = user.extra.entry(key.to_owned()).or_default();
                values.push(value.to_owned());
            }
            None => mistakes.note(line, format!("\"{pair}\" is no extra: write KEY=VALUE")),
        }
    }
    let name = entries.require("user", mistakes)?;
    mistakes.text(name, "user")?.clone_into(&mut user.username);
    Some(user)
}

fn parsed<T: std::str::FromStr>(
    entries: &Entries<'_>,
    key: &str,
    what: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let node = entries.get(key)?;
    let text = mistakes.text(node, key)?;
    let value = text.parse().ok();
    if value.is_none() {
        mistakes.note(node.line, format!("\"{key}\": \"{text}\" is not {what}"));
    }
    value
}
