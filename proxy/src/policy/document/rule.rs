//! A rule of the file.

use hoop_schema::Class;
use hoop_schema::kinds::request::{Durability, Effect, Level};

use crate::mask::MaskMode;
use crate::policy::condition::Condition;
use crate::policy::impersonation::{SERVICE_ACCOUNT, Targets, is_reserved};
use crate::policy::lint::LintCode;
use crate::policy::rule::{EXEC, EXEC_SUBRESOURCES, ResourcePattern, Rule, Scope, TextPattern};
use crate::yaml::{Entries, Mistakes, Node, Value, suggestion};

use super::masking::{MODES, read_views};
use super::{Named, read_pattern, service_account};

/// The most conditions of a rule: each costs some microseconds.
const CONDITIONS_MAX: usize = 16;

const RULE_KEYS: [&str; 19] = [
    "name",
    "effect",
    "apiGroups",
    "resources",
    "verbs",
    "namespaces",
    "resourceNames",
    "nonResourceURLs",
    "impersonate",
    "when",
    "webhook",
    "mask",
    "masking",
    "record",
    "durability",
    "class",
    "bodyClass",
    "accept",
    "message",
];

/// Keys that say what a request is for.
const SCOPE_KEYS: [&str; 6] = [
    "apiGroups",
    "resources",
    "verbs",
    "namespaces",
    "resourceNames",
    "nonResourceURLs",
];

const TARGET_KEYS: [&str; 5] = ["users", "groups", "uids", "extra", "serviceAccounts"];

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

