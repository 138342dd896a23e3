//! From a path to what it does.

mod channels;
mod subscribers;
mod tokens;

use lambda::HttpEvent;
use percent_encoding::percent_decode_str;
use protocol::{ChannelId, ChannelKey, Domain, Subscriber, SubscriberId, json::is_well_formed};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Api, problem::Problem};

type Answer = Result<Value, Problem>;

/// Answers a request.
pub(crate) async fn route(api: &Api, event: &HttpEvent) -> Answer {
    let segments: Vec<String> = event
        .path()
        .trim_start_matches('/')
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    match path.as_slice() {
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
    Problem::not_found("there is nothing at this path")
}

fn subscriber(domain: &str, id: &str) -> Result<Subscriber, Problem> {
    Ok(Subscriber {
        domain: Domain::parse(domain)?,
        id: SubscriberId::parse(id)?,
    })
}

/// The body as JSON; an absent one as the empty object. What would be malformed on the WebSocket is so here: deep nesting,
/// lone surrogates.
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
    // A token stands where a string belongs, so what serde says of a wrong type cannot quote one.
    serde_json::from_str(text).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

fn ok(status: u16, body: &Value) -> Value {
    answer(status, body.to_string())
}

/// JSON written as text: what subscribers sent stays byte for byte.
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
