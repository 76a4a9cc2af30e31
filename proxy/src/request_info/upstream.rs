//! The API server's own algorithm, odd results included; [`super::refuse`] says which of them pass.

use hoop_schema::kinds::request::ObjectRef;
use percent_encoding::percent_decode_str;

use super::query::{Query, escapes_are_whole};
use super::selector::ListOptions;

/// What the API server makes of a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) is_resource: bool,
    pub(super) verb: String,
    /// Default when `is_resource` is false.
    pub(super) object: ObjectRef,
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    /// Whether the verb came from a `/watch/` or `/proxy/` prefix of the path.
    pub(super) verb_from_prefix: bool,
    /// How many segments of the path say what it is about; the rest is the tail of a proxy path.
    pub(super) segments: usize,
}

/// The path, percent-decoded once; nothing when an escape is broken.
pub(super) fn decode_path(raw: &str) -> Option<Vec<u8>> {
    escapes_are_whole(raw.as_bytes()).then(|| percent_decode_str(raw).collect())
}

/// `RequestInfoFactory.NewRequestInfo`; nothing where that returns an error.
pub(super) fn attributes(method: &str, path: &[u8], query: &Query) -> Option<Attributes> {
    let path = String::from_utf8_lossy(path);
    let trimmed = path.trim_matches('/');
    let all: Vec<&str> = if trimmed.is_empty() {
        Vec::new()
    } else {
        trimmed.split('/').collect()
    };
    let mut info = Attributes {
        verb: method.to_lowercase(),
        segments: all.len(),
        ..Attributes::default()
    };
    let mut rest = match all.as_slice() {
        [_, _] | [_] | [] => return Some(info),
        ["api", rest @ ..] => rest,
        ["apis", group, rest @ ..] if rest.len() >= 2 => {
            info.object.api_group = (*group).to_owned();
            rest
        }
        _ => return Some(info),
    };
    info.is_resource = true;
    info.object.api_version = rest[0].to_owned();
    rest = &rest[1..];
    if let [prefix @ ("proxy" | "watch"), after @ ..] = rest {
        if after.is_empty() {
            return None;
        }
        info.verb = (*prefix).to_owned();
        info.verb_from_prefix = true;
        rest = after;
    } else {
        info.verb = verb_of(method).to_owned();
    }
    if let ["namespaces", namespace, after @ ..] = rest {
        info.object.namespace = (*namespace).to_owned();
        if after
            .first()
            .is_some_and(|part| !matches!(*part, "status" | "finalize"))
        {
            rest = after;
        }
    }
    let parts = rest;
    let part = |i: usize| {
        parts
            .get(i)
            .map_or(String::new(), |part| (*part).to_owned())
    };
    info.object.resource = part(0);
    info.object.name = part(1);
    if info.verb != "proxy" {
        info.object.subresource = part(2);
    }
    let taken = if info.verb == "proxy" { 2 } else { 3 };
    info.segments = all.len() - parts.len() + parts.len().min(taken);
    read_query(&mut info, query);
    Some(info)
}

fn verb_of(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// List, watch and deletecollection: only here does the query change what a request is about.
fn read_query(info: &mut Attributes, query: &Query) {
    if info.object.name.is_empty() && info.verb == "get" {
        let options = ListOptions::decode(query);
        info.verb = if options.watch { "watch" } else { "list" }.to_owned();
        info.object.name = options.name.unwrap_or_default();
    } else if info.object.name.is_empty() && info.verb == "delete" {
        info.verb = "deletecollection".to_owned();
    }
    let has_selectors = matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
    if has_selectors && !info.verb_from_prefix {
        let value = |key| query.first(key).unwrap_or_default().to_owned();
        info.field_selector = value("fieldSelector");
        info.label_selector = value("labelSelector");
    }
}
