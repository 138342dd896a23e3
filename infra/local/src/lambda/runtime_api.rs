//! The Runtime API of one instance.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::instance::Link;
use super::streaming::{self, End, Sink};
use super::wire::error_json;
use crate::guard;
use crate::listen::{self, BodyError};
use crate::server::{self, Answer, Unanswered};

/// Lambda's limit for a synchronous response, 6 MB (Lambda quotas, 2026).
pub(super) const LARGEST_ANSWER: usize = 6 * 1024 * 1024;

/// Serves the Runtime API of one instance until dropped.
pub(super) async fn serve(listener: TcpListener, link: Arc<Link>, arn: String) {
    let arn: Arc<str> = arn.into();
    listen::serve(listener, move |request| {
        handle(Arc::clone(&link), Arc::clone(&arn), request)
    })
    .await;
}

async fn handle(
    link: Arc<Link>,
    arn: Arc<str>,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    if guard::is_from_a_page(request.headers()) {
        return Ok(refused(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "web pages may not use the Runtime API",
        ));
    }
    let path = request.uri().path().to_owned();
    let Some(rest) = path.strip_prefix("/2018-06-01/runtime/") else {
        return Ok(refused(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the Runtime API does not have this path",
        ));
    };
    let parts: Vec<_> = rest.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&link, &arn).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            if streaming::is_streaming(request.headers())
                && let Some(sink) = link.take_sink(id)
            {
                return respond_streaming(&link, id, sink, request).await;
            }
            let (answer, result) = match listen::body(request.into_body(), LARGEST_ANSWER).await {
                Ok(body) => (accepted(), Ok(body)),
                Err(BodyError::TooLarge) => {
                    let message = format!(
                        "Response payload size exceeded maximum allowed payload size ({LARGEST_ANSWER} bytes)."
                    );
                    let error = error_json("Function.ResponseSizeTooLarge", &message);
                    (
                        refused(
                            StatusCode::PAYLOAD_TOO_LARGE,
                            "RequestEntityTooLarge",
                            &message,
                        ),
                        Err(error),
                    )
                }
                // The process is ending. Its end also ends the invocation.
                Err(BodyError::Broken) => return Err(Unanswered),
            };
            Ok(finished(&link, id, result, answer))
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            let body = listen::body(request.into_body(), LARGEST_ANSWER)
                .await
                .map_err(|_| Unanswered)?;
            Ok(finished(&link, id, Err(body), accepted()))
        }
        (&Method::POST, ["init", "error"]) => {
            let body = listen::body(request.into_body(), LARGEST_ANSWER)
                .await
                .map_err(|_| Unanswered)?;
            link.fail_init(body);
            Ok(accepted())
        }
        _ => Ok(refused(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the Runtime API does not have this path",
        )),
    }
}

async fn respond_streaming(
    link: &Link,
    id: &str,
    sink: Sink,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    match streaming::forward(request, sink, link.tells_leaving).await {
        // End the invocation before the client sees the end of the body, because the client may send its next request
        // at once.
        End::Whole(last) => {
            let answer = finished(link, id, Ok(Bytes::new()), accepted());
            last.send().await;
            Ok(answer)
        }
        End::Failed(error) => Ok(finished(link, id, Err(error), accepted())),
        // Accept the response before it has been read, and close the connection. The function then fails to send the
        // rest.
        End::Left => {
            let mut answer = finished(link, id, Ok(Bytes::new()), accepted());
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            Ok(answer)
        }
        End::Broken => Err(Unanswered),
    }
}

async fn next(link: &Link, arn: &str) -> Result<Answer, Unanswered> {
    let (request_id, payload, deadline_ms) = link.next().await.ok_or(Unanswered)?;
    let mut answer = server::with_type(StatusCode::OK, "application/json", payload);
    let headers = [
        ("lambda-runtime-aws-request-id", request_id),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", arn.to_owned()),
        ("lambda-runtime-trace-id", trace_id()),
    ];
    for (name, value) in headers {
        // All values are valid in a header: function names in a template are limited to such characters.
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    Ok(answer)
}

fn finished(link: &Link, request_id: &str, result: Result<Bytes, Bytes>, answer: Answer) -> Answer {
    if link.finish(request_id, result) {
        answer
    } else {
        refused(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        )
    }
}

fn accepted() -> Answer {
    server::with_type(
        StatusCode::ACCEPTED,
        "application/json",
        r#"{"status":"OK"}"#,
    )
}

fn refused(status: StatusCode, error_type: &str, message: &str) -> Answer {
    server::with_type(status, "application/json", error_json(error_type, message))
}

/// Returns a new trace id in X-Ray's format, not sampled.
fn trace_id() -> String {
    let seconds = jiff::Timestamp::now().as_second();
    let id = rand::random::<u128>() >> 32;
    let parent = rand::random::<u64>();
    format!("Root=1-{seconds:08x}-{id:024x};Parent={parent:016x};Sampled=0")
}
