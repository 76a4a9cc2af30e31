//! Masking: a big SecretList, against copying its bytes and against parsing them into nothing; a big PodList under masking
//! rules; and the lines of a log that is looked through for secrets, against `regex` looking for the same in the whole.
//!
//! `cargo bench -p hoop-proxy --bench mask`; prints GB/s of one core, best of five.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop_proxy::mask::{
    DETECTORS, FieldPath, Fields, LooksFor, MaskHint, MaskKey, MaskMode, Masker, Masking,
    MaskingRule, Scanner, Sought, TextRules,
};

const BODY_BYTES: usize = 100_000_000;

/// What hyper hands over at a time, more or less.
const CHUNK_BYTES: usize = 64 * 1024;

fn main() {
    let body = secret_list();
    println!(
        "SecretList of {} MB, in chunks of {} KiB",
        body.len() / 1_000_000,
        CHUNK_BYTES / 1024
    );
    report("copy", &body, || {
        let mut out = Vec::with_capacity(CHUNK_BYTES);
        for chunk in body.chunks(CHUNK_BYTES) {
            out.clear();
            out.extend_from_slice(black_box(chunk));
            black_box(&out);
        }
    });
    report("serde_json, values ignored", &body, || {
        let ignored: serde::de::IgnoredAny = serde_json::from_slice(&body).expect("JSON");
        black_box(ignored);
    });
    for (name, mode) in [
        ("mask, redact", MaskMode::Redact),
        ("mask, hmac", MaskMode::Hmac),
    ] {
        report(name, &body, || {
            let key = Arc::new(MaskKey::from_bytes([7; 32]));
            let mut masker = Masker::new(MaskHint::Secrets, mode, key);
            let mut out = Vec::with_capacity(2 * CHUNK_BYTES);
            for chunk in body.chunks(CHUNK_BYTES) {
                out.clear();
                masker.push(black_box(chunk), &mut out).expect("JSON");
                black_box(&out);
            }
            masker.finish(&mut out).expect("JSON");
            assert!(masker.masked().count > 0);
        });
    }
    pods();
    lines();
}

/// A list of pods, under no rules, under one that masks a field, and under all detectors.
fn pods() {
    let body = pod_list();
    println!("PodList of {} MB", body.len() / 1_000_000);
    report("serde_json, values ignored", &body, || {
        let ignored: serde::de::IgnoredAny = serde_json::from_slice(&body).expect("JSON");
        black_box(ignored);
    });
    let field = Fields {
        kind: None,
        path: FieldPath::parse(".spec.containers[*].env[*].value").expect("a path"),
    };
    let detectors = || DETECTORS.iter().map(LooksFor::Detector).collect();
    for (name, rule) in [
        ("mask, no rules", None),
        ("mask, env values", Some((vec![field.clone()], Vec::new()))),
        (
            "mask, all detectors in env",
            Some((vec![field], detectors())),
        ),
        (
            "mask, all detectors everywhere",
            Some((Vec::new(), detectors())),
        ),
    ] {
        let masking = rule.map(|(fields, looks_for)| {
            let rule = MaskingRule {
                name: name.to_owned(),
                fields,
                looks_for,
                client: MaskMode::Redact,
                record: MaskMode::Redact,
            };
            Masking::new(&[Arc::new(rule)]).expect("small rules")
        });
        let view = masking.as_ref().map(|masking| Arc::clone(masking.record()));
        report(name, &body, || {
            let key = Arc::new(MaskKey::from_bytes([7; 32]));
            let mut masker = Masker::new(MaskHint::Other, MaskMode::Redact, key)
                .with_rules(view.as_ref(), "pods");
            let mut out = Vec::with_capacity(2 * CHUNK_BYTES);
            for chunk in body.chunks(CHUNK_BYTES) {
                out.clear();
                masker.push(black_box(chunk), &mut out).expect("JSON");
                black_box(&out);
            }
            masker.finish(&mut out).expect("JSON");
            assert_eq!(masker.masked().count > 0, view.is_some());
        });
    }
}

/// Lines of a log, in pieces as a container writes them.
fn lines() {
    let text = log_lines();
    println!("log of {} MB", text.len() / 1_000_000);
    let sought = || {
        let sought = |detector| Sought::detector(detector, MaskMode::Redact);
        DETECTORS.iter().map(sought).collect::<Vec<_>>()
    };
    let rules = Arc::new(TextRules::new(sought()).expect("small rules"));
    report("regex, all detectors at once", &text, || {
        assert!(rules.count_in(&text) > 0);
    });
    for (name, piece) in [
        ("scan, pieces of 64 KiB", CHUNK_BYTES),
        ("scan, pieces of 4 KiB", 4096),
        ("scan, pieces of 100 bytes", 100),
    ] {
        report(name, &text, || {
            let key = Arc::new(MaskKey::from_bytes([7; 32]));
            let mut scanner = Scanner::new(Arc::clone(&rules), key);
            let mut out = Vec::with_capacity(2 * CHUNK_BYTES);
            for piece in text.chunks(piece) {
                out.clear();
                scanner.push(black_box(piece), &mut out);
                black_box(&out);
            }
            scanner.finish(&mut out);
            assert!(scanner.masked() > 0);
        });
    }
}

