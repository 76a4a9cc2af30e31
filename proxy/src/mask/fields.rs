//! Paths of fields, and the tree that is walked along while an object passes.
//!
//! A path is a small part of JSONPath, as kubectl writes it: `.data.password`, `.data.*` (every field),
//! `.spec.containers[*].env[*].value` (every item), `.metadata.annotations['example.com/x']` or
//! `.metadata.annotations.example\.com/x`, `..password` (at any depth). All paths of a kind are put together once, so
//! that a key of an object costs one look-up, however many paths there are.

use std::collections::{BTreeSet, HashMap};

use super::value::Form;

/// The longest path, in steps.
const STEPS_MAX: usize = 64;

/// The most places that the paths of a policy's rule may tell apart.
const PLACES_MAX: usize = 10_000;

/// A path to fields of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(Vec<PathStep>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Key(String),
    AnyKey,
    AnyItem,
    /// Any number of keys and items.
    Deep,
}

/// What is done at the end of path number `usize`.
pub(super) type PathIndex = u16;

/// A place in the tree; 0 leads nowhere.
pub(super) type Place = u32;

/// The place from which no path goes on.
pub(super) const NOWHERE: Place = 0;

/// The tree of all paths.
#[derive(Debug, Default)]
pub(super) struct FieldTree {
    nodes: Vec<Node>,
    by_states: HashMap<States, Place>,
}

#[derive(Debug, Default)]
struct Node {
    keys: HashMap<Box<[u8]>, Place>,
    other_keys: Place,
    items: Place,
    /// The paths that end here or above.
    ended: Vec<PathIndex>,
}

/// Paths and the step each is at; all steps taken says that it ended here or above.
type States = BTreeSet<(PathIndex, u8)>;

impl FieldPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let step;
            (step, rest) = if let Some(after) = rest.strip_prefix("..") {
                if after.starts_with(['.', '[']) || after.is_empty() {
                    return Err("write a name after \"..\"".to_owned());
                }
                steps.push(PathStep::Deep);
                name(after)?
            } else if let Some(after) = rest.strip_prefix('.') {
                name(after)?
            } else if let Some(after) = rest.strip_prefix('[') {
                bracket(after)?
            } else {
                return Err("it must begin with a dot, as in .data.password".to_owned());
            };
            steps.push(step);
        }
        if steps.is_empty() {
            return Err("it names no field: write .data.password or .data.*".to_owned());
        }
        if steps.len() > STEPS_MAX {
            return Err(format!("it has more than {STEPS_MAX} steps"));
        }
        Ok(Self(steps))
    }

    /// How a value at the end of this path is written: what the API server takes for bytes is base64.
    pub(super) fn form(&self, kind: &str) -> Form {
        match self.0.first() {
            Some(PathStep::Key(key)) if key == "binaryData" => Form::Base64,
            Some(PathStep::Key(key)) if key == "data" && kind == "Secret" => Form::Base64,
            _ => Form::Plain,
        }
    }
}

/// A name up to the next step.
fn name(text: &str) -> Result<(PathStep, &str), String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => {
                end = at;
                break;
            }
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            c => name.push(c),
        }
    }
    let step = match name.as_str() {
        "" => return Err("a name is missing after a dot".to_owned()),
        "*" => PathStep::AnyKey,
        _ => PathStep::Key(name),
    };
    Ok((step, &text[end..]))
}

/// What stands in brackets.
fn bracket(text: &str) -> Result<(PathStep, &str), String> {
    if let Some(after) = text.strip_prefix("*]") {
        return Ok((PathStep::AnyItem, after));
    }
    for quote in ["'", "\""] {
        if let Some(after) = text.strip_prefix(quote) {
            let end = format!("{quote}]");
            let (name, rest) = after
                .split_once(&end)
                .ok_or("a name in brackets does not end")?;
            return Ok((PathStep::Key(name.to_owned()), rest));
        }
    }
    Err("brackets hold * or a name in quotes: [*], ['example.com/x']".to_owned())
}

impl FieldTree {
    pub(super) fn new() -> Self {
        let mut tree = Self::default();
        // Nowhere.
        tree.nodes.push(Node::default());
        tree.by_states.insert(States::new(), NOWHERE);
        tree
    }

    /// Adds the tree of some of the paths, and returns its root.
    pub(super) fn add_root(
        &mut self,
        paths: &[FieldPath],
        chosen: impl Iterator<Item = PathIndex>,
    ) -> Result<Place, String> {
        let states = chosen.map(|path| (path, 0)).collect();
        self.place_of(paths, closed(paths, states))
    }

    /// The place of a key's value.
    #[inline]
    pub(super) fn key(&self, place: Place, key: &[u8]) -> Place {
        if place == NOWHERE {
            return NOWHERE;
        }
        let node = &self.nodes[place as usize];
        node.keys.get(key).copied().unwrap_or(node.other_keys)
    }

    /// The place of an array's items.
    #[inline]
    pub(super) fn item(&self, place: Place) -> Place {
        self.nodes[place as usize].items
    }

    /// The paths that end at a place or above it.
    #[inline]
    pub(super) fn ended(&self, place: Place) -> &[PathIndex] {
        &self.nodes[place as usize].ended
    }

