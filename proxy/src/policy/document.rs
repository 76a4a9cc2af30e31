//! The file of a policy, read and checked.
//!
//! ```yaml
//! profiles:
//!   - name: developers                # names the profile in decisions
//!     subjects:                       # whoever is one of these has the profile
//!       users: [alice]
//!       groups: [developers]
//!       serviceAccounts: ["ci:deployer"]   # NAMESPACE:NAME
//!     rules:                          # the first that matches decides
//!       - name: read-workloads        # names the rule in decisions
//!         effect: allow               # allow | deny | approve
//!         apiGroups: ["", apps]       # or "*"
//!         resources: [pods, pods/log] # RESOURCE, RESOURCE/SUB, RESOURCE/*, */SUB, *
//!         verbs: [get, list, watch]   # or "*"; exec stands for exec, attach and port-forward
//!         namespaces: [shop, "team-*"]   # default: everywhere; "" is the cluster scope and all namespaces at once
//!         resourceNames: []           # default: every name
//!         mask: redact                # redact | hmac | none; what the client sees of secret values
//!         record: RequestResponse     # Metadata | Request | RequestResponse
//!         durability: log             # log | spool | best_effort
//!         class: standard             # retention class of the events
//!         bodyClass: short            # retention class of the bodies; default: as the events
//!         message: ask the platform team   # added to the answer of a refusal
//!       - nonResourceURLs: [/metrics, /debug/*]   # instead of apiGroups and resources
//!         verbs: [get]
//!         effect: allow
//! ```

use hoop_schema::Class;
use hoop_schema::kinds::request::{Durability, Effect, Level};

use super::PolicyErrors;
use super::profile::{Profile, Subjects};
use super::rule::{EXEC, EXEC_SUBRESOURCES, ResourcePattern, Rule, Scope, TextPattern};
use super::yaml::{self, Entries, Mistakes, Node, suggestion};
use crate::mask::MaskMode;

/// The most rules one policy may have: keeps loading and the index within a few MiB.
pub(super) const RULES_MAX: usize = 50_000;

/// The most pairs of resource and namespace that the rules of one policy may name, for the same reason.
pub(super) const PAIRS_MAX: usize = 500_000;

const PROFILE_KEYS: [&str; 3] = ["name", "subjects", "rules"];
const SUBJECT_KEYS: [&str; 3] = ["users", "groups", "serviceAccounts"];
const RULE_KEYS: [&str; 14] = [
    "name",
    "effect",
    "apiGroups",
    "resources",
    "verbs",
    "namespaces",
    "resourceNames",
    "nonResourceURLs",
    "mask",
    "record",
    "durability",
    "class",
    "bodyClass",
    "message",
];

/// Every verb that a request for a resource can have here.
const RESOURCE_VERBS: [&str; 10] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    EXEC,
    "*",
];

/// Every verb that a request for a bare path can have.
const PATH_VERBS: [&str; 8] = [
    "get", "head", "post", "put", "patch", "delete", "options", "*",
];

