//! Helpers to read JSON values.

use serde_json::{Map, Value};

/// Returns the type of a resource, or an empty text if it has none.
pub(super) fn resource_type(resource: &Value) -> &str {
    resource
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Converts a text, number or boolean to a text. Returns `None` for other values.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Returns the key and value of a map that has exactly one entry.
pub(super) fn single(entries: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut entries_left = entries.iter();
    match (entries_left.next(), entries_left.next()) {
        (Some((key, value)), None) => Some((key, value)),
        _ => None,
    }
}
