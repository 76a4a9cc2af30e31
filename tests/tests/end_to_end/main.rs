//! End-to-end tests: the whole pipeline on real servers.
//!
//! A test that needs a part of the test bed that this machine cannot have is reported as ignored, and named with the
//! reason in a summary at the end. With `CI` or `HOOP_TEST_BED=required` set, it fails.

mod audit;
mod canary;
mod client;
mod clients;
mod compatibility;
mod demo;
mod differential;
mod evidence;
mod harness;
mod helm;
mod kill;
mod kubectl;
mod kubernetes;
mod log;
mod login;
mod node;
mod pipeline;
mod recorded;
mod rights;
mod secret_clients;
mod secrets;
mod streams;
mod terminal;
mod watch;

fn main() -> std::process::ExitCode {
    let tests = [
        kubernetes::tests(),
        kubectl::tests(),
        secrets::tests(),
        secret_clients::tests(),
        helm::tests(),
        streams::tests(),
        clients::tests(),
        differential::tests(),
        audit::tests(),
        watch::tests(),
        evidence::tests(),
        login::tests(),
        rights::tests(),
        demo::tests(),
        kill::tests(),
    ];
    harness::run(tests.concat())
}
