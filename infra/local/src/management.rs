//! `@connections`: functions post to connections, query them and close them.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::fault::{Faults, Kind};
use crate::ids;
use crate::listen::{self, BodyError};
use crate::query;
use crate::rights::Rights;
use crate::server::{self, Answer, Unanswered};
use crate::websocket::WebSockets;
use crate::websocket::event::Identity;
use crate::websocket::registry::{Closing, Connection, PostError};

/// "The data parameter … is limited to 128 KB", PostToConnection in the API reference.
const LARGEST_POST: usize = 128 * 1024;

/// How long a hanging POST hangs. Clients give up long before.
const HANG: std::time::Duration = std::time::Duration::from_secs(60);

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Returns true if a path belongs to `@connections` of any stage. Clients may percent-encode the `@`.
#[must_use]
pub fn is_management(path: &str) -> bool {
    segments(path)
        .nth(1)
        .is_some_and(|segment| segment == "@connections")
}

/// Answers a request to `/{stage}/@connections/{id}`. Checks the permission of the function, but not the signature.
///
/// # Errors
/// Fails if a fault withholds the response.
pub async fn answer(
    sockets: &WebSockets,
    faults: &Faults,
    rights: &Rights,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    let mut answer = decide(sockets, faults, rights, request).await?;
    if let Ok(id) = HeaderValue::from_str(&ids::id()) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(answer)
}

async fn decide(
    sockets: &WebSockets,
    faults: &Faults,
    rights: &Rights,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    let path: Vec<_> = segments(request.uri().path()).collect();
    let [stage, _, id] = path.as_slice() else {
        return Ok(forbidden());
    };
    if stage != sockets.stage() {
        return Ok(forbidden());
    }
    // Policies do not distinguish connections, so the resource has `*` instead of the id.
    let what = format!(
        "{}/{stage}/{}/@connections/*",
        sockets.api_id(),
        request.method()
    );
    let resource = rights.arn("execute-api", &what);
    if rights
        .check(
            request.headers(),
            "execute-api:ManageConnections",
            &resource,
        )
        .is_err()
    {
        return Ok(forbidden());
    }
    // A DELETE may name its close code and reason, but only for the SockJS suite.
    let requested = sockets
        .takes_close_reasons()
        .then(|| request.uri().query().and_then(requested_close))
        .flatten();
    let connection = sockets.registry().find(id);
    match *request.method() {
        Method::POST => {
            let posted = post(faults, connection.as_deref(), request.into_body()).await?;
            if faults.strikes(Kind::LosePostReply) {
                return Err(Unanswered);
            }
            Ok(posted)
        }
        Method::GET => Ok(connection.map_or_else(gone, |connection| describe(&connection))),
        Method::DELETE => Ok(sockets
            .registry()
            .remove(id)
            .map_or_else(gone, |connection| {
                let usual = || Closing::new(1000, "Connection Closed Normally");
                connection.close(requested.unwrap_or_else(usual));
                server::empty(StatusCode::NO_CONTENT)
            })),
        _ => Ok(forbidden()),
    }
}

/// Answers 200 when the message is in the connection's ordered queue. As on AWS, this does not mean that it was
/// delivered.
async fn post(
    faults: &Faults,
    connection: Option<&Connection>,
    body: Incoming,
) -> Result<Answer, Unanswered> {
    if faults.strikes(Kind::HangPost) {
        tokio::time::sleep(HANG).await;
        return Err(Unanswered);
    }
    if faults.strikes(Kind::ThrottlePost) {
        return Ok(limit_exceeded());
    }
    let body = match listen::body(body, LARGEST_POST).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => {
            let message = r#"{"message":"Request Entity Too Large"}"#;
            return Ok(error_answer(
                StatusCode::PAYLOAD_TOO_LARGE,
                "PayloadTooLargeException",
                message,
            ));
        }
        Err(BodyError::Broken) => return Err(Unanswered),
    };
    let Ok(text) = Utf8Bytes::try_from(body) else {
        let message = r#"{"message":"The data is not UTF-8; API Gateway sends text frames only"}"#;
        return Ok(error_answer(
            StatusCode::BAD_REQUEST,
            "BadRequestException",
            message,
        ));
    };
    Ok(match connection.map(|connection| connection.post(text)) {
        Some(Ok(())) => server::empty(StatusCode::OK),
        Some(Err(PostError::Full)) => limit_exceeded(),
        Some(Err(PostError::Gone)) | None => gone(),
    })
}

/// Returns the close that a query requests, `code=3000&reason=…`.
fn requested_close(query: &str) -> Option<Closing> {
    let parameters = query::parse(query);
    let first = |name| parameters.get(name)?.first();
    Some(Closing::new(first("code")?.parse().ok()?, first("reason")?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    connected_at: String,
    identity: &'a Identity,
    last_active_at: String,
}

fn describe(connection: &Connection) -> Answer {
    let description = Description {
        connected_at: ids::iso(connection.peer.connected_at),
        identity: &connection.peer.identity,
        last_active_at: ids::iso(connection.last_active_ms()),
    };
    serde_json::to_vec(&description).map_or_else(
        |_| server::empty(StatusCode::INTERNAL_SERVER_ERROR),
        |body| server::json(StatusCode::OK, body),
    )
}

/// Returns the 410 without a body, because SDKs cannot parse the body of AWS's own 410 as JSON.
fn gone() -> Answer {
    error_answer(StatusCode::GONE, "GoneException", Bytes::new())
}

fn forbidden() -> Answer {
    error_answer(
        StatusCode::FORBIDDEN,
        "ForbiddenException",
        r#"{"message":"Forbidden"}"#,
    )
}

fn limit_exceeded() -> Answer {
    let message = r#"{"message":"Too many requests, or the client's buffer is full"}"#;
    error_answer(
        StatusCode::TOO_MANY_REQUESTS,
        "LimitExceededException",
        message,
    )
}

fn error_answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let body: Bytes = body.into();
    let is_empty = body.is_empty();
    let mut answer = server::json(status, body);
    answer
        .headers_mut()
        .insert(ERROR_TYPE, HeaderValue::from_static(kind));
    if is_empty {
        answer.headers_mut().remove(header::CONTENT_TYPE);
    }
    answer
}

fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    path.split('/')
        .skip(1)
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_paths_match_both_spellings() {
        assert!(is_management("/prod/@connections/R1kmxc2VNjMCFIA%3D"));
        assert!(is_management("/prod/%40connections/R1kmxc2VNjMCFIA="));
        assert!(!is_management("/prod"));
        assert!(!is_management("/@connections/x"));
        let id = segments("/prod/@connections/R1k-_c2VNjMCFIA%3D").nth(2);
        assert_eq!(id.unwrap(), "R1k-_c2VNjMCFIA=");
    }

    #[test]
    fn incomplete_close_query_is_ignored() {
        let close = requested_close("code=3000&reason=Go%20away%21");
        assert_eq!(close, Some(Closing::new(3000, "Go away!")));
        for query in ["", "code=3000", "reason=x", "code=x&reason=y"] {
            assert_eq!(requested_close(query), None, "{query}");
        }
    }
}
