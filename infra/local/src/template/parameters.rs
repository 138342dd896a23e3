//! Parameters of a template.

use serde_json::Value;

use super::values::scalar;

/// Returns the value of a parameter: the given one, or its default.
pub(super) fn parameter(
    name: &str,
    declaration: &Value,
    given: Option<&String>,
) -> Result<Value, String> {
    let text = given
        .cloned()
        .or_else(|| declaration.get("Default").and_then(scalar))
        .ok_or_else(|| {
            format!("the parameter `{name}` has no default; set it with --parameter {name}=VALUE")
        })?;
    if let Some(allowed) = declaration.get("AllowedValues").and_then(Value::as_array) {
        let allowed: Vec<_> = allowed.iter().filter_map(scalar).collect();
        if !allowed.contains(&text) {
            return Err(format!(
                "the parameter `{name}` cannot be `{text}`; allowed values are {}",
                allowed.join(", ")
            ));
        }
    }
    let kind = declaration
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or("String");
    if kind == "CommaDelimitedList" || kind.starts_with("List<") {
        return Ok(text.split(',').map(str::trim).map(Value::from).collect());
    }
    Ok(text.into())
}
