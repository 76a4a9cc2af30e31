-- Evidence as views of DuckDB 1.3 or later; made by `hoop-replay schema --duckdb`.
--
-- The place is the variable `evidence`: a directory or s3://BUCKET/PREFIX that holds events/v1. A variable lives as
-- long as a connection, so set it anew where the views are kept in a database file.
SET VARIABLE evidence = coalesce(getvariable('evidence'), 'hoop-data/evidence');
-- Times in evidence are UTC; without this, times in queries are read in the zone of the machine.
SET TimeZone = 'UTC';

-- Every event once: a sealed day from sealed/v1, every other day from events/v1.
-- Say which days (dt) where you can: only their files are read then.
CREATE OR REPLACE VIEW events AS
SELECT
  files.ts,
  files.kind,
  files.session_id,
  files.session_seq,
  files.event_id,
  files.producer_id,
  files.producer_epoch,
  files.producer_seq,
  files.position,
  files.log_ts,
  files.cluster,
  files.username,
  files.groups,
  files.auth_method,
  files.login,
  files.source_ip,
  files.user_agent,
  files.command,
  files.audit_id,
  files.http_method,
  files.request_uri,
  files.verb,
  files.api_group,
  files.api_version,
  files.resource,
  files.subresource,
  files.namespace,
  files.name,
  files.decision,
  files.decision_cause,
  files.profile,
  files.rule,
  files.policy_revision,
  files.approval_id,
  files.status,
  files.masked_count,
  files.masked_paths,
  files.request_bytes,
  files.response_bytes,
  files.duration_us,
  files.event_json,
  files.class,
  files.dt,
  files.shard,
  files.filename AS file
FROM read_parquet(
  getvariable('evidence') || '/[es][ve][ea]*/v1/class=*/dt=*/shard=*/*.parquet',
  hive_partitioning = true,
  hive_types = {'class': VARCHAR, 'dt': VARCHAR, 'shard': INTEGER},
  filename = true
) AS files
LEFT JOIN (
  SELECT
    regexp_extract(file, 'class=([^/]+)/dt=[0-9-]+[.]json$', 1) AS class,
    regexp_extract(file, 'dt=([0-9-]+)[.]json$', 1) AS dt
  FROM glob(getvariable('evidence') || '/seals/v1/class=*/dt=*.json')
) AS seals ON seals.class = files.class AND seals.dt = files.dt
WHERE (regexp_extract(files.filename, '/(events|sealed)/v1/class=[^/]+/dt=[^/]+/shard=[^/]+/[^/]+$', 1) = 'sealed')
  = (seals.dt IS NOT NULL);

-- One row per session: what a person would call one piece of work, such as one command of kubectl.
CREATE OR REPLACE VIEW sessions AS
SELECT
  session_id,
  max(cluster) AS cluster,
  max(username) AS username,
  max(groups) AS groups,
  max(auth_method) AS auth_method,
  max(login) AS login,
  max(source_ip) AS source_ip,
  max(user_agent) AS user_agent,
  max(command) AS command,
  max(CASE WHEN kind = 'session.start' THEN json_extract_string(event_json, '$.basis') END) AS basis,
  max(CASE WHEN kind = 'session.start' THEN json_extract_string(event_json, '$.predecessor') END) AS predecessor,
  min(ts) AS first_ts,
  max(ts) AS last_ts,
  count(CASE WHEN kind = 'intent' THEN 1 END) AS requests,
  count(CASE WHEN kind = 'intent' AND decision = 'deny' THEN 1 END) AS denied,
  CAST(coalesce(sum(masked_count), 0) AS BIGINT) AS masked_count,
  array_sort(array_agg(DISTINCT verb) FILTER (WHERE kind = 'intent' AND verb <> '')) AS verbs,
  array_sort(array_agg(DISTINCT CASE WHEN subresource <> '' THEN concat(resource, '/', subresource) ELSE resource END) FILTER (WHERE kind = 'intent' AND CASE WHEN subresource <> '' THEN concat(resource, '/', subresource) ELSE resource END <> '')) AS resources,
  array_sort(array_agg(DISTINCT namespace) FILTER (WHERE kind = 'intent' AND namespace <> '')) AS namespaces,
  count(CASE WHEN kind = 'gap' THEN 1 END) AS gaps,
  count(CASE WHEN kind = 'session.end' THEN 1 END) AS ended,
  min(dt) AS first_dt,
  max(dt) AS last_dt
