//! The HTTP API: sends requests to functions as events of payload format 2.0, and returns their responses.

pub(crate) mod answer;
pub(crate) mod event;
mod route;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use self::event::Target;
use self::route::Match;
use crate::lambda::{Invocation, Lambda};
use crate::listen::{self, BodyError};
use crate::server::{self, Answer};
use crate::template::{ACCOUNT, HttpRoute};

/// "Payload size: 10 MB", HTTP API quotas page.
const LARGEST_BODY: usize = 10 * 1024 * 1024;
/// "Invocation payload: 6 MB each for request and response, synchronous", Lambda quotas page.
const LARGEST_EVENT: usize = 6 * 1024 * 1024;
/// "Maximum integration timeout: 30 seconds", HTTP API quotas page.
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP APIs of the template, behind one address. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpApi {
    routes: Arc<[HttpRoute]>,
    lambda: Lambda,
}

impl HttpApi {
    /// Creates the routes of the template with their functions in `lambda`.
    #[must_use]
    pub fn new(routes: Vec<HttpRoute>, lambda: Lambda) -> Self {
        Self {
            routes: routes.into(),
            lambda,
        }
    }

    /// Returns true if a route names this path or its beginning. `$default` and `/{proxy+}` do not count, as they match
    /// any path.
    #[must_use]
    pub fn names(&self, method: &Method, path: &str) -> bool {
        let found = route::find(&self.routes, method, &route::decoded(path));
        found.is_some_and(|found| {
            let path = found.route.path.as_str();
            path != "$default" && !(path.starts_with("/{") && path.ends_with("+}"))
        })
    }

    /// Answers a request. Returns `None` if no route matches.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Option<Answer> {
        let (parts, body) = request.into_parts();
        let path = route::decoded(parts.uri.path());
        let matched = route::find(&self.routes, &parts.method, &path)?;
        let body = match listen::body(body, LARGEST_BODY).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return Some(too_large()),
            Err(BodyError::Broken) => return Some(message(StatusCode::BAD_REQUEST, "Bad Request")),
        };
        // The event can exceed Lambda's limit even if the body is within the API's limit.
        let event = event(&matched, &path, &parts, &body, source);
        if event.len() > LARGEST_EVENT {
            return Some(too_large());
        }
        let function = &matched.route.function;
        let outcome = self
            .lambda
            .invoke(function, event, Some(INTEGRATION_TIMEOUT))
            .await;
        Some(match outcome {
            Invocation::Answer(answer) => answer::decode(&answer).unwrap_or_else(|problem| {
                tracing::warn!(function, problem, "the function's response is invalid");
                message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }),
            Invocation::FunctionError(_) | Invocation::TimedOut | Invocation::NoSuchFunction => {
                message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
            Invocation::Late | Invocation::Throttled => {
                message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
            }
        })
    }
}

/// Returns the event of a request. `path` is the decoded path.
fn event(matched: &Match<'_>, path: &str, parts: &Parts, body: &Bytes, source: IpAddr) -> Bytes {
    let stage = matched.route.stage.as_str();
    let path = match stage {
        "$default" => path.to_owned(),
        stage => format!("/{stage}{path}"),
    };
    let target = Target {
        account: ACCOUNT,
        api_id: &matched.route.api_id,
        stage,
        route_key: &matched.key(),
        path: &path,
        parameters: &matched.parameters,
    };
    event::encode(&target, parts, body, source)
}

fn too_large() -> Answer {
    message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
}

fn message(status: StatusCode, text: &str) -> Answer {
    server::json(status, format!(r#"{{"message":"{text}"}}"#))
}
