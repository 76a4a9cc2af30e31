//! Any bytes under the name of a session file: reading, summing up and proving it never panics, and what is proven has
//! the hash that its footer says.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use hoop_replayer::evidence::{Days, Evidence};
use hoop_replayer::output::{ColorChoice, Format, Output, OutputEnvironment, Progress};
use hoop_replayer::sessions::View;
use hoop_replayer::verify::{Scope, Trust, verify};
use hoop_sinks::store::{CreateOptions, EvidenceStore};
use hoop_sinks::store::memory::Memory;

const KEY: &str =
    "events/v1/class=standard/dt=2026-11-22/shard=000/abcdef01-00000000000000000001.parquet";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(async {
        let store = Arc::new(Memory::new());
        let bytes = Bytes::copy_from_slice(bytes);
        store.create(KEY, bytes, &CreateOptions::default()).await.expect("memory takes it");
        let evidence = Evidence::new(Some(store), Vec::new());
        let view = View::open(evidence, &Days::default()).await.expect("memory answers");
        let (_, damaged) = view.summaries(false, &mut Progress::hidden()).await.expect("memory answers");
        let output = Output::new(Format::Table, ColorChoice::Never, &OutputEnvironment::default());
        let report = verify(&view, Scope::default(), &Trust::default(), &mut Progress::new(&output, 0)).await.expect("memory answers");
        assert!(damaged.is_empty() || !report.findings.is_empty(), "damage is a finding");
    });
});
