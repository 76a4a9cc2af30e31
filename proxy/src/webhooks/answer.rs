//! What a webhook answered.

use serde::Deserialize;

use crate::policy::Answer;

/// The most of a reason that is kept, in characters: people read it in an error message.
const REASON_CHARS_MAX: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    allowed: bool,
    #[serde(default)]
    denied: Option<bool>,
    #[serde(default)]
    reason: Option<String>,
}

/// Reads a SubjectAccessReview; nothing when it is none, or says that it allows and denies.
pub(super) fn read(body: &[u8]) -> Option<Answer> {
    let review: Review = serde_json::from_slice(body).ok()?;
    let (group, _) = review.api_version.split_once('/')?;
    if group != "authorization.k8s.io" || review.kind != "SubjectAccessReview" {
        return None;
    }
    let reason = cleaned(&review.status.reason.unwrap_or_default());
    match (review.status.allowed, review.status.denied.unwrap_or(false)) {
        (true, true) => None,
        (true, false) => Some(Answer::Allowed(reason)),
        (false, true) => Some(Answer::Denied(reason)),
        (false, false) => Some(Answer::NoOpinion(reason)),
    }
}

/// A reason as it may stand in a terminal and in a line of a log.
fn cleaned(reason: &str) -> String {
    let plain = reason.trim().chars().take(REASON_CHARS_MAX);
    plain
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str) -> Option<Answer> {
        let review = format!(
            r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{{}},"status":{status}}}"#
        );
        read(review.as_bytes())
    }

    #[test]
    fn the_three_answers_are_told_apart() {
        assert_eq!(
            answer(r#"{"allowed":true,"reason":"on call"}"#),
            Some(Answer::Allowed("on call".into()))
        );
        assert_eq!(
            answer(r#"{"allowed":false,"denied":true}"#),
            Some(Answer::Denied(String::new()))
        );
        assert_eq!(
            answer(r#"{"allowed":false,"denied":null,"reason":null,"evaluationError":"x"}"#),
            Some(Answer::NoOpinion(String::new()))
        );
    }

    #[test]
    fn what_says_two_things_or_nothing_is_no_answer() {
        for status in [
            r#"{"allowed":true,"denied":true}"#,
            r#"{"allowed":true,"allowed":false}"#,
            r#"{"allowed":"true"}"#,
            r#"{"denied":true}"#,
            "{}",
            "null",
        ] {
            assert_eq!(answer(status), None, "{status}");
        }
        for body in [
            "",
            "true",
            r#"{"status":{"allowed":true}}"#,
            r#"{"apiVersion":"v1","kind":"SubjectAccessReview","status":{"allowed":true}}"#,
            r#"{"apiVersion":"authorization.k8s.io/v1","kind":"Status","status":{"allowed":true}}"#,
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        let long = format!(
            r#"{{"allowed":true,"reason":" a\u001b[2J\nb{}"}}"#,
            "é".repeat(600)
        );
        let Some(Answer::Allowed(reason)) = answer(&long) else {
            panic!("it is an answer");
        };
        assert!(reason.starts_with("a [2J bé"), "{reason}");
        assert_eq!(reason.chars().count(), REASON_CHARS_MAX);
    }
}
