//! From a path to what it does.

use core::time::Duration;

use lambda::HttpEvent;
use percent_encoding::percent_decode_str;
use protocol::{Domain, Subscriber, SubscriberId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use service::ports::TokenHash;

use crate::{Api, problem::Problem};

type Answer = Result<Value, Problem>;

/// How long a token lasts if the caller does not say, and at most.
const LASTING: u64 = 60 * 60;
const LASTING_AT_MOST: u64 = 30 * 24 * 60 * 60;

/// Answers a request.
pub(crate) async fn route(api: &Api, event: &HttpEvent) -> Answer {
    let segments: Vec<String> = event
        .path()
        .trim_start_matches('/')
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (path.as_slice(), event.method()) {
        (["v1", "domains", domain, "subscribers", id, "tokens"], method) => {
            let subscriber = subscriber(domain, id)?;
            match method {
                "POST" => mint(api, &subscriber, event).await,
                "DELETE" => {
                    api.invalidate_all(&subscriber).await?;
                    Ok(no_content())
                }
                _ => Err(Problem::method_not_allowed("POST, DELETE")),
            }
        }
        (["v1", "tokens", "invalidate"], "POST") => invalidate(api, event).await,
        (["v1", "tokens", "invalidate"], _) => Err(Problem::method_not_allowed("POST")),
        (["v1", "domains", domain, "subscribers", id], "GET") => {
            let found = api.subscriber(&subscriber(domain, id)?).await?;
            Ok(ok(200, &found))
        }
        (["v1", "domains", _, "subscribers", _], _) => Err(Problem::method_not_allowed("GET")),
        (["v1", "domains", domain, "subscribers", id, "disconnect"], "POST") => {
            api.disconnect_all(&subscriber(domain, id)?).await?;
            Ok(no_content())
        }
        (["v1", "domains", _, "subscribers", _, "disconnect"], _) => {
            Err(Problem::method_not_allowed("POST"))
        }
        _ => Err(Problem::not_found("there is nothing at this path")),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Mint {
    expires_in: Option<u64>,
}

async fn mint(api: &Api, subscriber: &Subscriber, event: &HttpEvent) -> Answer {
    let Mint { expires_in } = body(event)?;
    let seconds = expires_in.unwrap_or(LASTING);
    if !(1..=LASTING_AT_MOST).contains(&seconds) {
        return Err(Problem::invalid(
            "`expires-in` must be 1 to 2592000 seconds",
        ));
    }
    let minted = api.mint(subscriber, Duration::from_secs(seconds)).await?;
    Ok(ok(
        201,
        &json!({"token": minted.token, "expires-at": minted.expires}),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidate {
    token: String,
}

/// The same answer whether or not there was such a token: it authorises nothing afterwards.
async fn invalidate(api: &Api, event: &HttpEvent) -> Answer {
    let Invalidate { token } = body(event)?;
    api.invalidate(&TokenHash::of(&token)).await?;
    Ok(no_content())
}

fn subscriber(domain: &str, id: &str) -> Result<Subscriber, Problem> {
    Ok(Subscriber {
        domain: Domain::parse(domain)?,
        id: SubscriberId::parse(id)?,
    })
}

/// The body as JSON; an absent one as the empty object.
fn body<T: DeserializeOwned>(event: &HttpEvent) -> Result<T, Problem> {
    let text = event
        .body()
        .ok_or_else(|| Problem::invalid("the body is not UTF-8"))?;
    let text = if text.trim().is_empty() { "{}" } else { &text };
    // serde's messages name fields and types; they quote nothing of a token, which is a string where a string belongs.
    serde_json::from_str(text).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

fn ok(status: u16, body: &Value) -> Value {
    json!({
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store"},
        "body": body.to_string(),
    })
}

fn no_content() -> Value {
    json!({"statusCode": 204})
}
