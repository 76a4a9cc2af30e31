//! Label and field selectors, as far as the sample cluster understands them: equality.

use serde_json::Value;

use super::status::Failure;

/// One requirement: where, whether equal or not, and what.
#[derive(Debug, Clone)]
struct Requirement {
    place: Place,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone)]
enum Place {
    Label(String),
    Field(String),
}

/// What an object must meet; empty is met by all.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector(Vec<Requirement>);

impl Selector {
    /// From the `labelSelector` and `fieldSelector` of a query.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Failure> {
        let mut requirements = Vec::new();
        for (text, place) in [
            (labels, Place::Label as fn(String) -> Place),
            (fields, Place::Field),
        ] {
            for term in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
                let (key, equal, value) = split(term).ok_or_else(|| {
                    Failure::bad_request(
                        "the sample cluster selects by key=value and key!=value only",
                    )
                })?;
                requirements.push(Requirement {
                    place: place(key.trim().to_owned()),
                    equal,
                    value: value.trim().to_owned(),
                });
            }
        }
        Ok(Self(requirements))
    }

    /// Whether the object meets it.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let found = match &requirement.place {
                Place::Label(key) => object["metadata"]["labels"].get(key),
                Place::Field(path) => path
                    .split('.')
                    .try_fold(object, |value, segment| value.get(segment)),
            };
            let text = found.and_then(Value::as_str).unwrap_or("");
            (text == requirement.value) == requirement.equal
        })
    }
}

fn split(term: &str) -> Option<(&str, bool, &str)> {
    if let Some((key, value)) = term.split_once("!=") {
        return Some((key, false, value));
    }
    let (key, value) = term.split_once('=')?;
    Some((key, true, value.strip_prefix('=').unwrap_or(value)))
}
