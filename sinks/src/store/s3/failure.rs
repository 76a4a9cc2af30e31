//! What the SDK's errors mean for evidence: did it happen, may it be tried again, is it about credentials.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// 404: there is no such object.
    NotFound,
    /// 412: the condition of the request is not met; for a create-only put, there is an object.
    Condition,
    /// 416: the range begins behind the end.
    Range,
    /// The credentials are missing, expired or unknown. Others may be there by now.
    Credentials,
    /// The server does not know what it was asked.
    NotImplemented,
    /// It was refused, and nothing has happened.
    Refused,
    /// Nobody knows whether it happened: 409, 5xx, a time-out, a broken connection.
    Unclear,
}

/// Codes of S3 that speak of the credentials, and that other ones heal.
const CREDENTIAL_CODES: [&str; 9] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Codes of S3 with a status of 4xx that do not say that nothing has happened.
const UNCLEAR_CODES: [&str; 3] = ["RequestTimeout", "SlowDown", "Throttling"];

/// A request that did not go well.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) meaning: Meaning,
    /// What the server calls it; a HEAD has no room for it.
    pub(super) code: Option<String>,
    status: Option<u16>,
    text: String,
}

impl Failure {
    /// Reads an error of the SDK.
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let status = error.raw_response().map(|r| r.status().as_u16());
        let code = error.code().map(str::to_owned);
        let meaning = match &error {
            SdkError::ConstructionFailure(_) => Meaning::Refused,
            SdkError::ServiceError(_) => meaning_of(status.unwrap_or_default(), code.as_deref()),
            _ => Meaning::Unclear,
        };
        let meaning = if lacks_credentials(&error) {
            Meaning::Credentials
        } else {
            meaning
        };
        let text = match error.message() {
            Some(message) => message.to_owned(),
            None => chain(&error),
        };
        Self {
            meaning,
            code,
            status,
            text,
        }
    }

    /// Whether the server calls it this.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether the identity may not do this.
    pub(super) fn is_denied(&self) -> bool {
        self.is("AccessDenied") || (self.code.is_none() && self.status == Some(403))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.meaning == Meaning::Credentials {
            write!(
                f,
                "the credentials are missing, expired or not allowed to; renew them, they are read again: "
            )?;
        }
        match (&self.code, self.status) {
            (Some(code), Some(status)) => write!(f, "{code} ({status}): {}", self.text),
            (None, Some(status)) => write!(f, "HTTP status {status}"),
            _ => f.write_str(&self.text),
        }
    }
}

impl Error for Failure {}

fn meaning_of(status: u16, code: Option<&str>) -> Meaning {
    match (status, code) {
        (_, Some(code)) if CREDENTIAL_CODES.contains(&code) => Meaning::Credentials,
        // The answer to a HEAD has no body, so no code: an expired token is a bare 400 or 403.
        (400 | 401 | 403, None) => Meaning::Credentials,
        (_, Some("NoSuchBucket")) => Meaning::Refused,
        (501, _) | (_, Some("NotImplemented")) => Meaning::NotImplemented,
        (_, Some(code)) if UNCLEAR_CODES.contains(&code) => Meaning::Unclear,
        (404, _) => Meaning::NotFound,
        (412, _) => Meaning::Condition,
        (416, _) => Meaning::Range,
        (408 | 409 | 429, _) => Meaning::Unclear,
        (400..=499, _) => Meaning::Refused,
        _ => Meaning::Unclear,
    }
}

/// Whether it failed before anything was sent, since no credentials were to be had.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_nothing_happened_is_refused() {
        for (status, code, meaning) in [
            (403, Some("AccessDenied"), Meaning::Refused),
            (400, Some("InvalidRequest"), Meaning::Refused),
            (404, Some("NoSuchBucket"), Meaning::Refused),
            (404, Some("NoSuchKey"), Meaning::NotFound),
            (412, Some("PreconditionFailed"), Meaning::Condition),
            (409, Some("ConditionalRequestConflict"), Meaning::Unclear),
            (500, Some("InternalError"), Meaning::Unclear),
            (503, Some("SlowDown"), Meaning::Unclear),
            (400, Some("RequestTimeout"), Meaning::Unclear),
            (502, None, Meaning::Unclear),
            (501, Some("NotImplemented"), Meaning::NotImplemented),
            (400, Some("ExpiredToken"), Meaning::Credentials),
            (403, Some("InvalidAccessKeyId"), Meaning::Credentials),
            (403, None, Meaning::Credentials),
        ] {
            assert_eq!(meaning_of(status, code), meaning, "{status} {code:?}");
        }
    }
}
