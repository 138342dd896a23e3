//! `Policies` of a function: statements as IAM would read them.

use serde_json::Value;

use super::Statement;
use super::intrinsics::scalar;
use super::resources::Resource;

/// The statements of a function's policies; none if its role is another's, or some policies are not written out (a
/// managed policy, a template of SAM's): what it may do cannot be told then. Without either it has SAM's own role, which
/// may write logs and nothing else.
pub(super) fn statements(resource: &Resource<'_>) -> Result<Option<Vec<Statement>>, String> {
    // Beside a role SAM takes no notice of policies. One that cannot be named here is a role all the same.
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
    let fields = statement.as_object().ok_or("a statement is no mapping")?;
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!(
            "Policies: the local gateway cannot honour {name} of a statement"
        ));
    }
    if fields.get("Effect").and_then(Value::as_str) != Some("Allow") {
        return Err(
            "Policies: the local gateway honours statements with Effect: Allow only".to_owned(),
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

/// IAM takes one or a list.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

impl Statement {
    /// Whether it allows `action` on `resource`.
    #[must_use]
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let fits = |patterns: &[String], text: &str| patterns.iter().any(|it| matches(it, text));
        fits(&self.actions, action) && fits(&self.resources, resource)
    }
}

/// `*` stands for any text, as in IAM; `?` is in no template that runs here.
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
    fn a_star_stands_for_any_text() {
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
