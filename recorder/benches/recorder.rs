//! From a log's records to the bytes of a session file, on one thread: rows a second, by the clock and by
//! the processor's time, and peak memory.
//!
//! `cargo bench -p hoop-recorder --features test-util -- [ROWS] [JSON LINES FILE] [SESSION FILE]` prints one line. With
//! a file for JSON lines it writes the events there, for the comparison in `beside_duckdb.py`.

use std::io::Write;
use std::time::Instant;

use hoop_recorder::core::{Action, Core};
use hoop_recorder::generator::Generator;
use hoop_recorder::{Batch, Config};
use hoop_schema::{Class, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};

/// What the programs allocate with, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows when none are asked for: about one full session file.
const ROWS: u64 = 80_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let rows = arguments.first().map_or(Ok(ROWS), |rows| rows.parse())?;
    let mut generator = Generator::new("standard", 1);
    let records: Vec<LogRecord> = (0..rows)
        .map(|position| LogRecord {
            bytes: generator.event().2,
            log_ts: generator.now(),
            position: Position(position),
        })
        .collect();
    if let Some(path) = arguments.get(1) {
        let mut lines = std::io::BufWriter::new(std::fs::File::create(path)?);
        for record in &records {
            lines.write_all(&record.bytes)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()?;
    }
    let raw: usize = records.iter().map(|r| r.bytes.len()).sum();
    let before = peak_kilobytes();
    let config = Config::new("production", ProducerId::new("recorder-1")?);
    let (started, processor) = (Instant::now(), processor_seconds());
    let mut core = Core::new(
        &config,
        1,
        SourceId::from_bytes([1; 4]),
        &Class::standard(),
        Shard(0),
        None,
    );
    let now = Timestamp::from_micros(1);
    let mut actions: Vec<Action> = records
        .into_iter()
        .flat_map(|record| core.apply(record, now))
        .collect();
    let taken = started.elapsed();
    actions.extend(core.flush());
    let mut files = Vec::new();
    for action in actions {
        if let Action::Commit(batch) = action {
            let batch: Batch = *batch;
            files.push(batch.encode(None, now, None)?.file);
        }
    }
    let elapsed = started.elapsed();
    let cpu = processor_seconds() - processor;
    if let (Some(path), Some(file)) = (arguments.get(2), files.first()) {
        std::fs::write(path, file)?;
    }
    let written: usize = files.iter().map(bytes::Bytes::len).sum();
    let rate = rows as f64 / elapsed.as_secs_f64();
    writeln!(
        std::io::stdout(),
        "rows={rows} rows_per_s={rate:.0} rows_per_cpu_s={:.0} apply_s={:.3} total_s={:.3} cpu_s={cpu:.3} raw_bytes={raw} file_bytes={written} files={} peak_growth_kib={}",
        rows as f64 / cpu,
        taken.as_secs_f64(),
        elapsed.as_secs_f64(),
        files.len(),
        peak_kilobytes().saturating_sub(before),
    )?;
    Ok(())
}

/// Seconds that this thread, the only one, was on a processor; 0 where the system does not say.
fn processor_seconds() -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = spent.split_whitespace().next().map(str::parse::<f64>);
    nanos.and_then(Result::ok).unwrap_or_default() / 1e9
}

/// The most memory this process ever held, in KiB; 0 where the system does not say.
fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}
