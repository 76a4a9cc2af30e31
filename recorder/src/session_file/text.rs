//! Strings of one column, each distinct one kept once.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Number of a string within its column.
pub(crate) type TextId = u32;

/// Stands for null among the ids of a column.
pub(crate) const NULL: TextId = u32::MAX;

/// An interner: the distinct strings one after another, found by their hash. The hasher is seeded, since strings come
/// from clients; the numbers do not depend on it, only on the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    arena: String,
    /// Where each string ends in the arena.
    ends: Vec<u32>,
    /// Hash of each string, so that none is read again when the table grows.
    hashes: Vec<u64>,
    ids: HashTable<TextId>,
    hasher: RandomState,
    /// The value before: neighbours are equal more often than not.
    last: Option<TextId>,
}

impl Texts {
    /// Number of `text`, new or known.
    #[inline]
    pub(crate) fn id(&mut self, text: &str) -> TextId {
        if let Some(last) = self.last
            && self.get(last) == text
        {
            return last;
        }
        let hash = self.hasher.hash_one(text);
        let same = |id: &TextId| get(&self.arena, &self.ends, *id) == text;
        let id = match self.ids.find(hash, same) {
            Some(id) => *id,
            None => self.add(text, hash),
        };
        self.last = Some(id);
        id
    }

    fn add(&mut self, text: &str, hash: u64) -> TextId {
        let id =
            TextId::try_from(self.ends.len()).expect("a file has fewer rows than a u32 counts");
        self.arena.push_str(text);
        let end = u32::try_from(self.arena.len());
        self.ends
            .push(end.expect("the strings of a file are part of its bytes"));
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.ids.insert_unique(hash, id, |id| hashes[*id as usize]);
        id
    }

    /// How many strings there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string of this number.
    pub(crate) fn get(&self, id: TextId) -> &str {
        get(&self.arena, &self.ends, id)
    }

    /// All strings in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let ids = 0..TextId::try_from(self.ends.len()).unwrap_or(NULL);
        ids.map(|id| self.get(id))
    }
}

#[inline]
fn get<'a>(arena: &'a str, ends: &[u32], id: TextId) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &arena[start..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_number_and_keep_their_order() {
        let mut texts = Texts::default();
        let words: Vec<String> = (0..3000).map(|n| format!("{}", n % 1000)).collect();
        for (n, word) in words.iter().enumerate() {
            assert_eq!(texts.id(word) as usize, n % 1000);
        }
        assert_eq!(texts.id(""), 1000);
        assert_eq!(texts.id(""), 1000);
        let kept: Vec<&str> = texts.iter().collect();
        assert_eq!(kept[..1000], words[..1000]);
        assert_eq!(kept[1000..], [""]);
    }
}
