//! Values that must never turn up: planted wherever a secret may stand, looked for in all that a client got and all that
//! was recorded, however it is wrapped.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hoop_proxy::PolicySource;
use http_body_util::Full;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};

use crate::harness::{Answer, Bed, Setup, eventually, request};

/// How often what was found is unwrapped again: a Helm release is base64 of base64 of gzip.
const WRAPPINGS_MAX: usize = 4;

/// The shortest run of base64 that is unwrapped, in characters.
const RUN_MIN: usize = 24;

const POLICY: &str = r#"
masking:
  - name: settings
    fields:
      - {kind: ConfigMap, paths: [.data.*, .binaryData.*]}
      - {kind: Pod, paths: ["..env[*].value"]}
      - paths: [".metadata.annotations['example.com/note']"]
profiles:
  - name: people
    subjects: {users: [alice]}
    rules:
      - {name: all, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], masking: [settings]}
"#;

const ACCEPTS: [&str; 8] = [
    "",
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf,application/json",
    "application/yaml",
    "application/cbor",
    "*/*",
];

/// A value that is found wherever it is.
struct Canary {
    value: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn new() -> Self {
        let number = || RandomState::new().hash_one(0);
        let value = format!("canary-{:016x}{:016x}", number(), number());
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![
            value.clone().into_bytes(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
        ];
        for before in 0..3 {
            let mut text = vec![b' '; before];
            text.extend(value.as_bytes());
            let encoded = STANDARD.encode(text);
            // Without the characters that also hold bits of what is around it.
            forms.push(encoded.as_bytes()[[0, 2, 3][before]..encoded.len() - 4].to_vec());
        }
        Self { value, forms }
    }

    fn is_in(&self, bytes: &[u8], wrappings: usize) -> bool {
        let found = |form: &Vec<u8>| memchr::memmem::find(bytes, form).is_some();
        if self.forms.iter().any(found) {
            return true;
        }
        if wrappings == 0 {
            return false;
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            // As far as it can be read.
            drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain));
            return self.is_in(&plain, wrappings - 1);
        }
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
        bytes
            .split(|byte| !is_base64(byte))
            .filter(|run| run.len() >= RUN_MIN)
            .any(|run| {
                let whole = &run[..run.len() - usize::from(run.len() % 4 == 1)];
                [STANDARD_NO_PAD, URL_SAFE_NO_PAD]
                    .iter()
                    .filter_map(|engine| engine.decode(whole).ok())
                    .any(|decoded| self.is_in(&decoded, wrappings - 1))
            })
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Objects with the canary wherever a secret may stand.
fn planted(canary: &str, name: &str) -> Vec<(&'static str, Value)> {
    let encoded = STANDARD.encode(canary);
    let release = STANDARD.encode(gzip(&json!({"config": {"password": canary}}).to_string()));
    let secret = |name: String, kind: &str, data: Value, annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        })
    };
    let applied = json!({"apiVersion": "v1", "stringData": {"p": canary}, "kind": "Secret"});
    vec![
        (
            "secrets",
            secret(
                format!("{name}-opaque"),
                "Opaque",
                json!({"p": encoded, "q": STANDARD.encode(format!("xx{canary}"))}),
                json!({
                    "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
                    "objectset.rio.cattle.io/applied": STANDARD.encode(gzip(&applied.to_string())),
                }),
            ),
        ),
        (
            "secrets",
            secret(
                format!("{name}-helm"),
                "helm.sh/release.v1",
                json!({"release": STANDARD.encode(release)}),
                json!({"example.com/note": canary}),
            ),
        ),
        (
            "configmaps",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("{name}-config"), "namespace": "shop", "annotations": {
                    "example.com/note": canary,
                    "kubectl.kubernetes.io/last-applied-configuration":
                        json!({"apiVersion": "v1", "data": {"p": canary}, "kind": "ConfigMap"}).to_string(),
                }},
                "data": {"p": canary, "hex": canary.bytes().map(|b| format!("{b:02x}")).collect::<String>()},
                "binaryData": {"b": encoded, "z": STANDARD.encode(gzip(canary))},
            }),
        ),
        (
            "pods",
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-pod"), "namespace": "shop"},
                "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "P", "value": canary}]}]},
            }),
        ),
    ]
}

/// One request, and a check that its answer does not hold the canary.
async fn ask(
    bed: &Bed,
    canary: &Canary,
    (method, target): (&str, &str),
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut builder = request(method, "alice", target);
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        builder = builder.header(*name, *value);
    }
    let sent = builder.body(Full::from(body.into())).unwrap();
    let answer = bed.client().await.send(sent).await;
    assert!(
        !canary.is_in(&answer.body, WRAPPINGS_MAX),
        "{method} {target} {headers:?}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    answer
}

