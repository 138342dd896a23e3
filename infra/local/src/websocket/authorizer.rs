//! Reads the response of a Lambda authorizer: the identity of a client, or the reason for its refusal.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::event::Asked;
use crate::lambda::Invocation;

/// "Lambda authorizer result size: 8 KB", API Gateway quotas page.
const LARGEST_ANSWER: usize = 8 * 1024;

/// The decision of an authorizer.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is allowed. Contains `principalId` and the context, all as strings.
    Allowed(BTreeMap<String, String>),
    /// The authorizer failed with the error `Unauthorized`. The client gets 401.
    Unauthorized,
    /// The policy does not allow the connection. The client gets 403.
    Denied,
    /// The authorizer crashed, took too long, or returned an invalid response. The client gets 500.
    Broken(String),
}

/// Returns true if every identity source is present and not empty. Otherwise the authorizer is not invoked.
#[must_use]
pub fn has_identity(sources: &[String], asked: &Asked) -> bool {
    sources.iter().all(|source| {
        let value = if let Some(name) = source.strip_prefix("route.request.header.") {
            asked
                .headers
                .iter()
                .find(|(sent, _)| sent.eq_ignore_ascii_case(name))
                .and_then(|(_, values)| values.last())
        } else if let Some(name) = source.strip_prefix("route.request.querystring.") {
            asked.query.get(name).and_then(|values| values.last())
        } else {
            // The context is always present. Stages have no variables here.
            return source.starts_with("context.");
        };
        value.is_some_and(|value| !value.is_empty())
    })
}

