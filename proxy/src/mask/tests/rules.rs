//! Masking rules of a policy, over objects.

use super::super::*;
use super::{WATCH, key};

const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";

fn rule(fields: &[(&str, &str)], detectors: &[&str], mode: MaskMode) -> Arc<MaskingRule> {
    let fields = fields.iter().map(|(kind, path)| Fields {
        kind: (!kind.is_empty()).then(|| (*kind).to_owned()),
        path: FieldPath::parse(path).unwrap(),
    });
    let looks_for = detectors
        .iter()
        .map(|name| LooksFor::Detector(Detector::named(name).unwrap()));
    Arc::new(MaskingRule {
        name: "rule".to_owned(),
        fields: fields.collect(),
        looks_for: looks_for.collect(),
        client: mode,
        record: mode.for_record(),
    })
}

/// Masks a body by rules in every cut, and says where.
fn mask(
    rules: &[Arc<MaskingRule>],
    resource: &str,
    mode: MaskMode,
    body: &str,
) -> (String, Masked) {
    let masking = Masking::new(rules).unwrap();
    let masker = || {
        let hint = match resource {
            "" => MaskHint::Unknown,
            "secrets" => MaskHint::Secrets,
            _ => MaskHint::Other,
        };
        Masker::new(hint, mode, key()).with_rules(masking.client(), resource)
    };
    let in_pieces = |size| {
        let (mut masker, mut out) = (masker(), Vec::new());
        for chunk in body.as_bytes().chunks(size) {
            masker.push(chunk, &mut out).unwrap();
        }
        masker.finish(&mut out).unwrap();
        (String::from_utf8(out).unwrap(), masker.masked().clone())
    };
    let whole = in_pieces(usize::MAX);
    serde_json::from_str::<serde_json::Value>(&whole.0).expect("JSON stays JSON");
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(in_pieces(size), whole, "in pieces of {size}");
    }
    whole
}

fn redact(fields: &[(&str, &str)], detectors: &[&str], resource: &str, body: &str) -> String {
    let rules = [rule(fields, detectors, MaskMode::Redact)];
    mask(&rules, resource, MaskMode::Redact, body).0
}

#[test]
fn fields_of_a_kind_are_masked_and_nothing_else() {
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"v","n":1},"binaryData":{"b":"AAAA"}}"#;
    let fields = [("ConfigMap", ".data.k"), ("ConfigMap", ".binaryData.*")];
    let expected = body
        .replace("\"v\",", &format!("\"{SENTINEL}\","))
        .replace("AAAA", "Kipob29wLW1hc2tlZCoq");
    assert_eq!(redact(&fields, &[], "configmaps", body), expected);
    let other = body.replace("ConfigMap", "Other");
    assert_eq!(redact(&fields, &[], "others", &other), other);
    let (_, masked) = mask(
        &[rule(&fields, &[], MaskMode::Redact)],
        "configmaps",
        MaskMode::Redact,
        body,
    );
    assert_eq!(masked.count, 2);
    assert_eq!(masked.paths, ["data.k", "binaryData.b"]);
}