/// Nothing that was recorded of so many requests holds the canary.
async fn assert_unrecorded(bed: &Bed, canary: &Canary, requests: usize) {
    eventually("all outcomes", async || {
        (bed.outcomes().await.len() >= requests).then_some(())
    })
    .await;
    let written = bed.written().await;
    if let Some(line) = written
        .lines()
        .find(|line| canary.is_in(line.as_bytes(), WRAPPINGS_MAX))
    {
        panic!("{} is recorded: {line}", canary.value);
    }
}

async fn start() -> Bed {
    let policy = PolicySource::Text(POLICY.to_owned());
    let setup = Setup {
        policy,
        ..Setup::default()
    };
    setup.start().await
}

#[test]
fn a_canary_is_found_however_it_is_wrapped() {
    let canary = Canary::new();
    let value = canary.value.as_str();
    let release = STANDARD.encode(STANDARD.encode(gzip(&format!("{{\"a\":\"{value}\"}}"))));
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        value.to_owned(),
        hex,
        STANDARD.encode(value),
        STANDARD.encode(format!("x{value}y")),
        format!("\"release\":\"{release}\""),
    ] {
        assert!(canary.is_in(text.as_bytes(), WRAPPINGS_MAX), "{text}");
    }
    assert!(!Canary::new().is_in(release.as_bytes(), WRAPPINGS_MAX));
}

#[tokio::test]
async fn what_is_read_never_shows_a_canary_in_any_verb_and_encoding() {
    let (bed, canary) = (start().await, Canary::new());
    let objects = planted(&canary.value, "read");
    for (_, object) in &objects {
        bed.cluster.put(object.clone()).unwrap();
    }
    let mut requests = 0;
    for accept in ACCEPTS {
        for (resource, object) in &objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let folder = format!("/api/v1/namespaces/shop/{resource}");
            for target in [
                format!("{folder}/{name}"),
                folder.clone(),
                format!("{folder}?limit=1&includeObject=Object"),
                format!("/api/v1/{resource}?includeObject=Object"),
                format!("{folder}?watch=true&timeoutSeconds=1&resourceVersion=0"),
            ] {
                ask(&bed, &canary, ("GET", &target), &[("accept", accept)], "").await;
                requests += 1;
            }
        }
    }
    assert_unrecorded(&bed, &canary, requests).await;
}

/// Every way to write an object: method, target, `Content-Type`, `Content-Encoding`, body. The second creates it.
fn writes(
    canary: &Canary,
    resource: &str,
    object: &Value,
) -> Vec<(&'static str, String, &'static str, &'static str, Vec<u8>)> {
    let folder = format!("/api/v1/namespaces/shop/{resource}");
    let one = format!("{folder}/{}", object["metadata"]["name"].as_str().unwrap());
    let dry = format!("{folder}?dryRun=All");
    let json = object.to_string();
    let yaml = serde_saphyr::to_string(object).unwrap();
    let patch = match resource {
        "pods" => json!({"metadata": {"annotations": {"example.com/note": canary.value}}}),
        "secrets" => json!({"stringData": {"n": canary.value}}),
        _ => json!({"data": {"n": canary.value}}),
    };
    let patch = patch.to_string();
    let operations = json!([{"op": "add", "path": "/data/m", "value": canary.value}]);
    let mut put = object.clone();
    put["metadata"]["resourceVersion"] = Value::Null;
    let plain = |method, target: &String, media_type, body: &str| {
        (
            method,
            target.clone(),
            media_type,
            "",
            body.as_bytes().to_vec(),
        )
    };
    vec![
        plain("POST", &dry, "application/json", &json),
        plain("POST", &folder, "application/json", &json),
        // It is there already, and the answer says so.
        plain("POST", &folder, "application/yaml", &yaml),
        plain("PUT", &one, "application/json", &put.to_string()),
        plain("PATCH", &one, "application/merge-patch+json", &patch),
        plain(
            "PATCH",
            &one,
            "application/strategic-merge-patch+json",
            &patch,
        ),
        plain(
            "PATCH",
            &one,
            "application/json-patch+json",
            &operations.to_string(),
        ),
        plain("PATCH", &one, "application/apply-patch+yaml", &yaml),
        plain("PATCH", &one, "application/apply-patch+yaml", &json),
        plain("DELETE", &one, "application/json", ""),
        plain("DELETE", &folder, "application/json", ""),
        ("POST", folder, "application/json", "gzip", gzip(&json)),
    ]
}

