mod model;
mod rules;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::sentinel::SENTINEL_BASE64;
use super::*;

const SECRET: &str = include_str!("../../tests/vectors/secret.json");
const STRING_DATA: &str = include_str!("../../tests/vectors/secret-stringdata.json");
const SECRET_LIST: &str = include_str!("../../tests/vectors/secretlist.json");
const CONFIG_MAP: &str = include_str!("../../tests/vectors/configmap.json");
const TOKEN_REQUEST: &str = include_str!("../../tests/vectors/tokenrequest.json");
const WATCH: &str = include_str!("../../tests/vectors/watch-secrets.json.stream");

fn key() -> Arc<MaskKey> {
    Arc::new(MaskKey::from_bytes([7; 32]))
}

/// Masks a body that arrives in pieces of `size` bytes.
fn mask_in(
    hint: MaskHint,
    mode: MaskMode,
    body: &[u8],
    size: usize,
) -> Result<(String, Masked), MaskError> {
    let mut masker = Masker::new(hint, mode, key());
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        masker.push(chunk, &mut out)?;
    }
    masker.finish(&mut out)?;
    Ok((
        String::from_utf8(out).expect("text stays text"),
        masker.masked().clone(),
    ))
}

/// Masks a body, the same for every cut of it.
fn mask(hint: MaskHint, body: &str) -> (String, Masked) {
    let whole = mask_in(hint, MaskMode::Redact, body.as_bytes(), usize::MAX).expect("JSON");
    for size in [1, 2, 3, 7] {
        let cut = mask_in(hint, MaskMode::Redact, body.as_bytes(), size).expect("JSON");
        assert_eq!(cut, whole, "in pieces of {size}");
    }
    whole
}

fn refuse(body: &str) -> MaskError {
    mask_in(
        MaskHint::Unknown,
        MaskMode::Redact,
        body.as_bytes(),
        usize::MAX,
    )
    .expect_err("no JSON")
}

fn applied(object: &Value) -> Value {
    let text =
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
            .as_str();
    serde_json::from_str(text.expect("an annotation")).expect("still JSON")
}

#[test]
fn secret_keeps_everything_but_its_values() {
    for hint in [MaskHint::Unknown, MaskHint::Secrets, MaskHint::Other] {
        let (text, masked) = mask(hint, SECRET);
        let (was, is): (Value, Value) = (
            serde_json::from_str(SECRET).expect("JSON"),
            serde_json::from_str(&text).expect("JSON"),
        );
        assert_eq!(is["data"]["password"], SENTINEL_BASE64);
        assert_eq!(is["data"]["bin"], SENTINEL_BASE64);
        assert_eq!(applied(&is)["stringData"]["password"], SENTINEL);
        assert_eq!(
            is["metadata"]["managedFields"],
            was["metadata"]["managedFields"]
        );
        assert_eq!(is["type"], was["type"]);
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg=="));
        assert_eq!(masked.count, 3);
        let applied_path = "metadata.annotations.kubectl.kubernetes.io/last-applied-configuration.stringData.password";
        assert_eq!(masked.paths, [applied_path, "data.bin", "data.password"]);
    }
}

#[test]
fn lists_watches_and_tokens_are_masked() {
    let (text, masked) = mask(MaskHint::Unknown, SECRET_LIST);
    assert!(
        !text.contains("hunter2") && !text.contains("s3cr3t"),
        "{text}"
    );
    assert!(
        masked.paths.contains(&"items[].data.password".to_owned()),
        "{masked:?}"
    );
    let (text, masked) = mask(MaskHint::Unknown, WATCH);
    assert!(
        !text.contains("hunter2") && !text.contains("aHVudGVyMg") && !text.contains("s3cr3t"),
        "{text}"
    );
    assert_eq!(text.lines().count(), WATCH.lines().count());
    assert!(text.contains("too old resource version: 1 (2)"));
    assert!(
        masked.paths.contains(&"object.data.password".to_owned()),
        "{masked:?}"
    );
    let (text, masked) = mask(MaskHint::TokenRequest, TOKEN_REQUEST);
    assert_eq!(text, TOKEN_REQUEST.replace("eyJ.fake.jwt", SENTINEL));
    assert_eq!(masked.paths, ["status.token"]);
    let (text, _) = mask(MaskHint::Secrets, STRING_DATA);
    assert_eq!(text, STRING_DATA.replace("s3cr3t", SENTINEL));
}

#[test]
fn what_is_no_secret_comes_out_byte_for_byte() {
    let pretty = "{\n  \"kind\" : \"ConfigMap\",\r\n\t\"data\": { \"a\": \"\\u0041\", \"n\": 1.50e+03 }\n}\n";
    let pods = r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"\\u003c\"}}"}},"data":{"x":"y"}}]}"#;
    let custom = r#"{"apiVersion":"example.com/v1","data":{"x":"y"},"kind":"Thing"}"#;
    for body in [
        CONFIG_MAP,
        pretty,
        pods,
        custom,
        "",
        " \n",
        "[1,-0.5e-7,true,false,null,\"\"]",
        "7",
    ] {
        let (text, masked) = mask(MaskHint::Other, body);
        assert_eq!(text, body);
        assert!(masked.is_empty());
    }
}

