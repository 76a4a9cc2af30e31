//! Deciding under a policy of 10,000 rules.
//!
//! `cargo bench -p hoop-proxy --bench policy`; prints microseconds for each decision.

#![allow(clippy::print_stdout, missing_docs)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use hoop_proxy::policy::{BodyFact, Facts, Policy};
use hoop_proxy::request_info::parse;
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::User;

const RULES: usize = 10_000;
const DECISIONS: u32 = 10_000;

fn main() {
    let exact = "profiles:\n- name: everyone\n  subjects: {groups: [dev]}\n  rules:\n".to_owned();
    let exact = (0..RULES).fold(exact, |mut text, i| {
        writeln!(text, "  - {{effect: allow, apiGroups: [''], resources: [pods, pods/log], verbs: [get, list], namespaces: [team-{i}]}}").expect("a text");
        text
    });
    let patterns = exact
        .replace("namespaces: [team-", "namespaces: ['team-")
        .replace("]}\n", "-*']}\n")
        // The subjects' line ends like a rule.
        .replace("[dev-*']", "[dev]");
    let many = (0..RULES / 10).fold("profiles:\n".to_owned(), |mut text, i| {
        writeln!(text, "- name: p{i}\n  subjects: {{groups: [dev-{i}]}}\n  rules:").expect("a text");
        for j in 0..10 {
            writeln!(text, "  - {{effect: allow, apiGroups: [''], resources: [pods], verbs: [get], namespaces: ['t{i}-{j}*']}}").expect("a text");
        }
        text
    });
    let last = RULES - 1;
    let groups = vec!["dev".to_owned(), "dev-999".to_owned()];
    let user = User {
        username: "alice".to_owned(),
        groups,
        ..User::default()
    };
    let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let now = Timestamp::from_micros(1_795_435_200_000_000);
    conditions(&user, ip, now);
    for (name, text, namespace) in [
        (
            "one profile, exact namespaces, last rule",
            &exact,
            format!("team-{last}"),
        ),
        (
            "one profile, exact namespaces, none",
            &exact,
            "other".to_owned(),
        ),
        (
            "one profile, patterns, last rule",
            &patterns,
            format!("team-{last}-x"),
        ),
        ("one profile, patterns, none", &patterns, "other".to_owned()),
        ("1,000 profiles, last rule", &many, "t999-9x".to_owned()),
    ] {
        let start = Instant::now();
        let policy = Policy::parse(text).expect("a good policy");
        let loading = start.elapsed();
        let info =
            parse("GET", &format!("/api/v1/namespaces/{namespace}/pods/web-1")).expect("a request");
        let start = Instant::now();
        for _ in 0..DECISIONS {
            let facts = Facts::new(black_box(&user), black_box(&info), ip, now);
            black_box(policy.decide(&facts));
        }
        let each = start.elapsed() / DECISIONS;
        let effect = policy
            .decide(&Facts::new(&user, &info, ip, now))
            .verdict()
            .map_or("needs the body", |verdict| verdict.decision.effect.as_str());
        println!(
            "{name:42} {:8.2} µs  ({effect}, {} rules, loaded in {:.0?})",
            each.as_secs_f64() * 1e6,
            policy.rules(),
            loading
        );
    }
}

/// What conditions add, each evaluated because nothing before it decides.
fn conditions(user: &User, ip: std::net::IpAddr, now: Timestamp) {
    let body = br#"{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"registry.example.com/a:1"},{"name":"b","image":"registry.example.com/b:1"}]}}}}"#;
    for condition in [
        "request.verb == 'delete'",
        "time.now.getHours('Europe/Berlin') > 25",
        "cidr('192.0.2.0/24').containsIP(source.ip)",
        "containers.exists(c, !c.image.startsWith('registry.example.com/'))",
    ] {
        let text = format!(
            "profiles:\n- name: p\n  subjects: {{groups: [dev]}}\n  rules:\n  - {{effect: deny, apiGroups: ['*'], resources: ['*'], verbs: ['*'], when: [\"{condition}\"]}}\n  - {{effect: allow, apiGroups: ['*'], resources: ['*'], verbs: ['*']}}\n"
        );
        let policy = Policy::parse(&text).expect("a good policy");
        let info = parse("PATCH", "/apis/apps/v1/namespaces/a/deployments/b").expect("a request");
        let start = Instant::now();
        for _ in 0..DECISIONS {
            let facts = Facts::new(user, &info, ip, now).with_body(BodyFact::Read(body));
            black_box(policy.decide(&facts));
        }
        let each = start.elapsed() / DECISIONS;
        println!(
            "condition {condition:70} {:8.2} µs",
            each.as_secs_f64() * 1e6
        );
    }
}
