//! Bodies that are small and mean much: deep, or swelling. Each is read within bounds, or refused.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hoop_proxy::PolicySource;
use hoop_proxy::mask::SENTINEL;
use http_body_util::Full;

use crate::harness::{Bed, Setup, request};

/// A rule that looks into bodies, so that they are read for it as well.
const POLICY: &str = r#"
profiles:
  - name: developers
    subjects: {users: [alice]}
    rules:
      - name: small
        effect: deny
        apiGroups: [""]
        resources: [configmaps]
        verbs: [create]
        when: 'has(object.data) && has(object.data.forbidden)'
      - {name: work, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
"#;

/// Long for a loaded machine, and nothing beside what a body without bounds would take.
const SOON: Duration = Duration::from_secs(10);

async fn post(bed: &Bed, media_type: &str, encoding: &str, body: Vec<u8>) -> u16 {
    let begun = Instant::now();
    let target = "/api/v1/namespaces/shop/configmaps";
    let mut request = request("POST", "alice", target).header("content-type", media_type);
    if !encoding.is_empty() {
        request = request.header("content-encoding", encoding);
    }
    let request = request.body(Full::from(body)).unwrap();
    let answer = bed.client().await.send(request).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    answer.status.as_u16()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Message inside message, `depth` of them, in the field that an object's metadata is in.
fn protobuf(depth: usize) -> Vec<u8> {
    let varint = |mut n: usize| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(u8::try_from(n % 0x80).unwrap() | 0x80);
            n /= 0x80;
        }
        out.push(u8::try_from(n).unwrap());
        out
    };
    // From the inside out, so written backwards.
    let mut backwards: Vec<u8> = Vec::new();
    for _ in 0..depth {
        let length = varint(backwards.len());
        backwards.extend(length.iter().rev());
        backwards.push(0x0a);
    }
    backwards.reverse();
    let mut body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12".to_vec();
    body.extend(varint(backwards.len()));
    body.extend(backwards);
    body
}

#[tokio::test]
async fn deep_and_swelling_bodies_are_read_within_bounds() {
    let setup = Setup {
        policy: PolicySource::Text(POLICY.into()),
        ..Setup::default()
    };
    let bed = setup.start().await;
    let deep = |open: &str, close: &str, depth: usize| {
        let text = open.repeat(depth) + close.repeat(depth).as_str();
        text.into_bytes()
    };
    let laughs: String = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
        let before = format!("*a{}", i - 1);
        text + &format!("a{i}: &a{i} [{}]\n", [before.as_str(); 9].join(","))
    });
    let with_mark = |mut body: Vec<u8>| {
        body.extend_from_slice(SENTINEL.as_bytes());
        body
    };
    let bodies = [
        ("arrays", "application/json", "", deep("[", "]", 1_000_000)),
        ("objects", "application/json", "", deep("{\"a\":", "}", 400_000)),
        ("arrays without end", "application/json", "", deep("[", "", 2_000_000)),
        ("a deep mark", "application/json", "", with_mark(deep("[", "", 1_000_000))),
        ("a long number", "application/json", "", deep("9", "", 2_000_000)),
        ("a deep annotation", "application/json", "", format!(
            r#"{{"kind":"ConfigMap","metadata":{{"annotations":{{"kubectl.kubernetes.io/last-applied-configuration":"{}"}}}}}}"#,
            r#"{\"a\":"#.repeat(200_000)
        ).into_bytes()),
        ("sequences", "application/yaml", "", deep("[", "]", 1_000_000)),
        ("mappings", "application/yaml", "", deep("{a: ", "}", 400_000)),
        ("indented", "application/yaml", "", deep("- ", "x", 500_000)),
        ("a thousand million laughs", "application/yaml", "", laughs.clone().into_bytes()),
        ("laughs and a mark", "application/yaml", "", with_mark(laughs.into_bytes())),
        ("messages", "application/vnd.kubernetes.protobuf", "", protobuf(300_000)),
        ("messages and a mark", "application/vnd.kubernetes.protobuf", "", with_mark(protobuf(300_000))),
        ("swelling", "application/json", "gzip", gzip(&vec![b' '; 1 << 28])),
        ("swelling twice", "application/json", "gzip, gzip", gzip(&gzip(&vec![b' '; 1 << 24]))),
        ("no gzip", "application/json", "gzip", b"\x1f\x8b\x08".to_vec()),
        ("another encoding", "application/json", "br", vec![0; 100]),
        ("CBOR", "application/cbor", "", vec![0x81; 1_000_000]),
        ("several CBOR types", "application/cbor-seq;x=y", "", vec![0x9f; 1_000_000]),
    ];
    let count = bodies.len();
    for (name, media_type, encoding, body) in bodies {
        let status = post(&bed, media_type, encoding, body).await;
        assert!((400..500).contains(&status), "{name}: {status}");
    }
    assert_eq!(
        bed.get("/api/v1/namespaces/shop/configmaps").await.status,
        200
    );
    assert_eq!(bed.intents().await.len(), count + 1);
}
