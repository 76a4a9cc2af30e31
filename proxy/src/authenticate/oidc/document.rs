//! The file of an authentication configuration: the words, and the checks, of the API server's own
//! (`apiserver.config.k8s.io/v1`), so that one file serves both.

use std::collections::HashSet;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;

use super::expression::Expression;
use super::rules::{ClaimRule, Mapping, Rule, Rules};
use crate::yaml::{self, Entries, Mistake, Mistakes, Node};

/// The most issuers, as in the API server.
const ISSUERS_MAX: usize = 64;

const API_VERSIONS: [&str; 3] = [
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
];

/// Whose ID tokens are accepted, and who their holders are.
#[derive(Debug, Default)]
pub struct AuthenticationConfiguration {
    pub(super) issuers: Vec<IssuerConfig>,
}

/// One issuer.
#[derive(Debug)]
pub(super) struct IssuerConfig {
    /// Exactly what tokens have as `iss`.
    pub(super) url: String,
    /// Where its discovery document is.
    pub(super) discovery: Url,
    /// Who certifies it; empty for the authorities of this machine.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Of which a token must have one.
    pub(super) audiences: Vec<String>,
    pub(super) rules: Rules,
}

/// Everything that is wrong with an authentication configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct AuthenticationErrors(pub Vec<AuthenticationError>);

/// One thing that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct AuthenticationError {
    /// Line, counted from 1; 0 where it is not known.
    pub line: u64,
    /// What was found, and what was meant.
    pub message: String,
}

impl From<Mistakes> for AuthenticationErrors {
    fn from(mistakes: Mistakes) -> Self {
        let error = |Mistake { line, message }| AuthenticationError { line, message };
        Self(mistakes.into_sorted().into_iter().map(error).collect())
    }
}

impl AuthenticationConfiguration {
    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AuthenticationErrors> {
        let root = yaml::read(text)?;
        let mut mistakes = Mistakes::default();
        let issuers = read(&root, &mut mistakes);
        mistakes.into_result()?;
        Ok(Self { issuers })
    }

    /// Number of issuers.
    pub fn issuers(&self) -> usize {
        self.issuers.len()
    }
}

fn read(root: &Node, mistakes: &mut Mistakes) -> Vec<IssuerConfig> {
    let known = ["apiVersion", "kind", "jwt", "anonymous"];
    let Some(entries) = mistakes.map(root, "the file", &known) else {
        return Vec::new();
    };
    let versions = API_VERSIONS.map(|version| (version, ()));
    let kinds = [("AuthenticationConfiguration", ())];
    if let Some(node) = entries.require("apiVersion", mistakes) {
        mistakes.choice(node, "apiVersion", &versions);
    }
    if let Some(node) = entries.require("kind", mistakes) {
        mistakes.choice(node, "kind", &kinds);
    }
    if let Some(node) = entries.get("anonymous") {
        anonymous(node, mistakes);
    }
    let Some(jwt) = entries.get("jwt") else {
        return Vec::new();
    };
    let items = mistakes.list(jwt, "jwt");
    if items.len() > ISSUERS_MAX {
        mistakes.note(jwt.line, format!("there are at most {ISSUERS_MAX} issuers"));
    }
    let (mut urls, mut discoveries) = (HashSet::new(), HashSet::new());
    let mut issuers = Vec::new();
    for item in items {
        let Some(issuer) = issuer(item, mistakes) else {
            continue;
        };
        if !urls.insert(issuer.url.clone()) {
            mistakes.note(
                item.line,
                format!("the issuer {:?} is there twice", issuer.url),
            );
        } else if !discoveries.insert(issuer.discovery.clone()) {
            mistakes.note(
                item.line,
                format!("the discovery URL {} is there twice", issuer.discovery),
            );
        }
        issuers.push(issuer);
    }
    issuers
}

fn anonymous(node: &Node, mistakes: &mut Mistakes) {
    let Some(entries) = mistakes.map(node, "anonymous", &["enabled", "conditions"]) else {
        return;
    };
    if let Some(enabled) = entries.get("enabled")
        && mistakes.text(enabled, "enabled") != Some("false")
    {
        mistakes.note(
            enabled.line,
            "nobody passes this gateway unknown: \"enabled\" must be false",
        );
    }
}

