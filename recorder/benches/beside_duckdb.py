"""DuckDB converts JSON lines to the typed columns of a session file: what the recorder is compared with.

usage: python3 beside_duckdb.py LINES.jsonl OUT.parquet          (pip install duckdb==2.0.0)

One thread, one typed from_json, sorted by session, zstd level 3: the best plan known. Prints one line.
"""
import os
import sys
import time

import duckdb

USER = '{"username":"VARCHAR","groups":["VARCHAR"]}'
OBJECT = '{"api_group":"VARCHAR","api_version":"VARCHAR","resource":"VARCHAR","subresource":"VARCHAR","namespace":"VARCHAR","name":"VARCHAR"}'
SHAPE = (
    '{"ts":"TIMESTAMP","kind":"VARCHAR","session_id":"VARCHAR","session_seq":"BIGINT","event_id":"VARCHAR",'
    '"producer_id":"VARCHAR","producer_epoch":"BIGINT","producer_seq":"BIGINT","cluster":"VARCHAR","approval_id":"VARCHAR",'
    '"request":{"audit_id":"VARCHAR","user":' + USER + ',"auth_method":"VARCHAR","login":"VARCHAR","source_ip":"VARCHAR",'
    '"http_method":"VARCHAR","request_uri":"VARCHAR","verb":"VARCHAR","object_ref":' + OBJECT + ',"user_agent":"VARCHAR","command":"VARCHAR"},'
    '"decision":{"effect":"VARCHAR","cause":"VARCHAR","profile":"VARCHAR","rule":"VARCHAR","policy_revision":"VARCHAR"},'
    '"status":"INTEGER","masked":{"count":"BIGINT","paths":["VARCHAR"]},"request_bytes":"BIGINT","response_bytes":"BIGINT",'
    '"duration_us":"BIGINT"}'
)
COLUMNS = """e.ts, e.kind, e.session_id, e.session_seq, e.event_id, e.producer_id, e.producer_epoch, e.producer_seq,
  n AS position, e.ts AS log_ts, e.cluster, e.request.user.username AS username, e.request.user.groups AS "groups",
  e.request.auth_method, e.request.login, e.request.source_ip, e.request.user_agent, e.request.command, e.request.audit_id,
  e.request.http_method, e.request.request_uri, e.request.verb, e.request.object_ref.api_group, e.request.object_ref.api_version,
  e.request.object_ref.resource, e.request.object_ref.subresource, e.request.object_ref.namespace, e.request.object_ref.name,
  e.decision.effect AS decision, e.decision.cause AS decision_cause, e.decision.profile, e.decision.rule,
  e.decision.policy_revision, e.approval_id, e.status, e.masked.count AS masked_count, e.masked.paths AS masked_paths,
  e.request_bytes, e.response_bytes, e.duration_us, line AS event_json"""


def main() -> None:
    source, target = sys.argv[1:3]
    db = duckdb.connect()
    db.execute("SET threads = 1")
    started, processor = time.perf_counter(), time.process_time()
    db.execute(f"""
        COPY (
          SELECT {COLUMNS}
          FROM (
            SELECT line, row_number() OVER () AS n, from_json(line, '{SHAPE}') AS e
            FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, delim='\\x01', quote='', escape='', header=false,
                          max_line_size=1048576, auto_detect=false)
          )
          ORDER BY e.session_id, e.session_seq
        ) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)""")
    elapsed, cpu = time.perf_counter() - started, time.process_time() - processor
    rows = db.execute(f"SELECT count(*) FROM '{target}'").fetchone()[0]
    print(f"rows={rows} rows_per_s={rows / elapsed:.0f} rows_per_cpu_s={rows / cpu:.0f} total_s={elapsed:.3f} cpu_s={cpu:.3f} file_bytes={os.path.getsize(target)}")


if __name__ == "__main__":
    main()