#[test]
fn items_of_lists_rows_of_tables_and_frames_are_what_they_are_part_of() {
    let item = r#"{"metadata":{"name":"a","annotations":{"x":"s3cret"}},"data":{"k":"s3cret"}}"#;
    let fields = [
        ("ConfigMap", ".data.*"),
        ("ConfigMap", ".metadata.annotations['x']"),
    ];
    for body in [
        format!(r#"{{"kind":"ConfigMapList","apiVersion":"v1","items":[{item},{item}]}}"#),
        format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{{"cells":["a"],"object":{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",{}}}]}}"#,
            &item[1..]
        ),
        format!(
            r#"{{"type":"ADDED","object":{{"kind":"ConfigMap","apiVersion":"v1",{}}}"#,
            &item[1..]
        ),
        // Keys in any order: the request says what it is.
        item.to_owned(),
        r#"{"data":{"k":"s3cret"},"kind":"ConfigMap"}"#.to_owned(),
        format!(
            r#"{{"kind":"ConfigMap","metadata":{{"annotations":{{"kubectl.kubernetes.io/last-applied-configuration":{}}}}}}}"#,
            serde_json::to_string(r#"{"data":{"k":"s3cret"},"kind":"ConfigMap"}"#).unwrap()
        ),
        r#"[{"op":"replace","path":"/data/k","value":"s3cret"}]"#.to_owned(),
    ] {
        let masked = redact(&fields, &[], "configmaps", &body);
        assert!(!masked.contains("s3cret"), "{masked}");
        // What has not said yet that it is no Secret is masked as one.
        let is_masked = masked.contains(SENTINEL) || masked.contains("Kipob29wLW1hc2tlZCoq");
        assert!(is_masked, "{masked}");
        let names = body.matches(r#""name":"a""#).count();
        assert_eq!(masked.matches(r#""name":"a""#).count(), names);
    }
}

#[test]
fn a_path_holds_for_everything_below_it() {
    let body = r#"{"kind":"Widget","apiVersion":"x/v1","spec":{"auth":{"user":"u","keys":["a",{"b":true}],"none":null},"size":3}}"#;
    let masked = redact(&[("", ".spec.auth")], &[], "widgets", body);
    let value: serde_json::Value = serde_json::from_str(&masked).unwrap();
    let expected =
        serde_json::json!({"user": SENTINEL, "keys": [SENTINEL, {"b": SENTINEL}], "none": null});
    assert_eq!(value["spec"]["auth"], expected);
    assert_eq!(value["spec"]["size"], 3);
}

#[test]
fn detectors_look_into_every_text_but_names() {
    let body = format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{JWT}","annotations":{{"a":"t={JWT}"}}}},"spec":{{"containers":[{{"env":[{{"name":"T","value":"\u0065yJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln\n\"x\""}}],"args":["--token={JWT}"]}}]}}}}"#
    );
    let masked = redact(&[], &["jwt"], "pods", &body);
    let value: serde_json::Value = serde_json::from_str(&masked).unwrap();
    assert_eq!(value["metadata"]["name"], JWT);
    assert_eq!(
        value["metadata"]["annotations"]["a"],
        format!("t={SENTINEL}")
    );
    let container = &value["spec"]["containers"][0];
    assert_eq!(container["env"][0]["value"], format!("{SENTINEL}\n\"x\""));
    assert_eq!(container["args"][0], format!("--token={SENTINEL}"));
}

#[test]
fn detectors_with_fields_look_there_only() {
    let body = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"annotations":{{"a":"{JWT}"}}}},"data":{{"k":"a {JWT} b"}}}}"#
    );
    let masked = redact(&[("ConfigMap", ".data.*")], &["jwt"], "configmaps", &body);
    let value: serde_json::Value = serde_json::from_str(&masked).unwrap();
    assert_eq!(value["metadata"]["annotations"]["a"], JWT);
    assert_eq!(value["data"]["k"], format!("a {SENTINEL} b"));
}

#[test]
fn what_nothing_is_found_in_comes_out_as_it_was() {
    let escapes = r#"{ "kind" : "Pod", "a": "\u003c\/x", "n": [1.50, {}, [ ] ] }"#;
    for body in [super::CONFIG_MAP, escapes] {
        let fields = [("Pod", ".spec.x")];
        assert_eq!(redact(&fields, &[], "pods", body), body);
    }
    let plain = r#"{ "kind" : "Pod", "a": "b", "n": [1.50, {}, [ ] ] }"#;
    assert_eq!(redact(&[], &["jwt"], "pods", plain), plain);
    // Escapes of a text that is searched are written anew.
    let masked = redact(&[], &["jwt"], "pods", escapes);
    assert_eq!(masked, escapes.replace(r"\u003c\/x", "</x"));
}

