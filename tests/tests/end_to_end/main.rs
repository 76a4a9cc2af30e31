//! End-to-end tests: the whole pipeline on real servers.
//!
//! A test that needs a part of the test bed that this machine cannot have is reported as ignored, and named with the
//! reason in a summary at the end. With `CI` or `HOOP_TEST_BED=required` set, it fails.

mod audit;
mod brokers;
mod canary;
mod chaos;
mod client;
mod clients;
mod compatibility;
mod demo;
mod differential;
mod erasure;
mod evidence;
mod harness;
mod helm;
mod kafka;
mod kill;
mod kubectl;
mod kubernetes;
mod log;
mod login;
mod nats_log;
mod node;
mod pipeline;
mod queries;
mod reconcile;
mod recorded;
mod rights;
mod s3;
mod secret_clients;
mod secrets;
mod streams;
mod terminal;
mod transparency;
mod watch;
mod websocket;

fn main() -> std::process::ExitCode {
    let tests = [
        // The longest first, so that the others go on beside them.
        chaos::tests(),
        kubernetes::tests(),
        kubectl::tests(),
        secrets::tests(),
        secret_clients::tests(),
        helm::tests(),
        streams::tests(),
        clients::tests(),
        differential::tests(),
        audit::tests(),
        reconcile::tests(),
        watch::tests(),
        websocket::tests(),
        evidence::tests(),
        transparency::tests(),
        erasure::tests(),
        queries::tests(),
        login::tests(),
        kafka::tests(),
        rights::tests(),
        s3::tests(),
        demo::tests(),
        kill::tests(),
        nats_log::tests(),
        brokers::tests(),
    ];
    harness::run(tests.concat())
}