fn issuer(node: &Node, mistakes: &mut Mistakes) -> Option<IssuerConfig> {
    let known = [
        "issuer",
        "claimValidationRules",
        "claimMappings",
        "userValidationRules",
    ];
    let entries = mistakes.map(node, "an issuer's entry", &known)?;
    let claim_rules = claim_rules(&entries, mistakes);
    let user_rules = user_rules(&entries, mistakes);
    let mappings = entries.require("claimMappings", mistakes);
    let mapped = mappings.and_then(|mappings| {
        let rules = claim_mappings(mappings, claim_rules, user_rules, mistakes)?;
        check_email(&rules, mappings.line, mistakes);
        Some(rules)
    });
    let known = [
        "url",
        "discoveryURL",
        "certificateAuthority",
        "audiences",
        "audienceMatchPolicy",
    ];
    let node = entries.require("issuer", mistakes)?;
    let entries = mistakes.map(node, "issuer", &known)?;
    let url = entries.require("url", mistakes);
    let discovery = entries.get("discoveryURL");
    let discovery = discovery.and_then(|node| https(node, "discoveryURL", mistakes));
    let issued = url.and_then(|node| https(node, "url", mistakes));
    let text = url.and_then(|node| mistakes.text(node, "url"));
    let authorities = authorities(&entries, mistakes);
    let audiences = audiences(&entries, mistakes);
    let default = format!(
        "{}/.well-known/openid-configuration",
        text?.trim_end_matches('/')
    );
    issued?;
    Some(IssuerConfig {
        url: text?.to_owned(),
        discovery: discovery.or_else(|| Url::parse(&default).ok())?,
        authorities,
        audiences,
        rules: mapped?,
    })
}

