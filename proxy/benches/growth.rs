//! Whether memory grows with the number of requests that were parsed, decided about and masked.
//!
//! `cargo bench --workspace --bench growth`; ten million requests of a hundred namespaces by a hundred users, a condition
//! that looks into a body, and a Secret to mask for each. Says what the process holds along the way, and fails when it
//! holds more at the end than after the first tenth.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hoop_proxy::mask::{MaskHint, MaskKey, MaskMode, Masker};
use hoop_proxy::policy::{BodyFact, Facts, Policy};
use hoop_proxy::request_info::parse;
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::User;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: u64 = 10_000_000;

/// How much the figure of the kernel may move by itself, in KiB.
const NOISE_KIB: u64 = 1024;

const POLICY: &str = r#"
profiles:
- name: everyone
  subjects: {groups: [dev]}
  rules:
  - {effect: deny, apiGroups: [apps], resources: [deployments/scale], verbs: [patch], when: ["object.spec.replicas == 0"]}
  - {effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], namespaces: ["team-*"]}
"#;

const SECRET: &[u8] = br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"shop"},"data":{"password":"aHVudGVyMg=="}}"#;

const SCALE: &[u8] = br#"{"spec":{"replicas":3}}"#;

fn main() {
    let policy = Policy::parse(POLICY).expect("a good policy");
    let key = Arc::new(MaskKey::from_bytes([7; 32]));
    let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let now = Timestamp::from_micros(1_795_435_200_000_000);
    let users: Vec<User> = (0..100)
        .map(|i| User {
            username: format!("user-{i}"),
            groups: vec!["dev".to_owned()],
            ..User::default()
        })
        .collect();
    let begun = Instant::now();
    let mut early = 0;
    let mut out = Vec::new();
    for number in 0..REQUESTS {
        let user = &users[(number % 100) as usize];
        let namespace = number / 100 % 100;
        let (method, target) = match number % 3 {
            0 => (
                "PATCH",
                format!("/apis/apps/v1/namespaces/team-{namespace}/deployments/web/scale"),
            ),
            1 => (
                "GET",
                format!("/api/v1/namespaces/team-{namespace}/pods/web-{number}"),
            ),
            _ => ("GET", format!("/api/v1/namespaces/other-{number}/secrets")),
        };
        let info = parse(method, &target).expect("a request");
        let facts = Facts::new(user, &info, ip, now).with_body(BodyFact::Read(SCALE));
        black_box(policy.decide(&facts));
        let mut masker = Masker::new(MaskHint::Secrets, MaskMode::Redact, Arc::clone(&key));
        out.clear();
        masker.push(SECRET, &mut out).expect("JSON");
        masker.finish(&mut out).expect("JSON");
        if (number + 1) % (REQUESTS / 10) == 0 {
            let held = resident_kib();
            early = if early == 0 { held } else { early };
            println!("{:>8} requests: {held} KiB", number + 1);
        }
    }
    let grown = resident_kib().saturating_sub(early);
    let each = begun.elapsed().as_secs_f64() * 1e6 / REQUESTS as f64;
    println!("grown by {grown} KiB from the first tenth to the end; {each:.2} µs for each request");
    assert!(
        grown <= NOISE_KIB,
        "memory grows with the number of requests"
    );
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.expect("a size").trim().trim_end_matches(" kB");
    value.parse().expect("a number")
}
