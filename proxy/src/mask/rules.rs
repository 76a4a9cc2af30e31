//! Masking rules: what is masked besides Secrets, for the client and for the record.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::MaskMode;
use super::detect::Detector;
use super::fields::{FieldPath, FieldTree, PathIndex, Place};
use super::pattern::Pattern;
use super::text::{Sought, TextRules};
use super::value::Form;

/// One masking rule of a policy.
///
/// With fields and nothing to look for, whole fields are masked. With something to look for and no fields, it is
/// looked for in every text: values of objects, logs, streams. With both, it is looked for in those fields.
#[derive(Debug, Clone)]
pub struct MaskingRule {
    /// As the policy calls it.
    pub name: String,
    /// Fields of objects.
    pub fields: Vec<Fields>,
    /// What is looked for in texts.
    pub looks_for: Vec<LooksFor>,
    /// What the client sees.
    pub client: MaskMode,
    /// What the record shows: never weaker.
    pub record: MaskMode,
}

/// Fields of the objects of a kind.
#[derive(Debug, Clone)]
pub struct Fields {
    /// `ConfigMap`; every kind if there is none.
    pub kind: Option<String>,
    /// Where.
    pub path: FieldPath,
}

/// What is looked for in a text.
#[derive(Debug, Clone)]
pub enum LooksFor {
    /// A secret that is known by how it looks.
    Detector(&'static Detector),
    /// What a regular expression matches.
    Pattern(Arc<Pattern>),
}

/// Masking rules that hold together, for both views.
#[derive(Debug)]
pub struct Masking {
    names: Vec<String>,
    client: Option<Arc<RuleView>>,
    record: Arc<RuleView>,
}

/// What masking rules ask for in one view.
pub struct RuleView {
    /// What is looked for everywhere.
    text: Option<Arc<TextRules>>,
    tree: FieldTree,
    /// What happens at each place of the tree.
    at_places: Vec<AtPlace>,
    by_kind: HashMap<Box<[u8]>, Place>,
    by_resource: HashMap<String, Place>,
    other_kinds: Place,
    any_kind: Place,
}

#[derive(Debug, Clone, Default)]
struct AtPlace {
    whole: Option<(MaskMode, Form)>,
    text: Option<Arc<TextRules>>,
}

/// One path of a view.
struct PathRule {
    kind: Option<String>,
    /// Nothing when the field is masked whole.
    sought: Vec<Sought>,
    mode: MaskMode,
    form: Form,
}

impl Masking {
    /// Of these rules.
    ///
    /// # Errors
    /// In words, when they are too large together.
    pub fn new(rules: &[Arc<MaskingRule>]) -> Result<Self, String> {
        let record = Arc::new(RuleView::new(rules, |rule| rule.record)?);
        let client = if rules.iter().all(|rule| rule.client == rule.record) {
            Some(Arc::clone(&record))
        } else if rules.iter().all(|rule| rule.client == MaskMode::None) {
            None
        } else {
            Some(Arc::new(RuleView::new(rules, |rule| rule.client)?))
        };
        Ok(Self {
            names: rules.iter().map(|rule| rule.name.clone()).collect(),
            client,
            record,
        })
    }

    /// Names of the rules.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What is masked for the client, if anything.
    pub fn client(&self) -> Option<&Arc<RuleView>> {
        self.client.as_ref()
    }

    /// What is masked for the record.
    pub fn record(&self) -> &Arc<RuleView> {
        &self.record
    }

    /// Whether client and record see the same.
    pub fn is_one_view(&self) -> bool {
        let same = |client| Arc::ptr_eq(client, &self.record);
        self.client.as_ref().is_some_and(same)
    }
}

impl PartialEq for Masking {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

impl Eq for Masking {}

impl RuleView {
    fn new(
        rules: &[Arc<MaskingRule>],
        mode: impl Fn(&MaskingRule) -> MaskMode,
    ) -> Result<Self, String> {
        let (mut everywhere, mut paths, mut path_rules) = (Vec::new(), Vec::new(), Vec::new());
        for rule in rules {
            let mode = mode(rule);
            if mode == MaskMode::None {
                continue;
            }
            let sought: Vec<Sought> = rule
                .looks_for
                .iter()
                .map(|what| what.sought(mode))
                .collect();
            if rule.fields.is_empty() {
                everywhere.extend(sought);
                continue;
            }
            for field in &rule.fields {
                paths.push(field.path.clone());
                path_rules.push(PathRule {
                    kind: field.kind.clone(),
                    sought: sought.clone(),
                    mode,
                    form: field.path.form(field.kind.as_deref().unwrap_or_default()),
                });
            }
        }
        if paths.len() > usize::from(PathIndex::MAX) {
            return Err("the field paths are too many together".to_owned());
        }
        Self::of(everywhere, &paths, &path_rules)
    }

