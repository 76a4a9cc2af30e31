//! A timeline as lines for people.

use std::collections::HashMap;

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{AnsweredBy, Effect, Ended, RequestAttributes};
use hoop_schema::kinds::session::SessionStart;

use crate::filter::full_resource;
use crate::output::text::{Style, Text};
use crate::timeline::{Item, Request, Timeline, What};
use crate::when::{self, Clock};

mod detail;

use detail::Bodies;

/// How much of it to show.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether bodies, streams and diffs are shown.
    pub bodies: bool,
    /// Lines of one body that are shown.
    pub body_lines_max: usize,
    /// Columns there are.
    pub width: usize,
}

/// Columns that a request's line needs beside its description: offset, mark, status, duration.
const FIXED_COLUMNS: usize = 9 + 2 + 5 + 8;

/// The narrowest and the widest column for what was asked.
const ASKED_COLUMNS: std::ops::RangeInclusive<usize> = 24..=72;

/// The lines of a timeline.
pub fn lines(timeline: &Timeline, clock: &Clock, options: Options) -> Vec<Text> {
    let mut lines = heading(timeline, clock);
    let asked_width = asked_width(timeline, options.width);
    let mut command = None;
    let mut bodies = Bodies::default();
    for item in &timeline.items {
        let offset = offset(timeline.span.0, item.ts);
        match &item.what {
            What::Request(number) => {
                let request = &timeline.requests[*number];
                let of_request = request.attributes().and_then(|a| a.command.as_deref());
                if of_request.is_some() && of_request != command {
                    command = of_request;
                    lines.push(Text::new());
                    lines.push(Text::styled(Style::Bold, of_request.unwrap_or_default()));
                }
                lines.push(request_line(request, &offset, asked_width));
                lines.extend(decision_line(request));
                if options.bodies {
                    lines.extend(bodies.lines(request, options));
                } else {
                    lines.extend(detail::stream_summary(request));
                }
                bodies.learn(request);
            }
            What::Gap(_) | What::Missing(_) | What::Other(..) => {
                lines.push(other_line(item, &offset));
            }
        }
    }
    lines.push(Text::new());
    lines.extend(ending(timeline, clock, options.width));
    lines
}

fn heading(timeline: &Timeline, clock: &Clock) -> Vec<Text> {
    let attributes = timeline.requests.iter().find_map(Request::attributes);
    let start = timeline.start.as_ref();
    let user = start
        .and_then(|s| s.user.as_ref())
        .or(attributes.and_then(|a| a.user.as_ref()));
    let mut first = Text::styled(Style::Bold, "session ")
        .with(Style::Name, timeline.session_id.to_string())
        .with(Style::Plain, "  ");
    match user {
        Some(user) => {
            first.push(Style::Bold, &user.username);
            if !user.groups.is_empty() {
                first.push(Style::Dim, format!(" ({})", user.groups.join(", ")));
            }
        }
        None => first.push(Style::Warn, "nobody that could be identified"),
    }
    let (begin, end) = timeline.span;
    let lasted = u64::try_from(end.as_micros() - begin.as_micros()).unwrap_or(0);
    let second = format!(
        "{} {}, {}, on {}",
        clock.long(begin),
        clock.zone_name(begin),
        when::duration(lasted),
        timeline.cluster
    );
    let mut lines = vec![first, Text::plain(second)];
    let from = |start: &SessionStart| client_line(&start.source_ip, start.user_agent.as_deref());
    let of_request = |a: &RequestAttributes| client_line(&a.source_ip, a.user_agent.as_deref());
    lines.extend(start.map(from).or(attributes.map(of_request)));
    lines.extend(attributes.and_then(actors_line));
    if let Some(predecessor) = start.and_then(|s| s.predecessor) {
        let text = format!("continues session {predecessor}");
        lines.push(Text::styled(Style::Dim, text));
    }
    lines
}

