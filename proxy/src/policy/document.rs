//! The file of a policy, read and checked.
//!
//! ```yaml
//! profiles:
//!   - name: developers                # names the profile in decisions
//!     subjects:                       # whoever is one of these has the profile
//!       users: [alice, "robot-*"]     # a star may stand at the end
//!       groups: [developers]
//!       serviceAccounts: ["ci:deployer", "jobs:*"]   # NAMESPACE:NAME
//!       actors: ["agent-*"]           # optional: only when one of these acts for them; without, nobody may
//!       clients: [agent-platform]     # optional: only when they come by one of these OpenID Connect clients
//!     actAs: {serviceAccount: "shop:viewer"}   # optional: who the cluster sees instead of the person
//!     rules:                          # the first that matches decides
//!       - name: read-workloads        # names the rule in decisions
//!         effect: allow               # allow | deny | approve
//!         apiGroups: ["", apps]       # or "*"
//!         resources: [pods, pods/log] # RESOURCE, RESOURCE/SUB, RESOURCE/*, */SUB, *
//!         verbs: [get, list, watch]   # or "*"; exec stands for exec, attach and port-forward
//!         namespaces: [shop, "team-*"]   # default: everywhere; "" is the cluster scope and all namespaces at once
//!         resourceNames: ["web-*"]    # default: every name
//!         when:                       # conditions in CEL, all of which must hold; see docs/policy.md
//!           - request.dryRun || user.groups.exists(g, g == 'seniors')
//!         mask: redact                # redact | hmac | partial | none; what the client sees of secret values
//!                                     # {client: none, record: hmac} where the record shows them another way
//!         masking: [tokens]           # masking rules that hold as well
//!         record: RequestResponse     # Metadata | Request | RequestResponse
//!         durability: log             # log | spool | best_effort
//!         class: standard             # retention class of the events
//!         bodyClass: short            # retention class of the bodies; default: as the events
//!         webhook: change-calendar    # asked when the conditions hold; see docs/policy.md
//!         accept: [includes-exec]     # what `hoop policy check` warns of and is meant
//!         message: ask the platform team   # added to the answer of a refusal
//!       - nonResourceURLs: [/metrics, /debug/*]   # instead of apiGroups and resources
//!         verbs: [get]
//!         effect: allow
//!       - impersonate:                # whom people may act as (kubectl --as)
//!           users: [jane]
//!           groups: [viewers]
//!           uids: []
//!           extra: ["example.com/ticket=*"]      # KEY=VALUE
//!           serviceAccounts: ["shop:web"]
//!         effect: allow
//! webhooks:
//!   - name: change-calendar
//!     url: https://calendar.example.com/authorize   # http:// on this machine only
//!     certificateAuthority: /etc/hoop/calendar-ca.pem    # default: the authorities of the machine
//!     clientCertificate: /etc/hoop/calendar.crt     # optional, with clientKey
//!     clientKey: /etc/hoop/calendar.key
//!     tokenFile: /etc/hoop/calendar-token           # optional bearer token
//!     timeout: 3s                     # at most 30s
//!     failurePolicy: Deny             # Deny | NoOpinion
//!     authorizedTTL: 0s               # how long an answer is good for the same question; at most 1h
//!     unauthorizedTTL: 0s
//! masking:                            # what is masked besides Secrets; see docs/masking.md
//!   - name: tokens
//!     fields:                         # default: every text, in objects, logs and streams
//!       - kind: ConfigMap             # default: every kind
//!         paths: [.data.*]
//!     detect: [jwt, github-token]     # "*" for all detectors
//!     patterns: ['CUST-[0-9]{8}']
//!     client: redact                  # redact | hmac | partial | none
//!     record: redact                  # default: as the client, and redact where that is none
//! ```

mod masking;
mod rule;
mod webhook;

use std::sync::Arc;

use super::impersonation::SERVICE_ACCOUNT;
use super::profile::{Profile, Subjects};
use super::rule::{Rule, TextPattern};
use super::webhook::Webhook;
use super::{BUILT_IN, PolicyErrors};
use crate::mask::MaskingRule;
use crate::yaml::{self, Mistakes, Node};
pub(super) use masking::MODES;
use masking::MaskingRules;
use rule::read_rule;
use webhook::Webhooks;

/// The most rules one policy may have: keeps loading and the index within a few MiB.
pub(super) const RULES_MAX: usize = 50_000;

/// The most pairs of resource and namespace that the rules of one policy may name, for the same reason.
pub(super) const PAIRS_MAX: usize = 500_000;

const PROFILE_KEYS: [&str; 4] = ["name", "subjects", "actAs", "rules"];
const SUBJECT_KEYS: [&str; 5] = ["users", "groups", "serviceAccounts", "actors", "clients"];
const ACT_AS_KEYS: [&str; 1] = ["serviceAccount"];

/// What a policy's file says.
pub(super) struct Document {
    pub(super) profiles: Vec<Profile>,
    /// The masking rules, each with its line.
    pub(super) masking: Vec<(Arc<MaskingRule>, u64)>,
    pub(super) webhooks: Vec<Arc<Webhook>>,
}

/// What rules refer to by name.
#[derive(Default)]
struct Named {
    masking: MaskingRules,
    webhooks: Webhooks,
}

