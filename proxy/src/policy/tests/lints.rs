//! What `hoop policy check` warns of.

use super::*;

fn codes(rules: &str) -> Vec<(u64, &'static str)> {
    let lints = of_alice(rules).lints();
    lints
        .iter()
        .map(|lint| (lint.line, lint.code.as_str()))
        .collect()
}

#[test]
fn wildcards_that_are_wider_than_they_look_are_told() {
    let all = "  - {effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*'], mask: none}\n";
    assert_eq!(
        codes(all),
        [
            (5, "nodes-proxy"),
            (5, "mints-tokens"),
            (5, "proxy"),
            (5, "includes-exec"),
            (5, "includes-rbac"),
            (5, "readable-secrets"),
            (5, "excludes-impersonate"),
        ]
    );
    let accepted = all.replace(
        "mask: none",
        "accept: [nodes-proxy, mints-tokens, proxy, includes-exec, includes-rbac, excludes-impersonate]",
    );
    assert_eq!(codes(&accepted), []);
    let told = errors(&format!(
        "profiles:\n- name: p\n  subjects: {{users: [a]}}\n  rules:\n{}",
        accepted.replace("includes-exec", "include-exec")
    ));
    assert_eq!(
        told,
        "line 5: nothing warns of \"include-exec\": did you mean \"includes-exec\"?"
    );
}

#[test]
fn an_earlier_denial_answers_a_lint_and_a_narrower_one_does_not() {
    let rule = "  - {effect: allow, apiGroups: [''], resources: [nodes/*], verbs: [get]}\n";
    let deny = "  - {effect: deny, apiGroups: [''], resources: [nodes/proxy], verbs: ['*']}\n";
    assert_eq!(codes(rule), [(5, "nodes-proxy")]);
    assert_eq!(codes(&format!("{deny}{rule}")), []);
    let narrow = deny.replace("verbs: ['*']", "verbs: ['*'], namespaces: [a]");
    assert_eq!(codes(&format!("{narrow}{rule}")), [(6, "nodes-proxy")]);
    let sometimes = deny.replace("verbs: ['*']", "verbs: ['*'], when: [time.hour > 8]");
    assert_eq!(codes(&format!("{sometimes}{rule}")), [(6, "nodes-proxy")]);
}

#[test]
fn updates_that_create_and_gets_that_do_not_exec_are_told() {
    let update =
        "  - {effect: allow, apiGroups: [apps], resources: [deployments], verbs: [get, patch]}\n";
    assert_eq!(codes(update), [(5, "update-creates")]);
    let deny = "  - {effect: deny, apiGroups: [apps], resources: ['*'], verbs: [create]}\n";
    assert_eq!(codes(&format!("{deny}{update}")), []);
    assert_eq!(
        codes(&update.replace("deployments", "deployments/scale")),
        []
    );
    let subresources =
        "  - {effect: allow, apiGroups: [''], resources: ['pods/*'], verbs: [get]}\n";
    assert_eq!(codes(subresources), [(5, "proxy"), (5, "get-is-not-exec")]);
}

#[test]
fn a_rule_with_conditions_makes_no_other_unreachable() {
    let rule = "  - {effect: allow, apiGroups: [''], resources: [pods], verbs: [get]}\n";
    assert_eq!(codes(&format!("{rule}{rule}")), [(6, "unreachable")]);
    let sometimes = rule.replace("[get]}", "[get], when: [time.hour > 8]}");
    assert_eq!(codes(&format!("{sometimes}{rule}")), []);
}