/// Reads the profiles of a policy.
pub(super) fn read(text: &str) -> Result<Vec<Profile>, PolicyErrors> {
    let root = yaml::read(text)?;
    let mut mistakes = Mistakes::default();
    let mut profiles: Vec<Profile> = Vec::new();
    if let Some(entries) = mistakes.map(&root, "a policy", &["profiles"])
        && let Some(node) = entries.require("profiles", &mut mistakes)
    {
        for item in mistakes.list(node, "profiles") {
            let Some(profile) = read_profile(item, &mut mistakes) else {
                continue;
            };
            if profiles.iter().any(|other| other.name == profile.name) {
                let message = format!("the profile \"{}\" is there twice", profile.name);
                mistakes.note(item.line, message);
            }
            profiles.push(profile);
        }
    }
    check_size(&root, &profiles, &mut mistakes);
    mistakes.into_result()?;
    Ok(profiles)
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

fn read_profile(node: &Node, mistakes: &mut Mistakes) -> Option<Profile> {
    let entries = mistakes.map(node, "a profile", &PROFILE_KEYS)?;
    let name = entries.require("name", mistakes);
    let name = name.and_then(|name| mistakes.text(name, "name"));
    let subjects = entries.require("subjects", mistakes);
    let subjects = subjects.and_then(|subjects| read_subjects(subjects, mistakes));
    let rules = entries.require("rules", mistakes)?;
    let rules = mistakes
        .list(rules, "rules")
        .iter()
        .enumerate()
        .filter_map(|(i, rule)| read_rule(rule, i + 1, mistakes))
        .collect();
    Some(Profile::new(name?.to_owned(), subjects?, rules))
}

fn read_subjects(node: &Node, mistakes: &mut Mistakes) -> Option<Subjects> {
    let entries = mistakes.map(node, "subjects", &SUBJECT_KEYS)?;
    let owned = |texts: Option<Vec<(&str, u64)>>| -> Vec<String> {
        texts
            .into_iter()
            .flatten()
            .map(|(text, _)| text.to_owned())
            .collect()
    };
    let mut users = owned(entries.texts("users", mistakes));
    let groups = owned(entries.texts("groups", mistakes));
    for (account, line) in entries
        .texts("serviceAccounts", mistakes)
        .unwrap_or_default()
    {
        match account.split_once(':') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains(':') =>
            {
                users.push(format!("system:serviceaccount:{namespace}:{name}"));
            }
            _ => mistakes.note(
                line,
                format!("\"{account}\" is no service account: write NAMESPACE:NAME"),
            ),
        }
    }
    if users.is_empty() && groups.is_empty() {
        mistakes.note(
            node.line,
            "subjects must name a user, a group or a service account",
        );
    }
    Some(Subjects { users, groups })
}

fn read_rule(node: &Node, number: usize, mistakes: &mut Mistakes) -> Option<Rule> {
    let entries = mistakes.map(node, "a rule", &RULE_KEYS)?;
    let text = |key: &str, mistakes: &mut Mistakes| {
        entries
            .get(key)
            .and_then(|node| mistakes.text(node, key))
            .map(str::to_owned)
    };
    let effect = entries.require("effect", mistakes).and_then(|node| {
        let effects = [
            ("allow", Effect::Allow),
            ("deny", Effect::Deny),
            ("approve", Effect::Hold),
        ];
        mistakes.choice(node, "effect", &effects)
    });
    let scope = read_scope(node, &entries, mistakes);
    let masks = [
        ("redact", MaskMode::Redact),
        ("hmac", MaskMode::Hmac),
        ("none", MaskMode::None),
    ];
    let levels = [
        ("Metadata", Level::Metadata),
        ("Request", Level::Request),
        ("RequestResponse", Level::RequestResponse),
    ];
    let durabilities = [
        ("log", Durability::Log),
        ("spool", Durability::Spool),
        ("best_effort", Durability::BestEffort),
    ];
    let rule = Rule {
        name: text("name", mistakes).unwrap_or_else(|| format!("rule {number}")),
        line: node.line,
        effect: effect.unwrap_or(Effect::Deny),
        verbs: Vec::new(),
        scope: Scope::Paths(Vec::new()),
        mask: choose(&entries, "mask", &masks, mistakes),
        level: choose(&entries, "record", &levels, mistakes),
        durability: choose(&entries, "durability", &durabilities, mistakes),
        class: read_class(&entries, "class", mistakes).unwrap_or_else(Class::standard),
        body_class: read_class(&entries, "bodyClass", mistakes),
        message: text("message", mistakes).unwrap_or_default(),
    };
    let scope = scope?;
    let verbs = read_verbs(&entries, &scope, mistakes)?;
    Some(Rule {
        verbs,
        scope,
        ..rule
    })
}

fn choose<T: Copy + Default>(
    entries: &Entries<'_>,
    key: &str,
    choices: &[(&str, T)],
    mistakes: &mut Mistakes,
) -> T {
    let node = entries.get(key);
    node.and_then(|node| mistakes.choice(node, key, choices))
        .unwrap_or_default()
}

fn read_class(entries: &Entries<'_>, key: &str, mistakes: &mut Mistakes) -> Option<Class> {
    let node = entries.get(key)?;
    let text = mistakes.text(node, key)?;
    Class::new(text)
        .map_err(|error| mistakes.note(node.line, format!("\"{key}\": {error}")))
        .ok()
}

