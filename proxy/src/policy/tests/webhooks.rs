//! Rules that ask webhooks: which, when, and what their answers do.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// A policy of alice with a webhook `cal` that fails as given.
fn asking(failure_policy: &str, rules: &str) -> Policy {
    let text = format!(
        "webhooks:\n- {{name: cal, url: 'https://cal.example.com/a', failurePolicy: {failure_policy}}}\n\
         profiles:\n- name: p\n  subjects: {{users: [alice]}}\n  rules:\n{rules}"
    );
    Policy::parse(&text).expect("a good policy")
}

const ALLOWS: &str = "  - {name: asks, effect: allow, apiGroups: [''], resources: [pods], verbs: ['*'], webhook: cal, message: see the calendar}
  - {name: reads, effect: allow, apiGroups: [''], resources: [pods], verbs: [get]}
";

const VETO: &str = "  - {name: veto, effect: deny, apiGroups: [''], resources: [pods], verbs: ['*'], webhook: cal, message: see the calendar}
  - {name: work, effect: allow, apiGroups: [''], resources: [pods], verbs: ['*']}
";

fn answered(policy: &Policy, method: &str, answer: Answer) -> Decision {
    let alice = user("alice", &[]);
    let info = parse(method, "/api/v1/namespaces/shop/pods/web").expect("a request");
    let mut facts = facts(&alice, &info);
    let Step::NeedsWebhook(webhook) = policy.decide(&facts) else {
        panic!("it asks");
    };
    facts.answer(webhook, answer);
    policy
        .decide(&facts)
        .verdict()
        .expect("all is known")
        .decision
}

fn texts(reason: &str) -> [Answer; 4] {
    let reason = || reason.to_owned();
    [
        Answer::Allowed(reason()),
        Answer::Denied(reason()),
        Answer::NoOpinion(reason()),
        Answer::Failed("did not answer in time".to_owned()),
    ]
}

#[test]
fn an_answer_allows_denies_or_leaves_it_to_the_next_rule() {
    let policy = asking("Deny", ALLOWS);
    let [allowed, denied, no_opinion, failed] =
        texts("freeze").map(|answer| answered(&policy, "GET", answer));
    let found = |decision: &Decision| {
        let rule = decision.rule.clone().unwrap_or_default();
        (decision.effect, decision.cause, rule)
    };
    assert_eq!(found(&allowed), (Effect::Allow, Cause::Rule, "asks".into()));
    assert_eq!(allowed.message, "webhook \"cal\" allows it: freeze");
    assert_eq!(
        found(&denied),
        (Effect::Deny, Cause::Webhook, "asks".into())
    );
    assert!(
        denied.message.ends_with(
            "refused by rule \"asks\" of profile \"p\", since webhook \"cal\" denies it: freeze: see the calendar"
        ),
        "{}",
        denied.message
    );
    assert_eq!(
        found(&no_opinion),
        (Effect::Allow, Cause::Rule, "reads".into())
    );
    assert_eq!(
        found(&failed),
        (Effect::Deny, Cause::WebhookFailed, "asks".into())
    );
    assert!(
        failed
            .message
            .contains("since webhook \"cal\" did not answer in time"),
        "{}",
        failed.message
    );

    let none = answered(&policy, "DELETE", Answer::NoOpinion(String::new()));
    assert_eq!((none.effect, none.cause), (Effect::Deny, Cause::NoMatch));
    assert!(
        none.message
            .ends_with("; rule \"asks\" does not, since webhook \"cal\" has no opinion"),
        "{}",
        none.message
    );
}

#[test]
fn a_failure_that_counts_as_no_opinion_is_in_the_decision_all_the_same() {
    let [.., failed] = texts("");
    let decision = answered(&asking("NoOpinion", ALLOWS), "GET", failed);
    assert_eq!(
        (decision.effect, decision.rule.as_deref()),
        (Effect::Allow, Some("reads"))
    );
    assert_eq!(
        decision.message,
        "webhook \"cal\" did not answer in time, which counts as no opinion"
    );
}

#[test]
fn a_denying_rule_is_a_veto_of_its_webhook() {
    let policy = asking("Deny", VETO);
    let effects = texts("").map(|answer| {
        let decision = answered(&policy, "DELETE", answer);
        (decision.effect, decision.rule.unwrap_or_default())
    });
    let expected = [
        (Effect::Allow, "work"),
        (Effect::Deny, "veto"),
        (Effect::Allow, "work"),
        (Effect::Deny, "veto"),
    ];
    assert_eq!(
        effects,
        expected.map(|(effect, rule)| (effect, rule.to_owned()))
    );
    let [.., failed] = texts("");
    let open = answered(&asking("NoOpinion", VETO), "DELETE", failed);
    assert_eq!(open.rule.as_deref(), Some("work"));
}

#[test]
fn a_rule_that_holds_does_so_when_its_webhook_allows() {
    let rules =
        "  - {effect: approve, apiGroups: [''], resources: [pods], verbs: ['*'], webhook: cal}\n";
    let policy = asking("Deny", rules);
    let effects = texts("").map(|answer| answered(&policy, "GET", answer).effect);
    use Effect::{Deny, Hold};
    assert_eq!(effects, [Hold, Deny, Deny, Deny]);
}

