//! Two days that have something for every query of `docs/queries.md`, recorded by the real recorder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hoop_recorder::config::Config;
use hoop_recorder::core::{Action, Core};
use hoop_schema::bytes::encode;
use hoop_schema::chain::Strand;
use hoop_schema::evidence::PreviousFile;
use hoop_schema::kinds::integrity::{Gap, PolicyChanged};
use hoop_schema::kinds::request::{Intent, Outcome, RequestAttributes};
use hoop_schema::kinds::session::SessionStart;
use hoop_schema::{
    Class, Envelope, EventId, Kind, ProducerId, SessionId, Shard, SourceId, Timestamp,
};
use hoop_sinks::log::{LogRecord, Position};
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::dir::Dir;
use serde_json::{Value, json};

/// Events of a session file at most, so that each day has several.
const EVENTS_PER_FILE: usize = 16;

/// The session of the gateway itself.
const GATEWAY: u8 = 0x0e;

/// One gateway that writes into one shard.
#[derive(Default)]
struct Scene {
    requests: u64,
    policy: &'static str,
    strands: HashMap<u8, Strand>,
    events: Vec<(Timestamp, Vec<u8>)>,
}

/// A request: what differs from a plain GET that the API server answers with 200.
struct Ask {
    session: u8,
    user: &'static str,
    ip: &'static str,
    /// Time, verb, group and resource, namespace, name.
    what: [&'static str; 5],
    /// Status; 0 where there is no outcome.
    status: u16,
    /// Further fields of the request.
    request: Value,
    /// Further fields of the decision.
    decision: Value,
    /// Further fields of the outcome.
    outcome: Value,
}

impl Ask {
    fn new(session: u8, user: &'static str, what: [&'static str; 5]) -> Self {
        Self {
            session,
            user,
            ip: "10.0.0.7",
            what,
            status: 200,
            request: json!({}),
            decision: json!({"rule": "read"}),
            outcome: json!({}),
        }
    }

    fn at_ip(mut self, ip: &'static str) -> Self {
        self.ip = ip;
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn said(mut self, request: Value) -> Self {
        self.request = request;
        self
    }

    fn got(mut self, bytes: u64, masked: u64) -> Self {
        self.outcome = json!({"response_bytes": bytes, "masked": {"count": masked}});
        self
    }

    fn denied(mut self, cause: &str) -> Self {
        self.decision = json!({"effect": "deny", "cause": cause});
        self.status(if cause == "unauthenticated" { 401 } else { 403 })
    }
}

fn time(text: &str) -> Result<Timestamp> {
    Ok(format!("2026-11-{text}Z").replacen(' ', "T", 1).parse()?)
}

/// `base` with the fields of `more` in it.
fn with(mut base: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        base[name] = value.clone();
    }
    base
}

/// A part of an event, as its JSON says.
fn part<T: serde::de::DeserializeOwned>(json: &Value) -> Result<T> {
    serde_json::from_str(&json.to_string()).with_context(|| json.to_string())
}

