//! One session among two million events, and the proof of all of them.
//!
//! `cargo bench -p hoop-replayer --bench show`. The evidence is made once by the recorder's own core from realistic
//! events of some 1.5 KB, into a temporary directory, or into `HOOP_BENCH_EVIDENCE`, where the next run finds it.
//! `HOOP_BENCH_EVENTS` is their number. Aims: a session in at most 150 ms, reading at most 1 % of the bytes; the proof
//! at a good part of the speed of bare SHA-256, measured on the same bytes in the same run.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop_recorder::config::Config;
use hoop_recorder::core::{Action, Core};
use hoop_recorder::generator::Generator;
use hoop_replayer::evidence::{Days, Evidence};
use hoop_replayer::output::{ColorChoice, Format, Output, OutputEnvironment, Progress};
use hoop_replayer::sessions::View;
use hoop_replayer::show::{self, Options};
use hoop_replayer::timeline::Timeline;
use hoop_replayer::verify::{Scope, Trust, Verdict, verify};
use hoop_replayer::when::Clock;
use hoop_schema::evidence::PreviousFile;
use hoop_schema::{Class, EventHash, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::dir::Dir;

const EVENTS_DEFAULT: u64 = 2_000_000;

/// Runs whose median is taken.
const RUNS: usize = 21;

/// Written last: the session to look for.
const MARKER: &str = "bench-session";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let bench = std::env::args().any(|arg| arg == "--bench");
    let events = std::env::var("HOOP_BENCH_EVENTS")
        .ok()
        .and_then(|n| n.parse().ok());
    let events = events.unwrap_or(if bench { EVENTS_DEFAULT } else { 10_000 });
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let kept = std::env::var_os("HOOP_BENCH_EVIDENCE").map(PathBuf::from);
    let folder = kept.unwrap_or_else(|| temporary.path().to_owned());
    let session = match std::fs::read_to_string(folder.join(MARKER)) {
        Ok(session) => session,
        Err(_) => generate(&folder, events).await,
    };
    let runs = if bench { RUNS } else { 1 };
    show_of_one_session(&folder, &session, runs).await;
    executable(&folder, &session, runs);
    proof(&folder).await;
}

