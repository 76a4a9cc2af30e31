//! Rules of the kind `impersonate`, and profiles that pin their people to a service account.

use super::*;

const POLICY: &str = "profiles:
- name: support
  subjects: {groups: [support]}
  rules:
  - name: not-the-boss
    effect: deny
    impersonate: {users: [boss]}
  - name: customers
    effect: allow
    impersonate:
      users: [jane, 'customer-*']
      groups: [customers]
      uids: ['7*']
      extra: ['example.com/ticket=*']
      serviceAccounts: ['shop:web']
    when: [time.hour < 20]
  - name: staff
    effect: approve
    impersonate: {users: [staff]}
";

fn asked(name: &str, groups: &[&str]) -> User {
    user(name, groups)
}

fn decide_as(policy: &Policy, by: &User, asked: &User) -> Decision {
    let info = parse("GET", "/api/v1/pods").unwrap();
    policy.impersonate(&facts(by, &info), asked)
}

#[test]
fn only_listed_targets_are_allowed_and_all_of_them_together() {
    let policy = Policy::parse(POLICY).unwrap();
    let helper = user("helper", &["support"]);
    let effect = |asked: &User| decide_as(&policy, &helper, asked).effect;
    for allowed in [
        asked("jane", &[]),
        asked("customer-7", &["customers"]),
        asked("system:serviceaccount:shop:web", &[]),
        User {
            uid: Some("77".into()),
            extra: [("example.com/ticket".to_owned(), vec!["T-1".to_owned()])].into(),
            ..asked("jane", &[])
        },
    ] {
        assert_eq!(effect(&allowed), Effect::Allow, "{allowed:?}");
    }
    for denied in [
        asked("boss", &[]),
        asked("john", &[]),
        asked("jane", &["customers", "admins"]),
        asked("system:serviceaccount:shop:db", &[]),
        asked("system:serviceaccount:shop:web", &["admins"]),
        asked("system:admin", &[]),
        asked("System:Admin", &[]),
        asked("system:serviceaccount:", &[]),
        asked("jane", &["system:masters"]),
        asked("jane", &["customers", "system:authenticated"]),
        User {
            uid: Some("1".into()),
            ..asked("jane", &[])
        },
        User {
            extra: [("example.com/other".to_owned(), vec!["x".to_owned()])].into(),
            ..asked("jane", &[])
        },
    ] {
        assert_eq!(effect(&denied), Effect::Deny, "{denied:?}");
    }
    assert_eq!(effect(&asked("staff", &[])), Effect::Hold);
    let other = user("other", &["developers"]);
    let decision = decide_as(&policy, &other, &asked("jane", &[]));
    assert_eq!(
        (decision.effect, decision.cause),
        (Effect::Deny, Cause::ImpersonationRefused)
    );
    let decision = decide_as(&policy, &helper, &asked("jane", &["admins"]));
    assert_eq!(
        decision.message,
        "user \"helper\" may not act as user \"jane\": no rule of the gateway's policy allows it (user \"jane\")"
            .replace("(user \"jane\")", "(group \"admins\")")
    );
}

#[test]
fn reserved_and_boundless_targets_are_errors_of_the_file() {
    let told = errors(
        "profiles:
- name: p
  subjects: {users: [alice]}
  rules:
  - effect: allow
    impersonate:
      users: ['*', 'system:admin', 'system:serviceaccount:a:b']
      groups: ['system:masters', '*']
      extra: [x]
      serviceAccounts: ['*:web']
    verbs: [get]
    when: [object.x == 1]
  - effect: allow
    impersonate: {groups: [g]}
",
    );
    let expected = [
        r#"line 7: "users": list whom people may act as, or give a prefix such as "test-*""#,
        r#"line 7: "system:admin" is never asserted: system: names belong to the cluster"#,
        r#"line 7: name service accounts in "serviceAccounts", as NAMESPACE:NAME"#,
        r#"line 8: "system:masters" is never asserted: system: names belong to the cluster"#,
        r#"line 8: "groups": list whom people may act as, or give a prefix such as "test-*""#,
        r#"line 9: "x" is no extra: write KEY=VALUE, the key in lower case"#,
        r#"line 10: "*:web" is no service account: write NAMESPACE:NAME"#,
        r#"line 11: "verbs" means nothing beside "impersonate": what they may do is for other rules"#,
        "line 12: who somebody acts as is decided before the body is read: leave object, podSpecs and containers out",
        "line 14: impersonate must name users or service accounts: groups, uids and extra only go with one",
    ];
    for line in expected {
        assert!(told.lines().any(|l| l == line), "{line}\n{told}");
    }
}

#[test]
fn the_profile_that_decides_says_whom_the_cluster_sees() {
    let policy = Policy::parse(
        "profiles:
- name: pinned
  subjects: {users: [alice]}
  actAs: {serviceAccount: 'shop:viewer'}
  rules: [{effect: allow, apiGroups: [''], resources: [pods], verbs: [list]}]
- name: free
  subjects: {users: [alice]}
  rules: [{effect: allow, apiGroups: [''], resources: [nodes], verbs: [list]}]
",
    )
    .unwrap();
    let alice = user("alice", &[]);
    let act_as = |target| decide(&policy, &alice, "GET", target).act_as;
    let pin = "system:serviceaccount:shop:viewer";
    assert_eq!(act_as("/api/v1/pods").as_deref(), Some(pin));
    assert_eq!(act_as("/api/v1/nodes"), None);
    assert_eq!(act_as("/api").as_deref(), Some(pin));
    let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = |resource: &str| {
        format!(r#"{{"spec":{{"resourceAttributes":{{"verb":"list","resource":"{resource}"}}}}}}"#)
    };
    let act_as =
        |resource: &str| decide_with(&policy, &alice, "POST", target, &question(resource)).act_as;
    assert_eq!(act_as("pods").as_deref(), Some(pin));
    assert_eq!(act_as("nodes"), None);
}

#[test]
fn the_gateways_own_rights_name_what_the_policy_names() {
    let policy = Policy::parse(POLICY).unwrap();
    let rights = GatewayRights {
        name: "gateway".into(),
        service_account: ("hoop".into(), "gateway".into()),
        users: vec!["helper".into()],
        ..GatewayRights::default()
    };
    let text = policy.gateway_rights(&rights);
    for line in [
        "# RBAC has no words for users \"customer-*\": add the names with --user or --group.",
        "    resourceNames: [\"boss\", \"helper\", \"jane\", \"staff\"]",
        "    resourceNames: [\"customers\", \"support\"]",
        "    resources: [\"userextras/example.com/ticket\"]",
        "    resources: [\"userextras/gateway.hoop/original-user\"]",
        "    resources: [\"tokenreviews\"]",
        "  namespace: \"shop\"",
        "    resourceNames: [\"web\"]",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(
        !text.contains("system:masters") && !text.contains("\"*\""),
        "{text}"
    );
    for document in text.split("---\n").skip(1) {
        crate::yaml::read(document).unwrap_or_else(|e| panic!("{e:?}\n{document}"));
    }
}