#[test]
fn a_webhook_is_asked_once_and_only_when_conditions_hold() {
    let rules = "  - {name: a, effect: allow, apiGroups: [''], resources: [pods], verbs: ['*'], when: [time.hour > 20], webhook: cal}
  - {name: b, effect: allow, apiGroups: [''], resources: [pods], verbs: ['*'], when: [object.x == 1], webhook: cal}
  - {name: c, effect: deny, apiGroups: [''], resources: [pods], verbs: ['*'], webhook: cal}
  - {name: d, effect: allow, apiGroups: [''], resources: [pods], verbs: ['*']}
";
    let policy = asking("Deny", rules);
    let alice = user("alice", &[]);
    let info = parse("POST", "/api/v1/namespaces/shop/pods").expect("a request");
    assert_eq!(policy.decide(&facts(&alice, &info)), Step::NeedsBody);
    let about =
        |body: &'static str| facts(&alice, &info).with_body(BodyFact::Read(body.as_bytes()));
    let mut facts = about(r#"{"x":1}"#);
    let Step::NeedsWebhook(webhook) = policy.decide(&facts) else {
        panic!("rule b asks");
    };
    facts.answer(webhook, Answer::NoOpinion(String::new()));
    let verdict = policy
        .decide(&facts)
        .verdict()
        .expect("rule c knows the answer");
    assert_eq!(verdict.decision.rule.as_deref(), Some("d"));
    // In doubt, a rule that allows does not ask.
    let mut facts = about("no JSON");
    let Step::NeedsWebhook(webhook) = policy.decide(&facts) else {
        panic!("rule c asks");
    };
    facts.answer(webhook, Answer::Allowed(String::new()));
    let verdict = policy.decide(&facts).verdict().expect("all is known");
    assert_eq!(verdict.decision.rule.as_deref(), Some("d"));
}

#[test]
fn who_explains_without_asking_says_what_it_depends_on() {
    let alice = user("alice", &[]);
    let info = parse("GET", "/api/v1/namespaces/shop/pods/web").expect("a request");
    let explain = |policy: &Policy| {
        let facts = facts(&alice, &info).with_body(BodyFact::Read(b""));
        policy
            .explain(&facts.without_webhooks())
            .expect("nothing is waited for")
    };
    let allows = explain(&asking("Deny", ALLOWS));
    assert_eq!(allows.webhooks, ["cal"]);
    assert_eq!(allows.verdict.decision.rule.as_deref(), Some("asks"));
    assert_eq!(
        allows.verdict.decision.message,
        "it depends on the answer of webhook \"cal\""
    );
    let veto = explain(&asking("Deny", VETO));
    assert_eq!(veto.webhooks, ["cal"]);
    assert_eq!(veto.verdict.decision.rule.as_deref(), Some("work"));
    assert_eq!(
        veto.tried[0].reason,
        "it would ask webhook \"cal\", and only refuse if that does"
    );
}

fn review(user: &User, through: Through<'_>, method: &str, target: &str) -> Value {
    let info = parse(method, target).expect("a request");
    let facts = facts(user, &info).through(through);
    serde_json::from_slice(&Webhook::review(&facts)).expect("JSON")
}

#[test]
fn a_webhook_is_sent_a_subject_access_review() {
    let mut alice = user("alice", &["dev"]);
    alice.uid = Some("1001".into());
    alice
        .extra
        .insert("example.com/team".into(), vec!["web".into()]);
    // What a token claims does not pass for what the gateway knows.
    alice
        .extra
        .insert("gateway.hoop/actor".into(), vec!["me".into()]);
    let target = "/apis/apps/v1/namespaces/shop/deployments?labelSelector=app%3Dweb&limit=5";
    assert_eq!(
        review(&alice, Through::default(), "GET", target),
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": "shop", "verb": "list", "group": "apps", "version": "v1", "resource": "deployments",
                    "labelSelector": {"rawSelector": "app=web"},
                },
                "user": "alice", "uid": "1001", "groups": ["dev", "system:authenticated"],
                "extra": {"example.com/team": ["web"], "gateway.hoop/source-ip": ["127.0.0.1"]},
            },
        })
    );
    let through = Through {
        actor: Some("agent-7"),
        client: Some("cli"),
    };
    let target = "/api/v1/namespaces/shop/pods/web/exec?command=sh";
    let spec = review(&alice, through, "GET", target)["spec"].take();
    assert_eq!(
        spec["resourceAttributes"],
        json!({"namespace": "shop", "verb": "create", "version": "v1", "resource": "pods", "subresource": "exec", "name": "web"})
    );
    assert_eq!(spec["extra"]["gateway.hoop/actor"], json!(["agent-7"]));
    assert_eq!(spec["extra"]["gateway.hoop/client"], json!(["cli"]));
    let spec = review(&alice, through, "GET", "/metrics")["spec"].take();
    assert_eq!(
        spec["nonResourceAttributes"],
        json!({"path": "/metrics", "verb": "get"})
    );
}

