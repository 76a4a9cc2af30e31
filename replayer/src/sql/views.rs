//! The views that are the same everywhere: they stand on the view `events`.

use super::{Dialect, Made, view};

/// What the view `events` is for.
pub(super) const EVENTS_DOC: &str =
    "Every event once: a sealed day from sealed/v1, every other day from events/v1.
Say which days (dt) where you can: only their files are read then.";

/// What the view `decisions` takes from the intent's columns.
const OF_INTENT: [&str; 28] = [
    "ts",
    "class",
    "dt",
    "cluster",
    "session_id",
    "audit_id",
    "username",
    "groups",
    "auth_method",
    "login",
    "source_ip",
    "user_agent",
    "command",
    "http_method",
    "request_uri",
    "verb",
    "api_group",
    "api_version",
    "resource",
    "subresource",
    "namespace",
    "name",
    "decision",
    "decision_cause",
    "profile",
    "rule",
    "policy_revision",
    "approval_id",
];

/// The views on top of `events`, in the order in which they stand on each other.
pub(super) fn shared_views(dialect: Dialect) -> [String; 4] {
    [
        sessions(dialect),
        decisions(dialect),
        commands(dialect),
        who_read_secret(),
    ]
}

fn sessions(dialect: Dialect) -> String {
    let started = |path: &str| {
        let text = dialect.text("event_json", path);
        format!("max(CASE WHEN kind = 'session.start' THEN {text} END)")
    };
    let count = |condition: &str| format!("count(CASE WHEN {condition} THEN 1 END)");
    let distinct = |what: &str| {
        format!(
            "array_sort(array_agg(DISTINCT {what}) FILTER (WHERE kind = 'intent' AND {what} <> ''))"
        )
    };
    let resource =
        "CASE WHEN subresource <> '' THEN concat(resource, '/', subresource) ELSE resource END";
    let mut columns = vec![Made::of("session_id", "session_id")];
    for name in [
        "cluster",
        "username",
        "groups",
        "auth_method",
        "login",
        "source_ip",
        "user_agent",
        "command",
    ] {
        columns.push(Made::of(format!("max({name})"), name));
    }
    columns.extend([
        Made::of(started("$.basis"), "basis"),
        Made::of(started("$.predecessor"), "predecessor"),
        Made::of("min(ts)", "first_ts"),
        Made::of("max(ts)", "last_ts"),
        Made::of(count("kind = 'intent'"), "requests"),
        Made::of(count("kind = 'intent' AND decision = 'deny'"), "denied"),
        Made::of(
            "CAST(coalesce(sum(masked_count), 0) AS BIGINT)",
            "masked_count",
        ),
        Made::of(distinct("verb"), "verbs"),
        Made::of(distinct(resource), "resources"),
        Made::of(distinct("namespace"), "namespaces"),
        Made::of(count("kind = 'gap'"), "gaps"),
        Made::of(count("kind = 'session.end'"), "ended"),
        Made::of("min(dt)", "first_dt"),
        Made::of("max(dt)", "last_dt"),
    ]);
    view(
        "sessions",
        "One row per session: what a person would call one piece of work, such as one command of kubectl.",
        &columns,
        "FROM events\nGROUP BY session_id",
    )
}

