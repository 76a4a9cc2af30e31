//! Answers to "may I?": a self subject review of the cluster, joined with what the policy says.
//!
//! Both have to allow. For one request that is a plain *and*. A list of rules is intersected; RBAC's words have no
//! exceptions and no conditions, so where the policy has such, the list says `incomplete`.

use std::collections::{BTreeMap, BTreeSet};

use hoop_schema::kinds::request::{Effect, ObjectRef, User};
use serde::{Deserialize, Serialize};

use super::rule::{EXEC, EXEC_SUBRESOURCES, ResourcePattern, Rule, Scope, TextPattern};
use super::{Policy, Through};
use crate::request_info::{Query, RequestInfo};

/// The most pairs of a rule of the policy and one of the cluster that are looked at: past that, the policy's own rules
/// are listed.
const PAIRS_MAX: usize = 20_000;

/// The most lines of an answer.
const LINES_MAX: usize = 5_000;

/// Paths that every policy allows.
const BUILT_IN_PATHS: [&str; 12] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/openapi",
    "/openapi/*",
    "/version",
    "/version/",
    "/healthz*",
    "/livez*",
    "/readyz*",
    "/",
];

/// The `status` of a SelfSubjectRulesReview, as far as it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReviewedRules {
    #[serde(deserialize_with = "list")]
    pub(crate) resource_rules: Vec<ResourceRule>,
    #[serde(deserialize_with = "list")]
    pub(crate) non_resource_rules: Vec<PathRule>,
    pub(crate) incomplete: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) evaluation_error: String,
}

/// One line of it about resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResourceRule {
    pub(crate) verbs: Vec<String>,
    pub(crate) api_groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
}

/// One line of it about paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PathRule {
    pub(crate) verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub(crate) paths: Vec<String>,
}

/// The API server writes null for an empty list.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    spec: QuestionSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuestionSpec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<PathAttributes>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

/// The request that a SelfSubjectAccessReview asks about; nothing when it cannot be read.
pub(crate) fn hypothetical(body: &[u8]) -> Option<RequestInfo> {
    let question: Question = serde_json::from_slice(body).ok()?;
    let spec = question.spec;
    let (verb, path, object) = match (spec.resource_attributes, spec.non_resource_attributes) {
        (Some(asked), None) => {
            let object = ObjectRef {
                api_group: asked.group,
                api_version: asked.version,
                resource: asked.resource,
                subresource: asked.subresource,
                namespace: asked.namespace,
                name: asked.name,
            };
            (asked.verb, String::new(), Some(object))
        }
        (None, Some(asked)) => (asked.verb, asked.path, None),
        _ => return None,
    };
    Some(RequestInfo {
        verb,
        is_resource: object.is_some(),
        path,
        object,
        label_selector: String::new(),
        field_selector: String::new(),
        query: Query::default(),
    })
}

/// A verb on a resource of a group, and the names it is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Atom {
    verb: String,
    group: String,
    resource: ResourcePattern,
    names: Vec<String>,
}

impl Policy {
    /// What the cluster and the policy both allow a user who comes this way in a namespace.
    pub(crate) fn review_rules(
        &self,
        user: &User,
        through: Through<'_>,
        namespace: &str,
        cluster: ReviewedRules,
    ) -> ReviewedRules {
        let rules: Vec<&Rule> = self
            .profiles_of(user, through)
            .into_iter()
            .flat_map(|profile| &profile.rules)
            .filter(|rule| is_in(rule, namespace))
            .collect();
        let allowing = rules.iter().filter(|r| r.effect == Effect::Allow).count();
        let mut joined = ReviewedRules {
            incomplete: cluster.incomplete,
            evaluation_error: cluster.evaluation_error.clone(),
            ..ReviewedRules::default()
        };
        if allowing * cluster.resource_rules.len() > PAIRS_MAX {
            joined.incomplete = true;
            let note = "the policy has too many rules to be joined with those of the cluster";
            add_note(&mut joined, note);
            for rule in rules.iter().filter(|rule| rule.effect == Effect::Allow) {
                joined.resource_rules.extend(own_words(rule));
            }
            joined.resource_rules.truncate(LINES_MAX);
        } else {
            self_reviews(&cluster, &mut joined);
            join_resources(&rules, &cluster, &mut joined);
        }
        join_paths(&rules, &cluster, &mut joined);
        joined
    }
}

fn is_in(rule: &Rule, namespace: &str) -> bool {
    match &rule.scope {
        Scope::Resources { namespaces, .. } => namespaces.iter().any(|p| p.matches(namespace)),
        Scope::Paths(_) => true,
        Scope::Impersonation(_) => false,
    }
}

fn add_note(joined: &mut ReviewedRules, note: &str) {
    if !joined.evaluation_error.is_empty() {
        joined.evaluation_error += "; ";
    }
    joined.evaluation_error += note;
}