pub(super) fn read_rule(
    node: &Node,
    number: usize,
    named: &mut Named,
    mistakes: &mut Mistakes,
) -> Option<Rule> {
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
    let scope = match entries.get("impersonate") {
        Some(targets) => read_impersonation(targets, &entries, mistakes),
        None => read_scope(node, &entries, mistakes),
    };
    let when = read_conditions(&entries, scope.as_ref(), mistakes);
    if let (Some(webhook), Some(Scope::Impersonation(_))) = (entries.get("webhook"), &scope) {
        let message = "who somebody acts as is decided without webhooks: leave it out";
        mistakes.note(webhook.line, message);
    }
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
    let (mask, record_mask) = read_mask(&entries, mistakes);
    let rule = Rule {
        name: text("name", mistakes).unwrap_or_else(|| format!("rule {number}")),
        line: node.line,
        effect: effect.unwrap_or(Effect::Deny),
        verbs: Vec::new(),
        scope: Scope::Paths(Vec::new()),
        when,
        webhook: named.webhooks.named(&entries, mistakes),
        mask,
        record_mask,
        masking: named.masking.named(&entries, mistakes),
        level: choose(&entries, "record", &levels, mistakes),
        durability: choose(&entries, "durability", &durabilities, mistakes),
        class: read_class(&entries, "class", mistakes).unwrap_or_else(Class::standard),
        body_class: read_class(&entries, "bodyClass", mistakes),
        accepts: read_accepted(&entries, mistakes),
        message: text("message", mistakes).unwrap_or_default(),
    };
    let scope = scope?;
    let verbs = match scope {
        Scope::Impersonation(_) => Vec::new(),
        _ => read_verbs(&entries, &scope, mistakes)?,
    };
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

/// `mask`: one word for the client, or one each for client and record.
fn read_mask(entries: &Entries<'_>, mistakes: &mut Mistakes) -> (MaskMode, MaskMode) {
    let Some(node) = entries.get("mask") else {
        return (MaskMode::default(), MaskMode::default());
    };
    if let Value::Map(_) = &node.value {
        let views = mistakes.map(node, "mask", &["client", "record"]);
        return views.map_or_else(Default::default, |views| read_views(&views, mistakes));
    }
    let client = mistakes.choice(node, "mask", &MODES).unwrap_or_default();
    (client, client.for_record())
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
    let names = names
        .into_iter()
        .filter_map(|(text, line)| read_pattern(text, line, mistakes))
        .collect();
    Some(Scope::Resources {
        groups: groups?
            .into_iter()
            .map(|(text, _)| text.to_owned())
            .collect(),
        resources: patterns,
        namespaces: namespaces.unwrap_or_else(|| vec![TextPattern::Any]),
        names,
    })
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
        Scope::Paths(_) | Scope::Impersonation(_) => &PATH_VERBS,
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

/// `accept`: the lints that are meant.
fn read_accepted(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<LintCode> {
    let mut accepted = Vec::new();
    for (text, line) in entries.texts("accept", mistakes).unwrap_or_default() {
        match LintCode::ALL.iter().find(|code| code.as_str() == text) {
            Some(code) => accepted.push(*code),
            None => {
                let meant = suggestion(text, LintCode::ALL.iter().map(|code| code.as_str()));
                mistakes.note(line, format!("nothing warns of \"{text}\": {meant}"));
            }
        }
    }
    accepted
}

/// `when`: one condition, or a list of which all must hold.
fn read_conditions(
    entries: &Entries<'_>,
    scope: Option<&Scope>,
    mistakes: &mut Mistakes,
) -> Vec<Condition> {
    let Some(node) = entries.get("when") else {
        return Vec::new();
    };
    let texts: Vec<(&str, u64)> = match &node.value {
        Value::Scalar(text) => vec![(text, node.line)],
        _ => entries.texts("when", mistakes).unwrap_or_default(),
    };
    if texts.len() > CONDITIONS_MAX {
        let message = format!("a rule has at most {CONDITIONS_MAX} conditions: make it two rules");
        mistakes.note(node.line, message);
    }
    let mut conditions = Vec::new();
    for (text, line) in texts {
        match Condition::parse(text) {
            Ok(condition)
                if condition.uses_object() && matches!(scope, Some(Scope::Impersonation(_))) =>
            {
                mistakes.note(
                    line,
                    "who somebody acts as is decided before the body is read: leave object, podSpecs and containers out",
                );
            }
            Ok(condition) => conditions.push(condition),
            Err(message) => mistakes.note(line, format!("\"when\": {message}")),
        }
    }
    conditions
}

/// `impersonate`: whom people may act as.
fn read_impersonation(node: &Node, rule: &Entries<'_>, mistakes: &mut Mistakes) -> Option<Scope> {
    for key in SCOPE_KEYS {
        if let Some(stray) = rule.get(key) {
            let message = format!(
                "\"{key}\" means nothing beside \"impersonate\": what they may do is for other rules"
            );
            mistakes.note(stray.line, message);
        }
    }
    let entries = mistakes.map(node, "impersonate", &TARGET_KEYS)?;
    let mut targets = Targets {
        users: read_names(&entries, "users", mistakes),
        groups: read_names(&entries, "groups", mistakes),
        ..Targets::default()
    };
    for (text, line) in entries.texts("uids", mistakes).unwrap_or_default() {
        targets.uids.extend(read_pattern(text, line, mistakes));
    }
    for (text, line) in entries.texts("extra", mistakes).unwrap_or_default() {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && key == key.to_lowercase() => {
                let value = read_pattern(value, line, mistakes);
                targets
                    .extra
                    .extend(value.map(|value| (key.to_owned(), value)));
            }
            _ => mistakes.note(
                line,
                format!("\"{text}\" is no extra: write KEY=VALUE, the key in lower case"),
            ),
        }
    }
    for (text, line) in entries
        .texts("serviceAccounts", mistakes)
        .unwrap_or_default()
    {
        targets
            .service_accounts
            .extend(service_account(text, line, mistakes));
    }
    if targets.users.is_empty() && targets.service_accounts.is_empty() {
        mistakes.note(
            node.line,
            "impersonate must name users or service accounts: groups, uids and extra only go with one",
        );
    }
    Some(Scope::Impersonation(targets))
}

/// Users or groups that people may act as.
fn read_names(entries: &Entries<'_>, key: &str, mistakes: &mut Mistakes) -> Vec<TextPattern> {
    let mut names = Vec::new();
    for (text, line) in entries.texts(key, mistakes).unwrap_or_default() {
        if text.starts_with(SERVICE_ACCOUNT) {
            let message = "name service accounts in \"serviceAccounts\", as NAMESPACE:NAME";
            mistakes.note(line, message);
        } else if is_reserved(text) {
            mistakes.note(
                line,
                format!("\"{text}\" is never asserted: system: names belong to the cluster"),
            );
        } else if text == "*" {
            mistakes.note(
                line,
                format!(
                    "\"{key}\": list whom people may act as, or give a prefix such as \"test-*\""
                ),
            );
        } else {
            names.extend(read_pattern(text, line, mistakes));
        }
    }
    names
}
