//! End-to-end tests: the whole pipeline on real servers.
//!
//! A test that needs a part of the test bed that this machine cannot have is reported as ignored, and named with the
//! reason in a summary at the end. With `CI` or `HOOP_TEST_BED=required` set, it fails.

mod harness;
mod kubernetes;

fn main() -> std::process::ExitCode {
    harness::run([kubernetes::tests()].concat())
}