/// Questions about oneself are allowed by every policy.
fn self_reviews(cluster: &ReviewedRules, joined: &mut ReviewedRules) {
    let own = cluster.resource_rules.iter().filter(|rule| {
        !rule.resources.is_empty() && rule.resources.iter().all(|r| r.starts_with("selfsubject"))
    });
    for rule in own {
        // Two of the cluster's roles for everybody have the same.
        if joined.resource_rules.len() < LINES_MAX && !joined.resource_rules.contains(rule) {
            joined.resource_rules.push(rule.clone());
        }
    }
}

fn join_resources(rules: &[&Rule], cluster: &ReviewedRules, joined: &mut ReviewedRules) {
    let mut open = false;
    let mut lines: BTreeMap<(String, String, Vec<String>), Vec<String>> = BTreeMap::new();
    for (number, rule) in rules.iter().enumerate() {
        if rule.effect != Effect::Allow {
            continue;
        }
        for other in &cluster.resource_rules {
            for atom in intersection(rule, other, &mut open) {
                if is_blocked(&atom, &rules[..number], &mut open) {
                    continue;
                }
                open |= !rule.is_plain();
                let verbs = lines
                    .entry((atom.group, atom.resource.text(), atom.names))
                    .or_default();
                if !verbs.contains(&atom.verb) {
                    verbs.push(atom.verb);
                }
            }
        }
    }
    let lines = lines.into_iter().take(LINES_MAX);
    joined
        .resource_rules
        .extend(
            lines.map(|((group, resource, resource_names), verbs)| ResourceRule {
                verbs,
                api_groups: vec![group],
                resources: vec![resource],
                resource_names,
            }),
        );
    if open {
        joined.incomplete = true;
        let note = "the gateway's policy has exceptions or conditions that such a list cannot show";
        add_note(joined, note);
    }
}

/// What both a rule of the policy and one of the cluster allow.
fn intersection(rule: &Rule, other: &ResourceRule, open: &mut bool) -> Vec<Atom> {
    let Scope::Resources {
        groups,
        resources,
        names,
        ..
    } = &rule.scope
    else {
        return Vec::new();
    };
    let mut atoms = Vec::new();
    let names = joined_names(names, &other.resource_names, open);
    let Some(names) = names else {
        return atoms;
    };
    let theirs: Vec<ResourcePattern> = other
        .resources
        .iter()
        .filter_map(|text| ResourcePattern::parse(text))
        .collect();
    for resource in resources {
        for resource in theirs.iter().filter_map(|their| meet(resource, their)) {
            for group in meet_words(groups, &other.api_groups) {
                for verb in verbs_of(rule, &resource, &other.verbs, open) {
                    atoms.push(Atom {
                        verb,
                        group: group.clone(),
                        resource: resource.clone(),
                        names: names.clone(),
                    });
                }
            }
        }
    }
    atoms
}

/// Names that both allow; empty for every name, nothing for none.
fn joined_names(own: &[TextPattern], theirs: &[String], open: &mut bool) -> Option<Vec<String>> {
    if own.is_empty() {
        return Some(theirs.to_vec());
    }
    let names: Vec<String> = if theirs.is_empty() {
        *open |= !own.iter().all(|name| matches!(name, TextPattern::Exact(_)));
        own.iter().map(TextPattern::text).collect()
    } else {
        let both = theirs
            .iter()
            .filter(|name| own.iter().any(|p| p.matches(name)));
        both.cloned().collect()
    };
    (!names.is_empty()).then_some(names)
}

/// The narrower of two patterns; nothing when they have nothing in common.
fn meet(own: &ResourcePattern, their: &ResourcePattern) -> Option<ResourcePattern> {
    use ResourcePattern::{Everywhere, Exact, Subresources};
    if own.covers(their) {
        return Some(their.clone());
    }
    if their.covers(own) {
        return Some(own.clone());
    }
    match (own, their) {
        (Subresources(resource), Everywhere(sub)) | (Everywhere(sub), Subresources(resource)) => {
            Some(Exact(format!("{resource}/{sub}")))
        }
        _ => None,
    }
}

fn meet_words(own: &[String], theirs: &[String]) -> Vec<String> {
    let any = |words: &[String]| words.iter().any(|word| word == "*");
    if any(own) {
        theirs.to_vec()
    } else if any(theirs) {
        own.to_vec()
    } else {
        own.iter().filter(|w| theirs.contains(w)).cloned().collect()
    }
}

/// The cluster's verbs that a rule allows on a resource. Exec and its like are `get` and `create` in the cluster.
fn verbs_of(
    rule: &Rule,
    resource: &ResourcePattern,
    theirs: &[String],
    open: &mut bool,
) -> Vec<String> {
    let any = rule.verbs.iter().any(|verb| verb == "*");
    let exec = any || rule.verbs.iter().any(|verb| verb == EXEC);
    let is_exec_like = matches!(resource, ResourcePattern::Exact(text)
        if text.split_once('/').is_some_and(|(r, sub)| r == "pods" && EXEC_SUBRESOURCES.contains(&sub)));
    if is_exec_like {
        let both = ["get".to_owned(), "create".to_owned()];
        return if exec {
            meet_words(&both, theirs)
        } else {
            Vec::new()
        };
    }
    let wide = !matches!(resource, ResourcePattern::Exact(_));
    *open |= wide && !exec;
    let own: Vec<String> = rule.verbs.iter().filter(|v| *v != EXEC).cloned().collect();
    meet_words(&own, theirs)
}

