//! Function URLs. Each has its own port, as each has its own host on AWS.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::body::Body;
use crate::guard;
use crate::http_api::answer;
use crate::http_api::event::{self, Target};
use crate::lambda::{Invocation, Lambda, Streamed};
use crate::listen::{self, BodyError};
use crate::server::{self, Answer};
use crate::template::{InvokeMode, Template};

/// "Invocation payload: 6 MB each for request and response, synchronous", Lambda quotas page.
const LARGEST_EVENT: usize = 6 * 1024 * 1024;
/// The account of unsigned requests in events (Lambda developer guide, request payloads of function URLs).
const NOBODY: &str = "anonymous";
/// The content type of a streamed response that begins with its status and headers, as JSON.
const WITH_PRELUDE: &str = "application/vnd.awslambda.http-integration-response";
/// The bytes between that JSON and the body.
const DELIMITER: [u8; 8] = [0; 8];
/// The largest prelude, more than any status and headers need. It stops a function that never sends the delimiter.
const LONGEST_PRELUDE: usize = 1024 * 1024;

/// The URL of one function. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FunctionUrl {
    function: String,
    id: String,
    mode: InvokeMode,
    lambda: Lambda,
}

/// The listeners of all function URLs, before they are served.
#[derive(Debug)]
pub struct FunctionUrls {
    urls: Vec<Listening>,
}

#[derive(Debug)]
struct Listening {
    function: String,
    mode: InvokeMode,
    /// The URL that the template's intrinsic functions return, with a slash at the end.
    on_aws: String,
    here: String,
    listener: TcpListener,
}

impl FunctionUrls {
    /// Listens on a free port for each function that has a URL.
    ///
    /// # Errors
    /// Fails if no port is available.
    pub async fn listen(template: &Template) -> std::io::Result<Self> {
        let mut urls = Vec::new();
        for function in template.functions.values() {
            let Some(mode) = function.url else {
                continue;
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            urls.push(Listening {
                function: function.id.clone(),
                mode,
                on_aws: template.function_url(&function.id),
                here: format!("http://{}/", listener.local_addr()?),
                listener,
            });
        }
        Ok(Self { urls })
    }

    /// Returns the text replacements in the functions' variables: the URL on AWS and the local URL of each function.
    pub fn replacements(&self) -> impl Iterator<Item = (String, String)> {
        self.urls
            .iter()
            .map(|url| (url.on_aws.clone(), url.here.clone()))
    }

    /// Serves the URLs until the handles are aborted, and prints them.
    #[must_use]
    pub fn serve(self, lambda: &Lambda) -> Vec<AbortHandle> {
        self.urls
            .into_iter()
            .map(|url| {
                eprintln!("the function {} has the URL {}", url.function, url.here);
                let (listener, url) = (
                    url.listener,
                    FunctionUrl::new(url.function, url.mode, lambda),
                );
                server::serve(listener, move |request, source| {
                    let url = url.clone();
                    async move {
                        if guard::is_rebound(request.headers()) {
                            return Ok(message(StatusCode::FORBIDDEN, "Forbidden"));
                        }
                        Ok(url.answer(request, source).await)
                    }
                })
            })
            .collect()
    }
}

impl FunctionUrl {
    /// Creates the URL of `function` (its logical id) in `lambda`.
    #[must_use]
    pub fn new(function: String, mode: InvokeMode, lambda: &Lambda) -> Self {
        Self {
            id: function.to_lowercase(),
            function,
            mode,
            lambda: lambda.clone(),
        }
    }

    /// Answers a request of any path.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        let (parts, body) = request.into_parts();
        let body = match listen::body(body, LARGEST_EVENT).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return too_large(),
            Err(BodyError::Broken) => return message(StatusCode::BAD_REQUEST, "Bad Request"),
        };
        // "Function URLs use payload format version 2.0". One route takes every request, and the path is not decoded.
        let target = Target {
            account: NOBODY,
            api_id: &self.id,
            stage: "$default",
            route_key: "$default",
            path: parts.uri.path(),
            parameters: &BTreeMap::new(),
        };
        let event = event::encode(&target, &parts, &body, source);
        if event.len() > LARGEST_EVENT {
            return too_large();
        }
        match self.mode {
            InvokeMode::Buffered => buffered(
                self.lambda.invoke(&self.function, event, None).await,
                |answer| answer::decode(&answer),
            ),
            InvokeMode::Streaming => {
                match self.lambda.invoke_streaming(&self.function, event).await {
                    Ok(streamed) => stream(streamed).await.unwrap_or_else(unusable),
                    // The function did not stream its response. The whole response is then the body, whatever its
                    // format.
                    Err(outcome) => buffered(outcome, |answer| {
                        Ok(server::with_type(
                            StatusCode::OK,
                            "application/octet-stream",
                            answer,
                        ))
                    }),
                }
            }
        }
    }
}

fn buffered(outcome: Invocation, decode: impl FnOnce(Bytes) -> Result<Answer, String>) -> Answer {
    match outcome {
        Invocation::Answer(answer) => decode(answer).unwrap_or_else(unusable),
        Invocation::Throttled => message(StatusCode::TOO_MANY_REQUESTS, "Rate Exceeded."),
        Invocation::FunctionError(_)
        | Invocation::TimedOut
        | Invocation::Late
        | Invocation::NoSuchFunction => failed(),
    }
}

/// Builds the response from a streamed one. The body after the head is forwarded to the client as it arrives.
async fn stream(streamed: Streamed) -> Result<Answer, String> {
    let Streamed {
        content_type,
        mut body,
    } = streamed;
    if content_type.as_deref() != Some(WITH_PRELUDE) {
        let mut answer = Answer::new(body);
        let kind = content_type.and_then(|kind| HeaderValue::from_str(&kind).ok());
        let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(answer);
    }
    let (prelude, first) = prelude(&mut body).await?;
    let parts = answer::decode_head(&prelude)?;
    Ok(Answer::from_parts(parts, body.preceded_by(first)))
}

/// Reads up to the delimiter. Returns the bytes before it, and the bytes of the body that arrived with it.
async fn prelude(body: &mut Body) -> Result<(Bytes, Bytes), String> {
    let mut read = BytesMut::new();
    loop {
        // Search again from the start, because a delimiter can span two pieces.
        let found = read
            .windows(DELIMITER.len())
            .position(|window| window == DELIMITER);
        if let Some(end) = found {
            let prelude = read.split_to(end).freeze();
            let first = read.split_off(DELIMITER.len()).freeze();
            return Ok((prelude, first));
        }
        match body.next().await {
            Ok(Some(piece)) if read.len() + piece.len() <= LONGEST_PRELUDE => {
                read.extend_from_slice(&piece);
            }
            Ok(_) => return Err("the response has no delimiter after its head".to_owned()),
            Err(cut) => return Err(cut.to_string()),
        }
    }
}

fn unusable(problem: String) -> Answer {
    tracing::warn!(problem, "the function's response is invalid");
    failed()
}

fn failed() -> Answer {
    message(StatusCode::BAD_GATEWAY, "Internal Server Error")
}

fn too_large() -> Answer {
    message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
}

fn message(status: StatusCode, text: &str) -> Answer {
    server::json(status, format!(r#"{{"Message":"{text}"}}"#))
}
