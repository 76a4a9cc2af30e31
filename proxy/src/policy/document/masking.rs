//! The masking rules of the file.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mask::{
    DETECTORS, Detector, FieldPath, Fields, LooksFor, MaskMode, Masking, MaskingRule, Pattern,
};
use crate::yaml::{Entries, Mistakes, Node, suggestion};

/// The most masking rules of a policy: each pattern is an automaton in memory.
const RULES_MAX: usize = 200;

/// The most paths, and the most patterns, of one masking rule.
const ENTRIES_MAX: usize = 200;

const RULE_KEYS: [&str; 6] = ["name", "fields", "detect", "patterns", "client", "record"];
const FIELD_KEYS: [&str; 2] = ["kind", "paths"];

/// How values are shown, as policies say it.
pub(in crate::policy) const MODES: [(&str, MaskMode); 4] = [
    ("redact", MaskMode::Redact),
    ("hmac", MaskMode::Hmac),
    ("partial", MaskMode::Partial),
    ("none", MaskMode::None),
];

/// The masking rules of a policy, and those that rules of profiles put together.
#[derive(Debug, Default)]
pub(super) struct MaskingRules {
    rules: Vec<(Arc<MaskingRule>, u64)>,
    together: HashMap<Vec<String>, Arc<Masking>>,
}

impl MaskingRules {
    /// Reads `masking` of a policy.
    pub(super) fn read(node: &Node, mistakes: &mut Mistakes) -> Self {
        let mut rules: Vec<(Arc<MaskingRule>, u64)> = Vec::new();
        let items = mistakes.list(node, "masking");
        if items.len() > RULES_MAX {
            let message = format!("a policy has at most {RULES_MAX} masking rules");
            mistakes.note(node.line, message);
        }
        for item in items.iter().take(RULES_MAX) {
            let Some(rule) = read_masking_rule(item, mistakes) else {
                continue;
            };
            if rules.iter().any(|(other, _)| other.name == rule.name) {
                let message = format!("the masking rule \"{}\" is there twice", rule.name);
                mistakes.note(item.line, message);
            }
            rules.push((Arc::new(rule), item.line));
        }
        Self {
            rules,
            together: HashMap::new(),
        }
    }

    /// `masking` of a rule: the names of masking rules.
    pub(super) fn named(
        &mut self,
        entries: &Entries<'_>,
        mistakes: &mut Mistakes,
    ) -> Option<Arc<Masking>> {
        let names = entries.texts("masking", mistakes)?;
        let line = entries.get("masking")?.line;
        let mut chosen = Vec::new();
        for (name, line) in &names {
            let known = self.rules.iter().find(|(rule, _)| rule.name == *name);
            match known {
                Some((rule, _)) => chosen.push(Arc::clone(rule)),
                None if self.rules.is_empty() => {
                    let message =
                        format!("no masking rule is called \"{name}\": the policy has none");
                    mistakes.note(*line, message);
                }
                None => {
                    let known = self.rules.iter().map(|(rule, _)| rule.name.as_str());
                    let meant = suggestion(name, known);
                    mistakes.note(
                        *line,
                        format!("no masking rule is called \"{name}\": {meant}"),
                    );
                }
            }
        }
        if chosen.is_empty() {
            return None;
        }
        let key: Vec<String> = chosen.iter().map(|rule| rule.name.clone()).collect();
        if let Some(known) = self.together.get(&key) {
            return Some(Arc::clone(known));
        }
        match Masking::new(&chosen) {
            Ok(masking) => {
                let masking = Arc::new(masking);
                self.together.insert(key, Arc::clone(&masking));
                Some(masking)
            }
            Err(why) => {
                mistakes.note(line, format!("\"masking\": {why}"));
                None
            }
        }
    }

    /// All of them, each with its line.
    pub(super) fn into_rules(self) -> Vec<(Arc<MaskingRule>, u64)> {
        self.rules
    }
}