fn decisions(dialect: Dialect) -> String {
    let said = |path: &str| dialect.text("intent.event_json", path);
    let answered = |path: &str| dialect.text("outcome.event_json", path);
    let mut columns: Vec<Made> = OF_INTENT
        .into_iter()
        .map(|name| Made::of(format!("intent.{name}"), name))
        .collect();
    columns.extend([
        Made::of(said("$.decision.message"), "message"),
        Made::of(said("$.request.impersonated.username"), "impersonated"),
        Made::of(said("$.request.client_id"), "client_id"),
        Made::of(said("$.request.actors[0]"), "actor"),
        Made::of(
            format!(
                "coalesce({}, 'false') = 'true'",
                said("$.request.break_glass")
            ),
            "break_glass",
        ),
        Made::of(dialect.list("intent.event_json", "$.request.argv"), "argv"),
        Made::of("outcome.ts", "outcome_ts"),
        Made::of("outcome.decision", "outcome_decision"),
        Made::of("outcome.decision_cause", "outcome_cause"),
        Made::of("outcome.status", "status"),
        Made::of(answered("$.answered_by"), "answered_by"),
        Made::of(answered("$.ended"), "ended"),
        Made::of("outcome.request_bytes", "request_bytes"),
        Made::of("outcome.response_bytes", "response_bytes"),
        Made::of("outcome.duration_us", "duration_us"),
        // An outcome that masked nothing says nothing of it.
        Made::of(
            "CASE WHEN outcome.kind IS NOT NULL THEN coalesce(outcome.masked_count, 0) END",
            "masked_count",
        ),
        Made::of(
            format!("CAST({} AS INTEGER)", answered("$.exit_code")),
            "exit_code",
        ),
    ]);
    view(
        "decisions",
        "One row per request: who asked for what, what was decided, and what came of it. Everything from outcome_ts on is
null where nothing is known of the end: it is still going on, or the gateway died.",
        &columns,
        "FROM events AS intent
LEFT JOIN events AS outcome
  ON outcome.kind = 'outcome' AND outcome.audit_id = intent.audit_id AND outcome.session_id = intent.session_id
WHERE intent.kind = 'intent'",
    )
}

fn commands(dialect: Dialect) -> String {
    let plain = |name: &'static str| Made::of(name, name);
    let mut columns: Vec<Made> = [
        "ts",
        "dt",
        "cluster",
        "session_id",
        "audit_id",
        "username",
        "groups",
        "source_ip",
        "namespace",
    ]
    .into_iter()
    .map(plain)
    .collect();
    columns.extend([
        Made::of("name", "pod"),
        Made::of(
            "nullif(regexp_extract(request_uri, '[?&]container=([^&]+)', 1), '')",
            "container",
        ),
        plain("subresource"),
        plain("argv"),
        Made::of(dialect.joined("argv"), "command_line"),
        Made::of(
            "request_uri LIKE '%?tty=true%' OR request_uri LIKE '%&tty=true%'",
            "tty",
        ),
        plain("decision"),
        plain("rule"),
        plain("message"),
        plain("status"),
        plain("exit_code"),
        plain("ended"),
        plain("request_bytes"),
        plain("response_bytes"),
        plain("duration_us"),
    ]);
    view(
        "commands",
        "One row per command that was asked for in a pod: exec and attach. attach has no argv, since it joins what runs.",
        &columns,
        "FROM decisions\nWHERE resource = 'pods' AND subresource IN ('exec', 'attach')",
    )
}

fn who_read_secret() -> String {
    let plain = |name: &'static str| Made::of(name, name);
    let mut columns: Vec<Made> = [
        "ts",
        "dt",
        "cluster",
        "session_id",
        "audit_id",
        "username",
        "groups",
        "source_ip",
        "impersonated",
        "actor",
        "verb",
        "namespace",
        "name",
    ]
    .into_iter()
    .map(plain)
    .collect();
    columns.extend([
        Made::of(
            "CASE WHEN name <> '' THEN 'secret' WHEN namespace <> '' THEN 'namespace' ELSE 'cluster' END",
            "reach",
        ),
        plain("rule"),
        plain("status"),
        plain("masked_count"),
        plain("response_bytes"),
    ]);
    view(
        "who_read_secret",
        "One row per request whose answer held secrets, or may have: reads, and changes, which are answered with the object.
A create is answered with what was sent, and is not here.
name is empty where all secrets of a namespace were answered, namespace too where all of the cluster (see reach). status is
null where nothing is known of the end. masked_count says how many values were replaced before the person got them.",
        &columns,
        "FROM decisions
WHERE api_group = '' AND resource = 'secrets' AND subresource = '' AND verb <> 'create'
  AND decision = 'allow' AND (status BETWEEN 200 AND 299 OR status IS NULL)",
    )
}