/// Returns the decision for `method_arn` from the outcome of an authorizer's invocation.
#[must_use]
pub fn verdict(invocation: &Invocation, method_arn: &str) -> Verdict {
    match invocation {
        Invocation::Answer(answer) if answer.len() > LARGEST_ANSWER => {
            Verdict::Broken("the response is larger than 8 KB".to_owned())
        }
        Invocation::Answer(answer) => match serde_json::from_slice::<Answer>(answer) {
            Ok(answer) => answer.verdict(method_arn),
            Err(error) => Verdict::Broken(format!(
                "the response is not that of an authorizer: {error}"
            )),
        },
        Invocation::FunctionError(error) => {
            let message = serde_json::from_slice::<Value>(error)
                .ok()
                .and_then(|error| error.get("errorMessage")?.as_str().map(str::to_owned))
                .unwrap_or_default();
            if message == "Unauthorized" {
                Verdict::Unauthorized
            } else {
                Verdict::Broken(format!("the function failed: {message}"))
            }
        }
        Invocation::TimedOut | Invocation::Late => {
            Verdict::Broken("the function took too long".to_owned())
        }
        Invocation::Throttled => Verdict::Broken("the function was throttled".to_owned()),
        Invocation::NoSuchFunction => {
            Verdict::Broken("the template has no such function".to_owned())
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    principal_id: String,
    policy_document: Policy,
    #[serde(default)]
    context: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    statement: OneOrMany<Statement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: Effect,
    action: OneOrMany<String>,
    resource: OneOrMany<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::Many(many) => many,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

impl Answer {
    fn verdict(self, method_arn: &str) -> Verdict {
        let applies = |statement: &&Statement| {
            let action =
                |pattern: &String| matches("execute-api:invoke", &pattern.to_ascii_lowercase());
            statement.action.as_slice().iter().any(action)
                && statement
                    .resource
                    .as_slice()
                    .iter()
                    .any(|pattern| matches(method_arn, pattern))
        };
        let mut effects = self
            .policy_document
            .statement
            .as_slice()
            .iter()
            .filter(applies)
            .peekable();
        // As in IAM: without a matching statement the result is a denial, and one Deny overrides every Allow.
        if effects.peek().is_none() || effects.any(|statement| statement.effect == Effect::Deny) {
            return Verdict::Denied;
        }
        let mut context = BTreeMap::new();
        for (name, value) in self.context {
            // Sources contradict each other on the types of numbers and booleans. All agree on strings.
            let text = match value {
                Value::String(text) => text,
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null => continue,
                Value::Object(_) | Value::Array(_) => {
                    return Verdict::Broken(format!(
                        "the context has an object or array in `{name}`"
                    ));
                }
            };
            context.insert(name, text);
        }
        context.insert("principalId".to_owned(), self.principal_id);
        Verdict::Allowed(context)
    }
}

/// Matches IAM's wildcards: `*` matches any text, `?` any character.
fn matches(text: &str, pattern: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = chars.as_str();
            text.char_indices()
                .any(|(at, _)| text.get(at..).is_some_and(|tail| matches(tail, rest)))
                || matches("", rest)
        }
        Some(wanted) => {
            let mut letters = text.chars();
            letters
                .next()
                .is_some_and(|letter| wanted == '?' || letter == wanted)
                && matches(letters.as_str(), chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:localws001/prod/$connect";

    fn policy(effect: &str, resource: &str) -> Value {
        json!({"Version": "2012-10-17", "Statement": [
            {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
        ]})
    }

    fn check(answer: &Value, expected: &Verdict) {
        let invocation = Invocation::Answer(Bytes::from(answer.to_string()));
        assert_eq!(&verdict(&invocation, ARN), expected, "{answer}");
    }

    #[test]
    fn context_values_become_strings() {
        let context =
            json!({"domain": "example", "level": 3, "rate": 0.5, "demo": true, "none": null});
        check(
            &json!({"principalId": "alice", "policyDocument": policy("Allow", ARN), "context": context}),
            &Verdict::Allowed(BTreeMap::from(
                [
                    ("principalId", "alice"),
                    ("domain", "example"),
                    ("level", "3"),
                    ("rate", "0.5"),
                    ("demo", "true"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            )),
        );
    }

    #[test]
    fn policy_follows_iam_rules() {
        let allowed =
            Verdict::Allowed(BTreeMap::from([("principalId".to_owned(), "a".to_owned())]));
        let answer = |policy: Value| json!({"principalId": "a", "policyDocument": policy});
        for resource in [
            "*",
            "arn:aws:execute-api:*",
            "arn:aws:execute-api:*:*:*/prod/*",
            "arn:*/prod/?connect",
        ] {
            check(&answer(policy("Allow", resource)), &allowed);
        }
        check(&answer(policy("Deny", "*")), &Verdict::Denied);
        check(
            &answer(policy("Allow", "arn:aws:execute-api:*:*:*/dev/*")),
            &Verdict::Denied,
        );
        check(&answer(json!({"Statement": []})), &Verdict::Denied);
        let single = json!({"Statement": {"Action": ["execute-api:*"], "Effect": "Allow", "Resource": ["*"]}});
        check(&answer(single), &allowed);
        let both = json!({"Statement": [
            {"Action": "*", "Effect": "Allow", "Resource": "*"}, {"Action": "*", "Effect": "Deny", "Resource": "*"}
        ]});
        check(&answer(both), &Verdict::Denied);
    }

    #[test]
    fn invalid_response_is_broken() {
        let broken = |invocation| matches!(verdict(&invocation, ARN), Verdict::Broken(_));
        assert!(broken(Invocation::Answer(Bytes::from("null"))));
        assert!(broken(Invocation::Answer(Bytes::from(
            r#"{"isAuthorized":true}"#
        ))));
        let object = json!({"principalId": "a", "policyDocument": policy("Allow", "*"), "context": {"x": {}}});
        assert!(broken(Invocation::Answer(Bytes::from(object.to_string()))));
        let large =
            json!({"principalId": "a".repeat(9_000), "policyDocument": policy("Allow", "*")});
        assert!(broken(Invocation::Answer(Bytes::from(large.to_string()))));
        assert!(broken(Invocation::TimedOut));
        assert!(broken(Invocation::FunctionError(Bytes::from(
            r#"{"errorMessage":"boom"}"#
        ))));
        assert_eq!(
            verdict(
                &Invocation::FunctionError(Bytes::from(r#"{"errorMessage":"Unauthorized"}"#)),
                ARN
            ),
            Verdict::Unauthorized
        );
    }

    #[test]
    fn every_identity_source_is_required() {
        let asked = Asked {
            headers: BTreeMap::from([("Authorization".to_owned(), vec!["x".to_owned()])]),
            query: crate::query::parse("token=t&empty="),
        };
        let check = |sources: &[&str]| {
            let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
            has_identity(&sources, &asked)
        };
        assert!(check(&[]));
        assert!(check(&[
            "route.request.querystring.token",
            "route.request.header.authorization"
        ]));
        assert!(!check(&[
            "route.request.querystring.token",
            "route.request.header.X-Other"
        ]));
        assert!(!check(&["route.request.querystring.empty"]));
    }
}
