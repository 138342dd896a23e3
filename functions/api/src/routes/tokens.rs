//! Tokens: issuing and invalidating.

use core::time::Duration;

use lambda::HttpEvent;
use protocol::Subscriber;
use serde::Deserialize;
use serde_json::json;
use service::ports::TokenHash;

use super::{Answer, body, no_content, ok};
use crate::{Api, problem::Problem};

/// How many seconds a token lasts if the caller does not say, and at most.
const LASTING: u64 = 60 * 60;
const LASTING_AT_MOST: u64 = 30 * 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidate {
    token: String,
}

/// `/v1/tokens/invalidate`: the same answer whether or not there was such a token, it authorises nothing afterwards.
pub(super) async fn route(api: &Api, event: &HttpEvent) -> Answer {
    if event.method() != "POST" {
        return Err(Problem::method_not_allowed("POST"));
    }
    let Invalidate { token } = body(event)?;
    api.invalidate(&TokenHash::of(&token)).await?;
    Ok(no_content())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Mint {
    expires_in: Option<u64>,
}

/// `…/subscribers/{s}/tokens`
pub(super) async fn of_subscriber(api: &Api, event: &HttpEvent, subscriber: &Subscriber) -> Answer {
    match event.method() {
        "POST" => {
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
        "DELETE" => {
            api.invalidate_all(subscriber).await?;
            Ok(no_content())
        }
        _ => Err(Problem::method_not_allowed("POST, DELETE")),
    }
}
