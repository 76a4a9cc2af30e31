//! Masking rules in policies.

use super::*;
use crate::mask::DETECTORS;

const POLICY: &str = r#"
masking:
  - name: tokens
    detect: [jwt, github-token]
    patterns: ['CUST-[0-9]{8}']
  - name: settings
    fields:
      - kind: ConfigMap
        paths: [.data.*, ".metadata.annotations['example.com/x']"]
      - paths: ["..env[*].value"]
    client: none
    record: hmac
profiles:
  - name: p
    subjects: {users: [alice]}
    rules:
      - {name: a, effect: allow, apiGroups: [""], resources: [configmaps], verbs: [get], masking: [tokens, settings]}
      - {name: b, effect: allow, apiGroups: [""], resources: [pods], verbs: [get], masking: [tokens, settings], mask: {client: none, record: hmac}}
      - {name: c, effect: allow, apiGroups: [""], resources: [services], verbs: [get], masking: [settings], mask: partial}
      - {name: d, effect: allow, apiGroups: [""], resources: [secrets], verbs: [get]}
"#;

fn verdict(resource: &str) -> Verdict {
    let policy = Policy::parse(POLICY).unwrap_or_else(|errors| panic!("{errors}"));
    let target = format!("/api/v1/namespaces/shop/{resource}/x");
    decide(&policy, &user("alice", &[]), "GET", &target)
}

#[test]
fn rules_name_masking_rules_and_share_what_they_are_put_together_to() {
    let (a, b) = (verdict("configmaps"), verdict("pods"));
    let masking = a.masking.unwrap();
    assert_eq!(masking.names(), ["tokens", "settings"]);
    assert!(!masking.is_one_view() && masking.client().unwrap().text().is_some());
    assert_eq!(Some(masking), b.masking);
    assert_eq!((b.mask, b.record_mask), (MaskMode::None, MaskMode::Hmac));
    let c = verdict("services");
    assert!(c.masking.unwrap().client().is_none());
    assert_eq!(
        (c.mask, c.record_mask),
        (MaskMode::Partial, MaskMode::Partial)
    );
    let d = verdict("secrets");
    assert!(d.masking.is_none());
    assert_eq!(
        (d.mask, d.record_mask),
        (MaskMode::Redact, MaskMode::Redact)
    );
}

#[test]
fn every_detector_can_be_asked_for() {
    let all = DETECTORS.iter().map(|detector| detector.name());
    let all = all.collect::<Vec<_>>().join(", ");
    for detect in [all.as_str(), "\"*\""] {
        let policy = POLICY.replace("jwt, github-token", detect);
        assert!(Policy::parse(&policy).is_ok(), "{detect}");
    }
}

#[test]
fn mistakes_say_where_they_are_and_what_was_meant() {
    for (was, is, expected) in [
        (
            "[jwt,",
            "[jtw,",
            "line 4: no detector is called \"jtw\": did you mean \"jwt\"?",
        ),
        (
            "detect:",
            "detects:",
            "line 4: a masking rule has no key \"detects\": did you mean \"detect\"?",
        ),
        (
            "{8}",
            "{8",
            "line 5: the pattern \"CUST-[0-9]{8\" cannot be used:",
        ),
        ("CUST-[0-9]{8}", "x*", "it matches the empty text"),
        (
            ".data.*,",
            "data,",
            "line 9: \"data\" is no path: it must begin with a dot",
        ),
        (
            "kind: ConfigMap",
            "kind: configmaps",
            "line 8: \"configmaps\" is no kind",
        ),
        (
            "client: none",
            "client: hide",
            "line 11: \"client\" cannot be \"hide\"",
        ),
        (
            "record: hmac\nprofiles",
            "record: none\nprofiles",
            "line 12: \"record\" cannot be \"none\"",
        ),
        (
            "client: none\n    record: hmac",
            "client: hmac\n    record: partial",
            "the record is never weaker",
        ),
        (
            "record: hmac}}",
            "record: none}}",
            "\"record\" cannot be \"none\"",
        ),
        (
            "masking: [settings]",
            "masking: [setings]",
            "line 19: no masking rule is called \"setings\": did you mean \"settings\"?",
        ),
        (
            "- name: settings",
            "- name: tokens",
            "the masking rule \"tokens\" is there twice",
        ),
        (
            "    detect: [jwt, github-token]\n    patterns: ['CUST-[0-9]{8}']\n",
            "",
            "a masking rule needs \"fields\", \"detect\" or \"patterns\"",
        ),
    ] {
        let policy = POLICY.replacen(was, is, 1);
        assert_ne!(policy, POLICY, "{was}");
        let found = errors(&policy);
        assert!(found.contains(expected), "{is}: {found}");
    }
    let none = POLICY.split_once("profiles:").unwrap().1;
    assert!(errors(&format!("profiles:{none}")).contains("the policy has none"));
}

#[test]
fn a_masking_rule_that_nobody_names_and_one_that_streams_pass_by_are_noted() {
    let policy = POLICY
        .replace(
            "resources: [services], verbs: [get]",
            "resources: [pods/portforward], verbs: [exec]",
        )
        .replace("masking: [settings]", "masking: [tokens]")
        .replace("[tokens, settings]", "[tokens]");
    let lints = Policy::parse(&policy).unwrap().lints();
    let found: Vec<_> = lints.iter().map(|lint| (lint.line, lint.code)).collect();
    assert!(found.contains(&(6, LintCode::UnusedMasking)), "{lints:?}");
    assert!(found.contains(&(19, LintCode::StreamsShow)), "{lints:?}");
    assert_eq!(found.len(), 2, "{lints:?}");
}
