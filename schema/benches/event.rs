//! What one event costs: encoding and hashing it, and reading its columns, beside the floors of both: SHA-256 of the
//! same bytes, and `serde_json` skipping over the same bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hoop_schema::bytes::{decode, encode};
use hoop_schema::row::Row;
use hoop_schema::{EventHash, Kind};

fn event(c: &mut Criterion) {
    let sample = include_str!("../samples/v1.jsonl");
    let line = sample
        .lines()
        .find(|line| line.contains(r#""kind":"outcome""#))
        .expect("the sample has every kind");
    let event = decode(line.as_bytes()).expect("the sample decodes");
    assert!(matches!(event.kind, Kind::Outcome(_)));
    let mut group = c.benchmark_group("event");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("encode and hash", |b| {
        b.iter(|| encode(black_box(&event.envelope), black_box(&event.kind)))
    });
    group.bench_function("floor: SHA-256 alone", |b| {
        b.iter(|| EventHash::of(black_box(line.as_bytes())))
    });
    group.bench_function("read columns", |b| {
        b.iter(|| Row::read(black_box(line.as_bytes())).is_ok())
    });
    group.bench_function("floor: skip the JSON", |b| {
        b.iter(|| {
            serde_json::from_slice::<serde::de::IgnoredAny>(black_box(line.as_bytes())).is_ok()
        });
    });
    group.finish();
}

criterion_group!(benches, event);
criterion_main!(benches);