/// A URL that keys may come from.
fn https(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Url> {
    let text = mistakes.text(node, key)?;
    let url = Url::parse(text).ok().filter(|url| {
        let plain = url.query().is_none() && url.fragment().is_none();
        let no_user = url.username().is_empty() && url.password().is_none();
        url.scheme() == "https" && url.host().is_some() && plain && no_user
    });
    if url.is_none() {
        mistakes.note(
            node.line,
            format!(
                "\"{key}\" must be an https:// URL without user, query and fragment, found \"{}\"",
                text.chars().take(200).collect::<String>()
            ),
        );
    }
    url
}

fn authorities(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<CertificateDer<'static>> {
    let Some(node) = entries.get("certificateAuthority") else {
        return Vec::new();
    };
    let Some(pem) = mistakes
        .text(node, "certificateAuthority")
        .filter(|pem| !pem.is_empty())
    else {
        return Vec::new();
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = read.unwrap_or_default();
    let mut roots = rustls::RootCertStore::empty();
    let usable = certificates
        .iter()
        .all(|one| roots.add(one.clone()).is_ok());
    if certificates.is_empty() || !usable {
        let message = "\"certificateAuthority\" must be certificates in PEM, the text itself and not a file name";
        mistakes.note(node.line, message);
    }
    certificates
}

fn audiences(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<String> {
    let Some(node) = entries.require("audiences", mistakes) else {
        return Vec::new();
    };
    let texts = entries.texts("audiences", mistakes).unwrap_or_default();
    let mut audiences: Vec<String> = Vec::new();
    for (text, line) in texts {
        if text.is_empty() || audiences.iter().any(|other| other == text) {
            mistakes.note(
                line,
                format!("the audience \"{text}\" is empty or there twice"),
            );
        }
        audiences.push(text.to_owned());
    }
    if audiences.is_empty() {
        mistakes.note(
            node.line,
            "an issuer needs at least one audience, such as the client id",
        );
    }
    let policy = entries.get("audienceMatchPolicy");
    if let Some(policy) = policy {
        mistakes.choice(policy, "audienceMatchPolicy", &[("MatchAny", ()), ("", ())]);
    } else if audiences.len() > 1 {
        mistakes.note(
            node.line,
            "several audiences need \"audienceMatchPolicy: MatchAny\"",
        );
    }
    audiences
}

fn claim_rules(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<ClaimRule> {
    let Some(node) = entries.get("claimValidationRules") else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    let mut seen = HashSet::new();
    for item in mistakes.list(node, "claimValidationRules") {
        let known = ["claim", "requiredValue", "expression", "message"];
        let Some(entries) = mistakes.map(item, "a claim validation rule", &known) else {
            continue;
        };
        let claim = entries
            .get("claim")
            .and_then(|claim| mistakes.text(claim, "claim"));
        let key = claim.or_else(|| match &entries.get("expression")?.value {
            yaml::Value::Scalar(text) => Some(text),
            _ => None,
        });
        if key.is_some_and(|key| !seen.insert(key)) {
            mistakes.note(item.line, "this claim validation rule is there twice");
        }
        let pairs = [
            ("claim", "expression"),
            ("claim", "message"),
            ("requiredValue", "expression"),
        ];
        for (one, other) in pairs {
            if entries.get(one).is_some() && entries.get(other).is_some() {
                mistakes.note(
                    item.line,
                    format!("\"{one}\" and \"{other}\" do not go together"),
                );
            }
        }
        if let Some(claim) = claim {
            let value = entries.get("requiredValue");
            let value = value.and_then(|value| mistakes.text(value, "requiredValue"));
            rules.push(ClaimRule::Required {
                claim: claim.to_owned(),
                value: value.unwrap_or_default().to_owned(),
            });
        } else {
            rules.extend(rule(&entries, "claims", mistakes).map(ClaimRule::Holds));
        }
    }
    rules
}

fn user_rules(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<Rule> {
    let Some(node) = entries.get("userValidationRules") else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    for item in mistakes.list(node, "userValidationRules") {
        let known = ["expression", "message"];
        if let Some(entries) = mistakes.map(item, "a user validation rule", &known) {
            rules.extend(rule(&entries, "user", mistakes));
        }
    }
    rules
}

fn rule(entries: &Entries<'_>, variable: &'static str, mistakes: &mut Mistakes) -> Option<Rule> {
    let message = entries.get("message");
    let message = message.and_then(|message| mistakes.text(message, "message"));
    let node = entries.require("expression", mistakes)?;
    Some(Rule {
        expression: expression(node, "expression", variable, mistakes)?,
        message: message
            .filter(|message| !message.is_empty())
            .map(str::to_owned),
    })
}

fn expression(
    node: &Node,
    key: &str,
    variable: &'static str,
    mistakes: &mut Mistakes,
) -> Option<Expression> {
    let text = mistakes.text(node, key)?;
    let compiled = Expression::compile(text, &[variable]);
    compiled
        .map_err(|why| mistakes.note(node.line, format!("the expression in \"{key}\" {why}")))
        .ok()
}

fn claim_mappings(
    node: &Node,
    claim_rules: Vec<ClaimRule>,
    user_rules: Vec<Rule>,
    mistakes: &mut Mistakes,
) -> Option<Rules> {
    let entries = mistakes.map(
        node,
        "claimMappings",
        &["username", "groups", "uid", "extra"],
    )?;
    let username = entries.require("username", mistakes);
    let username = username.and_then(|node| mapping(node, "username", true, mistakes));
    let mut optional = |key, prefixed| {
        let node = entries.get(key)?;
        mapping(node, key, prefixed, mistakes)
    };
    let (groups, uid) = (optional("groups", true), optional("uid", false));
    let extra = entries.get("extra").map(|node| extra(node, mistakes));
    Some(Rules {
        claim_rules,
        username: username?,
        groups,
        uid,
        extra: extra.unwrap_or_default(),
        user_rules,
    })
}

fn mapping(
    node: &Node,
    what: &'static str,
    prefixed: bool,
    mistakes: &mut Mistakes,
) -> Option<Mapping> {
    let known: &[&str] = match prefixed {
        true => &["claim", "prefix", "expression"],
        false => &["claim", "expression"],
    };
    let entries = mistakes.map(node, what, known)?;
    match (entries.get("claim"), entries.get("expression")) {
        (Some(claim), None) => {
            let claim = mistakes.text(claim, "claim")?.to_owned();
            let prefix = if prefixed {
                let message = format!(
                    "\"{what}\" needs a \"prefix\" with its claim; write prefix: \"\" for none"
                );
                match entries.get("prefix") {
                    None => {
                        mistakes.note(node.line, message);
                        return None;
                    }
                    // YAML's empty value is an empty text here.
                    Some(Node {
                        value: yaml::Value::Null,
                        ..
                    }) => "",
                    Some(prefix) => mistakes.text(prefix, "prefix")?,
                }
            } else {
                ""
            };
            Some(Mapping::Claim {
                claim,
                prefix: prefix.to_owned(),
            })
        }
        (None, Some(node)) => {
            if let Some(prefix) = entries.get("prefix") {
                mistakes.note(
                    prefix.line,
                    "\"prefix\" goes with a claim; put it into the expression",
                );
            }
            expression(node, "expression", "claims", mistakes).map(Mapping::Expression)
        }
        _ => {
            mistakes.note(
                node.line,
                format!("\"{what}\" needs either a claim or an expression"),
            );
            None
        }
    }
}

fn extra(node: &Node, mistakes: &mut Mistakes) -> Vec<(String, Expression)> {
    let mut extra: Vec<(String, Expression)> = Vec::new();
    for item in mistakes.list(node, "extra") {
        let Some(entries) = mistakes.map(item, "an extra", &["key", "valueExpression"]) else {
            continue;
        };
        let key = entries.require("key", mistakes);
        let value = entries.require("valueExpression", mistakes);
        let value = value.and_then(|node| expression(node, "valueExpression", "claims", mistakes));
        let Some(key) = key.and_then(|key| mistakes.text(key, "key")) else {
            continue;
        };
        if let Some(why) = unfit_key(key) {
            mistakes.note(item.line, format!("the key \"{key}\" {why}"));
        } else if extra.iter().any(|(other, _)| other == key) {
            mistakes.note(item.line, format!("the key \"{key}\" is there twice"));
        }
        extra.extend(value.map(|value| (key.to_owned(), value)));
    }
    extra
}

/// Why a text is no key of `extra`, if it is none.
fn unfit_key(key: &str) -> Option<&'static str> {
    let form = "must be lower case and begin with a domain, as in example.com/team";
    let Some((domain, path)) = key.split_once('/') else {
        return Some(form);
    };
    let in_domain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let in_path = |c: char| in_domain(c) || matches!(c, '_' | '/' | '~' | ':' | '@');
    if domain.is_empty()
        || path.is_empty()
        || !domain.chars().all(in_domain)
        || !path.chars().all(in_path)
    {
        return Some(form);
    }
    let reserved = |owner: &str| domain == owner || domain.ends_with(&format!(".{owner}"));
    (reserved("k8s.io") || reserved("kubernetes.io"))
        .then_some("is in a domain that belongs to Kubernetes")
}

/// As the API server: whoever makes the user's name from `email` has to look at `email_verified` as well.
fn check_email(rules: &Rules, line: u64, mistakes: &mut Mistakes) {
    let Mapping::Expression(username) = &rules.username else {
        return;
    };
    let verified = |expression: &Expression| expression.reads("claims", "email_verified");
    let checked = verified(username)
        || rules
            .extra
            .iter()
            .any(|(_, expression)| verified(expression))
        || rules.claim_rules.iter().any(|rule| match rule {
            ClaimRule::Holds(rule) => verified(&rule.expression),
            ClaimRule::Required { .. } => false,
        });
    if username.reads("claims", "email") && !checked {
        mistakes.note(
            line,
            "a username expression that reads claims.email needs a look at claims.email_verified: in itself, in an extra, \
             or in a claim validation rule",
        );
    }
}

#[cfg(test)]
mod tests;
