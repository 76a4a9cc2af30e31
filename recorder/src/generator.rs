//! Realistic events for benchmarks and tests: sessions of many people who read and write through two gateways, with
//! random ids and bodies that carry `managedFields`, some 1.5 KB each. The same seed gives the same events.

use hoop_schema::chain::Strand;
use hoop_schema::{EventHash, EventId, SessionId, Shard, Timestamp};
use serde_json::json;

use bytes::Bytes;

/// Sessions that are open at the same time.
const OPEN_SESSIONS: usize = 64;

/// Events of one session, on average.
const SESSION_EVENTS: u64 = 40;

/// Begin of the generated time.
const BEGIN_MICROS: i64 = 1_795_000_000_000_000;

/// Makes events of one class and shard, one after another.
#[derive(Debug)]
pub struct Generator {
    random: u64,
    class: String,
    /// The shard, of how many.
    shard: (Shard, u32),
    producer_seq: u64,
    now: Timestamp,
    sessions: Vec<Session>,
    made: u64,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    strand: Strand,
    user: u64,
}

impl Generator {
    /// Events of this class, of a log with one shard.
    pub fn new(class: &str, seed: u64) -> Self {
        Self::of_shard(class, seed, Shard(0), 1)
    }

    /// Events of this class, in one shard of a log with so many.
    pub fn of_shard(class: &str, seed: u64, shard: Shard, shards: u32) -> Self {
        let mut generator = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            class: class.to_owned(),
            shard: (shard, shards),
            producer_seq: 0,
            now: Timestamp::from_micros(BEGIN_MICROS),
            sessions: Vec::new(),
            made: 0,
        };
        for _ in 0..OPEN_SESSIONS {
            let session = generator.session();
            generator.sessions.push(session);
        }
        generator
    }

    /// Session and time of the event made last.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The next event: its session, its id and its exact bytes.
    pub fn event(&mut self) -> (SessionId, EventId, Bytes) {
        self.made += 1;
        self.producer_seq += 1;
        self.now = self.now.plus_micros(1 + (self.next() % 400) as i64);
        let place = (self.next() % OPEN_SESSIONS as u64) as usize;
        if self.next().is_multiple_of(SESSION_EVENTS) {
            self.sessions[place] = self.session();
        }
        let event_id = EventId::new(self.now.as_millis() as u64, &self.bytes());
        let (session_id, user, (seq, prev)) = {
            let session = &self.sessions[place];
            (session.id, session.user, session.strand.next())
        };
        let mut event = json!({
            "v": 1, "event_id": event_id, "ts": self.now, "cluster": "production", "producer_id": "gateway-1",
            "producer_epoch": BEGIN_MICROS, "producer_seq": self.producer_seq, "class": self.class, "shard": self.shard.0,
            "session_id": session_id, "session_seq": seq,
        });
        if let Some(prev) = prev {
            event["prev_hash"] = json!(prev);
        }
        self.fill(&mut event, user);
        let bytes = serde_json::to_vec(&event).expect("a value is JSON");
        self.sessions[place].strand.push(EventHash::of(&bytes));
        (session_id, event_id, bytes.into())
    }

    /// Adds what an intent or an outcome says.
    fn fill(&mut self, event: &mut serde_json::Value, user: u64) {
        let namespace = ["shop", "payments", "search", "kube-system"][(self.next() % 4) as usize];
        let (verb, method) = [
            ("get", "GET"),
            ("list", "GET"),
            ("patch", "PATCH"),
            ("update", "PUT"),
        ][(self.next() % 4) as usize];
        let resource = ["pods", "configmaps", "secrets", "deployments"][(self.next() % 4) as usize];
        let name = format!("{resource}-{:08x}", self.next() % 5000);
        let outcome = self.made.is_multiple_of(2);
        event["kind"] = json!(if outcome { "outcome" } else { "intent" });
        event["request"] = json!({
            "audit_id": self.uuid(), "received": self.now,
            "user": {"username": format!("user-{user}@example.com"), "groups": ["developers", format!("team-{}", user % 12)]},
            "auth_method": "oidc", "login": format!("login-{user}"), "source_ip": format!("10.0.{}.{}", user % 7, user % 251),
            "http_method": method, "request_uri": format!("/api/v1/namespaces/{namespace}/{resource}/{name}"), "verb": verb,
            "object_ref": {"api_version": "v1", "resource": resource, "namespace": namespace, "name": name},
            "user_agent": "kubectl/v1.36.3 (linux/amd64) kubernetes/1a2b3c4", "command": format!("kubectl {verb}"),
        });
        event["decision"] = json!({
            "effect": if self.next().is_multiple_of(50) { "deny" } else { "allow" }, "cause": "rule", "profile": "developers",
            "rule": format!("{verb}-{resource}"), "policy_revision": "0123456789abcdef",
        });
        if outcome {
            event["status"] = json!(200);
            event["answered_by"] = json!("upstream");
            event["ended"] = json!("complete");
            event["request_bytes"] = json!(0);
            event["response_bytes"] = json!(self.next() % 5000);
            event["first_byte_us"] = json!(self.next() % 9000);
            event["duration_us"] = json!(9000 + self.next() % 9000);
        } else {
            event["level"] = json!("RequestResponse");
            event["durability"] = json!("log");
        }
        event["body"] = self.body(namespace, resource, &name);
    }

    /// An object as the API server shows it: random ids, versions and times, and its managed fields.
    fn body(&mut self, namespace: &str, resource: &str, name: &str) -> serde_json::Value {
        let uid = self.uuid();
        let time = self.now.to_string();
        let content = json!({
            "kind": resource, "apiVersion": "v1",
            "metadata": {
                "name": name, "namespace": namespace, "uid": uid, "resourceVersion": (self.next() % 90_000_000).to_string(),
                "creationTimestamp": &time[..20], "labels": {"app": name, "pod-template-hash": format!("{:010x}", self.next() & 0xff_ffff_ffff)},
                "managedFields": [{
                    "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": &time[..20], "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}, "f:name": {}}}}},
                }],
            },
            "spec": {"nodeName": format!("node-{}", self.next() % 40), "containers": [{"name": "main", "image": format!("registry.example.com/{resource}@sha256:{}", self.hex(32))}]},
        });
        let bytes = content.to_string().len();
        json!({"media_type": "application/json", "encoding": "json", "content": content, "bytes": bytes, "sha256": self.hex(32)})
    }

    fn session(&mut self) -> Session {
        let id = loop {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.next().to_be_bytes());
            id[8..].copy_from_slice(&self.next().to_be_bytes());
            let id = SessionId::from_bytes(id);
            if id.shard(self.shard.1) == self.shard.0 {
                break id;
            }
        };
        let user = self.next() % 200;
        Session {
            id,
            strand: Strand::default(),
            user,
        }
    }

    fn uuid(&mut self) -> String {
        EventId::new(self.next() >> 16, &self.bytes()).to_string()
    }

    fn hex(&mut self, bytes: usize) -> String {
        (0..bytes)
            .map(|_| format!("{:02x}", self.next() & 255))
            .collect()
    }

    fn bytes(&mut self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes()[..2]);
        bytes
    }

    /// splitmix64: no more than is needed to look random.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
