//! The log on brokers: whether they let us in, and whether each class's topic or stream would lose events.

use hoop_schema::Class;
use hoop_sinks::log::{kafka, nats};

use super::Finding;
use crate::config::{Config, LogBackend};
use crate::logs::classes;
use crate::pipeline::chain;

/// Looks at the log of every class, without creating what is not there; stops at brokers that do not answer, which
/// would not answer for the next class either. Nothing for the embedded log.
pub(super) async fn probe(config: &Config) -> Vec<(&'static str, Finding)> {
    let mut findings = Vec::new();
    for class in classes() {
        let (finding, go_on) = match &config.log.backend {
            LogBackend::Embedded => break,
            LogBackend::Nats(options) => stream(class, options).await,
            LogBackend::Kafka(options) => topic(class, options).await,
        };
        findings.push(("log", finding));
        if !go_on {
            break;
        }
    }
    findings
}

async fn stream(class: Class, options: &nats::Options) -> (Finding, bool) {
    let name = class.to_string();
    let mut options = options.clone();
    options.create_stream = false;
    match nats::Reader::open(class, options).await {
        Ok(_) => (as_it_must_be(&name), true),
        Err(error @ nats::OpenError::Missing { .. }) => (to_be_created(&error), true),
        Err(error) => {
            let go_on = !matches!(
                error,
                nats::OpenError::Connect { .. } | nats::OpenError::Server { .. }
            );
            (Finding::Wrong(chain(&error)), go_on)
        }
    }
}

async fn topic(class: Class, options: &kafka::Options) -> (Finding, bool) {
    let name = class.to_string();
    let mut looking = options.clone();
    looking.create_topic = false;
    match kafka::KafkaReader::open(class, looking).await {
        Ok(_) => (as_it_must_be(&name), true),
        Err(kafka::OpenError::Missing { topic, .. }) if options.create_topic => {
            let text = format!("topic {topic} does not exist");
            (to_be_created(&text), true)
        }
        Err(error) => {
            let go_on = !matches!(error, kafka::OpenError::Unreachable { .. });
            (Finding::Wrong(chain(&error)), go_on)
        }
    }
}

fn as_it_must_be(class: &str) -> Finding {
    Finding::Good(format!("class {class} is there, and as it must be"))
}

fn to_be_created(missing: &impl std::fmt::Display) -> Finding {
    Finding::Good(format!("{missing}: the first start creates it"))
}
