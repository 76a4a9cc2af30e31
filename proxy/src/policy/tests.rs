use std::net::{IpAddr, Ipv4Addr};

use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Cause, Effect};

use super::*;
use crate::request_info::parse;

mod conditions;
mod documentation;
mod impersonation;
mod lints;
mod masking;
mod reviews;
mod samples;
mod webhooks;

const SAMPLE: &str = include_str!("../../../deploy/policies/sample.yaml");

fn user(name: &str, groups: &[&str]) -> User {
    User {
        username: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::default()
    }
}

fn decide(policy: &Policy, user: &User, method: &str, target: &str) -> Verdict {
    decide_with(policy, user, method, target, "")
}

fn decide_with(policy: &Policy, user: &User, method: &str, target: &str, body: &str) -> Verdict {
    let info = parse(method, target).expect("a request that the gateway takes");
    let facts = facts(user, &info).with_body(BodyFact::Read(body.as_bytes()));
    let verdict = policy.decide(&facts).verdict().expect("the body is read");
    let explained = policy.explain(&facts).expect("the body is read");
    assert_eq!(explained.verdict, verdict);
    verdict
}

/// From this machine, on a Monday at noon, UTC.
fn facts<'a>(user: &'a User, info: &'a crate::request_info::RequestInfo) -> Facts<'a> {
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
    Facts::new(user, info, IpAddr::V4(Ipv4Addr::LOCALHOST), now)
}

fn effect(policy: &Policy, user: &User, method: &str, target: &str) -> Effect {
    decide(policy, user, method, target).decision.effect
}

/// A policy with one profile for alice.
fn of_alice(rules: &str) -> Policy {
    let text = format!("profiles:\n- name: p\n  subjects: {{users: [alice]}}\n  rules:\n{rules}");
    Policy::parse(&text).expect("a good policy")
}

fn errors(text: &str) -> String {
    Policy::parse(text).expect_err("a bad policy").to_string()
}

#[test]
fn sample_lets_developers_read_and_debug_but_not_touch_secrets() {
    let policy = Policy::parse(SAMPLE).expect("the sample is good");
    assert_eq!(policy.lints(), []);
    let bob = user("bob", &["developers"]);
    for (method, target, expected) in [
        ("GET", "/api/v1/namespaces/shop/pods", Effect::Allow),
        (
            "GET",
            "/api/v1/namespaces/shop/pods/web-1/log?follow=true",
            Effect::Allow,
        ),
        ("GET", "/api/v1/namespaces/shop/secrets/db", Effect::Allow),
        ("DELETE", "/api/v1/namespaces/shop/secrets/db", Effect::Deny),
        (
            "GET",
            "/api/v1/namespaces/kube-system/secrets/ca",
            Effect::Deny,
        ),
        ("GET", "/api/v1/nodes/n1/proxy/run", Effect::Deny),
        ("GET", "/api", Effect::Allow),
    ] {
        assert_eq!(
            effect(&policy, &bob, method, target),
            expected,
            "{method} {target}"
        );
    }
    let carol = user("carol", &["administrators"]);
    for target in [
        "/api/v1/namespaces/kube-system/secrets/ca",
        "/metrics",
        "/apis/apps/v1/deployments",
    ] {
        assert_eq!(
            effect(&policy, &carol, "GET", target),
            Effect::Allow,
            "{target}"
        );
    }
    assert_eq!(
        effect(&policy, &user("eve", &[]), "GET", "/api/v1/pods"),
        Effect::Deny
    );
}