impl Scene {
    fn emit(&mut self, session: u8, ts: Timestamp, kind: impl Into<Kind>) -> Result<()> {
        let number = self.events.len() as u64 + 1;
        let strand = self.strands.entry(session).or_default();
        let (session_seq, prev_hash) = strand.next();
        let mut random = [7; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        let envelope = Envelope {
            v: 1,
            event_id: EventId::new(u64::try_from(ts.as_millis())?, &random),
            ts,
            cluster: "shop-eu".into(),
            producer_id: ProducerId::new("gateway-1")?,
            producer_epoch: 1_795_000_000_000_000,
            producer_seq: number,
            class: Class::standard(),
            shard: Shard(0),
            session_id: SessionId::from_bytes([session; 16]),
            session_seq,
            prev_hash,
        };
        let encoded = encode(&envelope, &kind.into())?;
        strand.push(encoded.hash);
        self.events.push((ts, encoded.bytes));
        Ok(())
    }

    fn policy(&mut self, at: &str, revision: &'static str) -> Result<()> {
        self.policy = revision;
        let changed: PolicyChanged =
            part(&json!({"revision": revision, "accepted": true, "profiles": 3, "rules": 9}))?;
        self.emit(GATEWAY, time(at)?, changed)
    }

    fn ask(&mut self, ask: &Ask) -> Result<()> {
        self.requests += 1;
        let [at, verb, resource, namespace, name] = ask.what;
        let (at, (group, resource)) = (
            time(at)?,
            resource.split_once(':').unwrap_or(("", resource)),
        );
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let user = json!({"username": ask.user, "groups": ["people"]});
        let identified = !ask.user.is_empty();
        if !self.strands.contains_key(&ask.session) {
            let mut start = json!({
                "auth_method": if identified { "oidc" } else { "none" },
                "basis": "kubectl_session", "source_ip": ask.ip, "command": format!("kubectl {verb}"),
            });
            if identified {
                start["user"] = user.clone();
            }
            self.emit(ask.session, at, part::<SessionStart>(&start)?)?;
        }
        let mut request = json!({
            "audit_id": format!("5d1c9c2e-0000-4000-8000-{:012}", self.requests),
            "received": at, "auth_method": if identified { "oidc" } else { "none" },
            "source_ip": ask.ip, "http_method": "GET",
            "request_uri": format!("/api/v1/namespaces/{namespace}/{resource}/{name}"), "verb": verb,
            "object_ref": {
                "api_group": group, "api_version": "v1", "resource": resource, "subresource": subresource,
                "namespace": namespace, "name": name,
            },
        });
        if identified {
            request["user"] = user;
        }
        let request: Arc<RequestAttributes> = Arc::new(part(&with(request, &ask.request))?);
        let mut decision = json!({"effect": "allow", "cause": "rule", "profile": "people"});
        if identified {
            decision["policy_revision"] = json!(self.policy);
        }
        let decision = with(decision, &ask.decision);
        let intent = json!({
            "request": &*request, "decision": decision, "level": "RequestResponse", "durability": "log",
        });
        self.emit(ask.session, at, part::<Intent>(&intent)?)?;
        if ask.status == 0 {
            return Ok(());
        }
        let denied = decision["effect"] == "deny";
        let outcome = json!({
            "request": &*request, "decision": decision, "status": ask.status,
            "answered_by": if denied { "gateway" } else { "upstream" }, "ended": "complete",
            "request_bytes": 0, "response_bytes": 300, "first_byte_us": 900, "duration_us": 1000,
        });
        let outcome: Outcome = part(&with(outcome, &ask.outcome))?;
        let ended = at.plus_micros(i64::try_from(outcome.duration_us)?);
        self.emit(ask.session, ended, outcome)
    }
}

/// The events of both days, by time.
fn events() -> Result<Vec<(Timestamp, Vec<u8>)>> {
    let mut scene = Scene::default();
    scene.policy("21 08:00:00", "4f1c0d7a9be23386")?;
    for ask in first_day() {
        scene.ask(&ask)?;
    }
    scene.policy("22 07:00:00", "b72e90aa15c4d0f1")?;
    for ask in second_day() {
        scene.ask(&ask)?;
    }
    let gap: Gap = part(&json!({
        "state": "open", "of_producer": "gateway-2", "of_epoch": 1_795_000_000_000_000u64,
        "of_class": "standard", "of_shard": 0, "first_seq": 41, "last_seq": 43, "cause": "overflow",
    }))?;
    scene.emit(GATEWAY, time("22 13:00:00")?, gap)?;
    Ok(scene.events)
}

fn exec(session: u8, user: &'static str, at: &'static str, argv: Value, tty: bool) -> Ask {
    let uri = "/api/v1/namespaces/shop/pods/web-1/exec?container=app&stdin=true";
    let uri = format!("{uri}{}", if tty { "&tty=true" } else { "" });
    Ask::new(session, user, [at, "create", "pods/exec", "shop", "web-1"])
        .said(json!({"argv": argv, "request_uri": uri}))
        .status(101)
}

fn first_day() -> Vec<Ask> {
    let streamed = |sent: u64, got: u64, seconds: u64, exit: u8| json!({"request_bytes": sent, "response_bytes": got, "duration_us": seconds * 1_000_000, "exit_code": exit});
    let mut cat = exec(
        0x14,
        "alice",
        "21 10:00:00",
        json!(["cat", "/etc/passwd"]),
        false,
    );
    cat.outcome = streamed(0, 1500, 1, 0);
    let mut shell = exec(0x15, "bob", "21 10:05:00", json!(["sh"]), true);
    shell.outcome = streamed(64, 20_480, 300, 130);
    let get = "get";
    vec![
        Ask::new(0x11, "alice", ["21 09:00:00", get, "secrets", "shop", "db"]).got(900, 2),
        Ask::new(0x12, "bob", ["21 09:10:00", "list", "secrets", "shop", ""]).got(52_000, 40),
        Ask::new(0x13, "carol", ["21 09:20:00", get, "secrets", "shop", "db"])
            .at_ip("10.0.0.9")
            .denied("no_match"),
        Ask::new(0x13, "carol", ["21 09:21:00", "list", "secrets", "", ""])
            .at_ip("10.0.0.9")
            .denied("no_match"),
        Ask::new(
            0x13,
            "carol",
            ["21 09:22:00", "delete", "apps:deployments", "shop", "web"],
        )
        .at_ip("10.0.0.9")
        .denied("no_match"),
        cat,
        shell,
        exec(0x16, "carol", "21 10:06:00", json!(["sh"]), true)
            .at_ip("10.0.0.9")
            .denied("no_match"),
        Ask::new(
            0x17,
            "alice",
            ["21 11:00:00", "patch", "apps:deployments", "shop", "web"],
        ),
        Ask::new(
            0x18,
            "bob",
            [
                "21 11:30:00",
                "update",
                "apps:deployments/scale",
                "shop",
                "web",
            ],
        ),
        Ask::new(
            0x18,
            "bob",
            ["21 11:35:00", "delete", "apps:deployments", "shop", "api"],
        ),
        Ask::new(
            0x18,
            "bob",
            ["21 11:36:00", "delete", "apps:deployments", "shop", "web"],
        )
        .status(404),
        Ask::new(0x19, "dave", ["21 14:00:00", "list", "pods", "shop", ""])
            .said(json!({"impersonated": {"username": "system:serviceaccount:shop:robot"}})),
        Ask::new(0x1a, "carol", ["21 14:10:00", "list", "nodes", "", ""])
            .at_ip("10.0.0.9")
            .said(json!({"impersonated": {"username": "admin"}}))
            .denied("impersonation_refused"),
    ]
}

fn second_day() -> Vec<Ask> {
    let agent = || json!({"actors": ["agent-7"], "client_id": "assistant"});
    let get = "get";
    vec![
        Ask::new(
            0x21,
            "alice",
            ["22 08:00:00", "watch", "secrets", "shop", ""],
        )
        .status(0),
        Ask::new(
            0x22,
            "on-call",
            ["22 08:30:00", get, "secrets", "prod", "root"],
        )
        .said(json!({"break_glass": true, "auth_method": "static_token"}))
        .got(700, 0),
        Ask::new(0x23, "alice", ["22 09:00:00", "list", "pods", "shop", ""]).said(agent()),
        Ask::new(0x23, "alice", ["22 09:01:00", get, "secrets", "shop", "db"])
            .said(agent())
            .denied("rule"),
        Ask::new(0x24, "alice", ["22 10:00:00", get, "pods", "shop", "web-1"]).at_ip("203.0.113.9"),
        Ask::new(
            0x25,
            "bob",
            ["22 11:00:00", "deletecollection", "pods", "shop", ""],
        )
        .said(json!({"request_uri": "/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb"})),
        Ask::new(0x26, "", ["22 12:00:00", get, "pods", "shop", ""])
            .at_ip("198.51.100.4")
            .denied("unauthenticated"),
        Ask::new(0x26, "", ["22 12:00:05", "list", "secrets", "", ""])
            .at_ip("198.51.100.4")
            .denied("unauthenticated"),
    ]
}

/// Records both days into `folder`. Returns the number of events.
pub(super) async fn record(folder: &Path) -> Result<usize> {
    let events = events()?;
    let store = Dir::open(folder)?;
    let config = Config::new("shop-eu", ProducerId::new("recorder-1")?);
    let source = SourceId::from_bytes([0x5e; 4]);
    let class = Class::standard();
    let mut core = Core::new(
        &config,
        1_795_000_000_000_000,
        source,
        &class,
        Shard(0),
        None,
    );
    for (i, (log_ts, event)) in events.iter().enumerate() {
        let record = LogRecord {
            position: Position(i as u64 + 1),
            log_ts: *log_ts,
            bytes: event.clone().into(),
        };
        let mut actions = core.apply(record, *log_ts);
        if (i + 1) % EVENTS_PER_FILE == 0 || i + 1 == events.len() {
            actions.extend(core.flush());
        }
        for action in actions {
            let Action::Commit(batch) = action else {
                continue;
            };
            let encoded = batch.encode(core.previous().cloned(), *log_ts, None)?;
            let (key, index) = (batch.name().to_string(), batch.name().index_key());
            let metadata = Default::default();
            store.create(&key, encoded.file, &metadata).await?;
            store.create(&index, encoded.index, &metadata).await?;
            let sha256 = encoded.sha256;
            core.committed(PreviousFile { key, sha256 });
        }
    }
    Ok(events.len())
}