#[test]
fn what_a_webhook_may_be_is_checked_with_the_file() {
    for (webhook, expected) in [
        ("{name: a}", "line 2: a webhook needs \"url\""),
        (
            "{name: a, url: 'http://example.com/'}",
            "http only goes to this machine",
        ),
        (
            "{name: a, url: 'http://127.0.0.1.example.com/'}",
            "http only goes to this machine",
        ),
        (
            "{name: a, url: 'ftp://example.com/'}",
            "write https://HOST/PATH",
        ),
        (
            "{name: a, url: 'mailto:a@example.com'}",
            "write https://HOST/PATH",
        ),
        (
            "{name: a, url: 'https://u:p@example.com/'}",
            "a credential does not belong in an address",
        ),
        (
            "{name: a, url: 'https://example.com/', timeout: 31s}",
            "\"timeout\": at most 30s",
        ),
        (
            "{name: a, url: 'https://example.com/', timeout: 0s}",
            "no webhook answers in no time",
        ),
        (
            "{name: a, url: 'https://example.com/', timeout: soon}",
            "\"soon\" is no time",
        ),
        (
            "{name: a, url: 'https://example.com/', authorizedTTL: 61m}",
            "\"authorizedTTL\": at most 3600s",
        ),
        (
            "{name: a, url: 'https://example.com/', failurePolicy: Ignore}",
            "\"failurePolicy\" cannot be \"Ignore\"",
        ),
        (
            "{name: a, url: 'https://example.com/', clientKey: /k}",
            "go together",
        ),
        (
            "{name: a, url: 'https://example.com/', tokenFile: token}",
            "write the whole path",
        ),
        (
            "{name: a, url: 'http://[::1]:1/', certificateAuthority: /ca}",
            "certificates mean nothing over http",
        ),
        (
            "{name: '', url: 'https://example.com/'}",
            "a name has 1 to 63 bytes",
        ),
        (
            "{name: a, url: 'https://example.com/'}\n- {name: a, url: 'https://example.com/'}",
            "the webhook \"a\" is there twice",
        ),
    ] {
        let text = format!("webhooks:\n- {webhook}\nprofiles: []\n");
        let found = errors(&text);
        assert!(found.contains(expected), "{webhook}: {found}");
    }
}

#[test]
fn a_rule_names_a_webhook_that_is_there_and_is_no_impersonation() {
    let rule = |more: &str| {
        format!(
            "webhooks:\n- {{name: cal, url: 'http://localhost:1/'}}\nprofiles:\n- name: p\n  subjects: {{users: [alice]}}\n  rules:\n  - {{effect: allow, {more}}}\n"
        )
    };
    let found = errors(&rule("nonResourceURLs: ['*'], verbs: [get], webhook: call"));
    assert!(
        found.contains("line 7: there is no webhook \"call\": did you mean \"cal\"?"),
        "{found}"
    );
    let found = errors(&rule("impersonate: {users: [jane]}, webhook: cal"));
    assert!(found.contains("is decided without webhooks"), "{found}");
    let policy = Policy::parse(&rule("nonResourceURLs: ['*'], verbs: [get], webhook: cal"));
    let policy = policy.expect("a good policy");
    let webhook: &Arc<Webhook> = policy.webhook("cal").expect("it is there");
    assert_eq!(webhook.timeout, std::time::Duration::from_secs(3));
    assert_eq!(webhook.failure_policy, FailurePolicy::Deny);
}

#[test]
fn webhooks_that_fail_open_and_those_never_asked_are_told() {
    let codes = |policy: &Policy| -> Vec<&'static str> {
        let lints = policy.lints();
        let codes = lints.iter().map(|lint| lint.code.as_str());
        codes.filter(|code| code.contains("webhook")).collect()
    };
    assert_eq!(codes(&asking("Deny", VETO)), [""; 0]);
    assert_eq!(codes(&asking("NoOpinion", VETO)), ["webhook-fails-open"]);
    // The rule after it allows less than what the webhook is asked about.
    assert_eq!(codes(&asking("NoOpinion", ALLOWS)), [""; 0]);
    let wider = ALLOWS.replace("verbs: [get]", "verbs: ['*']");
    assert_eq!(codes(&asking("NoOpinion", &wider)), ["webhook-fails-open"]);
    let accepted = VETO.replace("webhook: cal", "webhook: cal, accept: [webhook-fails-open]");
    assert_eq!(codes(&asking("NoOpinion", &accepted)), [""; 0]);
    let never = VETO.replace("webhook: cal, ", "");
    assert_eq!(codes(&asking("Deny", &never)), ["unused-webhook"]);
}

#[test]
fn a_rule_that_asks_makes_no_other_unreachable_and_lists_incomplete() {
    let policy = asking("Deny", ALLOWS);
    let cluster: ReviewedRules = serde_json::from_value(json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [], "incomplete": false, "evaluationError": "",
    }))
    .expect("rules");
    let joined = policy.review_rules(&user("alice", &[]), Through::default(), "shop", cluster);
    assert!(joined.incomplete, "{joined:?}");
}
