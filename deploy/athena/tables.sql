-- Evidence as tables and views of Athena (engine version 3); made by `hoop-replay schema --athena`.
-- Athena takes one statement at a time. A partition that is not within the projection below is not seen: all classes
-- and at least as many shards as the log has must be named.

-- Session files as they arrive; ask the view events instead, which knows which days are sealed.
CREATE EXTERNAL TABLE IF NOT EXISTS session_files (
  `ts` timestamp COMMENT 'When it happened, by the clock of the producer',
  `kind` string COMMENT 'Kind of event',
  `session_id` string COMMENT 'Session it belongs to',
  `session_seq` bigint COMMENT 'Position within the strand',
  `event_id` string COMMENT 'Name of the event',
  `producer_id` string COMMENT 'Who wrote it',
  `producer_epoch` bigint COMMENT 'Which start of the producer',
  `producer_seq` bigint COMMENT 'Position in the producers sequence',
  `position` bigint COMMENT 'Position in the log; null on rows that the recorder made',
  `log_ts` timestamp COMMENT 'When the log took it',
  `cluster` string COMMENT 'Name of the Kubernetes cluster',
  `username` string COMMENT 'Who asked',
  `groups` array<string> COMMENT 'Groups of the user',
  `auth_method` string COMMENT 'How the caller proved it',
  `login` string COMMENT 'What ties the sessions of one login together',
  `source_ip` string COMMENT 'Address of the client',
  `user_agent` string COMMENT 'User-Agent, a claim',
  `command` string COMMENT 'Kubectl-Command, a claim',
  `audit_id` string COMMENT 'Name of the request, shared with the API servers audit log',
  `http_method` string COMMENT 'HTTP method',
  `request_uri` string COMMENT 'Path and query',
  `verb` string COMMENT 'Kubernetes verb',
  `api_group` string COMMENT 'API group; empty for core',
  `api_version` string COMMENT 'API version',
  `resource` string COMMENT 'Plural resource',
  `subresource` string COMMENT 'Subresource',
  `namespace` string COMMENT 'Namespace',
  `name` string COMMENT 'Name of the object',
  `decision` string COMMENT 'allow, deny or hold',
  `decision_cause` string COMMENT 'What led to the decision',
  `profile` string COMMENT 'Profile of the matching rule',
  `rule` string COMMENT 'Name of the matching rule',
  `policy_revision` string COMMENT 'Revision of the policy',
  `approval_id` string COMMENT 'Approval concerned',
  `status` int COMMENT 'HTTP status the client got',
  `masked_count` bigint COMMENT 'Number of values masked',
  `masked_paths` array<string> COMMENT 'Where values were masked',
  `request_bytes` bigint COMMENT 'Bytes of request body',
  `response_bytes` bigint COMMENT 'Bytes of response body',
  `duration_us` bigint COMMENT 'Microseconds from head to end',
  `event_json` string COMMENT 'The events exact bytes'
)
PARTITIONED BY (`class` string, `dt` string, `shard` int)
STORED AS PARQUET
LOCATION 's3://YOUR-BUCKET/events/v1/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.class.type' = 'enum',
  'projection.class.values' = 'short,standard,long',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2026-01-01,NOW+1DAYS',
  'projection.shard.type' = 'integer',
  'projection.shard.range' = '0,15',
  'projection.shard.digits' = '3',
  'storage.location.template' = 's3://YOUR-BUCKET/events/v1/class=${class}/dt=${dt}/shard=${shard}/'
);

