//! The broker between gateways and recorders.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;

use crate::testbed::{Kafka, Nats, Run};

/// Shards of each class.
const SHARDS: u32 = 4;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BrokerKind {
    /// One broker of Kafka.
    Kafka,
    /// One server of NATS with JetStream.
    Nats,
}

impl fmt::Display for BrokerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::name_of(self, f)
    }
}

/// One that runs.
#[derive(Debug)]
pub(super) enum Broker {
    Kafka(Box<Kafka>),
    Nats(Nats),
}

impl Broker {
    pub(super) fn start(run: &Run, kind: BrokerKind, name: &str) -> Result<Self> {
        Ok(match kind {
            BrokerKind::Kafka => Self::Kafka(Box::new(Kafka::start(run, name, 1, &[])?)),
            BrokerKind::Nats => Self::Nats(Nats::start(run, name, "")?),
        })
    }

    /// The section `log` of a configuration.
    pub(super) fn log_section(&self) -> String {
        match self {
            Self::Kafka(kafka) => format!(
                "log: {{kafka: {{brokers: ['{}'], replicas: 1, min_in_sync_replicas: 1, shards: {SHARDS}}}}}",
                kafka.plain().join("', '")
            ),
            Self::Nats(nats) => format!(
                "log: {{nats: {{servers: ['{}'], replicas: 1, shards: {SHARDS}, bytes_max: 1GiB}}}}",
                nats.url()
            ),
        }
    }

    pub(super) fn kill(&mut self) {
        match self {
            Self::Kafka(kafka) => kafka.kill(0),
            Self::Nats(nats) => nats.kill(),
        }
    }

    pub(super) fn start_again(&mut self, run: &Run) -> Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.start_again(run, 0),
            Self::Nats(nats) => nats.start_again(run),
        }
    }

    pub(super) fn pause(&self) -> Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.pause(0, true),
            Self::Nats(nats) => {
                nats.pause();
                Ok(())
            }
        }
    }

    pub(super) fn resume(&self) -> Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.pause(0, false),
            Self::Nats(nats) => {
                nats.resume();
                Ok(())
            }
        }
    }
}