/// Whether an earlier rule denies all of it; one that denies a part leaves the answer open.
fn is_blocked(atom: &Atom, earlier: &[&Rule], open: &mut bool) -> bool {
    let blockers = earlier.iter().filter(|rule| rule.effect != Effect::Allow);
    for rule in blockers {
        let Scope::Resources {
            groups,
            resources,
            names,
            ..
        } = &rule.scope
        else {
            continue;
        };
        let verb = atom.verb == "*"
            || rule
                .verbs
                .iter()
                .any(|v| *v == atom.verb || v == "*" || v == EXEC);
        let group = atom.group == "*" || groups.iter().any(|g| *g == atom.group || g == "*");
        if !verb
            || !group
            || !resources
                .iter()
                .any(|own| meet(own, &atom.resource).is_some())
        {
            continue;
        }
        let whole = rule.is_plain()
            && names.is_empty()
            && rule.verbs.iter().any(|v| *v == atom.verb || v == "*")
            && groups.iter().any(|g| *g == atom.group || g == "*")
            && resources.iter().any(|own| own.covers(&atom.resource));
        if whole {
            return true;
        }
        *open = true;
    }
    false
}

/// A rule in RBAC's words, without the cluster's.
fn own_words(rule: &Rule) -> Option<ResourceRule> {
    let Scope::Resources {
        groups,
        resources,
        names,
        ..
    } = &rule.scope
    else {
        return None;
    };
    Some(ResourceRule {
        verbs: rule.verbs.clone(),
        api_groups: groups.clone(),
        resources: resources.iter().map(ResourcePattern::text).collect(),
        resource_names: names.iter().map(TextPattern::text).collect(),
    })
}

fn join_paths(rules: &[&Rule], cluster: &ReviewedRules, joined: &mut ReviewedRules) {
    let built_in: Vec<TextPattern> = BUILT_IN_PATHS
        .iter()
        .filter_map(|path| TextPattern::parse(path))
        .collect();
    let reads = ["get".to_owned(), "head".to_owned()];
    let mut open = false;
    let mut lines = PathLines::default();
    for other in &cluster.non_resource_rules {
        let theirs: Vec<TextPattern> = other
            .paths
            .iter()
            .filter_map(|path| TextPattern::parse(path))
            .collect();
        let mut add = |own: &[TextPattern], verbs: &[String], denied: &[&Rule]| {
            let verbs = meet_words(verbs, &other.verbs);
            let paths = theirs.iter().flat_map(|their| {
                own.iter().filter_map(move |own| {
                    let narrower = own.covers(their).then_some(their);
                    narrower.or_else(|| their.covers(own).then_some(own))
                })
            });
            let mut any = false;
            for path in paths {
                let denies = |rule: &&&Rule| {
                    matches!(&rule.scope, Scope::Paths(paths)
                    if paths.iter().any(|own| own.covers(path) || path.covers(own)))
                };
                if denied.iter().any(|rule| denies(&rule)) {
                    open = true;
                } else {
                    any = true;
                    lines.add(path.text(), &verbs);
                }
            }
            any && !verbs.is_empty()
        };
        add(&built_in, &reads, &[]);
        let mut conditional = false;
        for (number, rule) in rules.iter().enumerate() {
            if let (Effect::Allow, Scope::Paths(paths)) = (rule.effect, &rule.scope) {
                let denied: Vec<&Rule> = rules[..number]
                    .iter()
                    .filter(|rule| rule.effect != Effect::Allow)
                    .copied()
                    .collect();
                conditional |= add(paths, &rule.verbs, &denied) && !rule.is_plain();
            }
        }
        open |= conditional;
    }
    joined.non_resource_rules = lines.into_rules();
    joined.incomplete |= open;
}

/// Verbs by path. Several rules may allow the same, and the cluster's own list names some paths more than once.
#[derive(Default)]
struct PathLines(BTreeMap<String, BTreeSet<String>>);

impl PathLines {
    fn add(&mut self, path: String, verbs: &[String]) {
        if verbs.is_empty() || (self.0.len() >= LINES_MAX && !self.0.contains_key(&path)) {
            return;
        }
        self.0
            .entry(path)
            .or_default()
            .extend(verbs.iter().cloned());
    }

    /// Each path once, with those that have the same verbs.
    fn into_rules(self) -> Vec<PathRule> {
        let mut by_verbs: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (path, mut verbs) in self.0 {
            if verbs.contains("*") {
                verbs.retain(|verb| verb == "*");
            }
            let verbs = verbs.into_iter().collect();
            by_verbs.entry(verbs).or_default().push(path);
        }
        let rule = |(verbs, paths)| PathRule { verbs, paths };
        by_verbs.into_iter().map(rule).collect()
    }
}
