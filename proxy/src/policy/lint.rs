//! What a policy allows but perhaps was not meant to.
//!
//! Each lint has a code, and a rule that is meant as it stands says so: `accept: [CODE]`.

use std::collections::HashSet;

use hoop_schema::kinds::request::Effect;

use super::Policy;
use super::profile::Profile;
use super::rule::{EXEC, ResourcePattern, Rule, Scope, TextPattern};
use super::webhook::FailurePolicy;
use crate::mask::MaskMode;

/// Profiles with more rules than this are not searched for unreachable ones, since the search is quadratic.
const LINTED_RULES_MAX: usize = 2_000;

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// Line of the rule, counted from 1.
    pub line: u64,
    /// Which finding.
    pub code: LintCode,
    /// What is found, and what to do.
    pub message: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// The findings there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum LintCode {
            $($(#[$doc])* $code,)*
        }

        impl LintCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// As written in `accept`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)*
                }
            }
        }
    };
}

codes! {
    /// An earlier rule of the profile matches all of it.
    Unreachable = "unreachable",
    /// Wildcards include exec, attach and port-forward.
    IncludesExec = "includes-exec",
    /// Wildcards include changes of roles and bindings (`escalate`, `bind`).
    IncludesRbac = "includes-rbac",
    /// Wildcards include impersonation by rights of the cluster: nothing here, and not what some expect.
    ExcludesImpersonate = "excludes-impersonate",
    /// `nodes/proxy` reaches the kubelet.
    NodesProxy = "nodes-proxy",
    /// `pods/proxy` and `services/proxy` are neither masked nor recorded.
    Proxy = "proxy",
    /// Tokens of service accounts pass by the gateway.
    MintsTokens = "mints-tokens",
    /// Secrets are shown.
    ReadableSecrets = "readable-secrets",
    /// `get` alone does not open a shell here, though it may in the cluster.
    GetIsNotExec = "get-is-not-exec",
    /// `update` and `patch` can create.
    UpdateCreates = "update-creates",
    /// What passes through forwarded ports is masked in the record, and not for the client.
    StreamsShow = "streams-show",
    /// A masking rule that no rule names.
    UnusedMasking = "unused-masking",
    /// When its webhook fails, the request may go through all the same.
    WebhookFailsOpen = "webhook-fails-open",
    /// A webhook that no rule asks.
    UnusedWebhook = "unused-webhook",
}

/// A request that is more than it looks.
struct Probe {
    code: LintCode,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    /// Whether it counts when the rule names the resource itself.
    even_named: bool,
    message: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch"];

const CHANGES_RBAC: &str = "includes changes of roles and bindings (what RBAC calls escalate and bind), by which people can \
                            give themselves more; name the resources, or deny the group rbac.authorization.k8s.io in a \
                            rule before it";

const PROBES: [Probe; 9] = [
    Probe {
        code: LintCode::NodesProxy,
        group: "",
        resource: "nodes/proxy",
        verbs: &["get", "create"],
        even_named: true,
        message: "allows nodes/proxy, which reaches the kubelet with the API server's rights: even get runs commands in \
                  any pod, unmasked and unrecorded; deny nodes/proxy in a rule before it",
    },
    Probe {
        code: LintCode::MintsTokens,
        group: "",
        resource: "serviceaccounts/token",
        verbs: &["create"],
        even_named: true,
        message: "allows serviceaccounts/token: such a token works directly at the cluster, past this gateway; deny it in \
                  a rule before",
    },
    Probe {
        code: LintCode::Proxy,
        group: "",
        resource: "pods/proxy",
        verbs: &["get", "create"],
        even_named: false,
        message: "includes pods/proxy, where nothing is masked and no body is recorded; name the resources, or deny \
                  \"*/proxy\" in a rule before it",
    },
    Probe {
        code: LintCode::Proxy,
        group: "",
        resource: "services/proxy",
        verbs: &["get", "create"],
        even_named: false,
        message: "includes services/proxy, where nothing is masked and no body is recorded; name the resources, or deny \
                  \"*/proxy\" in a rule before it",
    },
    Probe {
        code: LintCode::IncludesExec,
        group: "",
        resource: "pods/exec",
        verbs: &[EXEC],
        even_named: false,
        message: "includes exec, attach and port-forward (GET over WebSocket as well as POST); name the resources and \
                  verbs, or deny pods/exec, pods/attach and pods/portforward in a rule before it",
    },
    Probe {
        code: LintCode::IncludesRbac,
        group: "rbac.authorization.k8s.io",
        resource: "clusterrolebindings",
        verbs: WRITE,
        even_named: false,
        message: CHANGES_RBAC,
    },
    Probe {
        code: LintCode::IncludesRbac,
        group: "rbac.authorization.k8s.io",
        resource: "rolebindings",
        verbs: WRITE,
        even_named: false,
        message: CHANGES_RBAC,
    },
    Probe {
        code: LintCode::IncludesRbac,
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests/approval",
        verbs: WRITE,
        even_named: false,
        message: "includes the approval of certificates, by which people can become anybody; name the resources, or deny \
                  certificatesigningrequests/approval in a rule before it",
    },
    Probe {
        code: LintCode::ReadableSecrets,
        group: "",
        resource: "secrets",
        verbs: READ,
        even_named: true,
        message: "shows secrets as they are (mask: none); leave mask out, or use hmac to tell equal values",
    },
];

impl Policy {
    /// What it allows but perhaps was not meant to, by line.
    pub fn lints(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        for profile in &self.profiles {
            unreachable(profile, &mut lints);
            for (number, rule) in profile.rules.iter().enumerate() {
                webhook(rule, &profile.rules[number + 1..], &mut lints);
                if rule.effect != Effect::Deny {
                    let earlier = &profile.rules[..number];
                    probe(rule, earlier, &mut lints);
                    verbs(rule, profile, &mut lints);
                    streams(rule, &mut lints);
                }
            }
        }
        self.unused_masking(&mut lints);
        self.unused_webhooks(&mut lints);
        lints.sort_by_key(|lint| lint.line);
        lints
    }