#[test]
fn rules_add_to_what_is_masked_in_secrets_and_hold_where_that_is_not() {
    let body = format!(
        r#"{{"kind":"Secret","apiVersion":"v1","metadata":{{"annotations":{{"a":"{JWT}"}}}},"data":{{"k":"aHVudGVyMg==","l":"eA=="}}}}"#
    );
    let rules = [
        rule(&[], &["jwt"], MaskMode::Redact),
        rule(&[("Secret", ".data.k")], &[], MaskMode::Redact),
    ];
    let (masked, _) = mask(&rules, "secrets", MaskMode::Redact, &body);
    let value: serde_json::Value = serde_json::from_str(&masked).unwrap();
    assert_eq!(value["metadata"]["annotations"]["a"], SENTINEL);
    assert_eq!(value["data"]["l"], "Kipob29wLW1hc2tlZCoq");
    let (masked, _) = mask(&rules, "secrets", MaskMode::None, &body);
    let value: serde_json::Value = serde_json::from_str(&masked).unwrap();
    assert_eq!(value["metadata"]["annotations"]["a"], SENTINEL);
    assert_eq!(value["data"]["k"], "Kipob29wLW1hc2tlZCoq");
    assert_eq!(value["data"]["l"], "eA==");
}

#[test]
fn without_rules_that_speak_of_it_a_secret_is_masked_as_ever() {
    let rules = [rule(&[("ConfigMap", ".data.*")], &[], MaskMode::Redact)];
    let (with, _) = mask(&rules, "secrets", MaskMode::Redact, super::SECRET);
    let (without, _) = super::mask(MaskHint::Secrets, super::SECRET);
    assert_eq!(with, without);
    let masking = Masking::new(&rules).unwrap();
    let mut masker = Masker::new(MaskHint::Secrets, MaskMode::Redact, key())
        .with_rules(masking.client(), "secrets");
    let mut out = Vec::new();
    masker.push(WATCH.as_bytes(), &mut out).unwrap();
    let (frames, _) = super::mask(MaskHint::Secrets, WATCH);
    assert_eq!(String::from_utf8(out).unwrap(), frames);
}

#[test]
fn the_stronger_rule_wins_and_the_views_are_apart() {
    let weak = rule(&[("", ".data.*")], &[], MaskMode::Partial);
    let strong = rule(&[("", ".data.*")], &[], MaskMode::Hmac);
    let body = r#"{"kind":"ConfigMap","data":{"k":"abcdefghijklmnopqrst"}}"#;
    let (masked, _) = mask(&[Arc::clone(&weak)], "configmaps", MaskMode::Redact, body);
    assert!(masked.contains("last:qrst"), "{masked}");
    let (masked, _) = mask(&[weak, strong], "configmaps", MaskMode::Redact, body);
    assert!(
        masked.contains("hmac:") && !masked.contains("qrst"),
        "{masked}"
    );
    let open = rule(&[("", ".data.*")], &[], MaskMode::None);
    let masking = Masking::new(&[open]).unwrap();
    assert!(masking.client().is_none() && !masking.is_one_view());
}

#[test]
fn tables_of_custom_resources_show_names_only_where_their_fields_are_masked() {
    let body = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["a","s3cret",3,null],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a"}}}]}"#;
    let masking = Masking::new(&[rule(&[("Widget", ".spec.key")], &[], MaskMode::Redact)]).unwrap();
    let mask = |group, resource| {
        let masker = Masker::new(MaskHint::Other, MaskMode::Redact, key());
        let masker = masker.with_rules(masking.client(), resource);
        let (mut masker, mut out) = (masker.of_group(group, resource), Vec::new());
        for piece in body.as_bytes().chunks(5) {
            masker.push(piece, &mut out).unwrap();
        }
        masker.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let cells = format!(r#""cells":["a","{SENTINEL}","{SENTINEL}",null]"#);
    let expected = body.replace(r#""cells":["a","s3cret",3,null]"#, &cells);
    assert_eq!(mask("example.com", "widgets"), expected);
    assert_eq!(mask("example.com", "gadgets"), body);
    assert_eq!(mask("apps", "widgets"), body);
}
