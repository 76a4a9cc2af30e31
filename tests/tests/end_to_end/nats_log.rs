//! The event log on NATS JetStream, on real servers: the suite that every log passes, and what brokers do to one.

mod bed;
mod cluster;
mod conformance;
mod faults;
mod security;
mod settings;

use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        conformance::tests(),
        settings::tests(),
        security::tests(),
        faults::tests(),
        cluster::tests(),
    ]
    .concat()
}