fn read_masking_rule(node: &Node, mistakes: &mut Mistakes) -> Option<MaskingRule> {
    let entries = mistakes.map(node, "a masking rule", &RULE_KEYS)?;
    let name = entries.require("name", mistakes);
    let name = name.and_then(|name| mistakes.text(name, "name"));
    let mut fields = Vec::new();
    if let Some(node) = entries.get("fields") {
        for item in mistakes.list(node, "fields") {
            read_fields(item, &mut fields, mistakes);
        }
    }
    let mut looks_for = read_detectors(&entries, mistakes);
    looks_for.extend(read_patterns(&entries, mistakes));
    if fields.is_empty() && looks_for.is_empty() {
        mistakes.note(
            node.line,
            "a masking rule needs \"fields\", \"detect\" or \"patterns\"",
        );
    }
    if fields.len() > ENTRIES_MAX || looks_for.len() > ENTRIES_MAX {
        let message = format!("a masking rule has at most {ENTRIES_MAX} paths and patterns");
        mistakes.note(node.line, message);
    }
    let (client, record) = read_views(&entries, mistakes);
    Some(MaskingRule {
        name: name?.to_owned(),
        fields,
        looks_for,
        client,
        record,
    })
}

/// `client` and `record`: how values are shown to each. The record is never weaker.
pub(super) fn read_views(entries: &Entries<'_>, mistakes: &mut Mistakes) -> (MaskMode, MaskMode) {
    let mode = |key: &str, mistakes: &mut Mistakes| {
        let node = entries.get(key)?;
        mistakes.choice(node, key, &MODES)
    };
    let client = mode("client", mistakes).unwrap_or_default();
    let record = mode("record", mistakes).unwrap_or_else(|| client.for_record());
    let line = entries.get("record").map_or(0, |node| node.line);
    if record == MaskMode::None {
        let message =
            "\"record\" cannot be \"none\": what is masked anywhere is masked in the record";
        mistakes.note(line, message);
    } else if record == MaskMode::Partial && client.strength() > record.strength() {
        let message = "\"record\" cannot show more than \"client\": the record is never weaker";
        mistakes.note(line, message);
    }
    (client, record)
}

fn read_fields(node: &Node, fields: &mut Vec<Fields>, mistakes: &mut Mistakes) {
    let Some(entries) = mistakes.map(node, "an entry of fields", &FIELD_KEYS) else {
        return;
    };
    let kind = entries.get("kind").and_then(|node| {
        let kind = mistakes.text(node, "kind")?;
        let is_kind = kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.chars().all(|c| c.is_ascii_alphanumeric());
        if kind != "*" && !is_kind {
            let message =
                format!("\"{kind}\" is no kind: write it as objects do, such as ConfigMap");
            mistakes.note(node.line, message);
        }
        (kind != "*").then(|| kind.to_owned())
    });
    if entries.require("paths", mistakes).is_none() {
        return;
    }
    for (text, line) in entries.texts("paths", mistakes).unwrap_or_default() {
        match FieldPath::parse(text) {
            Ok(path) => fields.push(Fields {
                kind: kind.clone(),
                path,
            }),
            Err(why) => mistakes.note(line, format!("\"{text}\" is no path: {why}")),
        }
    }
}

fn read_detectors(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<LooksFor> {
    let mut found = Vec::new();
    for (text, line) in entries.texts("detect", mistakes).unwrap_or_default() {
        if text == "*" {
            found.extend(DETECTORS.iter().map(LooksFor::Detector));
        } else if let Some(detector) = Detector::named(text) {
            found.push(LooksFor::Detector(detector));
        } else {
            let meant = suggestion(text, DETECTORS.iter().map(Detector::name));
            mistakes.note(line, format!("no detector is called \"{text}\": {meant}"));
        }
    }
    found
}

fn read_patterns(entries: &Entries<'_>, mistakes: &mut Mistakes) -> Vec<LooksFor> {
    let mut found = Vec::new();
    for (text, line) in entries.texts("patterns", mistakes).unwrap_or_default() {
        match Pattern::parse(text) {
            Ok(pattern) => found.push(LooksFor::Pattern(Arc::new(pattern))),
            Err(why) => mistakes.note(
                line,
                format!("the pattern \"{text}\" cannot be used: {why}"),
            ),
        }
    }
    found
}