/// Reads a policy.
pub(super) fn read(text: &str) -> Result<Document, PolicyErrors> {
    let root = yaml::read(text)?;
    let mut mistakes = Mistakes::default();
    let mut profiles: Vec<Profile> = Vec::new();
    let mut named = Named::default();
    if let Some(entries) = mistakes.map(&root, "a policy", &["masking", "profiles", "webhooks"])
        && let Some(node) = entries.require("profiles", &mut mistakes)
    {
        if let Some(rules) = entries.get("masking") {
            named.masking = MaskingRules::read(rules, &mut mistakes);
        }
        if let Some(webhooks) = entries.get("webhooks") {
            named.webhooks = Webhooks::read(webhooks, &mut mistakes);
        }
        for item in mistakes.list(node, "profiles") {
            let Some(profile) = read_profile(item, &mut named, &mut mistakes) else {
                continue;
            };
            if profiles.iter().any(|other| other.name == profile.name) {
                let message = format!("the profile \"{}\" is there twice", profile.name);
                mistakes.note(item.line, message);
            }
            if profile.name == BUILT_IN {
                let message =
                    format!("\"{BUILT_IN}\" is the name of what every policy begins with");
                mistakes.note(item.line, message);
            }
            profiles.push(profile);
        }
    }
    check_size(&root, &profiles, &mut mistakes);
    mistakes.into_result()?;
    Ok(Document {
        profiles,
        masking: named.masking.into_rules(),
        webhooks: named.webhooks.into_list(),
    })
}

fn check_size(root: &Node, profiles: &[Profile], mistakes: &mut Mistakes) {
    let rules = || profiles.iter().flat_map(|profile| profile.rules.iter());
    if rules().count() > RULES_MAX {
        mistakes.note(root.line, format!("a policy has at most {RULES_MAX} rules"));
    } else if rules().map(Rule::pairs).sum::<usize>() > PAIRS_MAX {
        let message = format!(
            "the rules name more than {PAIRS_MAX} pairs of resource and namespace: use patterns"
        );
        mistakes.note(root.line, message);
    }
}

fn read_profile(node: &Node, named: &mut Named, mistakes: &mut Mistakes) -> Option<Profile> {
    let entries = mistakes.map(node, "a profile", &PROFILE_KEYS)?;
    let name = entries.require("name", mistakes);
    let name = name.and_then(|name| mistakes.text(name, "name"));
    let subjects = entries.require("subjects", mistakes);
    let subjects = subjects.and_then(|subjects| read_subjects(subjects, mistakes));
    let act_as = entries
        .get("actAs")
        .and_then(|node| read_act_as(node, mistakes));
    let rules = entries.require("rules", mistakes)?;
    let rules = mistakes
        .list(rules, "rules")
        .iter()
        .enumerate()
        .filter_map(|(i, rule)| read_rule(rule, i + 1, named, mistakes))
        .collect();
    Some(Profile::new(name?.to_owned(), subjects?, act_as, rules))
}

fn read_subjects(node: &Node, mistakes: &mut Mistakes) -> Option<Subjects> {
    let entries = mistakes.map(node, "subjects", &SUBJECT_KEYS)?;
    let mut subjects = Subjects::default();
    for (text, line) in entries.texts("users", mistakes).unwrap_or_default() {
        subjects.users.extend(read_pattern(text, line, mistakes));
    }
    for (text, line) in entries.texts("groups", mistakes).unwrap_or_default() {
        subjects.groups.extend(read_pattern(text, line, mistakes));
    }
    let accounts = entries.texts("serviceAccounts", mistakes);
    for (text, line) in accounts.unwrap_or_default() {
        subjects.users.extend(service_account(text, line, mistakes));
    }
    for (text, line) in entries.texts("actors", mistakes).unwrap_or_default() {
        subjects.actors.extend(read_pattern(text, line, mistakes));
    }
    for (text, line) in entries.texts("clients", mistakes).unwrap_or_default() {
        subjects.clients.extend(read_pattern(text, line, mistakes));
    }
    let nobody = subjects.is_for_everybody();
    if nobody && subjects.actors.is_empty() && subjects.clients.is_empty() {
        mistakes.note(
            node.line,
            "subjects must name a user, a group, a service account, an actor or a client",
        );
    }
    Some(subjects)
}

fn read_act_as(node: &Node, mistakes: &mut Mistakes) -> Option<Arc<str>> {
    let entries = mistakes.map(node, "actAs", &ACT_AS_KEYS)?;
    let account = entries.require("serviceAccount", mistakes)?;
    let text = mistakes.text(account, "serviceAccount")?;
    match service_account(text, account.line, mistakes)? {
        TextPattern::Exact(name) => Some(name.into()),
        _ => {
            let message = "people act as one service account: write NAMESPACE:NAME without a star";
            mistakes.note(account.line, message);
            None
        }
    }
}

/// `NAMESPACE:NAME` as the user name of a service account; a star may stand at the end of the name.
fn service_account(text: &str, line: u64, mistakes: &mut Mistakes) -> Option<TextPattern> {
    match text.split_once(':') {
        Some((namespace, name))
            if !namespace.is_empty()
                && !name.is_empty()
                && !namespace.contains('*')
                && !name.contains(':') =>
        {
            read_pattern(&format!("{SERVICE_ACCOUNT}{text}"), line, mistakes)
        }
        _ => {
            mistakes.note(
                line,
                format!("\"{text}\" is no service account: write NAMESPACE:NAME"),
            );
            None
        }
    }
}

fn read_pattern(text: &str, line: u64, mistakes: &mut Mistakes) -> Option<TextPattern> {
    let pattern = TextPattern::parse(text);
    if pattern.is_none() {
        mistakes.note(
            line,
            format!("\"{text}\": a star may only stand at the end"),
        );
    }
    pattern
}