    /// Number of places.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn place_of(&mut self, paths: &[FieldPath], states: States) -> Result<Place, String> {
        if let Some(place) = self.by_states.get(&states) {
            return Ok(*place);
        }
        if self.nodes.len() == PLACES_MAX {
            return Err("the field paths are too many together".to_owned());
        }
        let place = Place::try_from(self.nodes.len()).expect("less than ten thousand");
        self.nodes.push(Node::default());
        self.by_states.insert(states.clone(), place);
        let step = |(path, at): (PathIndex, u8)| paths[usize::from(path)].0.get(usize::from(at));
        let mut names: Vec<&str> = Vec::new();
        for state in &states {
            if let Some(PathStep::Key(key)) = step(*state) {
                names.push(key);
            }
        }
        names.sort_unstable();
        names.dedup();
        let mut keys = HashMap::new();
        for name in names {
            let next = after(paths, &states, |step| {
                *step == PathStep::AnyKey || matches!(step, PathStep::Key(key) if key == name)
            });
            keys.insert(name.as_bytes().into(), self.place_of(paths, next)?);
        }
        let other = after(paths, &states, |step| *step == PathStep::AnyKey);
        let items = after(paths, &states, |step| *step == PathStep::AnyItem);
        let node = Node {
            keys,
            other_keys: self.place_of(paths, other)?,
            items: self.place_of(paths, items)?,
            ended: states
                .iter()
                .filter(|state| step(**state).is_none())
                .map(|(path, _)| *path)
                .collect(),
        };
        self.nodes[place as usize] = node;
        Ok(place)
    }
}

/// Where the paths are after a key or item that `takes` their step. What has ended holds for all below.
fn after(paths: &[FieldPath], states: &States, takes: impl Fn(&PathStep) -> bool) -> States {
    let mut next = States::new();
    for (path, at) in states {
        match paths[usize::from(*path)].0.get(usize::from(*at)) {
            None | Some(PathStep::Deep) => {
                next.insert((*path, *at));
            }
            Some(step) if takes(step) => {
                next.insert((*path, at + 1));
            }
            Some(_) => {}
        }
    }
    closed(paths, next)
}

/// With the steps that may come after none of [`PathStep::Deep`].
fn closed(paths: &[FieldPath], states: States) -> States {
    let mut all = states.clone();
    for (path, at) in states {
        if paths[usize::from(path)].0.get(usize::from(at)) == Some(&PathStep::Deep) {
            all.insert((path, at + 1));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the paths end at the place that is reached over these keys; `*` is an item.
    fn ended(paths: &[&str], way: &[&str]) -> Vec<PathIndex> {
        let paths: Vec<_> = paths.iter().map(|p| FieldPath::parse(p).unwrap()).collect();
        let mut tree = FieldTree::new();
        let root = tree.add_root(&paths, 0..u16::try_from(paths.len()).unwrap());
        let place = way.iter().fold(root.unwrap(), |place, step| match *step {
            "*" => tree.item(place),
            key => tree.key(place, key.as_bytes()),
        });
        tree.ended(place).to_vec()
    }

    #[test]
    fn a_path_ends_where_it_says_and_holds_for_all_below() {
        let paths = [".data.*", ".data.a", ".spec.containers[*].env[*].value"];
        assert_eq!(ended(&paths, &["data"]), [0u16; 0]);
        assert_eq!(ended(&paths, &["data", "a"]), [0, 1]);
        assert_eq!(ended(&paths, &["data", "b"]), [0]);
        assert_eq!(ended(&paths, &["data", "b", "c", "*"]), [0]);
        let value = ["spec", "containers", "*", "env", "*", "value"];
        assert_eq!(ended(&paths, &value), [2]);
        assert_eq!(ended(&paths, &value[..5]), [0u16; 0]);
        assert_eq!(
            ended(&paths, &["spec", "containers", "x", "env"]),
            [0u16; 0]
        );
    }

    #[test]
    fn names_with_dots_stand_in_brackets_or_after_backslashes() {
        for path in [
            ".metadata.annotations['example.com/x']",
            "$.metadata.annotations[\"example.com/x\"]",
            r".metadata.annotations.example\.com/x",
        ] {
            let way = ["metadata", "annotations", "example.com/x"];
            assert_eq!(ended(&[path], &way), [0], "{path}");
        }
    }

    #[test]
    fn two_dots_reach_any_depth() {
        let paths = ["..env[*].value", "..password"];
        assert_eq!(ended(&paths, &["password"]), [1]);
        assert_eq!(ended(&paths, &["a", "*", "b", "password", "x"]), [1]);
        assert_eq!(ended(&paths, &["a", "env", "*", "value"]), [0]);
        assert_eq!(ended(&paths, &["a", "env", "value"]), [0u16; 0]);
        assert_eq!(ended(&paths, &["env", "env", "*", "value"]), [0]);
    }

    #[test]
    fn what_is_no_path_says_why() {
        for (text, why) in [
            ("", "names no field"),
            ("data", "begin with a dot"),
            (".data.", "missing"),
            (".a[0]", "brackets"),
            (".a['b", "does not end"),
            ("..", "after \"..\""),
        ] {
            let error = FieldPath::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(FieldPath::parse(&".a".repeat(100)).is_err());
    }
}
