//! `Policies` of a function: reads the statements as IAM does.

use serde_json::Value;

use super::Statement;
use super::resource::Resource;
use super::values::scalar;

/// Returns the statements of a function's policies. Returns `None` if the permissions are not known from the template:
/// the function has its own `Role`, or a policy without statements (a managed policy or a SAM policy template). Without
/// `Role` and `Policies` the list is empty: SAM's default role may only write logs.
pub(super) fn statements(resource: &Resource<'_>) -> Result<Option<Vec<Statement>>, String> {
    // With a Role, SAM ignores Policies. A Role that cannot be resolved counts too.
    if resource.get("Role").map_or(true, |role| role.is_some()) {
        return Ok(None);
    }
    let policies = resource.get("Policies")?;
    let mut all = Vec::new();
    for policy in policies.as_ref().map(list).into_iter().flatten() {
        let Some(statements) = policy.get("Statement") else {
            return Ok(None);
        };
        for statement in list(statements) {
            all.push(read(statement)?);
        }
    }
    Ok(Some(all))
}

fn read(statement: &Value) -> Result<Statement, String> {
    let known = ["Action", "Effect", "Resource", "Sid"];
    let fields = statement
        .as_object()
        .ok_or("Policies: a statement is not a mapping")?;
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!(
            "Policies: the local gateway does not support {name} in a statement"
        ));
    }
    if fields.get("Effect").and_then(Value::as_str) != Some("Allow") {
        return Err(
            "Policies: the local gateway supports only statements with Effect: Allow".to_owned(),
        );
    }
    let texts = |name: &str| {
        let value = fields.get(name);
        value
            .map(list)
            .into_iter()
            .flatten()
            .filter_map(scalar)
            .collect()
    };
    Ok(Statement {
        id: fields.get("Sid").and_then(scalar),
        actions: texts("Action"),
        resources: texts("Resource"),
    })
}

/// Returns the entries of a value that is a list or a single entry. IAM accepts both.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

impl Statement {
    /// Returns true if the statement allows `action` on `resource`.
    #[must_use]
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let fits =
            |patterns: &[String], text: &str| patterns.iter().any(|pattern| matches(pattern, text));
        fits(&self.actions, action) && fits(&self.resources, resource)
    }
}

/// Returns true if `text` matches `pattern`. `*` matches any text, as in IAM. `?` is not supported.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_text() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a/*", "a/b/c", true),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/d", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
