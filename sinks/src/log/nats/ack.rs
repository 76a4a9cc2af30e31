//! What a server answers to a publish.

use std::sync::Arc;

use async_nats::{Message, StatusCode};
use serde::Deserialize;

use super::error::Refusal;
use super::flight::{Answer, Ticket};

/// Error codes of JetStream (`server/errors.json` of the server's sources) after which the same event may work later,
/// and which say that it was not written.
const BUSY: [u32; 6] = [
    10008, // JetStream system temporarily unavailable
    10023, // insufficient resources
    10118, // stream is offline
    10167, // too many requests
    10194, // stream is offline, with a reason
    10039, // JetStream not enabled for account: while it recovers
];

/// A copy with this id is on its way through the cluster.
const IN_PROCESS: u32 = 10158;

/// The store said no: a limit of the stream, or an error.
const STORE_FAILED: u32 = 10077;

/// Larger than `max_msg_size`.
const TOO_LARGE: u32 = 10054;

/// The disk or the account is full.
const NO_STORAGE: [u32; 3] = [10002, 10028, 10047];

#[derive(Deserialize)]
struct PubAck<'a> {
    #[serde(borrow)]
    stream: Option<std::borrow::Cow<'a, str>>,
    seq: Option<u64>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Why the broker refused one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no room; later there may be.
    Full(Refusal),
    /// It never takes this one.
    Never(Refusal),
}

/// The subject on which the answer to an attempt is awaited.
pub(crate) fn reply_subject(inbox: &str, ticket: Ticket) -> String {
    let Ticket {
        shard,
        number,
        attempt,
    } = ticket;
    format!("{inbox}.{shard}.{number}.{attempt}")
}

/// The attempt that a subject of an answer names.
pub(crate) fn ticket_of(subject: &str) -> Option<Ticket> {
    let mut tokens = subject.rsplitn(4, '.');
    let attempt = tokens.next()?.parse().ok()?;
    let number = tokens.next()?.parse().ok()?;
    let shard = tokens.next()?.parse().ok()?;
    Some(Ticket {
        shard,
        number,
        attempt,
    })
}

/// What the server says of an attempt.
pub(crate) fn read(message: &Message, stream: &Arc<str>) -> Answer<Reason> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        // Nobody has the stream at the moment: it was not written.
        return Answer::Busy;
    }
    read_payload(&message.payload, stream)
}

fn read_payload(payload: &[u8], stream: &Arc<str>) -> Answer<Reason> {
    let Ok(ack) = serde_json::from_slice::<PubAck<'_>>(payload) else {
        return Answer::Unclear;
    };
    let broker = |said: String| Refusal::Broker {
        stream: Arc::clone(stream),
        said,
    };
    if let Some(ApiError {
        err_code,
        description: said,
    }) = ack.error
    {
        let stream = Arc::clone(stream);
        return match err_code {
            code if BUSY.contains(&code) => Answer::Busy,
            IN_PROCESS => Answer::Unclear,
            TOO_LARGE => Answer::Refused(Reason::Never(broker(said))),
            STORE_FAILED if said.starts_with("maximum") => {
                Answer::Refused(Reason::Full(Refusal::Full { stream, said }))
            }
            code if NO_STORAGE.contains(&code) => {
                Answer::Refused(Reason::Full(Refusal::Full { stream, said }))
            }
            // A store that failed may have written it before it failed.
            STORE_FAILED => Answer::Unclear,
            _ => Answer::Refused(Reason::Never(broker(format!("{said} ({err_code})")))),
        };
    }
    match (ack.stream, ack.seq) {
        (Some(name), Some(seq)) if *name == **stream && seq > 0 => Answer::Written(seq),
        (Some(name), _) if *name != **stream => Answer::Refused(Reason::Never(broker(format!(
            "the stream {name} has its subjects"
        )))),
        _ => Answer::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &str) -> Answer<Reason> {
        read_payload(payload.as_bytes(), &"S".into())
    }

    #[test]
    fn an_acknowledgement_names_the_sequence_also_of_a_duplicate() {
        assert_eq!(answer(r#"{"stream":"S","seq":7}"#), Answer::Written(7));
        let duplicate = r#"{"stream":"S","seq":7,"duplicate":true,"domain":"x"}"#;
        assert_eq!(answer(duplicate), Answer::Written(7));
    }

    #[test]
    fn a_full_stream_is_not_for_ever() {
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}"#;
        let Answer::Refused(Reason::Full(refusal)) = answer(full) else {
            panic!("{:?}", answer(full));
        };
        assert!(refusal.to_string().contains("maximum bytes"), "{refusal}");
    }

    #[test]
    fn what_says_nothing_leaves_it_open() {
        for odd in [
            "",
            "{}",
            "null",
            r#"{"stream":"S","seq":0}"#,
            r#"{"seq":1}"#,
        ] {
            assert_eq!(answer(odd), Answer::Unclear, "{odd}");
        }
        let in_process = r#"{"error":{"code":409,"err_code":10158,"description":"in process"}}"#;
        assert_eq!(answer(in_process), Answer::Unclear);
    }

    #[test]
    fn another_stream_is_not_taken_for_ours() {
        let other = answer(r#"{"stream":"T","seq":7}"#);
        assert!(
            matches!(other, Answer::Refused(Reason::Never(_))),
            "{other:?}"
        );
    }

    #[test]
    fn a_subject_names_the_attempt() {
        let ticket = Ticket {
            shard: 3,
            number: 1 << 40,
            attempt: 2,
        };
        let subject = reply_subject("_INBOX.abc", ticket);
        assert_eq!(ticket_of(&subject), Some(ticket));
        assert_eq!(ticket_of("_INBOX.a.b.c"), None);
    }
}
