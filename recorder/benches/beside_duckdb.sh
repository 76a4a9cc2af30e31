#!/usr/bin/env bash
# The recorder beside DuckDB, in turns: the same events to the same typed columns in zstd Parquet, one thread each.
#
#   recorder/benches/beside_duckdb.sh [ROUNDS] [ROWS]        default: 3 rounds, 80,000 rows
#
# Needs `pip install duckdb==2.0.0`.
set -euo pipefail
rounds=${1:-3} rows=${2:-80000}
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bench() { cargo bench --profile dist --quiet --workspace --features hoop-recorder/test-util --bench recorder -- "$@"; }
bench "$rows" "$dir/lines.jsonl" >/dev/null
for _ in $(seq "$rounds"); do
    echo "recorder $(taskset -c 0 bash -c "$(declare -f bench); bench $rows $dir/lines.jsonl $dir/ours.parquet")"
    echo "duckdb   $(taskset -c 0 python3 recorder/benches/beside_duckdb.py "$dir/lines.jsonl" "$dir/duckdb.parquet")"
done | tee "$dir/results"
python3 - "$dir/results" <<'PY'
import statistics, sys

found = {}
for line in open(sys.argv[1]):
    who, *fields = line.split()
    for field in fields:
        name, _, value = field.partition("=")
        found.setdefault((who, name), []).append(float(value))
median = {key: statistics.median(values) for key, values in found.items()}
for what in ("rows_per_s", "rows_per_cpu_s", "file_bytes"):
    ours, theirs = median["recorder", what], median["duckdb", what]
    print(f"{what}: recorder {ours:.0f}, DuckDB {theirs:.0f}, ratio {ours / theirs:.3f}")
PY