/// Who acts for the user. The first request tells: they all come over one login.
fn actors_line(of_request: &RequestAttributes) -> Option<Text> {
    let (first, earlier) = of_request.actors.split_first()?;
    let mut text = format!("asked by {first:?}, who acts for the user");
    for actor in earlier {
        text += &format!(", after {actor:?}");
    }
    Some(Text::styled(Style::Warn, text))
}

fn client_line(source_ip: &str, user_agent: Option<&str>) -> Text {
    let agent = user_agent.map_or(String::new(), |agent| format!(", {agent}"));
    Text::styled(Style::Dim, format!("from {source_ip}{agent}"))
}

/// `+0.123`, `+12.3`, `+5m02s`.
fn offset(begin: Timestamp, ts: Timestamp) -> String {
    let micros = u64::try_from(ts.as_micros() - begin.as_micros()).unwrap_or(0);
    if micros < 60_000_000 {
        format!("+{}.{:03}", micros / 1_000_000, micros / 1000 % 1000)
    } else {
        format!("+{}", when::duration(micros))
    }
}

fn asked_width(timeline: &Timeline, width: usize) -> usize {
    let asked = timeline.requests.iter().map(|r| asked(r).width());
    let room = width.saturating_sub(FIXED_COLUMNS);
    asked
        .max()
        .unwrap_or(0)
        .min(room)
        .clamp(*ASKED_COLUMNS.start(), *ASKED_COLUMNS.end())
}

/// What was asked, as a person would type it: `get secrets/db -n shop`.
fn asked(request: &Request) -> Text {
    let Some(attributes) = request.attributes() else {
        return Text::styled(Style::Bad, format!("request {}", request.audit_id));
    };
    let Some(object) = &attributes.object_ref else {
        let verb = if attributes.verb.is_empty() {
            &attributes.http_method
        } else {
            &attributes.verb
        };
        return Text::plain(format!("{verb} {}", attributes.request_uri));
    };
    let mut text = Text::plain(format!("{} ", attributes.verb));
    text.push(
        Style::Plain,
        full_resource(&object.resource, &object.subresource),
    );
    if !object.api_group.is_empty() {
        text.push(Style::Dim, format!(".{}", object.api_group));
    }
    if !object.name.is_empty() {
        text.push(Style::Plain, format!(" {}", object.name));
    }
    if !object.namespace.is_empty() {
        text.push(Style::Dim, format!(" -n {}", object.namespace));
    }
    text
}

fn request_line(request: &Request, offset: &str, asked_width: usize) -> Text {
    let mut line = Text::styled(Style::Dim, offset);
    line.pad_to(9);
    let effect = request.decision().map(|d| d.effect);
    let (mark, style) = match effect {
        Some(Effect::Allow) => ("✓", Style::Good),
        Some(Effect::Deny) => ("✗", Style::Bad),
        Some(Effect::Hold) => ("…", Style::Warn),
        None => ("?", Style::Bad),
    };
    line.push(style, mark);
    line.push(Style::Plain, " ");
    let begin = line.width();
    let asked = asked(request);
    line.append(&asked.clip(asked_width));
    line.pad_to(begin + asked_width + 2);
    match &request.outcome {
        Some(outcome) => {
            let style = match outcome.status {
                200..=399 => Style::Plain,
                0 => Style::Bad,
                _ => Style::Warn,
            };
            line.push(style, format!("{:>3}", outcome.status));
            let took = when::duration(outcome.duration_us);
            line.push(Style::Dim, format!("{took:>8}"));
            let how = match (outcome.ended, outcome.answered_by) {
                (Ended::Complete, AnsweredBy::Upstream) => "",
                (Ended::Complete, AnsweredBy::Gateway) => "  by the gateway",
                (Ended::ClientClosed, _) => "  client left",
                (Ended::UpstreamClosed, _) => "  API server broke off",
                (Ended::UpstreamUnreachable, _) => "  API server unreachable",
                (Ended::GatewayClosed, _) => "  gateway broke off",
            };
            line.push(Style::Dim, how);
        }
        None => line.push(Style::Bad, "no outcome recorded"),
    }
    line
}