#[test]
fn table_rows_of_secrets_do_not_leak_what_was_applied() {
    let table = |row: &str| {
        format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[],"rows":[{{"cells":["db",1],"object":{row}}}]}}"#
        )
    };
    let annotation = r#"{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"data\":{\"p\":\"aHVudGVyMg==\"},\"kind\":\"Secret\"}"}"#;
    let metadata = table(&format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"annotations":{annotation}}}}}"#
    ));
    for hint in [MaskHint::Secrets, MaskHint::Unknown] {
        let (text, masked) = mask(hint, &metadata);
        assert!(!text.contains("aHVudGVyMg"), "{text}");
        assert_eq!(masked.count, 1);
    }
    let whole = table(SECRET);
    assert!(!mask(MaskHint::Unknown, &whole).0.contains("hunter2"));
    let frame = format!(r#"{{"type":"ADDED","object":{metadata}}}"#);
    assert!(!mask(MaskHint::Unknown, &frame).0.contains("aHVudGVyMg"));
    assert_eq!(
        mask(MaskHint::Other, &table(CONFIG_MAP)).0,
        table(CONFIG_MAP)
    );
}

#[test]
fn doubt_masks() {
    for body in [
        r#"{"data":{"p":"hunter2"},"kind":"Secret"}"#,
        r#"{"data":{"p":"hunter2"},"kind":"ConfigMap"}"#,
        r#"{"kind":"Secret","kind":"ConfigMap","data":{"p":"hunter2"}}"#,
        r#"{"d\u0061ta":{"p":"hunter2"}}"#,
        r#"{"k\u0069nd":"S\u0065cret","data":{"p":"hunter2"}}"#,
        r#"{"kind":"Secret","data":{"p":"a"},"data":{"p":"hunter2"}}"#,
        r#"{"kind":"Secret","data":"hunter2"}"#,
        r#"{"kind":"Secret","data":{"p":["x",{"y":"hunter2"}]}}"#,
        r#"{"kind":"List","items":[{"data":{"p":"hunter2"}}]}"#,
        r#"{"kind":"List","items":[{"kind":"Secret","stringData":{"p":"hunter2"}}]}"#,
        r#"{"items":[{"data":{"p":"hunter2"}}],"kind":"SecretList"}"#,
        r#"{"kind":"Secret","metadata":{"annotations":{"objectset.rio.cattle.io/applied":"hunter2"}}}"#,
        r#"{"kind":"Secret","metadata":{"annotations":{"kapp.k14s.io/original":"no JSON, but hunter2"}}}"#,
        r#"{"kind":"Secret","metadata":{"annotations":{"kapp.k14s.io/original":"{\"kind\":\"Secret\", hunter2"}}}"#,
        r#"{"kind":"Secret","metadata":{"annotations":{"kapp.k14s.io/original":"\"hunter2\""}}}"#,
        r#"{"kind":"Secret","metadata":{"annotations":{"kapp.k14s.io/original":"{\"data\":{\"p\":\"hunter2"}}}"#,
        r#"{"kind":"TokenReview","spec":{"token":"hunter2"}}"#,
    ] {
        let (text, masked) = mask(MaskHint::Unknown, body);
        assert!(!text.contains("hunter2"), "{body} gave {text}");
        assert!(masked.count >= 1 && !masked.paths.is_empty());
        let parsed = serde_json::from_str::<Value>(&text);
        assert!(parsed.is_ok(), "{body} gave {text}");
    }
}

#[test]
fn request_says_what_untyped_bodies_are() {
    for body in [
        r#"{"data":{"p":"hunter2"}}"#,
        r#"{"kind":"ConfigMap","data":{"p":"hunter2"}}"#,
        r#"[{"op":"add","path":"/data/p","value":"hunter2"},{"op":"test","path":"/type","value":{"a":["hunter2"]}}]"#,
    ] {
        let (text, _) = mask(MaskHint::Secrets, body);
        assert!(!text.contains("hunter2"), "{text}");
    }
    let patch = r#"[{"op":"remove","path":"/data/p","value":null}]"#;
    assert_eq!(mask(MaskHint::Secrets, patch).0, patch);
}

#[test]
fn numbers_and_words_in_secrets_are_masked_too() {
    let (text, masked) = mask(
        MaskHint::Unknown,
        r#"{"kind":"Secret","data":{"a":-1.5e3,"b":true,"c":null}}"#,
    );
    assert_eq!(
        text,
        format!(
            r#"{{"kind":"Secret","data":{{"a":"{SENTINEL_BASE64}","b":"{SENTINEL_BASE64}","c":null}}}}"#
        )
    );
    assert_eq!(masked.count, 2);
}

