//! The Invoke API, and endpoints under `/_local/` that show instances, used permissions and faults to tests and
//! developers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::wire::{error_json, request_id};
use super::{Invocation, Lambda};
use crate::fault::FaultError;
use crate::guard;
use crate::listen::{self, BodyError};
use crate::server::{self, Answer};

/// The largest payloads: 6 MB synchronous, 1 MB asynchronous (Lambda quotas, 2026).
const LARGEST_REQUEST: usize = 6 * 1024 * 1024;
const LARGEST_EVENT: usize = 1024 * 1024;
/// The largest body that sets a fault, longer than any `KIND=RATE`.
const LONGEST_FAULT: usize = 1024;

/// Answers one request. `lambda` is `None` while the gateway shuts down.
pub(super) async fn handle(lambda: Option<Lambda>, request: Request<Incoming>) -> Answer {
    let Some(lambda) = lambda else {
        return refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceException",
            "shutting down",
        );
    };
    if guard::is_from_a_page(request.headers()) {
        return refused(
            StatusCode::FORBIDDEN,
            "AccessDeniedException",
            "web pages may not invoke functions",
        );
    }
    let mut answer = route(&lambda, request).await;
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
    answer
}

async fn route(lambda: &Lambda, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if path == "/_local/functions" && request.method() == Method::GET {
        return instances(lambda);
    }
    if path == "/_local/rights" && request.method() == Method::GET {
        return listing(&lambda.inner.rights.used());
    }
    if path == "/_local/faults" {
        return faults(lambda, request).await;
    }
    let name = path
        .strip_prefix("/2015-03-31/functions/")
        .and_then(|rest| rest.strip_suffix("/invocations"))
        .and_then(|name| percent_decode_str(name).decode_utf8().ok());
    match name {
        Some(name) if request.method() == Method::POST => {
            let name = name.into_owned();
            invoke(lambda, &name, request).await
        }
        _ => refused(
            StatusCode::NOT_FOUND,
            "UnknownOperationException",
            "the local gateway's Lambda supports only Invoke",
        ),
    }
}

async fn invoke(lambda: &Lambda, name: &str, request: Request<Incoming>) -> Answer {
    let kind = header(request.headers(), "x-amz-invocation-type")
        .unwrap_or("RequestResponse")
        .to_owned();
    let most = if kind == "Event" {
        LARGEST_EVENT
    } else {
        LARGEST_REQUEST
    };
    let (head, body) = request.into_parts();
    let payload = match listen::body(body, most).await {
        Ok(payload) if payload.is_empty() => Bytes::from_static(b"{}"),
        Ok(payload) => payload,
        Err(BodyError::TooLarge) => {
            let message = format!(
                "Request must be smaller than {most} bytes for the InvokeFunction operation"
            );
            return refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestTooLargeException",
                &message,
            );
        }
        Err(BodyError::Broken) => return invalid("the body was cut off"),
    };
    let Some(pool) = lambda.pool(name) else {
        let message = format!("Function not found: {name}");
        return refused(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
    };
    let rights = &lambda.inner.rights;
    if let Err(denied) = rights.check(&head.headers, "lambda:InvokeFunction", &pool.function().arn)
    {
        let message = denied.to_string();
        return refused(StatusCode::FORBIDDEN, "AccessDeniedException", &message);
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&payload) {
        return invalid(&format!("Could not parse request body into json: {error}"));
    }
    match kind.as_str() {
        "RequestResponse" => answered(lambda, name, payload).await,
        "Event" => {
            lambda.invoke_event(name, payload);
            server::with_type(StatusCode::ACCEPTED, "application/json", "")
        }
        "DryRun" => server::with_type(StatusCode::NO_CONTENT, "application/json", ""),
        _ => refused(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            "X-Amz-Invocation-Type must be RequestResponse, Event or DryRun",
        ),
    }
}

async fn answered(lambda: &Lambda, name: &str, payload: Bytes) -> Answer {
    let (body, failed) = match lambda.invoke(name, payload, None).await {
        Invocation::Answer(body) => (body, false),
        Invocation::FunctionError(error) => (error, true),
        // The caller set no limit, so `Late` cannot occur. It is treated like a timeout.
        Invocation::TimedOut | Invocation::Late => {
            let limit = lambda
                .pool(name)
                .map_or(0.0, |pool| pool.function().timeout.as_secs_f64());
            let message = format!("{} Task timed out after {limit:.2} seconds", request_id());
            (error_json("Sandbox.Timedout", &message), true)
        }
        Invocation::Throttled => {
            return refused(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequestsException",
                "Rate Exceeded.",
            );
        }
        Invocation::NoSuchFunction => {
            return refused(
                StatusCode::NOT_FOUND,
                "ResourceNotFoundException",
                "Function not found",
            );
        }
    };
    let mut answer = server::with_type(StatusCode::OK, "application/json", body);
    let headers = answer.headers_mut();
    headers.insert(
        "x-amz-executed-version",
        HeaderValue::from_static("$LATEST"),
    );
    if failed {
        headers.insert(
            "x-amz-function-error",
            HeaderValue::from_static("Unhandled"),
        );
    }
    answer
}

fn instances(lambda: &Lambda) -> Answer {
    let all: Vec<_> = lambda
        .inner
        .pools
        .values()
        .flat_map(|pool| pool.instances())
        .collect();
    listing(&all)
}

/// Returns how often each fault was applied. A PUT with a body such as `hang-post=1` first changes the rate of that
/// fault.
async fn faults(lambda: &Lambda, request: Request<Incoming>) -> Answer {
    let faults = &lambda.inner.faults;
    if request.method() == Method::PUT {
        let Ok(body) = listen::body(request.into_body(), LONGEST_FAULT).await else {
            return invalid("the body is too long or was cut off");
        };
        match String::from_utf8_lossy(&body).parse() {
            Ok(fault) => faults.set(fault),
            Err(error) => return invalid(&FaultError::to_string(&error)),
        }
    }
    listing(&faults.struck())
}

fn listing(all: &impl Serialize) -> Answer {
    match serde_json::to_vec(all) {
        Ok(body) => server::with_type(StatusCode::OK, "application/json", body),
        Err(error) => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServiceException",
            &error.to_string(),
        ),
    }
}

fn invalid(message: &str) -> Answer {
    refused(
        StatusCode::BAD_REQUEST,
        "InvalidRequestContentException",
        message,
    )
}

/// Builds an error response. The error's type is in a header, as in every REST-JSON service of AWS.
fn refused(status: StatusCode, error_type: &'static str, message: &str) -> Answer {
    let body = serde_json::json!({ "Type": "User", "message": message }).to_string();
    let mut answer = server::with_type(status, "application/json", body);
    answer
        .headers_mut()
        .insert("x-amzn-errortype", HeaderValue::from_static(error_type));
    answer
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
