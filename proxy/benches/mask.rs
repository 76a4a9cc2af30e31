//! Masking a big SecretList, against copying its bytes and against parsing them into nothing.
//!
//! `cargo bench -p hoop-proxy --bench mask`; prints GB/s of one core, best of five.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop_proxy::mask::{MaskHint, MaskKey, MaskMode, Masker};

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
