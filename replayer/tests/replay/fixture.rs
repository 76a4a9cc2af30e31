//! A short scene: Alice reads a secret, Bob is denied a delete, patches a deployment and watches pods.

use std::path::Path;
use std::sync::Arc;

use hoop_schema::body::{Body, TextEncoding};
use hoop_schema::bytes::encode;
use hoop_schema::chain::Strand;
use hoop_schema::kinds::integrity::*;
use hoop_schema::kinds::request::*;
use hoop_schema::kinds::session::*;
use hoop_schema::kinds::stream::*;
use hoop_schema::{Class, Envelope, EventId, Kind, ProducerId, SessionId, Shard, Timestamp};
use serde_json::{Value, json};

use crate::writer;

/// 2026-11-22T10:00:00Z.
const BEGIN: i64 = 1_795_341_600_000_000;

pub(crate) const ALICE: [u8; 16] = [0xa1; 16];
pub(crate) const BOB: [u8; 16] = [0xb0; 16];
const GATEWAY: [u8; 16] = [0x0e; 16];

/// One gateway that writes events into one shard.
pub(crate) struct Gateway {
    seq: u64,
    now: i64,
    strands: std::collections::HashMap<[u8; 16], Strand>,
    pub(crate) events: Vec<Vec<u8>>,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        Self {
            seq: 0,
            now: BEGIN,
            strands: std::collections::HashMap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn wait(&mut self, millis: i64) {
        self.now += millis * 1000;
    }

    pub(crate) fn emit(&mut self, session: [u8; 16], kind: impl Into<Kind>) {
        self.seq += 1;
        let strand = self.strands.entry(session).or_default();
        let (session_seq, prev_hash) = strand.next();
        let mut random = [7; 10];
        random[8..].copy_from_slice(&u16::try_from(self.seq).unwrap().to_be_bytes());
        let envelope = Envelope {
            v: 1,
            event_id: EventId::new(u64::try_from(self.now / 1000).unwrap(), &random),
            ts: Timestamp::from_micros(self.now),
            cluster: "sample".into(),
            producer_id: ProducerId::new("gateway-1").unwrap(),
            producer_epoch: 1_795_000_000_000_000,
            producer_seq: self.seq,
            class: Class::standard(),
            shard: Shard(0),
            session_id: SessionId::from_bytes(session),
            session_seq,
            prev_hash,
        };
        let encoded = encode(&envelope, &kind.into()).unwrap();
        strand.push(encoded.hash);
        self.events.push(encoded.bytes);
    }

    pub(crate) fn start(&mut self, session: [u8; 16], username: &str, command: &str, agent: &str) {
        let start = SessionStart {
            user: Some(user(username)),
            auth_method: AuthMethod::ClientCertificate,
            basis: SessionBasis::KubectlSession,
            predecessor: None,
            login: Some("42".into()),
            source_ip: "10.0.0.7".into(),
            user_agent: Some(agent.into()),
            command: Some(command.into()),
        };
        self.emit(session, start);
    }

    pub(crate) fn end(&mut self, session: [u8; 16]) {
        let strand = self.strands[&session];
        let state = StrandState {
            class: Class::standard(),
            count: strand.count(),
            head: strand.head().unwrap(),
        };
        let end = SessionEnd {
            cause: SessionEndCause::Disconnected,
            strands: vec![state],
        };
        self.emit(session, end);
    }

    fn request(&mut self, session: [u8; 16], asked: Asked) {
        let (intent, outcome) = asked.events(self);
        let audit_id = intent.request.audit_id.clone();
        self.emit(session, intent);
        for (i, frame) in asked.frames.iter().enumerate() {
            self.wait(250);
            self.emit(
                session,
                StreamData {
                    audit_id: audit_id.clone(),
                    channel: Channel::Watch,
                    connection: None,
                    offset: i as u64 * 100,
                    at_us: 250_000 * (i as u64 + 1),
                    encoding: TextEncoding::Text,
                    content: format!("{frame}\n"),
                    encryption: None,
                },
            );
        }
        self.wait(12);
        self.emit(session, outcome);
    }
}

#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) username: &'static str,
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) name: &'static str,
    pub(crate) command: &'static str,
    pub(crate) denied: bool,
    pub(crate) masked: u64,
    pub(crate) sent: Option<Value>,
    pub(crate) got: Option<Value>,
    pub(crate) frames: Vec<Value>,
}

impl Asked {
    fn attributes(&self, number: usize, now: i64) -> RequestAttributes {
        RequestAttributes {
            audit_id: format!("5d1c9c2e-0000-4000-8000-{number:012}"),
            received: Timestamp::from_micros(now),
            user: Some(user(self.username)),
            impersonated: None,
            auth_method: AuthMethod::ClientCertificate,
            login: Some("42".into()),
            client_id: None,
            actors: Vec::new(),
            break_glass: false,
            source_ip: "10.0.0.7".into(),
            http_method: "GET".into(),
            request_uri: format!("/api/v1/namespaces/shop/{}/{}", self.resource, self.name),
            verb: self.verb.into(),
            object_ref: Some(ObjectRef {
                api_group: self.group.into(),
                api_version: "v1".into(),
                resource: self.resource.into(),
                subresource: String::new(),
                namespace: "shop".into(),
                name: self.name.into(),
            }),
            user_agent: Some("kubectl/v1.36.3".into()),
            command: Some(self.command.into()),
            argv: Vec::new(),
        }
    }

