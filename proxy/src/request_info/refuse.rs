//! What the gateway refuses although the API server would give it a meaning.

use super::Malformed;
use super::upstream::{Attributes, decode_path};

/// Methods that may ask for a bare path. A resource takes those that have a verb.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Refuses what is no path at all, before anything is decoded.
pub(super) fn target(raw_path: &str) -> Result<(), Malformed> {
    if !raw_path.starts_with('/') || raw_path.contains('#') {
        return Err(Malformed::NotAPath);
    }
    if raw_path.starts_with("//") {
        return Err(Malformed::EmptySegment);
    }
    Ok(())
}

/// Refuses what could be read in another way than the API server does.
pub(super) fn request(
    method: &str,
    raw_path: &str,
    attributes: &Attributes,
    query_is_clear: bool,
) -> Result<(), Malformed> {
    if !METHODS.contains(&method) || attributes.verb.is_empty() {
        return Err(Malformed::UnknownMethod);
    }
    // `/api/v1/proxy/…` went away with Kubernetes 1.10 and would hide a resource called "proxy"; `/api/v1/watch/…`
    // means a watch whatever the method, but only GET is served.
    if attributes.verb_from_prefix && (attributes.verb == "proxy" || method != "GET") {
        return Err(Malformed::BadPrefix);
    }
    let has_tail = attributes.is_resource && attributes.object.subresource == "proxy";
    let checked = if has_tail {
        attributes.segments
    } else {
        usize::MAX
    };
    segments(raw_path, checked)?;
    if !query_is_clear && !has_tail {
        return Err(Malformed::BadQuery);
    }
    Ok(())
}

/// Checks the first `checked` segments of the path as sent: slashes that only appear by decoding are refused.
fn segments(raw_path: &str, checked: usize) -> Result<(), Malformed> {
    let path = &raw_path[1..];
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(());
    }
    for raw in path.split('/').take(checked) {
        let decoded = decode_path(raw).ok_or(Malformed::BadEncoding)?;
        let segment = std::str::from_utf8(&decoded).map_err(|_| Malformed::BadEncoding)?;
        match segment {
            "" => return Err(Malformed::EmptySegment),
            "." | ".." => return Err(Malformed::DotSegment),
            _ if segment.contains(is_refused) => return Err(Malformed::BadCharacter),
            _ => {}
        }
    }
    Ok(())
}

fn is_refused(c: char) -> bool {
    c.is_control() || matches!(c, '/' | '\\' | '%' | '?' | '#' | ';')
}
