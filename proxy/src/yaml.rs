//! YAML as a tree whose every node knows its line, and a reader that collects mistakes instead of stopping at one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A word this similar to a known one (Damerau-Levenshtein, relative to the longer) is taken for a slip of the pen.
const SIMILAR_ENOUGH: f64 = 0.6;

/// A node of the file.
#[derive(Debug, Clone)]
pub struct Node {
    /// Line, counted from 1.
    pub line: u64,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// One value, as its text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone)]
pub struct Key {
    /// Line, counted from 1.
    pub line: u64,
    /// Its text.
    pub text: String,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1; 0 where it is not known.
    pub line: u64,
    /// What was found, and what was meant.
    pub message: String,
}

/// Collects mistakes.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

/// The entries of a map, each taken once by name.
pub(crate) struct Entries<'a> {
    line: u64,
    what: &'static str,
    entries: Vec<(&'a Key, &'a Node)>,
}

/// Reads the file into a tree.
///
/// # Errors
/// The one mistake that keeps it from being YAML.
pub fn read(text: &str) -> Result<Node, Mistakes> {
    let node: Spanned<Value> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let whole = error.to_string();
        let message = whole.lines().next().unwrap_or_default().to_owned();
        Mistakes(vec![Mistake { line, message }])
    })?;
    Ok(node.into())
}

/// " (did you mean …)" when `found` resembles one of `known`, else what there is to choose from.
pub fn suggestion<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = known
        .clone()
        .map(|word| {
            let likeness =
                strsim::normalized_damerau_levenshtein(&found.to_lowercase(), &word.to_lowercase());
            (likeness, word)
        })
        .filter(|(likeness, _)| *likeness >= SIMILAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, word)) => format!("did you mean \"{word}\"?"),
        None => format!("expected one of {}", known.collect::<Vec<_>>().join(", ")),
    }
}

impl Mistakes {
    /// Notes one.
    pub fn note(&mut self, line: u64, message: impl Into<String>) {
        self.0.push(Mistake {
            line,
            message: message.into(),
        });
    }

    /// Itself, if there are any.
    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// All of them by line.
    pub fn into_sorted(mut self) -> Vec<Mistake> {
        self.0.sort_by_key(|mistake| mistake.line);
        self.0
    }

    /// The entries of a map whose keys are among `known`. `what` names the thing, as in "a rule".
    pub(crate) fn map<'a>(
        &mut self,
        node: &'a Node,
        what: &'static str,
        known: &[&str],
    ) -> Option<Entries<'a>> {
        let Value::Map(entries) = &node.value else {
            self.note(
                node.line,
                format!("{what} must be a map, found {}", node.value.kind()),
            );
            return None;
        };
        let mut taken = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if known.contains(&key.text.as_str()) {
                taken.push((key, value));
            } else {
                let meant = suggestion(&key.text, known.iter().copied());
                self.note(
                    key.line,
                    format!("{what} has no key \"{}\": {meant}", key.text),
                );
            }
        }
        Some(Entries {
            line: node.line,
            what,
            entries: taken,
        })
    }

    /// The items of a list.
    pub(crate) fn list<'a>(&mut self, node: &'a Node, key: &str) -> &'a [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.note(
            node.line,
            format!("\"{key}\" must be a list, found {}", node.value.kind()),
        );
        &[]
    }

    /// A text.
    pub(crate) fn text<'a>(&mut self, node: &'a Node, key: &str) -> Option<&'a str> {
        if let Value::Scalar(text) = &node.value {
            return Some(text);
        }
        self.note(
            node.line,
            format!("\"{key}\" must be a text, found {}", node.value.kind()),
        );
        None
    }

    /// One of the words of a choice.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(node, key)?;
        let chosen = choices.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let meant = suggestion(text, choices.iter().map(|(word, _)| *word));
            self.note(
                node.line,
                format!("\"{key}\" cannot be \"{text}\": {meant}"),
            );
        }
        chosen.map(|(_, value)| *value)
    }
}

impl<'a> Entries<'a> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(k, _)| k.text == key)
            .map(|(_, node)| *node)
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'a Node> {
        let node = self.get(key);
        if node.is_none() {
            mistakes.note(self.line, format!("{} needs \"{key}\"", self.what));
        }
        node
    }

    /// The texts of a list, each with its line; nothing when the key is absent.
    pub(crate) fn texts(&self, key: &str, mistakes: &mut Mistakes) -> Option<Vec<(&'a str, u64)>> {
        let items = mistakes.list(self.get(key)?, key);
        Some(
            items
                .iter()
                .filter_map(|item| mistakes.text(item, key).map(|text| (text, item.line)))
                .collect(),
        )
    }
}

impl Value {
    /// What it is, for a message that says what was found.
    pub fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Scalar(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Value>>()? {
            items.push(item.into());
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Value>>()? {
            let key = Key {
                line: key.referenced.line(),
                text: key.value,
            };
            entries.push((key, value.into()));
        }
        Ok(Value::Map(entries))
    }
}
