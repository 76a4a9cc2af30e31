//! The gateway under attack: bytes as an attacker would write them, what comes back, what the API server gets to see,
//! and what the record holds. Each form is refused, or harmless because the API server sees it in one way only.
//!
//! The tables are in [`http1`] and [`http2`]. [`bodies`] are deep or swell, [`floods`] do not end, [`patience`] is asked for
//! by who is slow.

mod bodies;
mod floods;
mod http1;
mod http2;
mod patience;
mod upstream;

use hoop_proxy::{Limits, UpstreamSource};
use hoop_schema::kinds::request::{Ended, Intent, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Bed, PATIENCE, Setup, eventually};
use upstream::Tape;

/// One form of attack and what becomes of it.
pub(crate) struct Row {
    name: &'static str,
    sent: Vec<u8>,
    /// What comes back, in order: statuses, and in HTTP/2 `reset` and `goaway` with their error. Empty: the connection is
    /// closed without a word.
    answers: Vec<String>,
    /// Requests as the API server sees them, without what the gateway says of itself.
    upstream: Vec<String>,
    /// Cause and status of each request in the record, in order.
    records: Vec<String>,
}

impl Row {
    fn of(name: &'static str, sent: Vec<u8>) -> Self {
        Self {
            name,
            sent,
            answers: Vec::new(),
            upstream: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Nothing goes upstream.
    fn refused(self, status: u16, record: &'static str) -> Self {
        self.answered(&status.to_string()).recorded(record)
    }

    /// It goes upstream as `request`: request line, headers of its own in alphabetical order, body.
    fn passes(mut self, request: &str) -> Self {
        self.upstream.push(request.to_owned());
        self.answered("200").recorded("rule 200")
    }

    /// This comes back.
    fn answered(mut self, answer: &str) -> Self {
        self.answers.push(answer.to_owned());
        self
    }

    /// The record has this: cause and status.
    fn recorded(mut self, record: &'static str) -> Self {
        self.records.push(record.to_owned());
        self
    }
}

/// A gateway in front of an API server that keeps what it gets.
pub(crate) async fn bed(limits: Limits) -> (Bed, Tape) {
    let tape = Tape::start().await;
    let url = format!("http://{}", tape.address).parse().unwrap();
    let upstream = UpstreamSource::Explicit(Box::new(kube::Config::new(url)));
    let setup = Setup {
        upstream: Some(upstream),
        limits,
        ..Setup::default()
    };
    (setup.start().await, tape)
}

/// What the record says of each request, in the order of the intents.
pub(crate) async fn recorded(bed: &Bed) -> Vec<String> {
    let (intents, outcomes) = (bed.intents().await, bed.outcomes().await);
    assert_eq!(intents.len(), outcomes.len(), "{intents:?}\n{outcomes:?}");
    let mut lines: Vec<_> = intents
        .iter()
        .map(|intent| summary(intent, &outcomes))
        .collect();
    lines.sort_by_key(|(received, _)| *received);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn summary(intent: &Intent, outcomes: &[Outcome]) -> (i64, String) {
    let id = &intent.request.audit_id;
    let outcome = outcomes.iter().find(|o| o.request.audit_id == *id);
    let outcome = outcome.unwrap_or_else(|| panic!("no outcome of {intent:?}"));
    let cause = outcome.decision.cause.as_str();
    let ended = match outcome.ended {
        Ended::ClientClosed => " client_closed",
        _ => "",
    };
    let line = format!("{cause} {}{ended}", outcome.status);
    (intent.request.received.as_micros(), line)
}

/// Waits until as many requests have an outcome as the row says, and the gateway has stopped: then there is no more.
/// Says what is not as the row says.
async fn differences(row: &Row, answers: Vec<String>, mut bed: Bed, tape: Tape) -> Vec<String> {
    eventually(row.name, async || {
        (bed.outcomes().await.len() >= row.records.len()).then_some(())
    })
    .await;
    bed.stop().await;
    let compare = |what, got: Vec<String>, wanted: &[String]| {
        let differs = got != wanted;
        differs.then(|| {
            format!(
                "{}: {what}\n  got    {got:?}\n  wanted {wanted:?}",
                row.name
            )
        })
    };
    [
        compare("answers", answers, &row.answers),
        compare("record", recorded(&bed).await, &row.records),
        compare("upstream", tape.seen(), &row.upstream),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sends bytes, and reads until `enough` says so or the connection is closed.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    sent: &[u8],
    enough: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    // The gateway may stop reading before all of it is sent.
    drop(stream.write_all(sent).await);
    drop(stream.flush().await);
    let mut got = Vec::new();
    while !enough(&got) {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut got));
        match read.await.expect("the gateway answers or closes") {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    got
}
