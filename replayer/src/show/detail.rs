//! Bodies, streams and what a write changed.

use std::borrow::Cow;

use hoop_schema::kinds::request::{BodyOf, RequestAttributes};
use hoop_schema::kinds::stream::{Channel, StreamData};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::{Objects, Options};
use crate::content::{self, Content, pretty, without_noise};
use crate::copied::{self, Way};
use crate::output::text::{Style, Text};
use crate::timeline::Request;
use crate::when;

/// Before what is said of a stream: below the verb.
const STREAM_INDENT: &str = "           ";

/// Files of one copy that are shown.
const COPIED_LINES_MAX: usize = 10;

/// Before every line of a body.
const INDENT: &str = "           │ ";

/// Unchanged lines around a change.
const DIFF_CONTEXT_LINES: usize = 2;

/// Objects that are remembered for diffs; more are not compared in one session by a person.
const OBJECTS_MAX: usize = 10_000;

/// What is known of the objects of a session so far.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    seen: Objects,
}

impl Bodies {
    /// The bodies of one request as lines.
    pub(super) fn lines(&self, request: &Request, options: Options) -> Vec<Text> {
        let mut lines = Vec::new();
        let sent = sent(request);
        let got = got(request);
        let verb = request.attributes().map_or("", |a| a.verb.as_str());
        let before = request.attributes().and_then(|a| self.seen.get(&key_of(a)));
        // What a patch did is seen in the answer; what an update wants is what it sends.
        let after = match verb {
            "update" => sent.as_ref().and_then(Content::json),
            "patch" => got.as_ref().and_then(Content::json),
            _ => None,
        };
        match (before, after) {
            (Some(before), Some(after)) if is_object(after) => {
                title(&mut lines, "changed");
                clipped(&mut lines, diff(before, after), options);
            }
            _ => {
                if let Some(content) = &sent {
                    title(&mut lines, "sent");
                    clipped(&mut lines, plain(content), options);
                }
                if let Some(content) = &got {
                    title(&mut lines, "got");
                    clipped(&mut lines, plain(content), options);
                }
            }
        }
        lines.extend(stream_summary(request));
        clipped(&mut lines, stream_lines(&request.stream), options);
        lines
    }

    /// Remembers the objects that a request showed.
    pub(super) fn learn(&mut self, request: &Request) {
        let Some(attributes) = request.attributes() else {
            return;
        };
        let Some(Content::Json(value)) = got(request) else {
            return;
        };
        let [group, resource, namespace, name] = key_of(attributes);
        if let Some(items) = value.get("items").and_then(Value::as_array) {
            for item in items {
                let of = |field: &str| {
                    let text = item.pointer(&format!("/metadata/{field}"));
                    text.and_then(Value::as_str).map(str::to_owned)
                };
                if let Some(name) = of("name").filter(|_| self.seen.len() < OBJECTS_MAX) {
                    let namespace = of("namespace").unwrap_or_else(|| namespace.clone());
                    let key = [group.clone(), resource.clone(), namespace, name];
                    self.seen.insert(key, item.clone());
                }
            }
        } else if !name.is_empty() && is_object(&value) && self.seen.len() < OBJECTS_MAX {
            self.seen.insert([group, resource, namespace, name], value);
        }
    }
}

fn key_of(attributes: &RequestAttributes) -> [String; 4] {
    let object = attributes.object_ref.clone().unwrap_or_default();
    [
        object.api_group,
        crate::filter::full_resource(&object.resource, &object.subresource),
        object.namespace,
        object.name,
    ]
}

/// A Kubernetes object, and not a Status that says why there is none.
fn is_object(value: &Value) -> bool {
    value.get("metadata").is_some() && value.get("kind").and_then(Value::as_str) != Some("Status")
}

fn sent(request: &Request) -> Option<Content> {
    let body = request.intent.as_ref()?.body.as_ref()?;
    Some(content::content(body, &request.chunks_of(BodyOf::Request)))
}

fn got(request: &Request) -> Option<Content> {
    let body = request.outcome.as_ref()?.body.as_ref()?;
    Some(content::content(body, &request.chunks_of(BodyOf::Response)))
}

fn title(lines: &mut Vec<Text>, title: &str) {
    lines.push(Text::styled(Style::Dim, format!("           ┌ {title}")));
}

fn plain(content: &Content) -> Vec<Text> {
    content.lines().iter().map(Text::plain).collect()
}

/// What changed from one object to the other, with a little of what did not.
fn diff(before: &Value, after: &Value) -> Vec<Text> {
    let before = pretty(&without_noise(before)).join("\n");
    let after = pretty(&without_noise(after)).join("\n");
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let groups = diff.grouped_ops(DIFF_CONTEXT_LINES);
    if groups.is_empty() {
        return vec![Text::styled(Style::Dim, "(nothing)")];
    }
    let mut lines = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        if i > 0 {
            lines.push(Text::styled(Style::Dim, "  …"));
        }
        for op in group {
            for change in diff.iter_changes(op) {
                let (sign, style) = match change.tag() {
                    ChangeTag::Delete => ("- ", Style::Bad),
                    ChangeTag::Insert => ("+ ", Style::Good),
                    ChangeTag::Equal => ("  ", Style::Plain),
                };
                let text = change.value().trim_end_matches('\n');
                lines.push(Text::styled(style, format!("{sign}{text}")));
            }
        }
    }
    lines
}