#[test]
fn what_is_no_json_is_refused() {
    for body in [
        "k8s\0\n",
        "{",
        "{\"a\"",
        "{\"a\":1",
        "[1,]",
        "{\"a\":1,}",
        "{,}",
        "[1 2]",
        "}",
        "[}",
        "{]",
        "01",
        "1.",
        "-",
        "1e",
        "tru",
        "truE",
        "nul",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "{1:2}",
        "{\"a\" 1}",
        "a: b",
        "+1",
        "<html>",
    ] {
        refuse(body);
    }
    let deep = "[".repeat(600);
    assert_eq!(
        refuse(&deep).to_string(),
        "cannot mask the body: the body nests too deeply at byte 512"
    );
}

#[test]
fn equal_secrets_stay_comparable_under_a_key() {
    let body = r#"{"kind":"Secret","data":{"a":"aHVudGVyMg==","b":"aHVudGVyMw==","c":"bad!"},"stringData":{"a":"hunter\u0032","c":"bad!"}}"#;
    let masked: Vec<Value> = [1, 5, usize::MAX]
        .map(|size| {
            mask_in(MaskHint::Unknown, MaskMode::Hmac, body.as_bytes(), size)
                .expect("JSON")
                .0
        })
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .into();
    assert!(
        masked.iter().all(|value| *value == masked[0]),
        "the cut does not matter"
    );
    let decoded = |key: &str| {
        let text = masked[0]["data"][key].as_str().expect("text");
        String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text")
    };
    let plain = masked[0]["stringData"]["a"].as_str().expect("text");
    assert_eq!(decoded("a"), plain);
    assert_ne!(decoded("a"), decoded("b"));
    assert_ne!(
        decoded("c"),
        masked[0]["stringData"]["c"].as_str().expect("text")
    );
    assert!(
        plain.starts_with("**hoop-masked**hmac:") && plain.len() == 20 + 32,
        "{plain}"
    );
    let mut other = Masker::new(
        MaskHint::Unknown,
        MaskMode::Hmac,
        Arc::new(MaskKey::from_bytes([8; 32])),
    );
    let mut out = Vec::new();
    other.push(body.as_bytes(), &mut out).expect("JSON");
    assert!(
        !String::from_utf8(out).expect("text").contains(plain),
        "another key, another hash"
    );
}

#[test]
fn masked_values_are_found_again_in_any_form() {
    let (text, _) = mask(MaskHint::Unknown, SECRET);
    assert!(contains_masked_value(text.as_bytes()).is_some());
    assert_eq!(contains_masked_value(SECRET.as_bytes()), None);
    let hmac = mask_in(MaskHint::Unknown, MaskMode::Hmac, SECRET.as_bytes(), 64)
        .expect("JSON")
        .0;
    assert!(contains_masked_value(hmac.as_bytes()).is_some());
    for before in ["", "a", "ab", "abc", "pass="] {
        let text = format!("{before}{SENTINEL}\n");
        assert_eq!(
            contains_masked_value(text.as_bytes()),
            Some(MaskedForm::Plain)
        );
        let base64 = format!("data:\n  p: {}", STANDARD.encode(text));
        assert_eq!(
            contains_masked_value(base64.as_bytes()),
            Some(MaskedForm::Base64),
            "{before:?}"
        );
    }
}

#[test]
fn no_mask_passes_everything_and_the_record_is_never_weaker() {
    let (text, masked) =
        mask_in(MaskHint::Secrets, MaskMode::None, b"not json", 3).expect("unread");
    assert_eq!((text.as_str(), masked.is_empty()), ("not json", true));
    assert_eq!(MaskMode::None.for_record(), MaskMode::Redact);
    assert_eq!(MaskMode::Hmac.for_record(), MaskMode::Hmac);
}

#[test]
fn accept_keeps_json_and_never_is_empty() {
    for (sent, kept) in [
        ("", "application/json"),
        (
            "application/vnd.kubernetes.protobuf,application/json",
            "application/json",
        ),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        ),
        ("application/json, */*", "application/json,*/*"),
        ("application/yaml", "application/json"),
        (
            "application/cbor-seq, application/cbor;q=0.9",
            "application/json;q=0.9",
        ),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        ),
    ] {
        assert_eq!(accept_for_inspection(sent), kept, "{sent}");
    }
}

#[test]
fn key_is_never_printed() {
    assert_eq!(
        format!("{:?}", MaskKey::from_bytes([65; 32])),
        "MaskKey(****)"
    );
}

#[test]
fn hash_of_broken_base64_does_not_depend_on_the_cuts() {
    for value in [
        "AAEC/w=resource version",
        "Zg==Zg==",
        "Zg==Z",
        "AAEC????AAEC",
    ] {
        let body = format!(r#"{{"kind":"Secret","data":{{"a":"{value}"}}}}"#);
        let hashes = [1, 3, 7, 1000].map(|size| {
            mask_in(MaskHint::Secrets, MaskMode::Hmac, body.as_bytes(), size)
                .expect("JSON")
                .0
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    }
}
