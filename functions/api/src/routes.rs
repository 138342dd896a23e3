//! Routes requests to their handlers.

mod channels;
mod subscribers;
mod tokens;

use std::collections::BTreeMap;

use lambda::HttpEvent;
use protocol::{
    ChannelId, ChannelKey, Domain, Json, Subscriber, SubscriberId, json::is_well_formed,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Api, problem::Problem};

type Answer = Result<Value, Problem>;

/// Answers a request.
pub(crate) async fn route(api: &Api, event: &HttpEvent) -> Answer {
    // API Gateway has decoded the path once. Decoding it again would let one resource have several paths. A percent sign
    // that is left is in no word of a path and in no id.
    let path = event.path();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    match segments.as_slice() {
        ["v1", "tokens", "invalidate"] => tokens::route(api, event).await,
        ["v1", "domains", domain, "subscribers", id, rest @ ..] => {
            let subscriber = subscriber(domain, id)?;
            subscribers::route(api, event, &subscriber, rest).await
        }
        ["v1", "domains", domain, "channels", id, rest @ ..] => {
            let channel = ChannelKey {
                domain: Domain::parse(domain)?,
                id: ChannelId::parse(id)?,
            };
            channels::route(api, event, &channel, rest).await
        }
        _ => Err(nothing_here()),
    }
}

fn nothing_here() -> Problem {
    Problem::not_found("no such path")
}

fn subscriber(domain: &str, id: &str) -> Result<Subscriber, Problem> {
    Ok(Subscriber {
        domain: Domain::parse(domain)?,
        id: SubscriberId::parse(id)?,
    })
}

/// Parses the body as a JSON object. An absent body is an empty object. Bodies that would be malformed on the WebSocket are
/// invalid here too: deep nesting, lone surrogates, and `null` for a field that may only be absent.
fn body<T: DeserializeOwned>(event: &HttpEvent) -> Result<T, Problem> {
    let text = event
        .body()
        .ok_or_else(|| Problem::invalid("the body is not UTF-8"))?;
    let text = if text.trim().is_empty() { "{}" } else { &text };
    if !is_well_formed(text) {
        return Err(Problem::invalid(
            "the body is nested too deeply or has a lone surrogate",
        ));
    }
    // serde alone would accept an array as a struct, and null as an option.
    let fields: BTreeMap<String, Json> = serde_json::from_str(text)
        .map_err(|_| Problem::invalid("the body is not one JSON object"))?;
    for (name, value) in &fields {
        // The content of a message may be any JSON, including null.
        if value.as_str() == "null" && name != "content" {
            return Err(Problem::invalid(format!(
                "`{name}` is null: set a value or omit the field"
            )));
        }
    }
    // Error texts of serde quote wrongly typed values. They cannot quote a token, because a token is a string in a string
    // field.
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, what) = (error.path().to_string(), error.into_inner());
        Problem::invalid(match path.as_str() {
            "." => format!("the body: {what}"),
            field => format!("`{field}`: {what}"),
        })
    })
}

/// A JSON object with the exact text that the caller sent.
#[derive(Deserialize)]
#[serde(try_from = "Json")]
struct Object(Json);

impl TryFrom<Json> for Object {
    type Error = &'static str;

    fn try_from(json: Json) -> Result<Self, Self::Error> {
        if json.as_str().starts_with('{') {
            Ok(Self(json))
        } else {
            Err("must be an object")
        }
    }
}

fn ok(status: u16, body: &Value) -> Value {
    answer(status, body.to_string())
}

/// Returns a response with a JSON body. JSON from subscribers keeps its exact text.
fn json_text(status: u16, body: &impl Serialize) -> Value {
    answer(status, serde_json::to_string(body).unwrap_or_default())
}

fn answer(status: u16, body: String) -> Value {
    json!({
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store"},
        "body": body,
    })
}

fn no_content() -> Value {
    json!({"statusCode": 204})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[expect(dead_code, reason = "the test only inspects parse errors")]
    struct Fields {
        from: Option<SubscriberId>,
        expires_in: Option<serde_json::Number>,
    }

    #[test]
    fn body_error_names_its_field() {
        for (text, expected) in [
            (r#"{"expires-in":"x"}"#, "`expires-in`: invalid type"),
            (r#"{"from":""}"#, "`from`: "),
            (r#"{"other":1}"#, "unknown field `other`"),
            ("[]", "the body is not one JSON object"),
        ] {
            let event: HttpEvent = serde_json::from_value(json!({
                "rawPath": "/",
                "requestContext": {"http": {"method": "POST"}},
                "body": text,
            }))
            .unwrap();
            let problem = format!("{:?}", body::<Fields>(&event).unwrap_err());
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains("f64"), "{problem}");
        }
    }
}
