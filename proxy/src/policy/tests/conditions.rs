//! Conditions in CEL.

use super::*;
use crate::policy::condition::{Condition, Truth};

const POD: &str = "/api/v1/namespaces/shop/pods";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const SCALE: &str = "/apis/apps/v1/namespaces/shop/deployments/web/scale";

/// A policy that allows alice everything but what matches these conditions.
fn denying(conditions: &str) -> Policy {
    of_alice(&format!(
        "  - {{name: nope, effect: deny, apiGroups: ['*'], resources: ['*'], verbs: ['*'], when: {conditions}}}
  - {{effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*']}}
"
    ))
}

/// What alice gets for sending a body.
fn sends(policy: &Policy, method: &str, target: &str, body: &str) -> Effect {
    decide_with(policy, &user("alice", &[]), method, target, body)
        .decision
        .effect
}

#[test]
fn scale_to_zero_is_told_from_other_scales_and_patches() {
    let policy = denying("['object.?spec.?replicas.orValue(1) == 0']");
    for (method, target, body, expected) in [
        ("PATCH", SCALE, r#"{"spec":{"replicas":0}}"#, Effect::Deny),
        (
            "PUT",
            DEPLOYMENT,
            r#"{"spec":{"replicas":0}}"#,
            Effect::Deny,
        ),
        ("PATCH", SCALE, r#"{"spec":{"replicas":2}}"#, Effect::Allow),
        (
            "PATCH",
            DEPLOYMENT,
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
            Effect::Allow,
        ),
        ("GET", DEPLOYMENT, "", Effect::Allow),
        // What cannot be read, or in two ways, might be it.
        (
            "PATCH",
            SCALE,
            r#"[{"op":"replace","path":"/spec/replicas","value":0}]"#,
            Effect::Deny,
        ),
        (
            "PATCH",
            SCALE,
            r#"{"spec":{"replicas":3},"spec":{"replicas":0}}"#,
            Effect::Deny,
        ),
        (
            "PATCH",
            SCALE,
            r#"{"spec":{"replicas":0}} {}"#,
            Effect::Deny,
        ),
        ("PUT", SCALE, "k8s\0\u{1}", Effect::Deny),
        ("PATCH", SCALE, "spec:\n  replicas: 3\n", Effect::Deny),
    ] {
        assert_eq!(
            sends(&policy, method, target, body),
            expected,
            "{method} {target} {body}"
        );
    }
}

#[test]
fn privileged_and_host_path_pods_are_found_in_templates_too() {
    let policy = denying(
        "[\"containers.exists(c, c.?securityContext.?privileged.orValue(false)) || podSpecs.exists(p, \
         p.?volumes.orValue([]).exists(v, has(v.hostPath)))\"]",
    );
    let privileged = r#"{"containers":[{"name":"a"}],"initContainers":[{"securityContext":{"privileged":true}}]}"#;
    let host_path = r#"{"containers":[],"volumes":[{"name":"x","hostPath":{"path":"/"}}]}"#;
    let good = r#"{"containers":[{"name":"a","securityContext":{"privileged":false}}],"volumes":[{"emptyDir":{}}]}"#;
    let deployments = "/apis/apps/v1/namespaces/shop/deployments";
    let cron_jobs = "/apis/batch/v1/namespaces/shop/cronjobs";
    let ephemeral = "/api/v1/namespaces/shop/pods/web-1/ephemeralcontainers";
    for (spec, expected) in [
        (privileged, Effect::Deny),
        (host_path, Effect::Deny),
        (good, Effect::Allow),
    ] {
        let of_pod = format!(r#"{{"spec":{spec}}}"#);
        let of_template = format!(r#"{{"spec":{{"template":{{"spec":{spec}}}}}}}"#);
        let of_cron_job = format!(r#"{{"spec":{{"jobTemplate":{of_template}}}}}"#);
        assert_eq!(sends(&policy, "POST", POD, &of_pod), expected, "{spec}");
        assert_eq!(
            sends(&policy, "POST", deployments, &of_template),
            expected,
            "{spec}"
        );
        assert_eq!(
            sends(&policy, "POST", cron_jobs, &of_cron_job),
            expected,
            "{spec}"
        );
    }
    let debug = r#"{"spec":{"ephemeralContainers":[{"securityContext":{"privileged":true}}]}}"#;
    assert_eq!(sends(&policy, "PATCH", ephemeral, debug), Effect::Deny);
    let twisted = r#"{"spec":{"containers":{"a":1}}}"#;
    assert_eq!(sends(&policy, "POST", POD, twisted), Effect::Deny);
}

#[test]
fn images_outside_of_a_list_are_found() {
    let policy = of_alice(
        "  - effect: allow
    apiGroups: ['', apps]
    resources: [pods, deployments]
    verbs: [create, patch]
    when:
    - containers.all(c, !has(c.image) || ['registry.example.com/', 'ghcr.io/shop/'].exists(p, c.image.startsWith(p)))
    - containers.all(c, !has(c.image) || !c.image.matches(':latest$'))
",
    );
    let pod = |image: &str| format!(r#"{{"spec":{{"containers":[{{"image":"{image}"}}]}}}}"#);
    assert_eq!(
        sends(&policy, "POST", POD, &pod("registry.example.com/web:1")),
        Effect::Allow
    );
    assert_eq!(
        sends(&policy, "POST", POD, &pod("ghcr.io/shop/web:1")),
        Effect::Allow
    );
    assert_eq!(
        sends(
            &policy,
            "POST",
            POD,
            &pod("registry.example.com/web:latest")
        ),
        Effect::Deny
    );
    assert_eq!(
        sends(&policy, "POST", POD, &pod("docker.io/evil:1")),
        Effect::Deny
    );
    let verdict = decide_with(&policy, &user("alice", &[]), "POST", POD, "[]");
    assert!(
        verdict.decision.message.ends_with(
            "rule \"rule 1\" does not, since condition 1 cannot be told: the body is no JSON object (a JSON patch is none)"
        ),
        "{}",
        verdict.decision.message
    );
}

#[test]
fn requests_people_times_and_networks_are_known() {
    let alice = User {
        extra: [("example.com/team".to_owned(), vec!["web".to_owned()])].into(),
        ..user("alice", &["dev"])
    };
    let target = "/api/v1/namespaces/shop/pods?dryRun=All&labelSelector=a%3Db";
    let info = parse("DELETE", target).unwrap();
    let facts = facts(&alice, &info);
    let truth = |text: &str| {
        Condition::parse(text)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .truth(&facts)
    };
    for text in [
        "request.verb == 'deletecollection' && request.resource == 'pods' && request.apiGroup == ''",
        "request.namespace.startsWith('sh') && request.name == '' && request.subresource == ''",
        "request.dryRun && request.labelSelector == 'a=b' && request.query['dryRun'] == ['All']",
        "'dryRun' in request.query && !('force' in request.query)",
        "user.username == 'alice' && 'dev' in user.groups && 'system:authenticated' in user.groups",
        "user.extra['example.com/team'].exists(t, t == 'web')",
        "time.hour == 12 && time.weekday == 'Monday' && time.now.getHours('Europe/Berlin') == 13",
        "time.now > timestamp('2026-11-01T00:00:00Z') && time.now < timestamp('2026-12-01T00:00:00Z')",
        "time.now - timestamp('2026-11-23T11:00:00Z') == duration('1h')",
        "cidr('127.0.0.0/8').containsIP(source.ip) && !cidr('10.0.0.0/8').containsIP(source.ip)",
        "source.ip == '127.0.0.1'",
        "request.path.matches('^/api/v1/namespaces/[a-z]+/pods$')",
    ] {
        assert_eq!(truth(text), Truth::Holds, "{text}");
    }
    assert_eq!(truth("time.hour >= 18"), Truth::Fails);
    assert_eq!(truth("object.spec.x == 1"), Truth::NeedsBody);
    let missing = "user.extra['example.com/other'][0] == 'x'";
    assert_eq!(
        truth(missing),
        Truth::Doubt("there is no field \"example.com/other\"".to_owned())
    );
    let exec = parse(
        "GET",
        "/api/v1/namespaces/a/pods/p/exec?command=ls&command=-l",
    )
    .unwrap();
    let facts = super::facts(&alice, &exec);
    let condition = Condition::parse("request.command == ['ls', '-l']").unwrap();
    assert_eq!(condition.truth(&facts), Truth::Holds);
}

/// A condition, and how the error about it begins.
const MISTAKES: &[(&str, &str)] = &[
    (
        "reqest.verb == 'get'",
        "there is no variable \"reqest\": did you mean \"request\"?",
    ),
    (
        "request.verbs == 'get'",
        "\"request\" has no field \"verbs\": did you mean \"verb\"?",
    ),
    (
        "request.verb.startWith('g')",
        "there is no function startWith(): did you mean \"startsWith\"?",
    ),
    (
        "sizes(user.groups) > 1",
        "there is no function sizes(): did you mean \"size\"?",
    ),
    (
        "request.verb",
        "a condition must be true or false, this is a text",
    ),
    ("request.verb == 3", "a text is compared with a number"),
    (
        "request.verb && true",
        "a text is used where a yes or no is needed",
    ),
    (
        "object.?spec == 3",
        "a value that may be missing (add .orValue(…)) is compared with a number",
    ),
    (
        "time.hour in 'abc'",
        "\"in\" looks into a list or a map, not into a text",
    ),
    ("request.verb ==", "column "),
    ("", "a condition is empty"),
    (
        "cidr('10.0.0.1/8').containsIP(source.ip)",
        "\"10.0.0.1/8\" is no network such as 10.0.0.0/8",
    ),
    (
        "cidr(user.username).containsIP(source.ip)",
        "write cidr('10.0.0.0/8').containsIP(source.ip)",
    ),
    (
        "request.name.matches('(')",
        "the pattern of matches() is no regular expression",
    ),
    (
        "request.name.matches(user.username)",
        "the pattern of matches() must be written out",
    ),
    (
        "time.now.getHours('Europe/Atlantis') > 8",
        "\"Europe/Atlantis\" is no time zone",
    ),
    (
        "containers.all(c, containers.exists(d, d == c))",
        "a loop inside the loop over \"c\" may only walk what belongs to it, not \"containers\"",
    ),
    (
        "request.verb.all(c, c == 'x')",
        "there is no loop over a text",
    ),
];

#[test]
fn mistakes_in_conditions_are_errors_of_the_file_with_their_line() {
    for (condition, expected) in MISTAKES {
        let text = format!(
            "profiles:
- name: p
  subjects: {{users: [alice]}}
  rules:
  - effect: deny
    apiGroups: ['*']
    resources: ['*']
    verbs: ['*']
    when:
    - {}
",
            serde_json::to_string(condition).unwrap()
        );
        let told = errors(&text);
        let expected = format!("line 10: \"when\": {expected}");
        assert!(
            told.starts_with(&expected),
            "{condition}\n{told}\n{expected}"
        );
    }
}

#[test]
fn long_and_deep_conditions_are_errors() {
    let long = format!("request.verb == '{}'", "x".repeat(3000));
    assert!(Condition::parse(&long).is_err());
    let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
    assert!(Condition::parse(&deep).is_err());
    let chain = vec!["!"; 400].concat() + "true";
    assert!(
        Condition::parse(&chain).is_ok_and(|c| c.text() == chain)
            || Condition::parse(&chain).is_err()
    );
    let sum = vec!["1"; 600].join("+") + " > 1";
    assert!(Condition::parse(&sum).is_err());
}

#[test]
fn loops_may_walk_what_belongs_to_them() {
    for text in [
        "containers.all(c, c.?volumeMounts.orValue([]).all(m, m.mountPath != '/'))",
        "['a', 'b'].all(p, containers.exists(c, c.name == p))",
        "containers.all(c, ['a', 'b'].exists(p, c.image.startsWith(p)))",
        "size(containers.filter(c, c.name == 'x')) <= 1 && containers.map(c, c.name).all(n, n != '')",
    ] {
        Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn doubt_denies_and_says_why_without_quoting_the_body() {
    let policy = denying("['object.data.password == \"x\"', 'object.data.user < 3']");
    let alice = user("alice", &[]);
    let target = "/api/v1/namespaces/shop/secrets";
    let body = r#"{"data":{"password":"x","user":"s3cret"}}"#;
    let verdict = decide_with(&policy, &alice, "POST", target, body);
    assert_eq!(verdict.decision.effect, Effect::Deny);
    assert!(
        verdict.decision.message.ends_with(
            "refused by rule \"nope\" of profile \"p\", since condition 2 cannot be told: a value is of another type than the condition expects"
        ),
        "{}",
        verdict.decision.message
    );
    // One that plainly does not hold counts before one in doubt.
    let other = r#"{"data":{"password":"y","user":"s3cret"}}"#;
    assert_eq!(sends(&policy, "POST", target, other), Effect::Allow);
}

#[test]
fn the_body_is_asked_for_only_by_a_rule_that_could_decide() {
    let policy = denying("['request.verb == \"delete\"', 'object.spec.x == 1']");
    let alice = user("alice", &[]);
    let info = parse("POST", POD).unwrap();
    assert!(
        policy.decide(&facts(&alice, &info)).verdict().is_some(),
        "the first condition fails"
    );
    let info = parse("DELETE", "/api/v1/namespaces/shop/pods/p").unwrap();
    assert_eq!(policy.decide(&facts(&alice, &info)), Step::NeedsBody);
    // A question without a body: a rule that denies some bodies does not deny it.
    let asked = facts(&alice, &info).with_body(BodyFact::Unknown);
    let verdict = policy
        .decide(&asked)
        .verdict()
        .expect("no body is waited for");
    assert_eq!(verdict.decision.effect, Effect::Allow);
}

#[test]
fn huge_and_deep_bodies_are_doubt_and_not_work() {
    let policy = denying("['object.a == 1']");
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let deep = format!(r#"{{"a":{deep}}}"#);
    assert_eq!(sends(&policy, "POST", POD, &deep), Effect::Deny);
    let many = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(300_000));
    assert_eq!(sends(&policy, "POST", POD, &many), Effect::Deny);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(2_000_000));
    assert_eq!(sends(&policy, "POST", POD, &long), Effect::Deny);
}