#[test]
fn refusals_speak_like_the_api_server_and_name_the_rule() {
    let policy = of_alice(
        "  - {name: no-db, effect: deny, apiGroups: [''], resources: [secrets], verbs: ['*'], message: ask the owner}\n",
    );
    let alice = user("alice", &[]);
    let verdict = decide(
        &policy,
        &alice,
        "DELETE",
        "/api/v1/namespaces/shop/secrets/db",
    );
    assert_eq!(
        verdict.decision.message,
        r#"secrets "db" is forbidden: User "alice" cannot delete resource "secrets" in API group "" in the namespace "shop": refused by rule "no-db" of profile "p": ask the owner"#
    );
    assert_eq!(verdict.decision.cause, Cause::Rule);
    let verdict = decide(&policy, &alice, "GET", "/apis/apps/v1/deployments");
    assert_eq!(
        verdict.decision.message,
        r#"deployments.apps is forbidden: User "alice" cannot list resource "deployments" in API group "apps" at the cluster scope: no rule of the gateway's policy allows it"#
    );
    assert_eq!(
        (verdict.decision.cause, verdict.decision.rule),
        (Cause::NoMatch, None)
    );
    let verdict = decide(&policy, &alice, "GET", "/metrics");
    assert!(
        verdict
            .decision
            .message
            .starts_with(r#"forbidden: User "alice" cannot get path "/metrics""#)
    );
}

#[test]
fn first_match_wins_over_all_profiles_in_file_order() {
    let policy = Policy::parse(
        "profiles:
- name: first
  subjects: {groups: [all]}
  rules:
  - {effect: deny, apiGroups: ['*'], resources: [secrets], verbs: ['*'], namespaces: [prod]}
- name: second
  subjects: {users: [alice]}
  rules:
  - {effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*']}
  - {effect: deny, apiGroups: ['*'], resources: ['*'], verbs: ['*']}
",
    )
    .expect("good");
    let alice = user("alice", &["all"]);
    let verdict = decide(&policy, &alice, "GET", "/api/v1/namespaces/prod/secrets/x");
    assert_eq!(verdict.decision.effect, Effect::Deny);
    assert_eq!(verdict.decision.profile.as_deref(), Some("first"));
    assert_eq!(verdict.decision.rule.as_deref(), Some("rule 1"));
    assert_eq!(
        effect(&policy, &alice, "GET", "/api/v1/namespaces/test/secrets/x"),
        Effect::Allow
    );
    let lints = policy.lints();
    let unreachable = lints
        .iter()
        .filter(|lint| lint.code == LintCode::Unreachable);
    assert_eq!(unreachable.count(), 1, "the last rule is never reached");
}

#[test]
fn exec_is_one_action_whatever_the_method() {
    let read_only = of_alice(
        "  - {effect: allow, apiGroups: [''], resources: ['*'], verbs: [get, list, create]}\n",
    );
    let exec =
        of_alice("  - {effect: allow, apiGroups: [''], resources: [pods/exec], verbs: [exec]}\n");
    let alice = user("alice", &[]);
    for method in ["GET", "POST"] {
        let target = "/api/v1/namespaces/shop/pods/web-1/exec?command=sh";
        assert_eq!(effect(&read_only, &alice, method, target), Effect::Deny);
        assert_eq!(effect(&exec, &alice, method, target), Effect::Allow);
        let target = "/api/v1/namespaces/shop/pods/web-1/attach";
        assert_eq!(effect(&exec, &alice, method, target), Effect::Deny);
    }
}

#[test]
fn resources_subresources_and_namespaces_match_as_documented() {
    let alice = user("alice", &[]);
    let allows = |resources: &str, namespaces: &str, target: &str| {
        let rule = format!(
            "  - {{effect: allow, apiGroups: ['', apps], resources: {resources}, verbs: [get, list], namespaces: {namespaces}}}\n"
        );
        effect(&of_alice(&rule), &alice, "GET", target) == Effect::Allow
    };
    let pod = "/api/v1/namespaces/team-a/pods/p";
    let log = "/api/v1/namespaces/team-a/pods/p/log";
    assert!(allows("[pods]", "['*']", pod) && !allows("[pods]", "['*']", log));
    assert!(allows("[pods/*]", "['*']", log) && !allows("[pods/*]", "['*']", pod));
    assert!(allows("['*/log']", "['*']", log) && !allows("['*/scale']", "['*']", log));
    assert!(allows("['*']", "['*']", log) && allows("['*']", "['*']", "/apis/apps/v1/deployments"));
    assert!(
        !allows("['*']", "['*']", "/apis/batch/v1/jobs"),
        "another group"
    );
    assert!(allows("[pods]", "['team-*']", pod) && !allows("[pods]", "['team-b*']", pod));
    assert!(
        allows("[pods]", "['*']", "/api/v1/pods")
            && !allows("[pods]", "['team-*']", "/api/v1/pods")
    );
    assert!(allows("[pods]", "['']", "/api/v1/pods") && !allows("[pods]", "['']", pod));
}

#[test]
fn names_and_paths_are_matched() {
    let alice = user("alice", &[]);
    let policy = of_alice(
        "  - {effect: allow, apiGroups: [''], resources: [secrets], verbs: [get, list, watch], resourceNames: [db]}
  - {effect: allow, nonResourceURLs: [/metrics, /debug/*], verbs: [get]}\n",
    );
    let allowed = |target| effect(&policy, &alice, "GET", target) == Effect::Allow;
    assert!(allowed("/api/v1/namespaces/shop/secrets/db"));
    assert!(allowed(
        "/api/v1/namespaces/shop/secrets?fieldSelector=metadata.name%3Ddb"
    ));
    assert!(!allowed("/api/v1/namespaces/shop/secrets/other"));
    assert!(!allowed("/api/v1/namespaces/shop/secrets"));
    let patterns = of_alice(
        "  - {effect: allow, apiGroups: [''], resources: [secrets], verbs: [get, list], resourceNames: [\"web-*\"]}\n",
    );
    let allowed = |target| effect(&patterns, &alice, "GET", target) == Effect::Allow;
    assert!(allowed("/api/v1/namespaces/shop/secrets/web-1"));
    assert!(!allowed("/api/v1/namespaces/shop/secrets/db"));
    assert!(
        !allowed("/api/v1/namespaces/shop/secrets"),
        "no list of all of them"
    );
    let allowed = |target| effect(&policy, &alice, "GET", target) == Effect::Allow;
    assert!(allowed("/metrics") && allowed("/debug/pprof/profile"));
    assert!(!allowed("/metrics/slis") && !allowed("/logs/"));
}

#[test]
fn service_accounts_and_the_authenticated_group_are_subjects() {
    let policy = Policy::parse(
        "profiles:
- name: ci
  subjects: {serviceAccounts: ['ci:deployer']}
  rules: [{effect: allow, apiGroups: [apps], resources: [deployments], verbs: [patch]}]
- name: everyone
  subjects: {groups: ['system:authenticated']}
  rules: [{effect: approve, apiGroups: [''], resources: [namespaces], verbs: [list]}]
",
    )
    .expect("good");
    let deployer = user("system:serviceaccount:ci:deployer", &[]);
    let target = "/apis/apps/v1/namespaces/shop/deployments/web";
    assert_eq!(effect(&policy, &deployer, "PATCH", target), Effect::Allow);
    assert_eq!(
        effect(&policy, &user("ci:deployer", &[]), "PATCH", target),
        Effect::Deny
    );
    let held = decide(&policy, &user("anyone", &[]), "GET", "/api/v1/namespaces");
    assert_eq!(held.decision.effect, Effect::Hold);
    assert!(
        held.decision.message.contains("held for an approval"),
        "{}",
        held.decision.message
    );
}

#[test]
fn subjects_may_be_patterns() {
    let policy = Policy::parse(
        "profiles:
- name: p
  subjects: {users: ['robot-*'], groups: ['team-*'], serviceAccounts: ['jobs:*']}
  rules: [{effect: allow, apiGroups: [''], resources: [pods], verbs: [list]}]
",
    )
    .expect("good");
    let allowed = |user: &User| effect(&policy, user, "GET", "/api/v1/pods") == Effect::Allow;
    assert!(allowed(&user("robot-7", &[])) && !allowed(&user("robot", &[])));
    assert!(allowed(&user("x", &["a", "team-b"])) && !allowed(&user("x", &["teams"])));
    assert!(allowed(&user("system:serviceaccount:jobs:nightly", &[])));
    assert!(!allowed(&user("system:serviceaccount:jobs-2:nightly", &[])));
}

/// What may be done for a person is not what the person may do.
#[test]
fn whoever_acts_for_a_person_has_the_profiles_that_name_such_actors_and_no_others() {
    let policy = Policy::parse(
        "profiles:
- name: developers
  subjects: {groups: [developers]}
  rules: [{effect: allow, apiGroups: [''], resources: [pods, secrets], verbs: [list, delete]}]
- name: agents-of-developers
  subjects: {groups: [developers], actors: ['agent-*']}
  rules: [{effect: allow, apiGroups: [''], resources: [pods], verbs: [list]}]
- name: everybodys-dashboard
  subjects: {actors: [dashboard], clients: [dashboard, 'dashboard-*']}
  rules: [{effect: allow, apiGroups: [''], resources: [nodes], verbs: [list], when: \"user.actor == user.client\"}]
- name: by-the-portal
  subjects: {groups: [developers], clients: [portal]}
  rules: [{effect: allow, apiGroups: [''], resources: [namespaces], verbs: [list]}]
",
    )
    .expect("good");
    let (alice, bob) = (user("alice", &["developers"]), user("bob", &[]));
    let decision = |user: &User, actor: Option<&str>, client: Option<&str>, resource: &str| {
        let info = crate::request_info::parse("GET", &format!("/api/v1/{resource}")).unwrap();
        let facts = facts(user, &info).through(Through { actor, client });
        policy.decide(&facts).verdict().unwrap().decision
    };
    let allowed = |user: &User, actor: Option<&str>, client: Option<&str>, resource: &str| {
        decision(user, actor, client, resource).effect == Effect::Allow
    };
    assert!(allowed(&alice, None, None, "pods") && allowed(&alice, None, Some("cli"), "secrets"));
    assert!(allowed(&alice, Some("agent-7"), Some("cli"), "pods"));
    assert!(!allowed(&alice, Some("agent-7"), None, "secrets"));
    assert!(!allowed(&alice, Some("intruder"), None, "pods"));
    assert!(
        !allowed(&bob, Some("agent-7"), None, "pods"),
        "an agent has what the person has, at most"
    );
    // By the client alone.
    assert!(allowed(&alice, None, Some("portal"), "namespaces"));
    assert!(!allowed(&alice, None, None, "namespaces"));
    assert!(!allowed(
        &alice,
        Some("agent-7"),
        Some("portal"),
        "namespaces"
    ));
    // For everybody who comes so, and conditions see how.
    assert!(allowed(&bob, Some("dashboard"), Some("dashboard"), "nodes"));
    assert!(!allowed(
        &bob,
        Some("dashboard"),
        Some("dashboard-2"),
        "nodes"
    ));
    assert!(!allowed(&bob, None, Some("dashboard"), "nodes"));
    let message = decision(&alice, Some("agent-7"), None, "secrets").message;
    assert!(
        message.contains("\"agent-7\", who acts for the user"),
        "{message}"
    );
}

#[test]
fn rule_says_how_to_mask_and_record() {
    let policy = of_alice(
        "  - {effect: allow, apiGroups: [''], resources: [secrets], verbs: [get], mask: hmac, record: Request, durability: spool, class: long, bodyClass: short}\n",
    );
    let verdict = decide(
        &policy,
        &user("alice", &[]),
        "GET",
        "/api/v1/namespaces/a/secrets/b",
    );
    assert_eq!(verdict.mask, MaskMode::Hmac);
    assert_eq!(
        (verdict.level, verdict.durability),
        (Level::Request, Durability::Spool)
    );
    assert_eq!(verdict.class.as_str(), "long");
    assert_eq!(
        verdict.body_class.as_ref().map(Class::as_str),
        Some("short")
    );
    let classes: Vec<String> = policy
        .classes()
        .iter()
        .map(|class| class.as_str().to_owned())
        .collect();
    assert_eq!(classes, ["long", "short", "standard"]);
}

#[test]
fn discovery_and_questions_about_oneself_are_always_answered() {
    let policy = Policy::parse("profiles: []").expect("an empty policy denies everything else");
    let nobody = user("nobody", &[]);
    for target in [
        "/api",
        "/apis",
        "/api/v1",
        "/apis/apps/v1",
        "/openapi/v3/apis/apps/v1",
        "/version",
        "/readyz",
    ] {
        let verdict = decide(&policy, &nobody, "GET", target);
        assert_eq!(verdict.decision.effect, Effect::Allow, "{target}");
        assert_eq!(verdict.durability, Durability::BestEffort, "{target}");
        assert_eq!(verdict.decision.rule.as_deref(), Some(BUILT_IN));
    }
    let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(
        decide(&policy, &nobody, "POST", target).durability,
        Durability::Log
    );
    for (method, target) in [
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("POST", "/version"),
        (
            "GET",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        ),
        ("GET", "/versions"),
        ("GET", "/api/v1/pods"),
    ] {
        assert_eq!(
            effect(&policy, &nobody, method, target),
            Effect::Deny,
            "{method} {target}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_line_and_meaning() {
    let text = errors(
        "profiles:
- name: p
  subjects: {user: [alice]}
  rules:
  - effect: alow
    apiGroups: ['']
    resources: [Pods]
    verbs: [gett]
    namespace: [shop]
  - effect: allow
    apiGroups: ['']
    resources: [pods/exec]
    verbs: [create]
    class: Long
    record: 7
  - verbs: [get]
",
    );
    let expected = [
        r#"line 3: subjects has no key "user": did you mean "users"?"#,
        r#"line 3: subjects must name a user, a group, a service account, an actor or a client"#,
        r#"line 5: "effect" cannot be "alow": did you mean "allow"?"#,
        r#"line 7: "Pods" is no resource: write RESOURCE, RESOURCE/SUB, RESOURCE/*, */SUB or *, in lower case"#,
        r#"line 8: no request has the verb "gett" here: did you mean "get"?"#,
        r#"line 9: a rule has no key "namespace": did you mean "namespaces"?"#,
        r#"line 13: exec, attach and portforward are the verb "exec" here, whatever the HTTP method: add it to "verbs""#,
        r#"line 14: "class": "Long" is not a retention class (1 to 32 characters of a-z 0-9 -)"#,
        r#"line 15: "record" cannot be "7": expected one of Metadata, Request, RequestResponse"#,
        r#"line 16: a rule needs "effect""#,
        r#"line 16: a rule needs "resources" or "nonResourceURLs""#,
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_no_policy_is_refused() {
    for text in [
        "",
        "[]",
        "profiles: 3",
        "profiles:\n- 1",
        "profiles: [",
        "profiles: []\nextra: 1",
        "a: &a [*a]",
    ] {
        assert!(Policy::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn revision_is_the_hash_of_the_file() {
    let policy = Policy::parse("profiles: []").expect("good");
    assert_eq!(policy.revision(), "2ed557f6c706afda");
}
