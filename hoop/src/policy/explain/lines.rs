//! Many requests as JSON lines.
//!
//! With `--requests FILE|-` each line is a request:
//!
//! ```json
//! {"method":"GET","target":"/api/v1/pods","user":"alice","groups":["dev"],"body":{},"actor":"agent-7","client":"cli","sourceIP":"192.0.2.7","time":"2026-11-23T10:00:00Z","as":{"user":"jane"}}
//! ```
//!
//! Besides, `"webhooks":{"change-calendar":"denied"}` says what webhooks answer (`allowed`, `denied`, `noOpinion`,
//! `failed`). None is asked: about the others, the answer says that it depends on them.
//!
//! Only `method`, `target` and `user` are needed. Each line becomes one line of answer, in order; a line that cannot be
//! read, or a request that the gateway refuses as malformed, becomes one with the effect `deny` and the cause
//! `malformed`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::net::{IpAddr, Ipv4Addr};

use hoop_proxy::policy::{BodyFact, Explanation, Facts, Policy, Through, Tried};
use hoop_proxy::request_info::{self, RequestInfo};
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Decision, Effect, User};
use serde::{Deserialize, Serialize};

use super::{effect, now};
use crate::exit::ExitCode;
use crate::output::{Line, Printer};
use crate::policy::stated;

/// The longest line that is read, in bytes: twice the largest body that the gateway takes, and room for the rest.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A line of input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    target: String,
    user: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    body: Option<serde_json::Value>,
    #[serde(default)]
    webhooks: BTreeMap<String, String>,
    #[serde(default, rename = "sourceIP")]
    source_ip: Option<IpAddr>,
    #[serde(default)]
    time: Option<Timestamp>,
    #[serde(default, rename = "as")]
    acting_as: Option<AskedAs>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedAs {
    user: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// A line of output. Every field is always there.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    verb: &'a str,
    api_group: &'a str,
    api_version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    path: &'a str,
    effect: &'a str,
    cause: &'a str,
    profile: Option<&'a str>,
    rule: Option<&'a str>,
    line: Option<u64>,
    message: &'a str,
    /// How the client and the record see secrets; empty where nothing is answered.
    mask: &'a str,
    record_mask: &'a str,
    /// The masking rules that hold.
    masking: Vec<&'a str>,
    tried: Vec<AnswerTried<'a>>,
    tried_more: usize,
    /// The webhooks whose answers it depends on: it is as said if they allow.
    webhooks: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct AnswerTried<'a> {
    profile: &'a str,
    rule: &'a str,
    line: u64,
    reason: &'a str,
}

/// One answer for each line of input.
pub(super) fn many(
    policy: &Policy,
    mut input: impl BufRead,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(ExitCode::Success);
        }
        let whole = line.ends_with(b"\n") || (read as u64) < LINE_BYTES_MAX;
        let answer = if whole {
            if line.trim_ascii().is_empty() {
                continue;
            }
            answer(policy, &line)
        } else {
            skip_line(&mut input)?;
            refused(
                &format!("the line is longer than {LINE_BYTES_MAX} bytes"),
                None,
            )
        };
        printer.line(&Line::plain(answer))?;
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

fn answer(policy: &Policy, line: &[u8]) -> String {
    let asked: Asked = match serde_json::from_slice(line) {
        Ok(asked) => asked,
        Err(error) => return refused(&format!("the line is no request: {error}"), None),
    };
    let info = match request_info::parse(&asked.method, &asked.target) {
        Ok(info) => info,
        Err(malformed) => return refused(&malformed.to_string(), Some(&asked.target)),
    };
    let user = User {
        username: asked.user,
        uid: asked.uid,
        groups: asked.groups,
        extra: asked.extra,
    };
    let body = match asked.body {
        None | Some(serde_json::Value::Null) => Vec::new(),
        Some(serde_json::Value::String(text)) => text.into_bytes(),
        Some(value) => value.to_string().into_bytes(),
    };
    let ip = asked.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let through = Through {
        actor: asked.actor.as_deref(),
        client: asked.client.as_deref(),
    };
    let mut facts = Facts::new(&user, &info, ip, asked.time.unwrap_or_else(now))
        .through(through)
        .with_body(BodyFact::Read(&body))
        .without_webhooks();
    let answers: Result<Vec<_>, _> = asked
        .webhooks
        .iter()
        .map(|(name, word)| stated::answer(name, word))
        .collect();
    let answered = answers.and_then(|answers| stated::add(policy, &answers, &mut facts));
    if let Err(why) = answered {
        return refused(&why, Some(&asked.target));
    }
    if let Some(target) = asked.acting_as {
        let target = User {
            username: target.user,
            uid: target.uid,
            groups: target.groups,
            extra: target.extra,
        };
        let decision = policy.impersonate(&facts, &target);
        if decision.effect != Effect::Allow {
            return json(&of_decision(&info, &decision));
        }
    }
    match policy.explain(&facts) {
        Some(explanation) => json(&of_explanation(&info, &explanation)),
        None => refused("the body is missing", Some(&asked.target)),
    }
}

fn of_decision<'a>(info: &'a RequestInfo, decision: &'a Decision) -> Answer<'a> {
    let version = info.object.as_ref().map_or("", |o| o.api_version.as_str());
    Answer {
        verb: &info.verb,
        api_group: info.api_group(),
        api_version: version,
        resource: info.resource(),
        subresource: info.subresource(),
        namespace: info.namespace(),
        name: info.name(),
        path: &info.path,
        effect: effect(decision),
        cause: decision.cause.as_str(),
        profile: decision.profile.as_deref(),
        rule: decision.rule.as_deref(),
        message: &decision.message,
        ..Answer::default()
    }
}

fn of_explanation<'a>(info: &'a RequestInfo, explanation: &'a Explanation) -> Answer<'a> {
    let tried = |tried: &'a Tried| AnswerTried {
        profile: &tried.profile,
        rule: &tried.rule,
        line: tried.line,
        reason: &tried.reason,
    };
    let verdict = &explanation.verdict;
    let answers = verdict.decision.effect == Effect::Allow;
    let masking = verdict.masking.iter().flat_map(|masking| masking.names());
    Answer {
        line: explanation.line,
        mask: if answers { verdict.mask.as_str() } else { "" },
        record_mask: if answers {
            verdict.record_mask.as_str()
        } else {
            ""
        },
        masking: masking.map(String::as_str).collect(),
        tried: explanation.tried.iter().map(tried).collect(),
        tried_more: explanation.tried_more,
        webhooks: explanation.webhooks.iter().map(String::as_str).collect(),
        ..of_decision(info, &explanation.verdict.decision)
    }
}

/// An answer to what is no request.
fn refused(why: &str, path: Option<&str>) -> String {
    json(&Answer {
        path: path.unwrap_or_default(),
        effect: "deny",
        cause: "malformed",
        message: why,
        ..Answer::default()
    })
}

fn json(answer: &Answer<'_>) -> String {
    serde_json::to_string(answer).expect("texts and numbers have a JSON form")
}
