//! Strings of one column, each distinct one kept once.

use std::collections::HashMap;
use std::sync::Arc;

/// Number of a string within its column.
pub(crate) type TextId = u32;

/// Stands for null among the ids of a column.
pub(crate) const NULL: TextId = u32::MAX;

/// An interner: each distinct string, by its number and by itself.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    texts: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, TextId>,
    /// The value before: neighbours are equal more often than not.
    last: Option<TextId>,
}

impl Texts {
    /// Number of `text`, new or known.
    pub(crate) fn id(&mut self, text: &str) -> TextId {
        if let Some(last) = self.last
            && self.get(last) == text
        {
            return last;
        }
        let id = match self.ids.get(text) {
            Some(id) => *id,
            None => self.add(text),
        };
        self.last = Some(id);
        id
    }

    fn add(&mut self, text: &str) -> TextId {
        let id =
            TextId::try_from(self.texts.len()).expect("a file has fewer rows than a u32 counts");
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    /// The string of this number.
    pub(crate) fn get(&self, id: TextId) -> &str {
        &self.texts[id as usize]
    }

    /// All strings in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }
}
