//! Content negotiation for bodies that must be inspected.

const JSON: &str = "application/json";

/// An `Accept` that asks for the same things in JSON: protobuf, CBOR, YAML and other types are left out; where
/// nothing remains, they are asked for as JSON. Never empty.
pub fn accept_for_inspection(accept: &str) -> String {
    let clauses = || {
        accept
            .split(',')
            .map(str::trim)
            .filter(|clause| !clause.is_empty())
    };
    let media_type = |clause: &str| {
        clause
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let kept: Vec<&str> = clauses()
        .filter(|clause| matches!(media_type(clause).as_str(), JSON | "application/*" | "*/*"))
        .collect();
    if !kept.is_empty() {
        return kept.join(",");
    }
    let turned: Vec<String> = clauses()
        .filter_map(|clause| clause.split_once(';'))
        .map(|(_, parameters)| format!("{JSON};{}", parameters.trim()))
        .collect();
    if turned.is_empty() {
        JSON.to_owned()
    } else {
        turned.join(",")
    }
}