/// Why it was decided so, and what was masked; nothing for what a rule simply allows.
fn decision_line(request: &Request) -> Option<Text> {
    let decision = request.decision()?;
    let mut line = Text::plain(" ".repeat(11));
    let style = match decision.effect {
        Effect::Allow => Style::Dim,
        Effect::Deny => Style::Bad,
        Effect::Hold => Style::Warn,
    };
    let rule = match (&decision.profile, &decision.rule) {
        (Some(profile), Some(rule)) => format!("{profile}/{rule}"),
        (Some(profile), None) => profile.clone(),
        (None, Some(rule)) => rule.clone(),
        (None, None) => decision.cause.as_str().to_owned(),
    };
    line.push(style, rule);
    if !decision.message.is_empty() && decision.effect != Effect::Allow {
        line.push(style, format!(": {}", decision.message));
    }
    let masked = [
        request.intent.as_ref().map(|i| &i.masked),
        request.outcome.as_ref().map(|o| &o.masked),
    ];
    for masked in masked.into_iter().flatten().filter(|m| m.count > 0) {
        let what = when::counted(masked.count, "value");
        line.push(Style::Dim, " · ");
        line.push(Style::Warn, format!("{what} masked"));
        if !masked.paths.is_empty() {
            line.push(Style::Dim, format!(" ({})", masked.paths.join(", ")));
        }
    }
    let claims = request.intent.as_ref().map(|i| &i.claims);
    for (name, value) in claims.into_iter().flatten() {
        line.push(Style::Warn, format!(" · claims {name}: {value}"));
    }
    Some(line)
}

fn other_line(item: &Item, offset: &str) -> Text {
    let mut line = Text::styled(Style::Dim, offset);
    line.pad_to(9);
    match &item.what {
        What::Gap(gap) => {
            let closed = gap.state == hoop_schema::kinds::integrity::GapState::Closed;
            let (style, how) = if closed {
                (Style::Warn, "arrived late")
            } else {
                (Style::Bad, "missing")
            };
            let text = format!(
                "! gap: events {} to {} of {} {how} ({:?})",
                gap.first_seq, gap.last_seq, gap.of_producer, gap.cause
            );
            line.push(style, text);
        }
        What::Missing(text) => line.push(Style::Bad, format!("! {text}")),
        What::Other(kind, _) => line.push(Style::Dim, format!("· {kind}")),
        What::Request(_) => {}
    }
    line
}

/// The end of the session, what is wrong with it, and the sum.
fn ending(timeline: &Timeline, clock: &Clock, width: usize) -> Vec<Text> {
    let mut lines = Vec::new();
    for problem in &timeline.problems {
        let problem = Text::styled(Style::Bad, format!("! {problem}"));
        lines.extend(problem.wrap(width));
    }
    let denied = timeline.requests.iter();
    let denied = denied.filter(|r| r.decision().is_some_and(|d| d.effect == Effect::Deny));
    let masked: u64 = timeline
        .requests
        .iter()
        .map(|r| {
            let of_intent = r.intent.as_ref().map_or(0, |i| i.masked.count);
            of_intent + r.outcome.as_ref().map_or(0, |o| o.masked.count)
        })
        .sum();
    let mut sum = Text::plain(format!(
        "{}, {} denied, {} masked",
        when::counted(timeline.requests.len() as u64, "request"),
        denied.count(),
        when::counted(masked, "value")
    ));
    match &timeline.end {
        Some(end) if !timeline.open => {
            let text = format!(
                "; ended {} ({:?})",
                clock.of_day(timeline.span.1),
                end.cause
            );
            sum.push(Style::Dim, text.to_lowercase());
        }
        _ if timeline.problems.is_empty() => sum.push(Style::Dim, "; still open"),
        _ => {}
    }
    lines.push(sum);
    lines
}

/// Bodies of objects by what they are of.
pub(crate) type Objects = HashMap<[String; 4], serde_json::Value>;