/// One line for each channel of a stream, and one that says how the command ended.
pub(super) fn stream_summary(request: &Request) -> Vec<Text> {
    let mut channels: Vec<(Channel, u64, u64, u64, bool)> = Vec::new();
    for data in &request.stream {
        let at = channels.iter().position(|c| c.0 == data.channel);
        let at = at.unwrap_or_else(|| {
            channels.push((data.channel, 0, 0, 0, false));
            channels.len() - 1
        });
        let (channel, pieces, bytes, frames, hidden) = &mut channels[at];
        let piece = content::piece(data.encoding, &data.content).unwrap_or_default();
        *hidden |= content::unreadable(data).is_some();
        *pieces += 1;
        *bytes += piece.len() as u64;
        if *channel == Channel::Watch {
            *frames += piece.iter().filter(|b| **b == b'\n').count() as u64;
        }
    }
    let mut lines = Vec::new();
    if let Some(attributes) = request.attributes()
        && !attributes.argv.is_empty()
    {
        let words: Vec<_> = attributes.argv.iter().map(|word| quoted(word)).collect();
        let text = format!("{STREAM_INDENT}$ {}", words.join(" "));
        lines.push(Text::plain(text));
    }
    for (channel, pieces, bytes, frames, hidden) in channels {
        let mut text = format!("{} stream: ", channel_name(channel));
        if frames > 0 {
            text.push_str(&format!("{}, ", when::counted(frames, "frame")));
        }
        let pieces = when::counted(pieces, "piece");
        match hidden {
            // How long an encrypted piece is would be no help to anybody.
            true => text.push_str(&pieces),
            false => text.push_str(&format!("{} in {pieces}", when::bytes(bytes))),
        }
        lines.push(Text::styled(Style::Dim, format!("{STREAM_INDENT}{text}")));
    }
    lines.extend(copied_lines(request));
    if let Some(code) = request.outcome.as_ref().and_then(|o| o.exit_code) {
        let style = if code == 0 { Style::Dim } else { Style::Warn };
        lines.push(Text::styled(
            style,
            format!("{STREAM_INDENT}exit code {code}"),
        ));
    }
    lines
}

/// One line for each file that was copied, as far as people read.
fn copied_lines(request: &Request) -> Vec<Text> {
    let Some((way, files)) = copied::files(request) else {
        return Vec::new();
    };
    let way = match way {
        Way::FromPod => "copied out",
        Way::ToPod => "copied in",
    };
    let mut lines = Vec::new();
    for file in files.iter().take(COPIED_LINES_MAX) {
        let mut text = format!(
            "{STREAM_INDENT}{way}: {}, {}",
            file.path,
            when::bytes(file.bytes)
        );
        if let Some(sha256) = file.sha256 {
            text.push_str(&format!(", sha256 {sha256}"));
        }
        lines.push(Text::plain(text));
    }
    if let Some(more) = files.len().checked_sub(COPIED_LINES_MAX + 1) {
        let more = when::counted(more as u64 + 1, "file");
        let text = format!("{STREAM_INDENT}{way}: {more} more");
        lines.push(Text::styled(Style::Dim, text));
    }
    lines
}

/// A word of a command line as a shell would read it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''")).into()
}

fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Watch => "watch",
        Channel::Log => "log",
        Channel::Stdin => "stdin",
        Channel::Stdout => "stdout",
        Channel::Stderr => "stderr",
        Channel::Error => "status",
        Channel::PortIn => "to port",
        Channel::PortOut => "from port",
        Channel::Opaque => "opaque",
    }
}

fn stream_lines(stream: &[StreamData]) -> Vec<Text> {
    let mut lines = Vec::new();
    let has_channels = stream.iter().any(|data| data.channel != stream[0].channel);
    let mut last = None;
    for data in stream {
        let hidden = content::unreadable(data);
        if let Some(why) = &hidden {
            // Once is enough.
            if last != hidden {
                lines.push(Text::styled(Style::Warn, format!("[{why}]")));
            }
            last = hidden;
            continue;
        }
        last = None;
        let mut at = format!("+{} ", when::duration(data.at_us));
        if has_channels {
            at.push_str(&format!("{:<9} ", channel_name(data.channel)));
        }
        match content::piece(data.encoding, &data.content).map(String::from_utf8) {
            Some(Ok(text)) => {
                for line in text.lines() {
                    lines.push(Text::styled(Style::Dim, &at).with(Style::Plain, line));
                }
            }
            Some(Err(e)) => {
                let text = format!("({} bytes that are no text)", e.as_bytes().len());
                lines.push(Text::styled(Style::Dim, &at).with(Style::Dim, text));
            }
            None => lines.push(Text::styled(Style::Bad, "(a piece that cannot be read)")),
        }
    }
    lines
}

/// Adds the first lines of a body, and says how many there are more.
fn clipped(lines: &mut Vec<Text>, body: Vec<Text>, options: Options) {
    let more = body.len().saturating_sub(options.body_lines_max);
    for line in body.iter().take(options.body_lines_max) {
        let mut indented = Text::styled(Style::Dim, INDENT);
        indented.append(line);
        lines.push(indented.clip(options.width));
    }
    if more > 0 {
        let text = format!("{INDENT}… {more} lines more (--lines {})", body.len());
        lines.push(Text::styled(Style::Dim, text));
    }
}
