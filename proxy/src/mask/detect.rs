//! Secrets that are known by how they look.
//!
//! A detector is a pattern and, where that says more than the secret, what part of a match is the secret. Prefixes are
//! those that the issuers document, so that a match is rarely anything else; what can only be told by its randomness
//! is not looked for.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::pattern::Pattern;

/// Which part of a match is the secret; nothing when it is none.
pub(super) type SecretPart = fn(&[u8]) -> Option<Range<usize>>;

/// A secret that is known by how it looks.
#[derive(Debug)]
pub struct Detector {
    name: &'static str,
    about: &'static str,
    pattern: &'static str,
    pub(super) part: SecretPart,
    compiled: OnceLock<Arc<Pattern>>,
}

/// All detectors, by name.
pub static DETECTORS: [Detector; 20] = [
    Detector::new(
        "age-key",
        "secret keys of age, as SOPS uses them (`AGE-SECRET-KEY-1…`)",
        r"AGE-SECRET-KEY-1[0-9A-Z]{58}",
        whole,
    ),
    Detector::new(
        "ai-api-key",
        "keys of OpenAI and Anthropic (`sk-…`)",
        r"\bsk-[A-Za-z0-9_-]{20,}",
        whole,
    ),
    Detector::new(
        "authorization-header",
        "the credential of an `Authorization:` header, basic or bearer",
        r#"(?i)authorization["']?:\s*["']?(?:basic|bearer)\s+[A-Za-z0-9+/=._~-]{8,}"#,
        after_last_space,
    ),
    Detector::new(
        "aws-access-key",
        "ids of AWS access keys (`AKIA…`, `ASIA…`)",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
        whole,
    ),
    Detector::new(
        "aws-secret-key",
        "secret access keys of AWS, where the name stands before them",
        r#"(?i)aws_?secret_?(?:access_?)?key["']?\s*[:=]\s*["']?[A-Za-z0-9/+=]{40}"#,
        last_40,
    ),
    Detector::new(
        "connection-string",
        "passwords in URLs (`scheme://user:password@host`) and in `password=…;`",
        r#"://[^\s/?\#:@"'<>]*:[^\s/"'<>]+@|(?i:\b(?:password|passwd|pwd)=[^;\s"'&]+)"#,
        password,
    ),
    Detector::new(
        "credit-card",
        "card numbers whose check digit is right (Luhn)",
        r"\b(?:[2-6]\d{12,18}|[2-6]\d{3}[ -]\d{4}[ -]\d{4}[ -]\d{1,7}|3\d{3}[ -]\d{6}[ -]\d{5})\b",
        luhn,
    ),
    Detector::new(
        "docker-token",
        "access tokens of Docker Hub (`dckr_pat_…`)",
        r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}",
        whole,
    ),
    Detector::new(
        "github-token",
        "tokens of GitHub (`ghp_…`, `github_pat_…` and their kin)",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
        whole,
    ),
    Detector::new(
        "gitlab-token",
        "tokens of GitLab (`glpat-…` and their kin)",
        r"\bgl(?:pat|ptt|dt|rt|rtr|cbt|soat|ft|agent|imt|oas)-[A-Za-z0-9_-]{20,}",
        whole,
    ),
    Detector::new(
        "google-api-key",
        "API keys of Google (`AIzaSy…`)",
        r"\bAIzaSy[A-Za-z0-9_-]{33}",
        whole,
    ),
    Detector::new(
        "hashicorp-token",
        "tokens of Vault and Terraform Cloud (`hvs.…`, `….atlasv1.…`)",
        r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}|\.atlasv1\.[A-Za-z0-9_=-]{40,}",
        whole,
    ),
    Detector::new(
        "jwt",
        "JSON Web Tokens, those of service accounts among them",
        r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        whole,
    ),
    Detector::new(
        "npm-token",
        "access tokens of npm (`npm_…`)",
        r"\bnpm_[A-Za-z0-9]{36}",
        whole,
    ),
    Detector::new(
        "private-key",
        "private keys in PEM, whether all of them is there or only the beginning",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z]-[A-Za-z]|[A-Za-z0-9+/=:,\\\s])*(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?",
        whole,
    ),
    Detector::new(
        "pypi-token",
        "API tokens of PyPI (`pypi-…`)",
        r"\bpypi-AgEIcHlwaS[A-Za-z0-9_-]{30,}",
        whole,
    ),
    Detector::new(
        "sendgrid-key",
        "API keys of SendGrid (`SG.…`)",
        r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
        whole,
    ),
    Detector::new(
        "shopify-token",
        "tokens of Shopify (`shpat_…` and their kin)",
        r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
        whole,
    ),
    Detector::new(
        "slack-token",
        "tokens of Slack (`xoxb-…` and their kin) and the secret of its webhooks",
        r"\b(?:xox[abeoprs]-|xapp-)[A-Za-z0-9-]{10,}|hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}",
        whole,
    ),
    Detector::new(
        "stripe-key",
        "secret keys of Stripe (`sk_live_…`)",
        r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
        whole,
    ),
];

impl Detector {
    const fn new(
        name: &'static str,
        about: &'static str,
        pattern: &'static str,
        part: SecretPart,
    ) -> Self {
        Self {
            name,
            about,
            pattern,
            part,
            compiled: OnceLock::new(),
        }
    }

    /// The detector of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        DETECTORS.iter().find(|detector| detector.name == name)
    }

    /// As policies call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it finds, for people.
    pub fn about(&self) -> &'static str {
        self.about
    }

    pub(super) fn pattern(&self) -> Arc<Pattern> {
        let compile = || Arc::new(Pattern::parse(self.pattern).expect("a test reads all of them"));
        Arc::clone(self.compiled.get_or_init(compile))
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several functions of a table"
)]
fn whole(text: &[u8]) -> Option<Range<usize>> {
    Some(0..text.len())
}

fn last_40(text: &[u8]) -> Option<Range<usize>> {
    Some(text.len().checked_sub(40)?..text.len())
}

fn after_last_space(text: &[u8]) -> Option<Range<usize>> {
    let space = text.iter().rposition(u8::is_ascii_whitespace)?;
    Some(space + 1..text.len())
}

/// Of `://user:password@` or `password=…`.
fn password(text: &[u8]) -> Option<Range<usize>> {
    let Some(userinfo) = text.strip_prefix(b"://") else {
        let sign = text.iter().position(|byte| *byte == b'=')?;
        return Some(sign + 1..text.len());
    };
    let colon = userinfo.iter().position(|byte| *byte == b':')?;
    Some(3 + colon + 1..text.len() - 1)
}

/// Every second digit from the right counts double; the digits of all of it add up to a multiple of ten.
fn luhn(text: &[u8]) -> Option<Range<usize>> {
    let digits = text.iter().rev().filter(|byte| byte.is_ascii_digit());
    let sum: u32 = digits
        .enumerate()
        .map(|(i, digit)| {
            let digit = u32::from(digit - b'0') * if i % 2 == 0 { 1 } else { 2 };
            digit / 10 + digit % 10
        })
        .sum();
    sum.is_multiple_of(10).then_some(0..text.len())
}