fn read_scope(node: &Node, entries: &Entries<'_>, mistakes: &mut Mistakes) -> Option<Scope> {
    let paths = entries.texts("nonResourceURLs", mistakes);
    let resources = entries.texts("resources", mistakes);
    match (paths, resources) {
        (Some(paths), None) => {
            for key in ["apiGroups", "namespaces", "resourceNames"] {
                if let Some(stray) = entries.get(key) {
                    let message = format!("\"{key}\" means nothing beside \"nonResourceURLs\"");
                    mistakes.note(stray.line, message);
                }
            }
            for (path, line) in &paths {
                if !path.starts_with('/') && *path != "*" {
                    let message = format!("\"{path}\" is no path: it must begin with a slash");
                    mistakes.note(*line, message);
                }
            }
            let pattern = |(path, line)| read_pattern(path, line, mistakes);
            Some(Scope::Paths(
                paths.into_iter().filter_map(pattern).collect(),
            ))
        }
        (None, Some(resources)) => read_resources(node, entries, resources, mistakes),
        (Some(_), Some(_)) => {
            mistakes.note(
                node.line,
                "a rule has \"resources\" or \"nonResourceURLs\", not both: make it two rules",
            );
            None
        }
        (None, None) => {
            mistakes.note(
                node.line,
                "a rule needs \"resources\" or \"nonResourceURLs\"",
            );
            None
        }
    }
}

fn read_resources(
    node: &Node,
    entries: &Entries<'_>,
    resources: Vec<(&str, u64)>,
    mistakes: &mut Mistakes,
) -> Option<Scope> {
    let groups = entries.texts("apiGroups", mistakes);
    if entries.get("apiGroups").is_none() {
        mistakes.note(
            node.line,
            "a rule needs \"apiGroups\": [\"\"] is the core group",
        );
    }
    let mut patterns = Vec::new();
    for (text, line) in resources {
        match ResourcePattern::parse(text) {
            Some(pattern) => patterns.push(pattern),
            None => mistakes.note(
                line,
                format!(
                    "\"{text}\" is no resource: write RESOURCE, RESOURCE/SUB, RESOURCE/*, */SUB or *, in lower case"
                ),
            ),
        }
    }
    let namespaces = entries.texts("namespaces", mistakes).map(|texts| {
        let pattern = |(text, line)| read_pattern(text, line, mistakes);
        texts.into_iter().filter_map(pattern).collect::<Vec<_>>()
    });
    let names = entries.texts("resourceNames", mistakes).unwrap_or_default();
    Some(Scope::Resources {
        groups: groups?
            .into_iter()
            .map(|(text, _)| text.to_owned())
            .collect(),
        resources: patterns,
        namespaces: namespaces.unwrap_or_else(|| vec![TextPattern::Any]),
        names: names.into_iter().map(|(text, _)| text.to_owned()).collect(),
    })
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

fn read_verbs(
    entries: &Entries<'_>,
    scope: &Scope,
    mistakes: &mut Mistakes,
) -> Option<Vec<String>> {
    let node = entries.require("verbs", mistakes)?;
    let texts = entries.texts("verbs", mistakes)?;
    let known: &[&str] = match scope {
        Scope::Resources { .. } => &RESOURCE_VERBS,
        Scope::Paths(_) => &PATH_VERBS,
    };
    for (verb, line) in &texts {
        if !known.contains(verb) {
            let meant = suggestion(verb, known.iter().copied());
            mistakes.note(
                *line,
                format!("no request has the verb \"{verb}\" here: {meant}"),
            );
        }
    }
    let names_exec = matches!(scope, Scope::Resources { resources, .. } if resources.iter().any(|pattern| {
        pattern.subresource().is_some_and(|sub| EXEC_SUBRESOURCES.contains(&sub))
    }));
    if names_exec && !texts.iter().any(|(verb, _)| matches!(*verb, EXEC | "*")) {
        mistakes.note(
            node.line,
            "exec, attach and portforward are the verb \"exec\" here, whatever the HTTP method: add it to \"verbs\"",
        );
    }
    if texts.is_empty() {
        mistakes.note(node.line, "\"verbs\" is empty, so the rule never matches");
    }
    Some(texts.into_iter().map(|(verb, _)| verb.to_owned()).collect())
}