    fn unused_webhooks(&self, lints: &mut Vec<Lint>) {
        let rules = self.profiles.iter().flat_map(|profile| &profile.rules);
        for webhook in &self.webhooks {
            let asks = |rule: &Rule| {
                let asked = rule.webhook.as_ref();
                asked.is_some_and(|asked| asked.name == webhook.name)
            };
            if !rules.clone().any(asks) {
                lints.push(Lint {
                    line: webhook.line,
                    code: LintCode::UnusedWebhook,
                    message: format!(
                        "webhook \"{}\" is never asked: name it in \"webhook\" of a rule, or remove it",
                        webhook.name
                    ),
                });
            }
        }
    }

    fn unused_masking(&self, lints: &mut Vec<Lint>) {
        let rules = self.profiles.iter().flat_map(|profile| &profile.rules);
        let named: HashSet<&str> = rules
            .filter_map(|rule| rule.masking.as_deref())
            .flat_map(|masking| masking.names())
            .map(String::as_str)
            .collect();
        for (rule, line) in &self.masking {
            if !named.contains(rule.name.as_str()) {
                lints.push(Lint {
                    line: *line,
                    code: LintCode::UnusedMasking,
                    message: format!(
                        "masking rule \"{}\" masks nothing: name it in \"masking\" of a rule, or remove it",
                        rule.name
                    ),
                });
            }
        }
    }
}

/// A webhook whose failure lets the request go on to where it is allowed.
fn webhook(rule: &Rule, later: &[Rule], lints: &mut Vec<Lint>) {
    let Some(webhook) = &rule.webhook else { return };
    if webhook.failure_policy == FailurePolicy::Deny {
        return;
    }
    let name = &webhook.name;
    let message = if rule.effect == Effect::Deny {
        format!(
            "rule \"{}\" refuses nothing while webhook \"{name}\" does not answer (failurePolicy: NoOpinion); leave the \
             failure policy out to refuse then",
            rule.name
        )
    } else {
        let allows = later
            .iter()
            .find(|other| other.effect == Effect::Allow && other.covers(rule));
        let Some(other) = allows else { return };
        format!(
            "while webhook \"{name}\" does not answer (failurePolicy: NoOpinion), rule \"{}\" in line {} allows what \
             rule \"{}\" asks it about; leave the failure policy out to refuse then",
            other.name, other.line, rule.name
        )
    };
    note(rule, LintCode::WebhookFailsOpen, message, lints);
}

/// Masking rules that look into texts, on a rule that forwards ports.
fn streams(rule: &Rule, lints: &mut Vec<Lint>) {
    let masks_texts = rule
        .masking
        .as_deref()
        .and_then(|masking| masking.client())
        .is_some_and(|client| client.text().is_some());
    let probe = Probe {
        code: LintCode::StreamsShow,
        group: "",
        resource: "pods/portforward",
        verbs: &[EXEC],
        even_named: true,
        message: "",
    };
    if masks_texts && touches(rule, &probe, EXEC) {
        let message = format!(
            "rule \"{}\" forwards ports, whose bytes pass as they are: what its masking rules find there is masked in \
             the record only",
            rule.name
        );
        note(rule, LintCode::StreamsShow, message, lints);
    }
}

/// Notes a finding, unless it is meant.
fn note(rule: &Rule, code: LintCode, message: String, lints: &mut Vec<Lint>) {
    let known = lints
        .iter()
        .any(|lint| lint.line == rule.line && lint.code == code);
    if !rule.accepts.contains(&code) && !known {
        lints.push(Lint {
            line: rule.line,
            code,
            message,
        });
    }
}

fn unreachable(profile: &Profile, lints: &mut Vec<Lint>) {
    if profile.rules.len() > LINTED_RULES_MAX {
        return;
    }
    for (number, rule) in profile.rules.iter().enumerate() {
        let earlier = profile.rules[..number]
            .iter()
            .find(|other| other.covers(rule));
        if let Some(other) = earlier {
            let message = format!(
                "rule \"{}\" of profile \"{}\" never decides: \"{}\" in line {} matches all of it first; remove it, or \
                 move it up",
                rule.name, profile.name, other.name, other.line
            );
            note(rule, LintCode::Unreachable, message, lints);
        }
    }
}

fn probe(rule: &Rule, earlier: &[Rule], lints: &mut Vec<Lint>) {
    for probe in &PROBES {
        if probe.code == LintCode::ReadableSecrets && rule.mask != MaskMode::None {
            continue;
        }
        let Some(verb) = probe.verbs.iter().find(|verb| touches(rule, probe, verb)) else {
            continue;
        };
        let named = names(rule, probe.resource);
        let denied = earlier.iter().any(|other| {
            other.effect == Effect::Deny
                && other.is_plain()
                && touches(other, probe, verb)
                && narrows_less(other, rule)
        });
        if denied || (named && !probe.even_named) {
            continue;
        }
        let message = format!("rule \"{}\" {}", rule.name, probe.message);
        note(rule, probe.code, message, lints);
    }
}

fn verbs(rule: &Rule, profile: &Profile, lints: &mut Vec<Lint>) {
    let Scope::Resources {
        groups, resources, ..
    } = &rule.scope
    else {
        return;
    };
    let has = |rule: &Rule, verb: &str| rule.verbs.iter().any(|own| own == verb || own == "*");
    let only_reads = has(rule, "get") && !has(rule, EXEC);
    if only_reads && resources.contains(&ResourcePattern::Subresources("pods".to_owned())) {
        let message = format!(
            "rule \"{}\" has pods/* without the verb \"exec\": get opens no shell here, whatever RBAC makes of get on \
             pods/exec over WebSocket; name the subresources that are meant, such as pods/log",
            rule.name
        );
        note(rule, LintCode::GetIsNotExec, message, lints);
    }
    let wildcard = rule.verbs.iter().any(|verb| verb == "*")
        && resources.contains(&ResourcePattern::Any)
        && groups.iter().any(|group| group == "*");
    let may_act = profile
        .rules
        .iter()
        .any(|other| matches!(other.scope, Scope::Impersonation(_)));
    if wildcard && !may_act {
        let message = format!(
            "rule \"{}\" allows every verb, but \"*\" does not include impersonate here: add a rule with \
             \"impersonate\" that lists whom people may act as, if they should",
            rule.name
        );
        note(rule, LintCode::ExcludesImpersonate, message, lints);
    }
    let writes = (has(rule, "update") || has(rule, "patch")) && !has(rule, "create");
    let whole = resources
        .iter()
        .find(|pattern| matches!(pattern, ResourcePattern::Exact(text) if !text.contains('/')));
    if let (true, Some(resource)) = (writes, whole) {
        let creates = profile.rules.iter().any(|other| {
            has(other, "create")
                && matches!(&other.scope, Scope::Resources { resources, .. }
                    if resources.iter().any(|own| own.covers(resource)))
        });
        if !creates {
            let message = format!(
                "rule \"{}\" allows update or patch of {} but no rule speaks of create: both create what is not there \
                 (PUT, server-side apply); add create, or deny it in a rule of its own",
                rule.name,
                resource.text()
            );
            note(rule, LintCode::UpdateCreates, message, lints);
        }
    }
}

/// Whether a rule matches a probe somewhere.
fn touches(rule: &Rule, probe: &Probe, verb: &str) -> bool {
    let Scope::Resources {
        groups, resources, ..
    } = &rule.scope
    else {
        return false;
    };
    let probed = ResourcePattern::Exact(probe.resource.to_owned());
    rule.verbs.iter().any(|own| own == verb || own == "*")
        && groups
            .iter()
            .any(|group| group == "*" || group == probe.group)
        && resources.iter().any(|pattern| pattern.covers(&probed))
}

/// Whether a rule names a resource itself.
fn names(rule: &Rule, resource: &str) -> bool {
    matches!(&rule.scope, Scope::Resources { resources, .. }
        if resources.contains(&ResourcePattern::Exact(resource.to_owned())))
}

/// Whether `deny` holds wherever `rule` does: for all its namespaces and names.
fn narrows_less(deny: &Rule, rule: &Rule) -> bool {
    let (
        Scope::Resources {
            namespaces, names, ..
        },
        Scope::Resources {
            namespaces: others, ..
        },
    ) = (&deny.scope, &rule.scope)
    else {
        return false;
    };
    let covered = |other: &TextPattern| namespaces.iter().any(|own| own.covers(other));
    names.is_empty() && others.iter().all(covered)
}
