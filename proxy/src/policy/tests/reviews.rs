//! `kubectl auth can-i`: the cluster's answers joined with the policy.

use super::*;
use crate::policy::review::{PathRule, ResourceRule};

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> ResourceRule {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    ResourceRule {
        verbs: owned(verbs),
        api_groups: owned(groups),
        resources: owned(resources),
        resource_names: Vec::new(),
    }
}

fn joined(policy: &Policy, cluster: Vec<ResourceRule>) -> ReviewedRules {
    let cluster = ReviewedRules {
        resource_rules: cluster,
        ..ReviewedRules::default()
    };
    policy.review_rules(&user("alice", &[]), Through::default(), "shop", cluster)
}

#[test]
fn a_list_of_rules_is_what_both_allow() {
    let policy = of_alice(
        "  - {effect: allow, apiGroups: [''], resources: [pods, pods/log, services], verbs: [get, list], namespaces: [shop]}
  - {effect: allow, apiGroups: [''], resources: [pods/exec], verbs: [exec]}
  - {effect: allow, apiGroups: [''], resources: [configmaps], verbs: ['*'], namespaces: [other]}
",
    );
    let all = joined(&policy, vec![rule(&["*"], &["*"], &["*"])]);
    assert_eq!(
        all.resource_rules,
        [
            rule(&["get", "list"], &[""], &["pods"]),
            rule(&["get", "create"], &[""], &["pods/exec"]),
            rule(&["get", "list"], &[""], &["pods/log"]),
            rule(&["get", "list"], &[""], &["services"]),
        ]
    );
    assert!(!all.incomplete);
    let some = joined(
        &policy,
        vec![
            rule(
                &["get", "watch"],
                &["", "apps"],
                &["pods", "deployments", "*/log"],
            ),
            rule(
                &["create"],
                &["authorization.k8s.io"],
                &["selfsubjectaccessreviews"],
            ),
        ],
    );
    assert_eq!(
        some.resource_rules,
        [
            rule(
                &["create"],
                &["authorization.k8s.io"],
                &["selfsubjectaccessreviews"]
            ),
            rule(&["get"], &[""], &["pods"]),
            rule(&["get"], &[""], &["pods/log"]),
        ]
    );
    assert_eq!(joined(&policy, Vec::new()).resource_rules, []);
}

