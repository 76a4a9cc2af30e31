//! A login in the browser of this machine: authorisation code with PKCE (RFC 6749 §4.1, RFC 7636, RFC 8252).

use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

use super::callback::Callback;
use super::issuer::{Issuer, IssuerError};
use super::settings::Settings;
use super::{LoginError, Tokens};
use crate::config::{Environment, Secret};
use crate::data_dir::random;
use crate::output;

/// How long a person may take: to find the password, and the telephone for the second factor.
pub(super) const LOGIN_WAIT: Duration = Duration::from_secs(180);

/// What proves, when the code is exchanged, that whoever has it also asked for it (RFC 7636).
pub(super) struct Pkce {
    /// The verifier.
    pub(super) verifier: Secret<String>,
    /// Its SHA-256, for the method `S256`.
    pub(super) challenge: String,
}

impl Pkce {
    /// A new one.
    pub(super) fn new() -> Result<Self, LoginError> {
        // 32 bytes make 43 characters, the least that RFC 7636 §4.1 allows, and what it recommends.
        Ok(Self::of(random_text::<32>()?))
    }

    fn of(verifier: Secret<String>) -> Self {
        let digest = Sha256::digest(verifier.reveal().as_bytes());
        Self {
            challenge: URL_SAFE_NO_PAD.encode(digest),
            verifier,
        }
    }
}

/// Lets a person log in in the browser.
pub(super) async fn log_in(
    issuer: &Issuer,
    settings: &Settings,
    environment: &Environment,
) -> Result<Tokens, LoginError> {
    let callback = Callback::bind(&settings.redirects).await?;
    let redirect_uri = callback.redirect_uri().to_owned();
    let pkce = Pkce::new()?;
    let (state, nonce) = (random_text::<16>()?, random_text::<16>()?);
    let page = issuer.authorization(&[
        ("response_type", "code"),
        ("redirect_uri", &redirect_uri),
        ("state", state.reveal()),
        ("nonce", nonce.reveal()),
        ("code_challenge", &pkce.challenge),
        ("code_challenge_method", "S256"),
    ])?;
    let opened = open(&page, environment);
    output::notice(&match opened {
        true => format!("log in in the browser; if it shows no page, open {page}"),
        false => format!("open this page in a browser of this machine to log in: {page}"),
    });
    let code = tokio::time::timeout(LOGIN_WAIT, callback.code(state, issuer.url()))
        .await
        .map_err(|_| LoginError::Nobody)??;
    let tokens = issuer
        .tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code.reveal()),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", pkce.verifier.reveal()),
        ])
        .await?;
    if !tokens.id_token.answers(&nonce) {
        let why = "answers another login (nonce)".to_owned();
        return Err(IssuerError::IdToken(why).into());
    }
    Ok(tokens)
}

/// Starts the browser. False when none can be started.
fn open(page: &Url, environment: &Environment) -> bool {
    commands(page, environment).into_iter().any(|command| {
        let Some((program, arguments)) = command.split_first() else {
            return false;
        };
        // Standard output is for kubectl, and standard input its user's. It is not waited for: it may be the browser
        // itself, which runs for days.
        let started = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        started.is_ok()
    })
}

/// What may open a page: `BROWSER`, a list of commands with `:` between them and perhaps `%s` for the page, else the
/// system's own. No shell reads them.
fn commands(page: &Url, environment: &Environment) -> Vec<Vec<String>> {
    let own = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let named = environment.get("BROWSER").filter(|text| !text.is_empty());
    let with_page = |command: &str| {
        let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if !command.contains("%s") {
            words.push("%s".to_owned());
        }
        words
            .iter()
            .map(|word| word.replace("%s", page.as_str()))
            .collect()
    };
    let commands = named.map_or(own, String::as_str).split(':');
    commands
        .filter(|c| !c.trim().is_empty())
        .map(with_page)
        .collect()
}

/// Random bytes as a text that may stand in a URL.
fn random_text<const N: usize>() -> Result<Secret<String>, LoginError> {
    let bytes = random::<N>().map_err(LoginError::Random)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let pkce = Pkce::of(Secret::new(verifier.into()));
        assert_eq!(
            pkce.challenge,
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        let (one, other) = (Pkce::new().unwrap(), Pkce::new().unwrap());
        assert_ne!(one.challenge, other.challenge);
        assert_eq!(one.verifier.reveal().len(), 43);
    }

    #[test]
    fn the_browser_is_the_one_that_is_named() {
        let page = Url::parse("https://id/?a=b&c=d").unwrap();
        let of = |named: &str| {
            let environment = Environment::from([("BROWSER".into(), named.into())]);
            commands(&page, &environment)
        };
        assert_eq!(of("firefox"), [["firefox", page.as_str()]]);
        assert_eq!(
            of("w3m -o x=1 %s:chromium --app=%s"),
            [
                vec!["w3m", "-o", "x=1", page.as_str()],
                vec!["chromium", "--app=https://id/?a=b&c=d"]
            ]
        );
        assert_eq!(of("").len(), 1);
    }
}
