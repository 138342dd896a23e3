//! Streamed responses: each piece that a function posts to the Runtime API is forwarded as it arrives.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::wire::error_json;
use crate::body::{self, Body, Writer};

const MODE: &str = "lambda-runtime-function-response-mode";
/// Trailers of a response that fails after it has begun (Lambda developer guide, building a custom runtime).
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// Receives the beginning of a streamed response, at most once.
pub(super) type Sink = mpsc::Sender<Streamed>;

/// A response that has begun.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// If this is `application/vnd.awslambda.http-integration-response`, the body begins with status and headers.
    pub(crate) content_type: Option<String>,
    /// The rest of the response. It is cut off if the function fails.
    pub(crate) body: Body,
}

/// How a streamed response ended.
#[derive(Debug)]
pub(super) enum End {
    /// The response is complete. The caller must still end the body for its reader.
    Whole(Last),
    /// The function reported a failure in the trailers.
    Failed(Bytes),
    /// The client disconnected, and the function must be notified.
    Left,
    /// The function's connection broke.
    Broken,
}

/// The end of a complete body, which has not been sent yet.
#[derive(Debug)]
pub(super) struct Last(Writer);

impl Last {
    pub(super) async fn send(self) {
        self.0.end().await;
    }
}

/// Returns true if the function streams its response.
pub(super) fn is_streaming(headers: &HeaderMap) -> bool {
    headers
        .get(MODE)
        .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming"))
}

/// Forwards the response to the receiver of `sink`. If `tells_leaving` is set, returns when the client disconnects.
/// Otherwise reads the rest and drops it, as Lambda does.
pub(super) async fn forward(request: Request<Incoming>, sink: Sink, tells_leaving: bool) -> End {
    let (parts, mut incoming) = request.into_parts();
    let (writer, body) = body::channel();
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let streamed = Streamed {
        content_type: content_type.and_then(|kind| kind.to_str().ok().map(str::to_owned)),
        body,
    };
    // This fails if the caller has given up. The body then has no reader, and the loop handles that.
    let _ = sink.send(streamed).await;
    drop(sink);
    loop {
        let frame = tokio::select! {
            frame = incoming.frame() => frame,
            () = writer.left(), if tells_leaving => return End::Left,
        };
        match frame {
            None => return End::Whole(Last(writer)),
            Some(Err(_)) => return End::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                // If the reader is gone, the select above returns `End::Left`, or the data is dropped.
                Ok(data) => drop(writer.send(data).await),
                Err(frame) => {
                    if let Some(error) = frame.trailers_ref().and_then(failure) {
                        return End::Failed(error);
                    }
                }
            },
        }
    }
}

/// Returns the error that the trailers report, if any.
fn failure(trailers: &HeaderMap) -> Option<Bytes> {
    let text = |name| trailers.get(name)?.to_str().ok();
    let kind = text(ERROR_TYPE)?;
    let body = text(ERROR_BODY).and_then(|body| STANDARD.decode(body).ok());
    Some(match body {
        Some(body) if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() => body.into(),
        Some(body) => error_json(kind, &String::from_utf8_lossy(&body)),
        None => error_json(kind, "the stream failed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_report_failure() {
        let mut trailers = HeaderMap::new();
        assert!(failure(&trailers).is_none());
        trailers.insert(ERROR_TYPE, "Fixture".parse().unwrap());
        trailers.insert(ERROR_BODY, STANDARD.encode("broke").parse().unwrap());
        let error: serde_json::Value =
            serde_json::from_slice(&failure(&trailers).unwrap()).unwrap();
        assert_eq!(
            (&error["errorType"], &error["errorMessage"]),
            (&"Fixture".into(), &"broke".into())
        );
        let reported = r#"{"errorType":"A","errorMessage":"b"}"#;
        trailers.insert(ERROR_BODY, STANDARD.encode(reported).parse().unwrap());
        assert_eq!(failure(&trailers).unwrap(), reported);
    }
}
