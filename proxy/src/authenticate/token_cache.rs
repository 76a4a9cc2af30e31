//! What was found out about a bearer token, by the token's SHA-256: checking a signature or asking the API server
//! costs more than the rest of a request.
//!
//! Fixed sets of a few entries, chosen by the hash: looking up and putting in take the same small time however full it
//! is, and memory has a bound. Where a set is full, the entry that ends first gives way.

use hoop_schema::Timestamp;
use parking_lot::Mutex;

/// Entries of one set. With eight, a cache that is half full hardly ever drops what is still good.
const WAYS: usize = 8;

/// The SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

/// Remembers a value for each of so many tokens.
pub(super) struct TokenCache<V> {
    sets: Box<[Mutex<Vec<Entry<V>>>]>,
}

struct Entry<V> {
    hash: TokenHash,
    ends: Timestamp,
    value: V,
}

impl<V: Clone> TokenCache<V> {
    /// A cache for about this many tokens.
    pub(super) fn new(tokens_max: usize) -> Self {
        let sets = (tokens_max / WAYS).max(1).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
        }
    }

    /// What is remembered, if it has not ended and `is_good` says that it still holds.
    pub(super) fn get(
        &self,
        hash: &TokenHash,
        now: Timestamp,
        is_good: impl FnOnce(&V) -> bool,
    ) -> Option<V> {
        let mut set = self.set(hash).lock();
        let at = set.iter().position(|entry| entry.hash == *hash)?;
        let entry = &set[at];
        if entry.ends > now && is_good(&entry.value) {
            return Some(entry.value.clone());
        }
        set.swap_remove(at);
        None
    }

    /// Remembers a value until `ends`.
    pub(super) fn put(&self, hash: TokenHash, ends: Timestamp, value: V) {
        let mut set = self.set(&hash).lock();
        let entry = Entry { hash, ends, value };
        let known = set.iter().position(|other| other.hash == hash);
        let at = known.or_else(|| {
            let first_to_end = || (0..WAYS).min_by_key(|i| set[*i].ends);
            (set.len() == WAYS).then(first_to_end).flatten()
        });
        match at {
            Some(at) => set[at] = entry,
            None => set.push(entry),
        }
    }

    fn set(&self, hash: &TokenHash) -> &Mutex<Vec<Entry<V>>> {
        let index = usize::from(hash[0]) | usize::from(hash[1]) << 8 | usize::from(hash[2]) << 16;
        &self.sets[index & (self.sets.len() - 1)]
    }
}

impl<V> std::fmt::Debug for TokenCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache")
            .field("sets", &self.sets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn hash(n: u8) -> TokenHash {
        [n; 32]
    }

    #[test]
    fn a_token_is_remembered_until_it_ends_or_no_longer_holds() {
        let cache = TokenCache::new(64);
        cache.put(hash(1), at(10), "one");
        assert_eq!(cache.get(&hash(1), at(9), |_| true), Some("one"));
        assert_eq!(cache.get(&hash(2), at(9), |_| true), None);
        assert_eq!(cache.get(&hash(1), at(10), |_| true), None);
        cache.put(hash(1), at(10), "one");
        assert_eq!(cache.get(&hash(1), at(9), |_| false), None);
        assert_eq!(cache.get(&hash(1), at(9), |_| true), None, "it was dropped");
    }

    #[test]
    fn a_full_set_drops_what_ends_first() {
        let cache = TokenCache::new(1);
        for n in 0..20 {
            cache.put(hash(n), at(100 + i64::from(n)), n);
            cache.put(hash(n), at(100 + i64::from(n)), n);
        }
        let kept: Vec<u8> = (0..20)
            .filter_map(|n| cache.get(&hash(n), at(0), |_| true))
            .collect();
        assert_eq!(kept, (12..20).collect::<Vec<u8>>());
    }
}
