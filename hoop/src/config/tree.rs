//! The keys of a file, read by path; mistakes are collected instead of stopping at one.

use hoop_proxy::yaml::{self, Mistake, Mistakes, Node, Value, suggestion};

use super::keys::Key;

/// The file under reading.
pub(super) struct Reader {
    root: Option<Node>,
    mistakes: Mistakes,
}

impl Reader {
    /// Reads the text, and notes every key that is not known.
    pub(super) fn new(text: &str, keys: &[Key]) -> Self {
        let mut reader = Self {
            root: None,
            mistakes: Mistakes::default(),
        };
        let blank = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        if blank {
            return reader;
        }
        match yaml::read(text) {
            Ok(node) => {
                reader.check_keys(&node, "", keys);
                reader.root = Some(node);
            }
            Err(mistakes) => {
                for Mistake { line, message } in mistakes.into_sorted() {
                    reader.note(line, format!("not readable as YAML: {message}"));
                }
            }
        }
        reader
    }

    /// The line of a key, where the file has it.
    pub(super) fn line(&self, path: &str) -> Option<u64> {
        self.find(path).map(|node| node.line)
    }

    /// Notes a mistake.
    pub(super) fn note(&mut self, line: u64, message: String) {
        self.mistakes.note(line, message);
    }

    /// All mistakes, by line.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_sorted()
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
                format!("{what} must be a map, found {}", node.value.kind()),
            );
            return None;
        };
        let mut taken = Vec::new();
        for (key, value) in entries {
            if known.contains(&key.text.as_str()) {
                taken.push((key.text.clone(), value.clone()));
            } else {
                let meant = suggestion(&key.text, known.iter().copied());
                self.note(
                    key.line,
                    format!("{what} has no key {:?}: {meant}", key.text),
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
            format!("{path} must be one value, found {}", node.value.kind()),
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
                    format!("{path} must be a list, found {}", node.value.kind()),
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
                    .find(|(key, _)| key.text == segment)
                    .map(|(_, value)| value)
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
                    format!("{what} must be a map, found {}", node.value.kind()),
                );
                return;
            }
        };
        for (yaml::Key { line, text: key }, value) in entries {
            let path = format!("{above}{key}");
            let below = format!("{path}.");
            if keys.iter().any(|k| k.path == path) {
                continue;
            }
            if keys.iter().any(|k| k.path.starts_with(&below)) {
                self.check_keys(value, &below, keys);
                continue;
            }
            let mut known: Vec<&str> = keys
                .iter()
                .filter_map(|k| k.path.strip_prefix(above)?.split('.').next())
                .collect();
            known.dedup();
            let elsewhere = keys.iter().find(|k| k.path.rsplit('.').next() == Some(key));
            let meant = match elsewhere {
                Some(elsewhere) => format!("did you mean {:?}?", elsewhere.path),
                None => suggestion(key, known.iter().copied()),
            };
            self.note(*line, format!("unknown key {path:?}: {meant}"));
        }
    }
}
