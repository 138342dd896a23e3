//! Streamed answers: what a function posts to the Runtime API goes on piece by piece as it comes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::pool::error_json;
use crate::body::{self, Body, Writer};

const MODE: &str = "lambda-runtime-function-response-mode";
/// Trailers of an answer that fails after it has begun (Lambda developer guide, building a custom runtime).
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// Where the beginning of a streamed answer is sent, at most once.
pub(super) type Sink = mpsc::Sender<Streamed>;

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// Its type; with `application/vnd.awslambda.http-integration-response` it begins with status and headers.
    pub(crate) content_type: Option<String>,
    /// What follows; cut off if the function fails.
    pub(crate) body: Body,
}

/// How a streamed answer ended.
#[derive(Debug)]
pub(super) enum End {
    /// All of it came; its reader still has to be told.
    Whole(Last),
    /// The function said in its trailers that it failed.
    Failed(Bytes),
    /// Its client left, and the function is to know.
    Left,
    /// The function's connection broke.
    Broken,
}

/// The end of a body that is whole.
#[derive(Debug)]
pub(super) struct Last(Writer);

impl Last {
    pub(super) async fn send(self) {
        self.0.end().await;
    }
}

/// Whether an answer is streamed.
pub(super) fn is_streaming(headers: &HeaderMap) -> bool {
    headers
        .get(MODE)
        .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming"))
}

/// Forwards the answer to whoever waits at `sink`. A client that leaves does not end it, unless that is told: then the
/// rest is read and dropped, as Lambda does.
pub(super) async fn forward(request: Request<Incoming>, sink: Sink, tells_leaving: bool) -> End {
    let (parts, mut incoming) = request.into_parts();
    let (writer, body) = body::channel();
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let streamed = Streamed {
        content_type: content_type.and_then(|kind| kind.to_str().ok().map(str::to_owned)),
        body,
    };
    // Who waited may have given up; then the body has no reader, which shows below.
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
                // A reader that left is noticed at the top of the loop, if at all.
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

/// What the trailers say went wrong.
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
    fn trailers_tell_of_a_failure() {
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
        let told = r#"{"errorType":"A","errorMessage":"b"}"#;
        trailers.insert(ERROR_BODY, STANDARD.encode(told).parse().unwrap());
        assert_eq!(failure(&trailers).unwrap(), told);
    }
}
