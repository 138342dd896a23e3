//! Route selection: chooses the route key of a message.
//!
//! The expression is literal text that contains `${request.body.path}`, or `$request.body.path` alone. `\$` is a dollar
//! sign. A missing path evaluates to the empty string. A result that equals no route key selects `$default`.

use std::collections::BTreeMap;

use serde_json::Value;

const DEFAULT: &str = "$default";

/// Returns the route key and function for `body`, or `None` if no route matches and there is no `$default`.
#[must_use]
pub fn select<'a>(
    expression: &str,
    routes: &'a BTreeMap<String, String>,
    body: &str,
) -> Option<(&'a str, &'a str)> {
    let key = evaluate(expression, body);
    routes
        .get_key_value(key.as_str())
        // A message cannot select these two routes. Only API Gateway itself invokes them.
        .filter(|(key, _)| !matches!(key.as_str(), "$connect" | "$disconnect"))
        .or_else(|| routes.get_key_value(DEFAULT))
        .map(|(key, function)| (key.as_str(), function.as_str()))
}

fn evaluate(expression: &str, body: &str) -> String {
    if !expression.contains("request.body") {
        return expression.replace("\\$", "$");
    }
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    if let Some(variable) = expression.strip_prefix('$')
        && variable.starts_with("request.")
    {
        return variable_of(variable, &body);
    }
    let mut key = String::new();
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once("${") {
        key.push_str(before);
        let (variable, after) = after.split_once('}').unwrap_or((after, ""));
        key.push_str(&variable_of(variable, &body));
        rest = after;
    }
    key + &rest.replace("\\$", "$")
}

fn variable_of(variable: &str, body: &Value) -> String {
    let Some(path) = variable.strip_prefix("request.body.") else {
        return String::new();
    };
    let found = path.split('.').try_fold(body, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    });
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, body: &str, expected: Option<&str>) {
        let routes = ["$connect", "$default", "send", "a/b", "7"]
            .map(|key| (key.to_owned(), "function".to_owned()));
        let routes = BTreeMap::from(routes);
        let key = select(expression, &routes, body).map(|(key, _)| key);
        assert_eq!(key, expected, "{expression} of {body}");
    }

    #[test]
    fn body_selects_route() {
        check("$request.body.action", r#"{"action":"send"}"#, Some("send"));
        check(
            "${request.body.action}",
            r#"{"action":"send"}"#,
            Some("send"),
        );
        check(
            "$request.body.x.action",
            r#"{"x":{"action":"send"}}"#,
            Some("send"),
        );
        check("$request.body.n", r#"{"n":7}"#, Some("7"));
        check(
            "${request.body.x}/${request.body.y}",
            r#"{"x":"a","y":"b"}"#,
            Some("a/b"),
        );
    }

    #[test]
    fn unmatched_message_goes_to_default() {
        check(
            "$request.body.action",
            r#"{"action":"other"}"#,
            Some("$default"),
        );
        check(
            "$request.body.action",
            r#"{"action":"$connect"}"#,
            Some("$default"),
        );
        check("$request.body.action", "not json", Some("$default"));
        check("$request.body.action", "", Some("$default"));
        check("\\$default", r#"{"action":"send"}"#, Some("$default"));
        assert_eq!(select("\\$default", &BTreeMap::new(), "{}"), None);
    }
}
