//! The published JSON Schema of events, generated from the types.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::event::{Envelope, FORMAT_VERSION, Kind};

/// The JSON Schema (draft 2020-12) of an event, as pretty JSON with a final line break. Kinds that are not listed
/// are allowed with any fields, as readers have to expect.
pub fn json_schema() -> String {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let envelope = generator.subschema_for::<Envelope>();
    let kinds: Vec<Value> = Kind::schemas(&mut generator)
        .into_iter()
        .map(|(name, fields)| {
            json!({
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": fields,
            })
        })
        .collect();
    let mut definitions = generator.take_definitions(true);
    let mut sorted = Map::new();
    let mut names: Vec<String> = definitions.keys().cloned().collect();
    names.sort();
    for name in names {
        if let Some(definition) = definitions.remove(&name) {
            sorted.insert(name, definition);
        }
    }
    let mut all = vec![serde_json::to_value(envelope).expect("a schema is JSON")];
    all.extend(kinds);
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Audit event, format version {FORMAT_VERSION}"),
        "type": "object",
        "properties": {"kind": {"type": "string", "description": "Kind of event; unknown kinds are to be kept"}},
        "required": ["kind"],
        "allOf": all,
        "$defs": sorted,
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}
