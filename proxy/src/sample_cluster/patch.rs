//! Merge patches (RFC 7386), and strategic ones as far as one merge key goes.

use serde_json::{Map, Value};

/// How to treat lists of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    /// A list replaces the list.
    Merge,
    /// Lists of objects that all have a `name` are merged by it, and directives (`$patch`, …) are understood or dropped.
    Strategic,
}

/// Applies a patch in place.
pub(super) fn apply(target: &mut Value, patch: &Value, strategy: Strategy) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let object = target.as_object_mut().expect("made an object above");
    for (key, change) in changes {
        let directive = strategy == Strategy::Strategic && key.starts_with('$');
        if directive {
            continue;
        }
        if change.is_null() {
            object.remove(key);
            continue;
        }
        let place = object.entry(key.clone()).or_insert(Value::Null);
        match (place.as_array_mut(), change.as_array()) {
            (Some(have), Some(want))
                if strategy == Strategy::Strategic && named(have) && named(want) =>
            {
                merge_named(have, want);
            }
            _ => apply(place, change, strategy),
        }
    }
}

fn named(list: &[Value]) -> bool {
    list.iter().all(|item| item["name"].is_string())
}

fn merge_named(have: &mut Vec<Value>, want: &[Value]) {
    for change in want {
        let same = |item: &&mut Value| item["name"] == change["name"];
        if change["$patch"] == "delete" {
            have.retain(|item| item["name"] != change["name"]);
        } else if let Some(item) = have.iter_mut().find(same) {
            apply(item, change, Strategy::Strategic);
        } else {
            have.push(change.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_removes_what_is_null_and_replaces_lists() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        apply(
            &mut target,
            &json!({"a": {"b": null}, "l": [3]}),
            Strategy::Merge,
        );
        assert_eq!(target, json!({"a": {"c": 2}, "l": [3]}));
    }

    #[test]
    fn strategic_merges_lists_by_name() {
        let mut target =
            json!({"containers": [{"name": "a", "image": "1", "port": 80}, {"name": "b"}]});
        let patch = json!({
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}],
        });
        apply(&mut target, &patch, Strategy::Strategic);
        assert_eq!(
            target,
            json!({"containers": [{"name": "a", "image": "2", "port": 80}]})
        );
    }
}
