//! Who asks: client certificate, bearer token, and impersonation on top.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use rustls::crypto::aws_lc_rs;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::status::Failure;

/// A user as authenticated, or as impersonated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) username: String,
    pub(super) uid: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

/// Who asks, and who acts for them.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) acting: Identity,
    pub(super) impersonated_by: Option<String>,
}

/// Bearer tokens issued by this cluster.
#[derive(Debug)]
pub(super) struct Tokens {
    seed: [u8; 32],
    issued: AtomicU64,
    holders: Mutex<HashMap<String, Identity>>,
}

impl Tokens {
    pub(super) fn new() -> io::Result<Self> {
        let mut seed = [0; 32];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut seed)
            .map_err(|_| io::Error::other("no randomness"))?;
        Ok(Self {
            seed,
            issued: AtomicU64::new(0),
            holders: Mutex::default(),
        })
    }

    /// A new token for this user.
    pub(super) fn issue(&self, user: &str, groups: &[&str]) -> String {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new_with_prefix(self.seed);
        hash.update(number.to_be_bytes());
        let token = format!("sample.{:x}", HexDigest(hash.finalize().into()));
        let identity = Identity {
            username: user.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Identity::default()
        };
        self.holders.lock().insert(token.clone(), identity);
        token
    }

    /// Who holds this token.
    pub(super) fn holder(&self, token: &str) -> Option<Identity> {
        self.holders.lock().get(token).cloned()
    }
}

/// Thirty-two bytes that format as hexadecimal.
struct HexDigest([u8; 32]);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The user of a client certificate: common name and organisations.
pub(super) fn of_certificate(der: &[u8]) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let username = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok().map(str::to_owned))
        .collect();
    Some(Identity {
        username,
        groups,
        ..Identity::default()
    })
}

/// Authenticates a request and applies its impersonation headers.
pub(super) fn authenticate(
    headers: &HeaderMap,
    certificate: Option<&Identity>,
    tokens: &Tokens,
    impersonation_refused: bool,
) -> Result<Caller, Failure> {
    let mut identity = match bearer(headers) {
        Some(token) => tokens.holder(token).ok_or_else(Failure::unauthorized)?,
        None => match certificate {
            Some(identity) => identity.clone(),
            None => {
                return Err(Failure::forbidden(
                    "forbidden: User \"system:anonymous\" cannot use the sample cluster",
                ));
            }
        },
    };
    add_group(&mut identity);
    let Some(mut impersonated) = impersonated(headers)? else {
        return Ok(Caller {
            acting: identity,
            impersonated_by: None,
        });
    };
    if impersonation_refused {
        return Err(Failure::forbidden(&format!(
            "users \"{}\" is forbidden: User \"{}\" cannot impersonate resource \"users\" in API group \"\" at the \
             cluster scope",
            impersonated.username, identity.username
        )));
    }
    add_group(&mut impersonated);
    Ok(Caller {
        acting: impersonated,
        impersonated_by: Some(identity.username),
    })
}

/// The bearer token, parsed as the API server does: two fields, the scheme in any case.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.starts_with(' '))
        .then_some(token)
}

/// The user that the headers ask to be; an error when they ask for half of one.
fn impersonated(headers: &HeaderMap) -> Result<Option<Identity>, Failure> {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut identity = Identity {
        username: text("impersonate-user").unwrap_or_default(),
        uid: text("impersonate-uid"),
        ..Identity::default()
    };
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if name == "impersonate-group" {
            identity.groups.push(value);
        } else if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
            identity.extra.entry(key).or_default().push(value);
        }
    }
    if !identity.username.is_empty() {
        return Ok(Some(identity));
    }
    if identity == Identity::default() {
        return Ok(None);
    }
    Err(Failure::bad_request(
        "requested impersonation of a group, uid or extra without impersonating a user",
    ))
}

fn add_group(identity: &mut Identity) {
    let groups = ["system:authenticated", "system:unauthenticated"];
    if !identity.groups.iter().any(|g| groups.contains(&g.as_str())) {
        identity.groups.push(groups[0].to_owned());
    }
}
