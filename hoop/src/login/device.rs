//! A login on another device: this one shows a code, and asks the issuer until somebody has entered it (RFC 8628).

use std::time::Duration;

use tokio::time::Instant;

use super::browser::Pkce;
use super::issuer::{DeviceCode, Issuer, IssuerError};
use super::{LoginError, Tokens, shown};
use crate::output;

/// The longest that is waited for a person, whatever the issuer allows. Keycloak allows ten minutes.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// Bounds of the time between two questions.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What `slow_down` adds to it (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// Name of the grant.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    #[error("the login was refused on the other device")]
    Denied,
    #[error("nobody has entered the code in time")]
    Expired,
}

/// How often the issuer is asked, and until when.
#[derive(Debug)]
struct Polling {
    interval: Duration,
    until: Instant,
}

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Ask again after so long.
    Wait(Duration),
    /// There is no use in asking.
    Expired,
    Denied,
    /// It is another failure.
    GiveUp,
}

/// Lets a person log in on another device.
pub(super) async fn log_in(issuer: &Issuer) -> Result<Tokens, LoginError> {
    let pkce = Pkce::new()?;
    // RFC 8628 knows no PKCE, and issuers that insist on it for a client insist on it here as well.
    let code = issuer
        .device_code(&[
            ("code_challenge", &pkce.challenge),
            ("code_challenge_method", "S256"),
        ])
        .await?;
    let mut polling = Polling::of(&code, Instant::now());
    output::notice(&invitation(&code));
    let parameters = [
        ("grant_type", GRANT),
        ("device_code", code.device_code.reveal()),
        ("code_verifier", pkce.verifier.reveal()),
    ];
    let mut wait = polling.interval;
    loop {
        tokio::time::sleep(wait).await;
        let error = match issuer.tokens(&parameters).await {
            Ok(tokens) => return Ok(tokens),
            Err(error) => error,
        };
        wait = match polling.after(&error, Instant::now()) {
            Next::Wait(wait) => wait,
            Next::Denied => return Err(DeviceError::Denied.into()),
            Next::Expired => return Err(DeviceError::Expired.into()),
            Next::GiveUp => return Err(error.into()),
        };
    }
}

impl Polling {
    fn of(code: &DeviceCode, now: Instant) -> Self {
        let (least, most) = INTERVAL;
        Self {
            interval: Duration::from_secs(code.interval).clamp(least, most),
            until: now + Duration::from_secs(code.expires_in).min(WAIT_MAX),
        }
    }

    fn after(&mut self, error: &IssuerError, now: Instant) -> Next {
        let (_, most) = INTERVAL;
        match error.name() {
            Some("authorization_pending") => {}
            Some("slow_down") => self.interval = (self.interval + SLOWER).min(most),
            Some("access_denied") => return Next::Denied,
            Some("expired_token") => return Next::Expired,
            Some(_) => return Next::GiveUp,
            // RFC 8628 §3.5: an issuer that does not answer is asked less often.
            None if matches!(error, IssuerError::Https(_)) => {
                self.interval = (self.interval * 2).min(most);
            }
            None => return Next::GiveUp,
        }
        if now + self.interval > self.until {
            return Next::Expired;
        }
        Next::Wait(self.interval)
    }
}

/// What the person reads. The issuer's words are shown as they are, but for what is no text.
fn invitation(code: &DeviceCode) -> String {
    let (page, user_code) = (shown(&code.verification_uri), shown(&code.user_code));
    let complete = code.verification_uri_complete.as_deref().map(shown);
    match complete {
        Some(complete) => format!(
            "to log in, open {page} on any device and enter the code {user_code}\nor open {complete}"
        ),
        None => format!("to log in, open {page} on any device and enter the code {user_code}"),
    }
}

#[cfg(test)]
mod tests {
    use hoop_proxy::HttpsError;
    use http::StatusCode;
    use url::Url;

    use super::*;
    use crate::config::Secret;

    fn code(expires_in: u64, interval: u64) -> DeviceCode {
        DeviceCode {
            device_code: Secret::new("d".into()),
            user_code: "ABCD\u{1b}[2J".into(),
            verification_uri: "https://id/device".into(),
            verification_uri_complete: None,
            expires_in,
            interval,
        }
    }

    fn refused(error: &str) -> IssuerError {
        IssuerError::Refused {
            error: error.into(),
            description: String::new(),
        }
    }

    fn seconds(seconds: u64) -> Next {
        Next::Wait(Duration::from_secs(seconds))
    }

    #[test]
    fn the_issuer_is_asked_as_often_as_it_likes_until_the_code_expires() {
        let begin = Instant::now();
        let mut polling = Polling::of(&code(60, 5), begin);
        let pending = refused("authorization_pending");
        assert_eq!(polling.after(&pending, begin), seconds(5));
        assert_eq!(polling.after(&refused("slow_down"), begin), seconds(10));
        assert_eq!(polling.after(&pending, begin), seconds(10));
        let url = Url::parse("https://id/token").unwrap();
        let silent = IssuerError::Https(HttpsError::Timeout(url.clone()));
        assert_eq!(polling.after(&silent, begin), seconds(20));
        let late = begin + Duration::from_secs(41);
        assert_eq!(polling.after(&pending, late), Next::Expired);
        for (error, next) in [
            (refused("access_denied"), Next::Denied),
            (refused("expired_token"), Next::Expired),
            (refused("invalid_client"), Next::GiveUp),
            (IssuerError::Answer(url, StatusCode::OK), Next::GiveUp),
            (IssuerError::NoIdToken, Next::GiveUp),
        ] {
            assert_eq!(polling.after(&error, begin), next, "{error}");
        }
    }

    #[test]
    fn what_the_issuer_wants_has_bounds() {
        let begin = Instant::now();
        let greedy = Polling::of(&code(u64::MAX, 0), begin);
        assert_eq!(greedy.interval, INTERVAL.0);
        assert_eq!(greedy.until, begin + WAIT_MAX);
        let mut slow = Polling::of(&code(600, u64::MAX), begin);
        assert_eq!(slow.after(&refused("slow_down"), begin), seconds(60));
    }

    #[test]
    fn what_the_issuer_says_cannot_play_with_the_terminal() {
        assert!(!invitation(&code(60, 5)).contains('\u{1b}'));
    }
}