    /// What is asked next, and what comes of it.
    pub(crate) fn events(&self, gateway: &Gateway) -> (Intent, Outcome) {
        let request = Arc::new(self.attributes(gateway.events.len(), gateway.now));
        let decision = self.decision();
        let paths = (self.masked > 0).then(|| "data.password".to_owned());
        let masked = Masked {
            count: self.masked,
            paths: paths.into_iter().collect(),
        };
        let intent = Intent {
            request: Arc::clone(&request),
            decision: decision.clone(),
            level: Level::RequestResponse,
            durability: Durability::Log,
            body: self.sent.as_ref().map(body),
            masked: Masked::default(),
            claims: Default::default(),
        };
        let outcome = Outcome {
            request,
            status: if self.denied { 403 } else { 200 },
            reason: self.denied.then(|| "Forbidden".into()),
            answered_by: if self.denied {
                AnsweredBy::Gateway
            } else {
                AnsweredBy::Upstream
            },
            decision,
            ended: Ended::Complete,
            request_bytes: 0,
            response_bytes: 2048,
            first_byte_us: 3_000,
            duration_us: 12_000,
            body: self.got.as_ref().map(body),
            masked,
            stream_events: self.frames.len() as u64,
            exit_code: None,
        };
        (intent, outcome)
    }

    fn decision(&self) -> Decision {
        Decision {
            effect: if self.denied {
                Effect::Deny
            } else {
                Effect::Allow
            },
            cause: if self.denied {
                Cause::NoMatch
            } else {
                Cause::Rule
            },
            profile: (!self.denied).then(|| "developers".into()),
            rule: (!self.denied).then(|| "read".into()),
            message: if self.denied {
                "no rule lets bob delete pods in shop".into()
            } else {
                String::new()
            },
            policy_revision: "0123456789abcdef".into(),
        }
    }
}

fn user(username: &str) -> User {
    User {
        username: username.into(),
        groups: vec!["dev".into(), "on-call".into()],
        ..User::default()
    }
}

fn body(value: &Value) -> Body {
    let bytes = value.to_string();
    Body::record(
        bytes.as_bytes(),
        bytes.len() as u64,
        Some("application/json".into()),
    )
    .0
}

/// The scene as events in log order.
pub(crate) fn scene() -> Vec<Vec<u8>> {
    let mut gateway = Gateway::new();
    gateway.start(ALICE, "alice", "kubectl get", "kubectl/v1.36.3");
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db", "namespace": "shop"},
        "data": {"password": "hoop:masked:7f3a"}});
    gateway.request(
        ALICE,
        Asked {
            username: "alice",
            verb: "get",
            resource: "secrets",
            name: "db",
            command: "kubectl get",
            masked: 1,
            got: Some(secret),
            ..Asked::default()
        },
    );
    gateway.wait(40);
    gateway.end(ALICE);
    gateway.wait(5_000);
    gateway.start(BOB, "bob", "kubectl delete", "kubectl\u{1b}[31m evil");
    gateway.request(
        BOB,
        Asked {
            username: "bob",
            verb: "delete",
            resource: "pods",
            name: "web-1",
            command: "kubectl delete",
            denied: true,
            ..Asked::default()
        },
    );
    gateway.emit(
        GATEWAY,
        Heartbeat {
            last: vec![LastSequence {
                class: Class::standard(),
                shard: Shard(0),
                seq: 7,
            }],
            interval_s: 60,
        },
    );
    gateway.wait(61_000);
    bob_works(&mut gateway);
    gateway.events
}

/// Bob reads a deployment, scales it, and watches its pods. His session is left open.
fn bob_works(gateway: &mut Gateway) {
    let deployment = |replicas: u64, version: &str| {
        json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "resourceVersion": version},
            "spec": {"replicas": replicas, "paused": false}})
    };
    let of_web = |verb, sent, got| Asked {
        username: "bob",
        verb,
        group: "apps",
        resource: "deployments",
        name: "web",
        command: "kubectl patch",
        sent,
        got: Some(got),
        ..Asked::default()
    };
    gateway.request(BOB, of_web("get", None, deployment(2, "10")));
    gateway.wait(300);
    let patch = json!({"spec": {"replicas": 5}});
    gateway.request(BOB, of_web("patch", Some(patch), deployment(5, "11")));
    gateway.wait(300);
    let frame = |kind: &str| json!({"type": kind, "object": {"kind": "Pod", "metadata": {"name": "web-1"}}});
    gateway.request(
        BOB,
        Asked {
            username: "bob",
            verb: "watch",
            resource: "pods",
            command: "kubectl get",
            frames: vec![frame("ADDED"), frame("MODIFIED"), frame("DELETED")],
            ..Asked::default()
        },
    );
}

/// The scene written into files of six events each.
pub(crate) fn write_scene(folder: &Path) {
    writer::write_all(folder, &writer::files(&scene(), 6));
}
