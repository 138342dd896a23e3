//! Tokens: issue and invalidate them.

use core::time::Duration;

use lambda::HttpEvent;
use protocol::{Subscriber, Timestamp};
use serde::Deserialize;
use serde_json::{Number, json};

use super::{Answer, body, no_content, ok};
use crate::{Api, problem::Problem};

/// The lifetime of a token in seconds: the default, and the maximum.
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

/// Handles `/v1/tokens/invalidate`. The response is the same if no such token exists. Afterwards the token authorizes
/// nothing.
///
/// The body names the token itself, or the `jti` of a signed token together with the latest time at which a token with that
/// `jti` expires.
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
            let expires_at = Timestamp::parse_end(&expires_at)
                .ok_or_else(|| Problem::invalid("`expires-at` must be an RFC 3339 time"))?;
            api.invalidate_jti(&jti, expires_at).await?;
        }
        _ => {
            return Err(Problem::invalid(
                "set either `token`, or `jti` and `expires-at` and optionally `issuer`",
            ));
        }
    }
    Ok(no_content())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Mint {
    // A `Number`, because some JSON encoders write 600.0 for a whole number. The WebSocket accepts that too.
    expires_in: Option<Number>,
}

/// Handles `…/subscribers/{s}/tokens`.
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
            let minted = api.issue_token(subscriber, lasting).await?;
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
