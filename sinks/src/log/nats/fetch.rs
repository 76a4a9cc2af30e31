//! Batches of records by direct gets (ADR-31 of NATS): a request for "the messages of these subjects from this
//! sequence on", and one answer per message, without any state on the server.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use futures_util::StreamExt;
use hoop_schema::Timestamp;
use serde::Serialize;

use super::error::ReadFailure;
use crate::log::{LogRecord, Position};

/// Messages of one batch: a request costs little beside so many, and they fit into the subscription's buffer.
const MESSAGES_MAX: usize = 1000;

/// Bytes of one batch: what a fast network carries while the next request is made.
const BYTES_MAX: usize = 4 << 20;

/// The status that ends a batch.
const END_OF_BATCH: u16 = 204;

/// Where to ask.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) client: Client,
    pub(crate) stream: Arc<str>,
    pub(crate) timeout: Duration,
}

#[derive(Serialize)]
struct Request<'a> {
    seq: u64,
    next_by_subj: &'a str,
    batch: usize,
    max_bytes: usize,
}

/// What one answer says.
#[derive(Debug)]
enum Part {
    Record {
        record: LogRecord,
        /// Sequence of the record before it in the batch, 0 in the first.
        after: u64,
    },
    /// There is no more at the moment, or the batch is full.
    End { pending: u64 },
}

/// A batch of records without a hole.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<LogRecord>,
    /// Whether the replica that was asked has more.
    pub(crate) has_more: bool,
}

impl Fetcher {
    /// The records of `subjects` from `from` on, as one replica knows them.
    pub(crate) async fn batch(
        &self,
        subjects: &str,
        from: u64,
        bytes_max: usize,
    ) -> Result<Batch, ReadFailure> {
        let inbox = self.client.new_inbox();
        let failed = |source: crate::log::Source| ReadFailure::Request {
            stream: Arc::clone(&self.stream),
            source,
        };
        let answers = self.client.subscribe(inbox.clone()).await;
        let mut answers = answers.map_err(|error| failed(error.into()))?;
        let request = Request {
            seq: from,
            next_by_subj: subjects,
            batch: MESSAGES_MAX,
            max_bytes: bytes_max.clamp(1, BYTES_MAX),
        };
        let request = serde_json::to_vec(&request).map_err(|error| failed(error.into()))?;
        let api = format!("$JS.API.DIRECT.GET.{}", self.stream);
        self.client
            .publish_with_reply(api, inbox, request.into())
            .await
            .map_err(|error| failed(error.into()))?;
        let mut batch = Batch::default();
        let mut last = 0;
        loop {
            let next = tokio::time::timeout(self.timeout, answers.next()).await;
            let Ok(Some(message)) = next else {
                if batch.records.is_empty() {
                    let stream = Arc::clone(&self.stream);
                    return Err(ReadFailure::TimedOut { stream });
                }
                // What has come is whole; the rest is asked for again.
                batch.has_more = true;
                return Ok(batch);
            };
            match self.part(message)? {
                Part::End { pending } => {
                    batch.has_more = pending > 0;
                    return Ok(batch);
                }
                Part::Record { record, after } if after == last => {
                    last = record.position.0;
                    batch.records.push(record);
                }
                // An answer was lost between them.
                Part::Record { .. } => {
                    batch.has_more = true;
                    return Ok(batch);
                }
            }
        }
    }

    fn part(&self, message: Message) -> Result<Part, ReadFailure> {
        let answer = |what: String| ReadFailure::Answer {
            stream: Arc::clone(&self.stream),
            what,
        };
        let header = |name: &str| {
            let headers = message.headers.as_ref()?;
            headers.get(name).map(async_nats::HeaderValue::as_str)
        };
        let number = |name: &str| header(name).and_then(|text| text.parse::<u64>().ok());
        match message.status {
            None => {}
            Some(status) if status.as_u16() == END_OF_BATCH => {
                let pending = number("Nats-Num-Pending").unwrap_or(0);
                return Ok(Part::End { pending });
            }
            Some(StatusCode::NOT_FOUND) => return Ok(Part::End { pending: 0 }),
            Some(status) => {
                let said = message.description.unwrap_or_default();
                return Err(answer(format!("{status} {said}")));
            }
        }
        let record = || {
            let log_ts = header("Nats-Time-Stamp")?.parse::<Timestamp>().ok()?;
            let record = LogRecord {
                position: Position(number("Nats-Sequence")?),
                log_ts,
                bytes: message.payload.clone(),
            };
            let after = number("Nats-Last-Sequence")?;
            Some(Part::Record { record, after })
        };
        record().ok_or_else(|| answer("a message without sequence or time".to_owned()))
    }
}