-- Sealed days; ask the view events instead, which knows which days are sealed.
CREATE EXTERNAL TABLE IF NOT EXISTS sealed_files (
  `ts` timestamp COMMENT 'When it happened, by the clock of the producer',
  `kind` string COMMENT 'Kind of event',
  `session_id` string COMMENT 'Session it belongs to',
  `session_seq` bigint COMMENT 'Position within the strand',
  `event_id` string COMMENT 'Name of the event',
  `producer_id` string COMMENT 'Who wrote it',
  `producer_epoch` bigint COMMENT 'Which start of the producer',
  `producer_seq` bigint COMMENT 'Position in the producers sequence',
  `position` bigint COMMENT 'Position in the log; null on rows that the recorder made',
  `log_ts` timestamp COMMENT 'When the log took it',
  `cluster` string COMMENT 'Name of the Kubernetes cluster',
  `username` string COMMENT 'Who asked',
  `groups` array<string> COMMENT 'Groups of the user',
  `auth_method` string COMMENT 'How the caller proved it',
  `login` string COMMENT 'What ties the sessions of one login together',
  `source_ip` string COMMENT 'Address of the client',
  `user_agent` string COMMENT 'User-Agent, a claim',
  `command` string COMMENT 'Kubectl-Command, a claim',
  `audit_id` string COMMENT 'Name of the request, shared with the API servers audit log',
  `http_method` string COMMENT 'HTTP method',
  `request_uri` string COMMENT 'Path and query',
  `verb` string COMMENT 'Kubernetes verb',
  `api_group` string COMMENT 'API group; empty for core',
  `api_version` string COMMENT 'API version',
  `resource` string COMMENT 'Plural resource',
  `subresource` string COMMENT 'Subresource',
  `namespace` string COMMENT 'Namespace',
  `name` string COMMENT 'Name of the object',
  `decision` string COMMENT 'allow, deny or hold',
  `decision_cause` string COMMENT 'What led to the decision',
  `profile` string COMMENT 'Profile of the matching rule',
  `rule` string COMMENT 'Name of the matching rule',
  `policy_revision` string COMMENT 'Revision of the policy',
  `approval_id` string COMMENT 'Approval concerned',
  `status` int COMMENT 'HTTP status the client got',
  `masked_count` bigint COMMENT 'Number of values masked',
  `masked_paths` array<string> COMMENT 'Where values were masked',
  `request_bytes` bigint COMMENT 'Bytes of request body',
  `response_bytes` bigint COMMENT 'Bytes of response body',
  `duration_us` bigint COMMENT 'Microseconds from head to end',
  `event_json` string COMMENT 'The events exact bytes'
)
PARTITIONED BY (`class` string, `dt` string, `shard` int)
STORED AS PARQUET
LOCATION 's3://YOUR-BUCKET/sealed/v1/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.class.type' = 'enum',
  'projection.class.values' = 'short,standard,long',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2026-01-01,NOW+1DAYS',
  'projection.shard.type' = 'integer',
  'projection.shard.range' = '0,15',
  'projection.shard.digits' = '3',
  'storage.location.template' = 's3://YOUR-BUCKET/sealed/v1/class=${class}/dt=${dt}/shard=${shard}/'
);

-- The seals of days: a day is sealed from the moment on at which its seal exists.
CREATE EXTERNAL TABLE IF NOT EXISTS seals (
  `line` string
)
PARTITIONED BY (`class` string)
STORED AS TEXTFILE
LOCATION 's3://YOUR-BUCKET/seals/v1/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.class.type' = 'enum',
  'projection.class.values' = 'short,standard,long',
  'storage.location.template' = 's3://YOUR-BUCKET/seals/v1/class=${class}/'
);

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
  files."$path" AS file
FROM session_files AS files
LEFT JOIN (
  SELECT DISTINCT class, regexp_extract("$path", 'dt=([0-9-]+)[.]json$', 1) AS dt
  FROM seals
) AS days ON days.class = files.class AND days.dt = files.dt
WHERE days.dt IS NULL
UNION ALL
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
  files."$path" AS file
FROM sealed_files AS files
INNER JOIN (
  SELECT DISTINCT class, regexp_extract("$path", 'dt=([0-9-]+)[.]json$', 1) AS dt
  FROM seals
) AS days ON days.class = files.class AND days.dt = files.dt;

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
  max(CASE WHEN kind = 'session.start' THEN json_extract_scalar(event_json, '$.basis') END) AS basis,
  max(CASE WHEN kind = 'session.start' THEN json_extract_scalar(event_json, '$.predecessor') END) AS predecessor,
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
  json_extract_scalar(intent.event_json, '$.decision.message') AS message,
  json_extract_scalar(intent.event_json, '$.request.impersonated.username') AS impersonated,
  json_extract_scalar(intent.event_json, '$.request.client_id') AS client_id,
  json_extract_scalar(intent.event_json, '$.request.actors[0]') AS actor,
  coalesce(json_extract_scalar(intent.event_json, '$.request.break_glass'), 'false') = 'true' AS break_glass,
  CAST(json_extract(intent.event_json, '$.request.argv') AS ARRAY(VARCHAR)) AS argv,
  outcome.ts AS outcome_ts,
  outcome.decision AS outcome_decision,
  outcome.decision_cause AS outcome_cause,
  outcome.status,
  json_extract_scalar(outcome.event_json, '$.answered_by') AS answered_by,
  json_extract_scalar(outcome.event_json, '$.ended') AS ended,
  outcome.request_bytes,
  outcome.response_bytes,
  outcome.duration_us,
  CASE WHEN outcome.kind IS NOT NULL THEN coalesce(outcome.masked_count, 0) END AS masked_count,
  CAST(json_extract_scalar(outcome.event_json, '$.exit_code') AS INTEGER) AS exit_code
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
  array_join(argv, ' ') AS command_line,
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
