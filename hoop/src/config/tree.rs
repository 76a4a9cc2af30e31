//! YAML as a tree whose every node knows its line, and a reader that collects mistakes instead of stopping at one.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Mistake;
use super::keys::Key;

/// A word this similar to a known one (Damerau-Levenshtein, relative to the longer) is taken for a slip of the pen.
const SIMILAR_ENOUGH: f64 = 0.6;

/// A node of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: u64,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(u64, String, Node)>),
}

/// The file under reading.
pub(super) struct Reader {
    root: Option<Node>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Reads the text, and notes every key that is not known.
    pub(super) fn new(text: &str, keys: &[Key]) -> Self {
        let mut reader = Self {
            root: None,
            mistakes: Vec::new(),
        };
        let blank = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        if blank {
            return reader;
        }
        match serde_saphyr::from_str::<Spanned<Value>>(text) {
            Ok(node) => {
                let node = Node::from(node);
                reader.check_keys(&node, "", keys);
                reader.root = Some(node);
            }
            Err(error) => {
                let line = error.location().map_or(0, |location| location.line());
                let whole = error.to_string();
                let first = whole.lines().next().unwrap_or_default();
                reader.note(line, format!("not readable as YAML: {first}"));
            }
        }
        reader
    }

    /// Notes a mistake.
    pub(super) fn note(&mut self, line: u64, message: String) {
        self.mistakes.push(Mistake { line, message });
    }

    /// All mistakes, by line.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|mistake| mistake.line);
        self.mistakes
    }

    /// The value of a key: what `parse` makes of its text. A mistake is noted with what `parse` says.
    pub(super) fn value<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.find(path)?.clone();
        let text = self.text(&node, path)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.note(node.line, format!("{path}: {text:?} is {why}"));
                None
            }
        }
    }

    /// The texts of a list, each with its line.
    pub(super) fn list(&mut self, path: &str) -> Vec<(u64, String)> {
        let items = self.items(path);
        items
            .into_iter()
            .filter_map(|item| Some((item.line, self.text(&item, path)?)))
            .collect()
    }

    /// The items of a list.
    pub(super) fn items(&mut self, path: &str) -> Vec<Node> {
        match self.find(path).cloned() {
            None => Vec::new(),
            Some(node) => self.items_of(&node, path),
        }
    }

    /// The entries of a map whose keys are all known.
    pub(super) fn map(
        &mut self,
        node: &Node,
        what: &str,
        known: &[&str],
    ) -> Option<Vec<(String, Node)>> {
        let Value::Map(entries) = &node.value else {
            self.note(
                node.line,
                format!("{what} must be a map, found {}", node.kind()),
            );
            return None;
        };
        let mut taken = Vec::new();
        for (line, key, value) in entries {
            if known.contains(&key.as_str()) {
                taken.push((key.clone(), value.clone()));
            } else {
                self.note(
                    *line,
                    format!("{what} has no key {key:?}: {}", suggestion(key, known)),
                );
            }
        }
        Some(taken)
    }

    /// The text of a node.
    pub(super) fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        if let Value::Scalar(text) = &node.value {
            return Some(text.clone());
        }
        self.note(
            node.line,
            format!("{path} must be one value, found {}", node.kind()),
        );
        None
    }

    /// The texts of a node that is a list.
    pub(super) fn texts(&mut self, node: &Node, path: &str) -> Vec<String> {
        let items = self.items_of(node, path);
        items
            .iter()
            .filter_map(|item| self.text(item, path))
            .collect()
    }

    fn items_of(&mut self, node: &Node, path: &str) -> Vec<Node> {
        match &node.value {
            Value::List(items) => items.clone(),
            Value::Null => Vec::new(),
            _ => {
                self.note(
                    node.line,
                    format!("{path} must be a list, found {}", node.kind()),
                );
                Vec::new()
            }
        }
    }

    fn find(&self, path: &str) -> Option<&Node> {
        let node = path
            .split('.')
            .try_fold(self.root.as_ref()?, |node, segment| {
                let Value::Map(entries) = &node.value else {
                    return None;
                };
                entries
                    .iter()
                    .find(|(_, key, _)| key == segment)
                    .map(|(.., value)| value)
            })?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    fn check_keys(&mut self, node: &Node, above: &str, keys: &[Key]) {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => return,
            _ => {
                let what = if above.is_empty() {
                    "the file"
                } else {
                    above.trim_end_matches('.')
                };
                self.note(
                    node.line,
                    format!("{what} must be a map, found {}", node.kind()),
                );
                return;
            }
        };
        for (line, key, value) in entries {
            let path = format!("{above}{key}");
            let below = format!("{path}.");
            if keys.iter().any(|k| k.path == path) {
                continue;
            }
            if keys.iter().any(|k| k.path.starts_with(&below)) {
                self.check_keys(value, &below, keys);
                continue;
            }
            let known: Vec<&str> = keys
                .iter()
                .filter_map(|k| k.path.strip_prefix(above)?.split('.').next())
                .collect();
            let elsewhere = keys.iter().find(|k| k.path.rsplit('.').next() == Some(key));
            let meant = match elsewhere {
                Some(elsewhere) => format!("did you mean {:?}?", elsewhere.path),
                None => suggestion(key, &known),
            };
            self.note(*line, format!("unknown key {path:?}: {meant}"));
        }
    }
}

impl Node {
    fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// What was meant by `found`, or what there is to choose from.
fn suggestion(found: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| {
            (
                strsim::normalized_damerau_levenshtein(&found.to_lowercase(), word),
                word,
            )
        })
        .filter(|(likeness, _)| *likeness >= SIMILAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((_, word)) = near {
        return format!("did you mean {word:?}?");
    }
    let mut words = known.to_vec();
    words.dedup();
    format!("expected one of {}", words.join(", "))
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

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            map.push((key.referenced.line(), key.value, value.into()));
        }
        Ok(Value::Map(map))
    }
}
