//! What can go wrong with a log on Kafka, and what becomes of an event that the brokers did not take.

use std::time::Duration;

use hoop_schema::Shard;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::settings::Problem;
use super::topic_id::Recreated;
use crate::log::AppendError;

/// Why a log on Kafka cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option has a value that cannot work.
    #[error("option {name} of the log on Kafka: {what}")]
    Option {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A property of librdkafka that is not to be set.
    #[error(
        "property {name} cannot be set: the log sets it itself or depends on its default; take it out of `properties`"
    )]
    Property {
        /// Its name.
        name: String,
    },
    /// No client can be made of the options.
    #[error("the options make no client of Kafka")]
    Client(#[source] KafkaError),
    /// The brokers do not answer, or refuse us.
    #[error("cannot {what} on the brokers {brokers}{}", because(.said))]
    Unreachable {
        /// What was tried.
        what: &'static str,
        /// The brokers of the options.
        brokers: String,
        /// What the client said last about its connections; empty when nothing.
        said: String,
        /// The answer.
        #[source]
        source: Box<KafkaError>,
    },
    /// There is no such topic, and it was not to be created.
    #[error("topic {topic} does not exist; create it with\n  {command}")]
    Missing {
        /// Its name.
        topic: String,
        /// What creates it.
        command: String,
    },
    /// The brokers did not create the topic.
    #[error(
        "the brokers do not create topic {topic}: {code}; mend that, or create it with\n  {command}"
    )]
    Create {
        /// Its name.
        topic: String,
        /// Their reason.
        code: RDKafkaErrorCode,
        /// What creates it.
        command: String,
    },
    /// The settings of the topic cannot be read.
    #[error(
        "the settings of topic {topic} cannot be read: {code}; if we may not, allow it with\n  {command}"
    )]
    Forbidden {
        /// Its name.
        topic: String,
        /// The brokers' reason.
        code: RDKafkaErrorCode,
        /// What allows it.
        command: String,
    },
    /// The settings of the topic would lose events or confuse their order.
    #[error("topic {topic} is not set up for this log: {}; mend it with\n  {}", list(.problems), .commands.join("\n  "))]
    Settings {
        /// Its name.
        topic: String,
        /// What is wrong.
        problems: Vec<Problem>,
        /// What mends it.
        commands: Vec<String>,
    },
    /// The brokers do not say which topic it is.
    #[error(
        "the brokers give topic {topic} no id, so that it cannot be told from one that is created anew under its \
         name; use Kafka 2.8 or newer"
    )]
    NoId {
        /// Its name.
        topic: String,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread for the log on Kafka")]
    Thread(#[source] std::io::Error),
    /// The runtime is shutting down.
    #[error("the runtime shuts down")]
    Runtime(#[from] tokio::task::JoinError),
}

/// Why an append was not taken, or not acknowledged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("shard {0} does not exist")]
    NoSuchShard(Shard),
    #[error("the log is closed")]
    Closed,
    #[error("an event of {bytes} bytes passes the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the {bytes_max} bytes of memory for events under way are full")]
    InFlightFull { bytes_max: usize },
    #[error("the brokers have acknowledged nothing of shard {shard} for {} s", .silent.as_secs())]
    Stalled { shard: Shard, silent: Duration },
    #[error("no answer within {} s; it is sent all the same", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the producer is made anew after a fatal error")]
    Rebuilding,
    #[error("the producer has ended")]
    Ended,
    #[error("the brokers answer {0}")]
    Broker(RDKafkaErrorCode),
    #[error("{0}")]
    Recreated(#[from] Recreated),
    #[error("the topic cannot be asked about")]
    Unreachable(#[source] KafkaError),
    #[error("shard {shard} has no leader")]
    NoLeader { shard: Shard },
    #[error("shard {shard} has {found} copies in sync, and needs {wanted}")]
    OutOfSync {
        shard: Shard,
        found: usize,
        wanted: u32,
    },
}

impl Refusal {
    pub(crate) fn terminal(self) -> AppendError {
        AppendError::Terminal(self.into())
    }

    pub(crate) fn retryable(self) -> AppendError {
        AppendError::Retryable(self.into())
    }
}

/// What it means that librdkafka did not take an event: nothing has been sent.
pub(crate) fn not_taken(code: Option<RDKafkaErrorCode>) -> AppendError {
    let Some(code) = code else {
        return Refusal::Ended.retryable();
    };
    match code {
        RDKafkaErrorCode::Fatal => Refusal::Rebuilding.retryable(),
        RDKafkaErrorCode::MessageSizeTooLarge => Refusal::Broker(code).terminal(),
        code => Refusal::Broker(code).retryable(),
    }
}

/// What it means that an event which librdkafka took was not delivered. Only for what the brokers refuse by its size
/// is it certain that it was not written: everything else may have been, in an attempt whose answer was lost.
pub(crate) fn not_delivered(code: Option<RDKafkaErrorCode>) -> AppendError {
    let Some(code) = code else {
        return AppendError::Unknown(Refusal::Ended.into());
    };
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::MessageBatchTooLarge
        | RDKafkaErrorCode::InvalidRecord => Refusal::Broker(code).terminal(),
        code => AppendError::Unknown(Refusal::Broker(code).into()),
    }
}

fn because(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" ({said})")
    }
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_been_sent_may_be_tried_elsewhere() {
        let queue_full = not_taken(Some(RDKafkaErrorCode::QueueFull));
        assert!(matches!(queue_full, AppendError::Retryable(_)));
        let fatal = not_taken(Some(RDKafkaErrorCode::Fatal));
        assert!(matches!(fatal, AppendError::Retryable(_)));
        for code in [
            RDKafkaErrorCode::Fatal,
            RDKafkaErrorCode::PurgeQueue,
            RDKafkaErrorCode::PurgeInflight,
            RDKafkaErrorCode::MessageTimedOut,
            RDKafkaErrorCode::OutOfOrderSequenceNumber,
            RDKafkaErrorCode::NotEnoughReplicasAfterAppend,
            RDKafkaErrorCode::UnknownTopic,
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ] {
            let error = not_delivered(Some(code));
            assert!(matches!(error, AppendError::Unknown(_)), "{code:?}");
        }
        let large = not_delivered(Some(RDKafkaErrorCode::MessageSizeTooLarge));
        assert!(matches!(large, AppendError::Terminal(_)));
    }
}