    fn of(
        everywhere: Vec<Sought>,
        paths: &[FieldPath],
        path_rules: &[PathRule],
    ) -> Result<Self, String> {
        let mut tree = FieldTree::new();
        let chosen = |of: &dyn Fn(Option<&str>) -> bool| -> Vec<PathIndex> {
            (0..)
                .zip(path_rules)
                .filter(|(_, rule)| of(rule.kind.as_deref()))
                .map(|(index, _)| index)
                .collect()
        };
        let other_kinds = tree.add_root(paths, chosen(&|kind| kind.is_none()).into_iter())?;
        let any_kind = tree.add_root(paths, chosen(&|_| true).into_iter())?;
        let kinds: BTreeSet<&str> = path_rules
            .iter()
            .filter_map(|r| r.kind.as_deref())
            .collect();
        let (mut by_kind, mut by_resource) = (HashMap::new(), HashMap::new());
        for kind in kinds {
            let of = |other: Option<&str>| other.is_none_or(|other| other == kind);
            let root = tree.add_root(paths, chosen(&of).into_iter())?;
            by_kind.insert(kind.as_bytes().into(), root);
            by_resource.insert(resource_of(kind), root);
        }
        let mut at_places = Vec::with_capacity(tree.len());
        let mut by_ended: HashMap<Vec<PathIndex>, AtPlace> = HashMap::new();
        for place in 0..tree.len() {
            let place = Place::try_from(place).expect("the tree has less than ten thousand");
            let ended = tree.ended(place);
            let known: Option<&AtPlace> = by_ended.get(ended);
            let at = match known {
                Some(at) => at.clone(),
                None => at_place(ended, path_rules, &everywhere)?,
            };
            by_ended.insert(ended.to_vec(), at.clone());
            at_places.push(at);
        }
        let text = (!everywhere.is_empty()).then(|| TextRules::new(everywhere));
        Ok(Self {
            text: text.transpose()?.map(Arc::new),
            tree,
            at_places,
            by_kind,
            by_resource,
            other_kinds,
            any_kind,
        })
    }

    /// What is looked for in every text, if anything is.
    pub fn text(&self) -> Option<&Arc<TextRules>> {
        self.text.as_ref()
    }

    /// Where the paths begin in an object of which only the request tells: its resource, or nothing.
    pub(super) fn root_of_resource(&self, resource: &str) -> Place {
        if resource.is_empty() {
            return self.any_kind;
        }
        let known = self.by_resource.get(resource);
        known.copied().unwrap_or(self.other_kinds)
    }

    /// Whether paths are for a kind of this resource by name.
    pub(super) fn names_resource(&self, resource: &str) -> bool {
        self.by_resource.contains_key(resource)
    }

    /// Where the paths begin in an object of this kind, and in the items of a list of them.
    pub(super) fn root_of_kind(&self, kind: &[u8]) -> Place {
        let item = kind.strip_suffix(b"List").unwrap_or(kind);
        let known = self.by_kind.get(kind).or_else(|| self.by_kind.get(item));
        known.copied().unwrap_or(self.other_kinds)
    }

    pub(super) fn tree(&self) -> &FieldTree {
        &self.tree
    }

    /// How a value at this place is masked whole, if it is.
    pub(super) fn whole(&self, place: Place) -> Option<(MaskMode, Form)> {
        self.at_places[place as usize].whole
    }

    /// What is looked for in a text at this place.
    pub(super) fn text_at(&self, place: Place) -> Option<&Arc<TextRules>> {
        let own = self.at_places[place as usize].text.as_ref();
        own.or(self.text.as_ref())
    }
}

impl LooksFor {
    fn sought(&self, mode: MaskMode) -> Sought {
        match self {
            Self::Detector(detector) => Sought::detector(detector, mode),
            Self::Pattern(pattern) => Sought::pattern(Arc::clone(pattern), mode),
        }
    }
}

impl fmt::Debug for RuleView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleView")
            .field("text", &self.text)
            .field("places", &self.at_places.len())
            .finish_non_exhaustive()
    }
}

fn at_place(
    ended: &[PathIndex],
    path_rules: &[PathRule],
    everywhere: &[Sought],
) -> Result<AtPlace, String> {
    let rules = || ended.iter().map(|index| &path_rules[usize::from(*index)]);
    let whole = rules()
        .filter(|rule| rule.sought.is_empty())
        .max_by_key(|rule| rule.mode.strength())
        .map(|rule| (rule.mode, rule.form));
    let own: Vec<Sought> = rules()
        .flat_map(|rule| rule.sought.iter().cloned())
        .collect();
    let text = if own.is_empty() {
        None
    } else {
        let all = own.into_iter().chain(everywhere.iter().cloned()).collect();
        Some(Arc::new(TextRules::new(all)?))
    };
    Ok(AtPlace { whole, text })
}

/// The resource of a kind, by the rule that the API machinery has for it (`UnsafeGuessKindToResource`).
fn resource_of(kind: &str) -> String {
    let lower = kind.to_lowercase();
    if lower == "endpoints" {
        return lower;
    }
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_of_a_kind_is_found_as_the_api_machinery_does() {
        for (kind, resource) in [
            ("ConfigMap", "configmaps"),
            ("NetworkPolicy", "networkpolicies"),
            ("Ingress", "ingresses"),
            ("Endpoints", "endpoints"),
        ] {
            assert_eq!(resource_of(kind), resource);
        }
    }
}
