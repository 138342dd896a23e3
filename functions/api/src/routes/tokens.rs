//! Tokens: issuing and invalidating.

use core::time::Duration;

use lambda::HttpEvent;
use protocol::{Subscriber, Timestamp};
use serde::Deserialize;
use serde_json::{Number, json};

use super::{Answer, body, no_content, ok};
use crate::{Api, problem::Problem};

/// How many seconds a token lasts if the caller does not say, and at most.
const LASTING: f64 = 60.0 * 60.0;
const LASTING_AT_MOST: f64 = 30.0 * 24.0 * 60.0 * 60.0;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Invalidate {
    token: Option<String>,
    issuer: Option<String>,
    jti: Option<String>,
    expires_at: Option<String>,
}

/// `/v1/tokens/invalidate`: the same answer whether or not there was such a token, it authorises nothing afterwards.
///
/// By the token, or by the id that its issuer gave it, together with when a token with that id ends at the latest.
pub(super) async fn route(api: &Api, event: &HttpEvent) -> Answer {
    if event.method() != "POST" {
        return Err(Problem::method_not_allowed("POST"));
    }
    match body(event)? {
        Invalidate {
            token: Some(token),
            issuer: None,
            jti: None,
            expires_at: None,
        } => api.invalidate_bearer(&token).await?,
        Invalidate {
            token: None,
            issuer,
            jti: Some(jti),
            expires_at: Some(expires_at),
        } => {
            let jti = api
                .environment
                .jti(issuer.as_deref(), &jti)
                .ok_or_else(|| {
                    Problem::invalid(
                        "no token with this `issuer` and `jti` is ever accepted: see JWT_ISSUER",
                    )
                })?;
            let expires_at = Timestamp::parse(&expires_at)
                .ok_or_else(|| Problem::invalid("`expires-at` is no RFC 3339 time"))?;
            api.invalidate_jti(&jti, expires_at).await?;
        }
        _ => {
            return Err(Problem::invalid(
                "give either `token`, or `jti` with `expires-at` and perhaps `issuer`",
            ));
        }
    }
    Ok(no_content())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Mint {
    // As on the WebSocket a whole number may be written in any way: some encoders write 600.0.
    expires_in: Option<Number>,
}

/// `…/subscribers/{s}/tokens`
pub(super) async fn of_subscriber(api: &Api, event: &HttpEvent, subscriber: &Subscriber) -> Answer {
    match event.method() {
        "POST" => {
            let Mint { expires_in } = body(event)?;
            let seconds = expires_in.as_ref().and_then(Number::as_f64);
            let seconds = seconds.unwrap_or(LASTING);
            if !(1.0..=LASTING_AT_MOST).contains(&seconds) || seconds.fract() != 0.0 {
                return Err(Problem::invalid(
                    "`expires-in` must be 1 to 2592000 whole seconds",
                ));
            }
            let lasting = Duration::from_secs_f64(seconds);
            let minted = api.mint(subscriber, lasting).await?;
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
