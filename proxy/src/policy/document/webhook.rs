//! Webhooks of the file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use crate::policy::webhook::{FailurePolicy, Webhook};
use crate::yaml::{Entries, Mistakes, Node, suggestion};

/// The most webhooks of a policy: a request may have to wait for each of them.
const WEBHOOKS_MAX: usize = 16;

/// The longest name: it stands in messages and metrics.
const NAME_BYTES_MAX: usize = 63;

/// How long a webhook has where the policy does not say: some round trips, and little beside what a person notices.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time that a webhook may have; the API server's own bound for its authorizers.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// The longest that an answer may be good for: so long does nobody notice that somebody lost a right.
const TTL_MAX: Duration = Duration::from_secs(3600);

const WEBHOOK_KEYS: [&str; 10] = [
    "name",
    "url",
    "certificateAuthority",
    "clientCertificate",
    "clientKey",
    "tokenFile",
    "timeout",
    "failurePolicy",
    "authorizedTTL",
    "unauthorizedTTL",
];

/// The webhooks of a policy, for the rules that name them.
#[derive(Debug, Default)]
pub(super) struct Webhooks(Vec<Arc<Webhook>>);

impl Webhooks {
    /// Reads `webhooks`.
    pub(super) fn read(node: &Node, mistakes: &mut Mistakes) -> Self {
        let mut webhooks: Vec<Arc<Webhook>> = Vec::new();
        let items = mistakes.list(node, "webhooks");
        if items.len() > WEBHOOKS_MAX {
            let message = format!("a policy has at most {WEBHOOKS_MAX} webhooks");
            mistakes.note(node.line, message);
        }
        for item in items {
            let Some(webhook) = read_webhook(item, mistakes) else {
                continue;
            };
            if webhooks.iter().any(|other| other.name == webhook.name) {
                let message = format!("the webhook \"{}\" is there twice", webhook.name);
                mistakes.note(item.line, message);
            }
            webhooks.push(Arc::new(webhook));
        }
        Self(webhooks)
    }

    /// The one that a rule names.
    pub(super) fn named(
        &self,
        entries: &Entries<'_>,
        mistakes: &mut Mistakes,
    ) -> Option<Arc<Webhook>> {
        let node = entries.get("webhook")?;
        let name = mistakes.text(node, "webhook")?;
        let found = self.0.iter().find(|webhook| webhook.name == name);
        if found.is_none() {
            let message = if self.0.is_empty() {
                format!("there is no webhook \"{name}\": the policy defines none in \"webhooks\"")
            } else {
                let meant = suggestion(name, self.0.iter().map(|webhook| webhook.name.as_str()));
                format!("there is no webhook \"{name}\": {meant}")
            };
            mistakes.note(node.line, message);
        }
        found.cloned()
    }

    /// All of them.
    pub(super) fn into_list(self) -> Vec<Arc<Webhook>> {
        self.0
    }
}

fn read_webhook(node: &Node, mistakes: &mut Mistakes) -> Option<Webhook> {
    let entries = mistakes.map(node, "a webhook", &WEBHOOK_KEYS)?;
    let name = entries.require("name", mistakes);
    let name = name.and_then(|node| {
        let name = mistakes.text(node, "name")?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let message = format!("\"name\": a name has 1 to {NAME_BYTES_MAX} bytes");
            mistakes.note(node.line, message);
        }
        Some(name)
    });
    let url = entries.require("url", mistakes);
    let url = url.and_then(|url| read_url(url, mistakes));
    let mut file = |key: &'static str| read_file(&entries, key, mistakes);
    let certificate_authority = file("certificateAuthority");
    let (certificate, key) = (file("clientCertificate"), file("clientKey"));
    let token_file = file("tokenFile");
    if certificate.is_some() != key.is_some() {
        let message = "\"clientCertificate\" and \"clientKey\" go together";
        mistakes.note(node.line, message);
    }
    let has_certificates = certificate_authority.is_some() || certificate.is_some();
    if has_certificates && url.as_ref().is_some_and(|url| url.scheme() == "http") {
        let message = "certificates mean nothing over http: write https, or leave them out";
        mistakes.note(node.line, message);
    }
    let policies = [
        ("Deny", FailurePolicy::Deny),
        ("NoOpinion", FailurePolicy::NoOpinion),
    ];
    let failure_policy = entries
        .get("failurePolicy")
        .and_then(|node| mistakes.choice(node, "failurePolicy", &policies));
    let timeout = read_time(&entries, "timeout", TIMEOUT_MAX, mistakes);
    if timeout == Some(Duration::ZERO) {
        mistakes.note(node.line, "\"timeout\": no webhook answers in no time");
    }
    let authorized_ttl = read_time(&entries, "authorizedTTL", TTL_MAX, mistakes);
    let unauthorized_ttl = read_time(&entries, "unauthorizedTTL", TTL_MAX, mistakes);
    Some(Webhook {
        name: name?.to_owned(),
        url: url?,
        certificate_authority,
        client_certificate: certificate.zip(key),
        token_file,
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        failure_policy: failure_policy.unwrap_or_default(),
        authorized_ttl: authorized_ttl.unwrap_or_default(),
        unauthorized_ttl: unauthorized_ttl.unwrap_or_default(),
        line: node.line,
    })
}

fn read_url(node: &Node, mistakes: &mut Mistakes) -> Option<Url> {
    let text = mistakes.text(node, "url")?;
    let found = Url::parse(text).map_err(|error| error.to_string());
    let url = found.and_then(|url| match unfit(&url) {
        Some(why) => Err(why.to_owned()),
        None => Ok(url),
    });
    url.map_err(|why| mistakes.note(node.line, format!("\"url\": {why}")))
        .ok()
}

/// Why a webhook cannot be there. What it is asked names people, and its answer is believed.
fn unfit(url: &Url) -> Option<&'static str> {
    let Some(host) = url.host() else {
        return Some("write https://HOST/PATH");
    };
    let is_local = match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => IpAddr::V4(ip).is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(ip).is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if is_local => {}
        "http" => return Some("http only goes to this machine: write https"),
        _ => return Some("write https://HOST/PATH"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("a credential does not belong in an address: name a \"tokenFile\"");
    }
    url.fragment().map(|_| "an address of a webhook has no #")
}

/// A file that the gateway reads: by its whole path, since a policy does not know from where it is read.
fn read_file(entries: &Entries<'_>, key: &'static str, mistakes: &mut Mistakes) -> Option<PathBuf> {
    let node = entries.get(key)?;
    let path = PathBuf::from(mistakes.text(node, key)?);
    if path.is_absolute() {
        return Some(path);
    }
    let message = format!("\"{key}\": write the whole path, from / on");
    mistakes.note(node.line, message);
    None
}

/// A time such as `500ms`, `3s` or `5m`.
fn read_time(
    entries: &Entries<'_>,
    key: &'static str,
    max: Duration,
    mistakes: &mut Mistakes,
) -> Option<Duration> {
    let node = entries.get(key)?;
    let text = mistakes.text(node, key)?;
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let time = number.parse().ok().and_then(|number: u64| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    });
    match time {
        None => {
            let message = format!("\"{key}\": \"{text}\" is no time: write 500ms, 3s or 5m");
            mistakes.note(node.line, message);
            None
        }
        Some(time) if time > max => {
            let message = format!("\"{key}\": at most {}s", max.as_secs());
            mistakes.note(node.line, message);
            None
        }
        time => time,
    }
}
