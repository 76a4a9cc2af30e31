//! From session files to a sealed object, on one thread, beside a plain copy of the same files: what reading and writing
//! Parquet costs when nothing is sorted, hashed or read as an event.
//!
//! `cargo bench --workspace --bench seal -- [ROWS] [FILES]` prints one line. Megabytes are those of the events; the files
//! are some ten times smaller.

use std::io::Write;
use std::time::Instant;

use bytes::Bytes;
use hoop_recorder::Config;
use hoop_recorder::core::{Action, Core};
use hoop_recorder::generator::Generator;
use hoop_recorder::seal::{Input, merge};
use hoop_schema::evidence::PreviousFile;
use hoop_schema::{Class, ProducerId, Shard, SourceId, Timestamp};
use hoop_sinks::log::{LogRecord, Position};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// What the programs allocate with, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows when none are asked for: some 750 MB of events.
const ROWS: u64 = 400_000;

/// Files when none are asked for: a day of one shard, a file every five minutes.
const FILES: u64 = 288;

/// What wrote a thing, and how long it took.
struct Timed {
    seconds: f64,
    processor: f64,
    bytes: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let number = |place: usize, default: u64| {
        arguments
            .get(place)
            .map_or(Ok(default), |text| text.parse())
    };
    let (rows, files) = (number(0, ROWS)?, number(1, FILES)?);
    let (inputs, raw) = record(rows, files)?;
    let read: usize = inputs.iter().map(|input| input.bytes.len()).sum();
    let bytes: Vec<Bytes> = inputs.iter().map(|input| input.bytes.clone()).collect();
    let copied = timed(|| copy(&bytes))?;
    let before = peak_kilobytes();
    let sealed = timed(|| Ok(merge(inputs)?.file.len()))?;
    let grown = peak_kilobytes().saturating_sub(before);
    let rate = |timed: &Timed| raw as f64 / 1e6 / timed.seconds;
    let rate_of_core = |timed: &Timed| raw as f64 / 1e6 / timed.processor.max(1e-9);
    writeln!(
        std::io::stdout(),
        "rows={rows} files={files} raw_bytes={raw} file_bytes={read} sealed_bytes={} seal_s={:.3} seal_mb_per_s={:.0} seal_mb_per_cpu_s={:.0} copied_bytes={} copy_s={:.3} copy_mb_per_s={:.0} copy_mb_per_cpu_s={:.0} peak_growth_kib={grown}",
        sealed.bytes,
        sealed.seconds,
        rate(&sealed),
        rate_of_core(&sealed),
        copied.bytes,
        copied.seconds,
        rate(&copied),
        rate_of_core(&copied),
    )?;
    Ok(())
}

/// Session files that follow each other, and the bytes of their events.
fn record(rows: u64, files: u64) -> Result<(Vec<Input>, usize), Box<dyn std::error::Error>> {
    let mut generator = Generator::new("standard", 1);
    let config = Config::new("production", ProducerId::new("recorder-1")?);
    let source = SourceId::from_bytes([1; 4]);
    let mut core = Core::new(&config, 1, source, &Class::standard(), Shard(0), None);
    let (mut inputs, mut raw) = (Vec::new(), 0);
    let now = Timestamp::from_micros(1);
    for position in 0..rows {
        let bytes = generator.event().2;
        raw += bytes.len();
        let mut actions = core.apply(
            LogRecord {
                position: Position(position),
                log_ts: now,
                bytes,
            },
            now,
        );
        if (position + 1) % (rows / files.max(1)).max(1) == 0 || position + 1 == rows {
            actions.extend(core.flush());
        }
        for action in actions {
            if let Action::Commit(batch) = action {
                let encoded = batch.encode(core.previous().cloned(), now, None)?;
                let name = batch.name().clone();
                core.committed(PreviousFile {
                    key: name.to_string(),
                    sha256: encoded.sha256,
                });
                let bytes = encoded.file;
                inputs.push(Input { name, bytes });
            }
        }
    }
    Ok((inputs, raw))
}

/// Copies the rows of all files into one, as they come. Returns its length.
fn copy(files: &[Bytes]) -> Result<usize, Box<dyn std::error::Error>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    for file in files {
        for batch in ParquetRecordBatchReaderBuilder::try_new(file.clone())?.build()? {
            let batch = batch?;
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(ArrowWriter::try_new(
                    Vec::new(),
                    batch.schema(),
                    Some(properties.clone()),
                )?),
            };
            writer.write(&batch)?;
        }
    }
    Ok(match writer {
        Some(writer) => writer.into_inner()?.len(),
        None => 0,
    })
}

fn timed(
    work: impl FnOnce() -> Result<usize, Box<dyn std::error::Error>>,
) -> Result<Timed, Box<dyn std::error::Error>> {
    let (started, processor) = (Instant::now(), processor_seconds());
    let bytes = work()?;
    Ok(Timed {
        seconds: started.elapsed().as_secs_f64(),
        processor: processor_seconds() - processor,
        bytes,
    })
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
