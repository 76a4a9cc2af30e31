//! What values look like: durations, sizes, addresses. An error completes the sentence "… is".

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            "no duration: write a number with its unit, such as 30s, 5m, 12h or 30d".into()
        })
}

/// A size in bytes with its unit.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: u64 = match text[digits.len()..].trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => 0,
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| {
            "no size: write a whole number with its unit, such as 512MiB or 16GiB".into()
        })
}

/// An address to listen at.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "no address: write an IP address with a port, such as 127.0.0.1:8443 or [::]:8443".into()
    })
}

/// `host:port`, as clients write it.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(name, port)| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        (is_host_name(name) || bare.parse::<IpAddr>().is_ok())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        return Ok(text.to_owned());
    }
    Err("no host with a port: write it without https://, such as hoop.example.com:8443".into())
}

/// The host of `host:port`.
pub(super) fn host(text: &str) -> &str {
    let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
    name.trim_start_matches('[').trim_end_matches(']')
}

/// A name or address in a certificate.
pub(super) fn certificate_name(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    if is_host_name(bare) || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("neither a DNS name nor an IP address, such as hoop.example.com".into())
}

/// Whether a text can be a DNS name.
pub(super) fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// `true` or `false`.
/// A number of things, at least one.
pub(super) fn count(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "no number from 1 on".into())
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "neither true nor false".into())
}

/// The URL of a server.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let parsed = url::Url::parse(text).ok();
    let fits = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if fits {
        return Ok(text.to_owned());
    }
    Err("no URL of a server, such as https://minio.example.com:9000".into())
}