#[tokio::test]
async fn what_is_written_never_shows_a_canary_in_any_verb_and_encoding() {
    let (bed, canary) = (start().await, Canary::new());
    let mut requests = 0;
    for (round, accept) in ACCEPTS.iter().enumerate() {
        for (resource, object) in planted(&canary.value, &format!("w{round}")) {
            let all = writes(&canary, resource, &object);
            for (i, (method, target, media_type, encoding, body)) in all.into_iter().enumerate() {
                let headers = [
                    ("accept", *accept),
                    ("content-type", media_type),
                    ("content-encoding", encoding),
                ];
                let answer = ask(&bed, &canary, (method, &target), &headers, body).await;
                let has_form = answer.status == 201 || accept.contains("Metadata");
                assert!(i != 1 || has_form, "{answer:?}");
                requests += 1;
            }
        }
    }
    assert_unrecorded(&bed, &canary, requests).await;
}

/// A Secret as client-go writes it in protobuf.
fn protobuf_secret(name: &str, value: &str) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        assert!(bytes.len() < 128);
        out.extend(bytes);
        out
    }
    let entry = [field(1, b"p"), field(2, value.as_bytes())].concat();
    let metadata = [field(1, name.as_bytes()), field(3, b"shop")].concat();
    let secret = [field(1, &metadata), field(2, &entry)].concat();
    let type_meta = [field(1, b"v1"), field(2, b"Secret")].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &secret)].concat()
}

#[tokio::test]
async fn a_secret_in_protobuf_is_recorded_readable_and_masked() {
    let (bed, canary) = (start().await, Canary::new());
    let body = protobuf_secret("proto", &canary.value);
    let headers = [
        ("content-type", "application/vnd.kubernetes.protobuf"),
        (
            "accept",
            "application/vnd.kubernetes.protobuf,application/json",
        ),
    ];
    let folder = "/api/v1/namespaces/shop/secrets";
    let answer = ask(&bed, &canary, ("POST", folder), &headers, body.clone()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(bed.cluster.seen().pop().unwrap().body, body);
    let (intent, _) = bed.only().await;
    let recorded = intent.body.unwrap().content.unwrap();
    let recorded: Value = serde_json::from_str(recorded.get()).unwrap();
    assert_eq!(recorded["kind"], "Secret");
    assert_eq!(recorded["metadata"]["name"], "proto");
    assert_eq!(recorded["data"]["p"], "Kipob29wLW1hc2tlZCoq");
    assert_unrecorded(&bed, &canary, 1).await;
    // A masked value is found in protobuf too, and its field is named.
    let back = protobuf_secret("proto", "**hoop-masked**");
    let answer = ask(&bed, &canary, ("POST", folder), &headers, back).await;
    assert_eq!(answer.status, 422);
    assert!(answer.message().starts_with("data.p "), "{answer:?}");
}

#[tokio::test]
async fn cbor_is_refused_and_gzip_is_looked_into() {
    let (bed, canary) = (start().await, Canary::new());
    let folder = "/api/v1/namespaces/shop/secrets";
    let cbor = [("content-type", "application/cbor")];
    let answer = ask(
        &bed,
        &canary,
        ("POST", folder),
        &cbor,
        &b"\xd9\xd9\xf7\xa0"[..],
    )
    .await;
    assert_eq!(answer.status, 415);
    assert_eq!(answer.json()["reason"], "UnsupportedMediaType");
    let packed = |encoding| {
        [
            ("content-type", "application/json"),
            ("content-encoding", encoding),
        ]
    };
    let back = gzip(r#"{"kind":"Secret","stringData":{"p":"\u002a*hoop-masked**"}}"#);
    let answer = ask(&bed, &canary, ("POST", folder), &packed("gzip"), back).await;
    assert_eq!(answer.status, 422);
    assert!(answer.message().starts_with("stringData.p "), "{answer:?}");
    let answer = ask(&bed, &canary, ("POST", folder), &packed("gzip"), "none").await;
    assert_eq!(answer.status, 400);
    let answer = ask(&bed, &canary, ("POST", folder), &packed("br"), "{}").await;
    assert_eq!(answer.status, 415);
    let bomb = gzip(&" ".repeat(64 << 20));
    let answer = ask(&bed, &canary, ("POST", folder), &packed("gzip"), bomb).await;
    assert_eq!(answer.status, 413);
    assert!(bed.cluster.seen().iter().all(|seen| seen.method != "POST"));
}