#[test]
fn exceptions_that_rbac_has_no_words_for_make_it_incomplete() {
    let cluster = || vec![rule(&["get", "delete"], &[""], &["pods", "secrets"])];
    let policy = of_alice(
        "  - {effect: deny, apiGroups: [''], resources: [secrets], verbs: ['*']}
  - {effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*']}
",
    );
    let whole = joined(&policy, cluster());
    assert_eq!(
        whole.resource_rules,
        [rule(&["get", "delete"], &[""], &["pods"])]
    );
    assert!(!whole.incomplete, "{whole:?}");
    let policy = of_alice(
        "  - {effect: deny, apiGroups: [''], resources: [pods], verbs: [delete], resourceNames: [db]}
  - {effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*'], when: [time.hour < 20]}
",
    );
    let open = joined(&policy, cluster());
    assert!(
        open.incomplete && open.evaluation_error.contains("conditions"),
        "{open:?}"
    );
    assert_eq!(open.resource_rules.len(), 2);
}

#[test]
fn paths_are_joined_with_what_every_policy_allows() {
    let policy = of_alice("  - {effect: allow, nonResourceURLs: [/metrics], verbs: [get]}\n");
    let cluster = ReviewedRules {
        non_resource_rules: vec![PathRule {
            verbs: vec!["get".into(), "post".into()],
            paths: ["/api/*", "/version", "/metrics", "/logs"]
                .map(str::to_owned)
                .to_vec(),
        }],
        ..ReviewedRules::default()
    };
    let all = policy.review_rules(&user("alice", &[]), Through::default(), "shop", cluster);
    let paths: Vec<&str> = all
        .non_resource_rules
        .iter()
        .flat_map(|rule| rule.paths.iter().map(String::as_str))
        .collect();
    assert_eq!(paths, ["/api/*", "/metrics", "/version"]);
    assert!(
        all.non_resource_rules
            .iter()
            .all(|rule| rule.verbs == ["get"])
    );
}

#[test]
fn the_request_asked_about_is_decided_as_if_it_came() {
    let policy = of_alice(
        "  - {effect: allow, apiGroups: [''], resources: [pods], verbs: [list], namespaces: [shop]}
  - {effect: allow, apiGroups: [''], resources: [pods/exec], verbs: [exec]}
",
    );
    let alice = user("alice", &[]);
    let allows = |question: &str| {
        let asked = hypothetical(question.as_bytes()).expect("a question");
        let facts = facts(&alice, &asked).with_body(BodyFact::Unknown);
        policy
            .decide(&facts)
            .verdict()
            .expect("no body")
            .decision
            .effect
            == Effect::Allow
    };
    let of = |attributes: &str| format!(r#"{{"spec":{{"resourceAttributes":{{{attributes}}}}}}}"#);
    assert!(allows(&of(
        r#""verb":"list","resource":"pods","namespace":"shop""#
    )));
    assert!(!allows(&of(r#""verb":"list","resource":"pods""#)));
    assert!(!allows(&of(r#""verb":"*","resource":"*","group":"*""#)));
    assert!(allows(&of(
        r#""verb":"create","resource":"pods","subresource":"exec","namespace":"a""#
    )));
    assert!(allows(
        r#"{"spec":{"nonResourceAttributes":{"verb":"get","path":"/version"}}}"#
    ));
    assert!(!allows(
        r#"{"spec":{"nonResourceAttributes":{"verb":"get","path":"/metrics"}}}"#
    ));
    assert!(hypothetical(b"k8s\0").is_none() && hypothetical(br#"{"spec":{}}"#).is_none());
}

#[test]
fn a_path_is_listed_once_whoever_allows_it() {
    let policy = of_alice(
        "  - {effect: allow, nonResourceURLs: [/metrics, /version], verbs: [get]}
  - {effect: allow, nonResourceURLs: ['*'], verbs: [get]}
",
    );
    let of = |verbs: &[&str], paths: &[&str]| PathRule {
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        paths: paths.iter().map(|p| (*p).to_owned()).collect(),
    };
    // As a cluster answers: by system:discovery, system:public-info-viewer and a role of its own.
    let cluster = ReviewedRules {
        resource_rules: vec![
            rule(
                &["create"],
                &["authorization.k8s.io"],
                &["selfsubjectrulesreviews"],
            ),
            rule(
                &["create"],
                &["authorization.k8s.io"],
                &["selfsubjectrulesreviews"],
            ),
        ],
        non_resource_rules: vec![
            of(&["get"], &["/api", "/healthz", "/version", "/version/"]),
            of(&["get"], &["/healthz", "/livez", "/version", "/version/"]),
            of(&["get", "post"], &["/metrics"]),
            of(&["get"], &["/metrics"]),
        ],
        ..ReviewedRules::default()
    };
    let all = policy.review_rules(&user("alice", &[]), Through::default(), "shop", cluster);
    let expected = [
        "/api",
        "/healthz",
        "/livez",
        "/metrics",
        "/version",
        "/version/",
    ];
    assert_eq!(all.non_resource_rules, [of(&["get"], &expected)]);
    assert_eq!(all.resource_rules.len(), 1);
    assert!(!all.incomplete);
}

#[test]
fn a_path_that_is_allowed_on_a_condition_makes_the_list_incomplete() {
    let policy = of_alice(
        "  - {effect: allow, nonResourceURLs: [/metrics], verbs: [get], when: time.hour < 20}\n",
    );
    let cluster = |path: &str| ReviewedRules {
        non_resource_rules: vec![PathRule {
            verbs: vec!["get".to_owned()],
            paths: vec![path.to_owned()],
        }],
        ..ReviewedRules::default()
    };
    let list = |path| {
        policy.review_rules(
            &user("alice", &[]),
            Through::default(),
            "shop",
            cluster(path),
        )
    };
    assert!(list("/metrics").incomplete);
    assert!(!list("/version").incomplete, "it is no matter of that rule");
}
