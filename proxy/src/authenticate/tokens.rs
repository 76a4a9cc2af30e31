//! Static bearer tokens, for break-glass users and robots. The file holds only hashes:
//!
//! ```yaml
//! tokens:
//!   - name: alice
//!     groups: [developers]
//!     sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08   # of the token's bytes
//!     expires: 2027-01-01T00:00:00Z                                              # optional
//!     break_glass: true                                                          # optional: for emergencies only
//! ```
//!
//! Tokens must be random and long (32 bytes or more): the hash is plain SHA-256, since it is computed per request.

use hoop_schema::kinds::request::{AuthMethod, User};
use hoop_schema::{EventHash, Timestamp};
use serde::Deserialize;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{Identity, Unauthenticated};

/// The most tokens of a file: every request compares with all of them, at some 10 ns each.
pub(super) const TOKENS_MAX: usize = 1000;

/// The tokens that are accepted, by their hashes.
#[derive(Debug, Clone, Default)]
pub struct StaticTokens {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
struct Token {
    sha256: [u8; 32],
    expires: Option<Timestamp>,
    identity: Identity,
}

/// Why a token file is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// Not YAML of the expected shape.
    #[error("the token file cannot be read")]
    Syntax(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too many entries.
    #[error("the token file has {0} tokens; at most {TOKENS_MAX} are allowed")]
    TooMany(usize),
    /// One entry is wrong.
    #[error("token {number} ({name}): {why}")]
    Entry {
        /// Which, counted from 1.
        number: usize,
        /// Whose.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    sha256: String,
    #[serde(default)]
    expires: Option<String>,
    /// Every request of it is marked in the record.
    #[serde(default)]
    break_glass: bool,
}

impl StaticTokens {
    /// Reads the content of a token file.
    ///
    /// # Errors
    /// When it is not of the form above, names a `system:` user or group, or has a token twice.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let file: File =
            serde_saphyr::from_str(text).map_err(|e| TokenFileError::Syntax(Box::new(e)))?;
        if file.tokens.len() > TOKENS_MAX {
            return Err(TokenFileError::TooMany(file.tokens.len()));
        }
        let mut tokens: Vec<Token> = Vec::with_capacity(file.tokens.len());
        for (i, entry) in file.tokens.into_iter().enumerate() {
            let name = entry.name.clone();
            let wrong = |why: String| TokenFileError::Entry {
                number: i + 1,
                name: name.clone(),
                why,
            };
            let token = Token::read(entry).map_err(wrong)?;
            if tokens.iter().any(|other| other.sha256 == token.sha256) {
                return Err(wrong("the same token is listed before".into()));
            }
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    /// Whose token this is, by its SHA-256; `None` when it is none of these. Takes the same time whichever matches.
    pub(crate) fn find(
        &self,
        presented: &[u8; 32],
        now: Timestamp,
    ) -> Option<Result<Identity, Unauthenticated>> {
        let mut found = u64::MAX;
        for (i, token) in self.tokens.iter().enumerate() {
            let equal = token.sha256.ct_eq(presented);
            found.conditional_assign(&(i as u64), equal);
        }
        let token = usize::try_from(found)
            .ok()
            .and_then(|i| self.tokens.get(i))?;
        if token.expires.is_some_and(|expires| expires <= now) {
            return Some(Err(Unauthenticated("the bearer token has expired".into())));
        }
        Some(Ok(token.identity.clone()))
    }
}

impl Token {
    fn read(entry: Entry) -> Result<Self, String> {
        let sha256: EventHash = entry
            .sha256
            .to_ascii_lowercase()
            .parse()
            .map_err(|_| "sha256 must be the 64 hexadecimal digits of the token's SHA-256")?;
        let expires = entry
            .expires
            .map(|text| text.parse::<Timestamp>())
            .transpose()
            .map_err(|_| "expires must be a time such as 2027-01-01T00:00:00Z")?;
        let user = User {
            username: entry.name,
            groups: entry.groups,
            ..User::default()
        };
        // A name for the token that tells nothing about it: the hash of its hash.
        let login = EventHash::of(sha256.as_bytes()).to_string()[..16].to_owned();
        let identity = Identity::new(user, AuthMethod::StaticToken, Some(login.into()))
            .map_err(|Unauthenticated(why)| why)?
            .for_emergencies(entry.break_glass);
        let identity = match expires {
            Some(expires) => identity.until(expires),
            None => identity,
        };
        Ok(Self {
            sha256: *sha256.as_bytes(),
            expires,
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> String {
        EventHash::of(token.as_bytes()).to_string()
    }

    #[test]
    fn a_token_is_its_user_until_it_expires() {
        let text = format!(
            "tokens:\n  - {{name: alice, groups: [dev, ops], sha256: {}, expires: 2026-01-01T00:00:00Z}}\n  - {{name: bob, sha256: {}}}\n",
            hash("one"),
            hash("two")
        );
        let tokens = StaticTokens::parse(&text).unwrap();
        let find = |token: &str, now| {
            let hash = EventHash::of(token.as_bytes());
            tokens.find(hash.as_bytes(), now)
        };
        let before = "2025-12-31T23:59:59Z".parse().unwrap();
        let alice = find("one", before).unwrap().unwrap();
        assert_eq!(alice.user.username, "alice");
        assert_eq!(alice.user.groups, ["dev", "ops"]);
        let after = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(
            find("one", after).unwrap().unwrap_err().0,
            "the bearer token has expired"
        );
        assert_eq!(find("two", after).unwrap().unwrap().user.username, "bob");
        assert!(find("three", after).is_none());
        assert!(find("", after).is_none());
        let expires = alice.expires.unwrap();
        assert_eq!(expires, after);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let wrong = |text: &str| StaticTokens::parse(text).unwrap_err().to_string();
        let h = hash("x");
        assert!(wrong("tokens: [{name: a, sha256: abc}]").contains("64 hexadecimal"));
        assert!(
            wrong(&format!("tokens: [{{name: 'system:admin', sha256: {h}}}]")).contains("system:")
        );
        assert!(
            wrong(&format!(
                "tokens: [{{name: a, sha256: {h}, expires: soon}}]"
            ))
            .contains("expires")
        );
        assert!(
            wrong(&format!(
                "tokens: [{{name: a, sha256: {h}}}, {{name: b, sha256: {h}}}]"
            ))
            .starts_with("token 2 (b): the same token")
        );
        assert!(
            StaticTokens::parse(&format!("tokens: [{{name: a, sha256: {h}, token: t}}]")).is_err()
        );
    }
}
