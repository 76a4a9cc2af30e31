//! List options, as far as they change what a request is about.
//!
//! Mirrors `metainternalversion.ListOptions` decoding and `fields.ParseSelector`.

use super::query::Query;

/// What the options of a list say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListOptions {
    /// Whether this is a watch.
    pub(super) watch: bool,
    /// The one name that the field selector requires, if it is a legal path segment.
    pub(super) name: Option<String>,
}

impl ListOptions {
    /// Decodes the options. When any of them is wrong, the API server goes on with `watch` alone.
    pub(super) fn decode(query: &Query) -> Self {
        let watch = query.flag("watch");
        let integers_fit = ["limit", "timeoutSeconds"]
            .iter()
            .filter_map(|key| query.first(key))
            .all(is_go_integer);
        let terms = parse_fields(query.first("fieldSelector").unwrap_or_default());
        let name = match terms {
            Some(terms) if integers_fit => terms
                .into_iter()
                .find(|term| term.equals && term.field == "metadata.name")
                .map(|term| term.value)
                .filter(|name| is_path_segment(name)),
            _ => None,
        };
        Self { watch, name }
    }
}

/// `strconv.ParseInt(text, 10, 64)`.
fn is_go_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) && text.parse::<i64>().is_ok()
}

/// `path.IsValidPathSegmentName`, and not empty.
fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

/// One term of a field selector.
#[derive(Debug, PartialEq, Eq)]
struct Term {
    field: String,
    equals: bool,
    value: String,
}

/// `fields.ParseSelector`; nothing when the selector is invalid.
fn parse_fields(selector: &str) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    for text in split_terms(selector) {
        if text.is_empty() {
            continue;
        }
        let (at, operator) = find_operator(text)?;
        terms.push(Term {
            field: text[..at].to_owned(),
            equals: operator != "!=",
            value: unescape(&text[at + operator.len()..])?,
        });
    }
    Some(terms)
}

fn split_terms(selector: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

fn find_operator(term: &str) -> Option<(usize, &'static str)> {
    term.char_indices().find_map(|(i, _)| {
        ["!=", "==", "="]
            .into_iter()
            .find(|operator| term[i..].starts_with(operator))
            .map(|operator| (i, operator))
    })
}

/// `fields.UnescapeValue`: `\\`, `\,` and `\=` are the only escapes; a bare `,` or `=` is an error.
fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}