/// Makes the evidence as a recorder would, and returns the session of the event in the middle.
async fn generate(folder: &Path, events: u64) -> String {
    let store = Dir::open(folder).expect("a directory that can be written to");
    let class = Class::standard();
    let config = Config::new("bench", ProducerId::new("recorder").expect("a name"));
    let source = SourceId::from_bytes([1; 4]);
    let mut core = Core::new(
        &config,
        1_795_000_000_000_000,
        source,
        &class,
        Shard(0),
        None,
    );
    let mut generator = Generator::new(class.as_str(), 42);
    let mut middle = String::new();
    let began = Instant::now();
    for position in 1..=events {
        let (session, _, bytes) = generator.event();
        if position == events / 2 {
            middle = session.to_string();
        }
        let log_ts = generator.now();
        let record = LogRecord {
            position: Position(position),
            log_ts,
            bytes,
        };
        for action in core.apply(record, log_ts) {
            commit(&mut core, &store, action, log_ts).await;
        }
    }
    let now = generator.now();
    if let Some(action) = core.flush() {
        commit(&mut core, &store, action, now).await;
    }
    println!(
        "made {events} events in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    std::fs::write(folder.join(MARKER), &middle).expect("the marker is written");
    middle
}

async fn commit(core: &mut Core, store: &Dir, action: Action, now: Timestamp) {
    let Action::Commit(batch) = action else {
        return;
    };
    let encoded = batch
        .encode(core.previous().cloned(), now, None)
        .expect("events have rows");
    let key = batch.name().to_string();
    let metadata = Default::default();
    store
        .create(&key, encoded.file, &metadata)
        .await
        .expect("the file is written");
    let index = batch.name().index_key();
    store
        .create(&index, encoded.index, &metadata)
        .await
        .expect("the index is written");
    core.committed(PreviousFile {
        key,
        sha256: encoded.sha256,
    });
}

fn evidence(folder: &Path) -> Evidence {
    let store = Dir::read_only(folder).expect("the evidence is there");
    Evidence::new(Some(Arc::new(store)), Vec::new())
}

fn median(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let millis = |d: &Duration| d.as_secs_f64() * 1000.0;
    (millis(&times[times.len() / 2]), millis(&times[0]))
}

async fn show_of_one_session(folder: &Path, session: &str, runs: usize) {
    let clock = Clock {
        now: Timestamp::from_micros(1_795_900_000_000_000),
        zone: jiff::tz::TimeZone::UTC,
    };
    let options = Options {
        bodies: true,
        body_lines_max: 24,
        width: 120,
    };
    let (mut times, mut last) = (Vec::new(), None);
    for _ in 0..runs {
        let evidence = evidence(folder);
        let stats = Arc::clone(&evidence.stats);
        let began = Instant::now();
        let view = View::open(evidence, &Days::default())
            .await
            .expect("a listing");
        let mut found = view
            .find(session, &mut Progress::hidden())
            .await
            .expect("the session");
        let entries = view.entries(&mut found).await.expect("its events");
        let timeline = Timeline::new(&entries, clock.now).expect("a timeline");
        let lines = show::lines(&timeline, &clock, options).len();
        times.push(began.elapsed());
        last = Some((
            stats,
            view.catalog.bytes,
            entries.len(),
            lines,
            view.catalog.files.len(),
        ));
    }
    let (stats, total, events, lines, files) = last.expect("at least one run");
    let (median, best) = median(times);
    println!(
        "show: {events} events, {lines} lines, of {files} files: median {median:.1} ms, best {best:.1} ms, read {} of {total} bytes = {:.3} %, {} ranges of {} objects",
        stats.bytes(),
        stats.bytes() as f64 / total as f64 * 100.0,
        stats.requests(),
        stats.objects()
    );
}

fn executable(folder: &Path, session: &str, runs: usize) {
    let mut times = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_hoop-replay"))
            .args(["show", session, "--utc", "--evidence"])
            .arg(folder)
            .stdout(Stdio::null())
            .status()
            .expect("it runs");
        assert!(status.success(), "show failed");
        times.push(began.elapsed());
    }
    let (median, best) = median(times);
    println!("show, the whole process: median {median:.1} ms, best {best:.1} ms");
}

async fn proof(folder: &Path) {
    let view = View::open(evidence(folder), &Days::default())
        .await
        .expect("a listing");
    let output = Output::new(
        Format::Table,
        ColorChoice::Never,
        &OutputEnvironment::default(),
    );
    let began = Instant::now();
    let mut progress = Progress::new(&output, 0);
    let report = verify(&view, Scope::default(), &Trust::default(), &mut progress)
        .await
        .expect("the store answers");
    let took = began.elapsed().as_secs_f64();
    // The generator ends in the middle of things, but nothing of it is altered.
    assert_ne!(report.verdict, Verdict::Altered, "{:#?}", report.findings);
    let began = Instant::now();
    let mut bytes = 0;
    for file in &view.catalog.files {
        let content = std::fs::read(folder.join(file.name.to_string())).expect("the file is there");
        bytes += content.len();
        std::hint::black_box(EventHash::of(&content));
    }
    let bare = began.elapsed().as_secs_f64();
    let rows_bytes = report.events as f64 * 1500.0;
    println!(
        "verify: {} events in {took:.2} s = {:.0} events/s, {:.3} GB/s of files, about {:.2} GB/s of events; bare SHA-256 of the files: {:.2} GB/s ({bare:.2} s)",
        report.events,
        report.events as f64 / took,
        bytes as f64 / took / 1e9,
        rows_bytes / took / 1e9,
        bytes as f64 / bare / 1e9
    );
}