/// Pods as a deployment makes them; one in a hundred has a password in its environment.
fn pod_list() -> Vec<u8> {
    let mut body =
        r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5000"},"items":["#
            .to_owned();
    for i in 0.. {
        let url = if i % 100 == 0 {
            format!("postgres://app:hunter2-{i}@db.team.svc:5432/app")
        } else {
            "http://metrics.team.svc:9090/api/v1/write".to_owned()
        };
        body.push_str(&format!(
            r#"{{"metadata":{{"name":"web-6d4cf56db6-{i:05x}","generateName":"web-6d4cf56db6-","namespace":"team-{ns}","uid":"0b1c2d3e-{short:04x}-4555-8666-{i:012x}","resourceVersion":"{i}","creationTimestamp":"2026-01-02T03:04:05Z","labels":{{"app":"web","pod-template-hash":"6d4cf56db6"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-6d4cf56db6","uid":"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee","controller":true,"blockOwnerDeletion":true}}]}},"spec":{{"volumes":[{{"name":"kube-api-access-x","projected":{{"sources":[{{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},{{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}}],"defaultMode":420}}}}],"containers":[{{"name":"web","image":"registry.example.com/team/web:v1.{i}","ports":[{{"containerPort":8080,"protocol":"TCP"}}],"env":[{{"name":"DATABASE_URL","value":"{url}"}},{{"name":"LOG_LEVEL","value":"info"}},{{"name":"POD_IP","valueFrom":{{"fieldRef":{{"apiVersion":"v1","fieldPath":"status.podIP"}}}}}}],"resources":{{"limits":{{"cpu":"500m","memory":"256Mi"}},"requests":{{"cpu":"100m","memory":"128Mi"}}}},"volumeMounts":[{{"name":"kube-api-access-x","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}],"terminationMessagePath":"/dev/termination-log","imagePullPolicy":"IfNotPresent"}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","nodeName":"node-{ns}","schedulerName":"default-scheduler"}},"status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True","lastTransitionTime":"2026-01-02T03:04:15Z"}}],"hostIP":"10.0.0.{ns}","podIP":"10.1.{ns}.{short}","startTime":"2026-01-02T03:04:05Z"}}}}"#,
            ns = i % 50,
            short = i % 250,
        ));
        if body.len() >= BODY_BYTES {
            break;
        }
        body.push(',');
    }
    body.push_str("]}");
    body.into_bytes()
}

/// Lines of a web server, one in a thousand with a credential.
fn log_lines() -> Vec<u8> {
    let mut text = String::new();
    for i in 0.. {
        text.push_str(&format!(
            "2026-01-02T03:04:05.{:06}Z INFO request method=GET path=/api/v1/items/{i} status=200 bytes={} duration_ms={} trace=4bf92f3577b34da6a3ce929d0e0e{:04x}\n",
            i % 1_000_000,
            i * 7 % 5000,
            i % 90,
            i % 65536,
        ));
        if i % 1000 == 0 {
            text.push_str(&format!(
                "2026-01-02T03:04:05Z DEBUG connecting to postgres://app:hunter2-{i}@db:5432/app\n"
            ));
        }
        if text.len() >= BODY_BYTES {
            break;
        }
    }
    text.into_bytes()
}

fn report(name: &str, body: &[u8], mut run: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .min()
        .unwrap_or(Duration::MAX);
    println!(
        "{name:30} {:6.2} GB/s",
        body.len() as f64 / best.as_secs_f64() / 1e9
    );
}

/// Secrets as clusters have them: a TLS certificate with its key, a password, an image pull secret; with labels,
/// managedFields and, for one in three, what was applied.
fn secret_list() -> Vec<u8> {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut base64 = |length: usize| -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..length)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                char::from(ALPHABET[(random % 64) as usize])
            })
            .collect()
    };
    let mut body =
        r#"{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"5000"},"items":["#
            .to_owned();
    for i in 0.. {
        let (secret_type, fields, data) = match i % 3 {
            0 => {
                let (certificate, key) = (base64(2_400), base64(2_272));
                (
                    "kubernetes.io/tls",
                    ["tls.crt", "tls.key"],
                    format!(r#""tls.crt":"{certificate}","tls.key":"{key}""#),
                )
            }
            1 => {
                let (user, password) = (base64(16), base64(44));
                (
                    "Opaque",
                    ["username", "password"],
                    format!(r#""password":"{password}","username":"{user}""#),
                )
            }
            _ => {
                let config = base64(420);
                (
                    "kubernetes.io/dockerconfigjson",
                    [".dockerconfigjson", "x"],
                    format!(r#"".dockerconfigjson":"{config}""#),
                )
            }
        };
        let applied = if i % 3 == 1 {
            let inner = format!(
                r#"{{"apiVersion":"v1","data":{{{data}}},"kind":"Secret","metadata":{{"annotations":{{}},"name":"secret-{i}","namespace":"team-{}"}},"type":"{secret_type}"}}"#,
                i % 50
            );
            let text = serde_json::to_string(&format!("{inner}\n")).expect("a text");
            format!(r#""kubectl.kubernetes.io/last-applied-configuration":{text}"#)
        } else {
            String::new()
        };
        body.push_str(&format!(
            r#"{{"metadata":{{"name":"secret-{i}","namespace":"team-{}","uid":"0b1c2d3e-{i:04x}-4555-8666-{i:012x}","resourceVersion":"{i}","creationTimestamp":"2026-01-02T03:04:05Z","labels":{{"app.kubernetes.io/name":"web","app.kubernetes.io/managed-by":"Helm"}},"annotations":{{{applied}}},"managedFields":[{{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{{"f:data":{{".":{{}},"f:{}":{{}},"f:{}":{{}}}},"f:type":{{}}}}}}]}},"data":{{{data}}},"type":"{secret_type}"}}"#,
            i % 50, fields[0], fields[1],
        ));
        if body.len() >= BODY_BYTES {
            break;
        }
        body.push(',');
    }
    body.push_str("]}");
    body.into_bytes()
}
