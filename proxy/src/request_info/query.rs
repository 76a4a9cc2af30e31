//! The query of a request, as Go's `net/url.ParseQuery` reads it.

use percent_encoding::percent_decode_str;

/// Decoded pairs of a query, in the order they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes a query, without its `?`. The second value says whether every pair could be decoded: the API server
    /// drops pairs with a `;` or a bad percent-encoding, other parsers do not.
    pub(super) fn parse(raw: &str) -> (Self, bool) {
        let mut pairs = Vec::new();
        let mut is_clear = true;
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(key), decode(value)) {
                (Some(key), Some(value)) if !pair.contains(';') => pairs.push((key, value)),
                _ => is_clear = false,
            }
        }
        (Self { pairs }, is_clear)
    }

    /// The first value of a key, which is the one that the API server uses. Keys are case-sensitive.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a key, in order, such as the words of `command`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// A Boolean as the API server reads it: true when the key is there and its first value is neither `0` nor
    /// `false` in any case; `?watch`, `?watch=` and `?watch=no` are true.
    pub fn flag(&self, key: &str) -> bool {
        self.first(key)
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// Every pair, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// Decodes `%XX` and `+`; nothing when an escape is broken or the result is no UTF-8.
fn decode(text: &str) -> Option<String> {
    if !escapes_are_whole(text.as_bytes()) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

/// Whether every `%` is followed by two hexadecimal digits.
pub(crate) fn escapes_are_whole(text: &[u8]) -> bool {
    text.iter()
        .enumerate()
        .filter(|(_, c)| **c == b'%')
        .all(|(i, _)| {
            text.get(i + 1..i + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
}
