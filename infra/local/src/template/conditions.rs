//! Parameters, and the conditions that depend on them.

use serde_json::Value;

use super::intrinsics::{Scope, scalar, single};

impl Scope<'_> {
    /// Whether the condition `name` holds.
    pub(super) fn holds(&self, name: &str) -> Result<bool, String> {
        let condition = self
            .conditions
            .and_then(|conditions| conditions.get(name))
            .ok_or_else(|| format!("there is no condition `{name}`"))?;
        self.deeper(|| self.truth(condition))
    }

    fn truth(&self, condition: &Value) -> Result<bool, String> {
        let call = condition.as_object().and_then(single);
        match call {
            Some(("Condition", Value::String(name))) => self.holds(name),
            Some(("Fn::Equals", Value::Array(sides))) => match sides.as_slice() {
                [left, right] => Ok(scalar(&self.resolve(left)?) == scalar(&self.resolve(right)?)),
                _ => Err("Fn::Equals takes two values".to_owned()),
            },
            Some(("Fn::Not", Value::Array(inner))) => Ok(!self.all(inner)?),
            Some(("Fn::And", Value::Array(inner))) => self.all(inner),
            Some(("Fn::Or", Value::Array(inner))) => {
                for condition in inner {
                    if self.truth(condition)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Err(format!(
                "the local gateway cannot evaluate the condition {condition}"
            )),
        }
    }

    fn all(&self, conditions: &[Value]) -> Result<bool, String> {
        for condition in conditions {
            if !self.truth(condition)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The value of a parameter: what was given, or its default.
pub(super) fn parameter(
    name: &str,
    declaration: &Value,
    given: Option<&String>,
) -> Result<Value, String> {
    let text = given
        .cloned()
        .or_else(|| declaration.get("Default").and_then(scalar))
        .ok_or_else(|| {
            format!("the parameter `{name}` has no default; give it with --parameter {name}=VALUE")
        })?;
    if let Some(allowed) = declaration.get("AllowedValues").and_then(Value::as_array) {
        let allowed: Vec<_> = allowed.iter().filter_map(scalar).collect();
        if !allowed.contains(&text) {
            return Err(format!(
                "the parameter `{name}` cannot be `{text}`; it is one of {}",
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