FROM events
GROUP BY session_id;

-- One row per request: who asked for what, what was decided, and what came of it. Everything from outcome_ts on is
-- null where nothing is known of the end: it is still going on, or the gateway died.
CREATE OR REPLACE VIEW decisions AS
SELECT
  intent.ts,
  intent.class,
  intent.dt,
  intent.cluster,
  intent.session_id,
  intent.audit_id,
  intent.username,
  intent.groups,
  intent.auth_method,
  intent.login,
  intent.source_ip,
  intent.user_agent,
  intent.command,
  intent.http_method,
  intent.request_uri,
  intent.verb,
  intent.api_group,
  intent.api_version,
  intent.resource,
  intent.subresource,
  intent.namespace,
  intent.name,
  intent.decision,
  intent.decision_cause,
  intent.profile,
  intent.rule,
  intent.policy_revision,
  intent.approval_id,
  json_extract_string(intent.event_json, '$.decision.message') AS message,
  json_extract_string(intent.event_json, '$.request.impersonated.username') AS impersonated,
  json_extract_string(intent.event_json, '$.request.client_id') AS client_id,
  json_extract_string(intent.event_json, '$.request.actors[0]') AS actor,
  coalesce(json_extract_string(intent.event_json, '$.request.break_glass'), 'false') = 'true' AS break_glass,
  CAST(json_extract(intent.event_json, '$.request.argv') AS VARCHAR[]) AS argv,
  outcome.ts AS outcome_ts,
  outcome.decision AS outcome_decision,
  outcome.decision_cause AS outcome_cause,
  outcome.status,
  json_extract_string(outcome.event_json, '$.answered_by') AS answered_by,
  json_extract_string(outcome.event_json, '$.ended') AS ended,
  outcome.request_bytes,
  outcome.response_bytes,
  outcome.duration_us,
  CASE WHEN outcome.kind IS NOT NULL THEN coalesce(outcome.masked_count, 0) END AS masked_count,
  CAST(json_extract_string(outcome.event_json, '$.exit_code') AS INTEGER) AS exit_code
FROM events AS intent
LEFT JOIN events AS outcome
  ON outcome.kind = 'outcome' AND outcome.audit_id = intent.audit_id AND outcome.session_id = intent.session_id
WHERE intent.kind = 'intent';

-- One row per command that was asked for in a pod: exec and attach. attach has no argv, since it joins what runs.
CREATE OR REPLACE VIEW commands AS
SELECT
  ts,
  dt,
  cluster,
  session_id,
  audit_id,
  username,
  groups,
  source_ip,
  namespace,
  name AS pod,
  nullif(regexp_extract(request_uri, '[?&]container=([^&]+)', 1), '') AS container,
  subresource,
  argv,
  array_to_string(argv, ' ') AS command_line,
  request_uri LIKE '%?tty=true%' OR request_uri LIKE '%&tty=true%' AS tty,
  decision,
  rule,
  message,
  status,
  exit_code,
  ended,
  request_bytes,
  response_bytes,
  duration_us
FROM decisions
WHERE resource = 'pods' AND subresource IN ('exec', 'attach');

-- One row per request whose answer held secrets, or may have: reads, and changes, which are answered with the object.
-- A create is answered with what was sent, and is not here.
-- name is empty where all secrets of a namespace were answered, namespace too where all of the cluster (see reach). status is
-- null where nothing is known of the end. masked_count says how many values were replaced before the person got them.
CREATE OR REPLACE VIEW who_read_secret AS
SELECT
  ts,
  dt,
  cluster,
  session_id,
  audit_id,
  username,
  groups,
  source_ip,
  impersonated,
  actor,
  verb,
  namespace,
  name,
  CASE WHEN name <> '' THEN 'secret' WHEN namespace <> '' THEN 'namespace' ELSE 'cluster' END AS reach,
  rule,
  status,
  masked_count,
  response_bytes
FROM decisions
WHERE api_group = '' AND resource = 'secrets' AND subresource = '' AND verb <> 'create'
  AND decision = 'allow' AND (status BETWEEN 200 AND 299 OR status IS NULL);
